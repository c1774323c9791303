//! The inbox: invalidations by others than larder, in plain text.
//!
//! ```text
//! XADD {larder}:inbox * tag symbol:AAPL key features:MSFT:5m pattern prediction:*:1h:** namespace models everything 1
//! ```
//!
//! All instances read it as one consumer group, so that each message is appended by one of them, and then obeyed by all. It
//! is taken from the stream only when the log has it: an instance that dies in between leaves it to another. So a message
//! takes effect at least once; messages that are read by different instances may be appended in another order than they were
//! written. What is no invalidation goes to
//! `{larder}:inbox:rejected`, with the reason.

use std::sync::Weak;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use ::redis::aio::MultiplexedConnection;
use ::redis::{Cmd, Value, cmd};
use tokio::sync::oneshot;

use super::{APPEND_TIMEOUT, Inner, Pending};
use crate::config::Mode;
use crate::error::{Error, ErrorKind, Result};
use crate::invalidations::{InvalidationOrigin, kinds_of};
use crate::log::{Append, Durability};
use crate::name::Names;
use crate::remote::link::{failed, query};
use crate::remote::reply;

const GROUP: &str = "larder";

/// Messages read at once.
const READ_MAX: usize = 256;

/// A message that its reader did not append within this time is taken over.
const ABANDONED_AFTER: Duration = Duration::from_secs(5);

/// Rejected messages kept.
const REJECTED_MAX: usize = 1_000;

/// The pause after a failure; the keeper ends the task where the connection is lost.
const PAUSE: Duration = Duration::from_millis(200);

/// A message: its id, and its fields.
type Message = (Vec<u8>, Value);

pub(super) async fn run(weak: Weak<Inner>, mut connection: MultiplexedConnection) {
    let mut claimed = None::<Instant>;
    while let Some(inner) = weak.upgrade() {
        let due = claimed.is_none_or(|at| at.elapsed() > ABANDONED_AFTER);
        if due {
            claimed = Some(Instant::now());
        }
        if let Err(error) = inner.take_messages(&mut connection, due).await {
            tracing::debug!(%error, "the inbox could not be read");
            drop(inner);
            tokio::time::sleep(PAUSE).await;
        }
    }
}

impl Inner {
    async fn take_messages(&self, connection: &mut MultiplexedConnection, claim: bool) -> Result<()> {
        let messages = match if claim { self.claim(connection).await } else { self.read(connection).await } {
            Err(error) if is_group_missing(&error) => return self.create_group(connection).await,
            messages => messages?,
        };
        for (id, fields) in messages {
            match names_of(fields) {
                Ok(names) => self.append_message(names).await?,
                Err(why) => self.reject(connection, &id, &why).await?,
            }
            self.counters.inbox_taken.fetch_add(1, Ordering::Relaxed);
            // Together: a message that was acknowledged and not deleted would stay for ever.
            let mut done = ::redis::pipe();
            done.atomic().cmd("XACK").arg(&self.keys.inbox).arg(GROUP).arg(&id).cmd("XDEL").arg(&self.keys.inbox).arg(&id);
            done.query_async::<()>(connection).await.map_err(failed)?;
        }
        Ok(())
    }

    async fn read(&self, connection: &mut MultiplexedConnection) -> Result<Vec<Message>> {
        let heartbeat = self.link.options.heartbeat.as_millis() as u64;
        let mut read = cmd("XREADGROUP");
        read.arg("GROUP").arg(GROUP).arg(&self.instance).arg("COUNT").arg(READ_MAX).arg("BLOCK").arg(heartbeat);
        read.arg("STREAMS").arg(&self.keys.inbox).arg(">");
        let streams = reply::fields_or_pairs(query(connection, &read).await?, "the inbox")?;
        streams.into_iter().next().map_or(Ok(Vec::new()), |(_, records)| messages(records))
    }

    /// What another read and did not append.
    async fn claim(&self, connection: &mut MultiplexedConnection) -> Result<Vec<Message>> {
        let mut claim: Cmd = cmd("XAUTOCLAIM");
        claim
            .arg(&self.keys.inbox)
            .arg(GROUP)
            .arg(&self.instance)
            .arg(ABANDONED_AFTER.as_millis() as u64)
            .arg("0")
            .arg("COUNT")
            .arg(READ_MAX);
        let mut parts = reply::list(query(connection, &claim).await?, "the inbox")?.into_iter();
        parts.nth(1).map_or(Ok(Vec::new()), messages)
    }

    async fn create_group(&self, connection: &mut MultiplexedConnection) -> Result<()> {
        // From the start: what was written before the group was there has not been read by anybody.
        let mut create = cmd("XGROUP");
        create.arg("CREATE").arg(&self.keys.inbox).arg(GROUP).arg("0").arg("MKSTREAM");
        match query(connection, &create).await {
            Err(error) if error.to_string().contains("BUSYGROUP") => Ok(()),
            outcome => outcome.map(drop),
        }
    }

    async fn append_message(&self, names: Names) -> Result<()> {
        let names = names.check()?;
        if names.is_empty() {
            return Ok(());
        }
        // Not queued here: the stream itself is the queue.
        let append = Append {
            names,
            marks: Vec::new(),
            durability: Durability::Fsync,
            guard: None,
            writes: Vec::new(),
            mode: Mode::Strict,
            is_put: false,
        };
        let kinds = kinds_of(&append.names);
        let (reply, receiver) = oneshot::channel();
        let pending = Pending { append, deadline: tokio::time::Instant::now() + APPEND_TIMEOUT, reply };
        let closed = || Error::new(ErrorKind::Closed, "the cache was closed");
        self.to_append.send(pending).map_err(|_| closed())?;
        receiver.await.map_err(|_| closed())??;
        self.peers.counters().add(&kinds, InvalidationOrigin::Inbox);
        Ok(())
    }

    async fn reject(&self, connection: &mut MultiplexedConnection, id: &[u8], why: &str) -> Result<()> {
        self.counters.inbox_rejected.fetch_add(1, Ordering::Relaxed);
        tracing::warn!(id = %id.escape_ascii(), why, "a message in the inbox is no invalidation; it was put aside");
        let mut add = cmd("XADD");
        add.arg(&self.keys.rejected).arg("MAXLEN").arg("~").arg(REJECTED_MAX).arg("*").arg("id").arg(id).arg("why").arg(why);
        query(connection, &add).await.map(drop)
    }
}

fn messages(records: Value) -> Result<Vec<Message>> {
    let message = |record| {
        let [id, fields] = reply::exactly(record, "a message")?;
        Ok((reply::bytes(id, "an id")?, fields))
    };
    // A message that was deleted while it was pending is answered as nil by older servers.
    reply::list(records, "the inbox")?.into_iter().filter(|record| *record != Value::Nil).map(message).collect()
}

/// The names of a message, or why it has none. A message of which a part is not understood is rejected whole.
fn names_of(fields: Value) -> Result<Names, String> {
    let fields = reply::fields(fields, "a message").map_err(|error| error.to_string())?;
    let mut names = Names::new();
    for (kind, value) in fields {
        let value = reply::bytes(value, "a message").map_err(|error| error.to_string())?;
        names = match kind.as_slice() {
            b"key" => names.key(value),
            b"tag" => names.tag(value),
            b"pattern" => names.pattern(value),
            b"namespace" => names.namespace(String::from_utf8(value).map_err(|_| "a namespace is text".to_owned())?),
            b"everything" => names.everything(),
            other => return Err(format!("a field is key, tag, pattern, namespace or everything, not {}", other.escape_ascii())),
        };
    }
    names.clone().check().map(|_| names).map_err(|error| error.to_string())
}

fn is_group_missing(error: &Error) -> bool {
    error.to_string().contains("NOGROUP")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(fields: &[(&str, &str)]) -> Value {
        let bulk = |text: &str| Value::BulkString(text.as_bytes().to_vec());
        Value::Array(fields.iter().flat_map(|(kind, value)| [bulk(kind), bulk(value)]).collect())
    }

    #[test]
    fn a_message_is_understood_whole_or_rejected() {
        let good = message(&[("tag", "symbol:AAPL"), ("key", "a:b"), ("pattern", "a:*:**"), ("namespace", "a"), ("everything", "1")]);
        assert_eq!(names_of(good).unwrap().len(), 5);
        for bad in [message(&[("tag", "t"), ("tags", "u")]), message(&[("pattern", "a:**:b")]), message(&[("key", "")]), Value::Int(3)] {
            assert!(names_of(bad).is_err());
        }
    }
}
