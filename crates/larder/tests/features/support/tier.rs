//! A backing tier over a map, as somebody else might write one, that can be told to fail or to hang.

use std::collections::BTreeMap;
use std::future::pending;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard};

use larder::tier::{Action, Gone, Keep, KeyPage, Outcome, SweepPage, Tier, TierFuture, TierState, TierStats, Wait, Write};
use larder::{Error, Record};

/// What the tier does with what is asked of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Behaviour {
    #[default]
    Works,
    Fails,
    Hangs,
    /// Takes writes and keeps none of them.
    Loses,
    /// Keeps something else than it was given.
    Garbles,
}

type Records = BTreeMap<Box<[u8]>, Record>;

/// See the head of this file.
#[derive(Default)]
pub struct OwnTier {
    records: Mutex<Records>,
    behaviour: Mutex<Behaviour>,
    reads: AtomicUsize,
    is_silent: AtomicBool,
}

impl OwnTier {
    pub fn behave(&self, behaviour: Behaviour) {
        *self.behaviour.lock().expect("no test goes on after a panic") = behaviour;
    }

    /// Has it say that all is well, whatever it does.
    pub fn keep_silent(&self) {
        self.is_silent.store(true, Ordering::SeqCst);
    }

    /// Puts a copy of a record under another key.
    pub fn plant(&self, key: &[u8], like: &str) {
        let record = self.record(like).expect("it is there");
        self.records().insert(key.into(), record);
    }

    /// How many records it has.
    pub fn len(&self) -> usize {
        self.records().len()
    }

    /// How often it was asked for records.
    pub fn reads(&self) -> usize {
        self.reads.load(Ordering::SeqCst)
    }

    /// The record of a key, past all that the cache knows of it.
    pub fn record(&self, key: &str) -> Option<Record> {
        self.records().get(key.as_bytes()).cloned()
    }

    fn records(&self) -> MutexGuard<'_, Records> {
        self.records.lock().expect("no test goes on after a panic")
    }

    fn does<'a, T: Send + 'a>(&'a self, work: impl FnOnce(&mut Records) -> T + Send + 'a) -> TierFuture<'a, T> {
        let behaviour = *self.behaviour.lock().expect("no test goes on after a panic");
        Box::pin(async move {
            match behaviour {
                Behaviour::Works | Behaviour::Loses | Behaviour::Garbles => Ok(work(&mut self.records())),
                Behaviour::Fails => Err(Error::of_tier("out of order on purpose")),
                Behaviour::Hangs => pending().await,
            }
        })
    }
}

impl Tier for OwnTier {
    fn name(&self) -> &'static str {
        "own"
    }

    fn get<'a>(&'a self, key: &'a [u8]) -> TierFuture<'a, Option<Record>> {
        self.reads.fetch_add(1, Ordering::SeqCst);
        self.does(|records| records.get(key).cloned())
    }

    fn get_many(&self, keys: Vec<Box<[u8]>>) -> TierFuture<'_, Vec<Option<Record>>> {
        self.reads.fetch_add(1, Ordering::SeqCst);
        self.does(move |records| keys.iter().map(|key| records.get(key).cloned()).collect())
    }

    fn write(&self, writes: Vec<Write>, _wait: Wait) -> TierFuture<'_, Outcome> {
        let behaviour = *self.behaviour.lock().expect("no test goes on after a panic");
        self.does(move |records| {
            for Write { key, action } in writes {
                match action {
                    Action::Store(record) if records.get(&key).is_some_and(|there| there.outranks(&record)) => {}
                    Action::Store(_) if behaviour == Behaviour::Loses => {}
                    Action::Store(record) if behaviour == Behaviour::Garbles => {
                        drop(records.insert(key, Record { payload: "garbled".into(), ..(*record).clone() }));
                    }
                    Action::Store(record) => drop(records.insert(key, (*record).clone())),
                    Action::RemoveUpTo(position) if records.get(&key).is_some_and(|there| there.is_past(position)) => {}
                    Action::Remove | Action::RemoveUpTo(_) => drop(records.remove(&key)),
                }
            }
            Outcome::Durable
        })
    }

    fn keys<'a>(&'a self, prefix: &'a [u8], from: Option<Box<[u8]>>, limit: usize) -> TierFuture<'a, KeyPage> {
        self.does(move |records| {
            let from = from.unwrap_or_else(|| prefix.into());
            let mut found = records.range(from..).map(|(key, _)| key.clone()).take_while(|key| key.starts_with(prefix));
            let keys = found.by_ref().take(limit).collect();
            KeyPage { keys, next: found.next() }
        })
    }

    fn sweep(&self, from: Option<Box<[u8]>>, limit: usize, keep: Keep) -> TierFuture<'_, SweepPage> {
        self.does(move |records| {
            let from = from.unwrap_or_default();
            let mut keys: Vec<Box<[u8]>> = records.range(from..).map(|(key, _)| key.clone()).take(limit + 1).collect();
            let next = (keys.len() > limit).then(|| keys.pop()).flatten();
            let mut page = SweepPage { next, examined: keys.len() as u64, ..SweepPage::default() };
            for key in keys {
                if !keep(&key, &records[&key]) {
                    let bytes = key.len() as u64 + records[&key].payload.len() as u64;
                    records.remove(&key);
                    page.remove(Gone { key, bytes, is_unreadable: false });
                }
            }
            page
        })
    }

    fn clear(&self) -> TierFuture<'_, ()> {
        self.does(Records::clear)
    }

    fn flush(&self) -> TierFuture<'_, ()> {
        self.does(|_| ())
    }

    fn state(&self) -> TierState {
        match *self.behaviour.lock().expect("no test goes on after a panic") {
            Behaviour::Works | Behaviour::Loses | Behaviour::Garbles => TierState::Healthy,
            _ if self.is_silent.load(Ordering::SeqCst) => TierState::Healthy,
            behaviour => TierState::Degraded(format!("{behaviour:?} on purpose")),
        }
    }

    fn stats(&self) -> TierStats {
        TierStats { entries: self.records().len() as u64, ..TierStats::default() }
    }

    fn close(&self) -> TierFuture<'_, ()> {
        self.does(|_| ())
    }
}
