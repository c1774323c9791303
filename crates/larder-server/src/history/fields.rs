//! What is stored of a window, one column for each: named once, so that the schema, writing and reading follow one list.
//!
//! - Counters and sizes are integers.
//! - Latencies are blobs in the form of [`Latencies::to_bytes`]: the sum in nanoseconds, then for each bucket that holds any how many
//!   empty ones lie before it and how many it holds, each a LEB128 number. Empty, where there are none.
//! - The sketch of a cardinality is a blob in the form of [`Cardinality::to_bytes`]; beside it is what it comes to.
//! - A ranking is JSON: a list of pairs of a key and its amount, `[["features:AAPL",12]]`; a key that is no text stands as
//!   `{"hex":"ff00"}`.

use larder::analytics::{Cardinality, Ranked, Ranking, Sketches, Window};
use larder::{Counts, Latencies};
use rusqlite::types::{Value, ValueRef};
use serde_json::json;

use crate::hex;

/// How a value is kept in a column.
pub(super) trait Stored: Sized {
    /// The column's type, and what it holds where nothing was written.
    const TYPE: &'static str;

    fn store(&self) -> Value;

    /// What was stored; `None` where it is something else.
    fn restore(value: ValueRef<'_>) -> Option<Self>;
}

impl Stored for u64 {
    const TYPE: &'static str = "INTEGER NOT NULL DEFAULT 0";

    /// What is too large for SQLite is as good as its largest number: no counter gets there.
    fn store(&self) -> Value {
        Value::Integer(i64::try_from(*self).unwrap_or(i64::MAX))
    }

    fn restore(value: ValueRef<'_>) -> Option<Self> {
        value.as_i64().ok().and_then(|number| u64::try_from(number).ok())
    }
}

impl Stored for Latencies {
    const TYPE: &'static str = "BLOB NOT NULL DEFAULT x''";

    fn store(&self) -> Value {
        Value::Blob(self.to_bytes())
    }

    fn restore(value: ValueRef<'_>) -> Option<Self> {
        value.as_blob().ok().and_then(Latencies::from_bytes)
    }
}

impl Stored for Cardinality {
    const TYPE: &'static str = "BLOB NOT NULL DEFAULT x''";

    fn store(&self) -> Value {
        Value::Blob(self.to_bytes())
    }

    fn restore(value: ValueRef<'_>) -> Option<Self> {
        value.as_blob().ok().and_then(Cardinality::from_bytes)
    }
}

impl Stored for Ranking {
    const TYPE: &'static str = "TEXT NOT NULL DEFAULT '[]'";

    fn store(&self) -> Value {
        let key = |ranked: &Ranked| match std::str::from_utf8(&ranked.key) {
            Ok(text) => json!(text),
            Err(_) => json!({ "hex": hex::of(&ranked.key) }),
        };
        let pairs: Vec<_> = self.iter().map(|ranked| json!([key(ranked), ranked.amount])).collect();
        Value::Text(serde_json::Value::from(pairs).to_string())
    }

    fn restore(value: ValueRef<'_>) -> Option<Self> {
        let pairs: Vec<(serde_json::Value, u64)> = serde_json::from_str(value.as_str().ok()?).ok()?;
        let ranked = pairs.into_iter().map(|(key, amount)| {
            let key = match &key {
                serde_json::Value::String(text) => text.as_bytes().into(),
                other => hex::parse(other.get("hex")?.as_str()?)?.into(),
            };
            Some(Ranked { key, amount })
        });
        ranked.collect::<Option<Vec<_>>>().map(Ranking::new)
    }
}

/// A column of a table, of something that is stored as a whole.
pub(super) struct Field<W> {
    pub(super) name: &'static str,
    pub(super) kind: &'static str,
    pub(super) store: fn(&W) -> Value,
    /// Whether what was stored could be put in.
    pub(super) restore: fn(&mut W, ValueRef<'_>) -> bool,
}

macro_rules! fields {
    ($whole:ty: $($name:ident: $type:ty),+ $(,)?) => {
        [$(Field {
            name: stringify!($name),
            kind: <$type as Stored>::TYPE,
            store: |whole: &$whole| whole.$name.store(),
            restore: |whole: &mut $whole, value| match <$type as Stored>::restore(value) {
                Some(found) => { whole.$name = found; true }
                None => false,
            },
        }),+]
    };
}

/// A window's sizes.
pub(super) const SIZES: [Field<Window>; 4] = fields!(Window: entries: u64, bytes: u64, entries_sum: u64, bytes_sum: u64);

/// How long its reads took.
pub(super) const LATENCIES: [Field<Window>; 5] = fields!(
    Window: hit_memory: Latencies, hit_backing: Latencies, miss: Latencies, error: Latencies, load: Latencies,
);

/// Which keys it had. They are in tables of their own, which nobody has to read for the rest.
pub(super) const SKETCHES: [Field<Sketches>; 10] = fields!(
    Sketches: keys: Cardinality, hot_reads: Ranking, hot_bytes: Ranking, hot_cost: Ranking, largest: Ranking,
    age_expired: Latencies, age_evicted: Latencies, age_invalidated: Latencies, age_unread: Latencies, reuse_bytes: Latencies,
);

/// The column beside a cardinality's sketch that says what it comes to, for who reads the file by hand.
pub(super) const KEYS_ESTIMATE: &str = "keys_estimate";

/// The counters' names: columns of the same name.
pub(super) const COUNTERS: &[&str] = &Counts::NAMES;

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// Whoever adds something to a window finds out here that it has to be stored.
    #[test]
    fn everything_that_a_window_has_is_stored() {
        let members = |value: serde_json::Value| value.as_object().expect("it has members").keys().cloned().collect::<BTreeSet<_>>();
        let window = members(serde_json::to_value(Window::default()).expect("a window is JSON"));
        let stored = SIZES.iter().chain(&LATENCIES).map(|field| field.name).chain(["counts", "sketches"]);
        assert_eq!(window, stored.map(str::to_owned).collect());
        let sketches = members(serde_json::to_value(Sketches::default()).expect("sketches are JSON"));
        assert_eq!(sketches, SKETCHES.iter().map(|field| field.name.to_owned()).collect());
    }

    #[test]
    fn no_two_columns_have_a_name() {
        let columns: Vec<&str> = COUNTERS.iter().copied().chain(SIZES.iter().chain(&LATENCIES).map(|field| field.name)).collect();
        let keys = ["start_ms", "instance", "namespace"];
        let all: BTreeSet<&str> = columns.iter().copied().chain(keys).collect();
        assert_eq!(all.len(), columns.len() + keys.len());
    }

    #[test]
    fn rankings_are_read_as_they_were_written_whatever_the_keys() {
        let keys: [&[u8]; 4] = [b"features:AAPL", b"a \"b\" \\", &[0xff, 0], "\u{e4}".as_bytes()];
        let ranking = Ranking::new(keys.iter().zip(1..).map(|(key, amount)| Ranked { key: (*key).into(), amount }));
        let Value::Text(text) = ranking.store() else { panic!("a ranking is text") };
        assert!(text.contains(r#"["features:AAPL",1]"#) && text.contains(r#"{"hex":"ff00"}"#), "{text}");
        assert_eq!(Ranking::restore(ValueRef::Text(text.as_bytes())), Some(ranking));
        for bad in ["", "{}", "[1]", r#"[["a",-1]]"#, r#"[[{"hex":"f"},1]]"#, r#"[[{"hex":"xx"},1]]"#, r#"[[3,1]]"#] {
            assert_eq!(Ranking::restore(ValueRef::Text(bad.as_bytes())), None, "{bad}");
        }
    }
}
