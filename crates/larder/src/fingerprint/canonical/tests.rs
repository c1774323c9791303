//! Canonical JSON against a plain comparison of values, and against what serde_json reads.

use std::collections::BTreeMap;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

fn text<T: Serialize + ?Sized>(value: &T) -> String {
    String::from_utf8(canonical_json(value).unwrap()).unwrap()
}

/// An object whose members are written in the order they are given in.
struct Ordered(Vec<(String, Value)>);

impl Serialize for Ordered {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(key, value)| (key, value)))
    }
}

#[derive(Serialize)]
enum Shape {
    Point,
    Circle(f32),
    Line(u8, u8),
    Rectangle { width: u8, height: u8 },
}

#[test]
fn each_number_has_one_form() {
    for (expected, equal) in [
        ("1", vec![text(&1u8), text(&1i64), text(&1.0f32), text(&1.0f64), text(&1u128)]),
        ("0", vec![text(&0u8), text(&-0.0f64), text(&0.0f32)]),
        ("-3", vec![text(&-3i8), text(&-3.0f32), text(&-3i128)]),
        ("1e-1", vec![text(&0.1f32), text(&0.1f64)]),
        ("18446744073709551615", vec![text(&u64::MAX), text(&u128::from(u64::MAX))]),
        ("1e20", vec![text(&1e20f64), text(&100_000_000_000_000_000_000u128), text(&1e20f32)]),
        ("NaN", vec![text(&f32::NAN), text(&f64::NAN), text(&-f64::NAN)]),
        ("-Infinity", vec![text(&f32::NEG_INFINITY), text(&f64::NEG_INFINITY)]),
        ("null", vec![text(&None::<f64>), text(&())]),
    ] {
        for form in equal {
            assert_eq!(form, expected);
        }
    }
    assert_ne!(text(&9_007_199_254_740_993u64), text(&9_007_199_254_740_992u64), "integers are not rounded to doubles");
}

#[test]
fn enums_are_written_as_serde_json_writes_them() {
    let shapes = [Shape::Point, Shape::Circle(1.5), Shape::Line(1, 2), Shape::Rectangle { width: 2, height: 1 }];
    assert_eq!(text(&shapes), r#"["Point",{"Circle":1.5e0},{"Line":[1,2]},{"Rectangle":{"height":1,"width":2}}]"#);
}

#[test]
fn keys_are_text_or_can_be() {
    assert_eq!(text(&BTreeMap::from([(10, 'a'), (9, 'b')])), r#"{"10":"a","9":"b"}"#);
    assert_eq!(text(&BTreeMap::from([(true, 1)])), r#"{"true":1}"#);
    let error = canonical_json(&BTreeMap::from([(vec![1], 1)])).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Codec);
    assert!(error.to_string().contains("a key of a map"), "{error}");
}

#[test]
fn text_that_looks_like_something_else_is_text() {
    assert_eq!(text(&json!(["NaN", "1", "a\"b\\c\n", "\u{7f}é"])), r#"["NaN","1","a\"b\\c\n","é"]"#.replace("é", "\u{7f}é"));
}

/// Equal as numbers, text and structure: what the canonical form is to say.
fn equal(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(a), Value::Number(b)) => match (a.as_i128(), b.as_i128()) {
            (Some(a), Some(b)) => a == b,
            (None, None) => a.as_f64() == b.as_f64(),
            (Some(whole), None) => is_exactly(b.as_f64().unwrap(), whole),
            (None, Some(whole)) => is_exactly(a.as_f64().unwrap(), whole),
        },
        (Value::Array(a), Value::Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| equal(a, b)),
        (Value::Object(a), Value::Object(b)) => a.len() == b.len() && a.iter().all(|(key, a)| b.get(key).is_some_and(|b| equal(a, b))),
        (a, b) => a == b,
    }
}

fn is_exactly(float: f64, whole: i128) -> bool {
    float.fract() == 0.0 && float.abs() < 1e30 && float as i128 == whole
}

fn any_json() -> impl Strategy<Value = Value> {
    let number = prop_oneof![
        any::<i64>().prop_map(|n| json!(n)),
        any::<u64>().prop_map(|n| json!(n)),
        any::<f64>().prop_map(|n| json!(n)),
        (-3i64..3).prop_map(|n| json!(n)),
        (-3i64..3).prop_map(|n| json!(n as f64)),
        (-3i64..3).prop_map(|n| json!(n as f64 / 2.0)),
    ];
    let leaf = prop_oneof![Just(Value::Null), any::<bool>().prop_map(Value::from), number, ".{0,6}".prop_map(Value::from)];
    leaf.prop_recursive(4, 40, 5, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
            proptest::collection::btree_map("[ab\"\\\\:,]{0,2}", inner, 0..5).prop_map(|members| members.into_iter().collect()),
        ]
    })
}

/// Two that are often equal: the second is the first written and read again, with whole numbers as floating-point ones.
fn in_floats(value: &Value) -> Value {
    match value {
        Value::Number(number) => match number.as_i64().filter(|n| n.unsigned_abs() < 1 << 53) {
            Some(whole) => json!(whole as f64),
            None => value.clone(),
        },
        Value::Array(elements) => elements.iter().map(in_floats).collect(),
        Value::Object(members) => members.iter().map(|(key, value)| (key.clone(), in_floats(value))).collect(),
        other => other.clone(),
    }
}

proptest! {
    #[test]
    fn the_form_is_equal_exactly_where_the_values_are(a in any_json(), b in any_json()) {
        prop_assert_eq!(text(&a) == text(&b), equal(&a, &b));
        prop_assert_eq!(text(&a), text(&in_floats(&a)));
    }

    #[test]
    fn the_order_of_members_does_not_count(members in proptest::collection::btree_map(".{0,4}", any_json(), 0..6), seed: u64) {
        let given: Vec<_> = members.into_iter().collect();
        let mut shuffled = given.clone();
        fastrand::Rng::with_seed(seed).shuffle(&mut shuffled);
        prop_assert_eq!(text(&Ordered(given)), text(&Ordered(shuffled)));
    }

    /// What can be read by any parser of JSON reads back as the same.
    #[test]
    fn it_is_json(value in any_json()) {
        let read: Value = serde_json::from_str(&text(&value)).unwrap();
        prop_assert_eq!(text(&read), text(&value));
    }

    #[test]
    fn one_changed_leaf_counts(mut elements in proptest::collection::vec(any::<i64>(), 1..300), at: prop::sample::Index) {
        let before = text(&elements);
        let at = at.index(elements.len());
        elements[at] = elements[at].wrapping_add(1);
        prop_assert_ne!(text(&elements), before);
    }
}
