//! From the section `[backup]` to where backups are kept, and which.

use std::collections::BTreeMap;
use std::path::Path;

use larder::backup::Retention;

use super::Typed;
use super::catalog::BACKUP;
use super::document::Givens;
use super::fault::Fault;
use super::value::Value;
use crate::backup::BackupSettings;
use crate::backup::keys::{Keys, Passphrase, RECIPIENTS_MAX, SealBy};
use crate::backup::places::{PLACE_EXPECTED, PlaceAddress};

/// What backups are called in the folder of the entries.
const FOLDER: &str = "backups";

/// What the section says, and what is wrong with it. `None`: there is no place for any.
pub fn of(givens: &Givens, data: Option<&Path>, environment: &BTreeMap<String, String>, faults: &mut Vec<Fault>) -> Option<BackupSettings> {
    let section = BACKUP.name;
    let typed = Typed(givens);
    let mut address = |name: &str, text: &str| {
        let read = text.parse::<PlaceAddress>();
        read.map_err(|_| {
            let message = format!("{section}.{name}: found {text:?}, expected {PLACE_EXPECTED}");
            faults.push(Fault::new(&givens[name].place, message));
        })
    };
    let place = match givens.get("place").map(|given| &given.value) {
        Some(Value::Text(text)) => address("place", text).ok(),
        _ => data.map(|data| PlaceAddress::Folder(data.join(FOLDER))),
    };
    let texts = |name: &str| match typed.get(name) {
        Value::Texts(texts) => texts.clone(),
        other => unreachable!("{section}.{name} is a list of texts, not {other}"),
    };
    let more_places = texts("more_places").iter().filter_map(|text| address("more_places", text).ok()).collect();
    let count = |name: &str| u32::try_from(typed.number(name)).unwrap_or(u32::MAX);
    let retention =
        Retention { last: count("keep_last"), daily: count("keep_daily"), weekly: count("keep_weekly"), monthly: count("keep_monthly") };
    let (incrementals, namespaces) = (count("incrementals"), texts("namespaces"));
    let scheduled = givens.contains_key("place");
    let (seal_by, keys) = keys(givens, environment, faults);
    place.map(|place| BackupSettings { scheduled, place, more_places, retention, incrementals, namespaces, seal_by, keys })
}

/// What backups are sealed by, and what opens them.
fn keys(givens: &Givens, environment: &BTreeMap<String, String>, faults: &mut Vec<Fault>) -> (Option<SealBy>, Keys) {
    let (section, mut keys, mut seal_by) = (BACKUP.name, Keys::default(), None);
    if let Some(given) = givens.get("passphrase") {
        let Value::Secret(reference) = &given.value else { unreachable!("{section}.passphrase is a secret, not {}", given.value) };
        match reference.resolve(environment).and_then(Passphrase::to_seal_by) {
            Ok(passphrase) => {
                keys.add_passphrase(passphrase.clone());
                seal_by = Some(SealBy::Passphrase(passphrase));
            }
            Err(what) => faults.push(Fault::new(&given.place, format!("{section}.passphrase: found \"{reference}\"; {what}"))),
        }
    }
    if let Some(given) = givens.get("encrypt_to") {
        let Value::Texts(texts) = &given.value else { unreachable!("{section}.encrypt_to is a list of texts, not {}", given.value) };
        let mut fault = |what: String| faults.push(Fault::new(&given.place, format!("{section}.encrypt_to: {what}")));
        if givens.contains_key("passphrase") {
            fault("found beside passphrase; expected one of the two".to_owned());
        }
        // An empty list was meant to encrypt, and would not.
        if texts.is_empty() || texts.len() > RECIPIENTS_MAX {
            fault(format!("found {} keys, expected 1 to {RECIPIENTS_MAX}; without encryption, leave it out", texts.len()));
        }
        // What is no public key is not shown: it may be a secret one.
        let read = |(at, text): (usize, &String)| text.parse().map_err(|what| fault(format!("key {}: {what}", at + 1))).ok();
        seal_by = Some(SealBy::Recipients(texts.iter().enumerate().filter_map(read).collect()));
    }
    if let Some(given) = givens.get("identities") {
        let Value::Secrets(references) = &given.value else { unreachable!("{section}.identities are secrets, not {}", given.value) };
        for reference in references {
            if let Err(what) = reference.resolve(environment).and_then(|text| keys.add_identities(&text)) {
                faults.push(Fault::new(&given.place, format!("{section}.identities: found \"{reference}\"; {what}")));
            }
        }
    }
    (seal_by, keys)
}
