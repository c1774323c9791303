//! What a setting can hold: reading it from TOML or from text, and writing it as TOML.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use toml::Spanned;
use toml::de::{DeInteger, DeValue};

use super::secret::{REFERENCE_EXPECTED, RedisAddress, Reference};
use super::units::{SIZE_EXPECTED, Size, TIME_EXPECTED, parse_size, parse_time, show_time};

/// What is expected of a setting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A folder.
    Path,
    /// A file.
    File,
    /// A text that is not empty, and what it is.
    Text(&'static str),
    /// What must not stand in a configuration: only where it is to be found does.
    Secret,
    /// Where Redis is, or where that is to be found.
    RedisAddress,
    /// Where events come from, or where that is to be found.
    SourceAddress,
    /// Bytes, at least so many.
    Size {
        /// The least.
        least: u64,
    },
    /// A time.
    Time,
    /// An address and a port.
    Address,
    /// One of these words.
    Choice(&'static [&'static str]),
    /// Yes or no.
    Flag,
    /// A share from 0 to 1.
    Share,
    /// A whole number.
    Count {
        /// The least.
        least: u64,
        /// The most.
        most: u64,
    },
    /// A list of texts, and one that could be in it.
    Texts(&'static str),
    /// A list of what [`Kind::Secret`] is one of.
    Secrets,
}

/// What was found in the place of a reference to a secret.
const UNSHOWN: &str = "a text that is not shown here";

/// What a setting holds.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// See [`Kind::Path`] and [`Kind::File`].
    Path(PathBuf),
    /// See [`Kind::Text`].
    Text(String),
    /// See [`Kind::Secret`].
    Secret(Reference),
    /// See [`Kind::RedisAddress`].
    RedisAddress(RedisAddress),
    /// See [`Kind::SourceAddress`].
    SourceAddress(RedisAddress),
    /// See [`Kind::Size`].
    Size(u64),
    /// See [`Kind::Time`].
    Time(Duration),
    /// See [`Kind::Address`].
    Address(SocketAddr),
    /// See [`Kind::Choice`].
    Choice(&'static str),
    /// See [`Kind::Flag`].
    Flag(bool),
    /// See [`Kind::Share`].
    Share(f64),
    /// See [`Kind::Count`].
    Count(u64),
    /// See [`Kind::Texts`].
    Texts(Vec<String>),
    /// See [`Kind::Secrets`].
    Secrets(Vec<Reference>),
}

impl Kind {
    /// What is expected, as the end of a sentence.
    pub fn expected(self) -> String {
        match self {
            Self::Path => "a folder, as text that is not empty".to_owned(),
            Self::File => "a file, as text that is not empty".to_owned(),
            Self::Text(what) => what.to_owned(),
            Self::Secret => REFERENCE_EXPECTED.to_owned(),
            Self::RedisAddress => format!("an address such as \"redis://127.0.0.1:6379\", or {REFERENCE_EXPECTED} that holds one"),
            Self::SourceAddress => {
                format!("an address such as \"postgres://larder@127.0.0.1/shop\", or {REFERENCE_EXPECTED} that holds one")
            }
            Self::Size { least } if least <= 1 => SIZE_EXPECTED.to_owned(),
            Self::Size { least } => format!("{SIZE_EXPECTED}, at least {}", Size(least)),
            Self::Time => TIME_EXPECTED.to_owned(),
            Self::Address => "an address with its port such as \"127.0.0.1:7070\"".to_owned(),
            Self::Choice(words) => words.iter().map(|word| format!("\"{word}\"")).collect::<Vec<_>>().join(" or "),
            Self::Flag => "true or false".to_owned(),
            Self::Share => "a share from 0 to 1".to_owned(),
            Self::Count { least, most } => format!("a whole number from {least} to {most}"),
            Self::Texts(one) => format!("a list of texts such as [\"{one}\"]"),
            Self::Secrets => format!("a list of {REFERENCE_EXPECTED}"),
        }
    }

    /// Reads text from the environment or a flag.
    ///
    /// # Errors
    /// What was found.
    pub fn parse(self, text: &str) -> Result<Value, String> {
        let value = match self {
            Self::Path | Self::File => (!text.is_empty()).then(|| Value::Path(text.into())),
            Self::Text(_) => (!text.is_empty()).then(|| Value::Text(text.into())),
            // What stands there is likely to be the secret itself, so it is not repeated.
            Self::Secret => return Reference::parse(text).map(Value::Secret).ok_or_else(|| UNSHOWN.to_owned()),
            Self::RedisAddress => RedisAddress::parse(text).map(Value::RedisAddress),
            Self::SourceAddress => RedisAddress::parse(text).map(Value::SourceAddress),
            Self::Size { least } => parse_size(text).filter(|bytes| *bytes >= least).map(Value::Size),
            Self::Time => parse_time(text).map(Value::Time),
            Self::Address => text.parse().ok().map(Value::Address),
            Self::Choice(words) => words.iter().find(|word| **word == text).map(|word| Value::Choice(word)),
            Self::Flag => text.parse().ok().map(Value::Flag),
            Self::Share => text.parse().ok().and_then(share),
            Self::Count { least, most } => text.parse().ok().filter(|number| (least..=most).contains(number)).map(Value::Count),
            Self::Texts(_) => Some(Value::Texts(listed(text).map(str::to_owned).collect())),
            Self::Secrets => return secrets(listed(text).map(Some)),
        };
        value.ok_or_else(|| format!("\"{}\"", text.escape_debug()))
    }

    /// Reads a value of the file.
    ///
    /// # Errors
    /// What was found.
    pub fn read(self, found: &DeValue<'_>) -> Result<Value, String> {
        let value = match (self, found) {
            (Self::Path | Self::File | Self::Text(_) | Self::Secret | Self::RedisAddress | Self::SourceAddress, DeValue::String(text))
            | (Self::Size { .. } | Self::Time | Self::Address | Self::Choice(_), DeValue::String(text)) => return self.parse(text),
            (Self::Size { least }, DeValue::Integer(number)) => unsigned(number).filter(|bytes| *bytes >= least).map(Value::Size),
            (Self::Count { least, most }, DeValue::Integer(number)) => {
                unsigned(number).filter(|number| (least..=most).contains(number)).map(Value::Count)
            }
            (Self::Flag, DeValue::Boolean(flag)) => Some(Value::Flag(*flag)),
            (Self::Share, DeValue::Float(number)) => number.as_str().parse().ok().and_then(share),
            (Self::Share, DeValue::Integer(number)) => unsigned(number).and_then(|number| share(number as f64)),
            (Self::Texts(_), DeValue::Array(items)) => texts(items.iter()),
            (Self::Secrets, DeValue::Array(items)) => return secrets(items.iter().map(|item| item.get_ref().as_str())),
            (Self::Secret | Self::Secrets, _) => return Err(UNSHOWN.to_owned()),
            // It may be a secret key in the place of a list of public ones.
            (Self::Texts(_), DeValue::String(_)) => return Err("one text".to_owned()),
            _ => None,
        };
        value.ok_or_else(|| describe(found))
    }
}

fn share(number: f64) -> Option<Value> {
    (0.0..=1.0).contains(&number).then_some(Value::Share(number))
}

fn unsigned(number: &DeInteger<'_>) -> Option<u64> {
    u64::from_str_radix(number.as_str(), number.radix()).ok()
}

/// A list in the environment.
fn listed(text: &str) -> impl Iterator<Item = &str> {
    text.split(',').map(str::trim).filter(|text| !text.is_empty())
}

fn secrets<'a>(items: impl Iterator<Item = Option<&'a str>>) -> Result<Value, String> {
    let references: Option<Vec<Reference>> = items.map(|item| item.and_then(Reference::parse)).collect();
    references.map(Value::Secrets).ok_or_else(|| format!("a list with {UNSHOWN} in it"))
}

fn texts<'a, 'i: 'a>(items: impl Iterator<Item = &'a Spanned<DeValue<'i>>>) -> Option<Value> {
    items.map(|item| item.get_ref().as_str().map(str::to_owned)).collect::<Option<Vec<_>>>().map(Value::Texts)
}

/// A value of the file in words: `the number -5`.
pub fn describe(found: &DeValue<'_>) -> String {
    match found {
        DeValue::String(text) => format!("\"{}\"", text.escape_debug()),
        DeValue::Integer(number) => format!("the number {number}"),
        DeValue::Float(number) => format!("the number {number}"),
        DeValue::Boolean(flag) => flag.to_string(),
        DeValue::Datetime(time) => format!("the time {time}"),
        DeValue::Array(items) => match items.iter().find(|item| !item.get_ref().is_str()) {
            Some(other) if !items.is_empty() => format!("a list with {} in it", describe(other.get_ref())),
            _ => "a list".to_owned(),
        },
        DeValue::Table(_) => "a table".to_owned(),
    }
}

/// As TOML.
impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Path(path) => write!(f, "{}", quoted(&path.to_string_lossy())),
            Self::Text(text) => write!(f, "{}", quoted(text)),
            Self::Secret(reference) => write!(f, "{}", quoted(&reference.to_string())),
            Self::RedisAddress(address) | Self::SourceAddress(address) => write!(f, "{}", quoted(&address.to_string())),
            Self::Size(bytes) => write!(f, "\"{}\"", Size(*bytes)),
            Self::Time(time) => write!(f, "\"{}\"", show_time(*time)),
            Self::Address(address) => write!(f, "\"{address}\""),
            Self::Choice(word) => write!(f, "\"{word}\""),
            Self::Flag(flag) => write!(f, "{flag}"),
            Self::Share(share) => write!(f, "{share:?}"),
            Self::Count(number) => write!(f, "{number}"),
            Self::Texts(texts) => {
                let texts: Vec<String> = texts.iter().map(|text| quoted(text)).collect();
                write!(f, "[{}]", texts.join(", "))
            }
            Self::Secrets(references) => {
                let texts: Vec<String> = references.iter().map(|reference| quoted(&reference.to_string())).collect();
                write!(f, "[{}]", texts.join(", "))
            }
        }
    }
}

/// A text as TOML writes it.
pub fn quoted(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}

impl Value {
    /// As JSON.
    pub fn json(&self) -> serde_json::Value {
        match self {
            Self::Path(path) => path.to_string_lossy().into(),
            Self::Text(text) => text.as_str().into(),
            Self::Secret(reference) => reference.to_string().into(),
            Self::RedisAddress(address) | Self::SourceAddress(address) => address.to_string().into(),
            Self::Size(bytes) => Size(*bytes).to_string().into(),
            Self::Time(time) => show_time(*time).into(),
            Self::Address(address) => address.to_string().into(),
            Self::Choice(word) => (*word).into(),
            Self::Flag(flag) => (*flag).into(),
            Self::Share(share) => (*share).into(),
            Self::Count(number) => (*number).into(),
            Self::Texts(texts) => texts.clone().into(),
            Self::Secrets(references) => references.iter().map(ToString::to_string).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_found_is_described() {
        let file = toml::de::DeTable::parse("a = -5\nb = [1]\nc = 1.5\nd = true\ne = {}\nf = 2020-01-01\ng = \"x\"").expect("TOML");
        let described: Vec<String> = file.get_ref().iter().map(|(_, value)| describe(value.get_ref())).collect();
        let expected =
            ["the number -5", "a list with the number 1 in it", "the number 1.5", "true", "a table", "the time 2020-01-01", "\"x\""];
        assert_eq!(described, expected);
    }

    #[test]
    fn numbers_keep_to_their_limits() {
        let count = Kind::Count { least: 1, most: 10 };
        assert_eq!(count.parse("10"), Ok(Value::Count(10)));
        assert!(count.parse("0").is_err() && count.parse("11").is_err() && count.parse("1.5").is_err());
        assert!(Kind::Share.parse("1.01").is_err() && Kind::Share.parse("NaN").is_err());
        assert_eq!(Kind::Size { least: 64 << 10 }.parse("1"), Err("\"1\"".to_owned()));
        assert!(count.expected().contains("1 to 10"));
    }

    #[test]
    fn texts_are_quoted_as_toml() {
        let value = Value::Texts(vec!["a\"b".to_owned(), "c\\d".to_owned()]);
        let table: toml::Table = format!("tags = {value}").parse().expect("it is TOML");
        assert_eq!(table["tags"].as_array().expect("a list")[0].as_str(), Some("a\"b"));
    }
}
