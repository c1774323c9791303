//! Percent-encoding (RFC 3986) of arbitrary bytes, and the pairs of a query. It knows nothing of what the bytes mean.

use std::borrow::Cow;

/// A `%` that is not followed by two hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadPercent;

/// The bytes that a text stands for.
///
/// # Errors
/// [`BadPercent`]: guessing what was meant could name another key.
pub fn decode(text: &[u8]) -> Result<Vec<u8>, BadPercent> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((&byte, behind)) = rest.split_first() {
        rest = behind;
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let (&[high, low], behind) = rest.split_first_chunk().ok_or(BadPercent)?;
        bytes.push(nibble(high)? << 4 | nibble(low)?);
        rest = behind;
    }
    Ok(bytes)
}

fn nibble(digit: u8) -> Result<u8, BadPercent> {
    char::from(digit).to_digit(16).map(|value| value as u8).ok_or(BadPercent)
}

/// Bytes as visible ASCII without `%`, or any of `reserved`.
pub fn encode(bytes: &[u8], reserved: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for &byte in bytes {
        if byte.is_ascii_graphic() && byte != b'%' && !reserved.contains(&byte) {
            text.push(char::from(byte));
        } else {
            text.push_str(&format!("%{byte:02X}"));
        }
    }
    text
}

/// The value of a name in a query, as an HTML form writes it. The first of several; `None` where there is none.
///
/// # Errors
/// [`BadPercent`] in that value.
pub fn query_value(query: &str, name: &str) -> Result<Option<Vec<u8>>, BadPercent> {
    let pairs = query.split('&').map(|pair| pair.split_once('=').unwrap_or((pair, "")));
    let value = pairs.into_iter().find(|(found, _)| *found == name).map(|(_, value)| value);
    value.map(|value| decode(form_text(value).as_bytes())).transpose()
}

/// Forms write a blank as `+`.
fn form_text(value: &str) -> Cow<'_, str> {
    if value.contains('+') { value.replace('+', " ").into() } else { value.into() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn rubbish_is_refused_and_not_guessed_at() {
        for bad in ["%", "%4", "a%zz", "%+1", "%%41", "%4\u{e4}"] {
            assert_eq!(decode(bad.as_bytes()), Err(BadPercent), "{bad}");
        }
        assert_eq!(decode(b"a%3aB%2F%00%ff+").unwrap(), b"a:B/\x00\xff+");
    }

    #[test]
    fn a_query_gives_the_first_of_a_name() {
        let query = "pattern=features%3A*&limit=&pattern=x&blank=a+b%2B";
        assert_eq!(query_value(query, "pattern").unwrap().unwrap(), b"features:*");
        assert_eq!(query_value(query, "limit").unwrap().unwrap(), b"");
        assert_eq!(query_value(query, "blank").unwrap().unwrap(), b"a b+");
        assert_eq!(query_value(query, "cursor"), Ok(None));
        assert_eq!(query_value("a=%", "a"), Err(BadPercent));
    }

    proptest! {
        #[test]
        fn what_is_encoded_decodes_to_itself(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
            let text = encode(&bytes, b",");
            prop_assert!(text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b','));
            prop_assert_eq!(decode(text.as_bytes()).unwrap(), bytes);
        }

        #[test]
        fn no_text_panics(bytes in proptest::collection::vec(any::<u8>(), 0..80), query in ".{0,60}") {
            prop_assert!(decode(&bytes).is_ok_and(|decoded| decoded.len() <= bytes.len()) || bytes.contains(&b'%'));
            prop_assert!(query_value(&query, "a").is_ok() || query.contains('%'));
        }
    }
}
