//! Values: `GET`, `SET` and what is like them.

use bytes::Bytes;
use larder::{Answer, Change, Item, Life};
use tokio::task::consume_budget;

use super::{Call, Done, Refusal, SYNTAX};
use crate::resp::tracking::has_written;
use crate::resp::{Resp, lease};

/// A life that somebody asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Until {
    /// As the namespace's policy has it.
    #[default]
    Policy,
    /// Up to then, in milliseconds since 1970.
    At(u64),
    /// As it was.
    Kept,
}

/// How the end of a life is given: the word, in what unit, and whether from now.
pub type TimeOption = (&'static str, i64, bool);

const TIME_OPTIONS: [TimeOption; 4] = [("EX", 1_000, true), ("PX", 1, true), ("EXAT", 1_000, false), ("PXAT", 1, false)];

/// Which of `EX`, `PX`, `EXAT` and `PXAT` a word is, if a number follows it.
pub fn time_option(call: &Call<'_>, at: usize) -> Option<TimeOption> {
    TIME_OPTIONS.into_iter().find(|(word, ..)| call.is(at, word)).filter(|_| at + 1 < call.args.len())
}

/// The time among a command's options, and where its number is. The same option may come twice, and the last counts, as in Redis.
type Time = Option<(TimeOption, usize)>;

/// Takes in the option at `at` if it is one of time that may stand beside the one before. Returns whether it was; its number follows.
fn takes_time(call: &Call<'_>, at: usize, time: &mut Time) -> bool {
    let option = time_option(call, at).filter(|option| time.is_none_or(|(other, _)| other == *option));
    *time = option.map(|option| (option, at + 1)).or(*time);
    option.is_some()
}

/// When the life is over that an option gives with the word at `at`.
pub fn until(call: &Call<'_>, (_, unit, is_relative): TimeOption, at: usize, command: &str) -> Result<u64, Refusal> {
    moment(call, call.integer(at)?, unit, is_relative, command)
}

/// When a life of so many units is over, if it is one that begins.
pub fn moment(call: &Call<'_>, number: i64, unit: i64, is_relative: bool, command: &str) -> Result<u64, Refusal> {
    let wrong = || Refusal::of(format!("ERR invalid expire time in '{command}' command"));
    if number <= 0 {
        return Err(wrong());
    }
    let ms = number.checked_mul(unit).ok_or_else(wrong)?;
    let from = if is_relative { call.resp.now_ms() as i64 } else { 0 };
    let at = ms.checked_add(from).ok_or_else(wrong)?;
    Ok(at.unsigned_abs())
}

/// An item of a value and a life; what is `Kept` is for those to see to who know what was.
pub fn item(value: &[u8], until: Until) -> Item<Bytes> {
    let item = Item::new(Bytes::copy_from_slice(value));
    match until {
        Until::At(ms) => item.expires_at(ms),
        Until::Policy | Until::Kept => item,
    }
}

/// `GET key`
pub async fn get(call: &mut Call<'_>) -> Done {
    read(call, call.args.at(1)).await
}

/// Tells a value.
async fn read(call: &mut Call<'_>, key: &[u8]) -> Done {
    // What is at hand is answered without another look at anything, unless the client is to be told when it changes.
    if call.session.reads_plainly()
        && let Some(value) = call.resp.raw.quick(key)
    {
        call.out.bulk(&value);
        return Ok(());
    }
    let value = found(call, key).await?;
    call.out.bulk_or_null(value.as_deref());
    Ok(())
}

/// A read as any client makes it: counted, tracked, and with a lease for what it misses.
async fn found(call: &mut Call<'_>, key: &[u8]) -> Result<Option<Bytes>, Refusal> {
    if key.is_empty() {
        return Ok(None);
    }
    // Before it is looked for: what is invalidated while it is, was invalidated after the miss.
    let token = call.resp.raw.begin_fill(key);
    let answer = if call.session.no_touch { call.resp.raw.peek(key).await? } else { call.resp.raw.lookup(key).await?.into_answer() };
    crate::resp::tracking::has_read(call, key, answer.as_ref(), token);
    if answer.is_none() {
        call.resp.leases.missed(key, call.session.client.id, token, call.resp.now_ms());
    }
    Ok(answer.map(|answer| (*answer.value).clone()))
}

/// `MGET key [key ...]`
pub async fn mget(call: &mut Call<'_>) -> Done {
    call.out.array(call.args.len() - 1);
    for key in call.args.skip(1).iter() {
        consume_budget().await;
        read(call, key).await?;
        if call.out.len() > call.resp.limits.reply_bytes_max {
            let most = call.resp.limits.reply_bytes_max;
            return Err(Refusal::of(format!("ERR the reply would have more than {most} bytes; ask for less at once")));
        }
    }
    Ok(())
}

/// When `SET` sets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum If {
    #[default]
    Always,
    Absent,
    There,
}

/// `SET key value [NX | XX] [GET] [EX s | PX ms | EXAT s | PXAT ms | KEEPTTL]`
pub async fn set(call: &mut Call<'_>) -> Done {
    let (key, value) = (call.args.at(1), call.args.at(2));
    if call.args.len() == 3 {
        if let Some(done) = put_quickly(call, key, value) {
            return done;
        }
        return put(call, key, item(value, Until::Policy)).await.map(|()| call.out.ok());
    }
    let (mut condition, mut keeps, mut returns) = (If::Always, false, false);
    // Numbers are looked at when all words are known.
    let mut time: Time = None;
    let mut at = 3;
    while at < call.args.len() {
        if call.is(at, "NX") && condition != If::There {
            condition = If::Absent;
        } else if call.is(at, "XX") && condition != If::Absent {
            condition = If::There;
        } else if call.is(at, "GET") {
            returns = true;
        } else if call.is(at, "KEEPTTL") && time.is_none() {
            keeps = true;
        } else if !keeps && takes_time(call, at, &mut time) {
            at += 1;
        } else {
            return Err(SYNTAX);
        }
        at += 1;
    }
    let life = match time {
        Some((option, at)) => Until::At(until(call, option, at, "set")?),
        None if keeps => Until::Kept,
        None => Until::Policy,
    };
    if condition == If::Always && !returns && life != Until::Kept {
        return put(call, key, item(value, life)).await.map(|()| call.out.ok());
    }
    let _held = call.hold(key).await?;
    let changed = change(call, key, |now| {
        let sets = match condition {
            If::Always => true,
            If::Absent => now.is_none(),
            If::There => now.is_some(),
        };
        let change = if sets { Change::Replace(kept(item(value, life), life, now)) } else { Change::Keep };
        (change, (sets, value_of(now)))
    });
    let (sets, before) = changed.await?;
    match (returns, before) {
        (true, Some(before)) => call.out.bulk(&before),
        (false, _) if sets => call.out.ok(),
        _ => call.out.null(),
    }
    Ok(())
}

/// An item with the life that the entry before it had.
fn kept(item: Item<Bytes>, life: Until, before: Option<&Answer<Bytes>>) -> Item<Bytes> {
    match before {
        Some(before) if life == Until::Kept => match before.expires_at() {
            Some(at) => item.expires_at(at),
            None => item.forever(),
        },
        _ => item,
    }
}

/// A plain write that has nothing to wait for, as nearly all have where values are in memory alone; `None`, and nothing was done, where it
/// may have. It is no future, and a pipeline of such writes is a loop over little code: as futures within futures, what they took most
/// of their time for was fetching their own instructions.
#[inline]
fn put_quickly(call: &mut Call<'_>, key: &[u8], value: &[u8]) -> Option<Done> {
    let resp: &Resp = call.resp;
    if resp.leases.are_there() && resp.leases.judge(key, resp.now_ms()).is_some() {
        return None;
    }
    let _shared = if call.holds { None } else { Some(resp.stripes.try_share(key)?) };
    match call.session.putter.quick_put(key, value)? {
        Ok(receipt) => {
            has_written(call, key, Some(&receipt));
            call.out.ok();
            Some(Ok(()))
        }
        Err(error) => Some(Err(error.into())),
    }
}

/// A plain write: where a miss of this key was answered not long ago, only if nothing was invalidated since.
pub async fn put(call: &mut Call<'_>, key: &[u8], item: Item<Bytes>) -> Done {
    let receipt = lease::put(call.resp, key, call.session.client.id, item, call.holds).await?;
    has_written(call, key, receipt.as_ref());
    Ok(())
}

/// Changes a key by what is there. A value that it puts answers a miss of its own connection, which knows what is there now. Nobody else
/// on this server may change the key meanwhile.
pub async fn change<T: Send>(
    call: &mut Call<'_>,
    key: &[u8],
    mut decide: impl FnMut(Option<&Answer<Bytes>>) -> (Change, T) + Send,
) -> Result<T, Refusal> {
    let mut puts = false;
    let noting = |there: Option<&Answer<Bytes>>| {
        let (change, outcome) = decide(there);
        puts = matches!(change, Change::Replace(_) | Change::Value(_));
        (change, outcome)
    };
    let changed = call.resp.raw.change(key, noting).await?;
    if puts && changed.receipt.is_some() {
        call.resp.leases.answered(key, call.session.client.id, true);
    }
    has_written(call, key, changed.receipt.as_ref());
    Ok(changed.outcome)
}

/// `SETEX key seconds value`, `PSETEX key milliseconds value`
pub async fn setex(call: &mut Call<'_>, unit: i64, name: &str) -> Done {
    let (key, value) = (call.args.at(1), call.args.at(3));
    let at = moment(call, call.integer(2)?, unit, true, name)?;
    put(call, key, item(value, Until::At(at))).await?;
    call.out.ok();
    Ok(())
}

/// `SETNX key value`
pub async fn setnx(call: &mut Call<'_>) -> Done {
    let (key, value) = (call.args.at(1), call.args.at(2));
    let _held = call.hold(key).await?;
    let changed = change(call, key, |now| match now {
        None => (Change::Replace(item(value, Until::Policy)), true),
        Some(_) => (Change::Keep, false),
    });
    let sets = changed.await?;
    call.out.integer(sets.into());
    Ok(())
}

/// `GETSET key value`
pub async fn getset(call: &mut Call<'_>) -> Done {
    let (key, value) = (call.args.at(1), call.args.at(2));
    let _held = call.hold(key).await?;
    let before = change(call, key, |now| (Change::Replace(item(value, Until::Policy)), value_of(now))).await?;
    call.out.bulk_or_null(before.as_deref());
    Ok(())
}

fn value_of(there: Option<&Answer<Bytes>>) -> Option<Bytes> {
    there.map(|answer| (*answer.value).clone())
}

/// `GETDEL key`
pub async fn getdel(call: &mut Call<'_>) -> Done {
    let key = call.args.at(1);
    let _held = call.hold(key).await?;
    let before = change(call, key, |now| (Change::Remove, value_of(now))).await?;
    call.out.bulk_or_null(before.as_deref());
    Ok(())
}

/// `GETEX key [EX s | PX ms | EXAT s | PXAT ms | PERSIST]`
pub async fn getex(call: &mut Call<'_>) -> Done {
    let key = call.args.at(1);
    let mut time: Time = None;
    let mut persists = false;
    let mut at = 2;
    while at < call.args.len() {
        if call.is(at, "PERSIST") && time.is_none() {
            persists = true;
        } else if !persists && takes_time(call, at, &mut time) {
            at += 1;
        } else {
            return Err(SYNTAX);
        }
        at += 1;
    }
    if time.is_none() && !persists {
        return get(call).await;
    }
    let _held = call.hold(key).await?;
    // What is not there is answered before the number is looked at, as in Redis.
    if super::keys::peek(call, key).await?.is_none() {
        call.out.null();
        return Ok(());
    }
    let life = time.map(|(option, at)| until(call, option, at, "getex")).transpose()?.map_or(Life::Forever, Life::Until);
    let changed = change(call, key, |now| {
        let has_it = life == Life::Forever && now.is_some_and(|answer| answer.expires_at().is_none());
        (if has_it { Change::Keep } else { Change::Life(life) }, value_of(now))
    });
    let value = changed.await?;
    call.out.bulk_or_null(value.as_deref());
    Ok(())
}

/// `APPEND key value`
pub async fn append(call: &mut Call<'_>) -> Done {
    let (key, more) = (call.args.at(1), call.args.at(2));
    let _held = call.hold(key).await?;
    let changed = change(call, key, |now| {
        let value = [now.map_or(&[][..], |answer| &answer.value), more].concat();
        let len = value.len();
        (Change::Value(value.into()), len)
    });
    let len = changed.await?;
    call.out.count(len);
    Ok(())
}

/// `STRLEN key`
pub async fn strlen(call: &mut Call<'_>) -> Done {
    let key = call.args.at(1);
    let len = found(call, key).await?.map_or(0, |value| value.len());
    call.out.count(len);
    Ok(())
}

/// `GETRANGE key start end`, both counted from the end where they are negative
pub async fn getrange(call: &mut Call<'_>) -> Done {
    let (start, end) = (call.integer(2)?, call.integer(3)?);
    let key = call.args.at(1);
    let value = found(call, key).await?.unwrap_or_default();
    call.out.bulk(part(&value, start, end));
    Ok(())
}

/// What lies from `start` up to and with `end`.
fn part(value: &[u8], start: i64, end: i64) -> &[u8] {
    let len = value.len() as i64;
    if start < 0 && end < 0 && start > end {
        return &[];
    }
    let place = |at: i64| if at < 0 { at.saturating_add(len).max(0) } else { at };
    let (start, end) = (place(start), place(end).min(len - 1));
    if start > end || len == 0 {
        return &[];
    }
    &value[start as usize..=end as usize]
}

/// `MSET key value [key value ...]`
pub async fn mset(call: &mut Call<'_>) -> Done {
    if call.args.len().is_multiple_of(2) {
        return Err(Refusal::new("ERR wrong number of arguments for 'mset' command"));
    }
    let words: Vec<&[u8]> = call.args.skip(1).iter().collect();
    let pairs = words.chunks_exact(2);
    let _held = if call.holds { None } else { Some(call.resp.stripes.hold_all(pairs.clone().map(|pair| pair[0])).await?) };
    let (id, now) = (call.session.client.id, call.resp.now_ms());
    let (leased, plain) = pairs.partition::<Vec<_>, _>(|pair| call.resp.leases.judge(pair[0], now).is_some());
    let receipt = call.resp.raw.put_many(plain.iter().map(|pair| (pair[0], item(pair[1], Until::Policy)))).await?;
    plain.iter().for_each(|pair| has_written(call, pair[0], receipt.as_ref()));
    for pair in leased {
        let receipt = lease::put(call.resp, pair[0], id, item(pair[1], Until::Policy), true).await?;
        has_written(call, pair[0], receipt.as_ref());
    }
    call.out.ok();
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_redis_own() {
        let of = |start, end| part(b"Hello World", start, end);
        assert_eq!(of(0, 4), b"Hello");
        assert_eq!(of(-5, -1), b"World");
        assert_eq!(of(-100, 2), b"Hel");
        assert_eq!((of(0, 100), of(5, 3)), (b"Hello World".as_slice(), b"".as_slice()));
        assert_eq!((of(-1, -5), of(11, 20)), (b"".as_slice(), b"".as_slice()));
        assert_eq!(part(b"", 0, -1), b"");
    }
}
