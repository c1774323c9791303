//! From the sections `[upkeep]` and `[warm_up]` to how the server looks after itself.

use std::path::{Path, PathBuf};
use std::time::Duration;

use larder::WarmUp;

use super::Typed;
use super::document::Givens;
use super::fault::Fault;
use super::value::Value;
use crate::promise::BudgetSettings;
use crate::promise::readings::Readings;
use crate::settings::{LettersKept, UpkeepSettings};

/// What it is called in the folder of the entries that the server is under maintenance.
const MAINTENANCE_FILE: &str = "maintenance.json";

/// What the section says.
pub fn of(givens: &Givens, data: Option<&Path>) -> UpkeepSettings {
    let typed = Typed(givens);
    UpkeepSettings {
        letters: LettersKept { keep: typed.time("dead_letters_keep"), most: typed.number("dead_letters_max") },
        maintenance_file: data.map(|data| data.join(MAINTENANCE_FILE)),
        ready_waits: false,
        budget: BudgetSettings::default(),
        readings: Readings::system(),
    }
}

/// What the process may have.
pub fn budget(givens: &Givens) -> BudgetSettings {
    let bytes = match givens.get("memory").map(|given| &given.value) {
        Some(Value::Size(bytes)) => Some(*bytes),
        _ => None,
    };
    BudgetSettings { bytes, obeys_group: Typed(givens).flag("cgroup") }
}

/// How memory is filled at the start, if it is, and what is wrong with it.
pub fn warm_up(givens: &Givens, data: Option<&Path>, faults: &mut Vec<Fault>) -> Option<WarmUp> {
    let typed = Typed(givens);
    for (name, least) in [("time", Duration::from_millis(1)), ("every", Duration::from_secs(1))] {
        let given = &givens[name];
        if matches!(given.value, Value::Time(time) if time < least) {
            faults.push(Fault::new(&given.place, format!("warm_up.{name}: found {}, expected at least {least:?}", given.value)));
        }
    }
    if !typed.flag("enabled") {
        return None;
    }
    let file: Option<PathBuf> = typed.path("file");
    if file.is_none() && data.is_none() {
        faults.push(Fault::new(&givens["enabled"].place, "warm_up.enabled: found true; expected file beside it, or data"));
    }
    let keys = usize::try_from(typed.number("keys")).unwrap_or(usize::MAX);
    let how = WarmUp::new().time(typed.time("time")).keys(keys).every(typed.time("every"));
    let how = file.into_iter().fold(how, WarmUp::file);
    Some(match givens.get("bytes").map(|given| &given.value) {
        Some(Value::Size(bytes)) => how.bytes(*bytes),
        _ => how,
    })
}
