//! Keys, tags and their limits.
//!
//! A key is a byte string of 1 to 1,024 bytes whose segments are joined by `:`; its first segment is its namespace.
//! A tag is a byte string of 1 to 128 bytes; an entry carries up to 32.

use crate::error::{Error, ErrorKind, Result};

/// The longest key, in bytes, namespace included. Long enough for any name a person would type, short enough that a key
/// fits a header line, a log record and a stack buffer.
pub const KEY_LEN_MAX: usize = 1024;

/// The longest tag, in bytes.
pub const TAG_LEN_MAX: usize = 128;

/// The most tags an entry may carry. Each is one more line of the index to look at when an entry is checked.
pub const TAGS_MAX: usize = 32;

/// Separates the segments of a key.
pub const SEPARATOR: u8 = b':';

/// What keys begin with that are the cache's own: those of its probes. No other key may, and they are in no listing, count or report.
pub(crate) const RESERVED: &[u8] = b"\0larder:";

/// An entry's tags, owned.
pub(crate) type Tags = Box<[Box<[u8]>]>;

/// Checks a whole key.
pub(crate) fn check_key(key: &[u8]) -> Result<()> {
    match key.len() {
        0 => Err(Error::new(ErrorKind::InvalidKey, "a key has at least one byte")),
        n if n > KEY_LEN_MAX => {
            let shown = &key[..32];
            Err(Error::new(ErrorKind::InvalidKey, format!("a key has at most {KEY_LEN_MAX} bytes, this one has {n}"))
                .during("check", shown))
        }
        _ if is_reserved(key) => Err(Error::new(ErrorKind::InvalidKey, "keys that begin with \"\\0larder:\" are the cache's own")),
        _ => Ok(()),
    }
}

/// Whether a key is the cache's own.
pub(crate) fn is_reserved(key: &[u8]) -> bool {
    key.starts_with(RESERVED)
}

/// Checks one tag.
pub(crate) fn check_tag(tag: &[u8]) -> Result<()> {
    match tag.len() {
        0 => Err(Error::new(ErrorKind::InvalidTag, "a tag has at least one byte")),
        n if n > TAG_LEN_MAX => {
            let shown = tag[..32].escape_ascii();
            Err(Error::new(ErrorKind::InvalidTag, format!("a tag has at most {TAG_LEN_MAX} bytes, \"{shown}...\" has {n}")))
        }
        _ => Ok(()),
    }
}

/// Checks all tags of an entry, and puts them in one order without repetition, so that equal sets are equal records.
pub(crate) fn check_tags(mut tags: Vec<Box<[u8]>>) -> Result<Tags> {
    tags.sort_unstable();
    tags.dedup();
    if tags.len() > TAGS_MAX {
        return Err(Error::new(ErrorKind::InvalidTag, format!("an entry has at most {TAGS_MAX} tags, this one has {}", tags.len())));
    }
    tags.iter().try_for_each(|tag| check_tag(tag))?;
    Ok(tags.into_boxed_slice())
}

/// Checks the name of a namespace: one segment of a key, free of anything a pattern could mistake.
pub(crate) fn check_namespace(name: &str) -> Result<()> {
    let plain = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-' | '.');
    if name.is_empty() || name.len() > TAG_LEN_MAX || !name.chars().all(plain) {
        let message =
            format!("a namespace is 1 to {TAG_LEN_MAX} bytes of letters, digits, '_', '-' and '.', not \"{}\"", name.escape_debug());
        return Err(Error::new(ErrorKind::InvalidConfig, message));
    }
    Ok(())
}

/// The segments of a key, in order. There is always at least one.
pub(crate) fn segments(key: &[u8]) -> impl Iterator<Item = &[u8]> {
    key.split(|byte| *byte == SEPARATOR)
}

/// A key's namespace: its first segment.
pub(crate) fn namespace_of(key: &[u8]) -> &[u8] {
    let end = key.iter().position(|byte| *byte == SEPARATOR).unwrap_or(key.len());
    &key[..end]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_limits_and_not_one_less() {
        assert!(check_key(&[b'k'; KEY_LEN_MAX]).is_ok());
        assert!(check_tag(&[b't'; TAG_LEN_MAX]).is_ok());
        let error = check_key(&[b'k'; KEY_LEN_MAX + 1]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidKey);
        assert!(error.to_string().contains("at most 1024 bytes, this one has 1025"), "{error}");
        assert_eq!(check_tag(&[b't'; TAG_LEN_MAX + 1]).unwrap_err().kind(), ErrorKind::InvalidTag);
        assert_eq!(check_key(b"").unwrap_err().kind(), ErrorKind::InvalidKey);
        assert_eq!(check_key(b"\0larder:x").unwrap_err().kind(), ErrorKind::InvalidKey);
        assert!(check_key(b"\0larder").is_ok() && check_key(b"larder:x").is_ok());
        assert_eq!(check_tag(b"").unwrap_err().kind(), ErrorKind::InvalidTag);
    }

    #[test]
    fn tags_are_a_set() {
        let tags = check_tags(vec![b"b".as_slice().into(), b"a".as_slice().into(), b"b".as_slice().into()]).unwrap();
        assert_eq!(tags, Box::from([Box::from(b"a".as_slice()), Box::from(b"b".as_slice())]));
        let many = (0..33u8).map(|i| Box::from([i].as_slice())).collect();
        assert_eq!(check_tags(many).unwrap_err().kind(), ErrorKind::InvalidTag);
    }

    #[test]
    fn the_namespace_is_the_first_segment() {
        assert_eq!(namespace_of(b"features:AAPL:5m"), b"features");
        assert_eq!(namespace_of(b"alone"), b"alone");
        assert_eq!(segments(b"a::b").collect::<Vec<_>>(), [b"a".as_slice(), b"", b"b"]);
    }
}
