//! What is no command in an array: lines, broken frames, half ones. Each is sent over a connection of its own, whose whole answer up to
//! its end has to agree.

use super::seed;
use super::sides::Sides;
use super::wire::{Client, encoded, shown, words};

/// Whole, broken, or both. What larder answers otherwise on purpose is in `intended.rs`.
const BYTES: &[&[u8]] = &[
    b"PING\r\n",
    b"PING\n",
    b"ping hello\r\n",
    b"  PING  \r\n",
    b"\r\n\r\nPING\r\n",
    b"\n",
    b"   \r\nPING\r\n",
    b"SET k \"a b\"\r\nGET k\r\n",
    b"SET k 'a b'\r\nGET k\r\n",
    b"SET k \"\\x41\\n\\r\\t\\b\\a\\\\\\\"\\q\"\r\nGET k\r\n",
    b"SET k 'it\\'s \\n'\r\nGET k\r\n",
    b"SET k \"\"\r\nGET k\r\n",
    b"SET k a\"b\"\r\nGET k\r\n",
    b"SET k \"a\"b\r\nPING\r\n",
    b"SET k \"a\r\nPING\r\n",
    b"SET k 'a\r\nPING\r\n",
    b"SET k '\r\n",
    b"SET k \"\\xZZ\"\r\nGET k\r\n",
    b"SET k a\tb\r\nGET k\r\n",
    b"NOSUCH a b\r\n",
    b"GET\r\n",
    b"+PING\r\n",
    b"$4\r\nPING\r\n",
    b":1\r\n",
    b"QUIT\r\nPING\r\n",
    b"quit now\r\nPING\r\n",
    b"*1\r\n$4\r\nQUIT\r\n*1\r\n$4\r\nPING\r\n",
    b"*1\r\n$4\r\nPING\r\n",
    b"*1\r\n$4\r\nPING\r\nPING\r\n*1\r\n$4\r\nPING\r\n",
    b"*0\r\n*1\r\n$4\r\nPING\r\n",
    b"*-1\r\n*1\r\n$4\r\nPING\r\n",
    b"*-100\r\nPING\r\n",
    b"*\r\nPING\r\n",
    b"*a\r\n",
    b"*1a\r\n",
    b"* 1\r\n$4\r\nPING\r\n",
    b"*+1\r\n$4\r\nPING\r\n",
    b"*01\r\n$4\r\nPING\r\n",
    b"*2147483648\r\n",
    b"*9223372036854775807\r\n",
    b"*9223372036854775808\r\n",
    b"*99999999999999999999999\r\n",
    b"*1\r\n$-1\r\n",
    b"*1\r\n$a\r\n",
    b"*1\r\n$\r\n",
    b"*1\r\n$536870913\r\n",
    b"*1\r\n$9223372036854775807\r\n",
    b"*1\r\n$4x\r\nPING\r\n",
    b"*1\r\n$04\r\nPING\r\n",
    b"*1\r\n+PING\r\n",
    b"*1\r\n:1\r\n",
    b"*1\r\n*1\r\n$4\r\nPING\r\n",
    b"*1\r\nPING\r\n",
    b"*1\r\n\r\n",
    b"*1\r\n$0\r\n\r\n",
    b"*2\r\n$4\r\nECHO\r\n$0\r\n\r\n",
    b"*2\r\n$4\r\nECHO\r\n$2\r\n\r\n\r\n",
    b"*1\n$4\nPING\n",
    b"*1\r\n$4\r\nPING\r\n*1\r\n$x\r\n*1\r\n$4\r\nPING\r\n",
    b"PING\r\n*a\r\nPING\r\n",
    b"*1",
    b"*1\r\n$4",
    b"*1\r\n$4\r\nPI",
    b"*2\r\n$4\r\nECHO\r\n",
    b"PING",
    b"",
    b"GET / HTTP/1.1\r\nPING\r\n",
    b"POST / HTTP/1.1\r\nPING\r\n",
    b"Host: localhost\r\nPING\r\n",
    b"*1\r\n$4\r\nPOST\r\nPING\r\n",
    b"*1\r\n$5\r\nhost:\r\nPING\r\n",
    b"MULTI\r\nSET k v\r\nEXEC\r\n",
    b"CLIENT REPLY OFF\r\nPING\r\nCLIENT REPLY ON\r\nPING\r\n",
    b"CLIENT REPLY SKIP\r\nPING\r\nECHO a\r\n",
    b"CLIENT REPLY SKIP\r\nCLIENT REPLY SKIP\r\nPING\r\nECHO a\r\n",
    b"CLIENT REPLY SKIP\r\nNOSUCH\r\nECHO a\r\n",
    b"CLIENT REPLY OFF\r\nCLIENT REPLY SKIP\r\nPING\r\nCLIENT REPLY ON\r\n",
    b"CLIENT REPLY SKIP\r\nMULTI\r\nPING\r\nEXEC\r\n",
    b"CLIENT REPLY OFF\r\nMULTI\r\nSET k v\r\nEXEC\r\nCLIENT REPLY ON\r\nGET k\r\n",
    b"CLIENT REPLY OFF\r\n*a\r\n",
    b"CLIENT REPLY OFF\r\nQUIT\r\n",
    b"SUBSCRIBE a\r\nCLIENT REPLY OFF\r\n",
    b"HELLO 3\r\n*a\r\n",
    b"HELLO 3\r\nQUIT\r\n",
    b"SUBSCRIBE a\r\nQUIT\r\nPING\r\n",
];

/// What each says to these bytes until the connection ends, sent in pieces that end there. Of `HELLO` only the length is compared.
fn answers(sides: &Sides, bytes: &[u8], cuts: &[usize]) -> [String; 2] {
    sides.clients().map(|mut client| {
        client.ask(&["FLUSHALL"]).expect("it answers");
        let mut from = 0;
        for &cut in cuts.iter().chain([&bytes.len()]) {
            // A server that closed the connection at what came before takes no more.
            if client.send(&bytes[from..cut]).is_err() {
                break;
            }
            from = cut;
        }
        let answer = client.rest().unwrap_or_else(|error| panic!("{} does not end the connection: {error}", shown(bytes)));
        if bytes.starts_with(b"HELLO") {
            // The map has the server's own name and the connection's number.
            let after = answer.windows(9).position(|window| window == b"modules\r\n").map(|at| answer[at..].to_vec());
            return shown(&after.unwrap_or(answer));
        }
        shown(&answer)
    })
}

fn compare(sides: &Sides) -> Vec<String> {
    let mut wrong = Vec::new();
    for bytes in BYTES {
        let [redis, larder] = answers(sides, bytes, &[]);
        if redis != larder {
            wrong.push(format!("{}\n  Redis:  {redis}\n  larder: {larder}", shown(bytes)));
        }
    }
    // A line without an end, and one whose count has none.
    for begin in [&b"PING "[..], b"*", b"*1\r\n$", b"*1\r\n$4\r\nPING\r\nSET k "] {
        let bytes = [begin, &vec![b'1'; 70_000]].concat();
        let [redis, larder] = answers(sides, &bytes, &[]);
        if redis != larder {
            wrong.push(format!("{} and 70,000 ones\n  Redis:  {redis}\n  larder: {larder}", shown(begin)));
        }
    }
    wrong
}

#[test]
fn bytes_of_any_kind_are_answered_as_redis_answers_them() {
    let Some(sides) = Sides::start() else { return };
    let wrong = compare(&sides);
    assert!(wrong.is_empty(), "{} differ:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn redis_answers_bytes_as_redis_does() {
    let Some(sides) = Sides::doubles(&[]) else { return };
    let wrong = compare(&sides);
    assert!(wrong.is_empty(), "{} differ:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn commands_may_be_cut_anywhere() {
    let Some(sides) = Sides::start() else { return };
    let seed = seed();
    let mut random = fastrand::Rng::with_seed(seed);
    let commands = [r"SET k\r\n v\0\r\n", "INCR n", r"GET k\r\n", r"MGET k\r\n n absent", "NOSUCH", "PING"];
    let mut bytes: Vec<u8> = commands.iter().flat_map(|line| encoded(&words(line))).collect();
    bytes.extend(b"PING inline\r\nSET q \"a b\"\r\nGET q\r\n");
    let [redis, _] = answers(&sides, &bytes, &[]);
    assert!(redis.contains("a b"), "{redis}");
    let [_, larder] = sides.addrs();
    for cut in 1..bytes.len() {
        let other = random.usize(1..bytes.len());
        let cuts = [cut.min(other), cut.max(other)];
        let mut client = Client::connect(larder).expect("it listens");
        client.ask(&["FLUSHALL"]).expect("it answers");
        for piece in [&bytes[..cuts[0]], &bytes[cuts[0]..cuts[1]], &bytes[cuts[1]..]] {
            client.send(piece).expect("it takes bytes");
        }
        let said = shown(&client.rest().expect("it ends the connection"));
        assert_eq!(said, redis, "LARDER_SEED={seed}: cut at {cuts:?}");
    }
}
