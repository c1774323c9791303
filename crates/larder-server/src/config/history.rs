//! From the section `[history]` to where and how long it is kept.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::Typed;
use super::catalog::HISTORY;
use super::document::{Given, Givens};
use super::fault::Fault;
use super::value::Value;
use crate::config::units::show_time;
use crate::history::Retention;
use crate::settings::HistorySettings;

/// What the history is called in the folder of the entries.
const FILE: &str = "history.db";

/// The levels, each of which is kept at least as long as the one before.
const LEVELS: [&str; 4] = ["minutes", "hours", "days", "months"];

/// What the section says, and what is wrong with it. `None`: no history is kept. Without a file it is beside the entries, if those are
/// in a folder.
pub fn of(givens: &Givens, (data, instance): (Option<&Path>, Option<&str>), faults: &mut Vec<Fault>) -> Option<HistorySettings> {
    let section = HISTORY.name;
    let time = |name: &str| match &givens[name].value {
        Value::Time(time) => *time,
        other => unreachable!("{section}.{name} is a time, not {other}"),
    };
    for pair in LEVELS.windows(2) {
        let (shorter, longer) = (time(pair[0]), time(pair[1]));
        if longer < shorter {
            let message = format!(
                "{section}.{}: found {}, expected at least as long as {section}.{} ({}), from which it is made up",
                pair[1],
                givens[pair[1]].value,
                pair[0],
                show_time(shorter)
            );
            faults.push(Fault::new(&givens[pair[1]].place, message));
        }
    }
    if time(LEVELS[0]) < LEAST {
        let given = &givens[LEVELS[0]];
        faults.push(Fault::new(
            &given.place,
            format!("{section}.{}: found {}, expected at least {}", LEVELS[0], given.value, show_time(LEAST)),
        ));
    }
    if let Some(Given { value: Value::Text(name), place }) = givens.get("instance")
        && (name.is_empty() || name.len() > 128 || name.chars().any(char::is_control))
    {
        faults.push(Fault::new(place, format!("{section}.instance: found {name:?}, expected a name of 1 to 128 bytes")));
    }
    let typed = Typed(givens);
    let is_kept = matches!(typed.get("enabled"), Value::Flag(true));
    let file: Option<PathBuf> = typed.path("file").or_else(|| data.map(|data| data.join(FILE)));
    let name = match givens.get("instance").map(|given| &given.value) {
        Some(Value::Text(name)) => name.as_str(),
        _ => instance.unwrap_or_default(),
    };
    let retention = Retention { minutes: time("minutes"), hours: time("hours"), days: time("days"), months: time("months") };
    is_kept.then(|| HistorySettings { file, retention, name: name.into() })
}

/// An hour is made up from its minutes, and they are looked at together.
const LEAST: Duration = Duration::from_secs(60 * 60);
