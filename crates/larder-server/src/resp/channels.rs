//! Channels: who listens to what, and what is said there.
//!
//! Larder itself speaks on the channels that Redis has for what becomes of keys: `__keyspace@0__:KEY` with the event as the message, and
//! `__keyevent@0__:EVENT` with the key. The events are `set` and `del` for what was changed by name, `expired`, `evicted` and
//! `invalidated`. Messages are not kept for who does not listen, and one who does not take them in time is cut off.

use std::collections::{BTreeSet, HashMap};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use foldhash::fast::RandomState;
use parking_lot::Mutex;

use super::Resp;
use super::access::may_hear;
use super::clients::Client;
use super::commands::{Call, Done, Refusal};
use super::glob;
use super::reply::{Protocol, Replies};
use super::session::Session;

/// Channels and patterns that a connection listens to at most.
const LISTENED_MAX: usize = 16_384;

/// The longest name of one.
const NAME_BYTES_MAX: usize = 4_096;

/// What is listened to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// One channel.
    Channel,
    /// All that match.
    Pattern,
}

type Listeners = HashMap<Vec<u8>, BTreeSet<u64>, RandomState>;

/// See the head of this file.
#[derive(Debug, Default)]
pub struct Channels {
    by_name: Mutex<Listeners>,
    by_pattern: Mutex<Listeners>,
    /// Channels and patterns that somebody listens to: while there is none, nothing is looked for.
    listened: AtomicUsize,
}

impl Channels {
    fn of(&self, kind: Kind) -> &Mutex<Listeners> {
        match kind {
            Kind::Channel => &self.by_name,
            Kind::Pattern => &self.by_pattern,
        }
    }

    fn add(&self, kind: Kind, name: &[u8], client: u64) {
        let mut all = self.of(kind).lock();
        let listeners = all.entry(name.to_vec()).or_default();
        if listeners.is_empty() {
            self.listened.fetch_add(1, Relaxed);
        }
        listeners.insert(client);
    }

    fn remove(&self, kind: Kind, name: &[u8], client: u64) {
        let mut all = self.of(kind).lock();
        if let Some(listeners) = all.get_mut(name) {
            listeners.remove(&client);
            if listeners.is_empty() {
                all.remove(name);
                self.listened.fetch_sub(1, Relaxed);
            }
        }
    }

    /// Whether anybody listens to anything.
    pub fn is_listened(&self) -> bool {
        self.listened.load(Relaxed) > 0
    }
}

/// Says something on a channel. Returns how many heard it, who listens twice twice.
pub fn say(resp: &Resp, channel: &[u8], message: &[u8]) -> usize {
    let named: Vec<u64> = resp.channels.by_name.lock().get(channel).into_iter().flatten().copied().collect();
    let matching: Vec<(Vec<u8>, u64)> = {
        let all = resp.channels.by_pattern.lock();
        let matching = all.iter().filter(|(pattern, _)| glob::matches(pattern, channel));
        matching.flat_map(|(pattern, clients)| clients.iter().map(|client| (pattern.clone(), *client))).collect()
    };
    let heard = named.len() + matching.len();
    let heard_by = |id: u64| resp.clients.get(id).filter(|client| may_hear(resp, client, channel, message));
    for client in named.into_iter().filter_map(heard_by) {
        tell(resp, &client, &[b"message", channel, message]);
    }
    for (pattern, id) in matching {
        if let Some(client) = heard_by(id) {
            tell(resp, &client, &[b"pmessage", &pattern, channel, message]);
        }
    }
    heard
}

fn tell(resp: &Resp, client: &Client, parts: &[&[u8]]) {
    send(resp, client, |out| {
        out.push(parts.len());
        parts.iter().for_each(|part| out.bulk(part));
    });
}

/// Sends a client a message in the version of the protocol that it speaks.
pub fn send(resp: &Resp, client: &Client, write: impl FnOnce(&mut Replies)) {
    let protocol = if client.protocol.load(Relaxed) == 3 { Protocol::Resp3 } else { Protocol::Resp2 };
    client.send(resp.limits.messages_bytes_max, |waiting| {
        let mut out = Replies::new(protocol);
        out.give(std::mem::take(waiting));
        write(&mut out);
        *waiting = out.take();
    });
}

/// What becomes of a key is said on its two channels.
pub fn event(resp: &Resp, event: &str, key: &[u8]) {
    if resp.channels.is_listened() {
        say(resp, &[b"__keyspace@0__:", key].concat(), event.as_bytes());
        say(resp, &[b"__keyevent@0__:", event.as_bytes()].concat(), key);
    }
}

fn own(session: &mut Session, kind: Kind) -> &mut BTreeSet<Vec<u8>> {
    match kind {
        Kind::Channel => &mut session.channels,
        Kind::Pattern => &mut session.patterns,
    }
}

fn count(session: &Session) -> usize {
    let [channels, patterns] = [session.channels.len(), session.patterns.len()];
    session.client.channels.store(channels, Relaxed);
    session.client.patterns.store(patterns, Relaxed);
    channels + patterns
}

/// `SUBSCRIBE channel [channel ...]`, `PSUBSCRIBE pattern [pattern ...]`
pub fn subscribe(call: &mut Call<'_>, kind: Kind) -> Done {
    super::tracking::hear(call.resp);
    let word: &[u8] = if kind == Kind::Channel { b"subscribe" } else { b"psubscribe" };
    for name in call.args.skip(1).iter() {
        if call.session.channels.len() + call.session.patterns.len() >= LISTENED_MAX || name.len() > NAME_BYTES_MAX {
            let why = format!("ERR a connection listens to {LISTENED_MAX} channels and patterns of {NAME_BYTES_MAX} bytes at most");
            return Err(Refusal::of(why));
        }
        if own(call.session, kind).insert(name.to_vec()) {
            call.resp.channels.add(kind, name, call.session.client.id);
        }
        let count = count(call.session);
        confirm(call, word, Some(name), count);
    }
    Ok(())
}

/// `UNSUBSCRIBE [channel ...]`, `PUNSUBSCRIBE [pattern ...]`: all of them, where none is named
pub fn unsubscribe(call: &mut Call<'_>, kind: Kind) -> Done {
    let word: &[u8] = if kind == Kind::Channel { b"unsubscribe" } else { b"punsubscribe" };
    let names: Vec<Vec<u8>> = if call.args.len() > 1 {
        call.args.skip(1).iter().map(<[u8]>::to_vec).collect()
    } else {
        own(call.session, kind).iter().cloned().collect()
    };
    if names.is_empty() {
        let count = count(call.session);
        confirm(call, word, None, count);
    }
    for name in names {
        if own(call.session, kind).remove(&name) {
            call.resp.channels.remove(kind, &name, call.session.client.id);
        }
        let count = count(call.session);
        confirm(call, word, Some(&name), count);
    }
    Ok(())
}

fn confirm(call: &mut Call<'_>, word: &[u8], name: Option<&[u8]>, count: usize) {
    call.out.push(3);
    call.out.bulk(word);
    match name {
        Some(name) => call.out.bulk(name),
        None => call.out.null(),
    }
    call.out.count(count);
}

/// `PUBLISH channel message`
pub fn publish(call: &mut Call<'_>) -> Done {
    let heard = say(call.resp, call.args.at(1), call.args.at(2));
    call.out.count(heard);
    Ok(())
}

/// `PUBSUB CHANNELS [pattern]`
pub fn list(call: &mut Call<'_>) -> Done {
    let pattern = (call.args.len() > 2).then(|| call.args.at(2));
    let mut names: Vec<Vec<u8>> = call.resp.channels.by_name.lock().keys().cloned().collect();
    names.retain(|name| pattern.is_none_or(|pattern| glob::matches(pattern, name)));
    names.retain(|name| call.may_read(super::access::key_told_on(name)));
    call.out.array(names.len());
    names.iter().for_each(|name| call.out.bulk(name));
    Ok(())
}

/// `PUBSUB NUMPAT`
pub fn count_patterns(call: &mut Call<'_>) -> Done {
    let patterns = call.resp.channels.by_pattern.lock().len();
    call.out.count(patterns);
    Ok(())
}

/// `PUBSUB NUMSUB [channel ...]`
pub fn count_listeners(call: &mut Call<'_>) -> Done {
    let names = call.args.skip(2);
    call.out.map(names.len());
    for name in names.iter() {
        let count = call.resp.channels.by_name.lock().get(name).map_or(0, BTreeSet::len);
        call.out.bulk(name);
        call.out.count(count);
    }
    Ok(())
}

/// A connection listens no more.
pub fn forget(resp: &Resp, session: &mut Session) {
    for kind in [Kind::Channel, Kind::Pattern] {
        for name in std::mem::take(own(session, kind)) {
            resp.channels.remove(kind, &name, session.client.id);
        }
    }
    count(session);
}
