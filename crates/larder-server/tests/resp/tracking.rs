//! A client that keeps what it read is told when that changes, by whatever it was that changed it.

use super::program::Larder;
use super::wire::{Client, Value, words};

const TAGGED: &str = "[namespaces.features]\ntags = [\"symbol:{1}\"]";

fn ask(client: &mut Client, text: &str) -> Value {
    client.ask(&words(text)).expect("it answers").value
}

/// A connection that speaks version 3 and is tracked so.
fn tracked(larder: &Larder, how: &str) -> Client {
    let mut client = Client::connect(larder.addr()).expect("it listens");
    assert!(ask(&mut client, "HELLO 3").error().is_none());
    assert_eq!(ask(&mut client, &format!("CLIENT TRACKING ON {how}")).bytes(), Some(b"OK".as_slice()), "{how}");
    client
}

/// The next push: the key that changed, or nothing for everything.
fn told(client: &mut Client) -> Option<Vec<u8>> {
    let push = client.reply().expect("it is told").value;
    let Some([word, keys]) = push.parts() else { panic!("{push:?} is no push") };
    assert_eq!(word.bytes(), Some(b"invalidate".as_slice()), "{push:?}");
    keys.parts().map(|keys| keys[0].bytes().expect("a key is bytes").to_vec())
}

/// Reads a key that somebody else then changes, and sees that this is the next that it is told: nothing came before.
fn told_nothing_before(client: &mut Client, other: &mut Client) {
    ask(client, "GET features:END:1");
    ask(other, "SET features:END:1 x");
    assert_eq!(told(client).as_deref(), Some(b"features:END:1".as_slice()));
}

#[test]
fn who_read_a_key_is_told_what_becomes_of_it_once() {
    let larder = Larder::start("", TAGGED);
    let mut other = Client::connect(larder.addr()).expect("it listens");
    let mut client = tracked(&larder, "");
    for key in ["features:A:1", "features:B:1"] {
        ask(&mut other, &format!("SET {key} 1"));
    }
    for change in
        ["SET features:A:1 2", "DEL features:A:1", "INCR features:A:1", "EXPIRE features:A:1 50", "LARDER.INVALIDATE TAG symbol:A"]
    {
        ask(&mut client, "GET features:A:1");
        ask(&mut client, "MGET features:B:1");
        ask(&mut other, change);
        assert_eq!(told(&mut client).as_deref(), Some(b"features:A:1".as_slice()), "{change}");
        if change.starts_with("LARDER") {
            assert_eq!(ask(&mut other, "SET features:A:1 again").bytes(), Some(b"OK".as_slice()));
        }
    }
    told_nothing_before(&mut client, &mut other);
    // What expires is told as well. It lives long enough to be read on a machine that does much else.
    ask(&mut other, "SET features:C:1 x PX 500");
    ask(&mut client, "GET features:C:1");
    assert_eq!(told(&mut client).as_deref(), Some(b"features:C:1".as_slice()));
    ask(&mut other, "FLUSHALL");
    assert_eq!(told(&mut client), None, "everything");
    // Switched off, it is told nothing more.
    ask(&mut client, "GET features:B:1");
    assert_eq!(ask(&mut client, "CLIENT TRACKING OFF").bytes(), Some(b"OK".as_slice()));
    ask(&mut other, "SET features:B:1 3");
    assert_eq!(ask(&mut client, "PING").bytes(), Some(b"PONG".as_slice()));
}

#[test]
fn a_broadcast_tells_of_all_keys_that_begin_so() {
    let larder = Larder::start("", TAGGED);
    let mut other = Client::connect(larder.addr()).expect("it listens");
    let mut client = tracked(&larder, "BCAST PREFIX features:A PREFIX other:");
    for key in ["features:B:1", "plain:1", "features:A:7", "other:2"] {
        ask(&mut other, &format!("SET {key} 1"));
    }
    assert_eq!([told(&mut client), told(&mut client)].map(Option::unwrap), [b"features:A:7".to_vec(), b"other:2".to_vec()]);
    ask(&mut other, "LARDER.INVALIDATE TAG symbol:B");
    assert_eq!(told(&mut client), None, "whose tag it is nobody knows");
    let overlapping = ask(&mut client, "CLIENT TRACKING ON BCAST PREFIX a PREFIX ab");
    assert!(overlapping.error().is_some_and(|text| text.starts_with(b"ERR Prefix 'ab' overlaps")), "{overlapping:?}");
}

#[test]
fn who_opts_in_or_out_is_told_of_what_it_said() {
    let larder = Larder::start("", TAGGED);
    let mut other = Client::connect(larder.addr()).expect("it listens");
    let mut client = tracked(&larder, "OPTIN");
    ask(&mut client, "GET features:A:1");
    ask(&mut client, "CLIENT CACHING YES");
    ask(&mut client, "GET features:B:1");
    ask(&mut client, "GET features:C:1");
    ["A", "C", "B"].iter().for_each(|key| drop(ask(&mut other, &format!("SET features:{key}:1 x"))));
    assert_eq!(told(&mut client).as_deref(), Some(b"features:B:1".as_slice()));

    let mut client = tracked(&larder, "OPTOUT");
    ask(&mut client, "CLIENT CACHING NO");
    ask(&mut client, "GET features:A:1");
    ask(&mut client, "GET features:B:1");
    ["A", "B"].iter().for_each(|key| drop(ask(&mut other, &format!("SET features:{key}:1 y"))));
    assert_eq!(told(&mut client).as_deref(), Some(b"features:B:1".as_slice()));
}

#[test]
fn who_wants_no_echo_is_told_of_the_changes_of_others_alone() {
    let larder = Larder::start("", TAGGED);
    let mut other = Client::connect(larder.addr()).expect("it listens");
    for how in ["NOLOOP", "NOLOOP BCAST"] {
        let mut client = tracked(&larder, how);
        ask(&mut client, "GET features:A:1");
        ask(&mut client, "SET features:A:1 mine");
        // It changes nothing, so what comes next is somebody else's.
        ask(&mut client, "SET features:A:1 mine NX");
        ask(&mut client, "GET features:A:1");
        ask(&mut other, "SET features:A:1 theirs");
        assert_eq!(told(&mut client).as_deref(), Some(b"features:A:1".as_slice()), "{how}");
    }
}

#[test]
fn what_becomes_of_keys_is_said_on_their_channels() {
    let larder = Larder::start("", TAGGED);
    let [mut hears, mut other] = [0; 2].map(|_| Client::connect(larder.addr()).expect("it listens"));
    ask(&mut hears, "PSUBSCRIBE __keyevent@0__:*");
    ask(&mut hears, "SUBSCRIBE __keyspace@0__:features:A:1");
    let mut heard = || {
        let message = hears.reply().expect("it is told").value;
        let parts = message.parts().expect("a message has parts").iter().skip(1);
        parts.map(|part| String::from_utf8_lossy(part.bytes().expect("they are bytes")).into_owned()).collect::<Vec<_>>()
    };
    ask(&mut other, "SET features:A:1 x");
    assert_eq!(heard(), ["__keyspace@0__:features:A:1", "set"]);
    assert_eq!(heard(), ["__keyevent@0__:*", "__keyevent@0__:set", "features:A:1"]);
    ask(&mut other, "DEL features:A:1");
    assert_eq!(heard(), ["__keyspace@0__:features:A:1", "del"]);
    assert_eq!(heard(), ["__keyevent@0__:*", "__keyevent@0__:del", "features:A:1"]);
    ask(&mut other, "SET features:B:1 x PX 30");
    assert_eq!(heard(), ["__keyevent@0__:*", "__keyevent@0__:set", "features:B:1"]);
    assert_eq!(heard(), ["__keyevent@0__:*", "__keyevent@0__:expired", "features:B:1"]);
    ask(&mut other, "SET features:C:1 x");
    assert_eq!(heard(), ["__keyevent@0__:*", "__keyevent@0__:set", "features:C:1"]);
    ask(&mut other, "LARDER.INVALIDATE TAG symbol:C");
    assert_eq!(heard(), ["__keyevent@0__:*", "__keyevent@0__:invalidated", "features:C:1"]);
}
