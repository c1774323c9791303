//! What is told of the sizing of memory.

use serde::{Deserialize, Serialize};

use super::SizingMode;
use crate::sizing::{Curve, Step, TtlAdvice};

/// What other sizes of memory would do: see [`Larder::sizing`](crate::Larder::sizing).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Sizing {
    /// Whether memory is looked at, and given out.
    pub mode: SizingMode,
    /// All memory that there is to be given out, in bytes.
    pub budget: u64,
    /// The share of keys that is followed.
    pub sampled: f64,
    /// Whether namespaces have pools of their own at the moment that they were given because it gains.
    pub is_apart: bool,
    /// The size of the shared pool.
    pub shared_bytes: u64,
    /// What all that share do together, by the size of their pool.
    pub together: Curve,
    /// By how much the share of reads that hit, by what their loads cost, would rise with a pool for each.
    pub apart_gain: f64,
    /// Whether that is enough to do it.
    pub advises_apart: bool,
    /// Each namespace.
    pub namespaces: Vec<NamespaceSizing>,
    /// The last changes, the latest last.
    pub decisions: Vec<Decision>,
}

/// A namespace.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct NamespaceSizing {
    /// Its name.
    pub name: String,
    /// The size of its own pool, if it has one.
    pub own_bytes: Option<u64>,
    /// That, or what its entries take of the shared one.
    pub bytes: u64,
    /// What it would get if each had its own.
    pub advised_bytes: u64,
    /// What it would do by itself, by size.
    pub curve: Curve,
    /// What a tenth more memory would bring.
    pub gain: Step,
    /// What a tenth less would cost.
    pub loss: Step,
    /// Another time to live, where one is advised.
    pub ttl: Option<TtlAdvice>,
}

/// A change of how memory is given out.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Decision {
    /// When, in milliseconds since 1970.
    pub at_ms: u64,
    /// What was done.
    pub what: String,
    /// By how much the share of reads that hit was to rise, by what their loads cost.
    pub predicted: f64,
    /// By how much it did rise, beside what it would have been; null until that is known.
    pub measured: Option<f64>,
    /// Why it was undone, if it was.
    pub undone: Option<String>,
}
