//! What to begin, and what to give up, decided: from what is over, what runs and what time it is. It does nothing, and asks nobody.
//!
//! ```text
//!   instants after `done`, up to now
//!     came while a run was under way ── overlap ──> skip: given up      queue: as the others
//!     the last, in time              ─────────────> begun
//!     the others, or all if late     ── missed ───> skip: given up      once: the last is begun      all: begun one by one
//! ```
//!
//! One thing at a time: what is given up is given up first, and then it is asked again.

use super::definition::{Definition, MADE_UP_MAX, Missed, Overlap, millis};

/// Instants that are counted when they are given up; of more it is only known that there are more.
pub const COUNTED_MAX: usize = 1_000;

/// How a job stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    /// Up to which instant all is over.
    pub done_ms: u64,
    /// Whether a run is under way, here or elsewhere.
    pub running: bool,
    /// Whether nothing is begun by schedule.
    pub paused: bool,
    /// When the last run began and ended.
    pub last: Option<(u64, u64)>,
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Nothing, until this moment at the earliest; without one, until something else has changed.
    Wait(Option<u64>),
    /// Begin what was due at this instant.
    Begin {
        /// The instant.
        due_ms: u64,
        /// Whether it is not in time any more.
        late: bool,
    },
    /// Record that nothing is done for these any more.
    GiveUp(GivenUp),
}

/// Instants for which nothing is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GivenUp {
    /// Why.
    pub why: Why,
    /// The first of them.
    pub from_ms: u64,
    /// The last.
    pub to_ms: u64,
    /// How many; [`COUNTED_MAX`] stands for that many and more.
    pub count: usize,
}

/// Why nothing is done for an instant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// The run before was still under way.
    Overlapped,
    /// Nobody could begin it in time, and the policy does not make up for it.
    Missed,
}

/// Decides for one job.
pub fn plan(job: &Definition, standing: &Standing, now_ms: u64) -> Step {
    if standing.paused || standing.running {
        return Step::Wait(None);
    }
    let schedule = &job.schedule;
    let Some(first) = schedule.after(standing.done_ms) else { return Step::Wait(None) };
    let begins = job.begins_ms(first);
    if begins > now_ms {
        return Step::Wait(Some(begins));
    }
    if let Some(given_up) = overlapped(job, standing, first) {
        return Step::GiveUp(given_up);
    }
    // The last that has begun to be due: the one before may be, where the last still waits for its jitter.
    let last = schedule.latest(standing.done_ms, now_ms).unwrap_or(first);
    let last = if job.begins_ms(last) <= now_ms { last } else { schedule.latest(standing.done_ms, last - 1).unwrap_or(first) };
    // What waits for the run before is not late for that.
    let ended_ms = standing.last.map_or(0, |(_, ended_ms)| ended_ms);
    let in_time = |due_ms: u64| now_ms.saturating_sub(job.begins_ms(due_ms).max(ended_ms)) <= millis(job.start_deadline);
    match job.missed {
        Missed::All => match too_old(job, standing, (first, last)) {
            Some(given_up) => Step::GiveUp(given_up),
            None => Step::Begin { due_ms: first, late: !in_time(first) },
        },
        Missed::Skip if !in_time(last) => Step::GiveUp(given_up(job, Why::Missed, first, last)),
        Missed::Skip | Missed::Once if first == last => Step::Begin { due_ms: last, late: !in_time(last) },
        Missed::Skip | Missed::Once => {
            let before = schedule.latest(standing.done_ms, last - 1).unwrap_or(first);
            Step::GiveUp(given_up(job, Why::Missed, first, before))
        }
    }
}

/// The instants that came while the last run was under way, where those are given up.
fn overlapped(job: &Definition, standing: &Standing, first: u64) -> Option<GivenUp> {
    let (began_ms, ended_ms) = standing.last.filter(|_| job.overlap == Overlap::Skip)?;
    let came_meanwhile = |due_ms: &u64| *due_ms > began_ms && job.begins_ms(*due_ms) <= ended_ms;
    let all = std::iter::successors(Some(first), |due_ms| job.schedule.after(*due_ms));
    let (mut to_ms, mut count) = (first, 0);
    for due_ms in all.take_while(came_meanwhile).take(COUNTED_MAX) {
        (to_ms, count) = (due_ms, count + 1);
    }
    (count > 0).then_some(GivenUp { why: Why::Overlapped, from_ms: first, to_ms, count })
}

/// What is before the last instants that are made up for.
fn too_old(job: &Definition, standing: &Standing, (first, last): (u64, u64)) -> Option<GivenUp> {
    let following = std::iter::successors(Some(first), |due_ms| job.schedule.after(*due_ms).filter(|next| *next <= last));
    following.clone().nth(MADE_UP_MAX)?;
    let mut from = last;
    for _ in 1..MADE_UP_MAX {
        from = job.schedule.latest(standing.done_ms, from - 1)?;
    }
    let before = job.schedule.latest(standing.done_ms, from - 1)?;
    Some(given_up(job, Why::Missed, first, before))
}

fn given_up(job: &Definition, why: Why, from_ms: u64, to_ms: u64) -> GivenUp {
    let all = std::iter::successors(Some(from_ms), |due_ms| job.schedule.after(*due_ms));
    GivenUp { why, from_ms, to_ms, count: all.take_while(|due_ms| *due_ms <= to_ms).take(COUNTED_MAX).count() }
}

#[cfg(test)]
mod tests;
