//! Read-modify-write: a key is changed by what is there, and nothing comes in between.
//!
//! A compare-and-set on the log. The append carries a guard on the key and on all that the entry read depends on, since the position
//! that entry reflects; the log answers it in one step with the append, and an append that conflicts does not take effect at all.
//! Then what is there now is read, and decided upon again. So it does not matter who else writes, or how: a put, a removal, an
//! invalidation by tag, another process that shares the log.
//!
//! In one process changes of a key take turns (`turns.rs`), which only spares them the conflict with each other. Between processes
//! nothing but the log decides.

use bytes::Bytes;

use crate::cache::Larder;
use crate::codec::Encoded;
use crate::config::{Mode, Times as OwnTimes};
use crate::entry::{Cached, Entry, Life as Ages, Meta, NewMeta, Times};
use crate::error::{Error, ErrorKind, Result};
use crate::fingerprint::Print;
use crate::freshness::NameHashes;
use crate::invalidations::{InvalidationKind, InvalidationOrigin};
use crate::item::{Item, Life};
use crate::key::check_key;
use crate::log::{Append, Durability, EntryWrite, Guard, OnConflict};
use crate::lookup::Answer;
use crate::metrics::Count;
use crate::mutation::Mutation;
use crate::name::Name;
use crate::position::{Position, Receipt, Stamp};
use crate::raw::Raw;
use crate::read::current::Current;
use crate::view::{Made, View};
use crate::write::receipt;

/// How often a change is decided upon anew. In one process only puts and invalidations of the key come in between; between N processes
/// that change nothing but one key, one of N wins each time.
const TRIES_MAX: usize = 256;

/// How long one that lost waits to hear of what it lost to, before it tries again all the same.
const HEARD_WITHIN: std::time::Duration = std::time::Duration::from_secs(1);

/// What is to become of an entry: see [`Raw::change`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// It stays as it is, and nothing is appended.
    Keep,
    /// This takes its place, as a put would.
    Replace(Item<Bytes>),
    /// The value is another, and everything else stays: when its time is over, tags, media type, what it was made from. Where there
    /// is none, as `Replace` of the bare value.
    Value(Bytes),
    /// The value stays, and its time is over at another moment; one that has passed removes it. Nothing where there is none.
    ///
    /// It is appended as a put is, unlike a [`touch`](Raw::touch): others have copies with the old moment.
    Life(Life),
    /// It is removed. Nothing where there is none.
    Remove,
}

/// What became of a [`Raw::change`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Changed<T> {
    /// What the decision that was carried out returned beside the change.
    pub outcome: T,
    /// Where it stands in the log; `None` if there was nothing to do.
    pub receipt: Option<Receipt>,
}

impl Raw {
    /// Changes what is there under a key by what is there, as one step: whatever `decide` was shown is still there when its change takes
    /// effect. If somebody else changed the key, or invalidated anything the entry depends on, in between, nothing takes effect, and
    /// `decide` is asked again with what is there now; so it may be called more than once, and should do nothing but decide.
    ///
    /// It is shown the fresh entry, from memory or the backing tier; `None`, if there is none: absent, past its time, invalidated, or
    /// remembered as not there. The first look is counted as a read.
    ///
    /// # What holds where
    ///
    /// No change is lost to another, nor to a put or an invalidation, in one process, and between all that share a log and a tier on one
    /// Redis, where the value is written in one step with the append. On a Redis Cluster it is written after it, so that another process
    /// may find nothing for a moment, and decide upon that: there a change is one step among those of one process alone. A namespace
    /// without a backing tier is each process's own.
    ///
    /// While a log that is shared cannot be reached every change that is not `Keep` is refused, also where invalidations are queued. A
    /// `touch` is no append, and a change that it overlaps may undo it. If the caller stops waiting, the change may have been made or
    /// not, and there may be no entry.
    ///
    /// # Errors
    /// As [`put`](Self::put); [`ErrorKind::Tier`] if the backing tier cannot say what is there; [`ErrorKind::Overloaded`] if others
    /// came in between each time; [`ErrorKind::LogUnavailable`]: a change that was sent to a shared log and not confirmed may have been
    /// made.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> larder::Result<()> {
    /// use larder::{Change, Larder};
    /// let raw = Larder::builder().build().await?.raw();
    /// for expected in 1..=3u64 {
    ///     let counted = raw.change("visits:today", |there| {
    ///         let seen: u64 = there.and_then(|answer| std::str::from_utf8(&answer.value).ok()?.parse().ok()).unwrap_or(0);
    ///         (Change::Value((seen + 1).to_string().into()), seen + 1)
    ///     });
    ///     assert_eq!(counted.await?.outcome, expected);
    /// }
    /// # Ok(()) }
    /// ```
    pub async fn change<T, D>(&self, key: impl AsRef<[u8]>, decide: D) -> Result<Changed<T>>
    where
        T: Send,
        D: FnMut(Option<&Answer<Bytes>>) -> (Change, T) + Send,
    {
        let key = key.as_ref();
        self.view(key).change(key, decide).await.map_err(|error| error.during("change", key))
    }
}

/// What became of one try.
enum Tried {
    Made(Option<Receipt>),
    /// Something came in between, and is known to whoever has applied this.
    Conflict(Position),
}

/// What is to be appended.
enum Step {
    Store(Made<Bytes>),
    Remove,
}

impl View<Bytes> {
    async fn change<T, D>(&self, key: &[u8], mut decide: D) -> Result<Changed<T>>
    where
        T: Send,
        D: FnMut(Option<&Answer<Bytes>>) -> (Change, T) + Send,
    {
        check_key(key)?;
        let _let_in = self.shared.writes.enter()?;
        let _turn = self.shared.turns.change(key).await;
        for tried in 0..TRIES_MAX {
            let current = self.current(key, tried == 0).await?;
            let (change, outcome) = decide(current.answer.as_ref());
            match self.try_change(key, &current, change).await? {
                Tried::Made(receipt) => return Ok(Changed { outcome, receipt }),
                Tried::Conflict(known_at) => self.hear_of(known_at).await,
            }
        }
        let message = format!("others changed the key while this change was made, {TRIES_MAX} times over; nothing was changed");
        Err(Error::new(ErrorKind::Overloaded, message))
    }

    async fn try_change(&self, key: &[u8], current: &Current<Bytes>, change: Change) -> Result<Tried> {
        let there = current.answer.as_ref().map(|answer| &*answer.value.0);
        let step = match (change, there) {
            (Change::Keep, _) | (Change::Life(_) | Change::Remove, None) => return Ok(Tried::Made(None)),
            (Change::Replace(item), _) => Step::Store(self.make_settled(key, item, current.since).await?),
            (Change::Value(value), None) => Step::Store(self.make_settled(key, Item::new(value), current.since).await?),
            (Change::Value(value), Some(there)) => Step::Store(self.make_like(key, there, value, current.since)?),
            (Change::Life(life), Some(there)) => self.with_life(key, there, life, current.since)?,
            (Change::Remove, Some(_)) => Step::Remove,
        };
        self.append_step(key, current, step).await
    }

    async fn make_settled(&self, key: &[u8], mut item: Item<Bytes>, since: Stamp) -> Result<Made<Bytes>> {
        self.settle_current(key, &mut item).await?;
        self.make(key, item, since, 0)
    }

    /// An entry with another value, and all else as one that is there.
    fn make_like(&self, key: &[u8], there: &Entry<Bytes>, value: Bytes, since: Stamp) -> Result<Made<Bytes>> {
        self.check_len(value.len())?;
        let (now, times) = (self.shared.clock.refresh(), there.meta.times());
        // Where hits begin the time to live anew, it is known in the backing tier by when it began.
        let created_at = if there.meta.life.sliding { times.created_at } else { now };
        let print = self.space.policy.fingerprint.print_of(&Encoded::Itself(&value));
        Ok(self.alter(key, there, (value, print), (there.meta.life, Times { created_at, ..times }), since))
    }

    /// The same value, until another moment.
    fn with_life(&self, key: &[u8], there: &Entry<Bytes>, life: Life, since: Stamp) -> Result<Step> {
        let (meta, now) = (&there.meta, self.shared.clock.refresh());
        if matches!(life, Life::Until(moment) if moment <= now) {
            return Ok(Step::Remove);
        }
        let window = |ms: u64| (meta.life.ttl != u64::MAX).then(|| std::time::Duration::from_millis(ms));
        let own = OwnTimes {
            ttl: None,
            ends: Some(life),
            stale_while_revalidate: window(meta.life.stale_while_revalidate),
            stale_if_error: window(meta.life.stale_if_error),
        };
        let life = self.space.policy.life(&own, now)?;
        let (fresh_until, expires_at) = life.times(now);
        let times = Times { created_at: meta.created_at, fresh_until, expires_at };
        Ok(Step::Store(self.alter(key, there, (there.value.clone(), meta.print.clone()), (life, times), since)))
    }

    fn alter(
        &self,
        key: &[u8],
        there: &Entry<Bytes>,
        (value, print): (Bytes, Print),
        (life, times): (Ages, Times),
        since: Stamp,
    ) -> Made<Bytes> {
        let meta = &there.meta;
        let new = NewMeta {
            stamp: since,
            times,
            life,
            print,
            hashes: meta.hashes.clone(),
            tags: meta.tags.clone(),
            media: meta.media.clone(),
            origin: meta.origin_now(),
            load_cost_us: meta.load_cost_us,
            encoded_len: value.len() as u32,
            codec: meta.codec,
            metrics: self.space.metrics.clone(),
        };
        let entry = Entry { meta: Meta::new(new, key.len(), self.shared.clock.now_ms()), value };
        Made { entry: std::sync::Arc::new(entry), encoded: None }
    }

    /// The append, with the guard that makes it a compare-and-set; then what follows from it.
    async fn append_step(&self, key: &[u8], current: &Current<Bytes>, step: Step) -> Result<Tried> {
        let guard = (!self.shared.mutations.on(Mutation::ChangeWithoutGuard)).then(|| self.guard_of_change(key, current, &step));
        let is_put = matches!(step, Step::Store(_));
        let (durability, writes) = match &step {
            Step::Store(made) => (self.shared.put_durability, self.entry_write(key, made)),
            Step::Remove => {
                let removal = self.shared.log.writes_entries().then(|| EntryWrite::removal(key.into()));
                (self.shared.invalidation_durability, removal)
            }
        };
        let _putting = self.shared.turns.putting(key);
        let appended = self.shared.append(append_of(key, durability, guard, writes, is_put)).await?;
        if appended.conflict {
            return Ok(Tried::Conflict(appended.position));
        }
        match step {
            Step::Store(made) => {
                self.space.metrics.count(Count::Put);
                self.put_made(key, made, &appended).await?;
            }
            Step::Remove => {
                self.space.metrics.count(Count::Remove);
                self.shared.invalidations.count_one(InvalidationKind::Key, InvalidationOrigin::Call);
                self.purge(vec![key.into()], &appended).await;
            }
        }
        Ok(Tried::Made(Some(receipt(appended, 1))))
    }

    /// Whether anything has changed that the decision rests on: the key, and all that the entry which was there depends on, since what
    /// was made of a value that is stale by now would be served as fresh; and what the new one was computed from, as for every put.
    fn guard_of_change(&self, key: &[u8], current: &Current<Bytes>, step: &Step) -> Guard {
        let mut guard = match &current.answer {
            Some(Answer { value: Cached(there), .. }) => self.guard_of(key, &there.meta, current.since),
            None => {
                let hashes: NameHashes = self.shared.index.hashes(key, &[]);
                Guard { keys: vec![key.into()], hashes, since: current.since, on_conflict: OnConflict::Refuse }
            }
        };
        if let Step::Store(made) = step {
            for source in made.entry.meta.sources() {
                guard.hashes.extend(self.shared.index.hashes(&source.name, &source.tags));
                guard.keys.push(source.name.clone());
            }
        }
        Guard { on_conflict: OnConflict::Refuse, ..guard }
    }

    /// Waits for what this one lost to, which a log of this process alone knows already.
    async fn hear_of(&self, known_at: Position) {
        if self.shared.log.is_shared() {
            // If it is not heard in time the next try is likely to lose again, and there are only so many.
            let heard = Larder(self.shared.clone()).reach(known_at, HEARD_WITHIN).await;
            drop(heard.inspect_err(|error| tracing::debug!(%error, "a change goes on without having heard of what it lost to")));
        }
        tokio::task::yield_now().await;
    }
}

/// What cannot be confirmed by the log must not be queued: it would take effect without an answer to its guard.
fn append_of(key: &[u8], durability: Durability, guard: Option<Guard>, write: Option<EntryWrite>, is_put: bool) -> Append {
    let (names, writes) = (vec![Name::Key(key.into())], write.into_iter().collect());
    Append { names, marks: Vec::new(), durability, guard, writes, mode: Mode::Strict, is_put }
}
