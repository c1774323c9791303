//! A grant, and its text:
//!
//! ```text
//!   allow read, write on features:** tags symbol:*
//!   deny invalidate on features:live:**
//!   allow metrics
//! ```
//!
//! `on` and the pattern of keys can be left out, as can `tags` and theirs: then it is all of them. A blank within a pattern has a
//! backslash before it, as everything has in patterns that is to be taken as it is.

use std::fmt;
use std::str::FromStr;

use super::operation::{Operation, Operations};
use crate::error::{Error, ErrorKind, Result};
use crate::pattern::Pattern;

/// The longest text of a grant: two patterns and some words.
const TEXT_LEN_MAX: usize = 8 * 1_024;

/// Whether a grant gives or takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// What it is about may be done, unless another denies it.
    Allow,
    /// What it is about may not be done, whatever others say.
    Deny,
}

/// See the head of this file.
///
/// *Keys* are those that may be touched; *tags*, those that may be named: put on an entry that is written, or invalidated. A tag may be
/// on an entry of any key, so that only a grant over all keys lets one invalidate by tag, and any that denies invalidating some of them
/// forbids it. A grant of `invalidate` that names tags is about those tags, and no keys; one that denies and names tags denies the use of
/// those tags, and nothing else.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    effect: Effect,
    operations: Operations,
    keys: Pattern,
    tags: Pattern,
}

fn all() -> Pattern {
    Pattern::new("**").expect("it is a pattern")
}

impl Grant {
    /// Allows operations with all keys and tags.
    pub fn everywhere(operations: Operations) -> Self {
        Grant { effect: Effect::Allow, operations, keys: all(), tags: all() }
    }

    /// A grant.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidConfig`] where it is about nothing, or limits to keys or tags what is not done to any.
    pub fn new(effect: Effect, operations: Operations, keys: Pattern, tags: Pattern) -> Result<Self> {
        let invalid = |message: String| Err(Error::new(ErrorKind::InvalidConfig, message));
        if operations.is_empty() {
            return invalid("a grant is about one operation at least".to_owned());
        }
        let is_limited = !keys.is_everything() || !tags.is_everything();
        if let Some(other) = operations.iter().find(|operation| is_limited && !operation.is_about_keys()) {
            return invalid(format!("{other} is not done to keys: it has a grant without \"on\" and \"tags\" of its own"));
        }
        let names_tags = |operation: Operation| matches!(operation, Operation::Write | Operation::Invalidate);
        if let Some(other) = operations.iter().find(|operation| !tags.is_everything() && !names_tags(*operation)) {
            return invalid(format!("{other} names no tags: \"tags\" is for write and invalidate"));
        }
        // It would allow nothing, as a tag can be on an entry of any key.
        if effect == Effect::Allow && operations.has(Operation::Invalidate) && !tags.is_everything() && !keys.is_everything() {
            return invalid(
                "a tag may be on an entry of any key: invalidate by tag is allowed without \"on\", in a grant of its own".to_owned(),
            );
        }
        Ok(Grant { effect, operations, keys, tags })
    }

    /// Whether it gives or takes.
    pub fn effect(&self) -> Effect {
        self.effect
    }

    /// What it is about.
    pub fn operations(&self) -> Operations {
        self.operations
    }

    /// The keys that it is about.
    pub fn keys(&self) -> &Pattern {
        &self.keys
    }

    /// The tags that it is about.
    pub fn tags(&self) -> &Pattern {
        &self.tags
    }

    /// Whether it is about all keys and tags.
    pub(super) fn is_everywhere(&self) -> bool {
        self.keys.is_everything() && self.tags.is_everything()
    }
}

impl fmt::Display for Grant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let effect = if self.effect == Effect::Allow { "allow" } else { "deny" };
        write!(f, "{effect} {}", self.operations)?;
        if self.operations.iter().any(Operation::is_about_keys) {
            write!(f, " on {}", Shown(&self.keys))?;
        }
        if !self.tags.is_everything() {
            write!(f, " tags {}", Shown(&self.tags))?;
        }
        Ok(())
    }
}

/// A pattern as it is read from a grant again. It was text, so it is.
struct Shown<'a>(&'a Pattern);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = String::from_utf8_lossy(self.0.text());
        let mut escaped = false;
        for c in text.chars() {
            // What has a backslash before it already needs no other.
            write!(f, "{}{c}", if is_blank(c) && !escaped { "\\" } else { "" })?;
            escaped = c == '\\' && !escaped;
        }
        Ok(())
    }
}

fn is_blank(c: char) -> bool {
    c == ' '
}

impl FromStr for Grant {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        parse(text).map_err(|error| {
            let shown: String = text.chars().take(128).collect();
            Error::new(ErrorKind::InvalidConfig, format!("the grant \"{}\": {}", shown.escape_debug(), error.message()))
        })
    }
}

fn wrong(message: impl Into<std::borrow::Cow<'static, str>>) -> Error {
    Error::new(ErrorKind::InvalidConfig, message)
}

fn parse(text: &str) -> Result<Grant> {
    const FORM: &str =
        "expected \"allow\" or \"deny\", operations, and perhaps \"on\" with a pattern of keys and \"tags\" with one of tags";
    if text.len() > TEXT_LEN_MAX {
        return Err(wrong(format!("it is longer than {TEXT_LEN_MAX} bytes")));
    }
    if text.chars().any(char::is_control) {
        return Err(wrong("it has a control character in it"));
    }
    let words = words(text);
    let mut words = words.iter().copied().peekable();
    let effect = match words.next() {
        Some("allow") => Effect::Allow,
        Some("deny") => Effect::Deny,
        _ => return Err(wrong(FORM)),
    };
    let mut operations = Operations::default();
    let mut goes_on = true;
    while let Some(word) = words.next_if(|word| !matches!(*word, "on" | "tags")) {
        // `read,write` is two, and so is `read , write`; `read write` is a slip.
        if !goes_on && !word.starts_with(',') {
            return Err(wrong("operations have a comma between them"));
        }
        for name in word.split(',').filter(|name| !name.is_empty()) {
            let these = if name == "all" { Operations::ALL } else { std::iter::once(name.parse::<Operation>()?).collect() };
            operations = operations.and(these);
        }
        goes_on = word.ends_with(',');
    }
    let keys = pattern(&mut words, "on")?;
    let tags = pattern(&mut words, "tags")?;
    match words.next() {
        None => Grant::new(effect, operations, keys.unwrap_or_else(all), tags.unwrap_or_else(all)),
        Some(_) => Err(wrong(FORM)),
    }
}

/// The pattern behind a word, if that comes next.
fn pattern<'a>(words: &mut std::iter::Peekable<impl Iterator<Item = &'a str>>, before: &str) -> Result<Option<Pattern>> {
    if words.next_if(|word| *word == before).is_none() {
        return Ok(None);
    }
    let text = words.next().ok_or_else(|| wrong(format!("a pattern is missing behind \"{before}\"")))?;
    Pattern::new(text).map(Some)
}

/// What is between blanks; one with a backslash before it is a part of a word.
fn words(text: &str) -> Vec<&str> {
    let mut words = Vec::new();
    let (mut begin, mut escaped) = (0, false);
    for (at, c) in text.char_indices().chain([(text.len(), ' ')]) {
        if is_blank(c) && (!escaped || at == text.len()) {
            words.push(&text[begin..at]);
            begin = at + 1;
        }
        escaped = c == '\\' && !escaped;
    }
    words.retain(|word| !word.is_empty());
    words
}
