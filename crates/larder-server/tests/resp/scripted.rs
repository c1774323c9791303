//! The corners that chance does not find, as scripts: a command a line, a blank line between cases that begin with empty servers and new
//! connections. `@2` asks over a second connection, `@gone KEY` waits until it is, `@scan OPTIONS` scans all of both.

use super::differential::Both;
use super::sides::Sides;
use super::wire::words;

/// The scripts, by name.
const SCRIPTS: [(&str, &str); 6] = [
    ("strings", include_str!("scripts/strings.txt")),
    ("numbers", include_str!("scripts/numbers.txt")),
    ("expiry", include_str!("scripts/expiry.txt")),
    ("keyspace", include_str!("scripts/keyspace.txt")),
    ("connection", include_str!("scripts/connection.txt")),
    ("transactions", include_str!("scripts/transactions.txt")),
];

/// Runs one script on both, and fails with all differences.
fn play(sides: &Sides, name: &str, resp3: bool) {
    let (_, script) = SCRIPTS.iter().find(|(known, _)| *known == name).expect("there is a script of that name");
    let mut found = Vec::new();
    let (mut compared, mut line_number) = (0, 0);
    let mut lines = script.lines().peekable();
    while lines.peek().is_some() {
        let (mut first, mut second) = (Both::connect(sides), Both::connect(sides));
        first.begin_anew();
        for both in [&mut first, &mut second] {
            assert!(!resp3 || both.run("HELLO 3"), "the protocol could not be chosen: {:?}", both.differences);
        }
        for line in lines.by_ref().take_while(|line| !line.trim().is_empty()) {
            line_number += 1;
            let is_same = match line.split_once(' ') {
                _ if line.starts_with('#') => true,
                Some(("@2", rest)) => second.run(rest),
                Some(("@scan", rest)) => first.scan(&words(rest)),
                Some(("@gone", key)) => {
                    first.wait_until_gone(&words(key)[0]);
                    true
                }
                _ => first.run(line),
            };
            if !is_same {
                println!("{name}.txt:{line_number}: {line}");
            }
        }
        line_number += 1;
        for both in [first, second] {
            compared += both.compared;
            found.extend(both.differences.into_iter().map(|difference| difference.story));
        }
    }
    assert!(found.is_empty(), "{name}, {} differences in {compared} replies:\n{}", found.len(), found.join("\n"));
    assert!(compared > 20, "of {name} only {compared} replies were compared");
}

/// Both protocols, the scripts one after the other: a script is a fraction of a second.
fn plays(name: &str) {
    let Some(sides) = Sides::start() else { return };
    for resp3 in [false, true] {
        play(&sides, name, resp3);
    }
}

#[test]
fn strings_are_as_they_are_in_redis() {
    plays("strings");
}

#[test]
fn numbers_are_as_they_are_in_redis() {
    plays("numbers");
}

#[test]
fn expiry_is_as_it_is_in_redis() {
    plays("expiry");
}

#[test]
fn the_keyspace_is_as_it_is_in_redis() {
    plays("keyspace");
}

#[test]
fn connections_are_as_they_are_in_redis() {
    plays("connection");
}

#[test]
fn transactions_are_as_they_are_in_redis() {
    plays("transactions");
}

#[test]
fn redis_does_not_differ_from_redis_in_any_script() {
    let Some(sides) = Sides::doubles(&[]) else { return };
    for (name, _) in SCRIPTS {
        for resp3 in [false, true] {
            play(&sides, name, resp3);
        }
    }
}
