//! A test that runs again in a child process, to be killed there.
//!
//! The test function asks [`role`] first: in the child it says what to do, and the child does it and reports by
//! [`say`]; in the parent it is `None`, and the parent [starts](Child::start) children of its own test's name.

use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};

const ROLE: &str = "LARDER_TEST_CHILD";

/// Marks the child's own lines among those that the test runner prints.
const MARK: &str = "@@ ";

/// What this process is to do, if it is a child.
pub fn role() -> Option<String> {
    std::env::var(ROLE).ok()
}

/// Tells the parent something. It is in the pipe when this returns, so killing the child afterwards does not unsay it.
pub fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    // On a line of its own: the test runner has begun one. A parent that is gone has no use for it.
    drop(write!(out, "\n{MARK}{line}\n").and_then(|()| out.flush()));
}

/// A child process; killed when dropped.
pub struct Child {
    process: std::process::Child,
    lines: BufReader<std::process::ChildStdout>,
}

impl Child {
    /// Starts this test binary anew, running only the test of that full name, in this role.
    pub fn start(test: &str, role: &str) -> Self {
        let binary = std::env::current_exe().expect("a running binary has a path");
        let mut process = Command::new(binary)
            .args([test, "--exact", "--nocapture", "--test-threads=1"])
            .env(ROLE, role)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the test binary starts");
        let lines = BufReader::new(process.stdout.take().expect("the output was piped"));
        Child { process, lines }
    }

    /// The next line that the child said; `None` when it has ended. A line that was cut short was not said.
    pub fn hear(&mut self) -> Option<String> {
        let mut line = String::new();
        loop {
            line.clear();
            let read = self.lines.read_line(&mut line).expect("the pipe reads");
            if read == 0 || !line.ends_with('\n') {
                return None;
            }
            if let Some(said) = line.trim_end().strip_prefix(MARK) {
                return Some(said.into());
            }
        }
    }

    /// Kills it without warning, and returns what it had still said.
    pub fn kill(mut self) -> Vec<String> {
        self.process.kill().expect("a child can be killed");
        self.process.wait().expect("a killed child ends");
        std::iter::from_fn(|| self.hear()).collect()
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        // Both fail only where it has ended already.
        drop(self.process.kill());
        drop(self.process.wait());
    }
}
