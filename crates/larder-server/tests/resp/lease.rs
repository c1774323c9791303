//! The race that loses money, and the lease that closes it: a client misses, something is invalidated, and then it stores what it had read
//! before.

use super::program::Larder;
use super::wire::{Client, words};

/// Keys are tagged by what they are about, as a configuration does for clients that know nothing of tags.
const TAGGED: &str = "[namespaces.features]\ntags = [\"symbol:{1}\"]\n[namespaces.plain]\ntags = [\"symbol:{1}\"]\nmiss_lease = \"0s\"";

fn ask(client: &mut Client, text: &str) -> Option<Vec<u8>> {
    client.ask(&words(text)).expect("it answers").value.bytes().map(<[u8]>::to_vec)
}

/// What is read after: A misses, B invalidates, A stores what it had read before.
fn after_the_race(larder: &Larder, key: &str, invalidation: &str) -> Option<Vec<u8>> {
    let [mut a, mut b] = [0; 2].map(|_| Client::connect(larder.addr()).expect("it listens"));
    assert_eq!(ask(&mut a, &format!("GET {key}")), None);
    assert!(ask(&mut b, invalidation).is_some(), "B is given the position");
    assert_eq!(ask(&mut a, &format!("SET {key} old")).as_deref(), Some(b"OK".as_slice()), "a client that knows nothing is told nothing");
    ask(&mut a, &format!("GET {key}"))
}

#[test]
fn what_was_read_before_an_invalidation_is_not_stored_after_it() {
    let larder = Larder::start("", TAGGED);
    for (n, what) in ["TAG symbol:AAPL", "PATTERN features:*:**", "NAMESPACE features", "ALL"].iter().enumerate() {
        let (key, invalidation) = (format!("features:AAPL:{n}"), format!("LARDER.INVALIDATE {what}"));
        assert_eq!(after_the_race(&larder, &key, &invalidation), None, "{what}");
        let mut next = Client::connect(larder.addr()).expect("it listens");
        assert_eq!(ask(&mut next, &format!("GET {key}")), None);
        assert!(ask(&mut next, &format!("SET {key} new")).is_some());
    }
    assert_eq!(after_the_race(&larder, "features:AAPL:k", "LARDER.INVALIDATE KEY features:AAPL:k"), None);
    assert_eq!(after_the_race(&larder, "features:AAPL:e", "LARDER.EMIT market_data_update {\"symbol\":\"AAPL\"}"), None);
}

#[test]
fn without_the_lease_the_same_race_serves_what_is_old() {
    let larder = Larder::start("", TAGGED);
    let stale = after_the_race(&larder, "plain:AAPL:5m", "LARDER.INVALIDATE TAG symbol:AAPL");
    assert_eq!(stale.as_deref(), Some(b"old".as_slice()), "which is why there are leases");
}

#[test]
fn what_nothing_came_in_between_of_is_stored() {
    let larder = Larder::start("", TAGGED);
    let read = after_the_race(&larder, "features:AAPL:5m", "LARDER.INVALIDATE TAG symbol:MSFT");
    assert_eq!(read.as_deref(), Some(b"old".as_slice()), "it is of another symbol, and not old at all");
    let mut client = Client::connect(larder.addr()).expect("it listens");
    assert!(ask(&mut client, "SET features:AAPL:5m again").is_some());
    assert_eq!(ask(&mut client, "GET features:AAPL:5m").as_deref(), Some(b"again".as_slice()), "a miss is answered once");
}

#[test]
fn a_pool_that_writes_over_another_connection_is_covered() {
    let larder = Larder::start("", TAGGED);
    let [mut reads, mut writes] = [0; 2].map(|_| Client::connect(larder.addr()).expect("it listens"));
    assert_eq!(ask(&mut reads, "MGET features:AAPL:1m"), None);
    assert!(ask(&mut writes, "LARDER.INVALIDATE TAG symbol:AAPL").is_some());
    assert!(ask(&mut writes, "SETEX features:AAPL:1m 60 old").is_some());
    assert_eq!(ask(&mut reads, "GET features:AAPL:1m"), None);
    let info = ask(&mut reads, "INFO stats").expect("there is something to tell");
    assert!(String::from_utf8_lossy(&info).contains("miss_leases_dropped:1\r\n"), "{}", String::from_utf8_lossy(&info));
    assert!(ask(&mut writes, "LARDER.SET features:AAPL:1m new").is_some());
    assert_eq!(ask(&mut reads, "GET features:AAPL:1m").as_deref(), Some(b"new".as_slice()), "who knows better is believed");
}
