//! From `[[on]]` to rules for events. What larder itself finds wrong is told at the setting that it was the fault of.

use larder::events::Rule;

use super::document::Givens;
use super::fault::{Fault, Place};
use super::value::Value;

/// The rules, and what is wrong with them.
pub fn of(rules: &[(Place, Givens)], faults: &mut Vec<Fault>) -> Vec<Rule> {
    rules.iter().filter_map(|(place, givens)| rule(place, givens, faults)).collect()
}

fn rule(place: &Place, givens: &Givens, faults: &mut Vec<Fault>) -> Option<Rule> {
    let (Some(kind), Some(names)) = (givens.get("type"), givens.get("invalidate")) else {
        let missing = if givens.contains_key("type") { "invalidate" } else { "type" };
        faults.push(Fault::new(place, format!("on.{missing}: a rule says which type of events it is for, and what they invalidate")));
        return None;
    };
    let (Value::Text(kind), Value::Texts(templates)) = (&kind.value, &names.value) else {
        unreachable!("the catalog says that they are a text and a list of texts")
    };
    let mut told = |name: &str, error: &larder::Error| {
        let place = givens.get(name).map_or(place, |given| &given.place);
        faults.push(Fault::new(place, format!("on.{name}: {}", error.message())));
    };
    let mut rule = Rule::new(kind, templates).inspect_err(|error| told("invalidate", error)).ok()?;
    if let Some(Value::Text(condition)) = givens.get("when").map(|given| &given.value) {
        rule = rule.when(condition).inspect_err(|error| told("when", error)).ok()?;
    }
    if let Some(Value::Time(time)) = givens.get("debounce").map(|given| &given.value) {
        rule = rule.debounce(*time).inspect_err(|error| told("debounce", error)).ok()?;
    }
    match givens.get("name").map(|given| &given.value) {
        Some(Value::Text(name)) => Some(rule.named(name)),
        _ => Some(rule),
    }
}
