//! From the section `[backup]` to where backups are kept, and which.

use std::path::Path;

use larder::backup::Retention;

use super::Typed;
use super::catalog::BACKUP;
use super::document::Givens;
use super::fault::Fault;
use super::value::Value;
use crate::backup::BackupSettings;
use crate::backup::places::{PLACE_EXPECTED, PlaceAddress};

/// What backups are called in the folder of the entries.
const FOLDER: &str = "backups";

/// What the section says, and what is wrong with it. `None`: there is no place for any.
pub fn of(givens: &Givens, data: Option<&Path>, faults: &mut Vec<Fault>) -> Option<BackupSettings> {
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
    place.map(|place| BackupSettings { scheduled, place, more_places, retention, incrementals, namespaces })
}
