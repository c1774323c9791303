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
//!
//! A client that wants no echo (`NOLOOP`) is not told of what it changes itself. While a command of it that may change a key is under way,
//! notices of that key wait; then it is known at which position the change stands, if there was one, and all others are told.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::hash::BuildHasher;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use bytes::Bytes;
use foldhash::fast::RandomState;
use larder::{Answer, FillToken, NOTICES_MAX, Notice, Noticed, Position, Receipt, Witness};
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
    began: HashSet<Box<[u8]>>,
}

impl Tracked {
    fn puts_down(&self) -> bool {
        !self.is_broadcast && if self.opts_in { self.said == Some(true) } else { self.said != Some(false) }
    }
}

/// Locks that what was read is spread over: an invalidation by tag looks at all of it, and holds up reads of one part at a time.
const SHARDS: usize = 64;

/// Clients of one key after which those that are gone are looked for.
const CLIENTS_MANY: usize = 256;

/// Notices that are taken at once.
const AT_ONCE: usize = 1_024;

/// Prefixes of a connection's broadcast at most.
const PREFIXES_MAX: usize = 1_024;

/// How often what was read is looked through for what has expired: what only the backing tier had, is not told by anybody.
const EXPIRED_EVERY: Duration = Duration::from_secs(1);

/// Who read what.
#[derive(Debug)]
pub struct Tracking {
    keys: Box<[Mutex<Keys>]>,
    /// How many keys those are.
    count: AtomicUsize,
    /// Clients by what they want to be told of.
    broadcasts: Mutex<BTreeMap<Vec<u8>, HashSet<u64>>>,
    /// What clients that want no echo are changing, and have changed.
    own: Mutex<Own>,
    /// All who are tracked.
    clients: Mutex<HashSet<u64>>,
    is_heard: Mutex<bool>,
}

type Keys = HashMap<Box<[u8]>, Reads, RandomState>;

#[derive(Debug, Default)]
struct Reads {
    clients: HashSet<u64, RandomState>,
    /// Of the entry as it was read; none where there was none.
    witness: Option<Witness>,
    expires_at: Option<u64>,
}

/// Where changes stand, as far as that is known.
type Positions = Vec<Option<Position>>;

/// See the head of this file.
#[derive(Debug, Default)]
struct Own {
    /// By key: whose command is under way, and the notices that wait for its end.
    under_way: HashMap<Box<[u8]>, Vec<(u64, Positions)>>,
    /// By key: whose changes stand where, of which the notice is yet to come.
    made: HashMap<Box<[u8]>, Vec<(u64, Position)>>,
}

impl Own {
    /// A command of a client that may have changed a key is over: the notices that waited for it.
    fn ends(&mut self, client: u64, key: &[u8]) -> Positions {
        let Some(all) = self.under_way.get_mut(key) else { return Vec::new() };
        let waited = all.iter().position(|(other, _)| *other == client).map(|at| all.swap_remove(at).1);
        if all.is_empty() {
            self.under_way.remove(key);
        }
        waited.unwrap_or_default()
    }
}

impl Default for Tracking {
    fn default() -> Self {
        Tracking {
            keys: (0..SHARDS).map(|_| Mutex::default()).collect(),
            count: 0.into(),
            broadcasts: Mutex::default(),
            own: Mutex::default(),
            clients: Mutex::default(),
            is_heard: Mutex::default(),
        }
    }
}

impl Tracking {
    fn shard(&self, key: &[u8]) -> &Mutex<Keys> {
        &self.keys[foldhash::fast::FixedState::with_seed(0x7a2c).hash_one(key) as usize % SHARDS]
    }

    fn remove(&self, key: &[u8]) -> Option<Reads> {
        let reads = self.shard(key).lock().remove(key);
        self.count.fetch_sub(reads.is_some().into(), Relaxed);
        reads
    }

    /// Takes out what is gone, a part at a time.
    fn take(&self, is_gone: impl Fn(&[u8], &Reads) -> bool) -> Vec<(Box<[u8]>, Reads)> {
        let mut gone = Vec::new();
        for shard in &self.keys {
            gone.extend(shard.lock().extract_if(|key, reads| is_gone(key, reads)));
        }
        self.count.fetch_sub(gone.len(), Relaxed);
        gone
    }

    /// Whether a notice is of a client's own change, or waits until that is known.
    fn is_own(&self, client: u64, key: &[u8], position: Option<Position>) -> bool {
        let mut own = self.own.lock();
        // Before what is under way: the notice of a change may come while the client's next command of the same key runs, and is not its.
        if own.made.get(key).is_some_and(|made| made.iter().any(|(other, at)| *other == client && Some(*at) == position)) {
            return true;
        }
        let waiting = own.under_way.get_mut(key).and_then(|all| all.iter_mut().find(|(other, _)| *other == client));
        waiting.map(|(_, waiting)| waiting.push(position)).is_some()
    }
}

/// Begins to hear what changes, once somebody wants to know. When this returns it is heard.
pub fn hear(resp: &Arc<Resp>) {
    let mut is_heard = resp.tracking.is_heard.lock();
    if std::mem::replace(&mut *is_heard, true) {
        return;
    }
    let mut notices = resp.larder.notices(NOTICES_MAX);
    // They end with the server: they hold nothing that would keep that from ending.
    let (runtime, weak) = (resp.runtime().clone(), Arc::downgrade(resp));
    runtime.spawn(async move {
        while let Some(first) = notices.next().await {
            let Some(resp) = weak.upgrade() else { return };
            // One look at all that was read for as many tags and patterns as there are by now.
            let mut others = heard(&resp, first);
            for _ in 0..AT_ONCE {
                let Some(notice) = notices.try_next() else { break };
                others |= heard(&resp, notice);
            }
            if others {
                look_again(&resp);
            }
            tokio::task::yield_now().await;
        }
    });
    let weak = Arc::downgrade(resp);
    runtime.spawn(async move {
        let mut every = tokio::time::interval(EXPIRED_EVERY);
        loop {
            every.tick().await;
            let Some(resp) = weak.upgrade() else { return };
            let now = resp.now_ms();
            let alive = resp.tracking.clients.lock().clone();
            let is_over = |reads: &Reads| reads.expires_at.is_some_and(|at| at <= now);
            let gone = resp.tracking.take(|_, reads| is_over(reads) || reads.clients.iter().all(|client| !alive.contains(client)));
            tell_all(&resp, gone);
        }
    });
}

/// Tells who is to be told of a notice. Returns whether what was read has to be looked at again.
fn heard(resp: &Resp, notice: Notice) -> bool {
    let mut others = false;
    match notice {
        Notice::Invalidated { names, put, position } => {
            for name in names.iter() {
                match name {
                    Noticed::Key(key) => {
                        changed(resp, key, position);
                        channels::event(resp, if put == Some(true) { "set" } else { "del" }, key);
                    }
                    Noticed::Everything => forget_everything(resp),
                    _ => others = true,
                }
            }
        }
        Notice::Expired(key) => left(resp, "expired", &key),
        Notice::Evicted(key) => left(resp, "evicted", &key),
        Notice::Removed(key) => channels::event(resp, "invalidated", &key),
        // What else there may be, too: to be told too much costs a read.
        _ => forget_everything(resp),
    }
    others
}

fn left(resp: &Resp, event: &str, key: &[u8]) {
    changed(resp, key, None);
    channels::event(resp, event, key);
}

/// A key is not what it was: who read it is told, and put down no more.
fn changed(resp: &Resp, key: &[u8], position: Option<Position>) {
    let reads = resp.tracking.remove(key);
    let broadcast: HashSet<u64> = {
        let broadcasts = resp.tracking.broadcasts.lock();
        broadcasts.iter().filter(|(prefix, _)| key.starts_with(prefix)).flat_map(|(_, clients)| clients).copied().collect()
    };
    for client in reads.iter().flat_map(|reads| &reads.clients).copied().chain(broadcast) {
        if !resp.tracking.is_own(client, key, position) {
            tell(resp, client, Some(key));
        }
    }
    // Notices come in the order of positions: what was made up to here has had its own.
    let mut own = resp.tracking.own.lock();
    if let (Some(position), Some(made)) = (position, own.made.get_mut(key)) {
        made.retain(|(_, at)| *at > position);
        if made.is_empty() {
            own.made.remove(key);
        }
    }
}

/// Something other than a key was invalidated: whose witness does not hold any more is told.
fn look_again(resp: &Resp) {
    let is_gone = |key: &[u8], reads: &Reads| reads.witness.as_ref().is_some_and(|witness| !resp.larder.is_current(key, witness));
    tell_all(resp, resp.tracking.take(is_gone));
    let broadcast: HashSet<u64> = resp.tracking.broadcasts.lock().values().flatten().copied().collect();
    broadcast.into_iter().for_each(|client| tell(resp, client, None));
}

fn tell_all(resp: &Resp, gone: Vec<(Box<[u8]>, Reads)>) {
    for (key, reads) in gone {
        reads.clients.iter().for_each(|client| tell(resp, *client, Some(&key)));
    }
}

fn forget_everything(resp: &Resp) {
    drop(resp.tracking.take(|_, _| true));
    resp.tracking.own.lock().made.clear();
    let clients: Vec<u64> = resp.tracking.clients.lock().iter().copied().collect();
    clients.into_iter().for_each(|client| tell(resp, client, None));
}

/// Tells a client that a key changed, or everything. One that speaks version 2 cannot be told anything that it did not ask for.
fn tell(resp: &Resp, client: u64, key: Option<&[u8]>) {
    let Some(client) = resp.clients.get(client).filter(|client| client.protocol.load(Relaxed) == 3 && client.is_tracked.load(Relaxed))
    else {
        return;
    };
    if key.is_some_and(|key| !super::access::may_be_told(resp, &client, key)) {
        return;
    }
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
    let evicted = {
        let tracking = &resp.tracking;
        let mut keys = tracking.shard(key).lock();
        let is_new = !keys.contains_key(key);
        let is_full = is_new && tracking.count.load(Relaxed) >= resp.limits.tracked_keys_max;
        // Any will do, as in Redis: whoever read it reads it again.
        let victim = keys.keys().next().filter(|_| is_full).cloned();
        let evicted = victim.and_then(|victim| keys.remove_entry(&victim));
        tracking.count.fetch_sub(evicted.is_some().into(), Relaxed);
        tracking.count.fetch_add(is_new.into(), Relaxed);
        let reads = keys.entry(key.into()).or_default();
        if reads.clients.len() >= CLIENTS_MANY {
            let alive = tracking.clients.lock();
            reads.clients.retain(|client| alive.contains(client));
        }
        reads.clients.insert(id);
        if witness.is_some() {
            reads.witness.clone_from(&witness);
            reads.expires_at = answer.and_then(Answer::expires_at);
        }
        evicted
    };
    tell_all(resp, evicted.into_iter().collect());
    // Looked at again behind the putting down: what changed before was not told to this client, and what changes from now on will be.
    let is_current = match &witness {
        Some(witness) => resp.larder.is_current(key, witness),
        None => resp.raw.is_unchanged_since(key, since),
    };
    if !is_current {
        tell(resp, id, Some(key));
    }
}

/// A client that is tracked begins a command.
pub fn begins(resp: &Resp, session: &mut Session, command: &Command, args: Args<'_>) {
    let Some(tracked) = session.tracked.as_mut().filter(|tracked| tracked.no_loop && command.is(Flag::Write)) else { return };
    let mut own = resp.tracking.own.lock();
    for key in keys_of(command, args) {
        if tracked.began.insert(key.into()) {
            own.under_way.entry(key.into()).or_default().push((session.client.id, Vec::new()));
        }
    }
}

/// It has changed a key, at a position.
pub fn has_written(call: &mut Call<'_>, key: &[u8], receipt: Option<&Receipt>) {
    if let (Some(tracked), Some(receipt)) = (&mut call.session.tracked, receipt)
        && tracked.began.remove(key)
    {
        let (resp, id, position) = (call.resp, call.session.client.id, receipt.position());
        let waited = {
            let mut own = resp.tracking.own.lock();
            let waited = own.ends(id, key);
            if !waited.contains(&Some(position)) {
                own.made.entry(key.into()).or_default().push((id, position));
            }
            waited
        };
        if waited.iter().any(|at| *at != Some(position)) {
            tell(resp, id, Some(key));
        }
    }
}

/// It has ended a command. What became of keys that it left as they are was somebody else's doing.
pub fn has_ended(resp: &Resp, session: &mut Session, command: &Command, is_within: bool) {
    let id = session.client.id;
    let is_over = !is_within && session.queue.is_none() && command.run != Run::ClientCaching;
    let Some(tracked) = &mut session.tracked else { return };
    // What was said holds for the next command, and a transaction is one.
    if is_over {
        tracked.said = None;
    }
    for key in tracked.began.drain() {
        let waited = resp.tracking.own.lock().ends(id, &key);
        if !waited.is_empty() {
            tell(resp, id, Some(&key));
        }
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
    let is_on = call.one_of(2, ["ON", "OFF"])?;
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
    let before = call.session.tracked.as_ref().filter(|before| is_on && before.is_broadcast && tracked.is_broadcast);
    if let Some(before) = before {
        // What it is told of already, it goes on to be told of.
        tracked.prefixes.splice(0..0, before.prefixes.iter().cloned());
    }
    check(call, is_on, &tracked)?;
    if is_on {
        let id = call.session.client.id;
        hear(call.resp);
        call.session.client.is_tracked.store(true, Relaxed);
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
    } else {
        forget(call.resp, call.session);
    }
    call.out.ok();
    Ok(())
}

fn check(call: &Call<'_>, is_on: bool, tracked: &Tracked) -> Done {
    if !is_on {
        return Ok(());
    }
    if tracked.prefixes.len() > PREFIXES_MAX {
        return Err(Refusal::of(format!("ERR a client is told of no more than {PREFIXES_MAX} prefixes")));
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
    tracked.began.iter().for_each(|key| drop(resp.tracking.own.lock().ends(id, key)));
    if tracked.no_loop {
        let made = &mut resp.tracking.own.lock().made;
        made.retain(|_, made| {
            made.retain(|(client, _)| *client != id);
            !made.is_empty()
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_notice_of_an_own_change_may_come_while_the_next_command_of_its_key_runs() {
        let (tracking, client, key) = (Tracking::default(), 7, b"features:A:1".as_slice());
        let [mine, theirs] = [3, 4].map(|number| format!("00000000000000aa-{number}").parse::<Position>().expect("it is a position"));
        {
            let mut own = tracking.own.lock();
            own.made.entry(key.into()).or_default().push((client, mine));
            own.under_way.entry(key.into()).or_default().push((client, Vec::new()));
        }
        assert!(tracking.is_own(client, key, Some(mine)), "it is not told");
        assert!(!tracking.is_own(client + 1, key, Some(mine)), "others are");
        assert!(tracking.is_own(client, key, Some(theirs)), "whose that is shows at the end of the command");
        assert_eq!(tracking.own.lock().ends(client, key), [Some(theirs)], "and the own one does not wait for that");
        assert!(!tracking.is_own(client, key, Some(theirs)));
    }
}
