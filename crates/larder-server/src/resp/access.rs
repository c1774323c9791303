//! Who asks over RESP, and whether they may: what each command needs, asked before it is queued and before it is run.
//!
//! What a command needs is a `match` without a rest: one that is added does not compile until it is said. A refusal is in Redis' words
//! (`NOAUTH`, `WRONGPASS`, `NOPERM`), and says nothing of what there is.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use larder::access::{Operation, Target};

use super::Resp;
use super::allowance::Allowance;
use super::clients::Client;
use super::commands::{Call, Done, Refusal, keys_of, names, tags};
use super::frame::{Args, Limits};
use super::session::Session;
use super::table::{Command, Flag, Run};
use crate::access::token::Token;
use crate::access::{Identity, NotLetIn};
use Operation::{Admin, Delete, Emit, Invalidate, Metrics, Read, Write};

/// What a request may have whose sender has not said who they are: to be let in takes no more.
pub const STRANGERS: Limits = Limits { args_max: 16, arg_bytes_max: 16 << 10, request_bytes_max: 64 << 10 };

/// What clients call somebody of whom they know no name.
const DEFAULT: &[u8] = b"default";

/// What a command needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// Nothing: it is how one is let in, or leaves.
    Nothing,
    /// To be somebody.
    Somebody,
    /// Operations on each key that it names.
    Keys(&'static [Operation]),
    /// To invalidate all there is.
    Everything,
    /// An operation on the server.
    Server(Operation),
    /// To read anything: what it tells is what may be read.
    Readable,
    /// An operation on the channels that it names from this word on, as on keys of those names.
    Channels(Operation, usize),
    /// To invalidate what it names.
    Names,
}

/// What a command needs.
pub fn need(run: Run) -> Need {
    match run {
        Run::Auth | Run::Hello | Run::Quit | Run::Reset => Need::Nothing,

        Run::ClientCaching | Run::ClientGetname | Run::ClientGetredir | Run::ClientId | Run::ClientInfo | Run::ClientNoEvict => {
            Need::Somebody
        }
        Run::ClientNoTouch | Run::ClientReply | Run::ClientSetinfo | Run::ClientSetname => Need::Somebody,
        Run::ClientTracking | Run::ClientTrackinginfo | Run::Echo | Run::Ping | Run::Select | Run::Time => Need::Somebody,
        Run::Command | Run::CommandCount | Run::CommandDocs | Run::CommandGetkeys | Run::CommandInfo | Run::CommandList => Need::Somebody,
        Run::Discard | Run::Exec | Run::Multi | Run::Unwatch | Run::Container => Need::Somebody,
        // Ordinary names, and those of keys: what is told there is what may be read.
        Run::Unsubscribe | Run::Punsubscribe | Run::PubsubNumpat | Run::AclWhoami => Need::Somebody,

        Run::Get | Run::Mget | Run::Getrange | Run::Strlen | Run::Exists | Run::Touch | Run::Type => Need::Keys(&[Read]),
        Run::Ttl | Run::Pttl | Run::Expiretime | Run::Pexpiretime => Need::Keys(&[Read]),
        Run::ObjectEncoding | Run::ObjectFreq | Run::ObjectIdletime | Run::MemoryUsage | Run::Watch => Need::Keys(&[Read]),
        Run::LarderGet | Run::LarderExplain | Run::Getex => Need::Keys(&[Read]),
        Run::Set | Run::Mset | Run::Setex | Run::Psetex | Run::LarderSet | Run::LarderFill => Need::Keys(&[Write]),
        // What they answer tells what was there.
        Run::Append | Run::Decr | Run::Decrby | Run::Incr | Run::Incrby | Run::Incrbyfloat | Run::Getset | Run::Setnx => {
            Need::Keys(&[Read, Write])
        }
        Run::Expire | Run::Pexpire | Run::Expireat | Run::Pexpireat | Run::Persist => Need::Keys(&[Read, Write]),
        Run::Getdel => Need::Keys(&[Read, Delete]),
        Run::Del => Need::Keys(&[Delete]),

        Run::Keys | Run::Scan | Run::Randomkey | Run::Dbsize | Run::PubsubChannels | Run::Psubscribe => Need::Readable,
        Run::Subscribe => Need::Channels(Read, 1),
        Run::PubsubNumsub => Need::Channels(Read, 2),
        Run::Publish => Need::Channels(Write, 1),
        Run::LarderInvalidate => Need::Names,
        Run::Flushall => Need::Everything,
        Run::LarderEmit => Need::Server(Emit),
        Run::Info => Need::Server(Metrics),
        Run::ConfigGet | Run::ConfigSet | Run::ClientKill | Run::ClientList | Run::AclList => Need::Server(Admin),
    }
}

const NOAUTH: Refusal = Refusal::new("NOAUTH Authentication required.");
const WRONG: Refusal = Refusal::new("WRONGPASS invalid username-password pair or user is disabled.");
const NO_KEY: Refusal = Refusal::new("NOPERM No permissions to access a key");
const NO_TAG: Refusal = Refusal::new("NOPERM No permissions to use a tag");
const NO_CHANNEL: Refusal = Refusal::new("NOPERM No permissions to access a channel");

/// The refusal of a command to somebody who may do nothing with it.
fn no_command(who: &Identity, command: &Command) -> Refusal {
    let (name, command) = (who.principal.name(), command.name);
    Refusal::of(format!("NOPERM User {name} has no permissions to run the '{command}' command"))
}

/// Who asks, as of now. What was proven once and does not hold any more ends the connection.
fn who<'a>(resp: &Resp, session: &'a mut Session) -> Result<&'a Arc<Identity>, Refusal> {
    let is_over = |who: &Arc<Identity>| who.expires_ms.is_some_and(|at| at <= resp.now_ms());
    if session.generation != resp.door.generation() || session.who.as_ref().is_some_and(is_over) {
        renew(resp, session);
    }
    session.who.as_ref().ok_or(NOAUTH)
}

/// Has who asks be who they are now, until nothing changed while that was looked up.
fn renew(resp: &Resp, session: &mut Session) {
    loop {
        // Before the look: what changes behind it has another number.
        session.generation = resp.door.generation();
        let Some(before) = session.who.take() else { return };
        let Some(now) = resp.door.renew(&before) else {
            leave(session);
            session.ends = true;
            return;
        };
        is_now(resp, session, now);
        // Once more, now that the reaper sees who it is: it may have looked at this connection after the change and before this, and will
        // not look again.
        if session.generation == resp.door.generation() {
            return;
        }
    }
}

/// From here on the connection is somebody's.
fn is_now(resp: &Resp, session: &mut Session, who: Arc<Identity>) {
    session.allowance.allow(resp.door.usages().of_roles(who.principal.roles()), resp.limits.requests);
    *session.client.who.lock() = Some(who.clone());
    session.who = Some(who);
}

/// Refuses what who asks may not do. Where nobody has to be anybody, nothing.
#[inline]
pub fn permit(resp: &Resp, session: &mut Session, command: &Command, args: Args<'_>) -> Done {
    if resp.door.is_guarded() { decide(resp, session, command, args) } else { Ok(()) }
}

fn decide(resp: &Resp, session: &mut Session, command: &Command, args: Args<'_>) -> Done {
    let need = need(command.run);
    if need == Need::Nothing {
        // Who one is does not change half-way.
        let within = session.queue.is_some() && matches!(command.run, Run::Auth | Run::Hello);
        return if within { Err(Refusal::new("ERR Command not allowed inside a transaction")) } else { Ok(()) };
    }
    let who = who(resp, session)?;
    let rights = who.principal.rights();
    let on_keys = |operation: Operation| {
        if rights.allows_everywhere(operation) {
            return Ok(());
        }
        if !rights.allows_somewhere(operation) {
            return Err(no_command(who, command));
        }
        let may = |key: &[u8]| rights.allows(operation, Target::Key(key));
        if keys_of(command, args).all(may) { Ok(()) } else { Err(NO_KEY) }
    };
    let on_tags = |tags: Args<'_>| {
        let may = |tag: &[u8]| rights.allows(Write, Target::Tagged { key: args.at(1), tag });
        if tags.iter().all(may) { Ok(()) } else { Err(NO_TAG) }
    };
    let somewhere = |operation: Operation| if rights.allows_somewhere(operation) { Ok(()) } else { Err(no_command(who, command)) };
    match need {
        Need::Nothing | Need::Somebody => Ok(()),
        Need::Keys(operations) => {
            operations.iter().try_for_each(|operation| on_keys(*operation))?;
            match command.run {
                Run::Set if args.len() > 3 && args.skip(3).iter().any(tells_what_was) => on_keys(Read),
                Run::Getex if args.len() > 2 => on_keys(Write),
                Run::LarderSet => on_tags(tags(args, 3)),
                Run::LarderFill => on_tags(tags(args, 4)),
                _ => Ok(()),
            }
        }
        Need::Everything => {
            if rights.allows(Invalidate, Target::Everything) {
                Ok(())
            } else {
                Err(no_command(who, command))
            }
        }
        Need::Server(operation) => {
            if rights.allows(operation, Target::Server) {
                Ok(())
            } else {
                Err(no_command(who, command))
            }
        }
        Need::Readable => somewhere(Read),
        Need::Channels(operation, from) => {
            somewhere(operation)?;
            let most = if command.run == Run::Publish { 1 } else { usize::MAX };
            let may = |name: &[u8]| may_use(who, operation, name);
            if args.skip(from).iter().take(most).all(may) { Ok(()) } else { Err(NO_CHANNEL) }
        }
        Need::Names => {
            somewhere(Invalidate)?;
            // What is wrong with its words, the command says itself.
            names(args).map_or(Ok(()), |names| Ok(names.permitted_to(&who.principal)?))
        }
    }
}

/// Refuses a transaction that watches a key which who asks may not read any more.
///
/// # Errors
/// When it does.
pub fn may_watch(call: &Call<'_>, key: &[u8]) -> Done {
    if call.may_read(key) {
        Ok(())
    } else {
        Err(Refusal::new("EXECABORT Transaction discarded because of: NOPERM No permissions to access a key"))
    }
}

/// Options of `SET` whose answer tells what was there.
fn tells_what_was(word: &[u8]) -> bool {
    [b"NX".as_slice(), b"XX", b"GET"].iter().any(|option| word.eq_ignore_ascii_case(option))
}

impl Call<'_> {
    /// Who asks, where anybody has to be somebody.
    pub fn who(&self) -> Option<&Arc<Identity>> {
        self.session.who.as_ref().filter(|_| self.resp.door.is_guarded())
    }

    /// Whether who asks may read a key.
    pub fn may_read(&self, key: &[u8]) -> bool {
        self.who().is_none_or(|who| who.may_read(key))
    }
}

/// Whether somebody may listen to a channel, or speak on it. Its name counts as a key's; those on which the server tells of keys are open
/// to listen to, and filtered, and nobody else speaks there.
fn may_use(who: &Identity, operation: Operation, name: &[u8]) -> bool {
    let is_of_keys = name.starts_with(KEYSPACE) || name.starts_with(KEYEVENT);
    if is_of_keys { operation == Read } else { who.principal.rights().allows(operation, Target::Key(name)) }
}

/// What channels begin with on which the server tells of keys.
pub const KEYSPACE: &[u8] = b"__keyspace@0__:";
/// See [`KEYSPACE`].
pub const KEYEVENT: &[u8] = b"__keyevent@0__:";

/// The key that is told of on a channel, as far as its name says; otherwise the name itself, which counts as one.
pub fn key_told_on(channel: &[u8]) -> &[u8] {
    channel.strip_prefix(KEYSPACE).unwrap_or(channel)
}

/// Whether a client may be told of a key. One that is nobody is told nothing.
pub fn may_be_told(resp: &Resp, client: &Client, key: &[u8]) -> bool {
    !resp.door.is_guarded() || client.who.lock().as_ref().is_some_and(|who| who.may_read(key))
}

/// Whether a client may hear what is said on a channel.
pub fn may_hear(resp: &Resp, client: &Client, channel: &[u8], message: &[u8]) -> bool {
    let key = match (channel.strip_prefix(KEYSPACE), channel.starts_with(KEYEVENT)) {
        (Some(key), _) => key,
        (None, true) => message,
        (None, false) => channel,
    };
    may_be_told(resp, client, key)
}

/// Lets somebody in with a name and a secret, or with a token alone. On a failure they stay who they were.
///
/// # Errors
/// `WRONGPASS`, whichever of the two is wrong; and where too much was wrong already, whatever this is.
pub async fn let_in(call: &mut Call<'_>, user: Option<&[u8]>, secret: &[u8]) -> Done {
    let door = call.resp.door.clone();
    let token = Token::parse(secret);
    let address = call.session.client.address;
    let id = token.as_ref().map_or(user.unwrap_or(DEFAULT), |token| token.id().as_bytes());
    call.resp.door.backoff().check(address, id, call.resp.now_ms()).map_err(|held| {
        let seconds = held.seconds();
        Refusal::of(format!("ERR too many attempts with a wrong user or secret; come again in {seconds} s"))
    })?;
    let let_in = match &token {
        Some(token) => door.by_token(token).and_then(|who| match user {
            // What pools send who know of no users is no name beside a token.
            Some(user) if user != DEFAULT && user != who.principal.name().as_bytes() => Err(NotLetIn::Wrong),
            _ => Ok(who),
        }),
        // As in Redis, who says no name is called default.
        None => match std::str::from_utf8(user.unwrap_or(DEFAULT)) {
            Ok(name) => door.by_password(name, secret).await,
            Err(_) => Err(NotLetIn::Wrong),
        },
    };
    match let_in {
        Ok(who) => {
            let name = who.principal.name();
            let is_as_before =
                call.session.allowance.is_counted() && call.session.who.as_ref().is_some_and(|who| who.principal.name() == name);
            if !is_as_before {
                let connected = call.resp.door.usages().connect(name, call.resp.now_ms())?;
                call.session.allowance.give(connected);
            }
            is_now(call.resp, call.session, who);
            // It may have been taken back since it was looked at.
            renew(call.resp, call.session);
            if call.session.who.is_some() { Ok(()) } else { Err(WRONG) }
        }
        Err(NotLetIn::Wrong) => {
            call.resp.door.backoff().failed(address, id, call.resp.now_ms());
            tracing::info!(client = call.session.client.id, addr = %call.session.client.addr, "somebody was not let in");
            Err(WRONG)
        }
        Err(NotLetIn::Busy) => Err(Refusal::new("ERR too many passwords are looked at just now; come again")),
    }
}

/// Lets somebody in by the certificate of the connection, if it is anybody's. They may prove to be somebody else later.
pub fn by_certificate(resp: &Resp, session: &mut Session) {
    if !resp.door.is_guarded() {
        return;
    }
    let Some(who) = resp.door.by_certificate(&session.peer) else { return };
    match resp.door.usages().connect(who.principal.name(), resp.now_ms()) {
        Ok(connected) => {
            session.allowance.give(connected);
            is_now(resp, session, who);
            // It may have been taken back since it was looked at.
            renew(resp, session);
        }
        // It stays nobody's, as it would after an AUTH.
        Err(_) => tracing::info!(client = session.client.id, "its principal has too many connections"),
    }
}

/// Refuses a request that is one too many of who asks.
///
/// # Errors
/// When it is.
#[inline]
pub fn take(resp: &Resp, session: &mut Session, command: &Command) -> Done {
    if !session.allowance.is_counted() || command.is(Flag::Immediate) {
        return Ok(());
    }
    session.pipelined = session.pipelined.saturating_add(1);
    session.allowance.take(session.pipelined, resp.now_ms())
}

/// Whether somebody has to say who they are before anything else.
pub fn is_unknown(call: &Call<'_>) -> bool {
    call.resp.door.is_guarded() && call.session.who.is_none()
}

/// The connection is nobody's any more.
pub fn leave(session: &mut Session) {
    session.who = None;
    session.allowance = Allowance::of(STRANGERS);
    *session.client.who.lock() = None;
}

/// How long somebody may take to say who they are.
const STRANGERS_MS: u64 = 30_000;

/// Looks at all connections again when something has changed, and at those whose time is over: who may not be here is cut off, and the
/// others have the rights of now. `seen` are the numbers of what was known the last two times: a connection that was renewing itself while
/// something changed may have put down what it was before, so that all are looked at once more.
pub fn look_again(resp: &Resp, seen: &mut [u64; 2]) {
    if !resp.door.is_guarded() {
        return;
    }
    let (generation, now) = (resp.door.generation(), resp.door.now_ms());
    let is_known = *seen == [generation; 2];
    *seen = [seen[1], generation];
    for client in resp.clients.all() {
        let Some(who) = client.who.lock().clone() else {
            if resp.now_ms().saturating_sub(client.asked_at.load(Relaxed)) >= STRANGERS_MS {
                tracing::info!(client = client.id, addr = %client.addr, "a connection is cut off: it does not say who it is for");
                client.cut();
            }
            continue;
        };
        if is_known && who.is_live(now) {
            continue;
        }
        let renewed = resp.door.renew(&who);
        if renewed.is_none() {
            tracing::info!(client = client.id, addr = %client.addr, "a connection is cut off: who it was for is not let in any more");
            client.cut();
        }
        let mut known = client.who.lock();
        // Somebody else by now, if they proved to be in between.
        if known.as_ref().is_some_and(|known| Arc::ptr_eq(known, &who)) {
            *known = renewed;
        }
    }
}

/// `ACL WHOAMI`
pub fn whoami(call: &mut Call<'_>) -> Done {
    let name = call.who().map_or_else(|| "default".to_owned(), |who| who.principal.name().to_owned());
    call.out.bulk(name.as_bytes());
    Ok(())
}

/// `ACL LIST`: a line for each principal, in larder's own words behind Redis' first ones.
pub fn list(call: &mut Call<'_>) -> Done {
    let lines: Vec<String> = if call.resp.door.is_guarded() {
        let line = |principal: &larder::access::Principal| {
            let grants: Vec<String> = principal.rights().grants().map(|(grant, _)| grant.to_string()).collect();
            format!("user {} on {}", principal.name(), if grants.is_empty() { "nothing".to_owned() } else { grants.join("; ") })
        };
        call.resp.door.look(|_, policy| policy.principals().map(line).collect())
    } else {
        vec!["user default on nopass allow all".to_owned()]
    };
    call.out.array(lines.len());
    lines.iter().for_each(|line| call.out.bulk(line.as_bytes()));
    Ok(())
}
