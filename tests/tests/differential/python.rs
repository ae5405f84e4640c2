//! Python's json, in a process of its own.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use tollgate_tests::harness::tools;

use crate::view::{self, View};

pub struct Python {
    process: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Python {
    pub fn start() -> Self {
        let mut process = Command::new(tools::python().unwrap())
            .arg(tools::workspace().join("tests/python/read_json.py"))
            .arg(view::kinds().to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let input = process.stdin.take().unwrap();
        let output = BufReader::new(process.stdout.take().unwrap());
        Self { process, input, output }
    }

    /// What it sees in each of these; `None` where it refuses.
    pub fn read<'b>(&mut self, bodies: impl ExactSizeIterator<Item = &'b [u8]>) -> Vec<Option<View>> {
        let count = bodies.len();
        let mut batch = (count as u32).to_le_bytes().to_vec();
        for body in bodies {
            batch.extend((body.len() as u32).to_le_bytes());
            batch.extend(body);
        }
        // It reads the whole batch before it answers, so neither waits for the other.
        self.input.write_all(&batch).unwrap();
        self.input.flush().unwrap();
        let mut line = String::new();
        (0..count)
            .map(|_| {
                line.clear();
                self.output.read_line(&mut line).unwrap();
                View::of_line(&line)
            })
            .collect()
    }
}

impl Drop for Python {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
