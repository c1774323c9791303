//! Records that a restore has written and that nobody is to see yet: whether its hold is over is in the log's hash, where one step of the
//! restore takes it away, for all servers at once.
//!
//! A hold is there before its first record and its number is never given again, so whoever found a record and then does not find its hold
//! knows that it is over, for good.

use std::collections::VecDeque;

use ::redis::{Value, cmd};
use parking_lot::Mutex;

use super::Inner;
use crate::error::Result;
use crate::log::Keys;
use crate::position::Epoch;
use crate::record::Record;
use crate::remote::link::Server;
use crate::remote::{reply, script};

/// Holds that are known to be over. Records of more restores than this are rarely read together, and then each costs one question more.
const KNOWN_MAX: usize = 64;

const WHAT: &str = "the epoch and the hold in force";

/// See the head of this file.
#[derive(Default)]
pub(super) struct Over(Mutex<VecDeque<u64>>);

impl Over {
    fn has(&self, number: u64) -> bool {
        self.0.lock().contains(&number)
    }

    fn add(&self, number: u64) {
        let mut known = self.0.lock();
        if !known.contains(&number) {
            known.truncate(KNOWN_MAX - 1);
            known.push_front(number);
        }
    }
}

/// What the log's hash says.
pub(super) struct InForce {
    /// Empty: it has none.
    pub(super) epoch: Vec<u8>,
    hold: Option<u64>,
}

impl Inner {
    /// Takes the mark from a record that was written under a hold which is over.
    pub(super) async fn settled(&self, record: Option<Record>) -> Result<Option<Record>> {
        let Some(record) = record else { return Ok(None) };
        if record.held == 0 {
            return Ok(Some(record));
        }
        let mut records = [record];
        self.settle(&mut records, |record| Some(record)).await?;
        let [record] = records;
        Ok(Some(record))
    }

    /// The same for many, with one question at most.
    pub(super) async fn settle<T>(&self, items: &mut [T], record_of: impl Fn(&mut T) -> Option<&mut Record>) -> Result<()> {
        let mut in_force: Option<InForce> = None;
        for item in items {
            let Some(record) = record_of(item).filter(|record| record.held != 0) else { continue };
            if !self.over.has(record.held) {
                if in_force.is_none() {
                    in_force = Some(self.in_force(&*self.server()?).await?);
                }
                // Where another epoch is in force, its log says nothing of the holds of this one.
                let is_over = in_force.as_ref().is_some_and(|now| now.is_of(record.epoch) && now.hold != Some(record.held));
                if !is_over {
                    continue;
                }
                self.over.add(record.held);
            }
            record.held = 0;
        }
        Ok(())
    }

    pub(super) async fn in_force(&self, server: &Server) -> Result<InForce> {
        let log = Keys::new(&self.link.options.prefix).meta;
        let answer = script::send(&mut server.append.clone(), cmd("HMGET").arg(log).arg("epoch").arg("hold")).await;
        let [epoch, hold] = reply::exactly(self.counted(answer)?, WHAT)?;
        let epoch = if epoch == Value::Nil { Vec::new() } else { reply::bytes(epoch, WHAT)? };
        let hold = if hold == Value::Nil { None } else { Some(reply::number(hold, WHAT)?) };
        Ok(InForce { epoch, hold })
    }
}

impl InForce {
    fn is_of(&self, epoch: Epoch) -> bool {
        self.epoch == epoch.0.to_le_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_are_known() {
        let over = Over::default();
        (1..=100).for_each(|number| over.add(number));
        over.add(90);
        assert_eq!((1..=100).filter(|number| over.has(*number)).collect::<Vec<_>>(), (37..=100).collect::<Vec<_>>());
    }
}
