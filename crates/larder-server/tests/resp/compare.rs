//! When two replies to one command count as the same. Most have to agree byte for byte; the rules for the rest are all here, and what
//! differs on purpose is in `intended.rs`.

use super::wire::Value;

/// How far apart times may be in two servers that were asked one after the other, in milliseconds.
const APART_MS_MAX: i64 = 200;

/// The same where whole seconds are told, each rounded in its own way at its own moment.
const APART_SECONDS_MAX: i64 = 1;

/// What has to agree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rule {
    /// Every byte.
    Exact,
    /// A number, give or take this.
    Within(i64),
    /// The parts, in any order.
    Unordered,
    /// The kinds of all parts, however they are filled: what is each server's own.
    Shape,
    /// Whether there is something.
    Presence,
    /// The parts, each by a rule of its own.
    Each(Vec<Rule>),
}

/// What has to agree in the replies to this command.
pub fn rule<W: AsRef<[u8]>>(words: &[W]) -> Rule {
    let upper = |position: usize| words.get(position).map(|word| word.as_ref().to_ascii_uppercase()).unwrap_or_default();
    match &upper(0)[..] {
        b"PTTL" | b"PEXPIRETIME" => Rule::Within(APART_MS_MAX),
        b"TTL" | b"EXPIRETIME" => Rule::Within(APART_SECONDS_MAX),
        b"KEYS" => Rule::Unordered,
        b"RANDOMKEY" => Rule::Presence,
        b"TIME" | b"SCAN" => Rule::Shape,
        b"CLIENT" if upper(1) == b"ID" => Rule::Shape,
        // Redis shares the small numbers among its keys, and with them how long they were not read.
        b"OBJECT" if upper(1) == b"IDLETIME" => Rule::Shape,
        // Server, version, number of the connection.
        b"HELLO" => Rule::Each(vec![
            Rule::Exact,
            Rule::Shape,
            Rule::Exact,
            Rule::Shape,
            Rule::Exact,
            Rule::Exact,
            Rule::Exact,
            Rule::Shape,
            Rule::Exact,
            Rule::Exact,
            Rule::Exact,
            Rule::Exact,
            Rule::Exact,
            Rule::Exact,
        ]),
        _ => Rule::Exact,
    }
}

/// Whether they agree.
pub fn agree(rule: &Rule, one: &Value, other: &Value) -> bool {
    if one == other {
        return true;
    }
    // An error is told byte for byte whatever the rule is about.
    if one.error().is_some() || other.error().is_some() {
        return false;
    }
    match rule {
        Rule::Exact => false,
        Rule::Within(apart) => match (one.integer(), other.integer()) {
            // Below zero they are no times: there is no key, or it lives for ever.
            (Some(one), Some(other)) => one >= 0 && other >= 0 && one.abs_diff(other) <= apart.unsigned_abs(),
            _ => false,
        },
        Rule::Unordered => match (one.parts(), other.parts()) {
            (Some(ones), Some(others)) => sorted(ones) == sorted(others),
            _ => false,
        },
        Rule::Shape => same_shape(one, other),
        Rule::Presence => one.is_nil() == other.is_nil(),
        Rule::Each(rules) => match (one, other) {
            (Value::Parts(kind, Some(ones)), Value::Parts(other_kind, Some(others))) => {
                let fits = kind == other_kind && ones.len() == others.len() && ones.len() == rules.len();
                fits && rules.iter().zip(ones).zip(others).all(|((rule, one), other)| agree(rule, one, other))
            }
            _ => false,
        },
    }
}

fn sorted(parts: &[Value]) -> Vec<&Value> {
    let mut sorted: Vec<&Value> = parts.iter().collect();
    sorted.sort();
    sorted
}

fn same_shape(one: &Value, other: &Value) -> bool {
    match (one, other) {
        (Value::Line(one, _), Value::Line(other, _)) => one == other,
        (Value::Bulk(one, some), Value::Bulk(other, others)) => one == other && some.is_some() == others.is_some(),
        // How many there are is each server's own in what only has a shape: a page of a scan.
        (Value::Parts(one, Some(ones)), Value::Parts(other, Some(others))) => {
            one == other && ones.iter().zip(others).all(|(one, other)| same_shape(one, other))
        }
        _ => false,
    }
}

#[test]
fn times_may_differ_a_little_and_their_absence_may_not() {
    let number = |number: i64| Value::Line(b':', number.to_string().into());
    let ttl = rule(&["pttl", "k"]);
    assert!(agree(&ttl, &number(1000), &number(1150)));
    for (one, other) in [(1000, 1201), (100, -1), (-1, -2), (-2, 5)] {
        assert!(!agree(&ttl, &number(one), &number(other)), "{one} and {other}");
    }
    assert!(!agree(&rule(&["INCR", "k"]), &number(1), &number(2)));
}
