//! Comma-separated traces: columns by the names that such files use for them.

use larder::sizing::{Access, ENTRY_OVERHEAD};

use super::{number, shown};

/// Columns that are read at most.
const COLUMNS_MAX: usize = 256;

const KEY: [&str; 8] = ["key", "id", "obj_id", "object", "object_id", "block", "lba", "key_id"];
const SIZE: [&str; 7] = ["size", "bytes", "obj_size", "object_size", "value_size", "len", "length"];
/// In microseconds.
const COST: [&str; 5] = ["cost", "cost_us", "load_us", "latency_us", "miss_cost"];

/// Where the columns are that matter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Columns {
    key: usize,
    size: Option<usize>,
    cost: Option<usize>,
}

/// The read of a line. The first line decides about the columns: it names them, or it is a read itself and its first column the key.
pub(super) fn access(line: &str, columns: &mut Option<Columns>, entry_bytes: u32, take: &mut impl FnMut(Access)) -> Result<(), String> {
    let words = words(line)?;
    let columns = match columns {
        Some(columns) => columns,
        None => match named(&words)? {
            Some(named) => {
                *columns = Some(named);
                return Ok(());
            }
            None => columns.insert(Columns { key: 0, size: None, cost: None }),
        },
    };
    let word = |at: usize| words.get(at).map(|word| word.trim()).ok_or_else(|| format!("it has no column {}", at + 1));
    let key = word(columns.key)?;
    if key.is_empty() {
        return Err("the key is empty".to_owned());
    }
    let bytes = match columns.size {
        // A key and a value, and what keeping them costs.
        Some(at) => clamped(number(word(at)?)?).saturating_add(ENTRY_OVERHEAD),
        None => entry_bytes,
    };
    let cost = columns.cost.map_or(Ok(0), |at| cost_us(word(at)?))?;
    take(Access::new(key.as_bytes(), bytes, cost));
    Ok(())
}

/// The columns that a line names; none, if it is a read.
fn named(words: &[String]) -> Result<Option<Columns>, String> {
    let find = |names: &[&str]| words.iter().position(|word| names.contains(&word.trim().to_ascii_lowercase().as_str()));
    if let Some(key) = find(&KEY) {
        return Ok(Some(Columns { key, size: find(&SIZE), cost: find(&COST) }));
    }
    match words {
        [_] => Ok(None),
        _ => Err(format!("the first line names no key; one of its columns must be called {}", KEY.join(", "))),
    }
}

fn cost_us(word: &str) -> Result<u32, String> {
    let cost: f64 = word.parse().map_err(|_| format!("expected a cost in microseconds, found {}", shown(word)))?;
    if cost.is_finite() && cost >= 0.0 { Ok(cost as u32) } else { Err(format!("a cost is no {}", shown(word))) }
}

fn clamped(number: u64) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

/// The columns of a line. What stands in quotes may have commas, and two quotes in it are one (RFC 4180); it does not go on in the next
/// line, as no key of a trace does.
fn words(line: &str) -> Result<Vec<String>, String> {
    let (mut words, mut word, mut quoted) = (Vec::new(), String::new(), false);
    let mut rest = line.chars().peekable();
    while let Some(c) = rest.next() {
        match c {
            '"' if quoted && rest.peek() == Some(&'"') => {
                rest.next();
                word.push('"');
            }
            '"' if quoted || word.trim().is_empty() => quoted = !quoted,
            ',' if !quoted => words.push(std::mem::take(&mut word)),
            c => word.push(c),
        }
        if words.len() >= COLUMNS_MAX {
            return Err(format!("it has more than {COLUMNS_MAX} columns"));
        }
    }
    if quoted {
        return Err("a quote is not closed".to_owned());
    }
    words.push(word);
    Ok(words)
}
