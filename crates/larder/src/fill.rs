//! One load per key in flight: whoever misses first leads, whoever comes while it lasts joins.
//!
//! A load runs in a task of its own, so that a leader that stops waiting does not take the others' answer with it. The
//! task holds the [`Lease`]; whatever becomes of it (success, error, panic, cancellation) the lease ends the flight, and
//! nobody waits for ever.
//!
//! The order at the end matters: the result is in memory *before* the flight leaves the table, so a reader that finds no
//! flight finds the entry.

use std::collections::HashMap;
use std::future::Future;
use std::hash::BuildHasher;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use crate::entry::Entry;
use crate::error::{Error, ErrorKind, Result};
use crate::lookup::Source;
use crate::position::Stamp;
use crate::sync::Mutex;

const SHARDS: usize = 16;

/// Some of a namespace's flights, by key.
type Shard<V> = Mutex<HashMap<Box<[u8]>, Arc<Flight<V>>>>;

/// The flights of a namespace.
pub(crate) struct Fills<V> {
    shards: [Shard<V>; SHARDS],
    hasher: std::hash::RandomState,
}

/// A load under way, or just ended.
pub(crate) struct Flight<V> {
    state: Mutex<State<V>>,
}

struct State<V> {
    outcome: Option<Ended<V>>,
    waiting: Vec<Waker>,
}

/// How a flight ended. `None`: it was given up before its load began, and whoever waited begins anew.
pub(crate) type Ended<V> = Option<Result<Landed<V>>>;

/// How a load ended well.
pub(crate) struct Landed<V> {
    /// `None`: there is no such thing.
    pub(crate) entry: Option<Arc<Entry<V>>>,
    /// What the answer was known to reflect when it was got.
    pub(crate) stamp: Stamp,
    /// Where it came from. The loader may not have run at all.
    pub(crate) source: Source,
}

impl<V> Clone for Landed<V> {
    fn clone(&self) -> Self {
        Landed { entry: self.entry.clone(), ..*self }
    }
}

/// What a caller is to do about a key.
pub(crate) enum Part<V> {
    /// Load it, and end the lease.
    Lead(Lease<V>),
    /// Wait for who does.
    Join(Arc<Flight<V>>),
}

impl<V> Fills<V> {
    pub(crate) fn new() -> Self {
        Fills { shards: std::array::from_fn(|_| Mutex::new(HashMap::new())), hasher: std::hash::RandomState::new() }
    }

    /// Joins the key's flight, or begins one.
    pub(crate) fn join_or_lead(self: &Arc<Self>, key: &[u8]) -> Part<V> {
        let mut flights = self.shard(key).lock();
        if let Some(flight) = flights.get(key) {
            return Part::Join(flight.clone());
        }
        let flight = Arc::new(Flight { state: Mutex::new(State { outcome: None, waiting: Vec::new() }) });
        flights.insert(key.into(), flight.clone());
        drop(flights);
        Part::Lead(Lease { fills: self.clone(), flight, key: key.into(), ended: false })
    }

    fn shard(&self, key: &[u8]) -> &Shard<V> {
        &self.shards[self.hasher.hash_one(key) as usize % SHARDS]
    }

    /// How many loads are under way.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.shards.iter().map(|shard| shard.lock().len()).sum()
    }
}

impl<V> Flight<V> {
    /// Waits for the end.
    pub(crate) fn landing(self: Arc<Self>) -> Landing<V> {
        Landing(self)
    }

    fn end(&self, outcome: Ended<V>) {
        let waiting = {
            let mut state = self.state.lock();
            state.outcome = Some(outcome);
            std::mem::take(&mut state.waiting)
        };
        // Outside the lock: a waker may run its task at once.
        waiting.into_iter().for_each(Waker::wake);
    }
}

/// The end of a flight, to be awaited.
pub(crate) struct Landing<V>(Arc<Flight<V>>);

impl<V> Future for Landing<V> {
    type Output = Ended<V>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let mut state = self.0.state.lock();
        if let Some(outcome) = &state.outcome {
            return Poll::Ready(outcome.clone());
        }
        if !state.waiting.iter().any(|waker| waker.will_wake(context.waker())) {
            state.waiting.push(context.waker().clone());
        }
        Poll::Pending
    }
}

/// The right and the duty to end a flight.
pub(crate) struct Lease<V> {
    fills: Arc<Fills<V>>,
    flight: Arc<Flight<V>>,
    key: Box<[u8]>,
    ended: bool,
}

impl<V> Lease<V> {
    pub(crate) fn key(&self) -> &[u8] {
        &self.key
    }

    pub(crate) fn flight(&self) -> Arc<Flight<V>> {
        self.flight.clone()
    }

    /// Ends the flight. The result must be in memory by now.
    pub(crate) fn end(mut self, outcome: Result<Landed<V>>) {
        self.finish(Some(outcome));
    }

    /// Ends the flight before its load began, because the caller stopped waiting: that is no failure of the load, and
    /// whoever joined must not get one.
    pub(crate) fn give_up(mut self) {
        self.finish(None);
    }

    fn finish(&mut self, outcome: Ended<V>) {
        self.ended = true;
        self.fills.shard(&self.key).lock().remove(&self.key);
        self.flight.end(outcome);
    }
}

impl<V> Drop for Lease<V> {
    fn drop(&mut self) {
        if !self.ended {
            let gone = Error::new(ErrorKind::LoadPanicked, "the loader panicked, or its runtime was shut down").during("load", &self.key);
            self.finish(Some(Err(gone)));
        }
    }
}

#[cfg(all(test, feature = "shuttle"))]
mod schedules;

#[cfg(test)]
mod tests {
    use super::*;

    fn landed(stamp: u64) -> Landed<u32> {
        Landed { entry: None, stamp: Stamp(stamp), source: Source::Loader }
    }

    #[tokio::test]
    async fn the_first_leads_and_the_rest_get_its_answer() {
        let fills = Arc::new(Fills::<u32>::new());
        let Part::Lead(lease) = fills.join_or_lead(b"k") else { panic!("nobody was there before") };
        let joined: Vec<_> = (0..3)
            .map(|_| match fills.join_or_lead(b"k") {
                Part::Join(flight) => flight.landing(),
                Part::Lead(_) => panic!("somebody leads already"),
            })
            .collect();
        assert!(matches!(fills.join_or_lead(b"other"), Part::Lead(_)));
        let waiting = tokio::spawn(async move {
            let mut stamps = Vec::new();
            for landing in joined {
                stamps.push(landing.await.unwrap().map(|landed| landed.stamp).unwrap());
            }
            stamps
        });
        tokio::task::yield_now().await;
        lease.end(Ok(landed(7)));
        assert_eq!(waiting.await.unwrap(), [Stamp(7); 3]);
        assert_eq!(fills.len(), 0);
        assert!(matches!(fills.join_or_lead(b"k"), Part::Lead(_)), "the next one leads again");
    }

    #[tokio::test]
    async fn a_flight_that_was_given_up_sends_its_callers_back() {
        let fills = Arc::new(Fills::<u32>::new());
        let Part::Lead(lease) = fills.join_or_lead(b"k") else { panic!("nobody was there before") };
        let landing = lease.flight().landing();
        lease.give_up();
        assert!(landing.await.is_none());
        assert!(matches!(fills.join_or_lead(b"k"), Part::Lead(_)), "the next one leads");
    }

    #[tokio::test]
    async fn a_lost_leader_leaves_an_error_and_no_flight() {
        let fills = Arc::new(Fills::<u32>::new());
        let Part::Lead(lease) = fills.join_or_lead(b"k") else { panic!("nobody was there before") };
        let landing = lease.flight().landing();
        let loader = tokio::spawn(async move {
            let _lease = lease;
            panic!("on purpose");
        });
        assert_eq!(landing.await.unwrap().err().unwrap().kind(), ErrorKind::LoadPanicked);
        assert!(loader.await.unwrap_err().is_panic());
        assert_eq!(fills.len(), 0);
    }
}
