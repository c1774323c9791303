//! Where larder differs from Redis on purpose: the one list of it. Comparisons take no offence at what is explained here; and every line
//! is checked, so that nothing stays on the list that has become the same.

use super::differential::Both;
use super::sides::Sides;
use super::wire::{Client, Value, Words, shown, words};

/// One of them.
struct Intended {
    /// The command, and before it, ended by `;`, what makes it one.
    asked: &'static str,
    /// What Redis says.
    redis: &'static str,
    /// What larder says.
    larder: &'static str,
    /// Why.
    because: &'static str,
    /// Whether other replies, Redis' first, to other commands are explained by the same.
    explains: fn(&Words, &Value, &Value) -> bool,
}

/// Commands of Redis that larder does not have, and which the tests ask for.
const ABSENT: [&str; 2] = ["LPUSH", "SUBSTR"];

/// Beyond it a double is infinite.
const DOUBLE_MAX: f64 = 1.7e308;

/// All of them.
const INTENDED: &[Intended] = &[
    Intended {
        asked: r"SET \e v",
        redis: r"+OK\r\n",
        larder: r#"-ERR put \"\": a key has at least one byte\r\n"#,
        because: "an empty key belongs to no namespace",
        explains: |words, _, larder| words.iter().skip(1).any(Vec::is_empty) && says(larder, "a key has at least one byte"),
    },
    Intended {
        asked: "STRLEN {1025*k}",
        redis: r":0\r\n",
        larder: r#"-ERR check \"kkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkk\": a key has at most 1024 bytes, this one has 1025\r\n"#,
        because: "keys are kept in full in the log and in memory, so they are bounded",
        explains: |words, _, larder| words.iter().any(|word| word.len() > 1024) && says(larder, "a key has at most 1024 bytes"),
    },
    Intended {
        asked: "SELECT 1",
        redis: r"+OK\r\n",
        larder: r"-ERR DB index is out of range\r\n",
        because: "there is one keyspace; namespaces are parts of it",
        explains: |words, redis, larder| named(words, "SELECT") && redis.error().is_none() && says(larder, "DB index is out of range"),
    },
    Intended {
        asked: "LPUSH k v",
        redis: r":1\r\n",
        larder: r"-ERR unknown command 'LPUSH', with args beginning with: 'k' 'v' \r\n",
        because: "a cache has no lists, and so no key is of a wrong type; what Redis calls deprecated is not there either",
        explains: |words, _, larder| ABSENT.iter().any(|name| named(words, name)) && says(larder, "unknown command"),
    },
    Intended {
        asked: "SET k v; OBJECT FREQ k",
        redis: r"-ERR An LFU maxmemory policy is not selected, access frequency not tracked. Please note that when switching between policies at runtime LRU and LFU data will take some time to adjust.\r\n",
        larder: r":0\r\n",
        because: "reads are counted, whatever is evicted by",
        explains: |words, redis, larder| named(words, "OBJECT") && says(redis, "LFU maxmemory policy") && larder.integer().is_some(),
    },
    Intended {
        asked: "SET k a; APPEND k b; OBJECT ENCODING k",
        redis: r"$3\r\nraw\r\n",
        larder: r"$6\r\nembstr\r\n",
        because: "the encoding is told from the value, and not from how it came about",
        explains: |words, redis, larder| {
            // What is made by `INCRBYFLOAT` is never `int` in Redis.
            let told = (redis.bytes(), larder.bytes());
            named(words, "OBJECT") && matches!(told, (Some(b"raw"), Some(b"embstr" | b"int")) | (Some(b"embstr"), Some(b"int")))
        },
    },
    Intended {
        asked: "SET k 0.3; INCRBYFLOAT k 5000",
        redis: r"$22\r\n5000.29999999999999982\r\n",
        larder: r"$6\r\n5000.3\r\n",
        because: "Redis adds in the long doubles of its machine; larder adds decimals exactly, and doubles where there are too many digits",
        explains: |words, redis, larder| {
            let (redis, larder) = (number(redis), number(larder));
            named(words, "INCRBYFLOAT") && redis.zip(larder).is_some_and(|(redis, larder)| (redis - larder).abs() <= 1e-15 * redis.abs())
        },
    },
    Intended {
        asked: "SET k 1e308; INCRBYFLOAT k 1e308; STRLEN k",
        redis: r":309\r\n",
        larder: r":5\r\n",
        because: "a double is infinite where a long double is not",
        explains: |words, redis, larder| {
            named(words, "INCRBYFLOAT") && number(redis).is_some_and(|sum| sum.abs() >= DOUBLE_MAX) && larder.error().is_some()
        },
    },
    Intended {
        asked: "INCRBYFLOAT k 0x10",
        redis: r"$2\r\n16\r\n",
        larder: r"-ERR value is not a valid float\r\n",
        because: "nobody writes hexadecimal increments but by mistake",
        explains: |words, _, larder| words.get(2).is_some_and(|word| word.starts_with(b"0x")) && says(larder, "not a valid float"),
    },
    Intended {
        asked: r"NOSUCH a\0b",
        redis: r"-ERR unknown command 'NOSUCH', with args beginning with: 'a' \r\n",
        larder: r"-ERR unknown command 'NOSUCH', with args beginning with: 'a\x00b' \r\n",
        because: "Redis takes the words for strings of C, which end at a zero byte",
        explains: |words, redis, larder| words.iter().any(|word| word.contains(&0)) && says(redis, "unknown ") && says(larder, "unknown "),
    },
    Intended {
        asked: "SCAN -1",
        redis: r"*2\r\n$1\r\n0\r\n*0\r\n",
        larder: r"-ERR invalid cursor\r\n",
        because: "no scan has returned such a cursor",
        explains: |words, _, larder| {
            let is_odd = |word: &Vec<u8>| word.is_empty() || word.starts_with(b"-") || word.starts_with(b"+");
            named(words, "SCAN") && words.get(1).is_some_and(is_odd) && says(larder, "invalid cursor")
        },
    },
];

/// Bytes that are no commands, or are none to larder: what both say until the connection ends, and why.
#[rustfmt::skip] // A table.
const BYTES: &[(&[u8], &str, &str, &str)] = &[
    (b"SET k a\0b\r\nPING\r\n", "", r"+OK\r\n+PONG\r\n", "Redis looks for the end of a line no further than a zero byte"),
    (b"\0\r\nPING\r\n", "", r"-ERR unknown command '\x00', with args beginning with: \r\n+PONG\r\n", "the same"),
    (b"*1048577\r\n", "", r"-ERR Protocol error: invalid multibulk length\r\n", "two thousand million words are not waited for"),
    (b"*1\r\n$4\r\nPINGxx*1\r\n$4\r\nPING\r\n", r"+PONG\r\n+PONG\r\n", r"-ERR Protocol error: expected a line end\r\n",
        "a wrong length is noticed at once, and not when the next word is garbage"),
];

fn named(words: &Words, name: &str) -> bool {
    words.first().is_some_and(|word| word.eq_ignore_ascii_case(name.as_bytes()))
}

fn says(value: &Value, text: &str) -> bool {
    value.error().is_some_and(|error| String::from_utf8_lossy(error).contains(text))
}

fn number(value: &Value) -> Option<f64> {
    std::str::from_utf8(value.bytes()?).ok()?.parse().ok()
}

/// Why these replies, Redis' first, may differ, if there is a reason.
pub fn reason(words: &Words, redis: &Value, larder: &Value) -> Option<&'static str> {
    INTENDED.iter().find(|intended| (intended.explains)(words, redis, larder)).map(|intended| intended.because)
}

#[test]
fn what_differs_on_purpose_differs_as_is_written_here() {
    let Some(sides) = Sides::start() else { return };
    let mut wrong = Vec::new();
    for Intended { asked, redis, larder, because, .. } in INTENDED {
        let mut both = Both::connect(&sides);
        both.begin_anew();
        let commands: Vec<Words> = asked.split(';').map(words).collect();
        let said = both.clients().each_mut().map(|client| {
            let replies: Vec<_> = commands.iter().map(|words| client.ask(words).expect("it answers")).collect();
            replies.last().expect("something was asked").clone()
        });
        let told = [&said[0], &said[1]].map(|reply| reply.raw.escape_ascii().to_string().replace(r"\'", "'"));
        if told != [redis.to_string(), larder.to_string()] {
            wrong.push(format!("{asked} ({because}): Redis and larder say {told:?}, here stands {:?}", [redis, larder]));
        }
        // Where the last word is a length, it is the command before it that differs.
        let is_seen = !asked.ends_with("STRLEN k");
        if is_seen && reason(commands.last().expect("something was asked"), &said[0].value, &said[1].value) != Some(because) {
            wrong.push(format!("{asked} ({because}): it does not explain itself"));
        }
    }
    for (bytes, redis, larder, because) in BYTES {
        let said = sides.addrs().map(|addr| {
            let mut client = Client::connect(addr).expect("it listens");
            client.send(bytes).expect("it takes bytes");
            shown(&client.rest().expect("it ends the connection")).replace(r"\'", "'")
        });
        if said != [redis.to_string(), larder.to_string()] {
            wrong.push(format!("{} ({because}): Redis and larder say {said:?}, here stands {:?}", shown(bytes), [redis, larder]));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
