//! What a connection may ask for, by who it is: see `access/allowance.rs`, which counts it.
//!
//! What governs a transaction (`MULTI`, `EXEC`, `WATCH` ..) is never refused and does not count, since what follows a `MULTI` that was
//! refused would be carried out one by one.

use super::commands::{Done, Refusal};
use super::frame::Limits;
use crate::access::allowance::{Connected, OfRole, TooMuch};

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

    /// What it may have by its principal's roles, where anybody may have this much of a request.
    pub fn allow(&mut self, of: OfRole, anybody: Limits) {
        let bytes = if of.request_bytes_max == 0 { usize::MAX } else { of.request_bytes_max };
        self.requests = Limits { request_bytes_max: anybody.request_bytes_max.min(bytes), ..anybody };
        self.pipeline_max = of.pipeline_max;
    }

    /// It is a principal's that it is counted for.
    pub fn give(&mut self, connected: Option<Connected>) {
        self.connected = connected;
    }

    /// Refuses a request that is one too many: the `pipelined`th that came before the first was answered.
    ///
    /// # Errors
    /// When it is.
    pub fn take(&self, pipelined: u32, now_ms: u64) -> Done {
        let Some(connected) = &self.connected else { return Ok(()) };
        let most = self.pipeline_max;
        if most > 0 && pipelined > most {
            return Err(Refusal::of(format!("ERR more than {most} requests were sent at once; wait for replies in between")));
        }
        Ok(connected.take(now_ms)?)
    }
}

impl From<TooMuch> for Refusal {
    fn from(too_much: TooMuch) -> Self {
        Refusal::of(format!("ERR {too_much}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_role_may_only_take_away() {
        let mut allowance = Allowance::of(Limits::default());
        allowance.allow(OfRole { pipeline_max: 5, request_bytes_max: 1_000 }, Limits::default());
        assert_eq!((allowance.pipeline_max, allowance.requests.request_bytes_max), (5, 1_000));
        allowance.allow(OfRole { pipeline_max: 0, request_bytes_max: usize::MAX }, Limits::default());
        assert_eq!((allowance.pipeline_max, allowance.requests), (0, Limits::default()));
        assert!(!allowance.is_counted() && allowance.take(u32::MAX, 0).is_ok(), "nobody's are not counted");
    }
}
