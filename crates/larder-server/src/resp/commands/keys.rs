//! Keys, whatever they hold: `DEL`, `EXISTS`, `OBJECT` and their like.

use std::collections::HashSet;

use bytes::Bytes;
use larder::Answer;
use tokio::task::consume_budget;

use super::{Call, Done, Refusal, SYNTAX};
use crate::resp::frame::integer;
use crate::resp::tracking::{has_read, has_written};

/// What there is, without counting as a read.
pub async fn peek(call: &Call<'_>, key: &[u8]) -> Result<Option<Answer<Bytes>>, Refusal> {
    if key.is_empty() { Ok(None) } else { Ok(call.resp.raw.peek(key).await?) }
}

/// The same for what a client is told, who may keep it: put down, if it is tracked.
pub async fn look(call: &mut Call<'_>, key: &[u8]) -> Result<Option<Answer<Bytes>>, Refusal> {
    let token = call.resp.raw.begin_fill(key);
    let answer = peek(call, key).await?;
    has_read(call, key, answer.as_ref(), token);
    Ok(answer)
}

/// `DEL key [key ...]`, `UNLINK`
pub async fn del(call: &mut Call<'_>) -> Done {
    let keys: Vec<&[u8]> = call.args.skip(1).iter().filter(|key| !key.is_empty()).collect();
    let _held = if call.holds { None } else { Some(call.resp.stripes.hold_all(keys.iter().copied()).await?) };
    let mut there = 0;
    let mut seen = HashSet::with_capacity(keys.len());
    for key in &keys {
        consume_budget().await;
        there += i64::from(seen.insert(*key) && peek(call, key).await?.is_some());
    }
    // Also of keys that are not there: somebody may be about to store what this was to take out. It answers no miss: whoever read before
    // it is not to store what it read.
    if !keys.is_empty() {
        let receipt = call.resp.raw.remove(keys.iter()).await?;
        keys.iter().for_each(|key| has_written(call, key, Some(&receipt)));
    }
    call.out.integer(there);
    Ok(())
}

/// `EXISTS key [key ...]`, where one that is named twice counts twice
pub async fn exists(call: &mut Call<'_>) -> Done {
    let mut there = 0;
    for key in call.args.skip(1).iter() {
        consume_budget().await;
        there += i64::from(look(call, key).await?.is_some());
    }
    call.out.integer(there);
    Ok(())
}

/// `TOUCH key [key ...]`
pub async fn touch(call: &mut Call<'_>) -> Done {
    let mut there = 0;
    for key in call.args.skip(1).iter().filter(|key| !key.is_empty()) {
        consume_budget().await;
        there += i64::from(call.resp.raw.lookup(key).await?.fresh().is_some());
    }
    call.out.integer(there);
    Ok(())
}

/// `TYPE key`
pub async fn kind(call: &mut Call<'_>) -> Done {
    let kind = if look(call, call.args.at(1)).await?.is_some() { "string" } else { "none" };
    call.out.simple(kind);
    Ok(())
}

/// `RANDOMKEY`
pub async fn random(call: &mut Call<'_>) -> Done {
    let key = match call.who() {
        Some(who) => call.resp.larder.as_principal(&who.principal).raw().random_key().await?,
        None => call.resp.raw.random_key().await?,
    };
    call.out.bulk_or_null(key.as_deref());
    Ok(())
}

/// `OBJECT ENCODING key`
pub async fn encoding(call: &mut Call<'_>) -> Done {
    let Some(answer) = look(call, call.args.at(2)).await? else {
        call.out.null();
        return Ok(());
    };
    let value = &answer.value;
    // Up to where Redis keeps a value in one piece with what it knows of it.
    let encoding = if integer(value).is_some() {
        "int"
    } else if value.len() <= 44 {
        "embstr"
    } else {
        "raw"
    };
    call.out.bulk(encoding.as_bytes());
    Ok(())
}

/// `OBJECT IDLETIME key`
pub async fn idle(call: &mut Call<'_>) -> Done {
    match look(call, call.args.at(2)).await? {
        Some(answer) => call.out.integer(answer.idle_for(call.resp.now_ms()).as_secs() as i64),
        None => call.out.null(),
    }
    Ok(())
}

/// `OBJECT FREQ key`
pub async fn freq(call: &mut Call<'_>) -> Done {
    let key = call.args.at(2);
    if look(call, key).await?.is_none() {
        call.out.null();
        return Ok(());
    }
    let reads = call.resp.raw.reads(key);
    // A logarithm, as there: of 255 steps, sixteen for each doubling.
    let steps = (reads as f64 + 1.0).log2() * 16.0;
    call.out.integer((steps as i64).min(255));
    Ok(())
}

/// `MEMORY USAGE key [SAMPLES count]`
pub async fn usage(call: &mut Call<'_>) -> Done {
    match call.args.len() {
        3 => {}
        5 if call.is(3, "SAMPLES") => {
            if call.integer(4)? < 0 {
                return Err(SYNTAX);
            }
        }
        _ => return Err(SYNTAX),
    }
    let key = call.args.at(2);
    match look(call, key).await? {
        // What is not in memory takes what it would take there.
        Some(answer) => call.out.count(answer.memory_bytes().unwrap_or(key.len() + answer.value.len())),
        None => call.out.null(),
    }
    Ok(())
}
