//! Going through the keys: `SCAN`, `KEYS`.
//!
//! A cursor is a number, as clients take it for one, and a listing goes on behind a key. So the server remembers which key a number
//! stands for, and the keys that it has found already: listing memory is a walk through all of it, which is made for thousands of keys at
//! once, however few are asked for at a time. A key that is there all the while is told exactly once.

use std::collections::{HashMap, VecDeque};

use larder::Cursor;
use parking_lot::Mutex;

use super::{Call, Done, Refusal, SYNTAX, whole};
use crate::resp::glob;

/// Keys that are found at once.
const PAGE: usize = 10_000;

/// Scans that are under way at most; more, and the one that was not asked for the longest is forgotten.
const SCANS_MAX: usize = 256;

/// Bytes of keys that they hold at most, all together.
const SCANS_BYTES_MAX: usize = 64 << 20;

/// What `COUNT` is unless given.
const COUNT: i64 = 10;

/// The scans under way.
#[derive(Debug, Default)]
pub struct Scans {
    under_way: Mutex<UnderWay>,
    /// Held by a KEYS: each is many walks through memory, so they take turns.
    whole: tokio::sync::Mutex<()>,
}

#[derive(Debug, Default)]
struct UnderWay {
    scans: HashMap<u64, Scan>,
    order: VecDeque<u64>,
    bytes: usize,
    last: u64,
}

#[derive(Debug)]
struct Scan {
    found: VecDeque<Box<[u8]>>,
    next: Option<Cursor>,
}

impl Scan {
    fn bytes(&self) -> usize {
        self.found.iter().map(|key| key.len() + size_of::<Box<[u8]>>()).sum()
    }
}

impl Scans {
    fn take(&self, cursor: u64) -> Option<Scan> {
        let mut all = self.under_way.lock();
        let scan = all.scans.remove(&cursor)?;
        all.order.retain(|other| *other != cursor);
        all.bytes -= scan.bytes();
        Some(scan)
    }

    fn keep(&self, scan: Scan) -> u64 {
        let mut all = self.under_way.lock();
        all.last += 1;
        let cursor = all.last;
        all.bytes += scan.bytes();
        all.scans.insert(cursor, scan);
        all.order.push_back(cursor);
        while (all.order.len() > SCANS_MAX || all.bytes > SCANS_BYTES_MAX && all.order.len() > 1)
            && let Some(oldest) = all.order.pop_front()
        {
            all.bytes -= all.scans.remove(&oldest).map_or(0, |scan| scan.bytes());
        }
        cursor
    }
}

/// The next keys. Looked for elsewhere: it is a walk through all of memory, and the other connections of this thread do not wait for it.
async fn page(call: &Call<'_>, cursor: Cursor) -> Result<larder::Keys, Refusal> {
    let raw = call.resp.raw.clone();
    let found = call.resp.runtime().spawn(async move { raw.keys("**", cursor, PAGE).await }).await;
    Ok(found.map_err(|_| const { Refusal::new("UNAVAILABLE the server is ending") })??)
}

/// `SCAN cursor [MATCH pattern] [COUNT count] [TYPE type]`
pub async fn scan(call: &mut Call<'_>) -> Done {
    let wrong = || Refusal::new("ERR invalid cursor");
    let cursor: u64 = std::str::from_utf8(call.args.at(1)).ok().and_then(|text| text.parse().ok()).ok_or_else(wrong)?;
    let (mut pattern, mut count, mut is_any) = (None, COUNT, true);
    let mut at = 2;
    while at < call.args.len() {
        if at + 1 >= call.args.len() {
            return Err(SYNTAX);
        }
        let word = call.args.at(at + 1);
        if call.is(at, "COUNT") {
            count = whole(word)?;
            if count < 1 {
                return Err(SYNTAX);
            }
        } else if call.is(at, "MATCH") {
            pattern = Some(word);
        } else if call.is(at, "TYPE") {
            is_any = word.eq_ignore_ascii_case(b"string");
        } else {
            return Err(SYNTAX);
        }
        at += 2;
    }
    let begun = match cursor {
        0 => Scan { found: VecDeque::new(), next: Some(Cursor::start()) },
        // One that is known no more ends the scan in an error, and not as if all had been told.
        cursor => call.resp.scans.take(cursor).ok_or_else(wrong)?,
    };
    let mut scan = begun;
    let mut told: Vec<Box<[u8]>> = Vec::new();
    let mut looked = 0;
    // A hint, and bounded: a reply of all keys is what KEYS is for.
    let count = count.min(PAGE as i64);
    while looked < count {
        let Some(key) = scan.found.pop_front() else {
            let Some(next) = scan.next.take() else { break };
            let page = page(call, next).await?;
            (scan.found, scan.next) = (page.keys.into(), page.next);
            continue;
        };
        looked += 1;
        // Filtered when it is told, and not when it is found: a cursor may be another's.
        if is_any && call.may_read(&key) && pattern.is_none_or(|pattern| glob::matches(pattern, &key)) {
            told.push(key);
        }
    }
    let is_over = scan.found.is_empty() && scan.next.is_none();
    let next = if is_over { 0 } else { call.resp.scans.keep(scan) };
    call.out.array(2);
    call.out.bulk(next.to_string().as_bytes());
    call.out.array(told.len());
    told.iter().for_each(|key| call.out.bulk(key));
    Ok(())
}

/// `KEYS pattern`
pub async fn keys(call: &mut Call<'_>) -> Done {
    let pattern = call.args.at(1);
    let resp = call.resp.clone();
    let _turn = resp.scans.whole.lock().await;
    let mut told: Vec<Box<[u8]>> = Vec::new();
    let mut bytes = 0;
    let mut next = Some(Cursor::start());
    while let Some(cursor) = next {
        let page = page(call, cursor).await?;
        for key in page.keys {
            if glob::matches(pattern, &key) && call.may_read(&key) {
                bytes += key.len();
                told.push(key);
            }
        }
        if bytes > call.resp.limits.reply_bytes_max {
            return Err(Refusal::new("ERR there are too many keys for one reply; go through them with SCAN"));
        }
        next = page.next;
    }
    call.out.array(told.len());
    told.iter().for_each(|key| call.out.bulk(key));
    Ok(())
}
