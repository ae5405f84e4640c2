//! Real readers of bodies, each in a process of its own.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use tollgate_tests::harness::tools;

use crate::view;

pub struct Reader {
    process: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Reader {
    /// Python's json.
    pub fn json() -> Self {
        let mut command = Command::new(tools::python().unwrap());
        command.arg(tools::workspace().join("tests/python/read_json.py")).arg(view::kinds().to_string());
        Self::start(command)
    }

    /// Starlette and Werkzeug.
    pub fn forms_in_python() -> Self {
        let mut command = Command::new(tools::form_readers().unwrap());
        command.arg(tools::workspace().join("tests/python/read_forms.py"));
        Self::start(command)
    }

    /// busboy.
    pub fn forms_in_node() -> Self {
        let mut command = Command::new(tools::node().unwrap());
        command.arg(tools::workspace().join("tests/node/read_forms.mjs"));
        command.env("NODE_PATH", tools::node_packages().unwrap());
        Self::start(command)
    }

    fn start(mut command: Command) -> Self {
        let mut process = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let input = process.stdin.take().unwrap();
        let output = BufReader::new(process.stdout.take().unwrap());
        Self { process, input, output }
    }

    /// Gives it these texts, and takes so many lines for them.
    pub fn read(&mut self, texts: &[&[u8]], lines: usize) -> Vec<String> {
        let mut batch = (texts.len() as u32).to_le_bytes().to_vec();
        for text in texts {
            batch.extend((text.len() as u32).to_le_bytes());
            batch.extend(*text);
        }
        // It reads the whole batch before it answers, so neither waits for the other.
        self.input.write_all(&batch).unwrap();
        self.input.flush().unwrap();
        (0..lines)
            .map(|_| {
                let mut line = String::new();
                self.output.read_line(&mut line).unwrap();
                line
            })
            .collect()
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
