//! Events from a stream in Redis or Valkey, read as a consumer group.
//!
//! ```text
//! XADD market * event '{"specversion":"1.0","id":"4711","source":"feed","type":"market_data_update","data":{"symbol":"AAPL"}}'
//! ```
//!
//! # One instance at a time
//!
//! A group hands each message to whoever asks first, so that two consumers of a group can have messages of one partition at the
//! same time, and no order is left. So instances that share a log share a group, and one of them follows the stream: it has a lease
//! (a hash beside the stream, `{market}:larder:GROUP`), which every read extends, and the others wait for it to run out. Who takes
//! it over first claims what the one before has read and not acknowledged, from the lowest id on, and waits until the tail of the
//! log has brought what that one appended. An instance that has a [name](RedisOptions::instance) is the same one after a restart, and
//! goes on at once. Instances whose logs are their own need groups of their own. To read with several
//! instances at once, spread the partitions over several streams.
//!
//! An instance that is paused for longer than its lease and then goes on may carry out events that were carried out meanwhile:
//! those that were waiting in it. That is a miss too many, and never an old value.
//!
//! # Gaps
//!
//! Found before anything is read past them, by one script (`remote/fetch.lua`): the group or the stream is not there; the stream
//! was trimmed past what was read, which is found by counting, as Redis 7 and Valkey do, too, but not across a restart; messages
//! were deleted unread, or before they were acknowledged; ids went backwards; the server is another process than before and does
//! not write its log before it answers (`appendfsync always`), so that the last messages may be lost.

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use ::redis::aio::MultiplexedConnection;
use ::redis::{RedisResult, Value, cmd};
use tokio::time::Instant;

use super::{Delivery, Fetched, Source};
use crate::error::{Error, ErrorKind, Result};
use crate::remote::link::{About, Link, failed, query};
use crate::remote::{RedisOptions, Topology, reply, script};

/// How long the stream is another instance's at most after the last read of the one that follows it.
const LEASE: Duration = Duration::from_secs(10);

/// How long to wait for a message before the lease is extended.
const WAIT: Duration = Duration::from_secs(3);

/// A message that another consumer of the group has read, and not acknowledged for so long, is taken over.
const ABANDONED_AFTER: Duration = Duration::from_secs(60);

/// Messages of one read: the server does nothing else meanwhile.
const READ_MAX: usize = 512;

/// What consumers are called that have no name of their own. Once they have nothing any more they are removed (`remote/fetch.lua`).
const CONSUMER: &str = "larder-";

/// Gives the lease up.
const RELEASE: &str = "if redis.call('HGET', KEYS[1], 'holder') == ARGV[1] then redis.call('HSET', KEYS[1], 'until', 0) end";

/// How long giving it up may take, and how often one that stands by looks.
const MOMENT: Duration = Duration::from_secs(1);

/// The longest name of a stream or group.
const NAME_LEN_MAX: usize = 256;

/// A stream of events in Redis or Valkey, from version 7 on: see [`new`](Self::new).
pub struct RedisStream {
    link: Link,
    stream: String,
    group: String,
    lease: Vec<u8>,
    consumer: String,
    open: Option<Open>,
}

/// What lasts as long as a connection.
struct Open {
    commands: MultiplexedConnection,
    /// Of its own: a connection that waits answers nothing else.
    waker: MultiplexedConnection,
    /// A wait that goes on: the server would not notice that nobody listens any more.
    waiting: Option<Pin<Box<dyn Future<Output = RedisResult<Value>> + Send>>>,
    identity: String,
    restarts_lose_nothing: bool,
    /// Where to go on claiming.
    claiming: Option<String>,
    claimed_at: Instant,
    read_to: String,
    /// While another instance has the lease: for how long.
    standby: Option<Duration>,
}

impl RedisStream {
    /// Follows a stream as a consumer group, which is made if it is not there: from the first message on, after all that the source
    /// covers was invalidated, since what came before is not known. Each message has the field `event`: an event in the JSON format
    /// of CloudEvents. They are acknowledged and not deleted; whoever adds them bounds the stream (`MAXLEN`).
    ///
    /// Instances that share a log share a group, and one of them follows the stream at a time; others need a group of their own. One
    /// that the options give a name (no other's) need not wait for its own lease after it was killed.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidConfig`] for a name that is empty or has more than 256 bytes, and for a cluster: one node has the stream,
    /// and is named by its own address.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> larder::Result<()> {
    /// use larder::RedisOptions;
    /// use larder::events::source::RedisStream;
    /// let larder = larder::Larder::builder().build().await?;
    /// let options = RedisOptions::parse("redis://127.0.0.1:6379")?;
    /// let following = larder.follow(RedisStream::new(options, "market", "larder")?);
    /// println!("{:?}", following.stats());
    /// # Ok(()) }
    /// ```
    pub fn new(options: RedisOptions, stream: impl Into<String>, group: impl Into<String>) -> Result<Self> {
        let (stream, group) = (stream.into(), group.into());
        let bad = |why: String| Err(Error::new(ErrorKind::InvalidConfig, why));
        if [&stream, &group].iter().any(|name| name.is_empty() || name.len() > NAME_LEN_MAX) {
            return bad(format!("the names of a stream and of its group have 1 to {NAME_LEN_MAX} bytes"));
        }
        if matches!(options.topology, Topology::Cluster(_)) {
            return bad("a stream of events is read from the server that has it: give its address, not the cluster's".to_owned());
        }
        let lease = format!("{{{stream}}}:larder:{group}").into_bytes();
        let consumer = options.instance.clone().unwrap_or_else(|| format!("{CONSUMER}{:016x}", fastrand::u64(..)));
        Ok(RedisStream { link: Link::new(options), stream, group, lease, consumer, open: None })
    }

    fn opened(&mut self) -> Result<&mut Open> {
        self.open.as_mut().ok_or_else(|| Error::of_tier("the stream is not open"))
    }
}

/// Whether a server has on its disk what it has answered for.
async fn restarts_lose_nothing(connection: &mut MultiplexedConnection) -> bool {
    for (name, needed) in [("appendonly", "yes"), ("appendfsync", "always")] {
        let mut ask = cmd("CONFIG");
        ask.arg("GET").arg(name);
        // Who may not ask does not know.
        let Ok(answer) = query(connection, &ask).await else { return false };
        let Ok(fields) = reply::fields(answer, name) else { return false };
        if !fields.into_iter().any(|(_, value)| reply::text(value, name).is_ok_and(|value| value == needed)) {
            return false;
        }
    }
    true
}

impl Source for RedisStream {
    type Token = String;

    fn name(&self) -> String {
        format!("redis-stream {} as {}", self.stream, self.group)
    }

    async fn open(&mut self) -> Result<()> {
        self.open = None;
        let info = self.link.find().await?;
        let mut commands = self.link.connect(&info, self.link.options.operation_timeout).await?;
        let about = About::of(&mut commands).await?;
        let waker = self.link.connect(&info, WAIT + self.link.options.operation_timeout).await?;
        if About::of(&mut waker.clone()).await?.identity != about.identity {
            return Err(Error::of_tier("Redis changed while the connections were opened"));
        }
        let restarts_lose_nothing = restarts_lose_nothing(&mut commands).await;
        self.open = Some(Open {
            commands,
            waker,
            waiting: None,
            identity: about.identity,
            restarts_lose_nothing,
            claiming: Some("0-0".to_owned()),
            claimed_at: Instant::now(),
            read_to: "0-0".to_owned(),
            standby: None,
        });
        Ok(())
    }

    async fn fetch(&mut self, max: usize) -> Result<Fetched<String>> {
        const WHAT: &str = "a stream of events";
        loop {
            let mut call = script::call(&script::FETCH, 2);
            call.arg(&self.stream)
                .arg(&self.lease)
                .arg(&self.group)
                .arg(&self.consumer)
                .arg(max.min(READ_MAX))
                .arg(LEASE.as_millis() as u64);
            let open = self.opened()?;
            if open.claiming.is_none() && open.claimed_at.elapsed() > ABANDONED_AFTER {
                open.claiming = Some("0-0".to_owned());
            }
            // On opening, all that is not acknowledged: who has read it has no lease any more.
            let abandoned_after = if open.claimed_at.elapsed() > ABANDONED_AFTER { ABANDONED_AFTER } else { Duration::ZERO };
            call.arg(&open.identity).arg(u8::from(open.restarts_lose_nothing)).arg(open.claiming.as_deref().unwrap_or_default());
            call.arg(abandoned_after.as_millis() as u64);
            let mut parts = reply::list(script::run(&mut open.commands, &call).await.map_err(failed)?, WHAT)?.into_iter();
            let mut next = || parts.next().ok_or_else(|| reply::unexpected(WHAT));
            match reply::text(next()?, WHAT)?.as_str() {
                "standby" => {
                    open.standby = Some(Duration::from_millis(reply::number(next()?, WHAT)?));
                    return Ok(Fetched::Standby);
                }
                "gap" => return Ok(Fetched::Gap(reply::text(next()?, WHAT)?)),
                "old" => {
                    return Err(Error::new(ErrorKind::Tier, "streams of events need Redis 7 or Valkey: older ones do not tell of gaps"));
                }
                "ok" => {}
                _ => return Err(reply::unexpected(WHAT)),
            }
            let (taken_over, cursor, read_to) = (reply::number(next()?, WHAT)?, reply::text(next()?, WHAT)?, reply::text(next()?, WHAT)?);
            let entries = reply::list(next()?, WHAT)?;
            open.standby = None;
            open.read_to = read_to;
            // Without a cursor it has read what is new. With the first one it was at the end of what there is to claim.
            let has_claimed = !cursor.is_empty();
            if taken_over == 1 || cursor == "0-0" {
                open.claimed_at = Instant::now();
            }
            open.claiming = Some(cursor).filter(|cursor| has_claimed && cursor != "0-0");
            let deliveries = deliveries(entries)?;
            if !deliveries.is_empty() || !has_claimed {
                return Ok(Fetched::Deliveries(deliveries));
            }
        }
    }

    async fn resume(&mut self) -> Result<()> {
        let mut call = script::call(&script::RESUME, 2);
        call.arg(&self.stream).arg(&self.lease).arg(&self.group).arg(&self.consumer);
        let open = self.opened()?;
        call.arg(&open.identity);
        // Where the lease is another's by now, the next fetch says so.
        script::run(&mut open.commands, &call).await.map(drop).map_err(failed)
    }

    async fn wait(&mut self) -> Result<()> {
        let (stream, open) = (self.stream.clone(), self.opened()?);
        if let Some(standby) = open.standby {
            tokio::time::sleep(standby.clamp(Duration::from_millis(50), MOMENT)).await;
            return Ok(());
        }
        let waiting = open.waiting.get_or_insert_with(|| {
            let (mut waker, read_to) = (open.waker.clone(), open.read_to.clone());
            Box::pin(async move {
                let mut read = cmd("XREAD");
                read.arg("COUNT").arg(1).arg("BLOCK").arg(WAIT.as_millis() as u64).arg("STREAMS").arg(stream).arg(read_to);
                waker.send_packed_command(&read).await.and_then(Value::extract_error)
            })
        });
        let outcome = waiting.as_mut().await;
        open.waiting = None;
        outcome.map(drop).map_err(failed)
    }

    async fn acknowledge(&mut self, done: &[String]) -> Result<()> {
        let mut acknowledge = cmd("XACK");
        acknowledge.arg(&self.stream).arg(&self.group).arg(done);
        query(&mut self.opened()?.commands, &acknowledge).await.map(drop)
    }

    async fn close(&mut self) {
        let mut release = cmd("EVAL");
        release.arg(RELEASE).arg(1).arg(&self.lease).arg(&self.consumer);
        if let Some(open) = &mut self.open {
            // Otherwise it runs out.
            drop(tokio::time::timeout(MOMENT, query(&mut open.commands, &release)).await);
        }
    }
}

/// What was read.
fn deliveries(entries: Vec<Value>) -> Result<Vec<Delivery<String>>> {
    let delivery = |entry| {
        let [id, fields] = reply::exactly(entry, "a message")?;
        Ok(Delivery { token: reply::text(id, "an id")?, text: text_of(reply::fields(fields, "a message")?)?, partition: None })
    };
    entries.into_iter().map(delivery).collect()
}

/// The event of a message; or, where it has none, what it has, for whoever reads the dead letter.
fn text_of(fields: Vec<(Vec<u8>, Value)>) -> Result<Vec<u8>> {
    let mut all = Vec::new();
    for (name, value) in fields {
        let value = reply::bytes(value, "a message")?;
        if name == b"event" {
            return Ok(value);
        }
        all.extend_from_slice(&[&name[..], b" ", &value, b"\n"].concat());
    }
    Ok(all)
}
