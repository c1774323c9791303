//! Who has tried wrong secrets is held up: by where they come from, and by whom they say to be.
//!
//! ```text
//!   attempt -> is the address held up? is the id? -- yes -> refused at once, unseen, and told when to come again
//!                                                 -- no  -> looked at -> wrong -> both have one failure more
//! ```
//!
//! A few failures cost nothing, since people mistype; each further one doubles how long the next attempt has to wait, up to a bound. An
//! attempt that comes too early is not made to wait but refused, so that it holds no connection and no thread, and a right secret is
//! refused as a wrong one is: else the refusal would tell which it was. Failures are forgotten one after the other as time passes. A
//! success forgets nothing: who has one good account would clear themselves with it between guesses at another.
//!
//! An id is held up whether there is such a one or not, and only shortly: whoever knows somebody's name can have it held up. All it is
//! there for is that many addresses together do not guess at one password faster than one address could.
//!
//! What is kept has a fixed size: of addresses and ids that share a place in the table, those with the fewest failures are forgotten. The
//! places are drawn anew at each start, so nobody can choose their neighbours. Texts that were sent are not kept.

use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::time::Duration;

use parking_lot::Mutex;

/// Places in the table, and how many share one.
const PLACES: usize = 1_024;
const NEIGHBOURS: usize = 8;

/// How failures of one kind are answered.
#[derive(Clone, Copy, Debug)]
struct Patience {
    /// Failures that cost nothing.
    free: u32,
    /// How long the first one after them holds up, in milliseconds.
    first_ms: u64,
    /// How long one holds up at most.
    most_ms: u64,
    /// How long it takes until one failure is forgotten.
    forgotten_ms: u64,
}

const ADDRESS: Patience = Patience { free: 10, first_ms: 250, most_ms: 30_000, forgotten_ms: 30_000 };
const ID: Patience = Patience { free: 5, first_ms: 250, most_ms: 2_000, forgotten_ms: 5_000 };

/// More failures than this count as this many, so that what somebody did for a day is not held against their address for weeks.
const FAILURES_MAX: u32 = 20;

/// See the head of this file.
pub struct Backoff {
    places: Mutex<Box<[[Failures; NEIGHBOURS]]>>,
    seed: RandomState,
}

/// What is kept of an address or an id.
#[derive(Clone, Copy, Debug, Default)]
struct Failures {
    /// Which it is: a hash with the seed of this table. Two that share it share their failures, which is one case in 2^64.
    of: u64,
    count: u32,
    /// When one of them was counted or forgotten last.
    at_ms: u64,
    /// Until when the next attempt is refused.
    until_ms: u64,
}

/// How long somebody has to wait until another attempt is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeldUp(pub Duration);

impl HeldUp {
    /// In whole seconds, as `Retry-After` has it; never none.
    pub fn seconds(self) -> u64 {
        self.0.as_millis().div_ceil(1_000).max(1) as u64
    }
}

impl Failures {
    /// Forgets what time has passed over.
    fn as_of(mut self, now: u64, patience: Patience) -> Self {
        let forgotten = now.saturating_sub(self.at_ms) / patience.forgotten_ms;
        self.count = self.count.saturating_sub(u32::try_from(forgotten).unwrap_or(u32::MAX));
        self.at_ms += forgotten * patience.forgotten_ms;
        self
    }

    fn one_more(self, now: u64, patience: Patience) -> Self {
        let count = (self.count + 1).min(FAILURES_MAX);
        let hold = match count.checked_sub(patience.free + 1) {
            Some(over) => (patience.first_ms << over.min(16)).min(patience.most_ms),
            None => 0,
        };
        Failures { count, at_ms: if self.count == 0 { now } else { self.at_ms }, until_ms: self.until_ms.max(now + hold), ..self }
    }
}

impl Default for Backoff {
    fn default() -> Self {
        Backoff { places: Mutex::new(vec![[Failures::default(); NEIGHBOURS]; PLACES].into()), seed: RandomState::new() }
    }
}

impl std::fmt::Debug for Backoff {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Backoff").finish_non_exhaustive()
    }
}

impl Backoff {
    /// Whether an attempt is to be looked at. Without an address (somebody of this machine) the id alone counts.
    ///
    /// # Errors
    /// When it comes too early.
    pub fn check(&self, address: Option<IpAddr>, id: &[u8], now_ms: u64) -> Result<(), HeldUp> {
        let places = self.places.lock();
        let until = self.names(address, id).map(|(of, _)| {
            let known = places[place(of)].iter().find(|known| known.of == of);
            known.map_or(0, |known| known.until_ms)
        });
        let left = until.max().unwrap_or(0).saturating_sub(now_ms);
        if left == 0 { Ok(()) } else { Err(HeldUp(Duration::from_millis(left))) }
    }

    /// An attempt was looked at, and was wrong.
    pub fn failed(&self, address: Option<IpAddr>, id: &[u8], now_ms: u64) {
        let mut places = self.places.lock();
        for (of, patience) in self.names(address, id) {
            let neighbours = &mut places[place(of)];
            let at = neighbours.iter().position(|known| known.of == of).unwrap_or_else(|| {
                // Who failed least, and of those whose last failure is the longest ago.
                let least = (0..NEIGHBOURS).min_by_key(|at| (neighbours[*at].as_of(now_ms, patience).count, neighbours[*at].at_ms));
                let least = least.unwrap_or(0);
                neighbours[least] = Failures { of, ..Failures::default() };
                least
            });
            neighbours[at] = neighbours[at].as_of(now_ms, patience).one_more(now_ms, patience);
        }
    }

    /// What failures are kept by, and how each is answered.
    fn names(&self, address: Option<IpAddr>, id: &[u8]) -> impl Iterator<Item = (u64, Patience)> {
        let address = address.map(|address| (self.seed.hash_one(network(address)), ADDRESS));
        // The kind goes into the hash, so that an id that reads as an address is another's affair.
        let id = (self.seed.hash_one((true, id)), ID);
        // 0 is a place that nobody has.
        address.into_iter().chain([id]).map(|(of, patience)| (of.max(1), patience))
    }
}

fn place(of: u64) -> usize {
    (of % PLACES as u64) as usize
}

/// What somebody has who has an address: of version 6, all that begin as it does, since a customer is given 2^64 of them.
fn network(address: IpAddr) -> [u8; 8] {
    match address.to_canonical() {
        IpAddr::V4(address) => {
            let [a, b, c, d] = address.octets();
            // No network of version 6 that is in use begins with zeros.
            [0, 0, 0, 0, a, b, c, d]
        }
        IpAddr::V6(address) => {
            let [a, b, c, d, e, f, g, h, ..] = address.octets();
            [a, b, c, d, e, f, g, h]
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> Option<IpAddr> {
        Some(text.parse().expect("an address"))
    }

    #[test]
    fn a_few_failures_cost_nothing_and_each_further_one_twice_as_much() {
        let (backoff, here) = (Backoff::default(), address("192.0.2.1"));
        let mut now = 1_000_000;
        let mut held = Vec::new();
        for attempt in 0..20 {
            // Another id each time: only the address is the same.
            let id = [attempt];
            held.push(backoff.check(here, &id, now).err().map_or(0, |HeldUp(left)| left.as_millis()));
            if let Some(HeldUp(left)) = backoff.check(here, &id, now).err() {
                now += left.as_millis() as u64;
            }
            assert_eq!(backoff.check(here, &id, now), Ok(()), "what has waited is looked at");
            backoff.failed(here, &id, now);
        }
        assert_eq!(held[..11], [0; 11], "{held:?}");
        assert_eq!(held[11..17], [250, 500, 1_000, 2_000, 4_000, 8_000], "{held:?}");
        assert!(held.iter().all(|held| *held <= 30_000), "{held:?}");
        assert_eq!(backoff.check(address("192.0.2.2"), b"x", now), Ok(()), "others are not held up");
        // An hour without a failure makes good for all of them.
        now += 3_600_000;
        for id in 0..10u8 {
            assert_eq!(backoff.check(here, &[id], now), Ok(()));
            backoff.failed(here, &[id], now);
        }
        assert_eq!(backoff.check(here, b"y", now), Ok(()));
    }

    #[test]
    fn an_id_is_held_up_wherever_it_is_tried_from_and_only_shortly() {
        let backoff = Backoff::default();
        let now = 1_000_000;
        let from = |at: u8| address(&format!("192.0.2.{at}"));
        for at in 0..40 {
            backoff.failed(from(at), b"ada", now);
        }
        let held = backoff.check(from(99), b"ada", now).expect_err("it is held up");
        assert!(held.0 <= Duration::from_secs(2) && held.seconds() <= 2, "{held:?}");
        assert_eq!(backoff.check(None, b"ada", now), Err(held), "by who is on this machine, too");
        assert_eq!(backoff.check(from(99), b"bob", now), Ok(()));
        assert_eq!(backoff.check(from(99), b"ada", now + 2_000), Ok(()));
        assert_eq!(HeldUp(Duration::from_millis(1)).seconds(), 1);
    }

    #[test]
    fn a_network_of_version_6_is_one_address_and_a_mapped_one_is_that_of_version_4() {
        let backoff = Backoff::default();
        for host in 0..20 {
            backoff.failed(address(&format!("2001:db8:0:1::{host}")), &[host], 1_000);
        }
        assert!(backoff.check(address("2001:db8:0:1:ffff::1"), b"x", 1_000).is_err());
        assert_eq!(backoff.check(address("2001:db8:0:2::1"), b"x", 1_000), Ok(()));
        for id in 0..20 {
            backoff.failed(address("::ffff:192.0.2.1"), &[id], 1_000);
        }
        assert!(backoff.check(address("192.0.2.1"), b"x", 1_000).is_err());
    }

    #[test]
    fn who_comes_from_everywhere_does_not_make_it_forget_who_failed_most() {
        let backoff = Backoff::default();
        for id in 0..20u32 {
            backoff.failed(address("192.0.2.1"), &id.to_le_bytes(), 1_000);
        }
        for from in 0..50_000u32 {
            backoff.failed(Some(IpAddr::from((0x0a00_0000 + from).to_be_bytes())), &from.to_be_bytes(), 1_001);
        }
        assert!(backoff.check(address("192.0.2.1"), b"x", 1_001).is_err());
    }
}
