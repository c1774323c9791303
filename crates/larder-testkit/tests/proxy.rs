//! The proxy does to a connection what it says, and nothing before or after.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use larder_testkit::proxy::{Counters, Proxy};
use larder_testkit::wait;

const SOON: Duration = Duration::from_secs(10);

/// Long enough for what is not held back to arrive.
const A_WHILE: Duration = Duration::from_millis(60);

/// A server that answers each line with the same line, and remembers them. Its threads end with their connections.
struct Echo {
    address: SocketAddr,
    heard: Arc<Mutex<Vec<String>>>,
    ended: Arc<AtomicU64>,
}

impl Echo {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        let (heard, ended) = (Arc::default(), Arc::default());
        let echo = Echo { address, heard: Arc::clone(&heard), ended: Arc::clone(&ended) };
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (heard, ended) = (Arc::clone(&heard), Arc::clone(&ended));
                std::thread::spawn(move || {
                    drop(serve(stream, &heard));
                    ended.fetch_add(1, Ordering::SeqCst);
                });
            }
        });
        echo
    }

    fn heard(&self) -> Vec<String> {
        self.heard.lock().expect("no test panics under it").clone()
    }
}

fn serve(mut stream: TcpStream, heard: &Mutex<Vec<String>>) -> io::Result<()> {
    let mut reader = io::BufReader::new(stream.try_clone()?);
    let mut line = String::new();
    while io::BufRead::read_line(&mut reader, &mut line)? > 0 {
        heard.lock().expect("no test panics under it").push(line.trim_end().to_owned());
        stream.write_all(line.as_bytes())?;
        line.clear();
    }
    Ok(())
}

/// A client that waits so long for an answer.
fn connect(proxy: &Proxy, limit: Duration) -> TcpStream {
    let stream = TcpStream::connect(proxy.address()).expect("the proxy accepts");
    stream.set_read_timeout(Some(limit)).expect("a limit");
    stream
}

/// Sends a line and waits for the answer.
fn ask(mut stream: &TcpStream, line: &str) -> io::Result<String> {
    stream.write_all(format!("{line}\n").as_bytes())?;
    hear(stream)
}

fn hear(mut stream: &TcpStream) -> io::Result<String> {
    let mut bytes = Vec::new();
    let mut byte = [0];
    loop {
        match stream.read(&mut byte)? {
            0 => return Err(ErrorKind::UnexpectedEof.into()),
            _ if byte[0] == b'\n' => return Ok(String::from_utf8(bytes).expect("text")),
            _ => bytes.push(byte[0]),
        }
    }
}

fn is_timeout(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut)
}

fn fixtures() -> (Echo, Proxy) {
    let echo = Echo::start();
    let proxy = Proxy::start(echo.address).expect("a proxy");
    (echo, proxy)
}

#[test]
fn what_is_not_disturbed_passes_and_is_counted() {
    let (_echo, proxy) = fixtures();
    let client = connect(&proxy, SOON);
    assert_eq!(ask(&client, "one").expect("an answer"), "one");
    let expected = Counters { accepted: 1, open: 1, bytes_to_upstream: 4, bytes_to_clients: 4, ..Counters::default() };
    assert_eq!(proxy.counters(), expected);
    // Much more than all buffers on the way together.
    let long = "x".repeat(20 << 20);
    let mut writer = client.try_clone().expect("a clone");
    let text = format!("{long}\n");
    let sender = std::thread::spawn(move || writer.write_all(text.as_bytes()));
    let mut back = vec![0; long.len() + 1];
    (&client).read_exact(&mut back).expect("all of it");
    assert!(back.starts_with(long.as_bytes()));
    sender.join().expect("no panic").expect("all was sent");
}

#[test]
fn the_end_of_one_side_reaches_the_other() {
    let (echo, proxy) = fixtures();
    let client = connect(&proxy, SOON);
    client.shutdown(std::net::Shutdown::Write).expect("half of it ends");
    assert_eq!(hear(&client).expect_err("no more comes").kind(), ErrorKind::UnexpectedEof);
    assert!(wait::until(SOON, || echo.ended.load(Ordering::SeqCst) == 1));
    assert!(wait::until(SOON, || proxy.counters().open == 0));
    assert_eq!(proxy.counters().cut, 0);
}

#[test]
fn a_cut_resets_what_is_open_and_not_what_comes() {
    let (echo, proxy) = fixtures();
    let clients: Vec<_> = (0..10).map(|_| connect(&proxy, SOON)).collect();
    clients.iter().for_each(|client| assert!(ask(client, "here").is_ok()));
    proxy.cut();
    assert_eq!((proxy.counters().open, proxy.counters().cut), (0, 10));
    for client in &clients {
        assert_eq!(hear(client).expect_err("it was cut").kind(), ErrorKind::ConnectionReset);
    }
    assert!(wait::until(SOON, || echo.ended.load(Ordering::SeqCst) == 10), "the server noticed");
    assert_eq!(ask(&connect(&proxy, SOON), "again").expect("an answer"), "again");
}

#[test]
fn refusing_refuses_what_comes_and_not_what_is_open() {
    let (_echo, proxy) = fixtures();
    let client = connect(&proxy, SOON);
    ask(&client, "before").expect("an answer");
    for _ in 0..3 {
        proxy.refuse();
        proxy.refuse();
        assert_eq!(TcpStream::connect(proxy.address()).expect_err("refused").kind(), ErrorKind::ConnectionRefused);
        ask(&client, "while it refuses").expect("an answer");
        proxy.heal();
        ask(&connect(&proxy, SOON), "after").expect("an answer");
    }
}

#[test]
fn what_is_held_arrives_late_in_both_directions() {
    let (echo, proxy) = fixtures();
    let client = connect(&proxy, A_WHILE);
    ask(&client, "before").expect("an answer");
    proxy.hold();
    assert!(is_timeout(&ask(&client, "held").expect_err("no answer")));
    let newcomer = connect(&proxy, A_WHILE);
    assert!(is_timeout(&ask(&newcomer, "held too").expect_err("no answer")));
    assert_eq!(echo.heard(), ["before"]);
    proxy.heal();
    for (client, line) in [(client, "held"), (newcomer, "held too")] {
        client.set_read_timeout(Some(SOON)).expect("a limit");
        assert_eq!(hear(&client).expect("a late answer"), line);
    }
}

#[test]
fn what_is_held_when_it_is_cut_never_arrives() {
    let (echo, proxy) = fixtures();
    let client = connect(&proxy, A_WHILE);
    ask(&client, "before").expect("an answer");
    proxy.hold();
    ask(&client, "lost").expect_err("no answer");
    proxy.cut();
    proxy.heal();
    assert!(wait::until(SOON, || echo.ended.load(Ordering::SeqCst) == 1));
    assert_eq!(echo.heard(), ["before"]);
}

#[test]
fn a_delay_is_taken_in_each_direction_until_it_is_healed() {
    let (_echo, proxy) = fixtures();
    let client = connect(&proxy, SOON);
    ask(&client, "quick").expect("an answer");
    proxy.delay(Duration::from_millis(50));
    let began = Instant::now();
    ask(&client, "slow").expect("an answer");
    assert!(began.elapsed() >= Duration::from_millis(100), "{:?}", began.elapsed());
    proxy.delay(Duration::from_secs(600));
    (&client).write_all(b"hastened\n").expect("it is sent");
    proxy.heal();
    assert_eq!(hear(&client).expect("an answer"), "hastened");
}

#[test]
fn with_dropped_replies_a_request_is_done_and_its_client_does_not_know() {
    let (echo, proxy) = fixtures();
    let client = connect(&proxy, SOON);
    ask(&client, "before").expect("an answer");
    proxy.drop_replies();
    assert_eq!(ask(&client, "done").expect_err("its reply is lost").kind(), ErrorKind::ConnectionReset);
    ask(&connect(&proxy, SOON), "done as well").expect_err("its reply is lost");
    assert_eq!(echo.heard(), ["before", "done", "done as well"]);
    assert_eq!(proxy.counters().lost_replies, 2);
    proxy.heal();
    ask(&connect(&proxy, SOON), "after").expect("an answer");
}

#[test]
fn a_trap_springs_once_for_the_request_that_it_names() {
    let (echo, proxy) = fixtures();
    let (one, other) = (connect(&proxy, SOON), connect(&proxy, SOON));
    proxy.lose_reply_to(b"append");
    proxy.lose_request(b"remove");
    ask(&one, "read").expect("an answer");
    assert_eq!(ask(&one, "append 1").expect_err("its reply is lost").kind(), ErrorKind::ConnectionReset);
    assert_eq!(ask(&other, "remove 1").expect_err("it is lost").kind(), ErrorKind::ConnectionReset);
    assert_eq!(proxy.traps(), 0);
    let again = connect(&proxy, SOON);
    ask(&again, "append 2").expect("an answer");
    ask(&again, "remove 2").expect("an answer");
    assert_eq!(echo.heard(), ["read", "append 1", "append 2", "remove 2"]);
    assert_eq!((proxy.counters().lost_requests, proxy.counters().lost_replies), (1, 1));
}

#[test]
fn a_connection_to_nobody_is_reset_until_the_upstream_is_set() {
    let nobody = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("an address");
    let proxy = Proxy::start(nobody).expect("a proxy");
    ask(&connect(&proxy, SOON), "lost").expect_err("there is nobody");
    assert!(wait::until(SOON, || proxy.counters().unreachable == 1));
    let echo = Echo::start();
    proxy.set_upstream(echo.address);
    ask(&connect(&proxy, SOON), "found").expect("an answer");
}

/// A peer that does not read fills all buffers, and every thread of the connection waits for room.
#[test]
fn a_full_connection_can_be_cut_and_dropped() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    for is_cut in [true, false] {
        let proxy = Proxy::start(listener.local_addr().expect("an address")).expect("a proxy");
        let client = connect(&proxy, SOON);
        client.set_write_timeout(Some(A_WHILE)).expect("a limit");
        let block = vec![0; 1 << 20];
        let is_full = wait::until(SOON, || (&client).write_all(&block).is_err());
        assert!(is_full);
        if is_cut {
            proxy.cut();
        }
        proxy.hold();
        drop(proxy);
        assert!((&client).write_all(&block).is_err(), "it was reset");
    }
}

#[test]
fn a_dropped_proxy_leaves_no_thread() {
    let (_echo, proxy) = fixtures();
    let clients: Vec<_> = (0..20).map(|_| connect(&proxy, SOON)).collect();
    clients.iter().for_each(|client| assert!(ask(client, "here").is_ok()));
    let address = proxy.address();
    // It would panic if threads of it were left.
    drop(proxy);
    assert!(clients.iter().all(|client| hear(client).is_err()));
    assert_eq!(TcpStream::connect(address).expect_err("nobody listens").kind(), ErrorKind::ConnectionRefused);
}
