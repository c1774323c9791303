//! The program as a user starts it, in a process and on a port of its own. The bench uses it too.

use std::net::{Ipv4Addr, SocketAddr};

use larder_testkit::port::Port;
use larder_testkit::process::Running;
use larder_testkit::program;
use tempfile::TempDir;

/// larder, as a process.
pub struct Larder {
    addr: SocketAddr,
    _process: Running,
    _port: Port,
    _folder: TempDir,
}

impl Larder {
    /// Starts it with these lines of configuration beside those that say where it listens; `resp` are those of its section `[resp]`.
    pub fn start(resp: &str, lines: &str) -> Self {
        let folder = tempfile::tempdir().expect("temporary files can be written");
        let port = Port::reserve().expect("there is a free port");
        let addr: SocketAddr = (Ipv4Addr::LOCALHOST, port.number()).into();
        let [config, log] = ["toml", "log"].map(|kind| folder.path().join(format!("larder.{kind}")));
        let text = format!("[http]\nlisten = \"127.0.0.1:0\"\n\n[resp]\nlisten = \"{addr}\"\n{resp}\n\n{lines}\n");
        std::fs::write(&config, text).expect("temporary files can be written");
        let process = program::serve(env!("CARGO_BIN_EXE_larder"), &config, (&log, "warn"), addr);
        Larder { addr, _process: process, _port: port, _folder: folder }
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }
}
