//! A source that fails in every way that one can, followed: order, nothing lost, nothing acknowledged too early.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::atomic::AtomicUsize;

use parking_lot::Mutex;
use serde_json::json;

use super::*;
use crate::events::Rule;
use crate::log::Log;

/// What the source has, and what was seen of it.
#[derive(Default)]
struct World {
    /// Not delivered since it was opened.
    waiting: VecDeque<usize>,
    /// Delivered, and not acknowledged.
    pending: BTreeSet<usize>,
    /// In the order in which they were handled.
    handled: Vec<usize>,
    acknowledged: BTreeSet<usize>,
    faults: Vec<String>,
    gaps: u64,
    /// Delivered and not acknowledged, at most.
    most_pending: usize,
}

/// What a source does wrong for a canary, where it has its own.
#[derive(Clone, Copy, PartialEq)]
enum Wrong {
    Nothing,
    /// Says that every event is a partition of its own.
    Order,
    /// Forgets what it has delivered when it is opened again.
    Forgetful,
}

struct Fake {
    world: Arc<Mutex<World>>,
    rng: fastrand::Rng,
    wrong: Wrong,
    gap: bool,
    open: bool,
}

const EVENTS: usize = 400;
const PARTITIONS: usize = 7;

/// Time goes by; the clock of these tests is driven by hand.
async fn pass(time: Duration) {
    drop(tokio::time::timeout(time, std::future::pending::<()>()).await);
}

/// One in twenty is no event.
fn is_broken(number: usize) -> bool {
    number % 20 == 13
}

fn text(number: usize) -> Vec<u8> {
    if is_broken(number) {
        return format!("{{\"number\": {number}").into_bytes();
    }
    let event = Event::new("t", json!({ "number": number })).from("s").about((number % PARTITIONS).to_string());
    event.with_id(number.to_string()).to_json().to_string().into_bytes()
}

impl Fake {
    fn fails(&mut self, one_in: u32) -> Result<()> {
        if self.rng.u32(0..one_in) == 0 { Err(Error::of_tier("a fault of the test")) } else { Ok(()) }
    }
}

impl Source for Fake {
    type Token = usize;

    fn name(&self) -> String {
        "fake".to_owned()
    }

    async fn open(&mut self) -> Result<()> {
        self.open = false;
        self.fails(3)?;
        let mut world = self.world.lock();
        let pending = std::mem::take(&mut world.pending);
        if self.wrong != Wrong::Forgetful {
            // In order, and before what is new.
            pending.into_iter().rev().for_each(|number| world.waiting.push_front(number));
        }
        self.open = true;
        Ok(())
    }

    async fn fetch(&mut self, max: usize) -> Result<Fetched<usize>> {
        assert!(self.open && max > 0);
        self.fails(10)?;
        if self.gap || self.rng.u32(0..40) == 0 {
            self.gap = true;
            return Ok(Fetched::Gap("a gap of the test".to_owned()));
        }
        let mut world = self.world.lock();
        let count = self.rng.usize(0..=max.min(30)).min(world.waiting.len());
        let some: Vec<usize> = world.waiting.drain(..count).collect();
        world.pending.extend(&some);
        world.most_pending = world.most_pending.max(world.pending.len());
        // An answer that is lost on its way.
        if self.rng.u32(0..10) == 0 {
            return Err(Error::of_tier("a fault of the test"));
        }
        let partition = |number: usize| (self.wrong == Wrong::Order).then(|| number.to_string());
        Ok(Fetched::Deliveries(
            some.into_iter().map(|number| Delivery { token: number, text: text(number), partition: partition(number) }).collect(),
        ))
    }

    async fn resume(&mut self) -> Result<()> {
        self.fails(3)?;
        self.gap = false;
        self.world.lock().gaps += 1;
        Ok(())
    }

    async fn wait(&mut self) -> Result<()> {
        pass(Duration::from_millis(self.rng.u64(1..20))).await;
        self.fails(10)
    }

    async fn acknowledge(&mut self, done: &[usize]) -> Result<()> {
        let carried_out = self.rng.u32(0..4) > 0;
        if carried_out {
            let mut world = self.world.lock();
            for number in done {
                if !is_broken(*number) && !world.handled.contains(number) {
                    world.faults.push(format!("{number} was acknowledged before it took effect"));
                }
                world.pending.remove(number);
                world.waiting.retain(|waiting| waiting != number);
                world.acknowledged.insert(*number);
            }
        }
        // Also one whose answer is lost.
        self.fails(10)?;
        if carried_out { Ok(()) } else { Err(Error::of_tier("a fault of the test")) }
    }
}

/// Follows a source to its end, with a log that fails at times. Returns what was wrong.
async fn play(seed: u64, wrong: Wrong) -> Vec<String> {
    let larder = Larder::builder().rule(Rule::new("t", ["tag:{number}"]).unwrap()).build().await.unwrap();
    let world = Arc::new(Mutex::new(World { waiting: (0..EVENTS).collect(), ..World::default() }));
    let handling = Arc::new(AtomicUsize::new(0));
    let (seen, at_once) = (world.clone(), handling.clone());
    let most_at_once = Arc::new(AtomicUsize::new(0));
    let most = most_at_once.clone();
    larder.on("t", move |event: Arc<Event>| {
        let (seen, at_once, most) = (seen.clone(), at_once.clone(), most.clone());
        async move {
            most.fetch_max(at_once.fetch_add(1, Ordering::Relaxed) + 1, Ordering::Relaxed);
            let number = event.data()["number"].as_u64().unwrap();
            pass(Duration::from_millis(fastrand::Rng::with_seed(seed ^ number).u64(0..5))).await;
            at_once.fetch_sub(1, Ordering::Relaxed);
            seen.lock().handled.push(number as usize);
            Ok::<_, std::io::Error>(())
        }
    });
    let fake = Fake { world: world.clone(), rng: fastrand::Rng::with_seed(seed), wrong, gap: false, open: false };
    let options = FollowOptions::default().queue(50).parallel(4);
    let following = larder.follow_with(fake, options).unwrap();
    let mut rng = fastrand::Rng::with_seed(seed ^ 1);
    let (mut quiet, mut acknowledged) = (0, 0);
    while world.lock().acknowledged.len() < EVENTS && quiet < 20_000 {
        #[cfg_attr(not(feature = "redis"), allow(irrefutable_let_patterns, reason = "there is no other kind then"))]
        let Log::Local(log) = &larder.0.log else { unreachable!("this cache has no other") };
        log.fail_for_a_test((rng.u32(0..4) == 0).then(|| "a fault of the test".to_owned()));
        pass(Duration::from_millis(20)).await;
        let now = world.lock().acknowledged.len();
        quiet = if now == acknowledged { quiet + 1 } else { 0 };
        acknowledged = now;
    }
    following.stop().await;
    let stats = following.stats();
    let world = world.lock();
    let mut faults = world.faults.clone();
    let mut check = |holds: bool, what: String| faults.extend((!holds).then_some(what));
    let sound = |number: &usize| !is_broken(*number);
    let lost: Vec<usize> = (0..EVENTS).filter(sound).filter(|number| !world.handled.contains(number)).collect();
    check(lost.is_empty(), format!("never took effect: {lost:?}"));
    let mut first = BTreeMap::<usize, usize>::new();
    for number in &world.handled {
        let last = first.entry(number % PARTITIONS).or_insert(*number);
        check(number >= last, format!("{number} came after {last}, of the same partition"));
        *last = *number;
    }
    check(most_at_once.load(Ordering::Relaxed) <= 4, "too many side by side".to_owned());
    check(world.most_pending <= 50, format!("{} were under way", world.most_pending));
    let letters: BTreeSet<String> =
        larder.dead_letters().into_iter().filter_map(|letter| letter.event.as_str().map(str::to_owned)).collect();
    let broken = (0..EVENTS).filter(|number| is_broken(*number)).map(|number| String::from_utf8(text(number)).unwrap()).collect();
    check(wrong == Wrong::Forgetful || letters == broken, format!("dead letters are {letters:?}"));
    check(world.gaps <= stats.gaps, format!("{} gaps were made good, and {} were there", stats.gaps, world.gaps));
    check(stats.ended && !stats.connected && stats.retries > 0, format!("{stats:?}"));
    faults
}

fn seed() -> u64 {
    let seed = std::env::var("LARDER_SEED").map_or_else(|_| fastrand::u64(..), |seed| seed.parse().expect("LARDER_SEED is a number"));
    println!("LARDER_SEED={seed}");
    seed
}

#[tokio::test(start_paused = true)]
async fn whatever_fails_each_event_takes_effect_in_its_order() {
    let seed = seed();
    for round in 0..20 {
        let faults = play(seed.wrapping_add(round), Wrong::Nothing).await;
        assert!(faults.is_empty(), "LARDER_SEED={seed}, round {round}: {faults:?}");
    }
}

/// As many rounds as without a planted fault: in a single one, chance may keep to the rule that nobody keeps.
async fn is_noticed(wrong: Wrong, as_what: &str) -> bool {
    let seed = seed();
    for round in 0..20 {
        if play(seed.wrapping_add(round), wrong).await.iter().any(|fault| fault.contains(as_what)) {
            return true;
        }
    }
    false
}

#[tokio::test(start_paused = true)]
async fn a_source_that_tells_partitions_wrongly_is_noticed() {
    assert!(is_noticed(Wrong::Order, "came after").await);
}

#[tokio::test(start_paused = true)]
async fn a_source_that_forgets_is_noticed() {
    assert!(is_noticed(Wrong::Forgetful, "never took effect").await);
}

#[tokio::test(start_paused = true)]
async fn a_refused_event_can_be_replayed_once_its_rule_is_mended() {
    let larder = Larder::builder().rule(Rule::new("t", ["tag:{number}"]).unwrap()).build().await.unwrap();
    let world = Arc::new(Mutex::new(World { waiting: VecDeque::from([13]), ..World::default() }));
    let fake = Fake { world: world.clone(), rng: fastrand::Rng::with_seed(1), wrong: Wrong::Nothing, gap: false, open: false };
    let following = larder.follow(fake);
    while following.stats().acknowledged == 0 {
        pass(Duration::from_millis(10)).await;
    }
    let letter = larder.dead_letters().remove(0);
    assert_eq!(letter.event, json!("{\"number\": 13"));
    assert_eq!(larder.replay_dead_letter(letter.id).await.unwrap_err().kind(), ErrorKind::InvalidEvent);
    assert_eq!(larder.dead_letters().len(), 1, "it stays");
    larder.keep_dead_letter(Event::new("t", json!({ "number": 1 })).to_json(), "a rule that has been mended since").await;
    let letter = larder.dead_letters().remove(1);
    larder.replay_dead_letter(letter.id).await.unwrap();
    assert_eq!(larder.dead_letters().len(), 1);
    larder.close().await.unwrap();
    assert!(following.stats().ended, "it ends with the cache");
}

#[tokio::test]
async fn options_that_make_no_sense_are_refused() {
    let larder = Larder::builder().build().await.unwrap();
    for options in [FollowOptions::default().queue(0), FollowOptions::default().covers(Names::new()), FollowOptions::default().parallel(0)]
    {
        let fake = Fake { world: Arc::default(), rng: fastrand::Rng::with_seed(1), wrong: Wrong::Nothing, gap: false, open: false };
        assert_eq!(larder.follow_with(fake, options).err().unwrap().kind(), ErrorKind::InvalidConfig);
    }
    let bad = FollowOptions::default().covers(Names::new().tag(""));
    let fake = Fake { world: Arc::default(), rng: fastrand::Rng::with_seed(1), wrong: Wrong::Nothing, gap: false, open: false };
    assert_eq!(larder.follow_with(fake, bad).err().unwrap().kind(), ErrorKind::InvalidTag);
}
