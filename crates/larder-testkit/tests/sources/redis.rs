//! A stream in Redis.

use std::time::Duration;

use larder::events::Following;
use larder::events::source::RedisStream;
use larder::{Larder, RedisOptions};
use larder_testkit::redis::{AppendOnly, Server, ServerOptions, or_skip, version};
use larder_testkit::wait;

use crate::support::*;

fn server(append_only: AppendOnly) -> Option<Server> {
    if or_skip(version()).is_none_or(|version| version < (7, 0)) {
        return None;
    }
    or_skip(Server::start(ServerOptions { append_only, ..ServerOptions::default() }))
}

fn follow(larder: &Larder, server: &Server) -> Following {
    let options = RedisOptions::parse(&server.url()).expect("it is one");
    larder.follow(RedisStream::new(options, "market", "cache").expect("it is one"))
}

fn add(server: &Server, number: usize) {
    server.command(&["XADD", "market", "*", "event", &event(number, number % 3)]).expect("it is added");
}

fn pending(server: &Server) -> Option<i64> {
    server.command(&["XPENDING", "market", "cache"]).ok()?.items().first()?.number()
}

/// Adds an event, and waits until this very one took effect and nothing is left to be acknowledged: what was delivered before may be
/// delivered and counted again.
async fn carry_out(server: &Server, larder: &Larder, number: usize) {
    put(larder, number).await;
    add(server, number);
    let done = async {
        while has(larder, number).await || pending(server) != Some(0) {
            wait::pass(Duration::from_millis(2)).await;
        }
    };
    tokio::time::timeout(LONG, done).await.unwrap_or_else(|_| panic!("event {number} never took effect"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_any_client_adds_takes_effect_and_what_is_no_event_is_a_dead_letter() {
    let Some(server) = server(AppendOnly::Off) else { return };
    add(&server, 1);
    let larder = builder().build().await.unwrap();
    put(&larder, 5).await;
    let following = follow(&larder, &server);
    until_stats(&following, "the first", |stats| stats.acknowledged == 1).await;
    assert!(!has(&larder, 5).await, "what was there before the stream was followed is not known to be true");
    for number in [5, 6] {
        put(&larder, number).await;
    }
    add(&server, 5);
    add(&server, 5);
    until_stats(&following, "one twice", |stats| stats.acknowledged == 3).await;
    assert!(!has(&larder, 5).await && has(&larder, 6).await);
    server.command(&["XADD", "market", "*", "event", "{"]).unwrap();
    server.command(&["XADD", "market", "*", "tag", "6"]).unwrap();
    until_stats(&following, "two that are none", |stats| stats.acknowledged == 5).await;
    let stats = following.stats();
    assert_eq!((stats.duplicates, stats.dead, stats.gaps, stats.received), (1, 2, 1, 5), "{stats:?}");
    let letters: Vec<String> = larder.dead_letters().iter().filter_map(|letter| letter.event.as_str().map(str::to_owned)).collect();
    assert!(letters.contains(&"{".to_owned()) && letters.contains(&"tag 6\n".to_owned()), "{letters:?}");
    assert_eq!(pending(&server), Some(0));
    larder.close().await.unwrap();
    assert!(following.stats().ended);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_lost_is_noticed_and_made_good() {
    let Some(server) = server(AppendOnly::Always) else { return };
    let larder = builder().build().await.unwrap();
    let following = follow(&larder, &server);
    until_stats(&following, "it is there", |stats| stats.gaps == 1).await;
    // Each of these with the cache in use, and with a reader that does not listen meanwhile.
    let losses: [&dyn Fn(); 4] = [
        &|| {
            [20, 21, 22].into_iter().for_each(|number| add(&server, number));
            server.command(&["XTRIM", "market", "MAXLEN", "1"]).unwrap();
        },
        &|| {
            let id = server.command(&["XADD", "market", "*", "event", &event(30, 0)]).unwrap().text();
            add(&server, 31);
            server.command(&["XDEL", "market", &id]).unwrap();
        },
        &|| drop(server.command(&["DEL", "market"]).unwrap()),
        &|| {
            server.restart(false);
            add(&server, 40);
        },
    ];
    for (at, loss) in losses.into_iter().enumerate() {
        put(&larder, 99).await;
        following.stop().await;
        loss();
        let following = follow(&larder, &server);
        until_stats(&following, "the loss is noticed", |stats| stats.gaps >= 1).await;
        assert!(!has(&larder, 99).await, "loss {at}");
        carry_out(&server, &larder, 100 + at).await;
        following.stop().await;
    }
    // And what loses nothing is none.
    let following = follow(&larder, &server);
    until_stats(&following, "it is there again", |stats| stats.connected).await;
    server.restart(true);
    carry_out(&server, &larder, 200).await;
    server.command(&["XTRIM", "market", "MAXLEN", "0"]).unwrap();
    carry_out(&server, &larder, 201).await;
    until_stats(&following, "and says so", |stats| stats.acknowledged > 1).await;
    assert_eq!(following.stats().gaps, 0, "{:?}", following.stats());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_may_have_lost_its_last_second_is_a_gap() {
    let Some(server) = server(AppendOnly::EverySecond) else { return };
    let larder = builder().build().await.unwrap();
    let following = follow(&larder, &server);
    until_stats(&following, "it is there", |stats| stats.gaps == 1).await;
    server.restart(true);
    until_stats(&following, "it is not believed", |stats| stats.gaps == 2).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_takes_over_with_what_was_not_acknowledged() {
    let Some(server) = server(AppendOnly::Off) else { return };
    let shared = |name: &str| builder().redis(RedisOptions::parse(&server.url()).unwrap().instance(name));
    let (a, b) = (shared("a").build().await.unwrap(), shared("b").build().await.unwrap());
    let first = follow(&a, &server);
    until_stats(&first, "it is there", |stats| stats.gaps == 1).await;
    let second = follow(&b, &server);
    until_stats(&second, "it stands by", |stats| stats.standby).await;
    add(&server, 1);
    until_stats(&first, "the first one has it", |stats| stats.acknowledged == 1).await;
    first.stop().await;
    // Read by somebody who never says that it is done.
    add(&server, 2);
    server.command(&["XREADGROUP", "GROUP", "cache", "somebody", "STREAMS", "market", ">"]).unwrap();
    add(&server, 3);
    until_stats(&second, "the second one has both", |stats| stats.acknowledged == 2).await;
    assert_eq!((second.stats().duplicates, second.stats().gaps, pending(&server)), (0, 0, Some(0)));
}
