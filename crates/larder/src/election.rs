//! Duties that come due at instants and are to be done once by all instances together: a claim is a lease with a token, and what is done
//! counts only under the newest token.
//!
//! A lease alone does not keep a holder that was paused from going on when it wakes. So every claim has a *token*, each larger than the
//! one before (M. Kleppmann, "How to do distributed locking", 2016: fencing), and the token is compared where the effect lands: in the one
//! script that records what came of it. Whoever lost the lease meanwhile is told so, and records nothing.
//!
//! Without Redis all of it is in this process, by the same rules.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;

use crate::cache::Larder;
use crate::error::{Error, ErrorKind, Result};
use crate::log::Log;

mod rules;

use rules::State;

/// The longest name of a duty, terms, or holder.
const NAME_LEN_MAX: usize = 256;

/// Duties that there can be.
const DUTIES_MAX: usize = 256;

/// Records of a duty that are kept.
pub const RECORDS_MAX: usize = 100;

/// The most bytes of a record.
pub const RECORD_BYTES_MAX: usize = 256 << 10;

/// Something that is to be done at instants, once among all instances that share the cache. See [`Larder::duty`].
#[derive(Clone)]
pub struct Duty {
    larder: Larder,
    name: String,
}

/// What an instance knows of a duty from before. The default is for one that knows nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Remembered {
    /// Up to which instant all is over, by the same terms; 0 where that is not known.
    pub done_ms: u64,
    /// The largest token that it met.
    pub token: u64,
    /// Whether it knows that nothing is to be done by schedule. In one step with the rest: were it said later, somebody else could begin
    /// in between what is due.
    pub paused: bool,
}

/// The right to do what is due at one instant, until somebody else has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Claim {
    /// Larger than that of every claim of this duty before.
    pub token: u64,
    /// The instant at which it was due, in milliseconds since 1970; of one that is not by schedule, when it was asked for.
    pub due_ms: u64,
    /// Whether it is by schedule.
    pub scheduled: bool,
    /// The how many-th claim of this instant it is: more than 1, and those before did not finish.
    pub attempt: u32,
}

/// What became of a claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Claimed {
    /// It is the caller's.
    Won(Claim),
    /// Somebody is at it, or at another instant of the same duty.
    Held,
    /// All up to this instant is over, or nobody has taken part yet.
    Over,
    /// Nothing is done by schedule now.
    Paused,
}

/// What became of a lease that was to go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Renewed {
    /// It goes on.
    Kept,
    /// It goes on, and somebody asks that the work be stopped.
    Cancel,
    /// Somebody else has it, or had it and is done. What goes on under it counts for nothing.
    Lost,
}

/// How a duty stands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    /// Whether anybody has taken part since it was known last. Where Redis has lost it, whoever remembers is to [enrol](Duty::enrol) again.
    pub enrolled: bool,
    /// Up to which instant all is over, in milliseconds since 1970.
    pub done_ms: u64,
    /// Whether nothing is done by schedule.
    pub paused: bool,
    /// The token of the newest record; 0 where there is none.
    pub newest: u64,
    /// Who is at it.
    pub held: Option<Held>,
}

/// A claim that somebody has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    /// Its token.
    pub token: u64,
    /// The instant that it is about.
    pub due_ms: u64,
    /// Whether it is by schedule.
    pub scheduled: bool,
    /// What who has it calls itself.
    pub by: String,
    /// Since when.
    pub since_ms: u64,
    /// How long its lease still goes unless it is renewed.
    pub left: Duration,
}

/// The duties of a process that shares nothing.
#[derive(Debug, Default)]
pub(crate) struct OwnDuties(Mutex<BTreeMap<String, State>>);

impl Larder {
    /// Something that is to be done at instants, once among all instances that share this cache.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> larder::Result<()> {
    /// # use std::time::Duration;
    /// # use larder::Larder;
    /// # use larder::election::{Claimed, Remembered};
    /// # let larder = Larder::builder().build().await?;
    /// let nightly = larder.duty("nightly")?;
    /// nightly.enrol("0 2 * * *", Remembered::default(), 1_000).await?;
    /// let Claimed::Won(claim) = nightly.claim(2_000, true, "me", Duration::from_secs(30)).await? else { panic!("it is ours") };
    /// // The work is done here. Whoever has lost the claim meanwhile is told so, and nothing is recorded.
    /// assert!(nightly.finish(&claim, b"went well".as_slice().into()).await?);
    /// assert_eq!(nightly.claim(2_000, true, "me", Duration::from_secs(30)).await?, Claimed::Over);
    /// # larder.close().await }
    /// ```
    ///
    /// # Errors
    /// [`ErrorKind::InvalidConfig`] for a name that is empty or over 256 bytes.
    pub fn duty(&self, name: &str) -> Result<Duty> {
        check_len("the name of a duty", name)?;
        Ok(Duty { larder: self.clone(), name: name.to_owned() })
    }
}

impl Duty {
    /// What it is called.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Takes part. `terms` is what its instants follow from. Where nobody knows up to which instant all is over, or only by other terms,
    /// it is up to `now_ms`: what would have been due by these before they were in force never was.
    ///
    /// # Errors
    /// As [`claim`](Self::claim); [`ErrorKind::Overloaded`] where there are too many duties.
    pub async fn enrol(&self, terms: &str, known: Remembered, now_ms: u64) -> Result<()> {
        check_len("the terms of a duty", terms)?;
        match &self.larder.0.log {
            Log::Local(_) => self.own(|state, _| state.enrol(terms, known, now_ms)),
            #[cfg(feature = "redis")]
            Log::Redis(log) => log.duties().enrol(&self.name, terms, known, now_ms).await,
        }
    }

    /// How it stands.
    ///
    /// # Errors
    /// As [`claim`](Self::claim).
    pub async fn standing(&self) -> Result<Standing> {
        match &self.larder.0.log {
            Log::Local(_) => self.own(|state, now| state.look(now)),
            #[cfg(feature = "redis")]
            Log::Redis(log) => log.duties().look(&self.name).await,
        }
    }

    /// Claims what is due at an instant, for the time of a lease that is to be [renewed](Self::renew) well before it is over. What is not
    /// by schedule is claimed whatever is over or paused, and puts nothing behind.
    ///
    /// # Errors
    /// [`ErrorKind::LogUnavailable`] and [`ErrorKind::Tier`] when Redis cannot be reached, or refuses. Then it may be the caller's all the
    /// same, until the lease is over.
    pub async fn claim(&self, due_ms: u64, scheduled: bool, by: &str, lease: Duration) -> Result<Claimed> {
        check_len("who claims a duty", by)?;
        match &self.larder.0.log {
            Log::Local(_) => self.own(|state, now| state.claim((due_ms, scheduled), by, lease, now)),
            #[cfg(feature = "redis")]
            Log::Redis(log) => log.duties().claim(&self.name, (due_ms, scheduled), by, lease).await,
        }
    }

    /// Keeps a claim for the time of another lease.
    ///
    /// # Errors
    /// As [`claim`](Self::claim).
    pub async fn renew(&self, claim: &Claim, lease: Duration) -> Result<Renewed> {
        match &self.larder.0.log {
            Log::Local(_) => self.own(|state, now| state.renew(claim.token, lease, now)),
            #[cfg(feature = "redis")]
            Log::Redis(log) => log.duties().renew(&self.name, claim.token, lease).await,
        }
    }

    /// Records what came of it, in one step with the end of the claim, if its token is still the newest; says whether it was. It may be
    /// asked again when the answer was lost.
    ///
    /// # Errors
    /// As [`claim`](Self::claim); [`ErrorKind::ValueTooLarge`] for a record over [`RECORD_BYTES_MAX`].
    pub async fn finish(&self, claim: &Claim, record: Bytes) -> Result<bool> {
        check_record(&record)?;
        let is_fenced = !self.larder.0.mutations.on(crate::mutation::Mutation::FinishUnfenced);
        match &self.larder.0.log {
            Log::Local(_) => self.own(|state, _| state.finish(claim.token, record, is_fenced)),
            #[cfg(feature = "redis")]
            Log::Redis(log) => log.duties().finish(&self.name, claim.token, &record, is_fenced).await,
        }
    }

    /// Records that nothing up to an instant is done any more, unless somebody is at it or it is over. Returns the record's token.
    ///
    /// # Errors
    /// As [`finish`](Self::finish).
    pub async fn pass(&self, to_ms: u64, record: Bytes) -> Result<Option<u64>> {
        check_record(&record)?;
        match &self.larder.0.log {
            Log::Local(_) => self.own(|state, now| state.pass(to_ms, record, now)),
            #[cfg(feature = "redis")]
            Log::Redis(log) => log.duties().pass(&self.name, to_ms, &record).await,
        }
    }

    /// Stops doing it by schedule, or goes on: then all up to `now_ms` is over, and nothing after.
    ///
    /// # Errors
    /// As [`claim`](Self::claim).
    pub async fn pause(&self, paused: bool, now_ms: u64) -> Result<()> {
        match &self.larder.0.log {
            Log::Local(_) => self.own(|state, _| state.pause(paused, now_ms)),
            #[cfg(feature = "redis")]
            Log::Redis(log) => log.duties().pause(&self.name, paused, now_ms).await,
        }
    }

    /// Asks whoever has the claim of this token to stop; it is told when it renews. Says whether anybody has it.
    ///
    /// # Errors
    /// As [`claim`](Self::claim).
    pub async fn cancel(&self, token: u64) -> Result<bool> {
        match &self.larder.0.log {
            Log::Local(_) => self.own(|state, now| state.cancel(token, now)),
            #[cfg(feature = "redis")]
            Log::Redis(log) => log.duties().cancel(&self.name, token).await,
        }
    }

    /// What was recorded, the newest first, each with its token; at most [`RECORDS_MAX`].
    ///
    /// # Errors
    /// As [`claim`](Self::claim).
    pub async fn records(&self) -> Result<Vec<(u64, Bytes)>> {
        match &self.larder.0.log {
            Log::Local(_) => self.own(|state, _| state.records()),
            #[cfg(feature = "redis")]
            Log::Redis(log) => log.duties().records(&self.name).await,
        }
    }

    fn own<T>(&self, act: impl FnOnce(&mut State, u64) -> T) -> Result<T> {
        let now_ms = self.larder.0.clock.refresh();
        let mut duties = self.larder.0.duties.0.lock();
        if duties.len() >= DUTIES_MAX && !duties.contains_key(&self.name) {
            return Err(Error::new(ErrorKind::Overloaded, format!("there are {DUTIES_MAX} duties, which is the most that there may be")));
        }
        Ok(act(duties.entry(self.name.clone()).or_default(), now_ms))
    }
}

impl std::fmt::Debug for Duty {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Duty({})", self.name)
    }
}

fn check_len(what: &str, text: &str) -> Result<()> {
    if text.is_empty() || text.len() > NAME_LEN_MAX {
        return Err(Error::new(ErrorKind::InvalidConfig, format!("{what} has 1 to {NAME_LEN_MAX} bytes")));
    }
    Ok(())
}

fn check_record(record: &Bytes) -> Result<()> {
    if record.len() > RECORD_BYTES_MAX {
        return Err(Error::new(ErrorKind::ValueTooLarge, format!("a record of a duty has at most {RECORD_BYTES_MAX} bytes")));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
