//! A Redis that belongs to the demo: on a free port, in a folder of its own, with nothing kept, ended with the demo.

use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::task::JoinHandle;
use tokio::time::timeout;

/// Programs that will do.
const PROGRAMS: [&str; 2] = ["redis-server", "valkey-server"];

/// Ends the server when standard input ends: when we close it, and also when our process is killed and cannot.
const KEEPER: &str = "\"$@\" </dev/null & server=$!; read -r _; kill \"$server\" 2>/dev/null; wait \"$server\"";

/// What it says when it can be used.
const READY: &str = "Ready to accept connections";

/// How long it may take until then, and to end.
const PATIENCE: Duration = Duration::from_secs(10);
/// Another port is tried so often, as somebody may take one before Redis does.
const ATTEMPTS: usize = 5;

/// A running Redis. It is ended when this is dropped, and also if our process ends in any other way.
pub struct PrivateRedis {
    keeper: Child,
    port: u16,
    /// Reads what it has to say, lest it waits for a reader. Ends with it.
    listening: JoinHandle<()>,
}

impl PrivateRedis {
    /// Starts it.
    pub async fn start(folder: &Path) -> Result<Self, String> {
        let program = PROGRAMS.into_iter().find_map(in_path);
        let program =
            program.ok_or("neither redis-server nor valkey-server is in PATH; install one, or name a running one with --redis URL")?;
        let mut last = String::new();
        for _ in 0..ATTEMPTS {
            match Self::start_once(&program, folder).await {
                Ok(redis) => return Ok(redis),
                Err(what) => last = what,
            }
        }
        Err(last)
    }

    async fn start_once(program: &Path, folder: &Path) -> Result<Self, String> {
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|listener| listener.local_addr());
        let port = port.map_err(|error| format!("there is no free port: {error}"))?.port();
        let mut command = Command::new("sh");
        command.args(["-c", KEEPER, "sh"]).arg(program);
        command.args(["--bind", "127.0.0.1", "--port", &port.to_string(), "--save", "", "--appendonly", "no"]);
        command.arg("--dir").arg(folder);
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        #[cfg(unix)]
        command.process_group(0);
        let mut keeper = command.spawn().map_err(|error| format!("sh cannot be run: {error}"))?;
        let mut lines = BufReader::new(keeper.stdout.take().expect("it is piped")).lines();
        let mut said = String::new();
        let ready = async {
            while let Ok(Some(line)) = lines.next_line().await {
                if line.contains(READY) {
                    return true;
                }
                said = line;
            }
            false
        };
        if !timeout(PATIENCE, ready).await.unwrap_or(false) {
            return Err(format!("{} on port {port} is not ready; the last that it said: {said}", program.display()));
        }
        let listening = tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
        Ok(Self { keeper, port, listening })
    }

    /// Where it is.
    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// Ends it, and returns when it is gone.
    pub async fn stop(mut self) {
        drop(self.keeper.stdin.take());
        if timeout(PATIENCE, self.keeper.wait()).await.is_err() {
            tracing::warn!("the demo's Redis takes long to end; it is left to its keeper");
        }
        self.listening.abort();
    }
}

fn in_path(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|folder| folder.join(program)).find(|file| file.is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn it_is_gone_when_it_is_stopped() {
        if PROGRAMS.into_iter().find_map(in_path).is_none() {
            eprintln!("SKIPPED: no redis-server in PATH");
            return;
        }
        let folder = tempfile::tempdir().expect("temporary files can be written");
        let redis = PrivateRedis::start(folder.path()).await.expect("it is in PATH");
        let port = redis.port;
        tokio::net::TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.expect("it listens");
        redis.stop().await;
        assert!(tokio::net::TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.is_err(), "it is gone");
    }
}
