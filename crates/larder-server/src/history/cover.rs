//! Which stored units make up a stretch of time: the longest that are closed and within it, and shorter ones at its ends.
//!
//! ```text
//!   asked for        [--------------------------------------------------)
//!   months                          |------------|
//!   days                  |-|-|-|-|-|            |-|-|-|-|
//!   hours, minutes     ||||                              ||||||||
//! ```
//!
//! Where a unit is cut by an end of the stretch and the level below is not kept so far back, it counts as a whole for the stretch that
//! its middle is in: each unit then counts for one of all stretches that follow each other, and nothing is lost or told twice. The
//! middle of one that is not over yet is that of what there is of it, and a minute counts where it begins: who asks about the time
//! until now is told of it.

use std::collections::BTreeSet;

use super::span::Span;

/// What is kept at which level.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Levels {
    /// From when on units of each level are kept, in the order of [`Span::ALL`]; the finest that is kept at all comes first.
    pub(super) since_ms: [u64; 4],
    /// The finest level that there is.
    pub(super) finest: usize,
    /// Where what is known ends.
    pub(super) latest_ms: u64,
    /// Units that are not closed.
    pub(super) due: BTreeSet<(usize, u64)>,
}

/// Units of one level that follow each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Run {
    pub(super) span: Span,
    pub(super) from_ms: u64,
    pub(super) to_ms: u64,
}

impl Levels {
    /// The units that make up a stretch, in order.
    pub(super) fn cover(&self, from_ms: u64, to_ms: u64) -> Vec<Run> {
        let mut runs = Vec::new();
        self.descend(Span::ALL.len() - 1, (from_ms, to_ms), (from_ms, to_ms), &mut runs);
        runs
    }

    /// The finest level that everything since a moment is kept at.
    pub(super) fn finest_since(&self, from_ms: u64) -> Span {
        let kept = |level: &usize| self.since_ms[*level] <= from_ms;
        Span::ALL[(self.finest..Span::ALL.len()).find(kept).unwrap_or(Span::ALL.len() - 1)]
    }

    /// The units of a level within a part of the stretch.
    fn descend(&self, level: usize, whole: (u64, u64), (from_ms, to_ms): (u64, u64), runs: &mut Vec<Run>) {
        let span = Span::ALL[level];
        let mut start = span.floor(from_ms);
        while start < to_ms {
            let end = span.end(start);
            let is_within = whole.0 <= start && end <= whole.1;
            let is_closed = !self.due.contains(&(level, start));
            let below_is_kept = level > self.finest && self.since_ms[level - 1] <= start;
            if is_within && is_closed && self.since_ms[level] <= start {
                push(runs, span, start, end);
            } else if below_is_kept {
                self.descend(level - 1, whole, (start.max(from_ms), end.min(to_ms)), runs);
            } else {
                let known_ms = end.min(self.latest_ms).saturating_sub(start);
                let middle = if span == Span::Minute { start } else { start + known_ms / 2 };
                if whole.0 <= middle && middle < whole.1 {
                    push(runs, span, start, end);
                }
            }
            start = end;
        }
    }
}

fn push(runs: &mut Vec<Run>, span: Span, from_ms: u64, to_ms: u64) {
    match runs.last_mut() {
        Some(last) if last.span == span && last.to_ms == from_ms => last.to_ms = to_ms,
        _ => runs.push(Run { span, from_ms, to_ms }),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::span::{DAY_MS, HOUR_MS, MINUTE_MS};
    use super::*;

    /// A Monday in June 2026.
    const JUNE: u64 = 1_780_272_000_000;

    fn levels(minutes: u64, hours: u64, days: u64) -> Levels {
        Levels { since_ms: [minutes, hours, days, 0], latest_ms: u64::MAX, ..Levels::default() }
    }

    #[test]
    fn what_is_not_over_is_told_to_who_asks_about_the_time_until_now() {
        let mut sketches = levels(0, 0, 0);
        (sketches.finest, sketches.latest_ms) = (Span::Hour as usize, JUNE + 6 * MINUTE_MS);
        let hour = Run { span: Span::Hour, from_ms: JUNE, to_ms: JUNE + HOUR_MS };
        assert_eq!(sketches.cover(JUNE, JUNE + 5 * MINUTE_MS), [hour]);
        let minute = Run { span: Span::Minute, from_ms: JUNE, to_ms: JUNE + MINUTE_MS };
        assert_eq!(levels(0, 0, 0).cover(JUNE, JUNE + 1), [minute]);
        assert_eq!(levels(0, 0, 0).cover(JUNE + 1, JUNE + MINUTE_MS), []);
    }

    #[test]
    fn the_longest_units_are_taken_and_shorter_ones_at_the_ends() {
        assert_eq!(Span::Month.floor(JUNE), JUNE);
        let july = Span::Month.end(JUNE);
        let from = JUNE - 2 * HOUR_MS - 5 * MINUTE_MS;
        let runs = levels(0, 0, 0).cover(from, july + DAY_MS + HOUR_MS);
        let run = |span, from_ms, to_ms| Run { span, from_ms, to_ms };
        let expected = [
            run(Span::Minute, from, JUNE - 2 * HOUR_MS),
            run(Span::Hour, JUNE - 2 * HOUR_MS, JUNE),
            run(Span::Month, JUNE, july),
            run(Span::Day, july, july + DAY_MS),
            run(Span::Hour, july + DAY_MS, july + DAY_MS + HOUR_MS),
        ];
        assert_eq!(runs, expected);
    }

    #[test]
    fn what_is_due_is_made_up_from_below() {
        let mut levels = levels(0, 0, 0);
        levels.due.extend([(3, JUNE), (2, JUNE + DAY_MS), (1, JUNE + DAY_MS)]);
        let runs = levels.cover(JUNE, JUNE + 3 * DAY_MS);
        let spans: Vec<Span> = runs.iter().map(|run| run.span).collect();
        assert_eq!(spans, [Span::Day, Span::Minute, Span::Hour, Span::Day]);
        assert_eq!(runs[1], Run { span: Span::Minute, from_ms: JUNE + DAY_MS, to_ms: JUNE + DAY_MS + HOUR_MS });
    }

    proptest! {
        #![proptest_config(crate::demo::properties())]

        /// Stretches that follow each other take every unit of a time exactly once, whatever is kept.
        #[test]
        fn nothing_is_lost_or_told_twice(
            cuts in prop::collection::btree_set(0u64..70 * 1_440, 2..12),
            (days, hours, minutes) in (0u64..70, 0u64..70, 0u64..70),
        ) {
            let (hours, minutes) = (days.max(hours), days.max(hours).max(minutes));
            let levels = levels(JUNE + minutes * DAY_MS, JUNE + hours * DAY_MS, Span::Month.floor(JUNE + days * DAY_MS));
            let cuts: Vec<u64> = cuts.into_iter().map(|minute| JUNE + minute * MINUTE_MS).collect();
            let mut ended = None;
            for pair in cuts.windows(2) {
                for run in levels.cover(pair[0], pair[1]) {
                    prop_assert!(ended.is_none_or(|ended| run.from_ms == ended), "{run:?} after {ended:?}");
                    ended = Some(run.to_ms);
                    let is_kept = levels.since_ms[Span::ALL.iter().position(|span| *span == run.span).unwrap()] <= run.from_ms;
                    prop_assert!(is_kept, "{run:?} is not kept");
                }
            }
        }
    }
}
