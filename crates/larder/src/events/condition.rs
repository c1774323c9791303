//! Whether a rule is for an event: a condition over what it says, small enough that it always ends.
//!
//! ```text
//! symbol == "AAPL" && size >= 100
//! !(venue in ["test", "demo"]) || has(force)
//! @subject != "replay"
//! ```
//!
//! Texts, numbers, `true` and `false` are compared by `==`, `!=`, `<`, `<=`, `>` and `>=`; `in` looks in a list. A field that
//! is not there is an error, and not false: `has(field)` asks whether it is. There are no functions, no loops and no
//! arithmetic.

use std::cmp::Ordering;
use std::fmt;

use serde_json::{Number, Value as Json};

use super::event::{Event, invalid};
use super::path::Path;
use crate::error::{Error, ErrorKind, Result};

/// The longest condition, in bytes, and how deep it may be nested.
const LEN_MAX: usize = 1_024;
const DEPTH_MAX: usize = 24;

/// See the head of this file.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Condition {
    text: String,
    root: Node,
}

#[derive(Clone, Debug, PartialEq)]
enum Node {
    Or(Box<Node>, Box<Node>),
    And(Box<Node>, Box<Node>),
    Not(Box<Node>),
    Has(Path),
    Compare(Operand, Comparison, Operand),
    In(Operand, Vec<Json>),
    Is(Operand),
}

#[derive(Clone, Debug, PartialEq)]
enum Operand {
    Field(Path),
    Value(Json),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Comparison {
    Equal,
    Unequal,
    Less,
    AtMost,
    Greater,
    AtLeast,
}

/// Longer ones first, as they begin with the shorter.
const COMPARISONS: [(&str, Comparison); 6] = [
    ("==", Comparison::Equal),
    ("!=", Comparison::Unequal),
    ("<=", Comparison::AtMost),
    (">=", Comparison::AtLeast),
    ("<", Comparison::Less),
    (">", Comparison::Greater),
];

impl Condition {
    /// Reads one.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidConfig`], with the place where it stops making sense.
    pub(super) fn parse(text: &str) -> Result<Self> {
        let bad = |message: String| Error::new(ErrorKind::InvalidConfig, message);
        if text.len() > LEN_MAX {
            return Err(bad(format!("a condition has at most {LEN_MAX} bytes")));
        }
        let mut reader = Reader { rest: text, depth: 0 };
        let root = reader.any().and_then(|root| if reader.space().is_empty() { Ok(root) } else { Err("the end") });
        root.map(|root| Condition { text: text.to_owned(), root }).map_err(|expected| {
            let at = text.len() - reader.rest.len();
            bad(format!(
                "the condition \"{}\" makes no sense at character {}: expected {expected}",
                text.escape_debug(),
                text[..at].chars().count() + 1
            ))
        })
    }

    /// Whether it holds for an event.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidEvent`] for a field that is missing, or of a kind that cannot be compared so.
    pub(super) fn holds(&self, event: &Event) -> Result<bool> {
        self.root.holds(event).map_err(|why| invalid(format!("the condition \"{}\" {why}", self.text)))
    }
}

impl fmt::Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Node {
    fn holds(&self, event: &Event) -> Result<bool, String> {
        Ok(match self {
            Node::Or(one, other) => one.holds(event)? || other.holds(event)?,
            Node::And(one, other) => one.holds(event)? && other.holds(event)?,
            Node::Not(node) => !node.holds(event)?,
            Node::Has(path) => path.of(event).is_some(),
            Node::Compare(left, comparison, right) => comparison.holds(&left.of(event)?, &right.of(event)?)?,
            Node::In(operand, list) => {
                let value = operand.of(event)?;
                list.iter().any(|item| order(&value, item) == Some(Ordering::Equal))
            }
            Node::Is(operand) => match operand.of(event)? {
                Json::Bool(flag) => flag,
                other => return Err(format!("asks whether {other} is true")),
            },
        })
    }
}

impl Operand {
    fn of(&self, event: &Event) -> Result<Json, String> {
        match self {
            Operand::Value(value) => Ok(value.clone()),
            Operand::Field(path) => path.of(event).ok_or_else(|| format!("needs the field {path}, which the event does not have")),
        }
    }
}

impl Comparison {
    fn holds(self, left: &Json, right: &Json) -> Result<bool, String> {
        let found = order(left, right);
        if let Comparison::Equal | Comparison::Unequal = self {
            return Ok((found == Some(Ordering::Equal)) == (self == Comparison::Equal));
        }
        let found = found.ok_or_else(|| format!("compares {left} with {right}"))?;
        Ok(match self {
            Comparison::Less => found.is_lt(),
            Comparison::AtMost => found.is_le(),
            Comparison::Greater => found.is_gt(),
            Comparison::AtLeast => found.is_ge(),
            Comparison::Equal | Comparison::Unequal => unreachable!("answered above"),
        })
    }
}

/// `None` for values that have no order between them.
fn order(left: &Json, right: &Json) -> Option<Ordering> {
    match (left, right) {
        (Json::String(left), Json::String(right)) => Some(left.cmp(right)),
        (Json::Bool(left), Json::Bool(right)) => Some(left.cmp(right)),
        (Json::Number(left), Json::Number(right)) => match (whole(left), whole(right)) {
            (Some(left), Some(right)) => Some(left.cmp(&right)),
            _ => left.as_f64()?.partial_cmp(&right.as_f64()?),
        },
        _ => None,
    }
}

/// Exactly, where a floating-point number could not hold it.
fn whole(number: &Number) -> Option<i128> {
    number.as_i64().map(i128::from).or_else(|| number.as_u64().map(i128::from))
}

/// Reads from the front; what could not be read is what is left, and the error is what should have been there.
struct Reader<'a> {
    rest: &'a str,
    depth: usize,
}

type Read<T> = std::result::Result<T, &'static str>;

impl<'a> Reader<'a> {
    fn any(&mut self) -> Read<Node> {
        self.deeper(|reader| {
            let mut node = reader.all()?;
            while reader.take("||") {
                node = Node::Or(Box::new(node), Box::new(reader.all()?));
            }
            Ok(node)
        })
    }

    fn all(&mut self) -> Read<Node> {
        let mut node = self.one()?;
        while self.take("&&") {
            node = Node::And(Box::new(node), Box::new(self.one()?));
        }
        Ok(node)
    }

    fn one(&mut self) -> Read<Node> {
        if !self.space().starts_with("!=") && self.take("!") {
            return self.deeper(|reader| reader.one().map(|node| Node::Not(Box::new(node))));
        }
        if self.take("(") {
            let node = self.any()?;
            return if self.take(")") { Ok(node) } else { Err("')'") };
        }
        if self.word() == "has" {
            self.rest = &self.rest["has".len()..];
            if !self.take("(") {
                return Err("'(' behind has");
            }
            let path = self.path()?;
            return if self.take(")") { Ok(Node::Has(path)) } else { Err("')'") };
        }
        let left = self.operand()?;
        if self.word() == "in" {
            self.rest = &self.rest["in".len()..];
            return self.list().map(|list| Node::In(left, list));
        }
        let comparison = COMPARISONS.into_iter().find(|(sign, _)| self.take(sign));
        match comparison {
            Some((_, comparison)) => Ok(Node::Compare(left, comparison, self.operand()?)),
            None => Ok(Node::Is(left)),
        }
    }

    fn operand(&mut self) -> Read<Operand> {
        let next = self.space().chars().next().ok_or("a field or a value")?;
        if matches!(next, '"' | '\'' | '-' | '0'..='9') || matches!(self.word(), "true" | "false") {
            return self.value().map(Operand::Value);
        }
        self.path().map(Operand::Field)
    }

    fn path(&mut self) -> Read<Path> {
        let is_part = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-' | '.' | '@');
        let text = self.space();
        let len = text.find(|c| !is_part(c)).unwrap_or(text.len());
        let path = Path::parse(&text[..len]).ok_or("a field or a value")?;
        self.rest = &self.rest[len..];
        Ok(path)
    }

    fn value(&mut self) -> Read<Json> {
        let text = self.space();
        if let Some(quote) = text.chars().next().filter(|c| matches!(c, '"' | '\'')) {
            return self.quoted(quote).map(Json::String);
        }
        for (word, value) in [("true", true), ("false", false)] {
            if self.word() == word {
                self.rest = &self.rest[word.len()..];
                return Ok(Json::Bool(value));
            }
        }
        let len = text.find(|c: char| !(c.is_ascii_digit() || matches!(c, '-' | '+' | '.' | 'e' | 'E'))).unwrap_or(text.len());
        let number = text[..len].parse::<Number>().map_err(|_| "a text, a number, true or false")?;
        self.rest = &self.rest[len..];
        Ok(Json::Number(number))
    }

    fn quoted(&mut self, quote: char) -> Read<String> {
        let (mut text, mut escaped) = (String::new(), false);
        for (at, c) in self.rest.char_indices().skip(1) {
            match c {
                _ if escaped => {
                    text.push(c);
                    escaped = false;
                }
                '\\' => escaped = true,
                c if c == quote => {
                    self.rest = &self.rest[at + c.len_utf8()..];
                    return Ok(text);
                }
                c => text.push(c),
            }
        }
        Err("the other quote of this text")
    }

    fn list(&mut self) -> Read<Vec<Json>> {
        if !self.take("[") {
            return Err("'[' behind in");
        }
        let mut list = vec![self.value()?];
        while self.take(",") {
            list.push(self.value()?);
        }
        if self.take("]") { Ok(list) } else { Err("',' or ']'") }
    }

    fn deeper<T>(&mut self, read: impl FnOnce(&mut Self) -> Read<T>) -> Read<T> {
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            return Err("fewer things one inside the other");
        }
        let outcome = read(self);
        self.depth -= 1;
        outcome
    }

    fn space(&mut self) -> &'a str {
        self.rest = self.rest.trim_start();
        self.rest
    }

    /// The word that comes next, without taking it.
    fn word(&mut self) -> &'a str {
        let text = self.space();
        &text[..text.find(|c: char| !(c.is_alphanumeric() || matches!(c, '_' | '-' | '.' | '@'))).unwrap_or(text.len())]
    }

    fn take(&mut self, sign: &str) -> bool {
        let rest = self.space().strip_prefix(sign);
        rest.map(|rest| self.rest = rest).is_some()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn holds(condition: &str) -> Result<bool> {
        let data = json!({ "symbol": "AAPL", "size": 100, "big": 9_007_199_254_740_993u64, "live": true, "has-dash": 1, "in": "x", "bar": { "close": 1.5 } });
        Condition::parse(condition).unwrap().holds(&Event::new("t", data).about("s"))
    }

    #[test]
    fn conditions_hold_or_not() {
        for (condition, expected) in [
            ("symbol == \"AAPL\"", true),
            ("symbol == 'AAPL' && size > 100", false),
            ("symbol == 'MSFT' || size >= 100", true),
            ("!(symbol in ['MSFT', \"AAPL\"])", false),
            ("live && !has(other)", true),
            ("bar.close < 2 && bar.close > 1.25", true),
            ("@subject == 's' && @type != 's'", true),
            ("big == 9007199254740993 && big != 9007199254740992", true),
            ("symbol == 7", false),
            ("symbol != 7", true),
            ("has-dash == 1", true),
            ("size == -1 || size == 1e2", true),
            ("false || true && false", false),
            (r#"symbol != 'it\'s' "#, true),
        ] {
            assert_eq!(holds(condition).unwrap(), expected, "{condition}");
        }
    }

    #[test]
    fn what_cannot_be_told_is_an_error_and_not_false() {
        for (condition, why) in [
            ("other == 1", "needs the field other"),
            ("symbol > 1", "compares"),
            ("symbol", "is true"),
            ("!missing", "needs the field missing"),
        ] {
            let error = holds(condition).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidEvent);
            assert!(error.to_string().contains(why), "{condition}: {error}");
        }
        assert!(holds("live || other == 1").unwrap(), "what need not be asked is not");
    }

    #[test]
    fn what_makes_no_sense_is_refused_with_its_place() {
        for (bad, place) in
            [("", 1), ("a ==", 5), ("a = 1", 3), ("(a", 3), ("a in 1", 6), ("a == 'x", 6), ("a && && b", 6), ("has a", 5), ("a b", 3)]
        {
            let error = Condition::parse(bad).unwrap_err().to_string();
            assert!(error.contains(&format!("at character {place}:")), "{bad}: {error}");
        }
        let deep = format!("{}a{}", "(".repeat(100), ")".repeat(100));
        assert!(Condition::parse(&deep).is_err());
        assert!(Condition::parse(&"!".repeat(1_000)).is_err());
        assert!(Condition::parse(&"a".repeat(2_000)).is_err());
    }
}
