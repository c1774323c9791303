//! Patterns over keys, and the shapes that make most of them as cheap as a key.
//!
//! Keys are segments joined by `:`. In a pattern `*` stands for exactly one segment and a last `**` for any number of
//! remaining ones, none included:
//!
//! ```text
//! features:*:AAPL:*     four segments, the first and third given
//! prediction:**         the key `prediction` and all that begin with `prediction:`
//! feat*:[A-M]*:5m       a glob: wildcards inside segments, as Redis writes them, never across a `:`
//! features:\*:5m        a backslash makes the next byte literal
//! ```
//!
//! A pattern without globs is a [`Shape`] (which places are literal, whether the end is open) and its literals. All keys
//! that match it have those literals in those places, so shape and literals together are an ordinary *name*: a key is
//! projected onto each shape in use, and the projection is looked up like a tag. A million pattern invalidations of one
//! shape thus cost an entry one look-up. A glob has no such projection and must be matched one by one.

use crate::error::{Error, ErrorKind, Result};
use crate::key::{KEY_LEN_MAX, SEPARATOR, segments};

mod glob;
mod relation;

use glob::Glob;

/// The most places a [`Shape`] can describe. A pattern with a literal beyond them is widened.
const PLACES_MAX: usize = 48;

/// A pattern over keys.
///
/// ```
/// use larder::Pattern;
/// let pattern: Pattern = "features:*:AAPL:**".parse().unwrap();
/// assert!(pattern.matches(b"features:v2:AAPL:5m"));
/// assert!(!pattern.matches(b"features:v2:AAPLW:5m"));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern {
    text: Box<[u8]>,
    places: Vec<Place>,
    open: bool,
}

/// What a pattern asks of one segment.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Place {
    Literal(Box<[u8]>),
    Any,
    Glob(Glob),
}

impl Pattern {
    /// Reads a pattern.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidPattern`] when it is empty, longer than a key can be, has `**` anywhere but last, an unclosed
    /// `[`, or a backslash at its end.
    pub fn new(text: impl AsRef<[u8]>) -> Result<Self> {
        let text = text.as_ref();
        parse(text).map_err(|why| {
            let shown = text[..text.len().min(64)].escape_ascii();
            Error::new(ErrorKind::InvalidPattern, format!("the pattern \"{shown}\" {why}"))
        })
    }

    /// The pattern that matches `key` and nothing else.
    pub fn literal(key: impl AsRef<[u8]>) -> Self {
        let key = key.as_ref();
        let places = segments(key).map(|segment| Place::Literal(segment.into())).collect();
        Pattern { text: escape(key).into_boxed_slice(), places, open: false }
    }

    /// The pattern of everything in a namespace.
    pub(crate) fn namespace(name: &str) -> Self {
        let mut text = escape(name.as_bytes());
        text.extend_from_slice(b":**");
        Pattern { text: text.into_boxed_slice(), places: vec![Place::Literal(name.as_bytes().into())], open: true }
    }

    /// The text it was read from.
    pub fn text(&self) -> &[u8] {
        &self.text
    }

    /// Whether a key matches.
    pub fn matches(&self, key: &[u8]) -> bool {
        let mut key = segments(key);
        self.places.iter().all(|place| key.next().is_some_and(|segment| place.matches(segment))) && (self.open || key.next().is_none())
    }

    /// The bytes that every matching key begins with.
    pub(crate) fn prefix(&self) -> Vec<u8> {
        let mut prefix = Vec::new();
        for (i, place) in self.places.iter().enumerate() {
            let Place::Literal(literal) = place else { return prefix };
            prefix.extend_from_slice(literal);
            if i + 1 < self.places.len() {
                prefix.push(SEPARATOR);
            }
        }
        prefix
    }

    /// The shape, unless the pattern has globs or too many places for one.
    pub(crate) fn shape(&self) -> Option<Shape> {
        (!self.has_globs() && self.places.len() <= PLACES_MAX).then(|| {
            let mask = self.places.iter().enumerate().filter(|(_, place)| matches!(place, Place::Literal(_)));
            Shape::new(mask.fold(0, |mask, (i, _)| mask | 1 << i), self.places.len(), self.open)
        })
    }

    /// The literals in their places, in order.
    pub(crate) fn literals(&self) -> impl Iterator<Item = &[u8]> {
        self.places.iter().filter_map(|place| match place {
            Place::Literal(literal) => Some(&**literal),
            _ => None,
        })
    }

    /// Whether it is all of one namespace, and nothing else.
    pub(crate) fn is_namespace(&self) -> bool {
        self.open && matches!(self.places.as_slice(), [Place::Literal(_)])
    }

    /// Whether it has wildcards inside segments.
    pub(crate) fn has_globs(&self) -> bool {
        self.places.iter().any(|place| matches!(place, Place::Glob(_)))
    }

    /// Whether it matches every key.
    pub(crate) fn is_everything(&self) -> bool {
        self.places.is_empty() && self.open
    }

    /// The first `depth` literal segments, and anything behind them: a pattern that matches at least what this one does.
    /// `None` when it has no leading literal, or `depth` is zero: only everything is wide enough then.
    pub(crate) fn widened(&self, depth: usize) -> Option<(Shape, Vec<&[u8]>)> {
        let leading: Vec<&[u8]> = self
            .places
            .iter()
            .map_while(|place| match place {
                Place::Literal(literal) => Some(&**literal),
                _ => None,
            })
            .take(depth.min(PLACES_MAX))
            .collect();
        (!leading.is_empty()).then(|| (Shape::leading(leading.len()), leading))
    }
}

impl std::str::FromStr for Pattern {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        Pattern::new(text)
    }
}

impl std::fmt::Display for Pattern {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.text.escape_ascii())
    }
}

impl Place {
    fn matches(&self, segment: &[u8]) -> bool {
        match self {
            Place::Literal(literal) => **literal == *segment,
            Place::Any => true,
            Place::Glob(glob) => glob.matches(segment),
        }
    }
}

/// Puts a backslash before every byte that means something in a pattern, so that a value can stand in one as itself.
///
/// The separator `:` cannot be escaped: a value that contains one has more than one segment, and whoever renders a
/// pattern from values must refuse it.
pub fn escape(value: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(value.len());
    for &byte in value {
        if matches!(byte, b'*' | b'?' | b'[' | b']' | b'\\') {
            out.push(b'\\');
        }
        out.push(byte);
    }
    out
}

fn parse(text: &[u8]) -> Result<Pattern, &'static str> {
    if text.is_empty() {
        return Err("is empty");
    }
    // Escapes may double a key's length; what they stand for may not be longer than a key.
    if text.len() > 2 * KEY_LEN_MAX {
        return Err("is longer than any key");
    }
    let mut parts: Vec<&[u8]> = segments(text).collect();
    let open = parts.last() == Some(&b"**".as_slice());
    if open {
        parts.pop();
    }
    let places = parts.into_iter().map(parse_place).collect::<Result<_, _>>()?;
    Ok(Pattern { text: text.into(), places, open })
}

fn parse_place(segment: &[u8]) -> Result<Place, &'static str> {
    match segment {
        b"*" => Ok(Place::Any),
        b"**" => Err("has ** where it is not the last segment"),
        _ => Ok(match Glob::parse(segment)? {
            glob::Parsed::Literal(literal) => Place::Literal(literal),
            glob::Parsed::Glob(glob) => Place::Glob(glob),
        }),
    }
}

/// Which places of a key are literal in a pattern, how many places there are, and whether the end is open.
///
/// One word, so that the set of shapes in use is an array of atomics: bits 0-47 the literal places, 48-53 how many
/// places, 62 always set (a free slot is zero), 63 open.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Shape(pub(crate) u64);

impl Shape {
    const OPEN: u64 = 1 << 63;
    const IN_USE: u64 = 1 << 62;

    fn new(mask: u64, places: usize, open: bool) -> Self {
        Shape(mask | (places as u64) << 48 | Self::IN_USE | if open { Self::OPEN } else { 0 })
    }

    /// `depth` literals and anything behind them.
    pub(crate) fn leading(depth: usize) -> Self {
        Shape::new((1 << depth) - 1, depth, true)
    }

    /// Whether a key of so many segments can match.
    pub(crate) fn fits(self, segments: usize) -> bool {
        let places = (self.0 >> 48 & 0x3f) as usize;
        if self.0 & Self::OPEN != 0 { segments >= places } else { segments == places }
    }

    /// The segments of `key` that stand in the literal places. Meaningful only where the shape fits.
    pub(crate) fn literals_of(self, key: &[u8]) -> impl Iterator<Item = &[u8]> {
        segments(key).take(PLACES_MAX).enumerate().filter(move |(i, _)| self.0 >> i & 1 == 1).map(|(_, segment)| segment)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn pattern(text: &str) -> Pattern {
        text.parse().unwrap()
    }

    #[test]
    fn a_star_is_one_segment_and_two_are_the_rest() {
        for (text, yes, no) in [
            (
                "features:*:AAPL:*",
                vec!["features:a:AAPL:5m", "features::AAPL:"],
                vec!["features:a:AAP:5m", "features:a:AAPLW:5m", "features:a:AAPL"],
            ),
            ("prediction:**", vec!["prediction", "prediction:", "prediction:a:b"], vec!["predictions:a", "pre"]),
            ("**", vec!["a", "a:b"], vec![]),
            ("*", vec!["a"], vec!["a:b"]),
            (r"f\*:5m", vec!["f*:5m"], vec!["fx:5m"]),
            ("f[a-c]*:?m:**", vec!["fb:5m", "fax:5m:x"], vec!["fd:5m", "fb:15m", "f:5m"]),
        ] {
            for key in yes {
                assert!(pattern(text).matches(key.as_bytes()), "{text} matches {key}");
            }
            for key in no {
                assert!(!pattern(text).matches(key.as_bytes()), "{text} does not match {key}");
            }
        }
    }

    #[test]
    fn a_bad_pattern_says_what_is_wrong() {
        for (text, says) in [("", "is empty"), ("a:**:b", "not the last"), ("a:[b", "unclosed"), (r"a:b\", "backslash"), ("a:[]", "empty")]
        {
            let error = Pattern::new(text).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidPattern);
            assert!(error.to_string().contains(says), "{text}: {error}");
        }
        assert!(Pattern::new("x".repeat(2 * KEY_LEN_MAX + 1)).is_err());
    }

    #[test]
    fn only_globs_have_no_shape() {
        assert_eq!(pattern("a:*:b").shape(), Some(Shape::new(0b101, 3, false)));
        assert_eq!(pattern("a:**").shape(), Some(Shape::leading(1)));
        assert_eq!(pattern("a:b?").shape(), None);
        assert_eq!(pattern(r"a:b\?").shape(), Some(Shape::new(0b11, 2, false)));
        assert!(pattern("**").is_everything());
        let deep = vec!["s"; PLACES_MAX + 1].join(":");
        assert_eq!(pattern(&deep).shape(), None);
        assert_eq!(pattern(&deep).widened(usize::MAX).unwrap().0, Shape::leading(PLACES_MAX));
    }

    #[test]
    fn widening_keeps_the_leading_literals() {
        let glob = pattern("a:b:c*:d");
        assert_eq!(glob.widened(9), Some((Shape::leading(2), vec![b"a".as_slice(), b"b"])));
        assert_eq!(glob.widened(1), Some((Shape::leading(1), vec![b"a".as_slice()])));
        assert_eq!(pattern("*:a").widened(9), None);
        assert_eq!(glob.prefix(), b"a:b:");
        assert_eq!(pattern("a:b").prefix(), b"a:b");
    }

    pub(super) fn small_key() -> impl Strategy<Value = String> {
        proptest::collection::vec("[ab]{0,2}", 1..5)
            .prop_map(|parts| parts.join(":"))
            .prop_filter("keys are not empty", |key| !key.is_empty())
    }

    fn small_pattern() -> impl Strategy<Value = String> {
        let place = prop_oneof![3 => "[ab]{0,2}", 2 => Just("*".to_string())];
        (proptest::collection::vec(place, 1..5), any::<bool>())
            .prop_map(|(mut parts, open)| {
                if open {
                    parts.push("**".into());
                }
                parts.join(":")
            })
            .prop_filter("patterns are not empty", |text| !text.is_empty())
    }

    /// A matcher so plain that it can be believed: segment lists, compared recursively.
    fn plainly_matches(pattern: &[&str], key: &[&str]) -> bool {
        match (pattern, key) {
            (["**"], _) => true,
            ([], []) => true,
            (["*", rest @ ..], [_, key @ ..]) => plainly_matches(rest, key),
            ([literal, rest @ ..], [segment, key @ ..]) => literal == segment && plainly_matches(rest, key),
            _ => false,
        }
    }

    proptest! {
        #[test]
        fn patterns_agree_with_a_plain_matcher(text in small_pattern(), key in small_key()) {
            let expected = plainly_matches(&text.split(':').collect::<Vec<_>>(), &key.split(':').collect::<Vec<_>>());
            prop_assert_eq!(pattern(&text).matches(key.as_bytes()), expected);
        }

        /// What the index relies on: a key matches exactly when its projection onto the shape is the pattern's literals.
        #[test]
        fn projection_is_matching(text in small_pattern(), key in small_key()) {
            let pattern = pattern(&text);
            let shape = pattern.shape().unwrap();
            let projected = shape.fits(segments(key.as_bytes()).count()) && shape.literals_of(key.as_bytes()).eq(pattern.literals());
            prop_assert_eq!(projected, pattern.matches(key.as_bytes()));
        }

        #[test]
        fn an_escaped_value_matches_itself_only(value in "[a\\*\\?\\[\\]\\\\]{1,6}", other in "[a\\*\\?\\[\\]\\\\]{1,6}") {
            let pattern = Pattern::new(escape(value.as_bytes())).unwrap();
            prop_assert!(pattern.matches(value.as_bytes()));
            prop_assert_eq!(pattern.matches(other.as_bytes()), value == other);
        }

        #[test]
        fn widening_never_loses_a_key(text in "([ab]{0,1}[*?]{0,1}:){0,3}[ab*]{1,2}", depth in 1usize..4, key in small_key()) {
            let Ok(pattern) = Pattern::new(&text) else { return Ok(()) };
            if let (true, Some((shape, literals))) = (pattern.matches(key.as_bytes()), pattern.widened(depth)) {
                prop_assert!(shape.fits(segments(key.as_bytes()).count()));
                prop_assert!(shape.literals_of(key.as_bytes()).eq(literals.into_iter()));
            }
        }

        #[test]
        fn no_text_panics(text in proptest::collection::vec(any::<u8>(), 0..40), key in proptest::collection::vec(any::<u8>(), 1..40)) {
            if let Ok(pattern) = Pattern::new(&text) {
                let matched = pattern.matches(&key);
                prop_assert!(!matched || key.starts_with(&pattern.prefix()));
            }
        }
    }
}
