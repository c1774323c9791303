//! The hold of a restore, for all who share the log: see `backup/staging.rs`.

use ::redis::Value;

use super::RedisLog;
use crate::error::{Error, ErrorKind, Result};
use crate::log::SharedHold;
use crate::position::Epoch;
use crate::remote::link::{failed, query};
use crate::remote::{reply, script};

const WHAT: &str = "the hold of a restore";

impl RedisLog {
    fn holds_connection(&self) -> Result<::redis::aio::MultiplexedConnection> {
        let server = self.inner.link.server().ok_or_else(|| Error::new(ErrorKind::LogUnavailable, "Redis cannot be reached"))?;
        Ok(server.append.clone())
    }

    /// The hold in force, if there is one.
    pub(crate) async fn hold(&self) -> Result<Option<SharedHold>> {
        let mut ask = ::redis::cmd("HMGET");
        ask.arg(&self.inner.keys.meta).arg("hold").arg("hold_of");
        let [number, of] = reply::exactly(query(&mut self.holds_connection()?, &ask).await?, WHAT)?;
        if number == Value::Nil {
            return Ok(None);
        }
        Ok(Some(SharedHold { number: reply::number(number, WHAT)?, of: reply::text(of, WHAT)? }))
    }

    /// Puts a hold in the place of the one with a number, or of none, or takes it away. `false`: another one is in force than that.
    ///
    /// # Errors
    /// [`ErrorKind::UnknownPosition`]: another epoch is in force than the one given.
    pub(crate) async fn swap_hold(&self, epoch: Epoch, from: Option<u64>, to: Option<&SharedHold>) -> Result<bool> {
        let number = |number: Option<u64>| number.map_or(String::new(), |number| number.to_string());
        let mut call = script::call(&script::HOLD, 1);
        call.arg(&self.inner.keys.meta).arg(epoch.0.to_le_bytes().as_slice()).arg(number(from));
        call.arg(number(to.map(|to| to.number))).arg(to.map_or("", |to| &to.of));
        let answer = script::run(&mut self.holds_connection()?, &call).await.map_err(failed)?;
        match reply::text(answer, WHAT)?.as_str() {
            "done" => Ok(true),
            "other" => Ok(false),
            "epoch" => Err(Error::new(ErrorKind::UnknownPosition, "the log began another epoch meanwhile")),
            _ => Err(reply::unexpected(WHAT)),
        }
    }
}
