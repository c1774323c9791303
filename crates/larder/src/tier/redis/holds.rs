//! Records that a restore has written and that nobody is to see yet: whether its hold is over is in the log's hash, where one step of the
//! restore takes it away, for all servers at once.
//!
//! A hold is there before its first record and its number is never given again, so whoever found a record and then does not find its hold
//! knows that it is over, for good.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use ::redis::{Value, cmd};
use parking_lot::Mutex;

use super::Inner;
use crate::error::{Error, ErrorKind, Result};
use crate::log::Keys;
use crate::position::Epoch;
use crate::record::{Record, RestoreHold};
use crate::remote::link::Server;
use crate::remote::reply;

/// Holds that are known to be over. Records of more restores than this are rarely read together, and then each costs one question more.
const KNOWN_MAX: usize = 64;

const WHAT: &str = "the epoch and the hold in force";

/// See the head of this file.
#[derive(Default)]
pub(super) struct Over {
    known: Mutex<VecDeque<u64>>,
    /// Grows with each that comes.
    learned: AtomicU64,
}

impl Over {
    fn has(&self, number: u64) -> bool {
        self.known.lock().contains(&number)
    }

    fn add(&self, number: u64) {
        let mut known = self.known.lock();
        if !known.contains(&number) {
            known.truncate(KNOWN_MAX - 1);
            known.push_front(number);
            self.learned.fetch_add(1, Ordering::AcqRel);
        }
    }

    pub(super) fn learned(&self) -> u64 {
        self.learned.load(Ordering::Acquire)
    }
}

/// What the log's hash says.
pub(super) struct InForce {
    /// Empty: it has none.
    pub(super) epoch: Vec<u8>,
    hold: Option<u64>,
    /// Numbers of holds, as text: what was written under them is never seen.
    given_up: Vec<u8>,
}

impl Inner {
    /// Says of records that were written under a hold whether it is over, with one question at most. Returns whether one of them was
    /// found so: its restore may have ended after others of them were read.
    pub(super) async fn settle<T>(&self, items: &mut [T], record_of: impl Fn(&mut T) -> Option<&mut Record>) -> Result<bool> {
        let (mut in_force, mut is_any_over) = (None::<InForce>, false);
        for item in items {
            let Some(record) = record_of(item) else { continue };
            let RestoreHold::By(number) = record.held else { continue };
            if !self.over.has(number) {
                if in_force.is_none() {
                    let server = self.server()?;
                    // It is stale whoever wrote it, and asking would not make it known.
                    if server.epoch != record.epoch {
                        continue;
                    }
                    in_force = Some(self.in_force(&server).await?);
                }
                // Where another epoch is in force, its log says nothing of the holds of this one.
                let is_over = in_force.as_ref().is_some_and(|now| now.is_of(record.epoch) && now.is_seen(number));
                if !is_over {
                    continue;
                }
                self.over.add(number);
            }
            record.held = RestoreHold::Over;
            is_any_over = true;
        }
        Ok(is_any_over)
    }

    /// The same for one record, within a time: what is not known by then is an error, as if it had not been read.
    pub(super) async fn settled(&self, record: Record, within: Duration) -> Result<Record> {
        let mut records = [record];
        let settling = tokio::time::timeout(within, self.settle(&mut records, |record| Some(record)));
        let late = |_| Err(Error::new(ErrorKind::Tier, "Redis did not say in time whether a restore is over"));
        settling.await.unwrap_or_else(late)?;
        let [record] = records;
        Ok(record)
    }

    /// Asked where entries are read, not where appends wait for replicas.
    pub(super) async fn in_force(&self, server: &Server) -> Result<InForce> {
        let log = Keys::new(&self.link.options.prefix).meta;
        let answer = server.send(cmd("HMGET").arg(log).arg("epoch").arg("hold").arg("given_up")).await;
        let [epoch, hold, given_up] = reply::exactly(self.counted(answer)?, WHAT)?;
        let or_nothing = |value| if value == Value::Nil { Ok(Vec::new()) } else { reply::bytes(value, WHAT) };
        let hold = if hold == Value::Nil { None } else { Some(reply::number(hold, WHAT)?) };
        Ok(InForce { epoch: or_nothing(epoch)?, hold, given_up: or_nothing(given_up)? })
    }
}

impl InForce {
    fn is_of(&self, epoch: Epoch) -> bool {
        self.epoch == epoch.0.to_le_bytes()
    }

    fn is_seen(&self, number: u64) -> bool {
        let number_text = number.to_string();
        self.hold != Some(number) && !self.given_up.split(|byte| *byte == b' ').any(|one| one == number_text.as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_neither_in_force_nor_given_up_is_seen() {
        let now = InForce { epoch: Vec::new(), hold: Some(7), given_up: b"17 9".to_vec() };
        assert_eq!([7, 9, 17, 1, 79].map(|number| now.is_seen(number)), [false, false, false, true, true]);
    }

    #[test]
    fn the_newest_are_known() {
        let over = Over::default();
        (1..=100).for_each(|number| over.add(number));
        over.add(90);
        assert_eq!(over.learned(), 100, "one that is known is not learned again");
        assert_eq!((1..=100).filter(|number| over.has(*number)).collect::<Vec<_>>(), (37..=100).collect::<Vec<_>>());
    }
}
