//! What keeps readers from seeing half of a restore, across the end of the process and in all servers: the hold, and what remembers it.
//!
//! ```text
//!   hold in the shared log -> position appended -> hold in the index -> DATA/restoring on stable storage -> entries written ...
//!     all on stable storage -> "restored" appended -> hold taken from the shared log -> DATA/restoring removed -> hold let go
//! ```
//!
//! Where a log is shared, so is the tier, and an entry there carries the number of the hold it was written under. Whoever reads one of a
//! hold that he does not know to be over asks the log: while it is in force the entry is a miss. So all servers see all of a restore from
//! one step of it on, also one that was started since, or never heard of it. It takes no position for that, and no server has to have
//! caught up. The index's own hold is then for those namespaces alone that the tier does not have.
//!
//! A process that ends anywhere in between finds the file when it opens, and holds again. It is removed only once everything is there, so
//! after it is gone there is nothing to hold. It says of what the restore is, and by what it judged: another one, let go in the end, would
//! show what this one left half done, or took for fresh for want of knowing better. Of another epoch than the one in force it means
//! nothing: all that was written is stale.

use std::fmt;
use std::fs::{self, File};
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use super::RestoreOptions;
use super::manifest::Manifest;
use crate::cache::{Larder, Shared};
use crate::error::{Error, ErrorKind, Result};
use crate::freshness::{Hold, Index, Named};
use crate::key::RESERVED;
use crate::log::{Append, Appended, Next, SharedHold};
use crate::name::{Name, Names};
use crate::position::{Position, Stamp};

/// See the head of this file.
#[derive(Default)]
pub(crate) struct Staging {
    running: AtomicBool,
    /// Whether the one that runs writes, or is about to.
    writing: AtomicBool,
    /// Where it is remembered, if anything outlives the process.
    file: Option<PathBuf>,
    /// What the hold in force is of, where that is known.
    of: Mutex<Option<Of>>,
    /// The position of the hold in force, where the file says so.
    at: Mutex<Option<Position>>,
}

/// What a restore judges entries by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Judged {
    LogInForce,
    Archive,
    /// As far as it went: later it may know more.
    LogOfThen {
        last: u64,
    },
}

impl fmt::Display for Judged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Judged::LogInForce => write!(f, "the log in force"),
            Judged::Archive => write!(f, "the archive alone"),
            Judged::LogOfThen { last } => write!(f, "the log of then up to position {last}"),
        }
    }
}

/// What a restore is of: one that goes on has the same. What it does with what is there, and with spans of time, may be another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Of {
    backup: String,
    /// Another backup that got its name is another.
    taken_at_ms: u64,
    pattern: Option<String>,
    rename: Vec<(String, String)>,
    /// Who knows more would leave in place what the one before wrote and should not have.
    judged: Judged,
}

impl Of {
    pub(super) fn restore(options: &RestoreOptions, newest: &Manifest, judged: Judged) -> Self {
        let (mut rename, pattern) = (options.rename.clone(), options.pattern.clone());
        rename.sort_unstable();
        Of { backup: newest.name.clone(), taken_at_ms: newest.taken_at_ms, pattern, rename, judged }
    }
}

impl fmt::Display for Of {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, " from the backup \"{}\"", self.backup)?;
        self.pattern.iter().try_for_each(|pattern| write!(f, " matching \"{pattern}\""))?;
        self.rename.iter().try_for_each(|(from, to)| write!(f, ", \"{from}\" as \"{to}\""))
    }
}

/// What a hold is of, as the file and the shared log have it.
#[derive(Clone, Serialize, Deserialize)]
struct Held {
    /// Another one with each that goes on, so that whoever ends what he has begun does not end what others went on with.
    #[serde(default, skip_serializing_if = "is_zero")]
    turn: u64,
    /// What is done with what is there, and with spans of time, where several may run at once: the one that is done first shows all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    how: Option<String>,
    /// Absent: not known, and any goes on.
    of: Option<Of>,
    /// Absent: all.
    namespaces: Option<Vec<Vec<u8>>>,
}

/// What the file says.
#[derive(Serialize, Deserialize)]
struct Remembered {
    position: String,
    #[serde(flatten)]
    held: Held,
}

/// As the attribute wants it.
#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_zero(turn: &u64) -> bool {
    *turn == 0
}

impl Held {
    fn new(of: Option<Of>, namespaces: Option<&[Box<[u8]>]>) -> Self {
        Held { turn: 0, how: None, of, namespaces: namespaces.map(|names| names.iter().map(|name| name.to_vec()).collect()) }
    }

    /// What a shared log says. One that a later version wrote is of everything, as far as this one can tell.
    fn of_shared(shared: &SharedHold) -> Self {
        serde_json::from_slice(&shared.of).unwrap_or(Held { turn: 0, how: None, of: None, namespaces: None })
    }

    fn into_namespaces(self) -> Option<Vec<Box<[u8]>>> {
        self.namespaces.map(|names| names.into_iter().map(Vec::into_boxed_slice).collect())
    }

    /// Whether a restore of these namespaces, of this, may go on with it: letting go in the end shows what the one before left half done.
    /// Where that may still run elsewhere it has to be of the same namespaces, since whichever is done first lets go.
    fn check_goes_on(&self, namespaces: Option<&[Box<[u8]>]>, of: &Of, how: Option<&str>) -> Result<()> {
        let is_shared = how.is_some();
        let covers = match (namespaces, &self.namespaces) {
            (None, None) => true,
            (None, Some(_)) => !is_shared,
            (Some(_), None) => false,
            (Some(now), Some(before)) => {
                before.iter().all(|name| now.iter().any(|one| **one == **name)) && (!is_shared || now.len() == before.len())
            }
        };
        let is_same = self.of.as_ref().is_none_or(|before| before == of);
        if covers && is_same && (!is_shared || self.how.as_deref() == how) {
            return Ok(());
        }
        let what = self.of.as_ref().map_or(String::new(), Of::to_string);
        let shown = shown(self.namespaces.as_deref());
        let message = match self.of.as_ref().filter(|before| covers && Of { judged: of.judged, ..(*before).clone() } == *of) {
            _ if covers && is_same => format!(
                "a restore of {shown}{what} was interrupted, or runs on another server, with other wishes for what is there and for times to \
                 live: run it as it was, or give it up first"
            ),
            Some(Of { judged, .. }) => format!(
                "a restore of {shown}{what} was interrupted, which judged what is stale by {judged}; this one would by {}, and would \
                 show what that one wrote: run it as it was, or give it up first",
                of.judged
            ),
            None => format!(
                "a restore of {shown}{what} was interrupted, or runs on another server: run the same again, or give it up, before another"
            ),
        };
        Err(Error::new(ErrorKind::Overloaded, message))
    }
}

/// The hold of the restore that runs.
#[derive(Clone, Debug)]
pub(super) struct Holding {
    /// What is written is below it.
    pub(super) below: Stamp,
    pub(super) position: Position,
    /// Where others find what is written: the hold that records are marked with.
    pub(super) shared: Option<SharedHold>,
    /// Whether one that was interrupted goes on.
    pub(super) goes_on: bool,
    /// What the tier had lost of what it had accepted.
    lost: u64,
}

impl Staging {
    pub(crate) fn new(data: Option<PathBuf>) -> Self {
        Staging { file: data.map(|data| data.join("restoring")), ..Staging::default() }
    }

    /// Holds again what was held when the process ended.
    pub(crate) fn take_up(&self, shared: &Shared) -> Result<()> {
        let Some(file) = &self.file else { return Ok(()) };
        let bytes = match fs::read(file) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
            bytes => bytes.map_err(|e| failed("read", file, e))?,
        };
        let remembered: Option<Remembered> = serde_json::from_slice(&bytes).ok();
        let of = remembered.as_ref().and_then(|remembered| remembered.held.of.clone());
        let position = remembered.as_ref().and_then(|remembered| remembered.position.parse::<Position>().ok());
        let hold = match (remembered, position) {
            (Some(remembered), Some(position)) => match shared.index.stamp_of(position) {
                Some(below) => Hold { below, namespaces: remembered.held.into_namespaces() },
                None => return self.forget(Some(position)),
            },
            // Damaged: whatever was being restored, it is as old as this at least.
            _ => Hold { below: shared.index.latest(), namespaces: None },
        };
        tracing::warn!(
            namespaces = %shown(hold.namespaces.as_deref()),
            "a restore was interrupted: what is older than it in these namespaces counts as invalidated until it is run again or given up"
        );
        (*self.of.lock(), *self.at.lock()) = (of, position);
        shared.index.hold(Some(hold));
        Ok(())
    }

    fn remember(&self, hold: &Hold, position: Position, of: Of) -> Result<()> {
        let Some(file) = &self.file else { return Ok(()) };
        let held = Held::new(Some(of), hold.namespaces.as_deref());
        let bytes = serde_json::to_vec(&Remembered { position: position.to_string(), held });
        let bytes = bytes.map_err(|e| Error::new(ErrorKind::Backup, "a restore cannot be remembered").with_source(e))?;
        let part = file.with_extension("part");
        let write = || {
            fs::write(&part, bytes)?;
            File::open(&part)?.sync_all()?;
            fs::rename(&part, file)?;
            self.sync_folder()
        };
        write().map_err(|e| failed("write", file, e))
    }

    /// Removes the file, unless it is of another hold than the one at this position.
    fn forget(&self, at: Option<Position>) -> Result<()> {
        let Some(file) = &self.file else { return Ok(()) };
        let there = fs::read(file).ok().and_then(|bytes| serde_json::from_slice::<Remembered>(&bytes).ok());
        let there = there.and_then(|there| there.position.parse::<Position>().ok());
        if there.is_some() && at.is_some() && there != at {
            tracing::warn!(file = %file.display(), "it remembers another restore than the one that ended, and stays");
            return Ok(());
        }
        match fs::remove_file(file) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(failed("remove", file, e)),
            _ => self.sync_folder().map_err(|e| failed("remove", file, e)),
        }
    }

    fn sync_folder(&self) -> io::Result<()> {
        match self.file.as_deref().and_then(std::path::Path::parent) {
            Some(folder) => File::open(folder)?.sync_all(),
            None => Ok(()),
        }
    }
}

fn failed(what: &str, file: &std::path::Path, e: io::Error) -> Error {
    Error::new(ErrorKind::Backup, format!("cannot {what} {}", file.display())).with_source(e)
}

fn shown<N: AsRef<[u8]>>(namespaces: Option<&[N]>) -> String {
    match namespaces {
        None => "all".into(),
        Some(names) => names.iter().map(|name| name.as_ref().escape_ascii().to_string()).collect::<Vec<_>>().join(", "),
    }
}

/// The one restore that runs. Dropped before it is [seen](Self::publish), it leaves the hold.
pub(super) struct Running {
    shared: Arc<Shared>,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.shared.staging.writing.store(false, Ordering::Release);
        self.shared.staging.running.store(false, Ordering::Release);
    }
}

impl Running {
    /// Makes sure that it is the only one.
    pub(super) fn begin(shared: &Arc<Shared>) -> Result<Self> {
        if shared.staging.running.swap(true, Ordering::AcqRel) {
            return Err(Error::new(ErrorKind::Overloaded, "another restore is under way, and one at a time is all there can be"));
        }
        Ok(Running { shared: shared.clone() })
    }

    /// Takes these namespaces out of sight for a restore.
    pub(super) async fn hold(&self, namespaces: Option<Vec<Box<[u8]>>>, of: Of, options: &RestoreOptions) -> Result<Holding> {
        let how = format!("{:?}, {:?}", options.present, options.ttl);
        let shared = &self.shared;
        // Before its name is appended: whoever sees that it does not write is before that name, or after it ended.
        shared.staging.writing.store(true, Ordering::SeqCst);
        // What was written in an epoch that is over is stale, and in nobody's way.
        let before = shared.index.held().filter(|before| before.below.generation() == shared.index.latest().generation());
        let shared_before = shared.log.shared_hold().await?;
        if let Some(before) = &before {
            let of_before = shared.staging.of.lock().clone();
            Held::new(of_before, before.namespaces.as_deref()).check_goes_on(namespaces.as_deref(), &of, None)?;
        }
        if let Some(before) = &shared_before {
            Held::of_shared(before).check_goes_on(namespaces.as_deref(), &of, Some(&how))?;
        }
        let goes_on = before.is_some() || shared_before.is_some();
        let lost = lost(shared);
        let held = self.hold_for_others(shared_before.as_ref(), namespaces.as_deref(), (&of, how)).await?;
        match self.hold_here(before, namespaces, of).await {
            Ok((below, position)) => Ok(Holding { below, position, shared: held, goes_on, lost }),
            Err(error) => {
                // Nothing was written yet; what a restore before this one left is held as it was.
                let next = shared_before.as_ref().map_or(Next::Seen, Next::Hold);
                if let Some(held) = held
                    && let Err(error) = shared.log.swap_shared_hold(shared.index.epoch(), Some(&held), next).await
                {
                    tracing::warn!(%error, "a restore that could not begin is held in the shared log: run it again, or give it up");
                }
                Err(error)
            }
        }
    }

    /// Where others read what is written: that they are not to.
    async fn hold_for_others(
        &self,
        before: Option<&SharedHold>,
        namespaces: Option<&[Box<[u8]>]>,
        (of, how): (&Of, String),
    ) -> Result<Option<SharedHold>> {
        let shared = &self.shared;
        if !holds_for_others(shared) {
            return Ok(None);
        }
        let number = before.map_or_else(|| fastrand::u64(1..), |before| before.number);
        let of = serde_json::to_vec(&Held { turn: fastrand::u64(1..), how: Some(how), ..Held::new(Some(of.clone()), namespaces) });
        let of = of.map_err(|e| Error::new(ErrorKind::Backup, "a restore cannot be remembered").with_source(e))?;
        let hold = SharedHold { number, of };
        let is_held = match shared.log.swap_shared_hold(shared.index.epoch(), before, Next::Hold(&hold)).await {
            // The answer may have been lost, and not what was asked.
            Err(error) => match shared.log.shared_hold().await {
                Ok(there) if there.as_ref() == Some(&hold) => true,
                _ => return Err(error),
            },
            swapped => swapped?,
        };
        if !is_held {
            let message = "another server began or ended a restore at the same moment: try again";
            return Err(Error::new(ErrorKind::Overloaded, message));
        }
        Ok(Some(hold))
    }

    /// Holds in the index, and remembers it. Where that fails, what a restore before this one left is held as it was.
    async fn hold_here(&self, before: Option<Hold>, namespaces: Option<Vec<Box<[u8]>>>, of: Of) -> Result<(Stamp, Position)> {
        let shared = &self.shared;
        // Nobody waits for this name. It is there so that every stamp of what is restored is below `latest`: see `freshness/holds.rs`.
        let appended = self.append(BEGUN).await?;
        let Some(namespaces) = self.held_here(namespaces) else { return Ok((appended.stamp, appended.position)) };
        let hold = Hold { below: appended.stamp, namespaces };
        shared.index.hold(Some(hold.clone()));
        let of_before = shared.staging.of.lock().replace(of.clone());
        let at_before = shared.staging.at.lock().replace(appended.position);
        let remembering = {
            let (shared, position) = (shared.clone(), appended.position);
            super::blocking(move || shared.staging.remember(&hold, position, of)).await
        };
        if remembering.is_err() {
            shared.index.hold(before);
            (*shared.staging.of.lock(), *shared.staging.at.lock()) = (of_before, at_before);
        }
        remembering.map(|()| (appended.stamp, appended.position))
    }

    /// The namespaces that the index has to hold: where others have the rest, those that the tier does not have. `None`: it need not.
    fn held_here(&self, namespaces: Option<Vec<Box<[u8]>>>) -> Option<Option<Vec<Box<[u8]>>>> {
        let shared = &self.shared;
        if !holds_for_others(shared) {
            return Some(namespaces);
        }
        let here = match (namespaces, shared.unbacked()) {
            (None, None) => return Some(None),
            (None, Some(unbacked)) => unbacked,
            (Some(names), _) => names.into_iter().filter(|name| !shared.space_of(name).policy.backing).collect(),
        };
        (!here.is_empty()).then_some(Some(here))
    }

    /// Appends a name of our own.
    async fn append(&self, name: &[u8]) -> Result<Appended> {
        let shared = &self.shared;
        let append = Append {
            names: vec![Name::Key([RESERVED, name].concat().into())],
            marks: Vec::new(),
            durability: shared.invalidation_durability,
            guard: None,
            writes: Vec::new(),
            mode: shared.mode,
            is_put: false,
        };
        let appended = shared.append(append).await?;
        if appended.queued {
            let message = "the log that is shared with others cannot be reached: nothing that is restored is seen";
            return Err(Error::new(ErrorKind::LogUnavailable, message));
        }
        Ok(appended)
    }

    /// Waits until all that was written under the hold is on stable storage, and lets backups know.
    pub(super) async fn complete(&self, holding: &Holding) -> Result<()> {
        if let Some(tier) = &self.shared.tier {
            tier.flush().await?;
        }
        if lost(&self.shared) != holding.lost {
            let message = "the backing tier gave up writes that it had taken, perhaps of what was restored: run it again";
            return Err(Error::new(ErrorKind::Tier, message));
        }
        // After the last entry: a backup whose position is before this one may have missed some of them.
        let appended = self.append(RESTORED).await?;
        if appended.stamp.generation() != holding.below.generation() {
            return Err(epoch_ended());
        }
        Ok(())
    }

    /// Whether it still is what others are not to see.
    pub(super) async fn check_held(&self, holding: &Holding) -> Result<()> {
        let Some(hold) = &holding.shared else { return Ok(()) };
        if self.shared.log.has_shared_hold(hold.number).await? { Ok(()) } else { Err(ended_elsewhere()) }
    }

    /// Lets all of it be seen.
    pub(super) async fn publish(self, holding: Holding, replaces: bool) -> Result<()> {
        // By its number alone: whoever went on with the same restore writes what is there already.
        let is_first = match holding.shared {
            Some(hold) => self.let_go_for_others(&SharedHold { of: Vec::new(), ..hold }, Next::Seen, replaces).await?,
            None => true,
        };
        self.let_go_here().await?;
        if is_first { Ok(()) } else { Err(ended_elsewhere()) }
    }

    /// Lets go of what nothing was written under.
    pub(super) async fn let_go_unused(&self, holding: &Holding) -> Result<()> {
        if let Some(hold) = &holding.shared {
            // Not there any more as it was: others went on with it, and it is theirs.
            self.shared.log.swap_shared_hold(self.shared.index.epoch(), Some(hold), Next::Seen).await?;
        }
        self.let_go_here().await
    }

    /// Takes a hold away for all servers, and tells them. `false`: that one is not in force.
    async fn let_go_for_others(&self, hold: &SharedHold, next: Next<'_>, replaces: bool) -> Result<bool> {
        let shared = &self.shared;
        let swap = || shared.log.swap_shared_hold(shared.index.epoch(), Some(hold), next);
        let was_there = match swap().await {
            Err(error) if error.kind() == ErrorKind::UnknownPosition => return Err(epoch_ended()),
            // The answer may have been lost, and not what was asked: then it is not there any more.
            Err(_) => swap().await? || !shared.log.has_shared_hold(hold.number).await?,
            swapped => swapped?,
        };
        // Those whom others told that keys are not there must ask again.
        let names: &[&[u8]] = if replaces { &[SEEN, REPLACED] } else { &[SEEN] };
        for name in names {
            if let Err(error) = self.append(name).await {
                tracing::warn!(%error, "a restore is over, and other servers were not told: what they keep may be from before");
            }
        }
        if replaces {
            shared.forget_copies();
        }
        Ok(was_there)
    }

    /// Lets go of what is held here.
    async fn let_go_here(&self) -> Result<()> {
        let shared = self.shared.clone();
        let at = *shared.staging.at.lock();
        super::blocking(move || shared.staging.forget(at)).await?;
        self.shared.index.hold(None);
        (*self.shared.staging.of.lock(), *self.shared.staging.at.lock()) = (None, None);
        // Those who were told of keys, that they are not there, must ask again.
        self.shared.index.notices.lost();
        Ok(())
    }
}

/// Whether what is restored into the tier is held in the shared log, for all who read it.
fn holds_for_others(shared: &Shared) -> bool {
    shared.log.is_shared() && shared.tier.as_ref().is_some_and(|tier| tier.knows_holds())
}

/// What the tier lost of what it had accepted.
fn lost(shared: &Shared) -> u64 {
    shared.tier.as_ref().map_or(0, |tier| tier.stats().lost)
}

/// The name that is appended when a restore begins to write.
const BEGUN: &[u8] = b"restore";

/// The name that is appended when a restore is complete.
const RESTORED: &[u8] = b"restored";

/// The name that is appended when what was restored is seen by all who share the log.
const SEEN: &[u8] = b"seen";

/// The name that is appended when what was there was replaced, also in a backing tier that others have copies of.
const REPLACED: &[u8] = b"replaced";

/// What others who share the log are told by a name, since nobody tells them of the keys one by one.
#[cfg(feature = "redis")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Told {
    /// Keys are there which were not.
    Seen,
    /// What memory has of the backing tier is not what that has.
    Replaced,
}

#[cfg(feature = "redis")]
impl Told {
    pub(crate) fn by(name: &Name) -> Option<Self> {
        let Name::Key(key) = name else { return None };
        let of = |word: &[u8]| key.strip_prefix(RESERVED) == Some(word);
        if of(SEEN) { Some(Told::Seen) } else { of(REPLACED).then_some(Told::Replaced) }
    }
}

/// Whether a restore was begun or completed since: what it brought has stamps of before, also where it was never completed.
pub(super) fn restored_since(index: &Index, since: Stamp) -> bool {
    [BEGUN, RESTORED].into_iter().any(|name| {
        let key = [RESERVED, name].concat();
        index.judge_for_good(Named::of(&key, &index.hashes(&key, &[])), since).is_some()
    })
}

/// What a backup that is taken now may lack, and whoever stands on it would take for known: what a restore has still to write, under stamps
/// of before. Where that one is never completed, nothing tells.
pub(super) fn check_no_restore(shared: &Shared) -> Result<()> {
    if shared.staging.writing.load(Ordering::SeqCst) {
        return Err(Error::new(
            ErrorKind::Overloaded,
            "a restore is under way, and a backup would have half of it: take one when it is over",
        ));
    }
    Ok(())
}

pub(super) fn epoch_ended() -> Error {
    let message = "the log began another epoch while the backup was restored, so what was written is stale; run it again";
    Error::new(ErrorKind::UnknownPosition, message)
}

/// The hold that a restore wrote under is not in force any more.
fn ended_elsewhere() -> Error {
    let message = "another server completed this restore meanwhile, or gave it up, so it does not say what of it is seen: run it again";
    Error::new(ErrorKind::Overloaded, message)
}

/// See [`Larder::abandon_restore`].
pub(super) async fn abandon(larder: &Larder) -> Result<bool> {
    let running = Running::begin(&larder.0)?;
    let shared = &larder.0;
    let (here, everywhere) = (shared.index.held(), shared.log.shared_hold().await?);
    if let Some(hold) = &everywhere {
        let both = [Some(Held::of_shared(hold).into_namespaces()), here.map(|hold| hold.namespaces)];
        let namespaces = both.into_iter().flatten().collect::<Option<Vec<_>>>().map(|lists| lists.concat());
        invalidate(larder, namespaces).await?;
        // As it was when it was looked at: what others went on with since is theirs.
        if !running.let_go_for_others(hold, Next::GivenUp, false).await? {
            let message = "another server goes on with the restore, or ended it, so it is not given up here";
            return Err(Error::new(ErrorKind::Overloaded, message));
        }
    } else if let Some(hold) = here {
        if holds_for_others(shared) {
            // Others are done with it. What is left is what this memory alone has.
            shared.forget_in_memory(|key, stamp| hold.has(key, stamp));
        } else {
            invalidate(larder, hold.namespaces).await?;
        }
    } else {
        return Ok(false);
    }
    running.let_go_here().await?;
    Ok(true)
}

/// Everything of these namespaces; `None`: of all.
async fn invalidate(larder: &Larder, namespaces: Option<Vec<Box<[u8]>>>) -> Result<()> {
    let texts: Option<Vec<&str>> = namespaces.as_ref().and_then(|names| names.iter().map(|name| std::str::from_utf8(name).ok()).collect());
    let names = match texts.filter(|names| names.iter().all(|name| crate::key::check_namespace(name).is_ok())) {
        Some(names) => names.into_iter().fold(Names::new(), |all, name| all.namespace(name).key(name)),
        None => Names::new().everything(),
    };
    let receipt = larder.invalidate(names).await?;
    if receipt.is_queued() {
        return Err(Error::new(ErrorKind::LogUnavailable, "the log that is shared with others cannot be reached: nothing was given up"));
    }
    Ok(())
}
