//! What all handles of one namespace share: its policy, its pool, its counters, the loads under way.

use std::any::{Any, TypeId};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::Semaphore;

use crate::codec::{Codec, Value};
use crate::config::{MAX_STALENESS, MEMORY_BYTES_MIN, Mode, Policy, TagTemplate};
use crate::entry::{Entry, Slot};
use crate::error::{Error, ErrorKind, Result};
use crate::fill::Fills;
use crate::key::SEPARATOR;
use crate::metrics::NamespaceMetrics;
use crate::sizing::live::Tap;
use crate::sync::{AtomicBool, Ordering};
use crate::tier::memory::{NamespaceHash, Pool};

/// See the head of this file.
pub(crate) struct Space {
    pub(crate) name: Box<str>,
    pub(crate) policy: Policy,
    pub(crate) templates: Vec<TagTemplate>,
    pool: Arc<Pool>,
    /// The pool that it may be given in the place of the shared one, where memory is given out while the cache runs.
    apart: Option<Apart>,
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

/// A pool of a namespace's own that comes and goes.
#[derive(Default)]
struct Apart {
    pool: OnceLock<Arc<Pool>>,
    /// Whether it is the one that is used.
    is_used: AtomicBool,
}

/// How a namespace takes part in the sizing of memory.
#[derive(Clone)]
pub(crate) struct Part {
    pub(crate) tap: Arc<Tap>,
    pub(crate) group: u16,
    /// Whether it may be given a pool of its own.
    pub(crate) may_part: bool,
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
    pub(crate) fn new(name: &str, policy: Policy, shared_pool: &Arc<Pool>, has_tier: bool, part: Option<Part>) -> Result<Self> {
        policy.check()?;
        let templates = policy.tags.iter().map(|template| TagTemplate::new(template)).collect::<Result<_>>()?;
        let pool = policy.own_pool.map_or_else(
            || shared_pool.clone(),
            |bytes| {
                let pool = Pool::new(bytes, shared_pool.clock().clone(), shared_pool.notices().clone());
                Arc::new(pool.squeezed_as(shared_pool))
            },
        );
        let tap = part.as_ref().map(|part| (part.tap.clone(), part.group));
        let metrics = Arc::new(NamespaceMetrics::new(has_tier && policy.backing).recorded_by(tap));
        let apart = part.filter(|part| part.may_part && policy.own_pool.is_none()).map(|_| Apart::default());
        let loads = Arc::new(Semaphore::new(policy.loads_max.min(Semaphore::MAX_PERMITS)));
        let (mode, max_staleness) = (policy.mode.unwrap_or_default(), policy.max_staleness.unwrap_or(MAX_STALENESS));
        Ok(Space {
            name: name.into(),
            policy,
            templates,
            prefix_hash: pool.namespace_hash(&[name.as_bytes(), &[SEPARATOR]].concat()),
            pool,
            apart,
            metrics,
            strict: (mode == Mode::Strict).then_some(max_staleness),
            max_staleness,
            mode,
            loads,
            typed: OnceLock::new(),
        })
    }

    /// The pool that its entries are in. Two calls of one operation may get different ones, when it is given another in between: what
    /// is then found in neither, or left in the one that is not used, is found to be as fresh as it is, or not at all.
    #[inline]
    pub(crate) fn pool(&self) -> &Arc<Pool> {
        match &self.apart {
            None => &self.pool,
            Some(apart) if !apart.is_used.load(Ordering::Acquire) => &self.pool,
            Some(apart) => apart.pool.get().unwrap_or(&self.pool),
        }
    }

    /// Every pool but the shared one that may hold entries of it.
    pub(crate) fn own_pool(&self) -> Option<&Arc<Pool>> {
        if self.policy.own_pool.is_some() { Some(&self.pool) } else { self.apart.as_ref()?.pool.get() }
    }

    /// Whether it may be given a pool of its own, or be put back.
    pub(crate) fn may_part(&self) -> bool {
        self.apart.is_some()
    }

    /// Whether it was given one.
    pub(crate) fn is_parted(&self) -> bool {
        self.apart.as_ref().is_some_and(|apart| apart.is_used.load(Ordering::Acquire))
    }

    /// Gives it a pool of its own of this size, and moves its entries there. More than the size of both may be held for as long as that
    /// takes.
    pub(crate) fn part(&self, bytes: u64) {
        let Some(apart) = &self.apart else { return };
        let own = apart.pool.get_or_init(|| Arc::new(self.pool.beside(bytes)));
        // It may have been put back while all were squeezed, or let go.
        own.squeeze_as(&self.pool);
        own.resize(bytes);
        // First, so that what comes in from now on is where it belongs.
        apart.is_used.store(true, Ordering::Release);
        self.pool.move_to(own, &self.prefix());
    }

    /// Puts it back into the shared pool, with its entries.
    pub(crate) fn rejoin(&self) {
        let Some((apart, own)) = self.apart.as_ref().and_then(|apart| Some((apart, apart.pool.get()?))) else { return };
        apart.is_used.store(false, Ordering::Release);
        own.move_to(&self.pool, &self.prefix());
        // What is still on its way there finds room. Not less: see `resize` in optimize.rs.
        own.resize((own.size() / 64).max(MEMORY_BYTES_MIN));
    }

    fn prefix(&self) -> Vec<u8> {
        [self.name.as_bytes(), &[SEPARATOR]].concat()
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
