//! What is recorded of commands: the one place where RESP meets the audit log. Commands of a transaction are recorded as they are carried
//! out, each for itself.
//!
//! A pipeline does not wait for the disk after each command: records are written in their order, so its replies wait for the last.

use std::borrow::Cow;

use super::Resp;
use super::commands::{Call, Done, Refusal, keys_of};
use super::session::Session;
use super::table::{Command, Flag, Run};
use crate::audit::{Class, Decision, Name, Outcome, Record, Slot};

/// Bytes of a command's name that are recorded where it was not let through.
const WORD_BYTES_MAX: usize = 64;

/// The kind of operation that a command is; nothing for what is about the connection alone.
pub fn class_of(command: &Command) -> Option<Class> {
    Some(match command.run {
        Run::Del | Run::Getdel => Class::Delete,
        Run::LarderInvalidate | Run::Flushall => Class::Invalidate,
        Run::LarderEmit => Class::Emit,
        _ if command.is(Flag::Admin) => Class::Admin,
        _ if command.is(Flag::Write) => Class::Write,
        _ if command.is(Flag::Readonly) => Class::Read,
        _ => return None,
    })
}

/// A command begins.
///
/// # Errors
/// When it would have to be recorded, and cannot be.
pub fn begin(command: &'static Command, call: &Call<'_>) -> Result<Option<Slot>, Refusal> {
    let (Some(audit), Some(class)) = (&call.resp.audit, class_of(command)) else { return Ok(None) };
    let begun = audit.begin(class, || record(command, class, call));
    begun.map_err(|error| Refusal::of(format!("UNAVAILABLE {error}")))
}

fn record(command: &'static Command, class: Class, call: &Call<'_>) -> Record {
    let mut record = begun(class, command.name, call.session);
    match command.run {
        Run::LarderInvalidate => record.name(invalidated(call)),
        Run::LarderEmit => record.name([Name::new("event", call.args.at(1))]),
        Run::Flushall => record.name([Name::new("everything", "")]),
        _ => record.name(keys_of(command, call.args).map(|key| Name::new("key", key))),
    }
    record
}

/// What is known of every command before it is carried out.
fn begun(class: Class, what: impl Into<Cow<'static, str>>, session: &Session) -> Record {
    let mut record = Record::begun("resp", class, what, session.client.addr.clone());
    session.who.iter().for_each(|who| record.who = who.principal.name().to_owned());
    record
}

/// `KEY key | TAG tag | .. | ALL`, as far as it can be understood: what cannot be is refused.
fn invalidated(call: &Call<'_>) -> Vec<Name> {
    let mut names = Vec::new();
    let mut at = 1;
    while at < call.args.len() {
        let kinds = [("KEY", "key"), ("TAG", "tag"), ("PATTERN", "pattern"), ("NAMESPACE", "namespace")];
        let kind = kinds.into_iter().find(|(word, _)| call.is(at, word)).map(|(_, kind)| kind);
        match kind {
            Some(kind) if at + 1 < call.args.len() => {
                names.push(Name::new(kind, call.args.at(at + 1)));
                at += 2;
            }
            _ => {
                names.extend(call.is(at, "ALL").then(|| Name::new("everything", "")));
                at += 1;
            }
        }
    }
    names
}

/// It has ended so. Its reply waits until that is written.
pub fn end(slot: Option<Slot>, call: &mut Call<'_>, done: &Done) {
    let position = call.session.position.take();
    let Some(mut slot) = slot else {
        return if let Err(refusal) = done {
            refused(call.resp, call.session, call.args.at(0), refusal)
        };
    };
    let record = slot.record();
    record.position = position.map(|position| position.to_string()).unwrap_or_default();
    match done {
        Ok(()) => record.end(Decision::Allowed, Outcome::Done, ""),
        Err(refusal) if refusal.is_denial() => {
            record.end(Decision::Denied, Outcome::Failed, words(refusal));
            call.session.is_denial_recorded = true;
        }
        Err(refusal) => record.end(Decision::Allowed, Outcome::Failed, words(refusal)),
    }
    call.session.unwritten = Some(slot.end());
}

/// A command was refused, before it was carried out or by what carries it out. That is recorded once, wherever it was found.
pub fn refused(resp: &Resp, session: &mut Session, name: &[u8], refusal: &Refusal) {
    let Some(audit) = resp.audit.as_ref().filter(|_| refusal.is_denial()) else { return };
    if !std::mem::replace(&mut session.is_denial_recorded, true) {
        audit.refused(|| {
            // A word may be as long as a request.
            let what = String::from_utf8_lossy(&name[..name.len().min(WORD_BYTES_MAX)]).to_lowercase();
            let mut record = begun(Class::Read, what, session);
            record.end(Decision::Denied, Outcome::Failed, words(refusal));
            record
        });
    }
}

/// The word in capitals alone: what follows may have a part of a value in it.
fn words(refusal: &Refusal) -> String {
    let word = refusal.0.split(|byte| *byte == b' ').next().unwrap_or_default();
    String::from_utf8_lossy(word).into_owned()
}
