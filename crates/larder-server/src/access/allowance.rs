//! How much one principal may ask for, over all its connections and both doors: requests in a second, connections at once, and, by its
//! roles, how much may come at once. All of it is off unless it is set, and then costs nothing.
//!
//! Whoever has too much is refused, and not made to wait: what waits holds memory, and a program that is told can do something about it.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};

use parking_lot::Mutex;

/// Nanoseconds of a millisecond.
const MS: u64 = 1_000_000;

/// Nanoseconds of a second.
const SECOND: u64 = 1_000 * MS;

/// From so many who were here on, those who are not any more are forgotten when one more comes.
const SWEPT_FROM: usize = 1_024;

/// What principals may ask for over all their connections. Default: whatever they like.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Allowances {
    /// What anybody may ask for of whom nothing else is said.
    pub anybody: OfPrincipal,
    /// What is said of somebody.
    pub principals: HashMap<String, OfPrincipal>,
    /// What those may send who have a role. Who has several is held to the strictest of each.
    pub roles: HashMap<String, OfRole>,
}

/// What one principal may ask for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OfPrincipal {
    /// Requests in a second; as many may come at once. Default 0: any number.
    pub requests_per_second: u32,
    /// Connections at once, where over HTTP each request under way is one. Default 0: any number.
    pub connections_max: u32,
}

/// What those may send who have a role.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OfRole {
    /// Requests before the first of them is answered, where they are pipelined. Default 0: any number.
    pub pipeline_max: u32,
    /// The largest request, or body of one, in bytes. Default 0: as large as anybody's.
    pub request_bytes_max: usize,
}

impl OfRole {
    /// What somebody may send who may send this and that: the strictest, as a grant that denies wins.
    fn and(self, other: OfRole) -> OfRole {
        // Zero is no limit, and so the largest of all.
        let least = |one: usize, other: usize| one.wrapping_sub(1).min(other.wrapping_sub(1)).wrapping_add(1);
        OfRole {
            pipeline_max: self.pipeline_max.wrapping_sub(1).min(other.pipeline_max.wrapping_sub(1)).wrapping_add(1),
            request_bytes_max: least(self.request_bytes_max, other.request_bytes_max),
        }
    }
}

/// What somebody had too much of, and how much they may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TooMuch {
    /// Connections, or requests under way.
    Connections(u32),
    /// Requests in a second.
    Requests(u32),
}

impl TooMuch {
    /// How much they may have.
    pub fn limit(self) -> u32 {
        match self {
            TooMuch::Connections(most) | TooMuch::Requests(most) => most,
        }
    }
}

impl fmt::Display for TooMuch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TooMuch::Connections(most) => write!(f, "max number of connections of this user reached ({most})"),
            TooMuch::Requests(most) => write!(f, "max number of requests of this user reached ({most} in a second); come again"),
        }
    }
}

/// What all principals have used.
#[derive(Debug, Default)]
pub struct Usages {
    settings: Allowances,
    /// By name. There are as many as there are principals who have been here lately, and those are bounded.
    by_name: Mutex<HashMap<String, Arc<Usage>>>,
}

/// What one principal has used.
#[derive(Debug)]
struct Usage {
    most: OfPrincipal,
    connections: AtomicU32,
    /// When all that was asked for would have been answered at the rate that is allowed, in nanoseconds since 1970.
    paid_until: AtomicU64,
}

impl Usage {
    fn of(most: OfPrincipal) -> Self {
        Usage { most, connections: 0.into(), paid_until: 0.into() }
    }

    /// Takes the right to one request, if there is one: as many at once as are allowed in a second.
    fn take(&self, now: u64) -> Result<(), TooMuch> {
        let most = self.most.requests_per_second;
        let Some(each) = SECOND.checked_div(most.into()) else { return Ok(()) };
        let taken = self.paid_until.fetch_update(Relaxed, Relaxed, |until| {
            let until = until.max(now) + each;
            (until <= now + SECOND).then_some(until)
        });
        taken.map(|_| ()).map_err(|_| TooMuch::Requests(most))
    }

    fn is_idle(&self, now: u64) -> bool {
        self.connections.load(Relaxed) == 0 && self.paid_until.load(Relaxed) <= now
    }
}

/// A connection that counts as one of its principal's, for as long as this is kept.
#[derive(Debug)]
pub struct Connected(Arc<Usage>);

impl Connected {
    /// Counts a request of its principal.
    ///
    /// # Errors
    /// When it is one too many.
    pub fn take(&self, now_ms: u64) -> Result<(), TooMuch> {
        self.0.take(now_ms.saturating_mul(MS))
    }
}

impl Drop for Connected {
    fn drop(&mut self) {
        self.0.connections.fetch_sub(1, Relaxed);
    }
}

impl Usages {
    /// With these limits.
    pub fn new(settings: Allowances) -> Self {
        Usages { settings, by_name: Mutex::default() }
    }

    fn is_off(&self) -> bool {
        self.settings == Allowances::default()
    }

    /// Counts a connection as a principal's; none where nothing is limited.
    ///
    /// # Errors
    /// When the principal has too many.
    pub fn connect(&self, name: &str, now_ms: u64) -> Result<Option<Connected>, TooMuch> {
        if self.is_off() {
            return Ok(None);
        }
        // Under the lock, so that a usage is not swept away between being found and being counted.
        let mut by_name = self.by_name.lock();
        if by_name.len() >= SWEPT_FROM && !by_name.contains_key(name) {
            sweep(&mut by_name, now_ms);
        }
        let most = || *self.settings.principals.get(name).unwrap_or(&self.settings.anybody);
        let usage = by_name.entry(name.to_owned()).or_insert_with(|| Arc::new(Usage::of(most())));
        let most = match usage.most.connections_max {
            0 => u32::MAX,
            most => most,
        };
        let counted = usage.connections.fetch_update(Relaxed, Relaxed, |open| (open < most).then_some(open + 1));
        match counted {
            Ok(_) => Ok(Some(Connected(usage.clone()))),
            Err(_) => Err(TooMuch::Connections(most)),
        }
    }

    /// What somebody may send by their roles.
    pub fn of_roles(&self, roles: &[String]) -> OfRole {
        let said = roles.iter().filter_map(|role| self.settings.roles.get(role));
        said.fold(OfRole::default(), |all, role| all.and(*role))
    }

    /// Forgets who is not here, and has nothing to make good for.
    pub fn sweep(&self, now_ms: u64) {
        sweep(&mut self.by_name.lock(), now_ms);
    }
}

fn sweep(by_name: &mut HashMap<String, Arc<Usage>>, now_ms: u64) {
    let now = now_ms.saturating_mul(MS);
    by_name.retain(|_, usage| !usage.is_idle(now));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn anybody(requests_per_second: u32, connections_max: u32) -> Allowances {
        Allowances { anybody: OfPrincipal { requests_per_second, connections_max }, ..Allowances::default() }
    }

    #[test]
    fn as_many_are_taken_at_once_as_in_a_second_and_then_at_their_rate() {
        let usage = Usage::of(OfPrincipal { requests_per_second: 4, connections_max: 0 });
        let now = 1_000_000 * SECOND;
        let takes = |now| usage.take(now).is_ok();
        assert_eq!((0..10).filter(|_| takes(now)).count(), 4);
        assert!(!takes(now + SECOND / 8) && takes(now + SECOND / 4) && !takes(now + SECOND / 4));
        assert_eq!((0..10).filter(|_| takes(now + 60 * SECOND)).count(), 4, "what was not taken is not saved up");
    }

    #[test]
    fn connections_are_counted_for_as_long_as_they_are_open_and_a_debt_stays() {
        let usages = Usages::new(anybody(1, 2));
        let connect = |name| usages.connect(name, 5_000).map(|one| one.expect("it is counted"));
        let (one, other) = (connect("ada").unwrap(), connect("ada").unwrap());
        assert_eq!(connect("ada").unwrap_err(), TooMuch::Connections(2));
        assert!(connect("bob").is_ok());
        assert_eq!((one.take(5_000), one.take(5_000)), (Ok(()), Err(TooMuch::Requests(1))));
        drop((one, other));
        usages.sweep(5_000);
        // Who comes again at once is who they were.
        let again = connect("ada").unwrap();
        assert_eq!((again.take(5_000), again.take(6_000)), (Err(TooMuch::Requests(1)), Ok(())));
        drop(again);
        usages.sweep(60_000);
        assert!(usages.by_name.lock().is_empty());
        assert!(Usages::default().connect("ada", 0).unwrap().is_none(), "nothing is counted where nothing is limited");
    }

    #[test]
    fn what_is_said_of_somebody_counts_for_them_alone() {
        let busy = OfPrincipal { requests_per_second: 0, connections_max: 3 };
        let usages = Usages::new(Allowances { principals: [("ada".to_owned(), busy)].into(), ..anybody(1, 1) });
        let all: Vec<_> = (0..4).map(|_| usages.connect("ada", 0).ok().flatten()).collect();
        assert_eq!(all.iter().flatten().count(), 3);
        assert!(all.iter().flatten().all(|one| one.take(0).is_ok() && one.take(0).is_ok()));
        let _one = usages.connect("bob", 0).unwrap();
        assert_eq!(usages.connect("bob", 0).unwrap_err(), TooMuch::Connections(1));
    }

    #[test]
    fn who_went_long_ago_makes_room_for_who_comes() {
        let usages = Usages::new(anybody(1, 1));
        for at in 0..3 * SWEPT_FROM {
            drop(usages.connect(&format!("p{at}"), at as u64).unwrap());
        }
        assert!(usages.by_name.lock().len() <= SWEPT_FROM);
    }

    #[test]
    fn the_strictest_role_counts() {
        let of = |pipeline_max, request_bytes_max| OfRole { pipeline_max, request_bytes_max };
        let roles = [("client", of(5, 0)), ("service", of(50, 1_000))].map(|(name, of)| (name.to_owned(), of));
        let usages = Usages::new(Allowances { roles: roles.into(), ..Allowances::default() });
        let roles = ["viewer", "client", "service"].map(str::to_owned);
        assert_eq!(usages.of_roles(&roles), of(5, 1_000));
        assert_eq!(usages.of_roles(&roles[..1]), OfRole::default());
    }
}
