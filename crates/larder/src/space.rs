//! What all handles of one namespace share: its policy, its pool, its counters, the loads under way.

use std::any::{Any, TypeId};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::Semaphore;

use crate::codec::{Codec, Value};
use crate::config::{MAX_STALENESS, Mode, Policy, TagTemplate};
use crate::entry::{Entry, Slot};
use crate::error::{Error, ErrorKind, Result};
use crate::fill::Fills;
use crate::key::SEPARATOR;
use crate::metrics::NamespaceMetrics;
use crate::tier::memory::{NamespaceHash, Pool};

/// See the head of this file.
pub(crate) struct Space {
    pub(crate) name: Box<str>,
    pub(crate) policy: Policy,
    pub(crate) templates: Vec<TagTemplate>,
    pub(crate) pool: Arc<Pool>,
    /// What all keys of it begin with, its separator included, hashed as its pool does.
    pub(crate) prefix_hash: NamespaceHash,
    pub(crate) metrics: Arc<NamespaceMetrics>,
    /// For how long after the shared log was last heard memory may be used; `None`: always.
    pub(crate) strict: Option<Duration>,
    /// For how long it counts as verified, for those who ask.
    pub(crate) max_staleness: Duration,
    pub(crate) mode: Mode,
    /// One permit per load that may run.
    pub(crate) loads: Arc<Semaphore>,
    typed: OnceLock<AnyTyped>,
}

/// What is known once the namespace was opened for a type of value.
pub(crate) struct Typed<V> {
    pub(crate) fills: Arc<Fills<V>>,
    pub(crate) codec: Codec,
    pub(crate) tagger: OnceLock<Tagger<V>>,
}

/// Gives the tags of a value.
pub(crate) type Tagger<V> = Box<dyn Fn(&V) -> Vec<String> + Send + Sync>;

struct AnyTyped {
    type_id: TypeId,
    type_name: &'static str,
    typed: Arc<dyn Any + Send + Sync>,
    /// For those who read bytes where values are: the encoded value of an entry of this type.
    encode: fn(&dyn Any, Codec) -> Option<Result<Bytes>>,
    codec: Codec,
}

impl Space {
    pub(crate) fn new(name: &str, policy: Policy, shared_pool: &Arc<Pool>, has_tier: bool) -> Result<Self> {
        policy.check()?;
        let templates = policy.tags.iter().map(|template| TagTemplate::new(template)).collect::<Result<_>>()?;
        let pool = policy.own_pool.map_or_else(
            || shared_pool.clone(),
            |bytes| Arc::new(Pool::new(bytes, shared_pool.clock().clone(), shared_pool.notices().clone())),
        );
        let metrics = Arc::new(NamespaceMetrics::new(has_tier && policy.backing));
        let loads = Arc::new(Semaphore::new(policy.loads_max.min(Semaphore::MAX_PERMITS)));
        let (mode, max_staleness) = (policy.mode.unwrap_or_default(), policy.max_staleness.unwrap_or(MAX_STALENESS));
        Ok(Space {
            name: name.into(),
            policy,
            templates,
            prefix_hash: pool.namespace_hash(&[name.as_bytes(), &[SEPARATOR]].concat()),
            pool,
            metrics,
            strict: (mode == Mode::Strict).then_some(max_staleness),
            max_staleness,
            mode,
            loads,
            typed: OnceLock::new(),
        })
    }

    /// Opens it for a type of value; all later ones must be of the same type.
    pub(crate) fn open<V: Value>(&self) -> Result<Arc<Typed<V>>> {
        let codec = self.policy.codec.for_type::<V>()?;
        let open = self.typed.get_or_init(|| AnyTyped {
            type_id: TypeId::of::<V>(),
            type_name: std::any::type_name::<V>(),
            typed: Arc::new(Typed::<V> { fills: Arc::new(Fills::new()), codec, tagger: OnceLock::new() }),
            encode: |entry, codec| entry.downcast_ref::<Entry<V>>().map(|entry| codec.encode(&entry.value)),
            codec,
        });
        open.typed.clone().downcast().map_err(|_| {
            debug_assert_ne!(open.type_id, TypeId::of::<V>());
            let message =
                format!("the namespace \"{}\" holds {}, it cannot be opened for {}", self.name, open.type_name, std::any::type_name::<V>());
            Error::new(ErrorKind::WrongType, message)
        })
    }

    /// The encoded value of an entry of the type that the namespace was opened for, and the codec.
    pub(crate) fn encode(&self, entry: &Arc<dyn Slot>) -> Option<Result<(Bytes, Codec)>> {
        let typed = self.typed.get()?;
        let encoded = (typed.encode)(&*entry.clone().into_any(), typed.codec)?;
        Some(encoded.map(|bytes| (bytes, typed.codec)))
    }
}
