//! The seam between the demo and the cache under it: what the readers and the feed ask of larder and of the baselines
//! alike.

use std::future::Future;
use std::ops::Deref;
use std::sync::Arc;

use larder::Position;

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
    /// The tier behind it.
    Backing,
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

/// What came of telling a cache of a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Told {
    /// How many invalidations it took.
    pub invalidations: u64,
    /// Where more than one instance serves the cache, and not all are known to obey: the position that they have to reach.
    pub unsettled: Option<Position>,
}

impl Told {
    /// Whoever reads obeys.
    pub fn everyone(invalidations: u64) -> Self {
        Self { invalidations, unsettled: None }
    }
}

/// Which changes a read is held to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeldTo {
    /// Those that the cache had acknowledged when the read began.
    Acknowledged,
    /// Those that every instance was known to obey when the read began.
    Settled,
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

    /// The symbol has a new bar: what was made from the last one is wrong. Once it has returned, no read that is held to
    /// what is acknowledged, and begins then, may be answered from the old bar.
    fn on_bar(&self, symbol: SymbolId) -> impl Future<Output = Result<Told, Self::Error>> + Send;

    /// The line has a new release: what the last one predicted is wrong. As [`DemoCache::on_bar`].
    fn on_model(&self, model: ModelId) -> impl Future<Output = Result<Told, Self::Error>> + Send;

    /// Waits until every instance has reached a position, and says whether they have. Once they have, no read at all that
    /// begins may be answered with what was invalidated there.
    fn settle(&self, _: Position) -> impl Future<Output = Result<bool, Self::Error>> + Send {
        std::future::ready(Ok(true))
    }

    /// The cache as the reader with this number sees it.
    fn for_reader(self: &Arc<Self>, _: u64) -> Arc<Self> {
        Arc::clone(self)
    }

    /// What the reads through this view are held to.
    fn held_to(&self) -> HeldTo {
        HeldTo::Acknowledged
    }
}
