//! How large a cache should be, from a trace or from a running server: reading what was asked for, and showing the answer as a plot on
//! a terminal, JSON, or SVG. The reckoning itself is the library's (`larder::sizing`).

mod inflate;
pub mod plot;
pub mod svg;
pub mod trace;

use larder::sizing::{Curve, Simulation, Step, Survey, sizes_of};
use serde::{Deserialize, Serialize};

use trace::{Trace, TraceError};

/// The hit rate that is asked for where none is given.
pub const TARGET: f64 = 0.8;

/// What a curve says of one size.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Advice {
    /// The hit rate that was asked for.
    pub target: f64,
    /// The size that reaches it; null where no size that was run does.
    pub size_for_target: Option<u64>,
    /// The size that the next three are about.
    pub bytes: u64,
    /// Its hit ratio.
    pub hit_ratio: f64,
    /// What a tenth more would bring.
    pub gain: Step,
    /// What a tenth less would cost.
    pub loss: Step,
}

impl Advice {
    /// Of a cache of this size, or, where there is none, of the size that reaches the target or else the largest.
    pub fn of(curve: &Curve, bytes: Option<u64>, target: f64) -> Self {
        let size_for_target = curve.size_for(target);
        let largest = curve.points.last().map_or(0, |point| point.bytes);
        let bytes = bytes.or(size_for_target).unwrap_or(largest);
        Advice { target, size_for_target, bytes, hit_ratio: curve.at(bytes).hit_ratio, gain: curve.gain(bytes), loss: curve.loss(bytes) }
    }
}

/// How a trace is run.
#[derive(Clone, Debug)]
pub struct Run {
    /// The sizes; where there are none, so many up to that of all entries.
    pub sizes: Result<Vec<u64>, usize>,
    /// The share of keys that is followed.
    pub sample: f64,
}

/// The curve of a trace, which is read twice: for how many keys it has, and to run it.
///
/// # Errors
/// Where it cannot be read, with the place.
pub fn curve_of(trace: &Trace, run: &Run) -> Result<Curve, TraceError> {
    let mut survey = Survey::default();
    trace.each(|access| survey.read(access))?;
    let sizes = match &run.sizes {
        Ok(sizes) => sizes.clone(),
        Err(count) => sizes_of(survey.bytes() as u64, *count),
    };
    let mut simulation = Simulation::new(&survey, &sizes, run.sample);
    trace.each(|access| simulation.read(access))?;
    Ok(simulation.curve())
}

#[cfg(test)]
mod tests;
