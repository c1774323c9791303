//! Byte strings in JSON: keys, tags, patterns and values alike.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};

/// A byte string. In JSON, a string stands for its UTF-8 bytes; bytes that are no UTF-8 are `{"base64": "..."}` (RFC 4648,
/// with padding). Both forms are read, whatever the bytes are.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "Form", try_from = "Form")]
pub struct Octets(pub Vec<u8>);

#[derive(Serialize, Deserialize)]
#[serde(untagged, expecting = "expected a string, or {\"base64\": \"...\"} for bytes that are no UTF-8")]
enum Form {
    Text(String),
    Encoded(Encoded),
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Encoded {
    base64: String,
}

impl From<Octets> for Form {
    fn from(octets: Octets) -> Self {
        match String::from_utf8(octets.0) {
            Ok(text) => Form::Text(text),
            Err(bytes) => Form::Encoded(Encoded { base64: STANDARD.encode(bytes.as_bytes()) }),
        }
    }
}

impl TryFrom<Form> for Octets {
    type Error = String;

    fn try_from(form: Form) -> Result<Self, String> {
        match form {
            Form::Text(text) => Ok(Octets(text.into_bytes())),
            Form::Encoded(Encoded { base64 }) => {
                STANDARD.decode(base64).map(Octets).map_err(|error| format!("this is not base64 with padding: {error}"))
            }
        }
    }
}

impl From<&[u8]> for Octets {
    fn from(bytes: &[u8]) -> Self {
        Octets(bytes.into())
    }
}

impl AsRef<[u8]> for Octets {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Octets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\"", self.0.escape_ascii())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn text_is_a_string_and_other_bytes_are_base64() {
        assert_eq!(serde_json::to_string(&Octets::from("a:\u{e4}".as_bytes())).unwrap(), "\"a:\u{e4}\"");
        assert_eq!(serde_json::to_string(&Octets(vec![0xff, 0])).unwrap(), r#"{"base64":"/wA="}"#);
        assert_eq!(serde_json::from_str::<Octets>(r#"{"base64":"YQ=="}"#).unwrap(), Octets(b"a".into()));
        for bad in ["1", "null", "{}", r#"{"base64":"YQ"}"#, r#"{"base64":"*"}"#, r#"{"base64":"","more":1}"#] {
            assert!(serde_json::from_str::<Octets>(bad).is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn bytes_survive_json(bytes in proptest::collection::vec(any::<u8>(), 0..60)) {
            let octets = Octets(bytes);
            let text = serde_json::to_string(&octets).unwrap();
            prop_assert_eq!(serde_json::from_str::<Octets>(&text).unwrap(), octets);
        }
    }
}
