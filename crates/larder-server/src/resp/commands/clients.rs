//! The connection itself: `HELLO`, `PING`, `CLIENT` and their like.

use std::collections::HashSet;
use std::sync::atomic::Ordering::Relaxed;

use super::{Call, Done, Refusal, Run, SYNTAX, forget};
use crate::resp::access;
use crate::resp::clients::Client;
use crate::resp::frame::integer;
use crate::resp::reply::Protocol;
use crate::resp::session::{Answers, Session};

/// The version of Redis that clients are told, who look at it to know what they may ask for; some do not ask for tracking below it, or of
/// a server that calls itself anything else.
pub const REDIS_VERSION: &str = "7.4.0";

const NAME_WRONG: Refusal = Refusal::new("ERR Client names cannot contain spaces, newlines or special characters.");

/// `AUTH [username] password`
pub async fn auth(call: &mut Call<'_>) -> Done {
    if call.args.len() > 3 {
        return Err(SYNTAX);
    }
    if call.resp.door.is_guarded() {
        let (args, last) = (call.args, call.args.len() - 1);
        access::let_in(call, (last == 2).then(|| args.at(1)), args.at(last)).await?;
        call.out.ok();
        return Ok(());
    }
    if call.args.len() == 2 {
        return Err(Refusal::new(
            "ERR AUTH <password> called without any password configured for the default user. Are you sure your configuration is correct?",
        ));
    }
    is_default(call.args.at(1))?;
    call.out.ok();
    Ok(())
}

/// The only user there is, whom any password lets in.
fn is_default(user: &[u8]) -> Done {
    let wrong = const { Refusal::new("WRONGPASS invalid username-password pair or user is disabled.") };
    if user == b"default" { Ok(()) } else { Err(wrong) }
}

/// `HELLO [protover [AUTH username password] [SETNAME clientname]]`
pub async fn hello(call: &mut Call<'_>) -> Done {
    let mut protocol = call.out.protocol;
    let mut name = None;
    let mut proof = None;
    if call.args.len() > 1 {
        protocol = match integer(call.args.at(1)).ok_or(const { Refusal::new("ERR Protocol version is not an integer or out of range") })? {
            2 => Protocol::Resp2,
            3 => Protocol::Resp3,
            _ => return Err(Refusal::new("NOPROTO unsupported protocol version")),
        };
        let mut at = 2;
        while at < call.args.len() {
            if call.is(at, "AUTH") && at + 2 < call.args.len() {
                if !call.resp.door.is_guarded() {
                    is_default(call.args.at(at + 1))?;
                }
                proof = Some((call.args.at(at + 1), call.args.at(at + 2)));
                at += 3;
            } else if call.is(at, "SETNAME") && at + 1 < call.args.len() {
                name = Some(checked_name(call.args.at(at + 1))?);
                at += 2;
            } else {
                let word = call.args.at(at);
                return Err(Refusal::of([b"ERR Syntax error in HELLO option '", word, b"'"].concat()));
            }
        }
    }
    if let Some((user, secret)) = proof.filter(|_| call.resp.door.is_guarded()) {
        access::let_in(call, Some(user), secret).await?;
    }
    if access::is_unknown(call) {
        return Err(Refusal::new(
            "NOAUTH HELLO must be called with the client already authenticated, otherwise the HELLO <proto> AUTH <user> <pass> option can be \
             used to authenticate the client and select the RESP protocol version at the same time",
        ));
    }
    if let Some(name) = name {
        call.session.client.told.lock().name = name;
    }
    if call.out.protocol != protocol {
        // It is written in the other version.
        drop(call.session.client.mailbox.take());
    }
    call.out.protocol = protocol;
    let number = if protocol == Protocol::Resp3 { 3 } else { 2 };
    call.session.client.protocol.store(number, Relaxed);
    let out = &mut *call.out;
    out.map(7);
    for (name, value) in [("server", "redis"), ("version", REDIS_VERSION)] {
        out.bulk(name.as_bytes());
        out.bulk(value.as_bytes());
    }
    out.bulk(b"proto");
    out.integer(number.into());
    out.bulk(b"id");
    out.integer(call.session.client.id as i64);
    for (name, value) in [("mode", "standalone"), ("role", "master")] {
        out.bulk(name.as_bytes());
        out.bulk(value.as_bytes());
    }
    out.bulk(b"modules");
    out.array(0);
    Ok(())
}

/// `PING [message]`, which who listens in version 2 gets as a message
pub fn ping(call: &mut Call<'_>) -> Done {
    if call.args.len() > 2 {
        return Err(Refusal::new("ERR wrong number of arguments for 'ping' command"));
    }
    let message = call.args.at(1);
    if call.session.only_listens(call.out) {
        call.out.array(2);
        call.out.bulk(b"pong");
        call.out.bulk(message);
    } else if call.args.len() == 1 {
        call.out.simple("PONG");
    } else {
        call.out.bulk(message);
    }
    Ok(())
}

/// `ECHO message`
pub fn echo(call: &mut Call<'_>) -> Done {
    call.out.bulk(call.args.at(1));
    Ok(())
}

/// `QUIT`
pub fn quit(call: &mut Call<'_>) -> Done {
    call.session.ends = true;
    call.out.ok();
    Ok(())
}

/// `RESET`
pub fn reset(call: &mut Call<'_>) -> Done {
    forget(call.resp, call.session);
    let client = call.session.client.clone();
    drop(client.mailbox.take());
    client.told.lock().name.clear();
    client.protocol.store(2, Relaxed);
    access::leave(call.session);
    // What the connection began with is still so: whose certificate was shown, and what is still to be recorded.
    let before = std::mem::replace(call.session, Session::new(client, call.resp.raw.putter()));
    (call.session.peer, call.session.unwritten) = (before.peer, before.unwritten);
    access::by_certificate(call.resp, call.session);
    call.out.protocol = Protocol::Resp2;
    call.out.simple("RESET");
    Ok(())
}

/// `SELECT index`
pub fn select(call: &mut Call<'_>) -> Done {
    match i32::try_from(call.integer(1)?) {
        Ok(0) => call.out.ok(),
        Ok(_) => return Err(Refusal::new("ERR DB index is out of range")),
        Err(_) => return Err(Refusal::new("ERR value is out of range, value must between -2147483648 and 2147483647")),
    }
    Ok(())
}

/// `CLIENT ID`
pub fn id(call: &mut Call<'_>) -> Done {
    call.out.integer(call.session.client.id as i64);
    Ok(())
}

/// `CLIENT GETNAME`
pub fn getname(call: &mut Call<'_>) -> Done {
    let name = call.session.client.told.lock().name.clone();
    if name.is_empty() {
        call.out.null()
    } else {
        call.out.bulk(name.as_bytes())
    }
    Ok(())
}

/// `CLIENT SETNAME connection-name`
pub fn setname(call: &mut Call<'_>) -> Done {
    let name = checked_name(call.args.at(2))?;
    call.session.client.told.lock().name = name;
    call.out.ok();
    Ok(())
}

/// Text that can be shown in a line of words.
fn checked_name(name: &[u8]) -> Result<String, Refusal> {
    let is_sound = name.iter().all(|byte| matches!(byte, b'!'..=b'~'));
    String::from_utf8(name.to_vec()).ok().filter(|_| is_sound).ok_or(NAME_WRONG)
}

/// `CLIENT SETINFO LIB-NAME libname | LIB-VER libver`
pub fn setinfo(call: &mut Call<'_>) -> Done {
    let (option, value) = (call.args.at(2), call.args.at(3));
    let is_name = option.eq_ignore_ascii_case(b"lib-name");
    if !is_name && !option.eq_ignore_ascii_case(b"lib-ver") {
        return Err(Refusal::of([b"ERR Unrecognized option '", option, b"'"].concat()));
    }
    let what = if is_name { "lib-name" } else { "lib-ver" };
    let wrong = |_| Refusal::of(format!("ERR {what} cannot contain spaces, newlines or special characters."));
    let value = checked_name(value).map_err(wrong)?;
    let mut told = call.session.client.told.lock();
    *(if is_name { &mut told.library } else { &mut told.version }) = value;
    drop(told);
    call.out.ok();
    Ok(())
}

/// `CLIENT INFO`
pub fn info(call: &mut Call<'_>) -> Done {
    let line = call.session.client.line(call.resp.now_ms());
    call.out.verbatim(&(line + "\n"));
    Ok(())
}

/// `CLIENT LIST [TYPE normal | pubsub | master | replica] [ID client-id ...]`
pub fn list(call: &mut Call<'_>) -> Done {
    let now = call.resp.now_ms();
    let mut clients = call.resp.clients.all();
    if call.args.len() == 4 && call.is(2, "TYPE") {
        let kind = kind(call.args.at(3))?;
        clients.retain(|client| self::kind_of(client) == kind);
    } else if call.args.len() > 3 && call.is(2, "ID") {
        let mut ids = HashSet::new();
        for word in call.args.skip(3).iter() {
            ids.insert(integer(word).filter(|id| *id > 0).ok_or(const { Refusal::new("ERR Invalid client ID") })? as u64);
        }
        clients.retain(|client| ids.contains(&client.id));
    } else if call.args.len() != 2 {
        return Err(SYNTAX);
    }
    let lines: String = clients.iter().map(|client| client.line(now) + "\n").collect();
    call.out.verbatim(&lines);
    Ok(())
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Normal,
    Pubsub,
    Replication,
}

fn kind(word: &[u8]) -> Result<Kind, Refusal> {
    match word {
        word if word.eq_ignore_ascii_case(b"normal") => Ok(Kind::Normal),
        word if word.eq_ignore_ascii_case(b"pubsub") => Ok(Kind::Pubsub),
        word if [b"master".as_slice(), b"slave", b"replica"].iter().any(|kind| word.eq_ignore_ascii_case(kind)) => Ok(Kind::Replication),
        other => Err(Refusal::of([b"ERR Unknown client type '", other, b"'"].concat())),
    }
}

fn kind_of(client: &Client) -> Kind {
    let listens = client.channels.load(Relaxed) + client.patterns.load(Relaxed) > 0;
    if listens { Kind::Pubsub } else { Kind::Normal }
}

/// `CLIENT KILL addr:port`, `CLIENT KILL [ID id] [ADDR a] [LADDR a] [TYPE t] [USER u] [SKIPME yes | no]`
pub fn kill(call: &mut Call<'_>) -> Done {
    if call.args.len() == 3 {
        let addr = call.args.at(2);
        let client = call.resp.clients.all().into_iter().find(|client| client.addr.as_bytes() == addr);
        let client = client.ok_or(const { Refusal::new("ERR No such client") })?;
        end(call, &client);
        call.out.ok();
        return Ok(());
    }
    let mut clients = call.resp.clients.all();
    let mut spares_me = true;
    let mut at = 2;
    while at < call.args.len() {
        if at + 1 >= call.args.len() {
            return Err(SYNTAX);
        }
        let word = call.args.at(at + 1);
        if call.is(at, "ID") {
            let wrong = const { Refusal::new("ERR client-id should be greater than 0") };
            let id = integer(word).filter(|id| *id > 0).ok_or(wrong)? as u64;
            clients.retain(|client| client.id == id);
        } else if call.is(at, "ADDR") {
            clients.retain(|client| client.addr.as_bytes() == word);
        } else if call.is(at, "LADDR") {
            clients.retain(|client| client.laddr.as_bytes() == word);
        } else if call.is(at, "TYPE") {
            let kind = kind(word)?;
            clients.retain(|client| kind_of(client) == kind);
        } else if call.is(at, "USER") {
            if call.resp.door.is_guarded() {
                clients.retain(|client| client.user().as_bytes() == word);
            } else if word != b"default" {
                return Err(Refusal::of([b"ERR No such user '", word, b"'"].concat()));
            }
        } else if call.is(at, "SKIPME") {
            spares_me = match word {
                word if word.eq_ignore_ascii_case(b"yes") => true,
                word if word.eq_ignore_ascii_case(b"no") => false,
                _ => return Err(SYNTAX),
            };
        } else {
            return Err(SYNTAX);
        }
        at += 2;
    }
    clients.retain(|client| !spares_me || client.id != call.session.client.id);
    clients.iter().for_each(|client| end(call, client));
    call.out.count(clients.len());
    Ok(())
}

/// Ends a connection; its own once it is answered.
fn end(call: &mut Call<'_>, client: &Client) {
    if client.id == call.session.client.id {
        call.session.ends = true;
    } else {
        client.cut();
    }
}

/// `CLIENT REPLY ON | OFF | SKIP`
pub fn reply(call: &mut Call<'_>) -> Done {
    if call.is(2, "ON") {
        call.session.answers = Answers::On;
        call.out.ok();
    } else if call.is(2, "OFF") {
        call.session.answers = Answers::Off;
    } else if call.is(2, "SKIP") {
        if call.session.answers != Answers::Off {
            call.session.answers = Answers::SkipNext;
        }
    } else {
        return Err(SYNTAX);
    }
    Ok(())
}

/// `CLIENT NO-EVICT ON | OFF`, `CLIENT NO-TOUCH ON | OFF`
pub fn on_or_off(call: &mut Call<'_>, run: Run) -> Done {
    let is_on = call.one_of(2, ["ON", "OFF"])?;
    if run == Run::ClientNoTouch {
        call.session.no_touch = is_on;
    }
    call.out.ok();
    Ok(())
}

/// `CLIENT GETREDIR`: -1, as nothing is sent anywhere else
pub fn getredir(call: &mut Call<'_>) -> Done {
    call.out.integer(if call.session.tracked.is_some() { 0 } else { -1 });
    Ok(())
}

/// `CLIENT CACHING YES | NO`
pub fn caching(call: &mut Call<'_>) -> Done {
    let is_yes = call.one_of(2, ["YES", "NO"])?;
    crate::resp::tracking::caching(call, is_yes)
}
