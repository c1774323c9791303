//! From the section `[otlp]` to where things are exported.

use std::time::Duration;

use super::Typed;
use super::document::{Given, Givens};
use super::fault::Fault;
use super::value::Value;
use crate::settings::Otlp;

/// More often, the exporter would be most of what is exported.
const SHORTEST: Duration = Duration::from_millis(100);

/// What the section says, and what is wrong with it. The instance is called what Redis calls it.
pub fn of(givens: &Givens, instance: Option<&Given>, faults: &mut Vec<Fault>) -> Option<Otlp> {
    let every = Typed(givens).time("every");
    if let Some(given) = givens.get("every").filter(|_| every < SHORTEST) {
        faults.push(Fault::new(&given.place, format!("otlp.every: found {}; it is at least 100ms", given.value)));
    }
    let given = givens.get("endpoint")?;
    let Value::Text(endpoint) = &given.value else { unreachable!("otlp.endpoint is a text, not {}", given.value) };
    let rest = endpoint.strip_prefix("http://").map(|rest| rest.trim_end_matches('/'));
    if rest.is_none_or(|rest| rest.is_empty() || rest.contains(['?', '#', '@']) || rest.contains(char::is_whitespace)) {
        let what =
            "expected an address such as \"http://127.0.0.1:4318\"; it is reached without TLS, as a collector on the same machine is";
        faults.push(Fault::new(&given.place, format!("otlp.endpoint: found {}; {what}", given.value)));
    }
    let instance = instance.and_then(|given| match &given.value {
        Value::Text(name) => Some(name.clone()),
        _ => None,
    });
    Some(Otlp { endpoint: endpoint.clone(), every, instance })
}
