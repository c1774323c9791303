//! The same waterfall for many keys: one visit to the backing tier and one call of the loader for all that miss.

use std::collections::HashMap;

use super::*;

/// A key's place in the caller's list, and the key.
pub(crate) type Placed = (usize, Box<[u8]>);

impl<V: Value> View<V> {
    /// Reads many keys without a loader. The answers stand in the order of the keys.
    pub(crate) async fn lookup_many(&self, keys: Vec<Box<[u8]>>) -> Result<Vec<Lookup<V>>> {
        keys.iter().try_for_each(|key| crate::key::check_key(key))?;
        let started = Instant::now();
        self.verified().map_err(|error| self.all_failed(error, &keys, started).during("get_many", &[]))?;
        let now = self.shared.clock.now_ms();
        let mut found: Vec<Option<Lookup<V>>> = Vec::with_capacity(keys.len());
        let mut missing: Vec<(Placed, Miss)> = Vec::new();
        for (at, key) in keys.into_iter().enumerate() {
            let ask = Ask { key: &key, started };
            found.push(match self.in_memory(&key, now) {
                Memory::Fresh(entry) => Some(self.hit(entry, Source::Memory, ask)),
                Memory::Aged(entry) => Some(self.aged(entry, Source::Memory, ask)),
                Memory::Negative => {
                    self.negative(ask);
                    Some(Lookup::NotFound)
                }
                Memory::Gone(miss) => {
                    missing.push(((at, key), miss));
                    None
                }
            });
        }
        let placed: Vec<Placed> = missing.iter().map(|(placed, _)| placed.clone()).collect();
        let backed = self.in_backing_many(&placed).await;
        for (((at, key), miss), backed) in missing.into_iter().zip(backed) {
            let ask = Ask { key: &key, started };
            found[at] = Some(match backed {
                Some(Backed { entry, aged: false }) => self.hit(entry, Source::Backing, ask),
                Some(Backed { entry, aged: true }) => self.aged(entry, Source::Backing, ask),
                None => self.missed(miss, ask),
            });
        }
        Ok(found.into_iter().map(|lookup| lookup.expect("every place was filled above")).collect())
    }

    /// Step 4 for many keys at once.
    async fn in_backing_many(&self, keys: &[Placed]) -> Vec<Option<Backed<V>>> {
        let nothing = || keys.iter().map(|_| None).collect();
        let tier = self.shared.tier.as_ref().filter(|_| self.space.policy.backing && !keys.is_empty());
        let Some(tier) = tier else { return nothing() };
        let applied = self.shared.index.applied();
        let span = spans::tier("get_many", tier.name(), &self.space.name);
        span.record("keys", keys.len());
        // What the records will be judged by, for all of them at once.
        keys.iter().for_each(|(_, key)| self.shared.index.fetch_key(key));
        let reading = async {
            let found = self.in_time(tier.get_many(keys.iter().map(|(_, key)| key.clone()).collect())).await;
            found.inspect(|_| spans::outcome("answered")).inspect_err(spans::failed)
        };
        match reading.instrument(span).await {
            Ok(records) => {
                let admit = |((_, key), record): (&Placed, Option<Record>)| self.found_in_backing(self.admit(key, record?, applied));
                keys.iter().zip(records).map(admit).collect()
            }
            Err(error) => {
                self.backing_failed(&error);
                nothing()
            }
        }
    }

    /// Brings into memory what the backing tier has of some keys and memory has not, by the same step 4 as a read, but for nobody: it is
    /// counted neither as a read nor as a miss. Returns how many came, and the bytes that they take.
    pub(crate) async fn warm(&self, keys: Vec<Box<[u8]>>) -> Result<(u64, u64)> {
        let Some(tier) = self.shared.tier.as_ref().filter(|_| self.space.policy.backing) else { return Ok((0, 0)) };
        let pool = self.space.pool();
        let missing: Vec<Box<[u8]>> = keys.into_iter().filter(|key| pool.peek(pool.query(key)).is_none()).collect();
        if missing.is_empty() {
            return Ok((0, 0));
        }
        let applied = self.shared.index.applied();
        let records = self.in_time(tier.get_many(missing.clone())).await?;
        let (mut brought, mut bytes) = (0, 0);
        for (key, record) in missing.iter().zip(records) {
            let Some(Backed { entry, .. }) = record.and_then(|record| self.admit(key, record, applied)) else { continue };
            brought += 1;
            bytes += u64::from(entry.meta.weight);
        }
        Ok((brought, bytes))
    }

    /// Reads many keys with one loader for all that miss. `name` turns a whole key into what the loader is asked for.
    pub(crate) async fn load_many<K, L, F, E>(&self, keys: Vec<(K, Box<[u8]>)>, loader: L) -> Result<Vec<Option<Answer<V>>>>
    where
        K: Clone + Eq + std::hash::Hash + Send + 'static,
        L: Fn(Vec<K>) -> F,
        F: Future<Output = Result<Vec<(K, Item<V>)>, E>> + Send + 'static,
        E: Into<Box<dyn std::error::Error + Send + Sync>> + 'static,
    {
        keys.iter().try_for_each(|(_, key)| crate::key::check_key(key))?;
        let started = Instant::now();
        if self.is_unverified() {
            return self.load_many_alone(keys, loader, started).await;
        }
        let mut answers: Vec<Option<Option<Answer<V>>>> = keys.iter().map(|_| None).collect();
        let mut open: Vec<usize> = (0..keys.len()).collect();
        let arrival = self.shared.index.latest();
        while !open.is_empty() {
            let (mut leads, mut flights) = (Vec::new(), Vec::new());
            for at in open.drain(..) {
                let ask = Ask { key: &keys[at].1, started };
                match self.in_memory(ask.key, self.shared.clock.now_ms()) {
                    Memory::Fresh(entry) => answers[at] = Some(self.hit(entry, Source::Memory, ask).into_answer()),
                    Memory::Negative => {
                        self.negative(ask);
                        answers[at] = Some(None);
                    }
                    Memory::Aged(entry) => self.take_part(at, &keys[at], (Miss::Expired, Some(entry)), &mut leads, &mut flights),
                    Memory::Gone(miss) => self.take_part(at, &keys[at], (miss, None), &mut leads, &mut flights),
                }
            }
            if !leads.is_empty() {
                self.spawn_load_many(leads, &loader).await;
            }
            for Boarded { at, flight, leads, missed, old } in flights {
                let ask = Ask { key: &keys[at].1, started };
                match flight.landing().await {
                    None => open.push(at),
                    Some(Ok(landed)) if !leads && !self.serves(ask.key, &landed, arrival) => open.push(at),
                    Some(Ok(landed)) => answers[at] = Some(self.landed(landed, missed, leads, ask)),
                    Some(Err(error)) => match self.fall_back(error, old, ask) {
                        Ok(stale) => answers[at] = Some(Some(stale)),
                        Err(error) => {
                            let others =
                                answers.iter().zip(&keys).enumerate().filter(|(other, (answer, _))| *other != at && answer.is_none());
                            return Err(self.all_failed(error, others.map(|(_, (_, (_, key)))| key), started));
                        }
                    },
                }
            }
        }
        Ok(answers.into_iter().map(|answer| answer.expect("a key stays open until it is answered")).collect())
    }

    /// Loads all keys past the tiers and past other loads: see `load_alone`.
    async fn load_many_alone<K, L, F, E>(&self, keys: Vec<(K, Box<[u8]>)>, loader: L, started: Instant) -> Result<Vec<Option<Answer<V>>>>
    where
        K: Clone + Eq + std::hash::Hash + Send + 'static,
        L: Fn(Vec<K>) -> F,
        F: Future<Output = Result<Vec<(K, Item<V>)>, E>> + Send + 'static,
        E: Into<Box<dyn std::error::Error + Send + Sync>> + 'static,
    {
        let Some((_, first)) = keys.first() else { return Ok(Vec::new()) };
        let first = first.clone();
        // Step 5: before the loader is even called.
        let stamp = self.shared.index.latest();
        let loading = loader(keys.iter().map(|(name, _)| name.clone()).collect());
        let all_failed = |error, from: usize| self.all_failed(error, keys[from..].iter().map(|(_, key)| key), started);
        let span = spans::load_many(&self.space.name);
        span.record("keys", keys.len());
        let loaded = self.call_loader_many(loading).instrument(span).await;
        let (mut items, took) = loaded.map_err(|error| all_failed(error, 0).during("get_many_or_load", &first))?;
        self.loaded_together(keys.iter().map(|(_, key)| &**key), took);
        let mut answers = Vec::with_capacity(keys.len());
        for (at, (name, key)) in keys.iter().enumerate() {
            let landed = self.keep_loaded(key, items.remove(name), stamp, took).await;
            let landed = landed.map_err(|error| all_failed(error, at).during("get_many_or_load", key))?;
            answers.push(self.landed(landed, Miss::Absent, true, Ask { key, started }));
        }
        Ok(answers)
    }

    /// Reads that end together with one error.
    fn all_failed<'a>(&self, error: Error, keys: impl IntoIterator<Item = &'a Box<[u8]>>, started: Instant) -> Error {
        keys.into_iter().fold(error, |error, key| self.failed(error, Ask { key, started }))
    }

    /// What one call of a loader cost, which nobody can tell apart: each key has an equal part of it.
    fn loaded_together<'a>(&self, keys: impl ExactSizeIterator<Item = &'a [u8]>, took: Duration) {
        let each_us = took.as_micros() as u64 / keys.len().max(1) as u64;
        keys.for_each(|key| self.space.metrics.sketching.loaded(key, each_us));
    }

    fn take_part<K: Clone>(
        &self,
        at: usize,
        (name, key): &(K, Box<[u8]>),
        (missed, old): (Miss, Option<Arc<Entry<V>>>),
        leads: &mut Vec<(K, Lease<V>)>,
        flights: &mut Vec<Boarded<V>>,
    ) {
        match self.fills().join_or_lead(key) {
            Part::Join(flight) => flights.push(Boarded { at, flight, leads: false, missed, old }),
            Part::Lead(lease) => {
                flights.push(Boarded { at, flight: lease.flight(), leads: true, missed, old });
                leads.push((name.clone(), lease));
            }
        }
    }

    /// What the backing tier has ends its flights; the loader is called once for the rest, in a task of its own.
    async fn spawn_load_many<K, L, F, E>(&self, leads: Vec<(K, Lease<V>)>, loader: &L)
    where
        K: Clone + Eq + std::hash::Hash + Send + 'static,
        L: Fn(Vec<K>) -> F,
        F: Future<Output = Result<Vec<(K, Item<V>)>, E>> + Send + 'static,
        E: Into<Box<dyn std::error::Error + Send + Sync>> + 'static,
    {
        let placed: Vec<Placed> = leads.iter().enumerate().map(|(at, (_, lease))| (at, lease.key().into())).collect();
        let mut boarding = Boarding(leads);
        let backed = self.in_backing_many(&placed).await;
        let mut missing = Vec::new();
        for ((name, lease), backed) in std::mem::take(&mut boarding.0).into_iter().zip(backed) {
            match backed.filter(|backed| !backed.aged) {
                Some(Backed { entry, .. }) => {
                    lease.end(Ok(Landed { stamp: entry.meta.stamp(), entry: Some(entry), source: Source::Backing }))
                }
                None => missing.push((name, lease)),
            }
        }
        if missing.is_empty() {
            return;
        }
        // Step 5: before the loader is even called.
        let stamp = self.shared.index.latest();
        let loading = loader(missing.iter().map(|(name, _)| name.clone()).collect());
        let view = self.clone();
        let span = spans::load_many(&self.space.name);
        span.record("keys", missing.len());
        drop(task::spawn(&self.shared.runtime, async move { view.run_loader_many(missing, stamp, loading).await }.instrument(span)));
    }

    async fn run_loader_many<K, F, E>(&self, leases: Vec<(K, Lease<V>)>, stamp: Stamp, loading: F)
    where
        K: Eq + std::hash::Hash,
        F: Future<Output = Result<Vec<(K, Item<V>)>, E>>,
        E: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let (mut items, took) = match self.call_loader_many(loading).await {
            Ok(loaded) => loaded,
            Err(error) => {
                leases.into_iter().for_each(|(_, lease)| {
                    let error = error.clone().during("get_many_or_load", lease.key());
                    lease.end(Err(error));
                });
                return;
            }
        };
        self.loaded_together(leases.iter().map(|(_, lease)| lease.key()), took);
        for (name, lease) in leases {
            let landed = self.keep_loaded(lease.key(), items.remove(&name), stamp, took).await;
            let landed = landed.map_err(|error| error.during("get_many_or_load", lease.key()));
            lease.end(landed);
        }
    }

    /// The loader, in its turn and within its time. Returns what it found, and how long that took.
    async fn call_loader_many<K, F, E>(&self, loading: F) -> Result<(HashMap<K, Item<V>>, Duration)>
    where
        K: Eq + std::hash::Hash,
        F: Future<Output = Result<Vec<(K, Item<V>)>, E>>,
        E: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let begun = Instant::now();
        let limit = self.space.policy.load_timeout;
        let in_turn = async {
            // One call of a loader is one load, however many keys it is asked for. The semaphore is never closed.
            let _turn = self.space.loads.acquire().await.ok();
            loading.await
        };
        let outcome = match tokio::time::timeout(limit, in_turn).await {
            Ok(Ok(items)) => Ok(items),
            Ok(Err(error)) => {
                self.space.metrics.count(Count::LoadError);
                Err(Error::new(ErrorKind::Load, "the loader failed").with_source(error))
            }
            Err(_) => Err(self.timed_out(limit)),
        };
        let took = begun.elapsed();
        self.space.metrics.load.record(took);
        let items = outcome.inspect_err(spans::failed)?.into_iter().collect();
        spans::outcome("loaded");
        self.space.metrics.count(Count::LoadOk);
        Ok((items, took))
    }
}

/// Flights whose loader was not called yet. The caller may stop waiting at this very time, and takes them along.
struct Boarding<K, V>(Vec<(K, Lease<V>)>);

impl<K, V> Drop for Boarding<K, V> {
    fn drop(&mut self) {
        self.0.drain(..).for_each(|(_, lease)| lease.give_up());
    }
}

/// A key that waits for a flight.
struct Boarded<V> {
    at: usize,
    flight: Arc<Flight<V>>,
    leads: bool,
    missed: Miss,
    old: Option<Arc<Entry<V>>>,
}
