//! A real trace, replayed on the trace's own clock: the history has exactly the counts of a plain simulation, minute by minute, and the
//! report over it says the same. `--nocapture` prints the report.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use larder::analytics::{Recorder, Rollup};
use larder::{Clock, Counts, Item, Larder, Names, Policy};
use larder_server::history::{History, Store};
use larder_server::report::{self, Asked, Format};
use larder_testkit::trace::{self, Access};
use larder_testkit::wait;
use parking_lot::Mutex;

/// The time to live of all entries, in seconds: some expire between two reads of the two hours that the trace lasts.
const TTL_SECONDS: u64 = 600;

/// Each entry has one of so many tags.
const TAGS: u64 = 16;

/// Of so many requests one is followed by the invalidation of a tag.
const INVALIDATE_EVERY: usize = 4_000;

const MINUTE_MS: u64 = 60_000;

/// What a cache of one plain map would count. Nothing is evicted; an invalidation is followed by a sweep, which takes out what it made
/// stale, and what has expired until then.
#[derive(Default)]
struct Plain {
    /// When the entry of an id expires.
    entries: HashMap<u64, u64>,
    counts: Counts,
}

impl Plain {
    fn read(&mut self, access: &Access, now_ms: u64) {
        match self.entries.get(&access.id) {
            Some(expires) if now_ms >= *expires => {
                self.counts.misses_expired += 1;
                self.counts.expired += 1;
            }
            Some(_) => {
                self.counts.hits_memory += 1;
                return;
            }
            None => self.counts.misses_absent += 1,
        }
        self.counts.loads_ok += 1;
        self.entries.insert(access.id, now_ms + TTL_SECONDS * 1_000);
    }

    fn invalidate(&mut self, tag: u64, now_ms: u64) {
        let Plain { entries, counts } = self;
        entries.retain(|id, expires| {
            let (expired, stale) = (now_ms >= *expires, id % TAGS == tag);
            counts.expired += u64::from(expired);
            counts.invalidated += u64::from(stale && !expired);
            !expired && !stale
        });
    }
}

/// The counts that the simulation knows of, so that they can be compared.
fn known(counts: &Counts) -> [u64; 6] {
    [counts.hits_memory, counts.misses_absent, counts.misses_expired, counts.loads_ok, counts.expired, counts.invalidated]
}

/// Keeps the minutes in a history, and asks for the report of them.
fn report_says(counts: &Counts, minutes: &[Rollup]) {
    let mut store = Store::in_memory().expect("a history in memory");
    minutes.iter().for_each(|minute| store.add(minute).expect("a minute is kept"));
    let history = History::of(&Arc::new(Mutex::new(store))).expect("it can be asked");
    let at = |ms: u64| Timestamp::from_millisecond(ms as i64).expect("a moment").to_string();
    let (first, last) = (&minutes[0], &minutes[minutes.len() - 1]);
    let asked = Asked { from: Some(at(first.start_ms)), to: Some(at(last.end_ms)), ..Asked::default() };
    let now = Timestamp::from_millisecond(last.end_ms as i64).expect("a moment").to_zoned_datetime(TimeZone::UTC);
    let report = report::of_history(&history, &asked, &now, None).expect("a report");
    println!("{}", report.render(Format::Text).expect("it is written"));
    let figure = |name: &str| report.figures.iter().find(|figure| figure.name == name).and_then(|figure| figure.now);
    assert_eq!(figure("requests"), Some(counts.requests() as f64));
    assert_eq!(figure("hit_rate"), Some(counts.hits() as f64 / counts.requests() as f64));
    assert_eq!(figure("loads"), Some(counts.loads_ok as f64));
    let misses: BTreeMap<&str, u64> = report.misses.iter().map(|part| (&*part.name, part.now)).collect();
    let expected = [("not there", counts.misses_absent), ("expired", counts.misses_expired)];
    assert_eq!(misses, BTreeMap::from(expected));
    let removals: BTreeMap<&str, u64> = report.removals.iter().map(|part| (&*part.name, part.now)).collect();
    assert_eq!((removals["expired"], removals["invalidated"]), (counts.expired, counts.invalidated));
    assert_eq!(report.series.iter().map(|point| point.requests).sum::<u64>(), counts.requests());
    assert_eq!(report.period.covered, 1.0);
}

#[tokio::test(start_paused = true)]
async fn a_replayed_trace_counts_exactly_what_a_plain_simulation_counts() {
    let Some(path) = trace::find("cloudPhysicsIO.oracleGeneral.bin") else { return };
    let accesses = trace::read_oracle_general(&path).expect("a trace");
    assert!(accesses.len() > 100_000, "the trace has {} requests", accesses.len());
    let clock = Clock::manual();
    let policy = Policy::default().ttl(Duration::from_secs(TTL_SECONDS));
    // Nothing is evicted, and nothing swept but after an invalidation.
    let builder = Larder::builder().memory(1 << 30).index_bytes(64 << 20).clock(clock.clone()).sweep_every(Duration::from_secs(1 << 30));
    let larder = builder.namespace("blocks", policy).build().await.expect("a cache");
    let blocks = larder.namespace::<u64>("blocks").expect("a namespace");

    // The trace begins with a full minute, as a history's minutes do.
    clock.advance(Duration::from_millis(MINUTE_MS - clock.now_ms() % MINUTE_MS));
    let start_ms = clock.now_ms();
    let mut recorder = Recorder::new(&larder, start_ms);
    let (mut plain, mut before, mut minutes) = (Plain::default(), Counts::default(), Vec::<Rollup>::new());
    let (began, mut minute) = (accesses[0].at_seconds, 0);
    let mut cut = |plain: &Plain, minute: u64, recorder: &mut Recorder| {
        let rollup = recorder.cut(start_ms + (minute + 1) * MINUTE_MS);
        let counted = rollup.namespaces.get("blocks").map(|window| known(&window.counts)).unwrap_or_default();
        assert_eq!(counted, known(&plain.counts.since(&before)), "minute {minute}");
        before = plain.counts.clone();
        minutes.push(rollup);
    };
    for (n, access) in accesses.iter().enumerate() {
        let now_ms = (access.at_seconds - began) * 1_000;
        while minute < now_ms / MINUTE_MS {
            cut(&plain, minute, &mut recorder);
            minute += 1;
        }
        clock.advance(Duration::from_millis(start_ms + now_ms - clock.now_ms()));
        let id = access.id;
        let load = move || async move { Ok::<_, std::io::Error>(Item::new(id).tag(format!("group:{}", id % TAGS))) };
        let value = blocks.get_or_load(&id.to_string(), load).await.expect("it loads");
        assert_eq!(*value, id);
        plain.read(access, now_ms);
        if n % INVALIDATE_EVERY == INVALIDATE_EVERY - 1 {
            let tag = n as u64 / INVALIDATE_EVERY as u64 % TAGS;
            larder.invalidate(Names::new().tag(format!("group:{tag}"))).await.expect("it is invalidated");
            plain.invalidate(tag, now_ms);
            // On the runtime's clock, which stands still: the sweeper, which the invalidation woke, gets to its end.
            wait::pass(Duration::from_secs(60)).await;
        }
    }
    cut(&plain, minute, &mut recorder);
    report_says(&plain.counts, &minutes);
    assert!(known(&plain.counts).iter().all(|n| *n > 100), "the trace tries every outcome: {:?}", plain.counts);
    larder.close().await.expect("it closes");
}
