//! From the section `[events]` to who may send events: secrets are fetched from where they are said to be.

use std::collections::BTreeMap;

use super::document::Givens;
use super::fault::Fault;
use super::value::Value;
use crate::settings::Webhooks;
use crate::webhook::Secret;

/// What the section says, and what is wrong with it.
pub fn of(givens: &Givens, environment: &BTreeMap<String, String>, faults: &mut Vec<Fault>) -> Webhooks {
    let mut webhooks = Webhooks::default();
    for (name, given) in givens {
        match (*name, &given.value) {
            ("webhook_secrets", Value::Secrets(references)) => {
                // A list without anything in it was meant to guard, and would not.
                if references.is_empty() {
                    faults.push(Fault::new(
                        &given.place,
                        format!("events.{name}: found [], expected at least one; without signatures, leave it out"),
                    ));
                }
                for reference in references {
                    match reference.resolve(environment).and_then(|text| Secret::parse(&text)) {
                        Ok(secret) => webhooks.secrets.push(secret),
                        Err(what) => faults.push(Fault::new(&given.place, format!("events.{name}: found \"{reference}\"; {what}"))),
                    }
                }
            }
            ("webhook_origins", Value::Texts(origins)) => webhooks.origins.clone_from(origins),
            ("webhook_rate", Value::Count(rate)) => webhooks.rate = Some(*rate),
            (name, value) => unreachable!("events.{name} is no setting that could be {value}"),
        }
    }
    webhooks
}
