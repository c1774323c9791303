//! Rules: what an event of some type invalidates.

use std::collections::HashMap;
use std::time::Duration;

use super::condition::Condition;
use super::event::{ATTRIBUTE_LEN_MAX, Event, invalid};
use super::template::{Filled, Rendered, Template};
use crate::error::{Error, ErrorKind, Result};
use crate::name::NAMES_MAX;

/// The longest time that a change of a name may be put off.
const DEBOUNCE_MAX: Duration = Duration::from_secs(60);

/// What an event of one type invalidates.
///
/// ```
/// use std::time::Duration;
/// use larder::events::Rule;
/// let rule = Rule::new("bar_closed", ["features:*:{symbol}:**", "tag:symbol:{symbol}"])?
///     .when("interval == '5m' && !has(replay)")?
///     .debounce(Duration::from_millis(20))?;
/// assert_eq!(rule.kind(), "bar_closed");
/// # Ok::<_, larder::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Rule {
    kind: String,
    name: String,
    invalidate: Vec<Template>,
    when: Option<Condition>,
    debounce: Duration,
}

impl Rule {
    /// A rule for events of a type. Each template is a pattern over keys, or begins with `tag:`, `key:`, `namespace:` or
    /// `pattern:`, or is `everything`; `{symbol}` stands for a field of the event's data, `{bar.close}` for one within another,
    /// `{@subject}` for an attribute of the event, and a template with `{scope?}` names nothing where that field is missing.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidConfig`] for a template that can name nothing, or without any.
    pub fn new<T: AsRef<str>>(kind: impl Into<String>, invalidate: impl IntoIterator<Item = T>) -> Result<Self> {
        let kind = kind.into();
        let bad = |message: String| Error::new(ErrorKind::InvalidConfig, message);
        if kind.is_empty() || kind.len() > ATTRIBUTE_LEN_MAX {
            return Err(bad(format!("the type of an event has 1 to {ATTRIBUTE_LEN_MAX} bytes")));
        }
        let invalidate: Vec<Template> = invalidate.into_iter().map(|text| Template::parse(text.as_ref())).collect::<Result<_>>()?;
        if invalidate.is_empty() {
            return Err(bad(format!("a rule for \"{}\" invalidates nothing", kind.escape_debug())));
        }
        Ok(Rule { name: kind.clone(), kind, invalidate, when: None, debounce: Duration::ZERO })
    }

    /// Gives it a name of its own, for errors and traces. Default: the type of its events.
    #[must_use]
    pub fn named(self, name: impl Into<String>) -> Self {
        Rule { name: name.into(), ..self }
    }

    /// Only for events of which this holds: comparisons of fields with texts, numbers and truth values, joined by `&&`, `||`,
    /// `!` and parentheses; `field in ["a", "b"]`; `has(field)`.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidConfig`], with the place where it makes no sense.
    pub fn when(self, condition: &str) -> Result<Self> {
        Ok(Rule { when: Some(Condition::parse(condition)?), ..self })
    }

    /// Of changes to one name that follow each other within this time the first takes effect at once, and the last at its end:
    /// those between would invalidate what is loaded again in a moment anyway. Default: none is put off.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidConfig`] above a minute.
    pub fn debounce(self, time: Duration) -> Result<Self> {
        if time > DEBOUNCE_MAX {
            return Err(Error::new(ErrorKind::InvalidConfig, format!("a change can be put off for {DEBOUNCE_MAX:?} at most")));
        }
        Ok(Rule { debounce: time, ..self })
    }

    /// The type of its events.
    pub fn kind(&self) -> &str {
        &self.kind
    }

    /// What it is called.
    pub fn name(&self) -> &str {
        &self.name
    }

    fn only_when(self, condition: &str) -> Self {
        self.when(condition).expect("the built-in conditions are right")
    }

    /// The names that it makes of an event. `None`: its condition does not hold.
    fn names(&self, event: &Event) -> Result<Option<Vec<Rendered>>> {
        if let Some(condition) = &self.when
            && !condition.holds(event)?
        {
            return Ok(None);
        }
        let (mut names, mut missing) = (Vec::new(), Vec::new());
        for template in &self.invalidate {
            match template.fill(event)? {
                Filled::Names(more) => names.extend(more),
                Filled::Without(path) if missing.contains(&path) => {}
                Filled::Without(path) => missing.push(path),
            }
        }
        if names.is_empty() {
            let fields: Vec<String> = missing.iter().map(ToString::to_string).collect();
            return Err(invalid(format!("it needs one of the fields {}, and the event has none of them", fields.join(", "))));
        }
        Ok(Some(names))
    }
}

/// What a rule made of an event.
pub(super) struct Matched<'a> {
    pub(super) rule: &'a str,
    pub(super) names: Vec<Rendered>,
    pub(super) debounce: Duration,
}

/// All rules, by the type of their events.
#[derive(Debug, Default)]
pub(super) struct Rules(HashMap<String, Vec<Rule>>);

impl Rules {
    /// These, and the built-in ones for types that none of these is for.
    pub(super) fn with_built_ins(rules: Vec<Rule>) -> Self {
        let mut all = Rules::default();
        rules.into_iter().for_each(|rule| all.0.entry(rule.kind.clone()).or_default().push(rule));
        let mut built_in = Rules::default();
        built_ins().into_iter().for_each(|rule| built_in.0.entry(rule.kind.clone()).or_default().push(rule));
        for (kind, rules) in built_in.0 {
            all.0.entry(kind).or_insert(rules);
        }
        all
    }

    /// What an event invalidates, rule by rule.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidEvent`], naming the rule and the field.
    pub(super) fn names(&self, event: &Event) -> Result<Vec<Matched<'_>>> {
        let mut matched = Vec::new();
        let mut count = 0;
        for rule in self.0.get(event.kind()).into_iter().flatten() {
            let names =
                rule.names(event).map_err(|error| invalid(format!("the rule \"{}\": {}", rule.name.escape_debug(), error.message())))?;
            let Some(names) = names else { continue };
            count += names.len();
            if count > NAMES_MAX {
                return Err(invalid(format!(
                    "the rules for \"{}\" make more than {NAMES_MAX} names of this event",
                    event.kind().escape_debug()
                )));
            }
            matched.push(Matched { rule: &rule.name, names, debounce: rule.debounce });
        }
        Ok(matched)
    }
}

/// The rules for what most deployments have: quotes, models, and people who maintain them.
fn built_ins() -> Vec<Rule> {
    let rule = |kind: &str, templates: &[&str]| Rule::new(kind, templates).expect("the built-in rules are right");
    vec![
        rule(
            "market_data_update",
            &[
                "tag:symbol:{symbol}",
                "features:{symbol}:**",
                "features:*:{symbol}:**",
                "prediction:{symbol}:**",
                "prediction:*:{symbol}:**",
                "predictions:{symbol}:**",
                "predictions:*:{symbol}:**",
            ],
        ),
        rule(
            "model_update",
            &[
                "tag:model_version:{model_version?}",
                "tag:model:{model_version?}",
                "prediction:*:{model_version?}",
                "prediction:*:*:{model_version?}",
                "prediction:*:*:*:{model_version?}",
                "predictions:*:{model_version?}",
                "predictions:*:*:{model_version?}",
                "predictions:*:*:*:{model_version?}",
                "tag:model_type:{model_type?}",
                "model:{model_type?}:**",
                "models:{model_type?}:**",
            ],
        ),
        // With a mode it is for whoever takes no writes for a while, and clears only if it says so.
        rule("system_maintenance", &["everything"]).only_when("!has(scope) && (!has(mode) || has(clear) && clear == true)"),
        rule("system_maintenance", &["namespace:{scope}"]).only_when("has(scope) && (!has(mode) || has(clear) && clear == true)"),
    ]
}

#[cfg(test)]
mod tests {
    use serde_json::{Value as Json, json};

    use super::*;

    fn names(rules: &Rules, kind: &str, data: Json) -> Result<Vec<String>> {
        let event = Event::new(kind, data);
        Ok(rules.names(&event)?.into_iter().flat_map(|matched| matched.names).map(|name| name.to_string()).collect())
    }

    #[test]
    fn what_a_rule_lacks_is_named_with_the_rule() {
        let rules = Rules::with_built_ins(vec![Rule::new("t", ["tag:{a}"]).unwrap().named("mine")]);
        let error = names(&rules, "t", json!({ "b": 1 })).unwrap_err().to_string();
        assert!(error.contains("the rule \"mine\"") && error.contains("field a"), "{error}");
        let error = names(&rules, "market_data_update", json!({})).unwrap_err().to_string();
        assert!(error.contains("\"market_data_update\"") && error.contains("symbol"), "{error}");
        let error = names(&rules, "model_update", json!({ "other": 1 })).unwrap_err().to_string();
        assert!(error.contains("model_version, model_type"), "{error}");
    }

    #[test]
    fn built_ins_can_be_overridden() {
        let own = Rule::new("market_data_update", ["tag:{symbol}"]).unwrap();
        let rules = Rules::with_built_ins(vec![own.clone().when("live").unwrap(), own.when("!live").unwrap()]);
        assert_eq!(names(&rules, "market_data_update", json!({ "symbol": "A", "live": true })).unwrap(), ["tag:A"]);
        assert_eq!(names(&rules, "market_data_update", json!({ "symbol": "A", "live": false })).unwrap(), ["tag:A"]);
        assert!(names(&rules, "unheard_of", json!({})).unwrap().is_empty());
    }

    #[test]
    fn maintenance_is_of_a_namespace_or_of_everything() {
        let rules = Rules::with_built_ins(Vec::new());
        assert_eq!(names(&rules, "system_maintenance", json!({})).unwrap(), ["everything"]);
        assert_eq!(names(&rules, "system_maintenance", json!({ "scope": "features" })).unwrap(), ["namespace:features"]);
        let of = |data: Json| names(&rules, "system_maintenance", data).unwrap();
        assert!(of(json!({ "mode": "on" })).is_empty() && of(json!({ "mode": "on", "clear": false, "scope": "features" })).is_empty());
        assert_eq!(of(json!({ "mode": "on", "clear": true })), ["everything"]);
        assert_eq!(of(json!({ "mode": "on", "clear": true, "scope": "features" })), ["namespace:features"]);
        assert!(names(&rules, "system_maintenance", json!({ "scope": "*" })).is_err(), "a scope is a namespace, and not a pattern");
    }
}
