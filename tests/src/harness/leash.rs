//! How does a process that we started end when we do, whatever ends us?
//!
//! `Drop` does not run in a process that is killed, and the kernel's parent-death signal needs `unsafe`. So every child
//! has a second process beside it, a shell that holds one end of a pipe to us: the kernel closes our end when we are
//! gone, and the shell then kills the child and everything the child has started.

use std::io::{self, Write};
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};

/// First line: the process group to watch. A second line: it has ended by itself. End of input instead: kill it.
const WATCH: &str = r#"read -r group; read -r ended || kill -9 "-$group" 2>/dev/null; exit 0"#;

/// A child process that is killed, with all its own children, when this is dropped or when this process dies.
#[derive(Debug)]
pub struct Leashed {
    child: Child,
    watch: Child,
    /// `None` once there is nothing left to kill.
    leash: Option<ChildStdin>,
}

impl Leashed {
    /// Starts `command` in a process group of its own: a Ctrl-C in the terminal reaches only us, and we end it in order.
    ///
    /// # Errors
    /// What the operating system said of starting it.
    pub fn spawn(command: &mut Command) -> io::Result<Self> {
        let mut watch = Command::new("sh")
            .args(["-c", WATCH])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()?;
        let leash = watch.stdin.take();
        match command.process_group(0).spawn() {
            Ok(child) => {
                let mut leashed = Self { child, watch, leash };
                let id = leashed.id();
                if let Some(leash) = &mut leashed.leash {
                    writeln!(leash, "{id}")?;
                }
                Ok(leashed)
            }
            Err(error) => {
                drop(leash);
                watch.wait()?;
                Err(error)
            }
        }
    }

    /// The process id of the child.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// How the child ended, or `None` while it runs.
    ///
    /// # Errors
    /// What the operating system said of asking.
    pub fn ended(&mut self) -> io::Result<Option<ExitStatus>> {
        let status = self.child.try_wait()?;
        if status.is_some() {
            self.release();
        }
        Ok(status)
    }

    /// Waits until the child has ended.
    ///
    /// # Errors
    /// What the operating system said of waiting.
    pub fn wait(mut self) -> io::Result<ExitStatus> {
        let status = self.child.wait()?;
        self.release();
        Ok(status)
    }

    /// The child's id may now belong to another process: nothing must be killed by it any more.
    fn release(&mut self) {
        if let Some(mut leash) = self.leash.take() {
            let _ = leash.write_all(b"ended\n");
        }
    }
}

impl Drop for Leashed {
    fn drop(&mut self) {
        // Letting go of the leash kills. The child is reaped only after that, so its id is still its own.
        drop(self.leash.take());
        let _ = self.watch.wait();
        // In case somebody has killed the watch.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
