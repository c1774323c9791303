//! The seam between the demo and the cache under it: what the readers and the feed ask of larder and of the baselines
//! alike.

use std::future::Future;
use std::ops::Deref;
use std::sync::Arc;

use super::features::Features;
use super::keyspace::Key;
use super::market::SymbolId;
use super::model::{ModelId, Prediction};
use super::source::{DemoValue, Source};

/// Who answered a read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Served {
    /// The memory tier.
    Memory,
    /// The disk tier.
    Disk,
    /// A load that another read had begun.
    Joined,
    /// A load of its own.
    Loaded,
}

/// What a read returned, and who answered it.
#[derive(Debug)]
pub struct Answer<H> {
    /// Holds the value.
    pub value: H,
    /// Who answered.
    pub served: Served,
}

/// A cache that the demo can drive.
pub trait DemoCache: Send + Sync + 'static {
    /// How a value is handed out.
    type Held<V: DemoValue>: Deref<Target = V> + Send + Sync;

    /// What can go wrong beneath.
    type Error: std::error::Error + Send + Sync + 'static;

    /// The features that `key` names, loaded from `source` if need be.
    fn features(&self, key: &Key, source: &Arc<Source>) -> impl Future<Output = Result<Answer<Self::Held<Features>>, Self::Error>> + Send;

    /// The prediction that `key` names, loaded from `source` if need be.
    fn prediction(
        &self,
        key: &Key,
        source: &Arc<Source>,
    ) -> impl Future<Output = Result<Answer<Self::Held<Prediction>>, Self::Error>> + Send;

    /// The symbol has a new bar: what was made from the last one is wrong. Returns how many invalidations that took;
    /// once it has returned, no read that begins may be answered from the old bar.
    fn on_bar(&self, symbol: SymbolId) -> impl Future<Output = Result<u64, Self::Error>> + Send;

    /// The line has a new release: what the last one predicted is wrong. As [`DemoCache::on_bar`].
    fn on_model(&self, model: ModelId) -> impl Future<Output = Result<u64, Self::Error>> + Send;
}
