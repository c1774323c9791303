//! What only larder has: tags, freshness, positions, events.

use std::time::Duration;

use bytes::Bytes;
use larder::access::{Operation, Target};
use larder::events::Event;
use larder::{Freshness, Item, Lookup, Miss, Names, Position, Source};

use super::strings::{Until, item, time_option, until};
use super::{Call, Done, Refusal, SYNTAX};
use crate::resp::frame::Args;
use crate::resp::tracking::has_written;

/// How long a read waits for this server to get to a position.
const REACH: Duration = Duration::from_secs(1);

/// `[EX s | PX ms | EXAT s | PXAT ms] [TAG tag ...]` from the word at `at` on.
fn options(call: &Call<'_>, value: &[u8], mut at: usize, command: &str) -> Result<Item<Bytes>, Refusal> {
    let mut life = Until::Policy;
    let mut tags: Vec<&[u8]> = Vec::new();
    while at < call.args.len() {
        if life == Until::Policy
            && let Some(option) = time_option(call, at)
        {
            life = Until::At(until(call, option, at + 1, command)?);
            at += 2;
        } else if call.is(at, "TAG") && at + 1 < call.args.len() {
            // Up to the end: a tag may be called as an option is.
            tags.extend(call.args.skip(at + 1).iter());
            at = call.args.len();
        } else {
            return Err(SYNTAX);
        }
    }
    Ok(tags.into_iter().fold(item(value, life), Item::tag))
}

/// The tags that a command puts on an entry whose options begin with the word at `at`; what is wrong with the options, it says itself.
pub fn tags(args: Args<'_>, mut at: usize) -> Args<'_> {
    while at < args.len() && !args.at(at).eq_ignore_ascii_case(b"TAG") {
        // All others have a value.
        at += 2;
    }
    args.skip((at + 1).min(args.len()))
}

/// Refuses an item whose tags who asks may not use.
fn permitted(call: &Call<'_>, key: &[u8], item: &Item<Bytes>) -> Done {
    call.who().map_or(Ok(()), |who| Ok(item.permitted_to(&who.principal, key)?))
}

/// `LARDER.SET key value [EX s | PX ms | EXAT s | PXAT ms] [TAG tag ...]` -> position
pub async fn set(call: &mut Call<'_>) -> Done {
    let (key, value) = (call.args.at(1), call.args.at(2));
    let item = options(call, value, 3, "larder.set")?;
    permitted(call, key, &item)?;
    let _held = call.hold(key).await?;
    let receipt = call.resp.raw.put(key, item).await?;
    has_written(call, key, Some(&receipt));
    call.out.bulk(receipt.position().to_string().as_bytes());
    Ok(())
}

/// `LARDER.FILL key token value [EX s | PX ms | EXAT s | PXAT ms] [TAG tag ...]` -> 1, or 0 if it was dropped
pub async fn fill(call: &mut Call<'_>) -> Done {
    let (key, value) = (call.args.at(1), call.args.at(3));
    let token = std::str::from_utf8(call.args.at(2)).unwrap_or_default().parse::<larder::FillToken>()?;
    let item = options(call, value, 4, "larder.fill")?;
    permitted(call, key, &item)?;
    let _held = call.hold(key).await?;
    let is_kept = call.resp.raw.fill(key, token, item).await?;
    call.out.integer(is_kept.into());
    Ok(())
}

/// `LARDER.GET key [AT position]`
pub async fn get(call: &mut Call<'_>) -> Done {
    let key = call.args.at(1);
    match call.args.len() {
        2 => {}
        4 if call.is(2, "AT") => {
            let position: Option<Position> = std::str::from_utf8(call.args.at(3)).ok().and_then(|text| text.parse().ok());
            let position = position.ok_or(const { Refusal::new("ERR that is no position; give one back as it was got") })?;
            call.resp.larder.reach(position, REACH).await?;
        }
        _ => return Err(SYNTAX),
    }
    let token = call.resp.raw.begin_fill(key);
    let lookup = call.resp.raw.lookup(key).await?;
    let miss = match &lookup {
        Lookup::Miss(Miss::Expired) => "expired",
        Lookup::Miss(Miss::Invalidated(_)) => "invalidated",
        Lookup::NotFound => "negative",
        _ => "absent",
    };
    let answer = lookup.into_answer();
    crate::resp::tracking::has_read(call, key, answer.as_ref(), token);
    let out = &mut *call.out;
    let Some(answer) = answer else {
        out.map(3);
        out.bulk(b"value");
        out.null();
        out.bulk(b"miss");
        out.bulk(miss.as_bytes());
        out.bulk(b"token");
        out.bulk(token.to_string().as_bytes());
        return Ok(());
    };
    let freshness = match answer.freshness {
        Freshness::Stale => "stale",
        Freshness::Unverified => "unverified",
        _ => "fresh",
    };
    let tier = match answer.source {
        Source::Memory => "memory",
        _ => call.resp.backing,
    };
    out.map(5);
    out.bulk(b"value");
    out.bulk(&answer.value);
    out.bulk(b"freshness");
    out.bulk(freshness.as_bytes());
    out.bulk(b"age_ms");
    out.integer(i64::try_from(answer.age.as_millis()).unwrap_or(i64::MAX));
    out.bulk(b"tier");
    out.bulk(tier.as_bytes());
    out.bulk(b"position");
    out.bulk_or_null(answer.position.map(|position| position.to_string()).as_deref().map(str::as_bytes));
    Ok(())
}

/// What `LARDER.INVALIDATE` is to invalidate: `KEY key | TAG tag | PATTERN pattern | NAMESPACE name | ALL ...`.
///
/// # Errors
/// For words that say something else.
pub fn names(args: Args<'_>) -> Result<Names, Refusal> {
    let is = |at: usize, option: &str| args.at(at).eq_ignore_ascii_case(option.as_bytes());
    let mut names = Names::new();
    let mut at = 1;
    while at < args.len() {
        if is(at, "ALL") {
            names = names.everything();
            at += 1;
            continue;
        }
        if at + 1 >= args.len() {
            return Err(SYNTAX);
        }
        let word = args.at(at + 1);
        names = if is(at, "KEY") {
            names.key(word)
        } else if is(at, "TAG") {
            names.tag(word)
        } else if is(at, "PATTERN") {
            names.pattern(word)
        } else if is(at, "NAMESPACE") {
            let name = std::str::from_utf8(word).map_err(|_| Refusal::new("ERR a namespace's name is text"))?;
            names.namespace(name)
        } else {
            return Err(SYNTAX);
        };
        at += 2;
    }
    Ok(names)
}

/// `LARDER.INVALIDATE KEY key | TAG tag | PATTERN pattern | NAMESPACE name | ALL ...` -> position
pub async fn invalidate(call: &mut Call<'_>) -> Done {
    let names = names(call.args)?;
    let receipt = call.resp.larder.invalidate(names).await?;
    call.session.position = Some(receipt.position());
    call.out.bulk(receipt.position().to_string().as_bytes());
    Ok(())
}

/// `LARDER.EMIT type data` -> position, or nothing where no rule had anything to say
pub async fn emit(call: &mut Call<'_>) -> Done {
    let kind = std::str::from_utf8(call.args.at(1)).map_err(|_| Refusal::new("ERR the type of an event is text"))?;
    let data = serde_json::from_slice(call.args.at(2)).map_err(|error| Refusal::of(format!("ERR the data is no JSON: {error}")))?;
    let event = Event::new(kind, data);
    // To tell of what happened is one right, to keep everybody from writing another.
    if let Some(who) = call.who().filter(|_| crate::maintenance::is_command(&event)) {
        who.principal.check(Operation::Admin, Target::Server)?;
    }
    let emitted = call.resp.larder.emit_from(event, "resp").await?;
    call.session.position = emitted.position;
    call.out.bulk_or_null(emitted.position.map(|position| position.to_string()).as_deref().map(str::as_bytes));
    Ok(())
}

/// `LARDER.EXPLAIN key` -> in words
pub async fn explain(call: &mut Call<'_>) -> Done {
    let explanation = call.resp.larder.explain(call.args.at(1)).await?;
    if let Some(who) = call.who() {
        explanation.permitted_to(&who.principal)?;
    }
    call.out.verbatim(&explanation.to_string());
    Ok(())
}
