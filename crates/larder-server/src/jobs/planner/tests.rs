//! Examples of each policy, then worlds by chance: clocks that jump, servers that are away, runs that take their time.

use std::collections::BTreeSet;
use std::time::Duration;

use super::super::schedule::Schedule;
use super::*;

const MINUTE: u64 = 60_000;
const HOUR: u64 = 60 * MINUTE;
/// 2026-06-01 00:00 UTC.
const DAWN: u64 = 1_780_272_000_000;

fn hourly(overlap: Overlap, missed: Missed) -> Definition {
    let schedule = Schedule::parse("0 * * * *", "UTC").expect("a schedule");
    Definition { overlap, missed, start_deadline: Duration::from_secs(600), ..Definition::new("cleanup", schedule) }
}

fn since(done_ms: u64) -> Standing {
    Standing { done_ms, ..Standing::default() }
}

#[test]
fn what_is_due_is_begun_and_what_is_not_is_waited_for() {
    let job = hourly(Overlap::Skip, Missed::Skip);
    assert_eq!(plan(&job, &since(DAWN), DAWN + MINUTE), Step::Wait(Some(DAWN + HOUR)));
    assert_eq!(plan(&job, &since(DAWN), DAWN + HOUR), Step::Begin { due_ms: DAWN + HOUR, late: false });
    assert_eq!(plan(&job, &since(DAWN + HOUR), DAWN + HOUR), Step::Wait(Some(DAWN + 2 * HOUR)));
    let busy = Standing { running: true, ..since(DAWN) };
    assert_eq!(plan(&job, &busy, DAWN + HOUR), Step::Wait(None));
    let paused = Standing { paused: true, ..since(DAWN) };
    assert_eq!(plan(&job, &paused, DAWN + HOUR), Step::Wait(None));
}

#[test]
fn what_was_missed_is_given_up_made_up_for_once_or_each() {
    // Away for three and a half hours: three instants, none in time.
    let now = DAWN + 3 * HOUR + 30 * MINUTE;
    let all_three = GivenUp { why: Why::Missed, from_ms: DAWN + HOUR, to_ms: DAWN + 3 * HOUR, count: 3 };
    assert_eq!(plan(&hourly(Overlap::Skip, Missed::Skip), &since(DAWN), now), Step::GiveUp(all_three));
    let two = GivenUp { to_ms: DAWN + 2 * HOUR, count: 2, ..all_three };
    let once = hourly(Overlap::Skip, Missed::Once);
    assert_eq!(plan(&once, &since(DAWN), now), Step::GiveUp(two));
    assert_eq!(plan(&once, &since(two.to_ms), now), Step::Begin { due_ms: DAWN + 3 * HOUR, late: true });
    assert_eq!(plan(&hourly(Overlap::Skip, Missed::All), &since(DAWN), now), Step::Begin { due_ms: DAWN + HOUR, late: true });
    // In time for the last: it is begun whatever the policy is.
    let now = DAWN + 3 * HOUR + MINUTE;
    let skip = hourly(Overlap::Skip, Missed::Skip);
    assert_eq!(plan(&skip, &since(DAWN), now), Step::GiveUp(two));
    assert_eq!(plan(&skip, &since(two.to_ms), now), Step::Begin { due_ms: DAWN + 3 * HOUR, late: false });
}

#[test]
fn a_year_away_is_made_up_for_within_bounds() {
    let now = DAWN + 365 * 24 * HOUR;
    let job = hourly(Overlap::Skip, Missed::All);
    let Step::GiveUp(given_up) = plan(&job, &since(DAWN), now) else { panic!("what is too old is given up") };
    assert_eq!(given_up.count, COUNTED_MAX, "and no more than that are counted");
    let (mut standing, mut begun) = (since(given_up.to_ms), 0);
    while let Step::Begin { due_ms, .. } = plan(&job, &standing, now) {
        (standing.done_ms, begun) = (due_ms, begun + 1);
    }
    assert_eq!(begun, MADE_UP_MAX);
}

#[test]
fn what_comes_while_a_run_is_under_way_is_skipped_or_waits() {
    // A run from one to half past three.
    let last = Some((DAWN + HOUR, DAWN + 3 * HOUR + 30 * MINUTE));
    let standing = Standing { last, ..since(DAWN + HOUR) };
    let now = DAWN + 3 * HOUR + 30 * MINUTE;
    let two = GivenUp { why: Why::Overlapped, from_ms: DAWN + 2 * HOUR, to_ms: DAWN + 3 * HOUR, count: 2 };
    assert_eq!(plan(&hourly(Overlap::Skip, Missed::Once), &standing, now), Step::GiveUp(two));
    let queue = hourly(Overlap::Queue, Missed::Skip);
    let one = GivenUp { why: Why::Missed, to_ms: DAWN + 2 * HOUR, count: 1, ..two };
    assert_eq!(plan(&queue, &standing, now), Step::GiveUp(one));
    // It is half an hour after its instant, and not late.
    let standing = Standing { done_ms: one.to_ms, ..standing };
    assert_eq!(plan(&queue, &standing, now), Step::Begin { due_ms: DAWN + 3 * HOUR, late: false });
}

#[test]
fn the_jitter_is_the_same_everywhere_and_keeps_the_order() {
    let job = Definition { jitter: Duration::from_secs(3 * 3_600), ..hourly(Overlap::Skip, Missed::Skip) };
    let begins: Vec<u64> = job.schedule.next(DAWN, 100).into_iter().map(|due_ms| job.begins_ms(due_ms)).collect();
    assert!(begins.windows(2).all(|pair| pair[0] < pair[1]), "{begins:?}");
    assert_eq!(begins, job.clone().next_ms(DAWN, 100));
    let spread: BTreeSet<u64> = begins.iter().map(|begin| begin % HOUR / MINUTE).collect();
    assert!(spread.len() > 20, "{spread:?}");
    let first = job.schedule.after(DAWN).expect("there is one");
    assert_eq!(plan(&job, &since(DAWN), first), Step::Wait(Some(begins[0])));
    assert_eq!(plan(&job, &since(DAWN), begins[0]), Step::Begin { due_ms: first, late: false });
}

/// What became of the instants of a world.
#[derive(Default)]
struct Ledger {
    begun: Vec<u64>,
    given_up: Vec<(u64, u64, usize)>,
    late: usize,
}

/// Goes through days of a world by chance: the clock jumps, the server is away, runs take their time. A `flaw` is planted in what is
/// remembered of what is over.
fn world(seed: u64, job: &Definition, flaw: bool) -> (Ledger, u64) {
    let mut random = fastrand::Rng::with_seed(seed);
    let (mut now, mut standing, mut ledger) = (DAWN + random.u64(..HOUR), since(DAWN), Ledger::default());
    for _ in 0..200 {
        now += match random.u8(..10) {
            0 => random.u64(..9 * HOUR),
            1..=3 => random.u64(..2 * HOUR),
            _ => random.u64(..20 * MINUTE),
        };
        loop {
            match plan(job, &standing, now) {
                Step::Wait(until) => {
                    assert!(until.is_none_or(|until| until > now), "LARDER_SEED={seed}: it waits for what is past");
                    break;
                }
                Step::GiveUp(given_up) => {
                    assert!(given_up.to_ms > standing.done_ms && given_up.to_ms <= now, "LARDER_SEED={seed}: {given_up:?}");
                    ledger.given_up.push((given_up.from_ms, given_up.to_ms, given_up.count));
                    standing.done_ms = given_up.to_ms;
                }
                Step::Begin { due_ms, late } => {
                    ledger.begun.push(due_ms);
                    ledger.late += usize::from(late);
                    let began = now;
                    now += if random.u8(..5) == 0 { random.u64(..4 * HOUR) } else { random.u64(..10 * MINUTE) };
                    standing.last = Some((began, now));
                    standing.done_ms = if flaw && random.u8(..10) == 0 { due_ms - 1 } else { due_ms };
                }
            }
        }
    }
    (ledger, standing.done_ms)
}

/// Whether each instant was begun or given up, once, and in order.
fn check(job: &Definition, ledger: &Ledger, done_ms: u64) -> Result<(), String> {
    let all: BTreeSet<u64> = job.schedule.next(DAWN, 5_000).into_iter().take_while(|due| *due <= done_ms).collect();
    let mut seen = BTreeSet::new();
    for due in &ledger.begun {
        if !all.contains(due) || !seen.insert(*due) {
            return Err(format!("{due} was begun twice, or never due"));
        }
    }
    for (from, to, count) in &ledger.given_up {
        let of = all.range(from..=to).count();
        if of != *count && *count != COUNTED_MAX {
            return Err(format!("{from}..{to} are {of}, not {count}"));
        }
        if !all.range(from..=to).all(|due| seen.insert(*due)) {
            return Err(format!("of {from}..{to} one was begun, too"));
        }
    }
    if seen != all {
        return Err(format!("{:?} are neither begun nor given up", all.difference(&seen).take(3).collect::<Vec<_>>()));
    }
    if !ledger.begun.is_sorted() {
        return Err("out of order".to_owned());
    }
    Ok(())
}

fn policies() -> Vec<Definition> {
    let of = |overlap| [Missed::Skip, Missed::Once, Missed::All].map(|missed| hourly(overlap, missed));
    let mut all: Vec<Definition> = [Overlap::Skip, Overlap::Queue].into_iter().flat_map(of).collect();
    let jittered = all.iter().cloned().map(|job| Definition { jitter: Duration::from_secs(1_200), ..job });
    all.extend(jittered.collect::<Vec<_>>());
    all
}

#[test]
fn each_instant_is_begun_or_given_up_once_whatever_the_clock_does() {
    let given = std::env::var("LARDER_SEED").ok().map(|seed| seed.parse().expect("LARDER_SEED is a number"));
    let first = given.unwrap_or_else(|| fastrand::u64(..1 << 32));
    let (mut begun, mut given_up, mut late) = (0, 0, 0);
    for seed in first..first + if given.is_some() { 1 } else { 4 } {
        for job in policies() {
            let (ledger, done_ms) = world(seed, &job, false);
            check(&job, &ledger, done_ms).unwrap_or_else(|wrong| panic!("LARDER_SEED={seed}: {job:?}: {wrong}"));
            if job.missed == Missed::All && job.overlap == Overlap::Queue {
                let lost: usize = ledger.given_up.iter().map(|(_, _, count)| count).sum();
                assert_eq!(lost, 0, "LARDER_SEED={seed}: all are made up for, and it was never away for so long");
            }
            begun += ledger.begun.len();
            given_up += ledger.given_up.len();
            late += ledger.late;
        }
    }
    assert!(begun > 500 && given_up > 50 && late > 20, "{begun} begun, {given_up} given up, {late} late");
}

#[test]
fn the_check_above_finds_what_is_begun_twice() {
    let job = hourly(Overlap::Queue, Missed::All);
    let caught = (0..20).filter(|seed| {
        let (ledger, done_ms) = world(*seed, &job, true);
        check(&job, &ledger, done_ms).is_err()
    });
    assert!(caught.count() > 10);
}
