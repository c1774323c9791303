//! How much one principal may ask for, over all its connections: requests in a second, connections at once, and, by its roles, how much
//! may come at once. All of it is off unless it is set, and then costs nothing.
//!
//! Whoever has too much is refused, and not made to wait: what waits holds memory, and a program that is told can do something about it.
//! What governs a transaction (`MULTI`, `EXEC`, `WATCH` ..) is never refused and does not count, since what follows a `MULTI` that was
//! refused would be carried out one by one.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};

use parking_lot::Mutex;

use super::commands::{Done, Refusal};
use super::frame::Limits;
use crate::settings::Allowances;

/// Nanoseconds of a second.
const SECOND: u64 = 1_000_000_000;

/// What all principals have used.
#[derive(Debug, Default)]
pub struct Usages {
    settings: Allowances,
    /// By name. There are as many as there are principals who have been here lately, and those are bounded.
    by_name: Mutex<HashMap<String, Arc<Usage>>>,
}

/// What one principal has used.
#[derive(Debug, Default)]
struct Usage {
    connections: AtomicU32,
    /// When all that was asked for would have been answered at the rate that is allowed, in nanoseconds since 1970.
    paid_until: AtomicU64,
}

impl Usage {
    /// Takes the right to one request, if there is one: as many at once as are allowed in a second.
    fn take(&self, per_second: u32, now: u64) -> bool {
        let each = SECOND / u64::from(per_second.max(1));
        let taken = self.paid_until.fetch_update(Relaxed, Relaxed, |until| {
            let until = until.max(now) + each;
            (until <= now + SECOND).then_some(until)
        });
        taken.is_ok()
    }

    fn is_idle(&self, now: u64) -> bool {
        self.connections.load(Relaxed) == 0 && self.paid_until.load(Relaxed) <= now
    }
}

/// A connection that counts as one of its principal's, for as long as this is kept.
#[derive(Debug)]
pub struct Connected(Arc<Usage>);

impl Drop for Connected {
    fn drop(&mut self) {
        self.0.connections.fetch_sub(1, Relaxed);
    }
}

/// What a connection may have.
#[derive(Debug)]
pub struct Allowance {
    /// Of one request.
    pub requests: Limits,
    /// Requests that may come before the first of them is answered; 0: any number.
    pipeline_max: u32,
    connected: Option<Connected>,
}

impl Allowance {
    /// That of a connection which may have this much of a request, and is nobody's.
    pub fn of(requests: Limits) -> Self {
        Allowance { requests, pipeline_max: 0, connected: None }
    }

    /// Whether there is anything to be counted.
    #[inline]
    pub fn is_counted(&self) -> bool {
        self.connected.is_some()
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

    /// Counts a connection as a principal's.
    ///
    /// # Errors
    /// When the principal has too many.
    pub fn connect(&self, name: &str) -> Result<Option<Connected>, Refusal> {
        if self.is_off() {
            return Ok(None);
        }
        // Under the lock, so that a usage is not swept away between being found and being counted.
        let mut by_name = self.by_name.lock();
        let usage = by_name.entry(name.to_owned()).or_default();
        let most = match self.settings.connections_max {
            0 => u32::MAX,
            most => most,
        };
        let counted = usage.connections.fetch_update(Relaxed, Relaxed, |open| (open < most).then_some(open + 1));
        match counted {
            Ok(_) => Ok(Some(Connected(usage.clone()))),
            Err(_) => Err(Refusal::of(format!("ERR max number of connections of this user reached ({most})"))),
        }
    }

    /// What a connection may have by its principal's roles: the strictest of what is said of any of them, as a grant that denies wins.
    pub fn allow(&self, allowance: &mut Allowance, roles: &[String], requests: Limits) {
        let said = || roles.iter().filter_map(|role| self.settings.roles.get(role));
        let bytes = said().map(|of| of.request_bytes_max).filter(|most| *most > 0).min().unwrap_or(usize::MAX);
        allowance.requests = Limits { request_bytes_max: requests.request_bytes_max.min(bytes), ..requests };
        allowance.pipeline_max = said().map(|of| of.pipeline_max).filter(|most| *most > 0).min().unwrap_or(0);
    }

    /// Gives a connection to a principal that it is counted for.
    pub fn give(allowance: &mut Allowance, connected: Option<Connected>) {
        allowance.connected = connected;
    }

    /// Refuses a request that is one too many: the `pipelined`th that came before the first was answered.
    ///
    /// # Errors
    /// When it is.
    pub fn take(&self, allowance: &Allowance, pipelined: u32, now_ms: u64) -> Done {
        let Some(Connected(usage)) = &allowance.connected else { return Ok(()) };
        let most = allowance.pipeline_max;
        if most > 0 && pipelined > most {
            return Err(Refusal::of(format!("ERR more than {most} requests were sent at once; wait for replies in between")));
        }
        let per_second = self.settings.requests_per_second;
        if per_second > 0 && !usage.take(per_second, now_ms.saturating_mul(SECOND / 1_000)) {
            return Err(Refusal::of(format!("ERR max number of requests of this user reached ({per_second} in a second); come again")));
        }
        Ok(())
    }

    /// Forgets who is not here, and has nothing to make good for.
    pub fn sweep(&self, now_ms: u64) {
        let now = now_ms.saturating_mul(SECOND / 1_000);
        self.by_name.lock().retain(|_, usage| !usage.is_idle(now));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::OfRole;

    #[test]
    fn as_many_are_taken_at_once_as_in_a_second_and_then_at_their_rate() {
        let usage = Usage::default();
        let now = 1_000_000 * SECOND;
        assert_eq!((0..10).filter(|_| usage.take(4, now)).count(), 4);
        assert!(!usage.take(4, now + SECOND / 8) && usage.take(4, now + SECOND / 4) && !usage.take(4, now + SECOND / 4));
        assert_eq!((0..10).filter(|_| usage.take(4, now + 60 * SECOND)).count(), 4, "what was not taken is not saved up");
    }

    #[test]
    fn connections_are_counted_for_as_long_as_they_are_open_and_a_debt_stays() {
        let usages = Usages::new(Allowances { connections_max: 2, requests_per_second: 1, ..Allowances::default() });
        let (one, other) = (usages.connect("ada").unwrap(), usages.connect("ada").unwrap());
        assert!(one.is_some() && usages.connect("ada").is_err() && usages.connect("bob").unwrap().is_some());
        let mut allowance = Allowance::of(Limits::default());
        Usages::give(&mut allowance, one);
        assert!(usages.take(&allowance, 1, 5_000).is_ok() && usages.take(&allowance, 2, 5_000).is_err());
        drop((allowance, other));
        usages.sweep(5_000);
        // Who comes again at once is who they were.
        let mut again = Allowance::of(Limits::default());
        Usages::give(&mut again, usages.connect("ada").unwrap());
        assert!(usages.take(&again, 1, 5_000).is_err() && usages.take(&again, 1, 6_000).is_ok());
        drop(again);
        usages.sweep(60_000);
        assert!(usages.by_name.lock().is_empty());
        assert!(Usages::default().connect("ada").unwrap().is_none(), "nothing is counted where nothing is limited");
    }

    #[test]
    fn the_strictest_role_counts() {
        let of = |pipeline_max, request_bytes_max| OfRole { pipeline_max, request_bytes_max };
        let roles = [("client", of(5, 0)), ("service", of(50, 1_000))].map(|(name, of)| (name.to_owned(), of));
        let usages = Usages::new(Allowances { roles: roles.into(), ..Allowances::default() });
        let mut allowance = Allowance::of(Limits::default());
        let roles = ["viewer", "client", "service"].map(str::to_owned);
        usages.allow(&mut allowance, &roles, Limits::default());
        assert_eq!((allowance.pipeline_max, allowance.requests.request_bytes_max), (5, 1_000));
        usages.allow(&mut allowance, &roles[..1], Limits::default());
        assert_eq!((allowance.pipeline_max, allowance.requests), (0, Limits::default()));
    }
}
