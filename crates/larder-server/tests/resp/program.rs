//! The program as a user starts it, in a process and on a port of its own. The bench uses it too.

use std::fs::File;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::process::Command;
use std::time::Duration;

use larder_testkit::port::Port;
use larder_testkit::process::Running;
use larder_testkit::wait;
use tempfile::TempDir;

/// How long it may take until it listens. It takes milliseconds.
const START_MAX: Duration = Duration::from_secs(30);

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
        let said = File::create(&log).expect("temporary files can be written");
        let mut command = Command::new(env!("CARGO_BIN_EXE_larder"));
        // What is set where the tests run must not decide what they find.
        let set = std::env::vars_os().map(|(name, _)| name).filter(|name| name.to_string_lossy().starts_with("LARDER_"));
        set.for_each(|name| {
            command.env_remove(name);
        });
        command.args(["serve", "--config"]).arg(&config).env("LARDER_LOG", "warn");
        let mut process = Running::start(&command, &said).expect("the program was built for this test");
        let mut ended = false;
        let listens = wait::until(START_MAX, || {
            ended = process.has_ended();
            ended || TcpStream::connect(addr).is_ok()
        });
        let told = || std::fs::read_to_string(&log).unwrap_or_default();
        assert!(listens && !ended, "larder does not listen on {addr}; it said:\n{}", told());
        Larder { addr, _process: process, _port: port, _folder: folder }
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }
}
