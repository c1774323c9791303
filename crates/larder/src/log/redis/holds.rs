//! The hold of a restore, for all who share the log: see `backup/staging.rs`.

use ::redis::Value;

use super::RedisLog;
use crate::error::{Error, ErrorKind, Result};
use crate::log::{Next, SharedHold};
use crate::position::Epoch;
use crate::remote::link::{failed, query};
use crate::remote::{reply, script};

const WHAT: &str = "the hold of a restore";

impl RedisLog {
    /// Whether there was one when the log was last heard.
    pub(crate) fn was_held(&self) -> bool {
        self.inner.is_held.load(std::sync::atomic::Ordering::Relaxed)
    }

    /// The hold in force, if there is one.
    pub(crate) async fn hold(&self) -> Result<Option<SharedHold>> {
        let mut ask = ::redis::cmd("HMGET");
        ask.arg(&self.inner.keys.meta).arg("hold").arg("hold_of");
        let [number, of] = reply::exactly(query(&mut self.inner.connection()?, &ask).await?, WHAT)?;
        if number == Value::Nil {
            return Ok(None);
        }
        // What cannot be read is of something unknown, which can still be given up.
        let of = if of == Value::Nil { Vec::new() } else { reply::bytes(of, WHAT)? };
        Ok(Some(SharedHold { number: reply::number(number, WHAT)?, of }))
    }

    /// Whether the one with a number is in force.
    pub(crate) async fn has_hold(&self, number: u64) -> Result<bool> {
        let mut ask = ::redis::cmd("HGET");
        ask.arg(&self.inner.keys.meta).arg("hold");
        let there = query(&mut self.inner.connection()?, &ask).await?;
        Ok(there != Value::Nil && reply::number(there, WHAT)? == number)
    }

    /// See [`Log::swap_shared_hold`](crate::log::Log::swap_shared_hold).
    pub(crate) async fn swap_hold(&self, epoch: Epoch, from: Option<&SharedHold>, to: Next<'_>) -> Result<bool> {
        let mut call = script::call(&script::HOLD, 1);
        call.arg(&self.inner.keys.meta).arg(epoch.0.to_le_bytes().as_slice());
        let to_hold = if let Next::Hold(hold) = to { Some(hold) } else { None };
        for hold in [from, to_hold] {
            call.arg(hold.map_or(String::new(), |hold| hold.number.to_string())).arg(hold.map_or(&[][..], |hold| &hold.of));
        }
        call.arg(u8::from(matches!(to, Next::GivenUp)));
        let answer = script::run(&mut self.inner.connection()?, &call).await.map_err(failed)?;
        match reply::text(answer, WHAT)?.as_str() {
            "done" => Ok(true),
            "other" => Ok(false),
            "epoch" => Err(Error::new(ErrorKind::UnknownPosition, "the log began another epoch meanwhile")),
            _ => Err(reply::unexpected(WHAT)),
        }
    }
}
