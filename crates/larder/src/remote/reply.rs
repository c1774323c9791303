//! Replies of Redis taken apart. What has not the shape that was asked for is an error and never a guess.

use ::redis::Value;

use crate::error::{Error, ErrorKind, Result};

pub(crate) fn unexpected(what: &str) -> Error {
    Error::new(ErrorKind::Tier, format!("Redis answered {what} in a form that this version does not know"))
}

pub(crate) fn list(value: Value, what: &str) -> Result<Vec<Value>> {
    match value {
        Value::Array(items) | Value::Set(items) => Ok(items),
        Value::Nil => Ok(Vec::new()),
        _ => Err(unexpected(what)),
    }
}

/// A list of exactly so many.
pub(crate) fn exactly<const N: usize>(value: Value, what: &str) -> Result<[Value; N]> {
    list(value, what)?.try_into().map_err(|_| unexpected(what))
}

pub(crate) fn bytes(value: Value, what: &str) -> Result<Vec<u8>> {
    match value {
        Value::BulkString(bytes) => Ok(bytes),
        Value::SimpleString(text) => Ok(text.into_bytes()),
        Value::VerbatimString { text, .. } => Ok(text.into_bytes()),
        Value::Okay => Ok(b"OK".to_vec()),
        _ => Err(unexpected(what)),
    }
}

pub(crate) fn text(value: Value, what: &str) -> Result<String> {
    String::from_utf8(bytes(value, what)?).map_err(|_| unexpected(what))
}

pub(crate) fn number(value: Value, what: &str) -> Result<u64> {
    match value {
        Value::Int(number) => u64::try_from(number).map_err(|_| unexpected(what)),
        value => text(value, what)?.parse().map_err(|_| unexpected(what)),
    }
}

/// The server's time, in milliseconds since the Unix epoch, as TIME answers it.
pub(crate) fn time_ms(value: Value) -> Result<u64> {
    let [seconds, micros] = exactly(value, "TIME")?;
    Ok(number(seconds, "TIME")? * 1_000 + number(micros, "TIME")? / 1_000)
}

/// Names and values that alternate, as hashes and stream entries are answered.
pub(crate) fn fields(value: Value, what: &str) -> Result<Vec<(Vec<u8>, Value)>> {
    if let Value::Map(pairs) = value {
        return pairs.into_iter().map(|(name, value)| Ok((bytes(name, what)?, value))).collect();
    }
    let mut items = list(value, what)?.into_iter();
    let mut pairs = Vec::with_capacity(items.len() / 2);
    while let Some(name) = items.next() {
        pairs.push((bytes(name, what)?, items.next().ok_or_else(|| unexpected(what))?));
    }
    Ok(pairs)
}

/// As [`fields`], or as a list of pairs, which is how reads of streams are answered.
pub(crate) fn fields_or_pairs(value: Value, what: &str) -> Result<Vec<(Vec<u8>, Value)>> {
    if let Value::Map(_) = value {
        return fields(value, what);
    }
    let pair = |item| exactly(item, what).and_then(|[name, value]| Ok((bytes(name, what)?, value)));
    list(value, what)?.into_iter().map(pair).collect()
}
