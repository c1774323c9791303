//! Clients that mean no good, or are broken: they announce what they do not send, begin and do not go on, send and do not read, or are
//! too many. What is held against them is memory, and that others are answered meanwhile.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use larder_testkit::wait;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::program::Larder;
use super::wire::{Client, encoded};

/// How long anything here may take, on a machine that is busy with all other tests.
const LONG: Duration = Duration::from_secs(60);

/// Connections of those who are many. The machine that is tested on has to have room for twice that, since both ends are here.
const MANY: usize = 2_000;

/// What one of them may cost: its state on both sides of the kernel's border is counted where it is.
const IDLE_BYTES_MAX: usize = 24 << 10;

/// Commands sent in one go.
const PIPELINED: usize = 100_000;

/// What a server may grow by while it is abused, above what it has with its first clients.
const GROWTH_MAX: usize = 64 << 20;

/// A server, and a client of good faith.
struct Site {
    larder: Larder,
    good: Client,
}

impl Site {
    /// With these lines of configuration in `[resp]`.
    fn start(resp: &str) -> Self {
        let larder = Larder::start(resp, "");
        let good = Client::connect(larder.addr()).expect("it listens");
        Site { larder, good }
    }

    fn addr(&self) -> SocketAddr {
        self.larder.addr()
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.addr()).expect("it listens");
        stream.set_nodelay(true).expect("a socket");
        stream
    }

    /// Whoever is of good faith is answered.
    fn is_well(&mut self) {
        assert_eq!(self.good.ask(&["PING"]).expect("it answers").raw, b"+PONG\r\n");
    }

    /// What the process has in memory; nothing where the system does not tell.
    fn resident(&mut self) -> Option<usize> {
        let told = self.good.ask(&["INFO", "server"]).expect("it answers").raw;
        let told = String::from_utf8_lossy(&told).into_owned();
        let id = told.lines().find_map(|line| line.strip_prefix("process_id:"))?.trim().to_owned();
        let status = std::fs::read_to_string(format!("/proc/{id}/status")).ok()?;
        let kilobytes = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
        Some(kilobytes.trim().trim_end_matches("kB").trim().parse::<usize>().ok()? << 10)
    }

    /// It has not grown by more than this since.
    fn has_not_grown(&mut self, since: Option<usize>, most: usize) {
        let now = self.resident();
        if let (Some(since), Some(now)) = (since, now) {
            println!("grown by {} KiB", now.saturating_sub(since) >> 10);
            assert!(now.saturating_sub(since) <= most, "it has grown from {since} to {now} bytes");
        }
    }
}

/// Whether the server has closed it. What comes before that is read.
fn is_closed(stream: &mut TcpStream) -> bool {
    stream.set_nonblocking(true).expect("a socket");
    let mut bytes = [0; 4096];
    loop {
        match stream.read(&mut bytes) {
            Ok(0) => return true,
            Ok(_) => {}
            Err(error) => return error.kind() != ErrorKind::WouldBlock,
        }
    }
}

/// Room for so many open files, if the system lets us.
fn make_room(files: u64) -> bool {
    let now = getrlimit(Resource::Nofile);
    let enough = |limit: Option<u64>| limit.is_none_or(|limit| limit >= files);
    enough(now.current) || enough(now.maximum) && setrlimit(Resource::Nofile, Rlimit { current: now.maximum, ..now }).is_ok()
}

#[test]
fn what_is_only_announced_takes_no_memory() {
    let mut site = Site::start("");
    site.is_well();
    let before = site.resident();
    let announced: [&[u8]; 5] = [
        b"*1048576\r\n",
        b"*1048576\r\n$3\r\nSET\r\n$1\r\nk\r\n$67108864\r\n",
        b"*2\r\n$67108864\r\nx",
        b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$60000000\r\nabc",
        b"*1048576\r\n$0\r\n\r\n$0\r\n\r\n",
    ];
    let mut streams: Vec<TcpStream> = (0..200).map(|_| site.connect()).collect();
    for (stream, bytes) in streams.iter_mut().zip(announced.iter().cycle()) {
        stream.write_all(bytes).expect("it takes bytes");
    }
    site.is_well();
    site.has_not_grown(before, 16 << 20);
    assert!(streams.iter_mut().all(|stream| !is_closed(stream)), "half a request is no fault yet");
}

#[test]
fn arrays_in_arrays_are_refused_at_the_first() {
    let mut site = Site::start("");
    let mut client = Client::connect(site.addr()).expect("it listens");
    let nested = b"*1\r\n".repeat(200_000);
    // It need not read all of that to know.
    if let Err(error) = client.send(&nested) {
        assert!(matches!(error.kind(), ErrorKind::BrokenPipe | ErrorKind::ConnectionReset), "{error}");
    }
    let said = client.until_closed().expect("it ends the connection");
    assert!(said.is_empty() || said == b"-ERR Protocol error: expected '$', got '*'\r\n", "{}", said.escape_ascii());
    site.is_well();
}

#[test]
fn who_begins_and_does_not_go_on_is_cut_off_and_who_works_is_not() {
    let mut site = Site::start("idle_timeout = \"1s\"\nhalf_timeout = \"1s\"");
    let begun: [&[u8]; 6] = [b"", b"*", b"*2\r\n$3\r\nGET\r\n", b"*2\r\n$3\r\nGET\r\n$100\r\nab", b"PING", b"*1\r\n$4\r\nPING\r\n*1\r\n$"];
    let mut streams: Vec<TcpStream> = (0..60).map(|_| site.connect()).collect();
    for (stream, bytes) in streams.iter_mut().zip(begun.iter().cycle()) {
        stream.write_all(bytes).expect("it takes bytes");
    }
    // One that is never idle, and never done: a byte at a time.
    let mut dribbling = site.connect();
    dribbling.write_all(b"*2\r\n$4\r\nECHO\r\n$100000\r\n").expect("it takes bytes");
    let began = Instant::now();
    let mut is_cut = false;
    let all_cut = wait::until(LONG, || {
        site.is_well();
        is_cut |= dribbling.write_all(b"x").is_err() || is_closed(&mut dribbling);
        dribbling.set_nonblocking(false).expect("a socket");
        is_cut && streams.iter_mut().all(is_closed)
    });
    assert!(
        all_cut,
        "{} of {} are still there, the one that dribbles {is_cut}",
        streams.iter_mut().map(is_closed).filter(|closed| !closed).count(),
        streams.len()
    );
    assert!(began.elapsed() >= Duration::from_millis(900), "nobody was given a second");
}

#[test]
fn two_thousand_idle_connections_are_cheap_and_in_nobody_s_way() {
    if !make_room(MANY as u64 + 500) {
        drop(std::io::stderr().write_all(b"SKIPPED: the system does not let us open 2,500 files\n"));
        return;
    }
    let mut site = Site::start("connections_max = 3000");
    site.is_well();
    let before = site.resident();
    let mut idle: Vec<Client> = (0..MANY).map(|_| Client::connect(site.addr()).expect("it listens")).collect();
    for client in &mut idle {
        assert_eq!(client.ask(&["PING"]).expect("it answers").raw, b"+PONG\r\n");
    }
    site.is_well();
    site.has_not_grown(before, MANY * IDLE_BYTES_MAX);
    let began = Instant::now();
    for _ in 0..1_000 {
        site.is_well();
    }
    println!("a thousand pings beside {MANY} idle connections took {:?}", began.elapsed());
    for client in &mut idle {
        assert_eq!(client.ask(&["ECHO", "still"]).expect("it answers").raw, b"$5\r\nstill\r\n");
    }
}

#[test]
fn one_connection_too_many_is_told_so() {
    let mut site = Site::start("connections_max = 10");
    site.is_well();
    let addr = site.addr();
    let taken = || {
        let mut client = Client::connect(addr).ok()?;
        let reply = client.ask(&["PING"]).ok()?;
        (reply.raw == b"+PONG\r\n").then_some(client)
    };
    // Whoever looked whether the server listens may still be counted for a moment, in the place of one of these.
    let held = (0..9).map(|_| wait::until_some(LONG, taken).expect("there is room for it"));
    let mut held: Vec<Client> = held.collect();
    let mut more = Client::connect(addr).expect("it listens");
    assert_eq!(more.until_closed().expect("it is turned away"), b"-ERR max number of clients reached\r\n");
    drop(held.pop());
    assert!(wait::until_some(LONG, taken).is_some(), "there is room for another once one has gone");
    site.is_well();
}

/// Sends all of this so often from another thread; how much has been taken is told.
fn sent_from_aside(
    mut stream: TcpStream,
    bytes: Vec<u8>,
    times: usize,
) -> (Arc<AtomicUsize>, std::thread::JoinHandle<std::io::Result<()>>) {
    let taken = Arc::new(AtomicUsize::new(0));
    let told = taken.clone();
    let sending = std::thread::spawn(move || {
        for _ in 0..times {
            for piece in bytes.chunks(16 << 10) {
                stream.write_all(piece)?;
                told.fetch_add(piece.len(), Ordering::Release);
            }
        }
        Ok(())
    });
    (taken, sending)
}

/// Waits until nothing more is taken.
fn until_stalled(taken: &AtomicUsize, all: usize) {
    const STALLED: Duration = Duration::from_millis(300);
    let (mut last, mut since) = (0, Instant::now());
    let stalled = wait::until(LONG, || {
        let now = taken.load(Ordering::Acquire);
        if now != last {
            (last, since) = (now, Instant::now());
        }
        now == all || (now > 0 && since.elapsed() > STALLED)
    });
    assert!(stalled, "it took bytes for ever");
}

#[test]
fn a_hundred_thousand_commands_at_once_are_answered_in_order() {
    let mut site = Site::start("");
    let value = "v".repeat(1_000);
    site.good.ask(&["SET", "k", &value]).expect("it answers");
    let before = site.resident();
    let mut client = Client::connect(site.addr()).expect("it listens");
    // A hundred megabytes of replies, for nobody who reads them; and half as many of requests, which are more than the system holds.
    let command = |i: usize| if i.is_multiple_of(2) { encoded(&["ECHO", &format!("{i:0>1000}")]) } else { encoded(&["GET", "k"]) };
    let bytes: Vec<u8> = (0..PIPELINED).flat_map(command).collect();
    let all = bytes.len();
    let (taken, sending) = sent_from_aside(client.stream().try_clone().expect("a socket"), bytes, 1);
    until_stalled(&taken, all);
    assert!(taken.load(Ordering::Acquire) < all, "it should not read on from a client that does not read");
    site.is_well();
    site.has_not_grown(before, GROWTH_MAX);
    let get = format!("$1000\r\n{value}\r\n").into_bytes();
    for i in 0..PIPELINED {
        let reply = client.reply().unwrap_or_else(|error| panic!("reply {i}: {error}")).raw;
        let expected = if i.is_multiple_of(2) { format!("$1000\r\n{i:0>1000}\r\n").into_bytes() } else { get.clone() };
        assert!(reply == expected, "reply {i} is {}", reply.escape_ascii());
    }
    sending.join().expect("no panic").expect("all was sent");
    site.has_not_grown(before, GROWTH_MAX);
}

#[test]
fn who_does_not_read_is_cut_off_in_time() {
    let mut site = Site::start("stuck_timeout = \"1s\"");
    let before = site.resident();
    let stream = site.connect();
    let (_, sending) = sent_from_aside(stream.try_clone().expect("a socket"), encoded(&["ECHO", &"v".repeat(100_000)]), 20_000);
    let ended = wait::until(LONG, || {
        site.is_well();
        sending.is_finished()
    });
    assert!(ended, "it is still waited for");
    let error = sending.join().expect("no panic").expect_err("two gigabytes were taken by nobody");
    assert!(matches!(error.kind(), ErrorKind::BrokenPipe | ErrorKind::ConnectionReset), "{error}");
    site.has_not_grown(before, GROWTH_MAX);
    drop(stream);
}

#[test]
fn who_listens_and_does_not_read_is_cut_off_before_it_costs_much() {
    let mut site = Site::start("");
    let mut subscriber = Client::connect(site.addr()).expect("it listens");
    subscriber.ask(&["SUBSCRIBE", "flood"]).expect("it answers");
    let before = site.resident();
    let message = "m".repeat(16 << 10);
    let batch = encoded(&["PUBLISH", "flood", &message]).repeat(64);
    let began = Instant::now();
    let mut heard = 1;
    while heard > 0 && began.elapsed() < LONG {
        site.good.send(&batch).expect("it takes commands");
        for _ in 0..64 {
            heard = site.good.reply().expect("it answers").value.integer().expect("a count");
        }
    }
    assert_eq!(heard, 0, "it is still listened for");
    site.has_not_grown(before, GROWTH_MAX);
    site.is_well();
}
