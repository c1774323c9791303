//! larder under the demo: the one implementation of [`DemoCache`] that the demo is about.
//!
//! Entries have no time to live here. Nothing but an invalidation ever makes one stale, so the check of the readers is a
//! check of the invalidations alone.
//!
//! What hangs on what is said once, as tag templates of the namespaces' policies; neither loaders nor feeds keep a list of
//! keys. Updates name what they concern in two ways by turns, by tag and by pattern, and each alone must reach everything:
//! whichever way failed would show as stale reads.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use larder::{Cached, Codec, Larder, Names, Namespace, Policy, Source as From};

use super::cache::{Answer, DemoCache, Served, Told};
use super::features::Features;
use super::keyspace::Key;
use super::market::{Market, SymbolId};
use super::model::{ModelId, Prediction};
use super::source::{DemoValue, Source};

/// The namespace of features.
const FEATURES: &str = "features";
/// The namespace of predictions.
const PREDICTIONS: &str = "prediction";

/// larder, seen as the demo sees a cache.
pub struct LarderCache {
    larder: Larder,
    market: Arc<Market>,
    features: Namespace<Features>,
    predictions: Namespace<Prediction>,
    /// Updates so far: even ones go by tag, odd ones by pattern.
    updates: AtomicU64,
}

impl LarderCache {
    /// The policies that the demo relies on, for the builder of its cache.
    ///
    /// Values are JSON so that they can be read with curl while the demo runs. Numbers come back from it bit for bit: the
    /// workspace asks `serde_json` for exact floats, and the readers compare.
    pub fn policies() -> [(&'static str, Policy); 2] {
        let by_symbol = Policy::default().codec(Codec::Json).tag("symbol:{1}");
        [(FEATURES, by_symbol.clone()), (PREDICTIONS, by_symbol.tag("model:{3}"))]
    }

    /// The demo's view of a cache that was built with [`LarderCache::policies`].
    ///
    /// # Errors
    /// Those of [`Larder::namespace`].
    pub fn over(larder: &Larder, market: &Arc<Market>) -> larder::Result<Self> {
        Ok(Self {
            larder: larder.clone(),
            market: Arc::clone(market),
            features: larder.namespace(FEATURES)?,
            predictions: larder.namespace(PREDICTIONS)?,
            updates: AtomicU64::new(0),
        })
    }

    /// One invalidation, by tag or by pattern, whichever it is the turn of.
    async fn update(&self, by_tag: impl FnOnce() -> Names, by_pattern: impl FnOnce() -> Names) -> larder::Result<Told> {
        let turn = self.updates.fetch_add(1, Ordering::Relaxed);
        let names = if turn.is_multiple_of(2) { by_tag() } else { by_pattern() };
        self.larder.invalidate(names).await.map(|_receipt| Told::everyone(1))
    }
}

async fn read<V: DemoValue>(namespace: &Namespace<V>, key: &Key, source: &Arc<Source>) -> larder::Result<Answer<Cached<V>>> {
    // An answer of a loader is this read's own only if it was this read's loader that ran.
    let ran = Arc::new(AtomicBool::new(false));
    let load = {
        let (ran, source, id) = (Arc::clone(&ran), Arc::clone(source), key.id);
        move || {
            ran.store(true, Ordering::Relaxed);
            async move { Ok::<V, std::convert::Infallible>(source.load(id).await) }
        }
    };
    let answer = namespace.lookup_or_load(key.within_namespace(), load).await?;
    let served = match answer.source {
        From::Memory => Served::Memory,
        From::Backing => Served::Backing,
        _ if ran.load(Ordering::Relaxed) => Served::Loaded,
        _ => Served::Joined,
    };
    Ok(Answer { value: answer.value, served })
}

impl DemoCache for LarderCache {
    type Held<V: DemoValue> = Cached<V>;
    type Error = larder::Error;

    async fn features(&self, key: &Key, source: &Arc<Source>) -> larder::Result<Answer<Cached<Features>>> {
        read(&self.features, key, source).await
    }

    async fn prediction(&self, key: &Key, source: &Arc<Source>) -> larder::Result<Answer<Cached<Prediction>>> {
        read(&self.predictions, key, source).await
    }

    async fn on_bar(&self, symbol: SymbolId) -> larder::Result<Told> {
        let ticker = self.market.name(symbol);
        let by_tag = || Names::new().tag(format!("symbol:{ticker}"));
        let by_pattern = || [FEATURES, PREDICTIONS].iter().fold(Names::new(), |names, ns| names.pattern(format!("{ns}:{ticker}:**")));
        self.update(by_tag, by_pattern).await
    }

    async fn on_model(&self, model: ModelId) -> larder::Result<Told> {
        let line = model.line();
        let by_tag = || Names::new().tag(format!("model:{line}"));
        let by_pattern = || Names::new().pattern(format!("{PREDICTIONS}:*:*:{line}"));
        self.update(by_tag, by_pattern).await
    }
}

#[cfg(test)]
mod tests;
