//! What connections cost that do nothing: memory of the server for each, and time of those who work.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Instant;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::Pair;

/// As many as are said to be a problem.
const CONNECTIONS: usize = 10_000;

/// Pings that are timed.
const PINGS: usize = 20_000;

pub fn run() {
    if !make_room(CONNECTIONS as u64 + 500) {
        eprintln!("SKIPPED: the system does not let a process open {CONNECTIONS} files");
        return;
    }
    let Some(pair) = Pair::start("connections_max = 11000", false) else { return };
    println!("\nidle: {CONNECTIONS} connections that have pinged once");
    println!("{:<10}{:>18}{:>18}{:>26}", "", "bytes for each", "ping before, us", "ping beside them, us");
    for (name, addr) in pair.names.iter().zip(pair.addrs) {
        let mut working = connect(addr);
        let alone = ping_us(&mut working);
        let before = resident(&mut working);
        let mut idle: Vec<TcpStream> = (0..CONNECTIONS).map(|_| connect(addr)).collect();
        idle.iter_mut().for_each(ping);
        let after = resident(&mut working);
        let beside = ping_us(&mut working);
        let each = match (before, after) {
            (Some(before), Some(after)) => (after.saturating_sub(before) / CONNECTIONS).to_string(),
            _ => "unknown".to_owned(),
        };
        println!("{name:<10}{each:>18}{alone:>18.1}{beside:>26.1}");
    }
}

fn make_room(files: u64) -> bool {
    let now = getrlimit(Resource::Nofile);
    let enough = |limit: Option<u64>| limit.is_none_or(|limit| limit >= files);
    enough(now.current) || enough(now.maximum) && setrlimit(Resource::Nofile, Rlimit { current: now.maximum, ..now }).is_ok()
}

fn connect(addr: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(addr).expect("it listens");
    stream.set_nodelay(true).expect("a socket");
    stream
}

fn ping(stream: &mut TcpStream) {
    let mut pong = [0; 7];
    stream.write_all(b"*1\r\n$4\r\nPING\r\n").expect("it takes commands");
    stream.read_exact(&mut pong).expect("it answers");
    assert_eq!(&pong, b"+PONG\r\n");
}

fn ping_us(stream: &mut TcpStream) -> f64 {
    let began = Instant::now();
    (0..PINGS).for_each(|_| ping(stream));
    began.elapsed().as_secs_f64() * 1e6 / PINGS as f64
}

/// What the process has in memory, by the number that it tells of itself.
fn resident(stream: &mut TcpStream) -> Option<usize> {
    stream.write_all(b"*2\r\n$4\r\nINFO\r\n$6\r\nserver\r\n").expect("it takes commands");
    let mut told = Vec::new();
    // The length stands before it.
    let mut byte = [0];
    while !told.ends_with(b"\r\n") {
        stream.read_exact(&mut byte).expect("it answers");
        told.extend(byte);
    }
    let length: usize = std::str::from_utf8(&told).ok()?.trim().strip_prefix('$')?.parse().ok()?;
    let mut text = vec![0; length + 2];
    stream.read_exact(&mut text).expect("it answers");
    let text = String::from_utf8_lossy(&text).into_owned();
    let id = text.lines().find_map(|line| line.strip_prefix("process_id:"))?.trim().to_owned();
    let status = std::fs::read_to_string(format!("/proc/{id}/status")).ok()?;
    let kilobytes = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    Some(kilobytes.trim().trim_end_matches("kB").trim().parse::<usize>().ok()? << 10)
}
