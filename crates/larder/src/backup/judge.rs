//! Whether an entry of an archive is still what a read may return, and under which stamp: the heart of a restore.

use std::path::Path;
use std::sync::Arc;

use super::archive::Kept;
use super::seal::Readable;
use super::source::{Held, LogOfThen};
use super::staging::Judged;
use super::{Place, RestoreOptions, blocking, source};
use crate::cache::Shared;
use crate::error::{Error, ErrorKind, Result};
use crate::freshness::{Index, Named};
use crate::mutation::Mutation;
use crate::origin::sources_of;
use crate::position::{Epoch, Position, Stamp};

/// See the head of this file.
pub(super) struct Judge {
    shared: Arc<Shared>,
    /// The position that stamps are given as, of the epoch in force.
    generation: u32,
    /// Where the archive is of another epoch: all that is known of that one.
    then: Option<Index>,
    judged: Judged,
    /// Whoever would go on with the log of then.
    _held: Option<Held>,
}

impl Judge {
    /// Who can judge the entries of a chain, whose newest backup is given.
    pub(super) async fn of(shared: &Arc<Shared>, place: Arc<dyn Place>, newest: &Readable, options: &RestoreOptions) -> Result<Self> {
        let latest = shared.index.latest();
        let generation = latest.generation();
        let judge = |then, judged, held| Judge { shared: shared.clone(), generation, then, judged, _held: held };
        let (here, there) = (shared.index.epoch(), newest.epoch());
        if shared.index.latest_position().is_none() || shared.index.position_of(latest).is_none() {
            let message = "the log that is shared with others cannot be reached now: what was invalidated is not known";
            return Err(Error::new(ErrorKind::LogUnavailable, message));
        }
        if here == there {
            if newest.index.head > latest.seq() {
                let message = format!(
                    "the backup knows position {} of this log, which has only got to {}: the log lost its end, and with it invalidations",
                    newest.index.head,
                    latest.seq()
                );
                return Err(Error::new(ErrorKind::UnknownPosition, message));
            }
            return Ok(judge(None, Judged::LogInForce, None));
        }
        if let Some(folder) = options.log_of_then.clone() {
            let (head, accepts) = (newest.index.head, options.accept_unknown_invalidations);
            let then = blocking(move || by_log(&folder, (there, head), accepts)).await?;
            if let Some((then, last, held)) = then {
                return Ok(judge(Some(then), Judged::LogOfThen { last }, held));
            }
        } else if !options.accept_unknown_invalidations {
            let message = format!(
                "the backup was taken in epoch {there} of the log, and epoch {here} is in force: what was invalidated between the backup \
                 and the end of its epoch cannot be known. Give the log of that time, or accept that what was invalidated then comes back"
            );
            return Err(Error::new(ErrorKind::UnknownPosition, message));
        }
        let newest = newest.clone();
        let then = blocking(move || Ok(source::index(&*place, &newest)?.to_index(0))).await?;
        Ok(judge(Some(then), Judged::Archive, None))
    }

    /// What it judges by.
    pub(super) fn judged(&self) -> Judged {
        self.judged
    }

    /// The stamp under which an entry is restored as `key`, which may be another than its own. `None`: something that it depends on was
    /// invalidated since.
    pub(super) fn stamp(&self, kept: &Kept<'_>, tags: &[Box<[u8]>], key: &[u8]) -> Option<Stamp> {
        if self.shared.mutations.on(Mutation::RestoreStampsAnew) {
            return Some(self.shared.index.latest());
        }
        let seq = match &self.then {
            None => kept.seq,
            Some(then) => {
                let stamp = Stamp::new(then.latest().generation(), kept.seq);
                is_fresh(then, kept.key, (kept, tags), stamp).then_some(0)?
            }
        };
        let stamp = Stamp::new(self.generation, seq);
        let index = &self.shared.index;
        // Under both names: what was invalidated as what it was is not brought back by calling it something else.
        let fresh = |key| is_fresh(index, key, (kept, tags), stamp);
        let fresh = fresh(kept.key) && (kept.key == key || fresh(key));
        fresh.then_some(stamp)
    }

    /// The generation of the epoch in force when it began.
    pub(super) fn generation(&self) -> u32 {
        self.generation
    }

    /// A stamp as others understand it. `None`: the epoch ended meanwhile.
    pub(super) fn position_of(&self, stamp: Stamp) -> Option<Position> {
        self.shared.index.position_of(stamp)
    }
}

/// All that a log knows of the epoch that a backup was taken in, which knows that epoch up to `head`. It must know at least as much, and be
/// at its end, which is returned, too: what comes after is unknown. Where that is accepted, it is believed as far as it goes; `None`: the
/// backup knows more.
fn by_log(folder: &Path, (there, head): (Epoch, u64), accepts: bool) -> Result<Option<(Index, u64, Option<Held>)>> {
    let LogOfThen { epoch, last, index, held } = match source::log_of_then(folder) {
        Err(error) if accepts && error.kind() == ErrorKind::UnknownPosition => {
            tracing::warn!(%error, "the log of then cannot be believed, and what was invalidated after the backup is not known");
            return Ok(None);
        }
        read => read?,
    };
    let is_known = epoch == there && last >= head;
    let unknown = match (epoch == there, is_known) {
        (false, _) => format!("is of epoch {epoch}, and the backup was taken in {there}"),
        (_, false) => format!("ends at position {last}, before the backup, which knows {head}"),
        _ if held.is_none() => "is in use by a process, or may be, so what is still to be invalidated there is not known".to_owned(),
        _ => return Ok(Some((index, last, held))),
    };
    let message = format!("the log in {} {unknown}", folder.display());
    if !accepts {
        return Err(Error::new(ErrorKind::UnknownPosition, message));
    }
    tracing::warn!("{message}; the restore goes on as it was told to");
    Ok(is_known.then_some((index, last, held)))
}

fn is_fresh(index: &Index, key: &[u8], (kept, tags): (&Kept<'_>, &[Box<[u8]>]), stamp: Stamp) -> bool {
    let sources = sources_of(kept.origin.as_deref());
    let hashes = index.hashes_from(key, tags, sources);
    index.judge_for_good(Named { key, hashes: &hashes, sources }, stamp).is_none()
}
