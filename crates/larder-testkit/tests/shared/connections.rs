//! One of an instance's connections is lost while the others are not.

use std::time::Duration;

use larder::{Larder, Names};
use larder_testkit::proxy::Proxy;
use larder_testkit::redis::Server;

use crate::support::*;

/// The connections of the only instance, in the order in which they were opened: for appends, the tail, the inbox, entries, and from the
/// fifth on those for reads alone.
fn connections(server: &Server) -> Vec<String> {
    let list = server.command(&["CLIENT", "LIST", "TYPE", "normal"]).unwrap().text();
    let others = list.lines().filter(|line| !line.contains("cmd=client"));
    let mut ids: Vec<u64> = others.map(|line| line.split(' ').next().unwrap().strip_prefix("id=").unwrap().parse().unwrap()).collect();
    ids.sort_unstable();
    ids.iter().map(u64::to_string).collect()
}

const INBOX: usize = 2;
const ENTRIES: usize = 3;
const FIRST_FOR_READS: usize = 4;

fn kill(server: &Server, ids: &[String]) {
    for id in ids {
        assert_eq!(server.command(&["CLIENT", "KILL", "ID", id]).unwrap().number(), Some(1));
    }
}

fn connects(larder: &Larder) -> u64 {
    larder.stats().log.shared.unwrap().connects
}

/// Puts entries that an instance then knows nothing of but their position.
async fn filled(server: &Server, entries: u64) -> Larder {
    let writer = instance(&server.url()).await;
    writer.namespace::<u64>("n").unwrap().put_many((0..entries).map(|n| (n.to_string(), n))).await.unwrap();
    writer.flush().await.unwrap();
    writer.close().await.unwrap();
    until("its connections are closed", || connections(server).is_empty()).await;
    writer
}

/// Reads entries, each once and beginning with one, until there is a connection for reads. Returns the first that was not read.
async fn read_until_there_is_one(server: &Server, larder: &Larder, from: u64) -> u64 {
    let namespace = larder.namespace::<u64>("n").unwrap();
    for n in from.. {
        assert_eq!(*namespace.get(n.to_string()).await.unwrap().expect("it is in Redis"), n);
        if connections(server).len() > FIRST_FOR_READS {
            return n + 1;
        }
    }
    unreachable!("there are more numbers")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_the_one_for_entries_all_are_opened_anew() {
    let Some(server) = server() else { return };
    let a = instance(&server.url()).await;
    let on_a = a.namespace::<String>("n").unwrap();
    kill(&server, &connections(&server)[ENTRIES..]);
    assert_eq!(*on_a.get_or_load("k", loader("loaded")).await.unwrap(), "loaded");
    until("the loss is noticed", || connects(&a) == 2 && connected(&a)).await;
    a.flush().await.unwrap();
    assert_eq!(server.command(&["EXISTS", "larder:e:n:k"]).unwrap().number(), Some(1), "what waited is written");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_the_one_for_the_inbox_all_are_opened_anew() {
    let Some(server) = server() else { return };
    let a = instance(&server.url()).await;
    let on_a = a.namespace::<String>("n").unwrap();
    on_a.put("k", "v".to_owned()).await.unwrap();
    kill(&server, &connections(&server)[INBOX..=INBOX]);
    until("the loss is noticed", || connects(&a) == 2 && connected(&a)).await;
    server.command(&["XADD", "{larder}:inbox", "*", "key", "n:k"]).unwrap();
    until("the message is taken", || a.stats().log.shared.unwrap().inbox_taken == 1).await;
    assert!(on_a.get("k").await.unwrap().is_none());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_those_for_reads_nothing_is_missed() {
    let Some(server) = server() else { return };
    filled(&server, 5_000).await;
    let a = instance(&server.url()).await;
    let on_a = a.namespace::<u64>("n").unwrap();
    let mut next = 0;
    for _ in 0..3 {
        next = read_until_there_is_one(&server, &a, next).await;
        kill(&server, &connections(&server)[FIRST_FOR_READS..]);
        assert_eq!(*on_a.get(next.to_string()).await.unwrap().expect("it is in Redis"), next);
        next += 1;
    }
    assert_eq!(connects(&a), 1, "the others stay");
}

/// The answer that nobody waits for any more arrives, and is nobody's.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_read_that_was_given_up_leaves_nothing_to_the_next() {
    let Some(server) = server() else { return };
    filled(&server, 5_000).await;
    let proxy = Proxy::start(server.address()).unwrap();
    let a = instance(&format!("redis://{}", proxy.address())).await;
    let on_a = a.namespace::<u64>("n").unwrap();
    let mut next = 0;
    for _ in 0..5 {
        next = read_until_there_is_one(&server, &a, next).await;
        proxy.hold();
        let given_up = next.to_string();
        assert!(tokio::time::timeout(Duration::ZERO, on_a.get(&given_up)).await.is_err(), "nothing comes through");
        proxy.heal();
        for n in [next + 1, next] {
            assert_eq!(*on_a.get(n.to_string()).await.unwrap().expect("it is in Redis"), n);
        }
        next += 2;
        until("its connection is closed", || connections(&server).len() == FIRST_FOR_READS).await;
    }
    a.invalidate(Names::new().everything()).await.unwrap();
    assert!(on_a.get(next.to_string()).await.unwrap().is_none());
}
