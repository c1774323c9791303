//! Several commands as one: `MULTI`, `EXEC`, `WATCH`.
//!
//! `EXEC` holds the stripes of all keys that the queued commands name, so that no other command of this server changes one of them in
//! between; reads of others may see the keys as they are half-way. It fails as a whole where a watched key changed since it was watched, by
//! whoever: commands, HTTP, an invalidated tag, or another server over the same Redis, as far as this one has heard of it. Between
//! servers the commands of a transaction are not one: each is atomic for itself.

use std::sync::atomic::Ordering::Relaxed;

use larder::{FillToken, Witness};
use tokio::task::consume_budget;

use super::commands::{Call, Done, Refusal, keys_of, run_recorded};
use super::session::{Queue, Session};
use super::{access, audited};

/// Keys that a connection watches at most.
const WATCHED_MAX: usize = 4_096;

/// Why a command of a transaction was not carried out that may be.
const NOT_ALONE: Refusal =
    Refusal::new("EXECABORT Nothing of the transaction was carried out, as another of its commands is not permitted any more");

/// A key, and what it was when it was watched.
#[derive(Debug)]
pub struct Watched {
    key: Box<[u8]>,
    since: FillToken,
    was: Option<Was>,
}

#[derive(Debug)]
struct Was {
    witness: Witness,
    expires_at: Option<u64>,
}

/// `MULTI`
pub fn multi(call: &mut Call<'_>) -> Done {
    if call.session.queue.is_some() {
        return Err(Refusal::new("ERR MULTI calls can not be nested"));
    }
    call.session.queue = Some(Queue::default());
    call.session.client.queued.store(1, Relaxed);
    call.out.ok();
    Ok(())
}

/// `DISCARD`
pub fn discard(call: &mut Call<'_>) -> Done {
    if call.session.queue.is_none() {
        return Err(Refusal::new("ERR DISCARD without MULTI"));
    }
    end(call.session);
    call.out.ok();
    Ok(())
}

/// Ends a transaction, and returns what was queued in it.
pub fn end(session: &mut Session) -> Queue {
    session.watched.clear();
    session.client.queued.store(0, Relaxed);
    session.queue.take().unwrap_or_default()
}

/// `WATCH key [key ...]`
pub async fn watch(call: &mut Call<'_>) -> Done {
    if call.session.queue.is_some() {
        return Err(Refusal::new("ERR WATCH inside MULTI is not allowed"));
    }
    for key in call.args.skip(1).iter() {
        if call.session.watched.iter().any(|watched| *watched.key == *key) {
            continue;
        }
        if call.session.watched.len() >= WATCHED_MAX {
            return Err(Refusal::of(format!("ERR no more than {WATCHED_MAX} keys can be watched")));
        }
        // Before it is looked at: what changes it meanwhile, changed it since.
        let since = call.resp.raw.begin_fill(key);
        let entry = super::commands::peek(call, key).await?;
        let was = entry.map(|entry| Was { expires_at: entry.expires_at(), witness: entry.witness() });
        call.session.watched.push(Watched { key: key.into(), since, was });
    }
    call.out.ok();
    Ok(())
}

/// `UNWATCH`
pub fn unwatch(call: &mut Call<'_>) -> Done {
    call.session.watched.clear();
    call.out.ok();
    Ok(())
}

/// `EXEC`
pub async fn exec(call: &mut Call<'_>) -> Done {
    if call.session.queue.is_none() {
        return Err(Refusal::new("ERR EXEC without MULTI"));
    }
    let watched = std::mem::take(&mut call.session.watched);
    let queue = end(call.session);
    if queue.is_spoilt {
        return Err(Refusal::new("EXECABORT Transaction discarded because of previous errors."));
    }
    let named = queue.calls.iter().flat_map(|(command, args)| keys_of(command, args.args()));
    let resp = call.resp.clone();
    let _held = resp.stripes.hold_all(named.chain(watched.iter().map(|watched| &*watched.key))).await?;
    for watched in &watched {
        // Whether a key changed is told of keys that may be read.
        access::may_watch(call, &watched.key)?;
        if is_changed(call, watched).await? {
            call.out.null_array();
            return Ok(());
        }
    }
    call.out.array(queue.calls.len());
    // Asked again: who asks may be allowed less than when it was queued. All before the first, since it is all or nothing; what is taken
    // from them while it is carried out comes after it.
    let mut asked: Vec<Done> = Vec::with_capacity(queue.calls.len());
    for (command, args) in &queue.calls {
        let done = access::permit(call.resp, call.session, command, args.args());
        if let Err(refusal) = &done {
            // Each is recorded for itself: the EXEC as such is answered.
            call.session.is_denial_recorded = false;
            audited::refused(call.resp, call.session, args.args().at(0), refusal);
        }
        asked.push(done);
    }
    if asked.iter().any(Result::is_err) {
        for done in asked {
            call.out.error(&done.err().unwrap_or(NOT_ALONE).0);
        }
        return Ok(());
    }
    for (command, args) in &queue.calls {
        let before = call.out.len();
        let one = Call { resp: call.resp, session: call.session, args: args.args(), out: call.out, holds: true };
        // In a box, since a transaction is a command, and commands are what it runs.
        consume_budget().await;
        let done = Box::pin(run_recorded(command, one)).await;
        if let Err(refusal) = done {
            call.out.back_to(before);
            call.out.error(&refusal.0);
        } else if call.out.len() > call.resp.limits.reply_bytes_max {
            // What it did is done; only the telling of it has a bound.
            call.out.back_to(before);
            call.out.error(b"ERR the reply of the transaction would be too large");
        }
    }
    Ok(())
}

/// Whether a key is not what it was when it was watched. One that was not there and is not there now counts as unchanged, whatever was
/// invalidated in between.
async fn is_changed(call: &Call<'_>, watched: &Watched) -> Result<bool, Refusal> {
    let Some(was) = &watched.was else { return Ok(super::commands::peek(call, &watched.key).await?.is_some()) };
    let is_over = was.expires_at.is_some_and(|at| at <= call.resp.now_ms());
    let is_current = || call.resp.larder.is_current(&watched.key, &was.witness);
    Ok(is_over || !call.resp.raw.is_unchanged_since(&watched.key, watched.since) || !is_current())
}
