//! What each instance says it has applied, and whether all have applied a change.

use std::sync::atomic::Ordering;
use std::time::Duration;

use ::redis::Value;

use super::{Inner, boot_ns};
use crate::error::{Error, ErrorKind, Result};
use crate::log::spread::{Lagging, Spread};
use crate::position::{Epoch, Position, Receipt};
use crate::remote::link::{failed, query};
use crate::remote::{fence_field, reply};

/// An instance that was not heard for so long is not counted any more. Where answers count as verified for longer than that, for twice as
/// long as they do.
const GONE_AFTER: Duration = Duration::from_secs(10);

/// One that was not heard for so long is taken from the list: ten times the longest heartbeat.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(600);

/// The field of the list that says when it was begun, or begun anew after it was lost. No instance is called so.
const SINCE: &[u8] = b":since";

/// Pauses between looks.
const LOOK_MIN: Duration = Duration::from_millis(1);
const LOOK_MAX: Duration = Duration::from_millis(20);

/// What an instance said.
struct Member {
    name: String,
    epoch: Option<Epoch>,
    applied: u64,
    said_ms: u64,
}

impl Inner {
    /// Looks again and again, until every instance has applied the change or the deadline has passed.
    pub(super) async fn applied_everywhere(&self, receipt: &Receipt, deadline: Duration) -> Result<Spread> {
        if receipt.is_queued() {
            let message = "the change is queued: it has no position yet that others could apply";
            return Err(Error::new(ErrorKind::UnknownPosition, message));
        }
        let until = tokio::time::Instant::now() + deadline;
        let (mut pause, mut seen) = (LOOK_MIN, None);
        loop {
            let looked = tokio::time::timeout_at(until, self.look(receipt.position())).await;
            let is_late = looked.is_err();
            let late = || Error::new(ErrorKind::NotReached, "Redis did not say in time what the instances have applied");
            // What was seen before that tells who lags, too.
            let (spread, age) = looked.unwrap_or_else(|_| seen.take().ok_or_else(late))?;
            let is_complete = age > self.verified_for;
            let is_over = is_late || tokio::time::Instant::now() + pause >= until;
            if is_over && !is_complete && spread.is_everywhere() {
                // The list went with the rest of what Redis had. Who is missing there has not said anything since, and its
                // answers may still count as verified.
                let message = format!("the list of instances was begun {age:?} ago, and one that is not in it may still serve what is old");
                return Err(Error::new(ErrorKind::NotReached, message));
            }
            if is_over || (is_complete && spread.is_everywhere()) {
                return Ok(spread);
            }
            seen = Some((spread, age));
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LOOK_MAX);
        }
    }

    /// What all have applied, and how old the list of them is.
    async fn look(&self, position: Position) -> Result<(Spread, Duration)> {
        let mut connection = self.connection()?;
        let mut ask = ::redis::pipe();
        ask.cmd("TIME").cmd("HMGET").arg(&self.keys.meta).arg("epoch").arg("after").cmd("HGETALL").arg(&self.keys.members);
        let [time, epochs, members]: [Value; 3] = ask
            .query_async::<Vec<Value>>(&mut connection)
            .await
            .map_err(failed)?
            .try_into()
            .map_err(|_| reply::unexpected("the members"))?;
        let now = reply::time_ms(time)?;
        let [epoch, after] = reply::exactly(epochs, "the epochs")?;
        let in_force = reply::bytes(epoch, "an epoch").ok().and_then(|bytes| super::encode::epoch_of(&bytes));
        let is_over = reply::bytes(after, "epochs")
            .is_ok_and(|after| after.chunks_exact(8).any(|bytes| super::encode::epoch_of(bytes) == Some(position.epoch)));
        // A server that was cut off may have an older one in force, of which others may have all sorts of things.
        let came_after = in_force.filter(|_| is_over);
        let fields = reply::fields(members, "the members")?;
        let since = fields.iter().find(|(name, _)| name == SINCE).and_then(|(_, since)| reply::number(since.clone(), "a time").ok());
        let age = Duration::from_millis(since.map_or(0, |since: u64| now.saturating_sub(since)));
        let members: Vec<Member> = fields.into_iter().filter_map(member).collect();
        let gone_after = GONE_AFTER.max(self.verified_for * 2);
        // Where the server noted nothing lately, being full, say, who is silent there may have been heard all the same.
        let unsaid = self.unsaid.load(Ordering::Relaxed);
        let is_telling = unsaid == 0 || boot_ns().saturating_sub(unsaid) > gone_after.as_nanos() as u64;
        let gone_after = if is_telling { gone_after } else { FORGOTTEN_AFTER }.as_millis() as u64;
        let (here, gone): (Vec<_>, Vec<_>) = members.into_iter().partition(|member| now.saturating_sub(member.said_ms) < gone_after);
        if !gone.is_empty() {
            // The fence of one that is only slow to say so would be missed with its next change.
            let is_forgotten = |member: &&Member| now.saturating_sub(member.said_ms) >= gone_after.max(FORGOTTEN_AFTER.as_millis() as u64);
            let forgotten: Vec<_> =
                gone.iter().filter(is_forgotten).flat_map(|member| [member.name.clone(), fence_field(&member.name)]).collect();
            if !forgotten.is_empty() {
                query(&mut connection, ::redis::cmd("HDEL").arg(&self.keys.members).arg(forgotten)).await?;
            }
        }
        let lagging = here.iter().filter_map(|member| member.lag(position, came_after, now)).collect();
        Ok((Spread { instances: here.len(), lagging }, age))
    }

    /// Lets nobody wait for this instance any more. One that cannot say so is forgotten after a while.
    pub(super) async fn leave(&self) {
        if let Some(server) = self.link.server() {
            let mut leave = ::redis::cmd("HDEL");
            leave.arg(&self.keys.members).arg(&self.instance).arg(fence_field(&self.instance));
            if let Err(error) = query(&mut server.append.clone(), &leave).await {
                tracing::debug!(%error, "this instance could not be taken from the list; it will be forgotten");
            }
        }
    }
}

impl Member {
    /// How it lags, if it does. One that is in an epoch that came after the change's, if one did, has nothing of that time.
    fn lag(&self, change: Position, came_after: Option<Epoch>, now: u64) -> Option<Lagging> {
        let unseen_for = Duration::from_millis(now.saturating_sub(self.said_ms));
        let lagging = |behind| Some(Lagging { instance: self.name.clone(), behind, unseen_for });
        if self.epoch == Some(change.epoch) {
            return if self.applied >= change.seq { None } else { lagging(Some(change.seq - self.applied)) };
        }
        if self.epoch.is_some() && self.epoch == came_after { None } else { lagging(None) }
    }
}

fn member((name, said): (Vec<u8>, Value)) -> Option<Member> {
    let said = reply::text(said, "a member").ok()?;
    let mut parts = said.split(' ');
    let epoch = u64::from_str_radix(parts.next()?, 16).ok().map(Epoch);
    let (applied, said_ms) = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
    Some(Member { name: String::from_utf8_lossy(&name).into_owned(), epoch, applied, said_ms })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(text: &str) -> Member {
        member((b"m".to_vec(), Value::BulkString(text.into()))).unwrap()
    }

    #[test]
    fn who_lags_is_told_by_epoch_and_position() {
        let change = Position { epoch: Epoch(7), seq: 5 };
        let behind = |text, after: Option<u64>| said(text).lag(change, after.map(Epoch), 100).map(|lagging| lagging.behind);
        assert_eq!(behind("0000000000000007 5 90", None), None);
        assert_eq!(behind("0000000000000007 3 90", None), Some(Some(2)));
        assert_eq!(behind("0000000000000006 9 90", None), Some(None), "it has not adopted the epoch of the change");
        assert_eq!(behind("0000000000000008 0 90", Some(8)), None, "it has nothing from the epoch of the change");
        assert_eq!(behind("0000000000000007 3 90", Some(8)), Some(Some(2)), "and this one has not adopted the next");
        assert!(member((vec![], Value::BulkString(b"nonsense".to_vec()))).is_none());
    }
}
