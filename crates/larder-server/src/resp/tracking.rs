//! Tracking: a client that keeps what it read is told when that changes, so that its own near cache stays right (`CLIENT TRACKING`).
//!
//! ```text
//!   GET k         -> who read it, and a witness of the entry as it was, are put down; then looked at again: changed since? -> told
//!   a notice      -> by name: who read that key is told
//!   of a change      by tag, pattern, namespace: who read a key whose witness does not hold any more
//!                    all, or notices were lost: everybody is told to forget everything
//! ```
//!
//! What a client is told comes behind the reply to what it asked before, as all that is pushed waits until the replies are written: a
//! value can be old when it arrives, but then it is followed by the word that it is.
//!
//! A broadcast (`BCAST`) puts nothing down: who asked for it is told of every changed key that begins as it said, and to forget
//! everything when a tag or a pattern changed, whose keys nobody knows.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use bytes::Bytes;
use foldhash::fast::RandomState;
use larder::{Answer, FillToken, NOTICES_MAX, Notice, Noticed, Witness};
use parking_lot::Mutex;

use super::Resp;
use super::channels;
use super::commands::{Call, Done, Refusal, SYNTAX, keys_of};
use super::frame::Args;
use super::session::Session;
use super::table::{Command, Flag, Run};

/// How a client is tracked.
#[derive(Clone, Debug, Default)]
pub struct Tracked {
    /// What it is told of begins with one of these; empty where it is not a broadcast.
    prefixes: Vec<Vec<u8>>,
    is_broadcast: bool,
    /// What it reads is put down only after `CLIENT CACHING YES`.
    opts_in: bool,
    /// What it reads is put down unless after `CLIENT CACHING NO`.
    opts_out: bool,
    /// It is not told of its own changes.
    no_loop: bool,
    /// What `CLIENT CACHING` said for the next command.
    said: Option<bool>,
    /// Keys that the command under way may change, and has not yet.
    began: Vec<Box<[u8]>>,
}

impl Tracked {
    fn puts_down(&self) -> bool {
        !self.is_broadcast && if self.opts_in { self.said == Some(true) } else { self.said != Some(false) }
    }
}

/// By client and key.
type Own = HashMap<(u64, Box<[u8]>), u32>;

/// Who read what.
#[derive(Debug, Default)]
pub struct Tracking {
    keys: Mutex<HashMap<Box<[u8]>, Reads, RandomState>>,
    /// Clients by what they want to be told of.
    broadcasts: Mutex<BTreeMap<Vec<u8>, HashSet<u64>>>,
    /// Keys that a client is changing itself and does not want to be told of, and how often.
    own: Mutex<Own>,
    /// All who are tracked.
    clients: Mutex<HashSet<u64>>,
    is_heard: AtomicBool,
}

#[derive(Debug, Default)]
struct Reads {
    clients: HashSet<u64, RandomState>,
    /// Of the entry as it was read; none where there was none.
    witness: Option<Witness>,
}

/// Begins to hear what changes, once somebody wants to know.
pub fn hear(resp: &Arc<Resp>) {
    if resp.tracking.is_heard.swap(true, Relaxed) {
        return;
    }
    let mut notices = resp.larder.notices(NOTICES_MAX);
    // Ends with the server: it holds nothing that would keep that from ending.
    let (runtime, resp) = (resp.runtime().clone(), Arc::downgrade(resp));
    runtime.spawn(async move {
        while let Some(notice) = notices.next().await {
            let Some(resp) = resp.upgrade() else { return };
            heard(&resp, notice);
        }
    });
}

fn heard(resp: &Resp, notice: Notice) {
    match notice {
        Notice::Invalidated { names, put, .. } => {
            let mut others = false;
            for name in names.iter() {
                match name {
                    Noticed::Key(key) => {
                        changed(resp, key);
                        channels::event(resp, if put == Some(true) { "set" } else { "del" }, key);
                    }
                    Noticed::Everything => return forget_everything(resp),
                    _ => others = true,
                }
            }
            if others {
                look_again(resp);
            }
        }
        Notice::Expired(key) => left(resp, "expired", &key),
        Notice::Evicted(key) => left(resp, "evicted", &key),
        Notice::Removed(key) => channels::event(resp, "invalidated", &key),
        // What else there may be, too: to be told too much costs a read.
        _ => forget_everything(resp),
    }
}

fn left(resp: &Resp, event: &str, key: &[u8]) {
    changed(resp, key);
    channels::event(resp, event, key);
}

/// A key is not what it was: who read it is told, and put down no more.
fn changed(resp: &Resp, key: &[u8]) {
    let reads = resp.tracking.keys.lock().remove(key);
    let broadcast: HashSet<u64> = {
        let broadcasts = resp.tracking.broadcasts.lock();
        broadcasts.iter().filter(|(prefix, _)| key.starts_with(prefix)).flat_map(|(_, clients)| clients).copied().collect()
    };
    for client in reads.iter().flat_map(|reads| &reads.clients).copied().chain(broadcast) {
        if !is_own(resp, client, key) {
            tell(resp, client, Some(key));
        }
    }
}

/// Whether it is a client's own change, which is then taken off the list.
fn is_own(resp: &Resp, client: u64, key: &[u8]) -> bool {
    let mut own = resp.tracking.own.lock();
    if own.is_empty() {
        return false;
    }
    take_off(&mut own, client, key)
}

fn take_off(own: &mut Own, client: u64, key: &[u8]) -> bool {
    let place = (client, Box::from(key));
    let Some(times) = own.get_mut(&place) else { return false };
    *times -= 1;
    if *times == 0 {
        own.remove(&place);
    }
    true
}

/// Something other than a key was invalidated: whose witness does not hold any more is told.
fn look_again(resp: &Resp) {
    let gone: Vec<(Box<[u8]>, Reads)> = {
        let mut keys = resp.tracking.keys.lock();
        let is_gone = |key: &[u8], reads: &Reads| reads.witness.as_ref().is_some_and(|witness| !resp.larder.is_current(key, witness));
        keys.extract_if(|key, reads| is_gone(key, reads)).collect()
    };
    for (key, reads) in gone {
        reads.clients.iter().for_each(|client| tell(resp, *client, Some(&key)));
    }
    let broadcast: HashSet<u64> = resp.tracking.broadcasts.lock().values().flatten().copied().collect();
    broadcast.into_iter().for_each(|client| tell(resp, client, None));
}

fn forget_everything(resp: &Resp) {
    resp.tracking.keys.lock().clear();
    resp.tracking.own.lock().clear();
    let clients: Vec<u64> = resp.tracking.clients.lock().iter().copied().collect();
    clients.into_iter().for_each(|client| tell(resp, client, None));
}

/// Tells a client that a key changed, or everything. One that speaks version 2 cannot be told anything that it did not ask for.
fn tell(resp: &Resp, client: u64, key: Option<&[u8]>) {
    let Some(client) = resp.clients.get(client).filter(|client| client.protocol.load(Relaxed) == 3) else { return };
    channels::send(resp, &client, |out| {
        out.push(2);
        out.bulk(b"invalidate");
        match key {
            Some(key) => {
                out.array(1);
                out.bulk(key);
            }
            None => out.null(),
        }
    });
}

/// A client has read a key: it is put down, if it wants to be told when that changes.
pub fn has_read(call: &mut Call<'_>, key: &[u8], answer: Option<&Answer<Bytes>>, since: FillToken) {
    let Some(tracked) = &call.session.tracked else { return };
    if !tracked.puts_down() {
        return;
    }
    let (resp, id) = (call.resp, call.session.client.id);
    let witness = answer.map(Answer::witness);
    let put_down = {
        let mut keys = resp.tracking.keys.lock();
        if keys.len() >= resp.limits.tracked_keys_max && !keys.contains_key(key) {
            None
        } else {
            let reads = keys.entry(key.into()).or_default();
            reads.clients.insert(id);
            if witness.is_some() {
                reads.witness.clone_from(&witness);
            }
            Some(())
        }
    };
    // Looked at again behind the putting down: what changed before was not told to this client, and what changes from now on will be.
    let is_current = match &witness {
        Some(witness) => resp.larder.is_current(key, witness),
        None => resp.raw.is_unchanged_since(key, since),
    };
    if put_down.is_none() || !is_current {
        // Where there is no room to put it down, the client is not to keep it.
        tell(resp, id, Some(key));
    }
}

/// A client that is tracked begins a command.
pub fn begins(resp: &Resp, session: &mut Session, command: &Command, args: Args<'_>) {
    let Some(tracked) = session.tracked.as_mut().filter(|tracked| tracked.no_loop && command.is(Flag::Write)) else { return };
    let mut own = resp.tracking.own.lock();
    for key in keys_of(command, args) {
        if !tracked.began.iter().any(|began| **began == *key) {
            *own.entry((session.client.id, key.into())).or_default() += 1;
            tracked.began.push(key.into());
        }
    }
}

/// It has changed a key: the notice of that takes its own change off the list.
pub fn has_written(call: &mut Call<'_>, key: &[u8]) {
    if let Some(tracked) = &mut call.session.tracked {
        tracked.began.retain(|began| **began != *key);
    }
}

/// It has ended a command. Keys that it left as they are will bring no notice, which is then somebody else's.
pub fn has_ended(resp: &Resp, session: &mut Session, command: &Command) {
    let id = session.client.id;
    let Some(tracked) = &mut session.tracked else { return };
    if command.run != Run::ClientCaching {
        tracked.said = None;
    }
    for key in tracked.began.drain(..) {
        take_off(&mut resp.tracking.own.lock(), id, &key);
    }
}

/// `CLIENT CACHING YES | NO`
pub fn caching(call: &mut Call<'_>, is_yes: bool) -> Done {
    let Some(tracked) = call.session.tracked.as_mut().filter(|tracked| tracked.opts_in || tracked.opts_out) else {
        return Err(Refusal::new(
            "ERR CLIENT CACHING can be called only when the client is in tracking mode with OPTIN or OPTOUT mode enabled",
        ));
    };
    if is_yes && !tracked.opts_in {
        return Err(Refusal::new("ERR CLIENT CACHING YES is only valid when tracking is enabled in OPTIN mode."));
    }
    if !is_yes && !tracked.opts_out {
        return Err(Refusal::new("ERR CLIENT CACHING NO is only valid when tracking is enabled in OPTOUT mode."));
    }
    tracked.said = Some(is_yes);
    call.out.ok();
    Ok(())
}

/// `CLIENT TRACKING ON | OFF [BCAST] [PREFIX prefix ...] [OPTIN] [OPTOUT] [NOLOOP]`
pub fn switch(call: &mut Call<'_>) -> Done {
    let is_on = if call.is(2, "ON") {
        true
    } else if call.is(2, "OFF") {
        false
    } else {
        return Err(SYNTAX);
    };
    let mut tracked = Tracked::default();
    let mut at = 3;
    while at < call.args.len() {
        if call.is(at, "BCAST") {
            tracked.is_broadcast = true;
        } else if call.is(at, "OPTIN") {
            tracked.opts_in = true;
        } else if call.is(at, "OPTOUT") {
            tracked.opts_out = true;
        } else if call.is(at, "NOLOOP") {
            tracked.no_loop = true;
        } else if call.is(at, "PREFIX") && at + 1 < call.args.len() {
            tracked.prefixes.push(call.args.at(at + 1).to_vec());
            at += 1;
        } else if call.is(at, "REDIRECT") && at + 1 < call.args.len() {
            return Err(Refusal::new(
                "ERR REDIRECT is not offered: speak version 3 of the protocol (HELLO 3), where the connection itself is told",
            ));
        } else {
            return Err(SYNTAX);
        }
        at += 1;
    }
    check(call, is_on, &tracked)?;
    forget(call.resp, call.session);
    if is_on {
        let id = call.session.client.id;
        hear(call.resp);
        call.resp.tracking.clients.lock().insert(id);
        if tracked.is_broadcast {
            if tracked.prefixes.is_empty() {
                tracked.prefixes.push(Vec::new());
            }
            let mut broadcasts = call.resp.tracking.broadcasts.lock();
            for prefix in &tracked.prefixes {
                broadcasts.entry(prefix.clone()).or_default().insert(id);
            }
        }
        call.session.tracked = Some(tracked);
        call.session.client.is_tracked.store(true, Relaxed);
    }
    call.out.ok();
    Ok(())
}

fn check(call: &Call<'_>, is_on: bool, tracked: &Tracked) -> Done {
    if !is_on {
        return Ok(());
    }
    if !tracked.prefixes.is_empty() && !tracked.is_broadcast {
        return Err(Refusal::new("ERR PREFIX option requires BCAST mode to be enabled"));
    }
    if let Some(before) = &call.session.tracked
        && before.is_broadcast != tracked.is_broadcast
    {
        return Err(Refusal::new(
            "ERR You can't switch BCAST mode on/off before disabling tracking for this client, and then re-enabling it with a different mode.",
        ));
    }
    if tracked.is_broadcast && (tracked.opts_in || tracked.opts_out) {
        return Err(Refusal::new("ERR OPTIN and OPTOUT are not compatible with BCAST"));
    }
    if tracked.opts_in && tracked.opts_out {
        return Err(Refusal::new("ERR You can't use both OPTIN and OPTOUT at the same time"));
    }
    for (at, prefix) in tracked.prefixes.iter().enumerate() {
        let overlaps = |other: &&Vec<u8>| other.starts_with(prefix) || prefix.starts_with(other);
        if let Some(other) = tracked.prefixes[..at].iter().find(overlaps) {
            let (a, b) = (prefix.as_slice(), other.as_slice());
            return Err(Refusal::of(
                [b"ERR Prefix '", a, b"' overlaps with an existing prefix '", b, b"'. Prefixes for a single client must not overlap."]
                    .concat(),
            ));
        }
    }
    Ok(())
}

/// `CLIENT TRACKINGINFO`
pub fn info(call: &mut Call<'_>) -> Done {
    let tracked = call.session.tracked.clone();
    let flags: Vec<&str> = match &tracked {
        None => vec!["off"],
        Some(tracked) => {
            let on = [
                (true, "on"),
                (tracked.is_broadcast, "bcast"),
                (tracked.opts_in, "optin"),
                (tracked.opts_out, "optout"),
                (tracked.said == Some(true), "caching-yes"),
                (tracked.said == Some(false), "caching-no"),
                (tracked.no_loop, "noloop"),
            ];
            on.into_iter().filter(|(is_on, _)| *is_on).map(|(_, flag)| flag).collect()
        }
    };
    call.out.map(3);
    call.out.bulk(b"flags");
    call.out.set(flags.len());
    flags.iter().for_each(|flag| call.out.bulk(flag.as_bytes()));
    call.out.bulk(b"redirect");
    call.out.integer(if tracked.is_some() { 0 } else { -1 });
    let prefixes = tracked.map(|tracked| tracked.prefixes).unwrap_or_default();
    call.out.bulk(b"prefixes");
    call.out.array(prefixes.len());
    prefixes.iter().for_each(|prefix| call.out.bulk(prefix));
    Ok(())
}

/// A client is tracked no more. What it read stays put down until it changes; nobody is told then.
pub fn forget(resp: &Resp, session: &mut Session) {
    let Some(tracked) = session.tracked.take() else { return };
    let id = session.client.id;
    session.client.is_tracked.store(false, Relaxed);
    resp.tracking.clients.lock().remove(&id);
    let mut broadcasts = resp.tracking.broadcasts.lock();
    for prefix in &tracked.prefixes {
        if let Some(clients) = broadcasts.get_mut(prefix) {
            clients.remove(&id);
            if clients.is_empty() {
                broadcasts.remove(prefix);
            }
        }
    }
    drop(broadcasts);
    resp.tracking.own.lock().retain(|(client, _), _| *client != id);
}
