//! Duties of instances that share a log, beside it: they have no position, and an epoch does not end them.

use std::time::Duration;

use ::redis::{Cmd, Value};
use bytes::Bytes;

use super::Inner;
use crate::election::{Claim, Claimed, Held, RECORDS_MAX, Remembered, Renewed, Standing};
use crate::error::Result;
use crate::remote::link::{failed, query};
use crate::remote::{reply, script};

const WHAT: &str = "a duty";

/// The longest lease that is told to Redis.
const LEASE_MS_MAX: u64 = 1 << 42;

/// See the head of this file.
pub(crate) struct Duties<'a>(pub(super) &'a Inner);

impl Duties<'_> {
    async fn ask(&self, name: &str, what: &str, say: impl for<'a> FnOnce(&'a mut Cmd) -> &'a mut Cmd) -> Result<Vec<Value>> {
        let mut call = script::call(&script::DUTY, 2);
        call.arg(self.0.keys.duty(name)).arg(self.0.keys.duty_records(name)).arg(what);
        say(&mut call);
        reply::list(script::run(&mut self.0.connection()?, &call).await.map_err(failed)?, WHAT)
    }

    pub(crate) async fn enrol(&self, name: &str, terms: &str, known: Remembered, now_ms: u64) -> Result<()> {
        self.ask(name, "enrol", |call| call.arg(terms).arg(known.done_ms).arg(known.token).arg(now_ms).arg(u8::from(known.paused)))
            .await
            .map(drop)
    }

    pub(crate) async fn look(&self, name: &str) -> Result<Standing> {
        let mut parts = self.ask(name, "look", |call| call).await?.into_iter();
        let mut next = || parts.next().ok_or_else(|| reply::unexpected(WHAT));
        let enrolled = is_one(next()?)?;
        let (done_ms, paused, newest) = (reply::number(next()?, WHAT)?, is_one(next()?)?, reply::number(next()?, WHAT)?);
        let held = match next() {
            Err(_) => None,
            Ok(token) => Some(Held {
                token: reply::number(token, WHAT)?,
                due_ms: reply::number(next()?, WHAT)?,
                scheduled: is_one(next()?)?,
                by: reply::text(next()?, WHAT)?,
                since_ms: reply::number(next()?, WHAT)?,
                left: Duration::from_millis(reply::number(next()?, WHAT)?),
            }),
        };
        Ok(Standing { enrolled, done_ms, paused, newest, held })
    }

    pub(crate) async fn claim(&self, name: &str, (due_ms, scheduled): (u64, bool), by: &str, lease: Duration) -> Result<Claimed> {
        let answer = self.ask(name, "claim", |call| call.arg(due_ms).arg(u8::from(scheduled)).arg(by).arg(millis(lease))).await?;
        let mut parts = answer.into_iter();
        let mut next = || parts.next().ok_or_else(|| reply::unexpected(WHAT));
        Ok(match reply::text(next()?, WHAT)?.as_str() {
            "won" => {
                let (token, attempt) = (reply::number(next()?, WHAT)?, reply::number(next()?, WHAT)?);
                Claimed::Won(Claim { token, due_ms, scheduled, attempt: u32::try_from(attempt).unwrap_or(u32::MAX) })
            }
            "held" => Claimed::Held,
            "over" => Claimed::Over,
            "paused" => Claimed::Paused,
            _ => return Err(reply::unexpected(WHAT)),
        })
    }

    pub(crate) async fn renew(&self, name: &str, token: u64, lease: Duration) -> Result<Renewed> {
        let word = self.word(name, "renew", |call| call.arg(token).arg(millis(lease))).await?;
        Ok(match word.as_str() {
            "kept" => Renewed::Kept,
            "cancel" => Renewed::Cancel,
            "lost" => Renewed::Lost,
            _ => return Err(reply::unexpected(WHAT)),
        })
    }

    pub(crate) async fn finish(&self, name: &str, token: u64, record: &[u8], is_fenced: bool) -> Result<bool> {
        let fenced = u8::from(is_fenced);
        Ok(self.word(name, "finish", |call| call.arg(token).arg(record).arg(RECORDS_MAX).arg(fenced)).await? == "landed")
    }

    pub(crate) async fn pass(&self, name: &str, to_ms: u64, record: &[u8]) -> Result<Option<u64>> {
        let mut parts = self.ask(name, "pass", |call| call.arg(to_ms).arg(record).arg(RECORDS_MAX)).await?.into_iter();
        parts.nth(1).map(|token| reply::number(token, WHAT)).transpose()
    }

    pub(crate) async fn pause(&self, name: &str, paused: bool, now_ms: u64) -> Result<()> {
        self.word(name, "pause", |call| call.arg(u8::from(paused)).arg(now_ms)).await.map(drop)
    }

    pub(crate) async fn cancel(&self, name: &str, token: u64) -> Result<bool> {
        Ok(self.word(name, "cancel", |call| call.arg(token)).await? == "told")
    }

    pub(crate) async fn records(&self, name: &str) -> Result<Vec<(u64, Bytes)>> {
        let mut ask = ::redis::cmd("LRANGE");
        ask.arg(self.0.keys.duty_records(name)).arg(0).arg(RECORDS_MAX - 1);
        let records = reply::list(query(&mut self.0.connection()?, &ask).await?, WHAT)?;
        records.into_iter().map(|record| apart(&Bytes::from(reply::bytes(record, WHAT)?))).collect()
    }

    async fn word(&self, name: &str, what: &str, say: impl for<'a> FnOnce(&'a mut Cmd) -> &'a mut Cmd) -> Result<String> {
        let first = self.ask(name, what, say).await?.into_iter().next();
        reply::text(first.ok_or_else(|| reply::unexpected(WHAT))?, WHAT)
    }
}

fn is_one(value: Value) -> Result<bool> {
    Ok(reply::number(value, WHAT)? == 1)
}

/// A record, behind its token and a space.
fn apart(bytes: &Bytes) -> Result<(u64, Bytes)> {
    let space = bytes.iter().position(|byte| *byte == b' ').ok_or_else(|| reply::unexpected(WHAT))?;
    let token = std::str::from_utf8(&bytes[..space]).ok().and_then(|token| token.parse().ok());
    Ok((token.ok_or_else(|| reply::unexpected(WHAT))?, bytes.slice(space + 1..)))
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX).min(LEASE_MS_MAX)
}
