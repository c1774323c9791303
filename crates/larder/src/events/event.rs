//! An event as CloudEvents 1.0 describes it: <https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/spec.md>.

use std::collections::BTreeMap;

use serde_json::{Map, Value as Json, json};

use crate::error::{Error, ErrorKind, Result};

/// The only version of the specification there is events for.
const SPEC_VERSION: &str = "1.0";

/// The longest attribute, in bytes. Identifiers and names, not content.
pub const ATTRIBUTE_LEN_MAX: usize = 1_024;

/// Attributes that the specification gives a meaning; all others are extensions.
const KNOWN: [&str; 9] = ["specversion", "id", "source", "type", "time", "subject", "datacontenttype", "dataschema", "data"];

/// Something that happened in the world.
///
/// ```
/// use larder::events::Event;
/// use serde_json::json;
/// let event = Event::new("market_data_update", json!({ "symbol": "AAPL" })).from("feed/nasdaq").with_id("4711");
/// let same = Event::from_json(event.to_json()).unwrap();
/// assert_eq!(same, event);
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    id: String,
    source: String,
    kind: String,
    time: Option<String>,
    subject: Option<String>,
    data: Json,
    /// `datacontenttype`, `dataschema` and extensions: kept and handed on, and not looked at.
    others: BTreeMap<String, Json>,
}

impl Event {
    /// An event of this process, with an identifier of its own. `kind` is its `type`.
    pub fn new(kind: impl Into<String>, data: Json) -> Self {
        Event {
            id: format!("{:016x}{:016x}", fastrand::u64(..), fastrand::u64(..)),
            source: "larder".into(),
            kind: kind.into(),
            time: None,
            subject: None,
            data,
            others: BTreeMap::new(),
        }
    }

    /// Gives it another identifier: one that its source uses once.
    #[must_use]
    pub fn with_id(self, id: impl Into<String>) -> Self {
        Event { id: id.into(), ..self }
    }

    /// Says where it comes from.
    #[must_use]
    pub fn from(self, source: impl Into<String>) -> Self {
        Event { source: source.into(), ..self }
    }

    /// Says what it is about.
    #[must_use]
    pub fn about(self, subject: impl Into<String>) -> Self {
        Event { subject: Some(subject.into()), ..self }
    }

    /// Reads one in the JSON format of the specification.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidEvent`], naming the attribute that is missing or is not what it should be.
    pub fn from_json(event: Json) -> Result<Self> {
        let Json::Object(mut fields) = event else { return Err(invalid("an event is a JSON object")) };
        match fields.get("specversion") {
            Some(Json::String(version)) if version == SPEC_VERSION => {}
            Some(other) => return Err(invalid(format!("specversion: found {other}, expected \"{SPEC_VERSION}\""))),
            None => return Err(invalid(format!("specversion: missing, expected \"{SPEC_VERSION}\""))),
        }
        let data = match (fields.remove("data"), fields.remove("data_base64")) {
            (Some(_), Some(_)) => return Err(invalid("an event has data or data_base64, not both")),
            (_, Some(_)) => return Err(invalid("data_base64: larder reads the data of events as JSON, so it is given as data")),
            (data, None) => data.unwrap_or_default(),
        };
        let required = |fields: &mut Map<String, Json>, name: &str| text(fields, name)?.ok_or_else(|| invalid(format!("{name}: missing")));
        let event = Event {
            id: required(&mut fields, "id")?,
            source: required(&mut fields, "source")?,
            kind: required(&mut fields, "type")?,
            time: text(&mut fields, "time")?,
            subject: text(&mut fields, "subject")?,
            data,
            others: fields.into_iter().filter(|(name, _)| name != "specversion").collect(),
        };
        event.check()?;
        Ok(event)
    }

    /// The JSON format of the specification.
    pub fn to_json(&self) -> Json {
        let mut event = Map::from_iter(self.others.clone());
        let known = [("specversion", SPEC_VERSION), ("id", &self.id), ("source", &self.source), ("type", &self.kind)];
        event.extend(known.map(|(name, value)| (name.to_owned(), json!(value))));
        event.extend(self.time.iter().map(|time| ("time".to_owned(), json!(time))));
        event.extend(self.subject.iter().map(|subject| ("subject".to_owned(), json!(subject))));
        if !self.data.is_null() {
            event.insert("data".to_owned(), self.data.clone());
        }
        Json::Object(event)
    }

    /// Whether every attribute is as the specification wants it.
    pub(crate) fn check(&self) -> Result<()> {
        let attributes = [("id", Some(&self.id)), ("source", Some(&self.source)), ("type", Some(&self.kind))];
        for (name, value) in attributes.into_iter().chain([("time", self.time.as_ref()), ("subject", self.subject.as_ref())]) {
            match value.map_or(1, String::len) {
                0 => return Err(invalid(format!("{name}: is empty"))),
                len if len > ATTRIBUTE_LEN_MAX => {
                    return Err(invalid(format!("{name}: has at most {ATTRIBUTE_LEN_MAX} bytes, this one has {len}")));
                }
                _ => {}
            }
        }
        if let Some(time) = self.time.as_deref().filter(|time| !is_rfc3339(time)) {
            return Err(invalid(format!("time: found \"{}\", expected a time like 2026-11-26T09:30:00Z", time.escape_debug())));
        }
        let is_name = |name: &str| !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
        match self.others.keys().find(|name| !is_name(name)) {
            Some(name) => Err(invalid(format!("\"{}\": the name of an attribute has small letters and digits only", name.escape_debug()))),
            None => Ok(()),
        }
    }

    /// What its source calls it. Two events of one source with one identifier are the same event.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Where it comes from.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// What kind of thing happened: its `type`.
    pub fn kind(&self) -> &str {
        &self.kind
    }

    /// When it happened, in RFC 3339.
    pub fn time(&self) -> Option<&str> {
        self.time.as_deref()
    }

    /// What it is about, within its source.
    pub fn subject(&self) -> Option<&str> {
        self.subject.as_deref()
    }

    /// What happened.
    pub fn data(&self) -> &Json {
        &self.data
    }

    /// An extension attribute, `datacontenttype` or `dataschema`.
    pub fn attribute(&self, name: &str) -> Option<&Json> {
        self.others.get(name)
    }

    /// Whether an attribute's name is one that the specification itself uses.
    pub fn is_known_attribute(name: &str) -> bool {
        KNOWN.contains(&name)
    }
}

pub(crate) fn invalid(message: impl Into<std::borrow::Cow<'static, str>>) -> Error {
    Error::new(ErrorKind::InvalidEvent, message)
}

fn text(fields: &mut Map<String, Json>, name: &str) -> Result<Option<String>> {
    match fields.remove(name) {
        None | Some(Json::Null) => Ok(None),
        Some(Json::String(text)) => Ok(Some(text)),
        Some(other) => Err(invalid(format!("{name}: found {other}, expected a text"))),
    }
}

/// `date-time` of RFC 3339, section 5.6.
fn is_rfc3339(text: &str) -> bool {
    let bytes = text.as_bytes();
    let number = |from: usize, to: usize| -> Option<u32> {
        let digits = bytes.get(from..to).filter(|digits| digits.iter().all(u8::is_ascii_digit))?;
        Some(digits.iter().fold(0, |number, digit| number * 10 + u32::from(digit - b'0')))
    };
    let is_within = |from, to, low, high| number(from, to).is_some_and(|number| (low..=high).contains(&number));
    let is_at = |at: usize, expected: &[u8]| bytes.get(at).is_some_and(|byte| expected.contains(byte));
    let (Some(year), Some(month), Some(day)) = (number(0, 4), number(5, 7), number(8, 10)) else { return false };
    let is_leap = year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    let days = match month {
        1 | 3 | 5 | 7 | 8 | 10 | 12 => 31,
        4 | 6 | 9 | 11 => 30,
        2 if is_leap => 29,
        2 => 28,
        _ => return false,
    };
    let date = is_at(4, b"-") && is_at(7, b"-") && (1..=days).contains(&day) && is_at(10, b"Tt ");
    // A leap second is second 60.
    let clock = is_within(11, 13, 0, 23) && is_at(13, b":") && is_within(14, 16, 0, 59) && is_at(16, b":") && is_within(17, 19, 0, 60);
    let mut at = 19;
    if is_at(at, b".") {
        let fraction = bytes[at + 1..].iter().take_while(|byte| byte.is_ascii_digit()).count();
        if fraction == 0 {
            return false;
        }
        at += 1 + fraction;
    }
    let zone = match bytes.get(at) {
        Some(b'Z' | b'z') => bytes.len() == at + 1,
        Some(b'+' | b'-') => {
            bytes.len() == at + 6 && is_within(at + 1, at + 3, 0, 23) && is_at(at + 3, b":") && is_within(at + 4, at + 6, 0, 59)
        }
        _ => false,
    };
    date && clock && zone
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_is_named() {
        let with = |name: &str, value: Json| {
            let mut event = json!({ "specversion": "1.0", "id": "1", "source": "s", "type": "t" });
            match value.is_null() {
                true => drop(event.as_object_mut().unwrap().remove(name)),
                false => drop(event.as_object_mut().unwrap().insert(name.to_owned(), value)),
            }
            Event::from_json(event)
        };
        assert_eq!(with("subject", json!("AAPL")).unwrap().subject(), Some("AAPL"));
        for (name, value) in [
            ("specversion", json!("0.3")),
            ("specversion", Json::Null),
            ("id", Json::Null),
            ("id", json!("")),
            ("source", json!(7)),
            ("type", Json::Null),
            ("time", json!("yesterday")),
            ("subject", json!("x".repeat(2_000))),
            ("data_base64", json!("AA==")),
            ("Trace-Id", json!("x")),
        ] {
            let error = with(name, value.clone()).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidEvent);
            assert!(error.to_string().contains(name), "{name} {value}: {error}");
        }
        assert!(Event::from_json(json!([])).is_err());
    }

    #[test]
    fn extensions_are_handed_on() {
        let event = json!({ "specversion": "1.0", "id": "1", "source": "s", "type": "t", "traceparent": "00-1", "data": [1, 2] });
        assert_eq!(Event::from_json(event.clone()).unwrap().to_json(), event);
    }

    #[test]
    fn times_are_those_of_rfc_3339() {
        for good in ["2026-11-26T09:30:00Z", "2024-02-29t23:59:60.123456z", "1990-12-31 15:59:60-08:00", "2026-01-01T00:00:00.0+05:30"] {
            assert!(is_rfc3339(good), "{good}");
        }
        let bad = [
            "",
            "2026",
            "2026-02-29T00:00:00Z",
            "2026-13-01T00:00:00Z",
            "2026-11-26T24:00:00Z",
            "2026-11-26T09:30:00",
            "2026-11-26T09:30:00.Z",
        ];
        for bad in bad.into_iter().chain(["2026-11-26T09:30:00Zx", "2026-11-26T09:30:00+0530", "2026-11-31T09:30:00Z"]) {
            assert!(!is_rfc3339(bad), "{bad}");
        }
    }
}
