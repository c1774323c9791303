//! Why is it served, and why is it not? What each tier has of a key, judged as a read would judge it, and in words. Nothing is
//! counted, loaded, or taken out.

use std::fmt;
use std::time::Duration;

use crate::access::{Operation, Principal, Target};
use crate::cache::{Larder, Shared};
use crate::clock::Millis;
use crate::entry::Times;
use crate::error::Result;
use crate::fingerprint::Fingerprint;
use crate::freshness::{Named, Stale, StaleBy};
use crate::key::check_key;
use crate::lookup::Source;
use crate::origin::{Dependency, chain, show, sources_of};
use crate::position::{Position, Stamp};

/// What the tiers have of a key.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Explanation {
    /// The whole key.
    pub key: Box<[u8]>,
    /// What memory has and what the backing tier has, in this order; neither if nothing is there.
    pub found: Vec<Found>,
    /// Why the backing tier could not be asked, if so.
    pub backing_error: Option<String>,
}

impl Explanation {
    /// Refuses what somebody may not read: the key, and all the others that the explanation names.
    ///
    /// # Errors
    /// [`ErrorKind::Forbidden`](crate::ErrorKind::Forbidden).
    pub fn permitted_to(&self, who: &Principal) -> Result<()> {
        let permitted = |key: &[u8]| who.check(Operation::Read, Target::Key(key));
        permitted(&self.key)?;
        self.found.iter().try_for_each(|found| {
            let chain = if let Verdict::Invalidated { chain, .. } = &found.verdict { &chain[..] } else { &[] };
            found.sources.iter().map(Dependency::name).chain(chain.iter().map(|key| &**key)).try_for_each(permitted)
        })
    }
}

/// What one tier has.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Found {
    /// Which tier: memory or the backing one.
    pub tier: Source,
    /// Whether a read may be answered with it.
    pub verdict: Verdict,
    /// Whether it says that there is no such thing.
    pub negative: bool,
    /// How long ago it was made.
    pub age: Duration,
    /// How much longer its time lasts; `None`: for ever. Zero when it is over.
    pub fresh_for: Option<Duration>,
    /// It reflects every change up to here. `None` if the log has begun a new epoch since.
    pub position: Option<Position>,
    /// Its tags, sorted.
    pub tags: Vec<Box<[u8]>>,
    /// The fingerprint of its value.
    pub fingerprint: Fingerprint,
    /// The content it stands for, if that is known.
    pub content: Option<Fingerprint>,
    /// What it was computed from: its own sources first, each followed by theirs.
    pub sources: Vec<Dependency>,
}

/// Whether a read may be answered with an entry.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Verdict {
    /// It may.
    Fresh,
    /// Its time is over; it may be served as stale where its policy says so.
    Aged,
    /// Its time is over, and that in which it might have been served as stale.
    Expired,
    /// It is out of sight until a restore is over: that wrote it, or is to take its place.
    Held,
    /// Something it depends on was invalidated after it was made.
    Invalidated {
        /// What was.
        by: StaleBy,
        /// In words: `its tag symbol:AAPL`.
        what: String,
        /// From the entry to the source that was invalidated, where that was one: the entry first.
        chain: Vec<Box<[u8]>>,
        /// Where that stands in the log, or where something later that also meets it does. `None` if the epoch is over.
        at: Option<Position>,
        /// The rules of the event that did it, if an event of late did, and this instance carried it out.
        rules: Vec<String>,
    },
}

impl Larder {
    /// What the tiers have of a whole key, and why a read would be answered with it or not.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> larder::Result<()> {
    /// use larder::{Item, Larder, Names};
    /// let larder = Larder::builder().build().await?;
    /// let features = larder.namespace::<f64>("features")?;
    /// features.put("AAPL:5m", Item::new(0.7).depends_on("bars:AAPL", 17u64)).await?;
    /// larder.moved("bars:AAPL", 18u64).await?;
    /// let text = larder.explain("features:AAPL:5m").await?.to_string();
    /// assert!(text.contains("features:AAPL:5m <- bars:AAPL"), "{text}");
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`InvalidKey`](crate::ErrorKind::InvalidKey). A backing tier that cannot be asked is part of the explanation.
    pub async fn explain(&self, key: impl AsRef<[u8]>) -> Result<Explanation> {
        let key = key.as_ref();
        check_key(key)?;
        let shared = &self.0;
        let view = shared.raw_view(key);
        let now = shared.clock.refresh();
        let mut found = Vec::new();
        if let Some(slot) = view.space.pool().peek(view.space.pool().query(key)) {
            let meta = slot.meta();
            let (stamp, times) = (meta.stamp(), meta.times());
            found.push(Found {
                tier: Source::Memory,
                verdict: shared.verdict(meta.named(key), &meta.tags, stamp, times, now),
                negative: slot.is_negative(),
                position: shared.index.position_of(stamp),
                tags: meta.tags.to_vec(),
                fingerprint: Fingerprint(slot.fingerprint()),
                content: meta.content(),
                sources: meta.sources().to_vec(),
                ..Found::of(Source::Memory, times, now)
            });
        }
        let mut backing_error = None;
        if let Some(tier) = shared.tier.as_ref().filter(|_| view.space.policy.backing) {
            match view.one_in_time(tier, key).await {
                Ok(None) => {}
                Err(error) => backing_error = Some(error.to_string()),
                Ok(Some(record)) => {
                    let times = Times { created_at: record.created_at, fresh_until: record.fresh_until, expires_at: record.expires_at };
                    let position = Position { epoch: record.epoch, seq: record.seq };
                    let sources = sources_of(record.origin.as_deref());
                    let hashes = shared.index.hashes_from(key, &record.tags, sources);
                    let named = Named { key, hashes: &hashes, sources };
                    let verdict = match shared.index.stamp_of_record(position) {
                        Some(_) if shared.is_held_by_others(&record) => Verdict::Held,
                        Some(stamp) => shared.verdict(named, &record.tags, stamp, times, now),
                        None => shared.invalidated(Stale { by: StaleBy::Epoch, at: 0 }, key, &record.tags, sources),
                    };
                    found.push(Found {
                        verdict,
                        negative: record.negative,
                        position: (position.epoch == shared.index.epoch()).then_some(position),
                        tags: record.tags.to_vec(),
                        fingerprint: Fingerprint(record.fingerprint),
                        content: record.origin.as_ref().and_then(|origin| origin.content),
                        sources: sources.to_vec(),
                        ..Found::of(Source::Backing, times, now)
                    });
                }
            }
        }
        Ok(Explanation { key: key.into(), found, backing_error })
    }
}

impl Shared {
    fn verdict(&self, entry: Named<'_>, tags: &[Box<[u8]>], stamp: Stamp, times: Times, now: Millis) -> Verdict {
        if let Some(stale) = self.index.judge_for_good(entry, stamp) {
            return self.invalidated(stale, entry.key, tags, entry.sources);
        }
        match now {
            _ if self.index.is_held(entry.key, stamp) => Verdict::Held,
            now if now >= times.expires_at => Verdict::Expired,
            now if now >= times.fresh_until => Verdict::Aged,
            _ => Verdict::Fresh,
        }
    }

    fn invalidated(&self, stale: Stale, key: &[u8], tags: &[Box<[u8]>], sources: &[Dependency]) -> Verdict {
        let mut names = Vec::new();
        let what = match stale.by {
            StaleBy::Epoch => "the log began a new epoch, so what happened meanwhile is not known".to_owned(),
            StaleBy::Everything => "everything was invalidated".to_owned(),
            StaleBy::Key => "its key was invalidated, or put by somebody".to_owned(),
            StaleBy::Tag(at) => format!("its tag {} was invalidated", tags.get(at).map_or(&[][..], |tag| tag).escape_ascii()),
            StaleBy::Pattern => "a pattern that its key matches was invalidated".to_owned(),
            StaleBy::Namespace => "its namespace was invalidated, or a pattern was widened to that".to_owned(),
            StaleBy::Source(at) => {
                names = chain(key, sources, at);
                format!("what it was computed from has moved: {}", show(&names))
            }
        };
        let at = (stale.by != StaleBy::Epoch).then(|| Position { epoch: self.index.epoch(), seq: stale.at });
        let rules = at.map_or_else(Vec::new, |at| self.events.rules_at(at.epoch, at.seq)).into_iter().map(String::from).collect();
        Verdict::Invalidated { by: stale.by, what, chain: names, at, rules }
    }
}

impl Found {
    fn of(tier: Source, times: Times, now: Millis) -> Self {
        Found {
            tier,
            verdict: Verdict::Fresh,
            negative: false,
            age: Duration::from_millis(now.saturating_sub(times.created_at)),
            fresh_for: (times.fresh_until != Millis::MAX).then(|| Duration::from_millis(times.fresh_until.saturating_sub(now))),
            position: None,
            tags: Vec::new(),
            fingerprint: Fingerprint(0),
            content: None,
            sources: Vec::new(),
        }
    }
}

/// In words, over a few lines.
impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.key.escape_ascii())?;
        for found in &self.found {
            found.fmt(f)?;
        }
        if let Some(error) = &self.backing_error {
            writeln!(f, "  backing tier: could not be asked: {error}")?;
        }
        if self.found.is_empty() && self.backing_error.is_none() {
            writeln!(f, "  no tier has anything: it was never stored, or was evicted, expired or invalidated and swept since")?;
        }
        Ok(())
    }
}

impl fmt::Display for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let tier = if self.tier == Source::Memory { "memory" } else { "backing tier" };
        let what = if self.negative { "\"there is no such thing\", " } else { "" };
        write!(f, "  {tier}: {what}{}", self.verdict)?;
        writeln!(f)?;
        write!(f, "    made {:.1?} ago", self.age)?;
        match self.fresh_for {
            None => writeln!(f, ", without an end")?,
            Some(Duration::ZERO) => writeln!(f, ", its time is over")?,
            Some(left) => writeln!(f, ", with {left:.1?} left")?,
        }
        if let Some(position) = self.position {
            writeln!(f, "    reflects every change up to {position}")?;
        }
        if !self.tags.is_empty() {
            let tags: Vec<String> = self.tags.iter().map(|tag| tag.escape_ascii().to_string()).collect();
            writeln!(f, "    tags {}", tags.join(", "))?;
        }
        for source in &self.sources {
            let via = source.via().and_then(|via| self.sources.get(via));
            let via = via.map_or_else(String::new, |via| format!(", through {}", via.name().escape_ascii()));
            writeln!(f, "    computed from {} at version {}{via}", source.name().escape_ascii(), source.version())?;
        }
        if let Some(content) = self.content {
            writeln!(f, "    stands for content {content}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Verdict::Fresh => f.write_str("fresh"),
            Verdict::Aged => f.write_str("past its time, and served as stale where its policy allows"),
            Verdict::Expired => f.write_str("expired"),
            Verdict::Held => f.write_str("held back by a restore that is not over"),
            Verdict::Invalidated { what, at, rules, .. } => {
                write!(f, "stale: {what}")?;
                if let Some(at) = at {
                    write!(f, ", at {at}")?;
                }
                if !rules.is_empty() {
                    write!(f, ", by {}", rules.join(" and "))?;
                }
                Ok(())
            }
        }
    }
}
