//! Long work on backups, asked for over HTTP: begun, looked at, and told to stop. One at a time: two would only be in each other's way,
//! and a restore beside another is refused by the library anyway.
//!
//! What ended stays to be looked at, the last few of it, since whoever asked may come back late.

use std::collections::VecDeque;
use std::sync::Arc;

use larder::Larder;
use larder::backup::{BackupOptions, Opener, Present, RestoreOptions, Ttl, diff, prune, verify};
use parking_lot::Mutex;
use serde::de::{DeserializeOwned, Error as _};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Value as Json, json};

use super::keys::{Hidden, Passphrase, SealBy};
use super::{BackupError, BackupSettings, aside, name_at, summary};
use crate::progress::{Progress, Step};

/// Runs that are remembered once they ended.
const REMEMBERED: usize = 16;

/// What is to be done.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Ask {
    /// Takes a backup.
    Create {
        /// Its name; by the clock without one.
        #[serde(default)]
        name: Option<String>,
        /// Which namespaces; all without any.
        #[serde(default)]
        namespaces: Vec<String>,
        /// What it is to stand on.
        #[serde(default)]
        parent: Option<String>,
        /// Public keys to encrypt it to, in the place of what is configured.
        #[serde(default, deserialize_with = "unshown")]
        encrypt_to: Vec<String>,
        /// A passphrase to encrypt it by, in the place of what is configured.
        #[serde(default, deserialize_with = "unshown")]
        passphrase: Option<Hidden>,
        /// Where; the configured place without.
        #[serde(default)]
        place: Option<String>,
    },
    /// Reads all of one, and says whether it is whole.
    Verify {
        /// Which.
        name: String,
        /// Secret keys that open it, in the form of `age-keygen`'s files, beside those that are configured.
        #[serde(default, deserialize_with = "unshown")]
        identities: Vec<Hidden>,
        /// A passphrase that opens it.
        #[serde(default, deserialize_with = "unshown")]
        passphrase: Option<Hidden>,
        /// Where; the configured place without.
        #[serde(default)]
        place: Option<String>,
    },
    /// Brings back what is still true.
    Restore(Box<AskRestore>),
    /// Removes those that need not stay.
    Prune {
        /// Which stay, in the place of what the configuration says.
        #[serde(default)]
        keep: Option<Keep>,
        /// Only counts.
        #[serde(default)]
        dry_run: bool,
        /// Where; the configured place without.
        #[serde(default)]
        place: Option<String>,
    },
    /// Compares two.
    Diff {
        /// The first.
        first: String,
        /// The second.
        second: String,
        /// Secret keys that open it, in the form of `age-keygen`'s files, beside those that are configured.
        #[serde(default, deserialize_with = "unshown")]
        identities: Vec<Hidden>,
        /// A passphrase that opens it.
        #[serde(default, deserialize_with = "unshown")]
        passphrase: Option<Hidden>,
        /// Where; the configured place without.
        #[serde(default)]
        place: Option<String>,
    },
    /// Gives up a restore that was interrupted.
    Abandon {},
}

/// Reads a key or passphrase so that a message about one of another type does not repeat it.
fn unshown<'de, D: Deserializer<'de>, T: DeserializeOwned>(deserializer: D) -> Result<T, D::Error> {
    let wrong = |_| D::Error::custom("a key or passphrase is not of the type that is expected, and is not shown here");
    serde_json::from_value(Json::deserialize(deserializer)?).map_err(wrong)
}

/// What to restore, and how.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AskRestore {
    /// Which backup.
    pub name: String,
    /// Where; the configured place without.
    pub place: Option<String>,
    /// Which namespaces; all without any.
    pub namespaces: Vec<String>,
    /// Which keys.
    pub pattern: Option<String>,
    /// Namespaces that get another name: from, to.
    pub rename: Vec<(String, String)>,
    /// `if-newer`, `replace` or `missing-only`.
    pub present: OnPresent,
    /// `keep`, `shift` or `ignore`.
    pub ttl: OnTtl,
    /// Only counts.
    pub dry_run: bool,
    /// The folder of the log of then, on the server's machine.
    pub log_of_then: Option<std::path::PathBuf>,
    /// Goes on where it cannot be known what was invalidated since.
    pub accept_unknown_invalidations: bool,
    /// Secret keys that open it, in the form of `age-keygen`'s files, beside those that are configured.
    #[serde(deserialize_with = "unshown")]
    pub identities: Vec<Hidden>,
    /// A passphrase that opens it.
    #[serde(deserialize_with = "unshown")]
    pub passphrase: Option<Hidden>,
}

/// See [`Present`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OnPresent {
    /// What reflects more stays.
    #[default]
    IfNewer,
    /// What is in the backup takes its place.
    Replace,
    /// What is there stays.
    MissingOnly,
}

/// See [`Ttl`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum OnTtl {
    /// The time in the archive counts
    #[default]
    Keep,
    /// It does not: what was left of a life is left
    Shift,
    /// A new life, as the namespace's policy has it
    Ignore,
}

/// How many backups stay.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Keep {
    /// The last so many.
    pub last: u32,
    /// The newest of so many days.
    pub daily: u32,
    /// The newest of so many weeks.
    pub weekly: u32,
    /// The newest of so many months.
    pub monthly: u32,
}

impl From<Keep> for larder::backup::Retention {
    fn from(keep: Keep) -> Self {
        larder::backup::Retention { last: keep.last, daily: keep.daily, weekly: keep.weekly, monthly: keep.monthly }
    }
}

impl Ask {
    /// What it is called.
    pub fn verb(&self) -> &'static str {
        match self {
            Ask::Create { .. } => "create",
            Ask::Verify { .. } => "verify",
            Ask::Restore(_) => "restore",
            Ask::Prune { .. } => "prune",
            Ask::Diff { .. } => "diff",
            Ask::Abandon {} => "abandon",
        }
    }
}

/// A run as it is told.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Told {
    /// Its number.
    pub run: u64,
    /// What it does.
    #[serde(rename = "do")]
    pub verb: String,
    /// `running`, `done` or `failed`.
    pub state: String,
    /// What is being done, or was last.
    pub doing: String,
    /// How much of it.
    pub done: u64,
    /// Of how much; null where that is not known.
    pub of: Option<u64>,
    /// What came of it; null while it runs, or where it failed.
    pub result: Option<Json>,
    /// Why it failed; null where it did not.
    pub error: Option<String>,
    /// The kind of error, in one word; null where it did not fail.
    pub error_kind: Option<String>,
}

struct Run {
    number: u64,
    verb: &'static str,
    progress: Arc<Progress>,
    ended: Option<Result<Json, (String, String)>>,
}

impl Run {
    fn told(&self) -> Told {
        let Step { doing, done, of } = self.progress.now();
        let (state, result, error) = match &self.ended {
            None => ("running", None, None),
            Some(Ok(result)) => ("done", Some(result.clone()), None),
            Some(Err(error)) => ("failed", None, Some(error.clone())),
        };
        let (error_kind, error) = error.unzip();
        Told { run: self.number, verb: self.verb.into(), state: state.into(), doing, done, of, result, error, error_kind }
    }
}

/// The backups of a server.
pub struct Backups {
    larder: Larder,
    settings: BackupSettings,
    runs: Mutex<(u64, VecDeque<Run>)>,
}

impl Backups {
    /// Of a cache, as the settings say.
    pub fn new(larder: Larder, settings: BackupSettings) -> Arc<Self> {
        Arc::new(Backups { larder, settings, runs: Mutex::default() })
    }

    /// Where they are and which stay.
    pub fn settings(&self) -> &BackupSettings {
        &self.settings
    }

    /// Begins something. `None`: something else is under way.
    pub fn begin(self: &Arc<Self>, ask: Ask) -> Option<Told> {
        let progress = Arc::new(Progress::default());
        let turn = self.enter(ask.verb(), &progress)?;
        let told = self.look(turn.number);
        let backups = self.clone();
        // It ends by itself, by being cancelled, or with the cache, whose closing fails what it does next.
        tokio::spawn(
            async move { turn.ended(backups.carry_out(ask, progress).await.map_err(|error| (kind_of(&error), error.to_string()))) },
        );
        told
    }

    /// Does what is to be done by schedule, on the caller's own account: a backup, and then those go that need not stay.
    ///
    /// # Errors
    /// As [`Larder::backup`], and where something else is under way.
    pub async fn scheduled(self: &Arc<Self>, progress: Arc<Progress>) -> Result<Json, BackupError> {
        let busy = || BackupError::Refused("other work on backups is under way".to_owned());
        let turn = self.enter("scheduled", &progress).ok_or_else(busy)?;
        let ended = super::run(&self.larder, &self.settings, &progress).await;
        turn.ended(ended.as_ref().map(Json::clone).map_err(|error| (kind_of(error), error.to_string())));
        ended
    }

    /// Takes the turn, if nobody has it.
    fn enter(self: &Arc<Self>, verb: &'static str, progress: &Arc<Progress>) -> Option<Turn> {
        let mut runs = self.runs.lock();
        if runs.1.iter().any(|run| run.ended.is_none()) {
            return None;
        }
        runs.0 += 1;
        let number = runs.0;
        runs.1.push_back(Run { number, verb, progress: progress.clone(), ended: None });
        if runs.1.len() > REMEMBERED {
            runs.1.pop_front();
        }
        Some(Turn { backups: self.clone(), number, ended: None })
    }

    /// A run that is under way or ended lately.
    pub fn look(&self, number: u64) -> Option<Told> {
        self.runs.lock().1.iter().find(|run| run.number == number).map(Run::told)
    }

    /// Tells a run to stop. It ends at its next step.
    pub fn cancel(&self, number: u64) -> Option<Told> {
        self.runs.lock().1.iter().find(|run| run.number == number).map(|run| {
            run.progress.cancel();
            run.told()
        })
    }

    /// Tells whatever is under way to stop, for a server that is to end.
    pub fn stop(&self) {
        self.runs.lock().1.iter().for_each(|run| run.progress.cancel());
    }

    /// What opens backups: what is configured, and what was asked with.
    fn opener(&self, identities: &[Hidden], passphrase: Option<&Hidden>) -> Result<Option<Arc<dyn Opener>>, BackupError> {
        let mut keys = self.settings.keys.clone();
        keys.add_given(identities, passphrase).map_err(|why| BackupError::Refused(format!("identities: {why}")))?;
        Ok(keys.opener())
    }

    async fn carry_out(&self, ask: Ask, progress: Arc<Progress>) -> Result<Json, BackupError> {
        match ask {
            Ask::Create { name, namespaces, parent, encrypt_to, passphrase, place } => {
                let place = self.settings.place(place.as_deref())?;
                let sealer = self.settings.sealer(seal_by(&encrypt_to, passphrase)?).await?;
                let name = name.unwrap_or_else(|| name_at(self.larder.clock().refresh()));
                let options = BackupOptions { namespaces, parent, sealer, ..BackupOptions::new(name) };
                Ok(summary(&self.larder.backup(place, &options, progress).await?))
            }
            Ask::Restore(ask) => {
                let place = self.settings.place(ask.place.as_deref())?;
                let opener = self.opener(&ask.identities, ask.passphrase.as_ref())?;
                let options = RestoreOptions { opener, ..ask.options() };
                Ok(json!(self.larder.restore(place, &options, progress).await?))
            }
            Ask::Abandon {} => Ok(json!({ "abandoned": self.larder.abandon_restore().await? })),
            Ask::Verify { name, identities, passphrase, place } => {
                let place = self.settings.place(place.as_deref())?;
                let opener = self.opener(&identities, passphrase.as_ref())?;
                aside(move || Ok(json!(verify(&*place, &name, opener.as_deref(), &*progress)?))).await
            }
            Ask::Prune { keep, dry_run, place } => {
                let place = self.settings.place(place.as_deref())?;
                let retention = keep.map_or(self.settings.retention, Into::into);
                aside(move || Ok(json!(prune(&*place, retention, dry_run, &*progress)?))).await
            }
            Ask::Diff { first, second, identities, passphrase, place } => {
                let place = self.settings.place(place.as_deref())?;
                let opener = self.opener(&identities, passphrase.as_ref())?;
                aside(move || Ok(json!(diff(&*place, &first, &second, opener.as_deref(), &*progress)?))).await
            }
        }
    }
}

/// What a backup is to be sealed by, if anything was asked for.
fn seal_by(encrypt_to: &[String], passphrase: Option<Hidden>) -> Result<Option<SealBy>, BackupError> {
    let refused = BackupError::Refused;
    match (encrypt_to, passphrase) {
        ([], None) => Ok(None),
        ([], Some(Hidden(text))) => Passphrase::to_seal_by(text).map(|passphrase| Some(SealBy::Passphrase(passphrase))).map_err(refused),
        (keys, None) => {
            let recipients = keys.iter().map(|key| key.parse()).collect::<Result<_, String>>();
            recipients.map(|recipients| Some(SealBy::Recipients(recipients))).map_err(|why| refused(format!("encrypt_to: {why}")))
        }
        _ => Err(refused("a backup is encrypted to keys or by a passphrase, not both".to_owned())),
    }
}

/// The right to work on backups. One that is dropped without a word, because what had it was dropped or panicked, is over as well.
struct Turn {
    backups: Arc<Backups>,
    number: u64,
    ended: Option<Result<Json, (String, String)>>,
}

impl Turn {
    fn ended(mut self, ended: Result<Json, (String, String)>) {
        if let Err((_, error)) = &ended {
            tracing::warn!(run = self.number, %error, "work on backups failed");
        }
        self.ended = Some(ended);
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let cut_off = || Err(("failed".to_owned(), "it was cut off".to_owned()));
        let ended = self.ended.take().unwrap_or_else(cut_off);
        let mut runs = self.backups.runs.lock();
        runs.1.iter_mut().filter(|run| run.number == self.number).for_each(|run| run.ended = Some(ended.clone()));
    }
}

impl AskRestore {
    /// The same for the library, without what opens it.
    pub fn options(&self) -> RestoreOptions {
        let present = match self.present {
            OnPresent::IfNewer => Present::KeepNewer,
            OnPresent::Replace => Present::Replace,
            OnPresent::MissingOnly => Present::KeepPresent,
        };
        let ttl = match self.ttl {
            OnTtl::Keep => Ttl::Keep,
            OnTtl::Shift => Ttl::Shift,
            OnTtl::Ignore => Ttl::Ignore,
        };
        RestoreOptions {
            name: self.name.clone(),
            namespaces: self.namespaces.clone(),
            pattern: self.pattern.clone(),
            rename: self.rename.clone(),
            present,
            ttl,
            dry_run: self.dry_run,
            log_of_then: self.log_of_then.clone(),
            accept_unknown_invalidations: self.accept_unknown_invalidations,
            opener: None,
        }
    }
}

/// In one word, for programs.
fn kind_of(error: &BackupError) -> String {
    use larder::ErrorKind;
    let word = match error {
        BackupError::Refused(_) => "refused",
        BackupError::Failed(error) => match error.kind() {
            ErrorKind::BadArchive | ErrorKind::UnknownFormat => "bad-archive",
            ErrorKind::NotFound => "not-found",
            ErrorKind::Sealed => "sealed",
            ErrorKind::UnknownPosition => "unknown-invalidations",
            ErrorKind::Cancelled => "cancelled",
            ErrorKind::InvalidConfig | ErrorKind::InvalidPattern => "refused",
            _ => "failed",
        },
    };
    word.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_of_another_type_are_not_repeated() {
        for ask in [
            json!({ "do": "verify", "name": "x", "identities": "AGE-SECRET-KEY-1QQQ" }),
            json!({ "do": "verify", "name": "x", "passphrase": 1_234_567_890_123u64 }),
            json!({ "do": "diff", "first": "x", "second": "y", "identities": ["a", ["AGE-SECRET-KEY-1QQQ"]] }),
            json!({ "do": "create", "encrypt_to": "AGE-SECRET-KEY-1QQQ" }),
            json!({ "do": "create", "passphrase": ["AGE-SECRET-KEY-1QQQ"] }),
            json!({ "do": "restore", "name": "x", "identities": "AGE-SECRET-KEY-1QQQ" }),
            json!({ "do": "restore", "name": "x", "passphrase": { "AGE-SECRET-KEY-1QQQ": 1 } }),
        ] {
            let told = serde_json::from_str::<Ask>(&ask.to_string()).expect_err("it is of another type").to_string();
            assert!(told.contains("is not shown here") && !told.contains("QQQ") && !told.contains("123456"), "{told}");
        }
        let right = json!({ "do": "verify", "name": "x", "identities": ["key"], "passphrase": "words", "place": null });
        let read = serde_json::from_value::<Ask>(right.clone()).expect("it is right");
        assert_eq!(json!(read), right);
    }
}
