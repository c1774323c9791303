//! The process that is killed: a cache in a folder that follows a source, and says now and then what it has done.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::Duration;

use larder::Mutation;

use crate::broker::{Kind, follow};
use crate::support::builder;

const DATA: &str = "LARDER_SOURCES_DATA";
const URL: &str = "LARDER_SOURCES_URL";
const KIND: &str = "LARDER_SOURCES_KIND";
const FORGETS: &str = "LARDER_SOURCES_FORGETS";

/// What its lines begin with, before the events acknowledged, those that had taken effect before, and the gaps.
const SAYS: &str = "so far ";

/// Not a test of its own: what the proof starts.
#[test]
fn a_child() {
    let (Ok(data), Ok(url)) = (std::env::var(DATA), std::env::var(URL)) else { return };
    let kind = if std::env::var(KIND).as_deref() == Ok("Redis") { Kind::Redis } else { Kind::Postgres };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime starts");
    runtime.block_on(live(Path::new(&data), kind, &url));
}

async fn live(data: &Path, kind: Kind, url: &str) {
    let builder = builder().data(data);
    let builder = if std::env::var_os(FORGETS).is_some() { builder.mutation(Mutation::EventsForgotten) } else { builder };
    let larder = builder.build().await.expect("the folder opens");
    let following = follow(&larder, kind, url);
    let mut now_and_then = tokio::time::interval(Duration::from_millis(20));
    loop {
        now_and_then.tick().await;
        let stats = following.stats();
        let line = format!("\n{SAYS}{} {} {}\n", stats.acknowledged, stats.duplicates, stats.gaps);
        let mut out = std::io::stdout().lock();
        out.write_all(line.as_bytes()).and_then(|()| out.flush()).expect("the parent listens");
    }
}

/// What children have said, at least.
#[derive(Clone, Copy, Debug, Default)]
pub struct Said {
    pub acknowledged: u64,
    pub duplicates: u64,
    pub gaps: u64,
}

/// A running child, killed with this.
pub struct Living {
    child: Child,
    listening: Option<std::thread::JoinHandle<Said>>,
}

impl Living {
    pub fn start(data: &Path, kind: Kind, url: &str, forgets: bool) -> Self {
        let mut command = Command::new(std::env::current_exe().expect("this test is a program"));
        command.args(["--exact", "child::a_child", "--nocapture", "--test-threads=1"]);
        command.env(DATA, data).env(URL, url).env(KIND, format!("{kind:?}"));
        if forgets {
            command.env(FORGETS, "1");
        }
        let mut child = command.stdout(Stdio::piped()).spawn().expect("this test can run itself");
        let out = child.stdout.take().expect("it is a pipe");
        Living { child, listening: Some(std::thread::spawn(move || listen(out))) }
    }

    /// Kills it, and returns what it had said last.
    pub fn kill(&mut self) -> Said {
        // Both fail only where it has ended already, and then it has said why.
        drop(self.child.kill());
        drop(self.child.wait());
        self.listening.take().map(|listening| listening.join().expect("it only reads")).unwrap_or_default()
    }

    pub fn has_ended(&mut self) -> bool {
        !matches!(self.child.try_wait(), Ok(None))
    }
}

impl Drop for Living {
    fn drop(&mut self) {
        self.kill();
    }
}

fn listen(out: ChildStdout) -> Said {
    let mut said = Said::default();
    for line in BufReader::new(out).lines() {
        let Ok(line) = line else { break };
        let Some(numbers) = line.strip_prefix(SAYS) else { continue };
        let mut numbers = numbers.split(' ').map(|number| number.parse().unwrap_or_default());
        let mut next = || numbers.next().unwrap_or_default();
        said = Said { acknowledged: next(), duplicates: next(), gaps: next() };
    }
    said
}
