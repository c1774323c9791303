//! One of an instance's connections is lost while the others are not.

use std::time::Duration;

use larder::Larder;
use larder_testkit::proxy::Proxy;
use larder_testkit::redis::Server;

use crate::support::*;

/// The connections of the only instance, in the order in which they were opened: for appends, the tail, the inbox, entries, and from the
/// fifth on those for reads alone. Each with the last command that came on it.
fn connections(server: &Server) -> Vec<(u64, String)> {
    let list = server.command(&["CLIENT", "LIST", "TYPE", "normal"]).unwrap().text();
    let field = |line: &str, name: &str| line.split(' ').find_map(|field| field.strip_prefix(name)).expect("it is listed").to_owned();
    let mut connections: Vec<_> = list.lines().map(|line| (field(line, "id=").parse().unwrap(), field(line, "cmd="))).collect();
    // Of the test itself.
    connections.retain(|(_, command)| !command.starts_with("client"));
    connections.sort_unstable();
    connections
}

const APPENDS: usize = 0;
const INBOX: usize = 2;
const ENTRIES: usize = 3;
const FIRST_FOR_READS: usize = 4;

fn kill(server: &Server, id: u64) {
    assert_eq!(server.command(&["CLIENT", "KILL", "ID", &id.to_string()]).unwrap().number(), Some(1));
}

fn connects(larder: &Larder) -> u64 {
    larder.stats().log.shared.unwrap().connects
}

/// Puts entries of which an instance that is opened afterwards has none in memory.
async fn fill(server: &Server, entries: u64) {
    let writer = instance(&server.url()).await;
    writer.namespace::<u64>("n").unwrap().put_many((0..entries).map(|n| (n.to_string(), n))).await.unwrap();
    writer.flush().await.unwrap();
    writer.close().await.unwrap();
    until("its connections are closed", || connections(server).is_empty()).await;
}

/// Reads the entries from one on, each once, until one was read on a connection for reads. Returns the next, and that connection.
async fn read_until_it_is_used(server: &Server, larder: &Larder, from: u64) -> (u64, u64) {
    let namespace = larder.namespace::<u64>("n").unwrap();
    for n in from.. {
        assert_eq!(*namespace.get(n.to_string()).await.unwrap().expect("it is in Redis"), n);
        if let Some((id, _)) = connections(server).into_iter().skip(FIRST_FOR_READS).find(|(_, command)| command == "get") {
            return (n + 1, id);
        }
    }
    unreachable!("there is always another number")
}

/// The loss is noticed without anybody who needs the connection.
async fn all_are_opened_anew_without(connection: usize) {
    let Some(server) = server() else { return };
    let a = instance(&server.url()).await;
    let on_a = a.namespace::<String>("n").unwrap();
    on_a.put("k", "v".to_owned()).await.unwrap();
    kill(&server, connections(&server)[connection].0);
    until("the loss is noticed", || connects(&a) == 2 && connected(&a)).await;
    assert_eq!(*on_a.get("k").await.unwrap().unwrap(), "v");
    assert_eq!(*on_a.get_or_load("loaded", loader("w")).await.unwrap(), "w");
    a.flush().await.unwrap();
    assert_eq!(server.command(&["EXISTS", "larder:e:n:loaded"]).unwrap().number(), Some(1));
    server.command(&["XADD", "{larder}:inbox", "*", "key", "n:k"]).unwrap();
    until("the message is taken", || a.stats().log.shared.unwrap().inbox_taken == 1).await;
    assert!(on_a.get("k").await.unwrap().is_none());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_the_one_for_appends_all_are_opened_anew() {
    all_are_opened_anew_without(APPENDS).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_the_one_for_the_inbox_all_are_opened_anew() {
    all_are_opened_anew_without(INBOX).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_the_one_for_entries_all_are_opened_anew() {
    all_are_opened_anew_without(ENTRIES).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_reads_on_one_that_was_lost_finds_what_is_there() {
    let Some(server) = server() else { return };
    fill(&server, 5_000).await;
    let a = instance(&server.url()).await;
    let on_a = a.namespace::<u64>("n").unwrap();
    let mut next = 0;
    for _ in 0..3 {
        let used;
        (next, used) = read_until_it_is_used(&server, &a, next).await;
        kill(&server, used);
        assert_eq!(*on_a.get(next.to_string()).await.unwrap().expect("it is in Redis"), next);
        next += 1;
    }
    assert_eq!(connects(&a), 1, "the others stay");
}

/// The answer that nobody waits for any more arrives, and is nobody's.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_read_that_was_given_up_leaves_nothing_to_the_next() {
    let Some(server) = server() else { return };
    fill(&server, 5_000).await;
    let proxy = Proxy::start(server.address()).unwrap();
    let a = instance(&format!("redis://{}", proxy.address())).await;
    let on_a = a.namespace::<u64>("n").unwrap();
    let mut next = 0;
    for _ in 0..5 {
        let used;
        (next, used) = read_until_it_is_used(&server, &a, next).await;
        proxy.hold();
        let given_up = next.to_string();
        assert!(tokio::time::timeout(Duration::ZERO, on_a.get(&given_up)).await.is_err(), "nothing comes through");
        proxy.heal();
        for n in [next + 1, next] {
            assert_eq!(*on_a.get(n.to_string()).await.unwrap().expect("it is in Redis"), n);
        }
        next += 2;
        until("its connection is closed", || connections(&server).iter().all(|(id, _)| *id != used)).await;
    }
}
