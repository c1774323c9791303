//! From the section `[audit]` to how the audit log is kept.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use larder::Durability;

use super::Typed;
use super::document::Givens;
use super::fault::Fault;
use super::value::Value;
use crate::audit::{AuditSettings, Level, OnFailure};

/// A secret of fewer bytes can be guessed.
const SECRET_BYTES_MIN: usize = 16;

/// What the section says: where the log is or would be, and how it is kept, if it is.
pub fn of(
    givens: &Givens,
    data: Option<&Path>,
    environment: &BTreeMap<String, String>,
    faults: &mut Vec<Fault>,
) -> (Option<PathBuf>, Option<AuditSettings>) {
    let typed = Typed(givens);
    let name_secret = secret(givens, environment, faults);
    let folder = typed.path("folder").or_else(|| data.map(|data| data.join("audit")));
    let level = match typed.get("level") {
        Value::Choice("off") => return (folder, None),
        Value::Choice("admin") => Level::Admin,
        Value::Choice("changes") => Level::Changes,
        Value::Choice("all") => Level::All,
        other => unreachable!("audit.level is one of four words, not {other}"),
    };
    let Some(folder) = folder else {
        let what = format!("audit.level: found {}; expected folder beside it, or data", typed.get("level"));
        faults.push(Fault::new(&givens["level"].place, what));
        return (None, None);
    };
    let on_failure = if matches!(typed.get("on_failure"), Value::Choice("warn")) { OnFailure::Warn } else { OnFailure::Refuse };
    let settings = AuditSettings {
        level,
        on_failure,
        name_secret: name_secret.filter(|_| typed.flag("hash_names")),
        is_durable: typed.durability("durability") == Durability::Fsync,
        queue_max: typed.length("queue"),
        file_bytes_max: typed.number("file_bytes"),
        file_age_max: typed.time("file_age"),
        keep: typed.time("keep"),
        bytes_max: typed.number("bytes"),
        ..AuditSettings::new(folder.clone())
    };
    (Some(folder), Some(settings))
}

fn secret(givens: &Givens, environment: &BTreeMap<String, String>, faults: &mut Vec<Fault>) -> Option<Vec<u8>> {
    let Some(given) = givens.get("secret") else {
        if Typed(givens).flag("hash_names") {
            faults.push(Fault::new(&givens["hash_names"].place, "audit.hash_names: found true; expected secret beside it"));
        }
        return None;
    };
    let Value::Secret(reference) = &given.value else { unreachable!("audit.secret is a secret, not {}", given.value) };
    let found = reference.resolve(environment).and_then(|secret| match secret.len() {
        len if len < SECRET_BYTES_MIN => Err(format!("it has {len} bytes, and needs {SECRET_BYTES_MIN}")),
        _ => Ok(secret.into_bytes()),
    });
    found.map_err(|what| faults.push(Fault::new(&given.place, format!("audit.secret: found {}; {what}", given.value)))).ok()
}
