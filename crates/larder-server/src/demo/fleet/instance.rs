//! One server of the fleet: this very program, started as a user would, with `serve --redis`.

use std::net::SocketAddr;
use std::process::Stdio;
use std::time::Duration;

use serde::Deserialize;
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};
use tokio::time::timeout;

use crate::config::units::Size;

use super::super::embedded::MEMORY_BYTES;

/// How long a server may take until it says where it serves: it gives Redis a few seconds.
const START: Duration = Duration::from_secs(20);
/// How long a server may take to end in order. It drains for a second, and tells Redis that it leaves.
const STOP: Duration = Duration::from_secs(10);

/// The freshness index in Redis: a sixteenth of the usual, and still thousands of times what the demo's names need, because
/// somebody's Redis is to be borrowed and not filled.
const INDEX_BYTES: u64 = 1 << 20;
/// The time to live of entries. It outlives the demo, and is there so that what a demo leaves behind that is killed goes away.
const TTL: &str = "1h";

/// A running server. It is killed when this is dropped, and ends by itself if our process ends in any way: its standard
/// input is a pipe that we hold.
pub struct Instance {
    process: Child,
    told: Lines<BufReader<ChildStdout>>,
    name: String,
    addr: Option<SocketAddr>,
}

/// What a server says once it serves, as far as it is of interest.
#[derive(Deserialize)]
struct Told {
    serving: String,
}

impl Instance {
    /// Starts it; [`serving`](Self::serving) waits until it is there.
    pub fn start(redis: &str, prefix: &str, number: usize) -> Result<Self, String> {
        let program = std::env::current_exe().map_err(|error| format!("this program is not to be found: {error}"))?;
        let name = format!("demo-{number}");
        let mut command = Command::new(program);
        // What is set for servers of the user's own must not decide how the demo's are.
        let set = std::env::vars_os().map(|(name, _)| name).filter(|name| name.to_string_lossy().starts_with("LARDER_"));
        set.for_each(|name| {
            command.env_remove(name);
        });
        command.args(["serve", "--http", "127.0.0.1:0", "--json", "--until-stdin-ends"]);
        command.env("LARDER_LOG", "warn").env("LARDER_HTTP_DRAIN", "1s").env("LARDER_DEFAULT_NAMESPACE_TTL", TTL);
        command.env("LARDER_MEMORY", Size(MEMORY_BYTES).to_string()).env("LARDER_INDEX", Size(INDEX_BYTES).to_string());
        // Not as arguments: an address may hold a password, and whoever may list the processes would have it.
        command.env("LARDER_REDIS_URL", redis).env("LARDER_REDIS_PREFIX", prefix).env("LARDER_REDIS_INSTANCE", &name);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true);
        // A group of its own, so that ctrl-c reaches us alone, who then end everything in order.
        #[cfg(unix)]
        command.process_group(0);
        let mut process = command.spawn().map_err(|error| error.to_string())?;
        let stdout = process.stdout.take().expect("it is piped");
        Ok(Self { process, told: BufReader::new(stdout).lines(), name, addr: None })
    }

    /// Waits until it serves.
    pub async fn serving(&mut self) -> Result<(), String> {
        let name = &self.name;
        let line = timeout(START, self.told.next_line()).await.map_err(|_| format!("{name} does not serve after {START:?}"))?;
        let line = line.map_err(|error| format!("{name} cannot be heard: {error}"))?;
        let line = line.ok_or_else(|| format!("{name} ended; what it said stands above"))?;
        let told: Option<Told> = serde_json::from_str(&line).ok();
        let addr = told.and_then(|told| told.serving.strip_prefix("http://")?.parse().ok());
        self.addr = Some(addr.ok_or_else(|| format!("{name} says {line:?} instead of where it serves"))?);
        Ok(())
    }

    /// Where it serves.
    ///
    /// # Panics
    /// Before it does.
    pub fn addr(&self) -> SocketAddr {
        self.addr.expect("a fleet has only servers that serve")
    }

    /// Ends it in order, and kills it if it does not. It is told when this is called, and not first when it is awaited.
    pub fn stop(mut self) -> impl Future<Output = Result<(), String>> {
        // That is what it waits for.
        drop(self.process.stdin.take());
        async move {
            let Self { mut process, name, .. } = self;
            match timeout(STOP, process.wait()).await {
                Ok(Ok(status)) if status.success() => Ok(()),
                Ok(Ok(status)) => Err(format!("{name}: {status}")),
                Ok(Err(error)) => Err(format!("{name}: {error}")),
                Err(_) => {
                    let killed = process.kill().await;
                    Err(format!(
                        "{name} was still there after {STOP:?} and was killed{}",
                        killed.err().map(|error| format!(": {error}")).unwrap_or_default()
                    ))
                }
            }
        }
    }
}
