//! Where in an event something stands: a field of its data, or one of its attributes.

use std::fmt;

use serde_json::Value as Json;

use super::event::Event;

/// The most fields one inside the other.
const DEPTH_MAX: usize = 16;

/// `symbol` and `bar.close` are fields of the data, `@subject` is an attribute.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Path {
    Data(Vec<String>),
    Attribute(String),
}

impl Path {
    /// Reads one. `None` if it is none.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let is_name = |name: &str| !name.is_empty() && name.chars().all(|c| c.is_alphanumeric() || matches!(c, '_' | '-'));
        if let Some(name) = text.strip_prefix('@') {
            return is_name(name).then(|| Path::Attribute(name.to_owned()));
        }
        let names: Vec<String> = text.split('.').map(str::to_owned).collect();
        (names.len() <= DEPTH_MAX && names.iter().all(|name| is_name(name))).then_some(Path::Data(names))
    }

    /// What stands there. A field that is null is one that is not there.
    pub(super) fn of(&self, event: &Event) -> Option<Json> {
        let found = match self {
            Path::Data(names) => names.iter().try_fold(event.data(), |value, name| value.get(name))?.clone(),
            Path::Attribute(name) => match name.as_str() {
                "id" => event.id().into(),
                "source" => event.source().into(),
                "type" => event.kind().into(),
                "subject" => event.subject()?.into(),
                "time" => event.time()?.into(),
                other => event.attribute(other)?.clone(),
            },
        };
        (!found.is_null()).then_some(found)
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Path::Data(names) => f.write_str(&names.join(".")),
            Path::Attribute(name) => write!(f, "@{name}"),
        }
    }
}
