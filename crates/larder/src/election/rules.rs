//! Who does what is due, decided: the state of a duty, and what becomes of what is asked of it. It is told the time.
//!
//! ```text
//!   due ── claim ──> held ── finish ──> done, recorded
//!           ^         │ │
//!           │         │ └── the lease runs out: whoever claims gets the next token, and the old one finishes nothing any more
//!           └─────────┘
//!   due ── pass ──> done, recorded: nobody did it in time
//! ```
//!
//! `remote/duty.lua` is the same where instances share it; a test holds the two against each other.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;

use super::{Claim, Claimed, Held, RECORDS_MAX, Remembered, Renewed, Standing};

/// What is known of a duty.
#[derive(Debug, Default)]
pub(super) struct State {
    terms: Option<String>,
    done_ms: u64,
    token: u64,
    /// `None`: nobody has said anything of it.
    paused: Option<bool>,
    claim: Option<Claimant>,
    tried: (u64, u32),
    newest: u64,
    records: VecDeque<(u64, Bytes)>,
}

#[derive(Debug)]
struct Claimant {
    claim: Claim,
    by: String,
    since_ms: u64,
    lease_ms: u64,
    cancelled: bool,
}

impl State {
    pub(super) fn enrol(&mut self, terms: &str, known: Remembered, now_ms: u64) {
        let begins_now = match &self.terms {
            Some(others) => others != terms,
            None => known.done_ms == 0,
        };
        self.done_ms = self.done_ms.max(if begins_now { now_ms } else { known.done_ms });
        self.token = self.token.max(known.token);
        // Only where nobody has said anything yet: who remembers that it was paused may not know yet that it was resumed.
        if known.paused {
            self.paused.get_or_insert(true);
        }
        self.terms = Some(terms.to_owned());
    }

    fn held(&self, now_ms: u64) -> Option<&Claimant> {
        self.claim.as_ref().filter(|claimant| claimant.lease_ms > now_ms)
    }

    pub(super) fn look(&self, now_ms: u64) -> Standing {
        let held = self.held(now_ms).map(|claimant| Held {
            token: claimant.claim.token,
            due_ms: claimant.claim.due_ms,
            scheduled: claimant.claim.scheduled,
            by: claimant.by.clone(),
            since_ms: claimant.since_ms,
            left: Duration::from_millis(claimant.lease_ms - now_ms),
        });
        Standing { enrolled: self.terms.is_some(), done_ms: self.done_ms, paused: self.is_paused(), newest: self.newest, held }
    }

    pub(super) fn claim(&mut self, (due_ms, scheduled): (u64, bool), by: &str, lease: Duration, now_ms: u64) -> Claimed {
        if self.held(now_ms).is_some() {
            return Claimed::Held;
        }
        // Where it was lost what is over, whoever remembers it has to say so first.
        if scheduled && (self.terms.is_none() || due_ms <= self.done_ms) {
            return Claimed::Over;
        }
        if scheduled && self.is_paused() {
            return Claimed::Paused;
        }
        let mut attempt = 1;
        if scheduled {
            attempt += if self.tried.0 == due_ms { self.tried.1 } else { 0 };
            self.tried = (due_ms, attempt);
        }
        let claim = Claim { token: self.draw(now_ms), due_ms, scheduled, attempt };
        let lease_ms = now_ms.saturating_add(millis(lease));
        self.claim = Some(Claimant { claim, by: by.to_owned(), since_ms: now_ms, lease_ms, cancelled: false });
        Claimed::Won(claim)
    }

    pub(super) fn renew(&mut self, token: u64, lease: Duration, now_ms: u64) -> Renewed {
        match self.claim.as_mut().filter(|claimant| claimant.claim.token == token) {
            None => Renewed::Lost,
            Some(claimant) => {
                claimant.lease_ms = now_ms.saturating_add(millis(lease));
                if claimant.cancelled { Renewed::Cancel } else { Renewed::Kept }
            }
        }
    }

    pub(super) fn finish(&mut self, token: u64, record: Bytes, is_fenced: bool) -> bool {
        match self.claim.take_if(|claimant| claimant.claim.token == token) {
            Some(Claimant { claim, .. }) if claim.scheduled => self.done_ms = self.done_ms.max(claim.due_ms),
            Some(_) => {}
            None if self.records.iter().take(10).any(|(known, _)| *known == token) => return true,
            None if is_fenced => return false,
            None => {}
        }
        self.record(token, record);
        true
    }

    pub(super) fn pass(&mut self, to_ms: u64, record: Bytes, now_ms: u64) -> Option<u64> {
        if self.held(now_ms).is_some() || self.terms.is_none() || to_ms <= self.done_ms {
            return None;
        }
        self.claim = None;
        let token = self.draw(now_ms);
        self.done_ms = to_ms;
        self.record(token, record);
        Some(token)
    }

    pub(super) fn pause(&mut self, paused: bool, now_ms: u64) {
        if self.is_paused() && !paused {
            self.done_ms = now_ms;
        }
        self.paused = Some(paused);
    }

    fn is_paused(&self) -> bool {
        self.paused == Some(true)
    }

    pub(super) fn cancel(&mut self, token: u64, now_ms: u64) -> bool {
        let held = self.claim.as_mut().filter(|claimant| claimant.lease_ms > now_ms && claimant.claim.token == token);
        held.map(|claimant| claimant.cancelled = true).is_some()
    }

    pub(super) fn records(&self) -> Vec<(u64, Bytes)> {
        self.records.iter().cloned().collect()
    }

    fn draw(&mut self, now_ms: u64) -> u64 {
        self.token = now_ms.max(self.token + 1);
        self.token
    }

    fn record(&mut self, token: u64, record: Bytes) {
        self.records.push_front((token, record));
        self.records.truncate(RECORDS_MAX);
        self.newest = token;
    }
}

pub(super) fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX).min(1 << 42)
}
