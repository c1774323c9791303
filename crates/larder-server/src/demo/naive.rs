//! The two baselines: a time to live alone, and deleting on update.
//!
//! Neither is a straw man. Both share one load among concurrent readers, spread their keys over shards, and the second
//! is told exactly which keys an update concerns, which in practice takes a scan or an index. What they lack is what
//! most caches lack: nothing ties a value to the moment at which its load *began*.
//!
//! - *TTL only* never hears of updates; a value is wrong from the next bar until its time is up.
//! - *Delete on update* removes the keys that an update concerns. A load that was already running then stores the old
//!   value regardless, right behind the delete, and readers who arrive meanwhile join that load. The old value then
//!   stays until the next update or the end of its time. `get_with` of moka 0.12 and `fetch` of foyer 0.22 behave like
//!   this when a key is invalidated during a load.

mod store;

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::cache::{Answer, DemoCache, Told};
use super::features::Features;
use super::keyspace::{Key, KeyId, Keyspace, Kind};
use super::market::SymbolId;
use super::model::{ModelId, Prediction};
use super::source::{DemoValue, Source};
use store::Store;

/// What a baseline does about an update.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnUpdate {
    /// Nothing: time alone is trusted.
    Ignore,
    /// Deletes the keys concerned.
    Delete,
}

/// A conventional cache in memory.
#[derive(Debug)]
pub struct NaiveCache {
    keyspace: Arc<Keyspace>,
    on_update: OnUpdate,
    features: Store<Features>,
    predictions: Store<Prediction>,
}

impl NaiveCache {
    /// An empty cache whose values live for `time_to_live`.
    pub fn new(keyspace: Arc<Keyspace>, on_update: OnUpdate, time_to_live: Duration) -> Self {
        let (features, predictions) = (Store::new(time_to_live), Store::new(time_to_live));
        Self { keyspace, on_update, features, predictions }
    }

    fn update(&self, keys: &[KeyId]) -> Told {
        if self.on_update == OnUpdate::Ignore {
            return Told::everyone(0);
        }
        for key in keys.iter().map(|&id| self.keyspace.key(id)) {
            match key.kind {
                Kind::Features => self.features.delete(&key.name),
                Kind::Prediction(_) => self.predictions.delete(&key.name),
            }
        }
        Told::everyone(1)
    }
}

async fn read<V: DemoValue>(store: &Store<V>, key: &Key, source: &Arc<Source>) -> Answer<Arc<V>> {
    let load = || Arc::clone(source).load::<V>(key.id);
    store.get_or_load(&key.name, Instant::now(), load).await
}

impl DemoCache for NaiveCache {
    type Held<V: DemoValue> = Arc<V>;
    type Error = Infallible;

    async fn features(&self, key: &Key, source: &Arc<Source>) -> Result<Answer<Arc<Features>>, Infallible> {
        Ok(read(&self.features, key, source).await)
    }

    async fn prediction(&self, key: &Key, source: &Arc<Source>) -> Result<Answer<Arc<Prediction>>, Infallible> {
        Ok(read(&self.predictions, key, source).await)
    }

    async fn on_bar(&self, symbol: SymbolId) -> Result<Told, Infallible> {
        Ok(self.update(self.keyspace.of_symbol(symbol)))
    }

    async fn on_model(&self, model: ModelId) -> Result<Told, Infallible> {
        Ok(self.update(self.keyspace.of_model(model)))
    }
}
