//! Subscriptions: the shapes of their replies in both protocols, and what may be asked meanwhile.

use super::sides::Sides;
use super::wire::{Client, shown, shown_words, words};

/// What is said over one connection, in order, and how many replies each has.
const SAID: &[(&str, usize)] = &[
    ("SUBSCRIBE", 1),
    ("PSUBSCRIBE", 1),
    ("UNSUBSCRIBE", 1),
    ("PUNSUBSCRIBE", 1),
    ("UNSUBSCRIBE a", 1),
    ("UNSUBSCRIBE a b", 2),
    ("PUNSUBSCRIBE a*", 1),
    ("SUBSCRIBE a", 1),
    ("SUBSCRIBE a b c", 3),
    ("SUBSCRIBE a a", 2),
    (r"SUBSCRIBE \r\n\0\xff", 1),
    ("SUBSCRIBE __keyevent@0__:expired", 1),
    ("PSUBSCRIBE x* __keyspace@0__:*", 2),
    ("PING", 1),
    ("PING hello", 1),
    ("PING a b", 1),
    ("GET k", 1),
    ("SET k", 1),
    ("NOSUCH k", 1),
    ("UNSUBSCRIBE b", 1),
    ("UNSUBSCRIBE", 4),
    ("PUNSUBSCRIBE x*", 1),
    ("PUNSUBSCRIBE", 1),
    ("PUNSUBSCRIBE", 1),
];

/// After that the connection is one like others again.
const AFTER: [(&str, usize); 3] = [("PING", 1), ("GET absent", 1), ("UNSUBSCRIBE", 1)];

fn conversation(client: &mut Client, lines: &[(&str, usize)]) -> Vec<Vec<String>> {
    lines
        .iter()
        .map(|(line, replies)| {
            client.send(&super::wire::encoded(&words(line))).expect("it takes commands");
            let mut said: Vec<String> = (0..*replies)
                .map(|_| shown(&client.reply().unwrap_or_else(|error| panic!("{line} has a reply too few: {error}")).raw))
                .collect();
            // Without names all are left, in an order that is each server's own; the number that is left counts down all the same.
            if words(line).len() == 1 {
                said.sort_by_key(|reply| reply.split_once("$").map(|(_, rest)| rest.len()));
                said.iter_mut().for_each(|reply| reply.truncate(24));
            }
            said
        })
        .collect()
}

fn compare(sides: &Sides, protocol: &str) {
    let [redis, larder] = sides.clients().map(|mut client| {
        client.ask(&["HELLO", protocol]).expect("it answers");
        let mut said = conversation(&mut client, SAID);
        said.extend(conversation(&mut client, &AFTER));
        client.ask(&["SUBSCRIBE", "z"]).expect("it answers");
        said.push(vec![shown(&client.ask(&["RESET"]).expect("it answers").raw)]);
        said.push(vec![shown(&client.ask(&["GET", "absent"]).expect("it answers").raw)]);
        said
    });
    let asked = SAID.iter().chain(&AFTER).map(|(line, _)| shown_words(&words(line))).chain(["RESET".to_owned(), "GET absent".to_owned()]);
    let wrong: Vec<String> = (asked.zip(redis.iter().zip(&larder)))
        .filter(|(_, (redis, larder))| redis != larder)
        .map(|(asked, (redis, larder))| format!("{asked}\n  Redis:  {redis:?}\n  larder: {larder:?}"))
        .collect();
    assert!(wrong.is_empty(), "in RESP{protocol} {} differ:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn subscriptions_are_answered_as_redis_answers_them() {
    let Some(sides) = Sides::start() else { return };
    for protocol in ["2", "3"] {
        compare(&sides, protocol);
    }
}

#[test]
fn subscriptions_to_redis_do_not_differ_from_those_to_redis() {
    let Some(sides) = Sides::doubles(&[]) else { return };
    for protocol in ["2", "3"] {
        compare(&sides, protocol);
    }
}
