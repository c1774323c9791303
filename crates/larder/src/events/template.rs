//! What a rule invalidates, with places for what an event says.
//!
//! ```text
//! features:*:{symbol}:**      a pattern over keys; {symbol} is a field of the event's data
//! pattern:tag:{name}:*        the same, where the text begins with one of the words below
//! tag:symbol:{symbol}         a tag
//! key:model:{type}:{version}  one key
//! namespace:{scope}           a namespace
//! everything                  all there is
//! ```
//!
//! `{bar.close}` is a field within a field, `{@subject}` an attribute of the event, `{scope?}` a field that may be missing: then
//! the template names nothing. `{{` and `}}` are braces. A field that holds a list stands for each of its items.
//!
//! Values are data and never syntax: a glob character is taken for itself, and a value that holds the separator `:`, or nothing,
//! is refused, since it would change what the segments around it mean.

use std::fmt;

use serde_json::Value as Json;

use super::event::{Event, invalid};
use super::path::Path;
use crate::error::{Error, ErrorKind, Result};
use crate::key::SEPARATOR;
use crate::name::{NAMES_MAX, Names};
use crate::pattern::escape;

/// The longest template, in bytes.
const TEMPLATE_LEN_MAX: usize = 2_048;

/// The longest value that is put into a name, in bytes.
const VALUE_LEN_MAX: usize = 512;

/// See the head of this file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Template {
    text: String,
    target: Target,
    parts: Vec<Part>,
}

/// What a name points at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Target {
    Key,
    Tag,
    Pattern,
    Namespace,
    Everything,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Text(String),
    Field { path: Path, optional: bool },
}

/// A name as a template makes it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Rendered {
    target: Target,
    text: Vec<u8>,
}

/// A field, and what it may be in a name.
type Values<'a> = (&'a Path, Vec<Vec<u8>>);

/// What became of a template.
pub(super) enum Filled {
    Names(Vec<Rendered>),
    /// A field that may be missing is.
    Without(Path),
}

impl Template {
    /// Reads one.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidConfig`] for one that can never name anything.
    pub(super) fn parse(text: &str) -> Result<Self> {
        let bad = |why: String| Error::new(ErrorKind::InvalidConfig, format!("the template \"{}\" {why}", text.escape_debug()));
        if text.len() > TEMPLATE_LEN_MAX {
            return Err(Error::new(ErrorKind::InvalidConfig, format!("a template has at most {TEMPLATE_LEN_MAX} bytes")));
        }
        let targets = [("key:", Target::Key), ("tag:", Target::Tag), ("pattern:", Target::Pattern), ("namespace:", Target::Namespace)];
        let (target, rest) = match text {
            "everything" => (Target::Everything, ""),
            _ => targets.into_iter().find_map(|(word, target)| Some((target, text.strip_prefix(word)?))).unwrap_or((Target::Pattern, text)),
        };
        let template = Template { text: text.to_owned(), target, parts: parts(rest).map_err(bad)? };
        if let Some(path) = template.entangled() {
            return Err(bad(format!("has {{{path}}} behind a backslash or within [ ], which would take the value for syntax")));
        }
        // With something harmless in the places, so that what is wrong for every event is told at once.
        let sample: Vec<Values<'_>> = template.fields().into_iter().map(|(path, _)| (path, vec![b"x".to_vec()])).collect();
        template.with(&sample)[0].clone().add_to(Names::new()).check().map_err(|error| bad(format!("is no name: {}", error.message())))?;
        Ok(template)
    }

    /// The names that it makes of an event.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidEvent`], naming the field, if it is missing or holds what cannot stand in a name.
    pub(super) fn fill(&self, event: &Event) -> Result<Filled> {
        let mut values: Vec<Values<'_>> = Vec::new();
        let mut count = 1usize;
        for (path, optional) in self.fields() {
            let Some(found) = path.of(event) else {
                if optional {
                    return Ok(Filled::Without(path.clone()));
                }
                return Err(invalid(format!("\"{}\" needs the field {path}, which the event does not have", self.text)));
            };
            let found = texts(found).map_err(|why| invalid(format!("\"{}\": the field {path} {why}", self.text)))?;
            count = count.saturating_mul(found.len());
            if count > NAMES_MAX {
                return Err(invalid(format!("\"{}\" makes more than {NAMES_MAX} names of this event", self.text)));
            }
            let escaped = |value: String| if self.target == Target::Pattern { escape(value.as_bytes()) } else { value.into_bytes() };
            values.push((path, found.into_iter().map(escaped).collect()));
        }
        let names = self.with(&values);
        // What is too long only with this event's values is this event's fault.
        for name in &names {
            name.clone().add_to(Names::new()).check().map_err(|error| invalid(format!("\"{}\": {}", self.text, error.message())))?;
        }
        Ok(Filled::Names(names))
    }

    /// The names with these values in the places: each with each, where there are several. A field that stands twice has the
    /// same value in both places.
    fn with(&self, values: &[Values<'_>]) -> Vec<Rendered> {
        let count: usize = values.iter().map(|(_, choices)| choices.len()).product();
        (0..count).map(|number| Rendered { target: self.target, text: self.one_with(values, number) }).collect()
    }

    /// One of them: its number, taken apart, says which value of each field it has. The last field's changes fastest.
    fn one_with(&self, values: &[Values<'_>], mut number: usize) -> Vec<u8> {
        let mut chosen: Vec<(&Path, &[u8])> = Vec::with_capacity(values.len());
        for (path, choices) in values.iter().rev() {
            chosen.push((*path, &choices[number % choices.len()]));
            number /= choices.len();
        }
        let of = |path: &Path| chosen.iter().find(|(known, _)| *known == path).map_or(&[][..], |(_, value)| *value);
        let bytes = self.parts.iter().map(|part| match part {
            Part::Text(text) => text.as_bytes(),
            Part::Field { path, .. } => of(path),
        });
        bytes.collect::<Vec<_>>().concat()
    }

    /// The first field that stands where a pattern does not take the next byte for itself: `\\{x}` would make two backslashes of
    /// the one that protects a `*`, and `[{x}]` a range of `a-z`.
    fn entangled(&self) -> Option<&Path> {
        let (mut escaped, mut in_class) = (false, false);
        for part in self.parts.iter().filter(|_| self.target == Target::Pattern) {
            match part {
                Part::Field { path, .. } if escaped || in_class => return Some(path),
                Part::Field { .. } => {}
                Part::Text(text) => {
                    for byte in text.bytes() {
                        match byte {
                            _ if escaped => escaped = false,
                            b'\\' => escaped = true,
                            b'[' => in_class = true,
                            b']' => in_class = false,
                            _ => {}
                        }
                    }
                }
            }
        }
        None
    }

    /// The fields that it needs, each once.
    fn fields(&self) -> Vec<(&Path, bool)> {
        let mut fields: Vec<(&Path, bool)> = Vec::new();
        for part in &self.parts {
            if let Part::Field { path, optional } = part
                && !fields.iter().any(|(known, _)| *known == path)
            {
                fields.push((path, *optional));
            }
        }
        fields
    }
}

impl Template {
    /// Whether what it names are keys: one, or those that a pattern matches.
    pub(super) fn names_keys(&self) -> bool {
        matches!(self.target, Target::Key | Target::Pattern)
    }
}

impl fmt::Display for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Rendered {
    /// The key, or else the text of the pattern. Of other names it is the text, which matches no key.
    pub(super) fn into_key_or_pattern(self) -> Result<Box<[u8]>, Vec<u8>> {
        if self.target == Target::Key { Ok(self.text.into()) } else { Err(self.text) }
    }

    pub(super) fn add_to(self, names: Names) -> Names {
        match self.target {
            Target::Key => names.key(self.text),
            Target::Tag => names.tag(self.text),
            Target::Pattern => names.pattern(self.text),
            Target::Namespace => names.namespace(String::from_utf8_lossy(&self.text)),
            Target::Everything => names.everything(),
        }
    }
}

impl fmt::Display for Rendered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = match self.target {
            Target::Key => "key:",
            Target::Tag => "tag:",
            Target::Pattern => "",
            Target::Namespace => "namespace:",
            Target::Everything => return f.write_str("everything"),
        };
        write!(f, "{word}{}", String::from_utf8_lossy(&self.text))
    }
}

/// A template's text and its places.
fn parts(text: &str) -> Result<Vec<Part>, String> {
    let (mut parts, mut plain, mut rest) = (Vec::new(), String::new(), text);
    while let Some(at) = rest.find(['{', '}']) {
        plain += &rest[..at];
        let from = &rest[at..];
        if let Some(after) = from.strip_prefix("{{").or_else(|| from.strip_prefix("}}")) {
            plain.push(from.as_bytes()[0] as char);
            rest = after;
            continue;
        }
        let Some((inner, after)) = from.strip_prefix('{').and_then(|inner| inner.split_once('}')) else {
            return Err("has a brace without its other one; a brace itself is written twice".to_owned());
        };
        let (name, optional) = inner.strip_suffix('?').map_or((inner, false), |name| (name, true));
        let path = Path::parse(name).ok_or_else(|| format!("has {{{}}}, which names no field", inner.escape_debug()))?;
        if !plain.is_empty() {
            parts.push(Part::Text(std::mem::take(&mut plain)));
        }
        parts.push(Part::Field { path, optional });
        rest = after;
    }
    plain += rest;
    if !plain.is_empty() {
        parts.push(Part::Text(plain));
    }
    Ok(parts)
}

/// A field's value as texts that may stand in a name, or why it cannot.
fn texts(value: Json) -> Result<Vec<String>, String> {
    match value {
        Json::Array(items) if items.is_empty() => Err("is an empty list".to_owned()),
        Json::Array(items) => items.into_iter().map(text).collect(),
        one => text(one).map(|text| vec![text]),
    }
}

fn text(value: Json) -> Result<String, String> {
    let text = match value {
        Json::String(text) => text,
        Json::Number(number) => number.to_string(),
        Json::Bool(flag) => flag.to_string(),
        Json::Null | Json::Array(_) | Json::Object(_) => return Err("is no text, number or truth value".to_owned()),
    };
    if text.is_empty() {
        return Err("is empty".to_owned());
    }
    if text.len() > VALUE_LEN_MAX {
        return Err(format!("has {} bytes, and at most {VALUE_LEN_MAX} may stand in a name", text.len()));
    }
    if text.as_bytes().contains(&SEPARATOR) {
        return Err(format!("is \"{}\", and a ':' would change what the name means", text.escape_debug()));
    }
    Ok(text)
}

#[cfg(test)]
mod widening;

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::pattern::Pattern;

    fn filled(template: &str, data: Json) -> Result<Vec<String>> {
        let event = Event::new("t", data).about("s1");
        match Template::parse(template).unwrap().fill(&event)? {
            Filled::Names(names) => Ok(names.iter().map(Rendered::to_string).collect()),
            Filled::Without(path) => Ok(vec![format!("without {path}")]),
        }
    }

    #[test]
    fn places_are_filled() {
        assert_eq!(filled("features:*:{symbol}:**", json!({ "symbol": "AAPL" })).unwrap(), ["features:*:AAPL:**"]);
        assert_eq!(filled("tag:{{{a.b}}}", json!({ "a": { "b": 7 } })).unwrap(), ["tag:{7}"]);
        assert_eq!(filled("key:m:{@subject}", json!({})).unwrap(), ["key:m:s1"]);
        assert_eq!(filled("namespace:{scope?}", json!({})).unwrap(), ["without scope"]);
        assert_eq!(filled("everything", json!({})).unwrap(), ["everything"]);
        let both = filled("tag:{x}-{y}-{x}", json!({ "x": ["a", "b"], "y": [1, 2] })).unwrap();
        assert_eq!(both, ["tag:a-1-a", "tag:a-2-a", "tag:b-1-b", "tag:b-2-b"]);
    }

    #[test]
    fn values_never_widen() {
        let pattern = filled("features:{symbol}:**", json!({ "symbol": "*" })).unwrap().remove(0);
        assert!(!Pattern::new(&pattern).unwrap().matches(b"features:AAPL:5m"), "{pattern}");
        assert!(Pattern::new(&pattern).unwrap().matches(b"features:*:5m"));
        let one = filled("features:{symbol}:**", json!({ "symbol": "A" })).unwrap().remove(0);
        assert!(!Pattern::new(&one).unwrap().matches(b"features:AAPL:5m"));
        for (value, why) in
            [(json!("A:B"), "':'"), (json!(""), "empty"), (json!({}), "no text"), (json!([]), "empty list"), (json!([null]), "no text")]
        {
            let error = filled("features:{symbol}:**", json!({ "symbol": value })).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidEvent);
            assert!(error.to_string().contains(why) && error.to_string().contains("symbol"), "{error}");
        }
        let error = filled("tag:{symbol}", json!({ "other": 1 })).unwrap_err();
        assert!(error.to_string().contains("needs the field symbol"), "{error}");
        assert!(filled("tag:{x}", json!({ "x": "y".repeat(400) })).is_err(), "longer than a tag may be");
    }

    #[test]
    fn lists_do_not_multiply_without_bound() {
        let many: Vec<u32> = (0..300).collect();
        let error = filled("tag:{x}-{y}", json!({ "x": many, "y": many })).unwrap_err();
        assert!(error.to_string().contains("more than"), "{error}");
    }

    #[test]
    fn a_template_that_can_name_nothing_is_refused() {
        for bad in ["", "a:{", "a:}", "{}", "{a b}", "a:**:{x}", "namespace:a:{x}", "key:", "tag:", "[{x}", "{a..b}", "{@}"] {
            let error = Template::parse(bad).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidConfig, "{bad}: {error}");
        }
    }
}
