//! The parser of requests against two others: one that is slow and obviously right, for any bytes, and that of the crate
//! `redis-protocol`, for whole requests. The fuzz target uses the same check.

use larder_server::resp::frame::{Decoder, Limits, Step};

/// So small that chance reaches them.
pub const LIMITS: Limits = Limits { args_max: 6, arg_bytes_max: 40, request_bytes_max: 120 };

/// What a request is, read from its first byte on, with nothing remembered from before.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Outcome {
    Request { len: usize, args: Vec<Vec<u8>> },
    More,
    Malformed,
}

/// Why reading ends before there is a request.
enum End {
    More,
    Malformed,
}

/// The slow one: a byte at a time, from the beginning, each time.
fn reference(bytes: &[u8]) -> Outcome {
    let mut at = 0;
    let read = match bytes.first() {
        None => Err(End::More),
        Some(b'*') => array(bytes, &mut at),
        Some(_) => line_of_words(bytes, &mut at),
    };
    match read {
        Ok(args) => Outcome::Request { len: at, args },
        Err(End::More) => Outcome::More,
        Err(End::Malformed) => Outcome::Malformed,
    }
}

fn next(bytes: &[u8], at: &mut usize) -> Result<u8, End> {
    let byte = *bytes.get(*at).ok_or(End::More)?;
    *at += 1;
    Ok(byte)
}

fn number(bytes: &[u8], at: &mut usize) -> Result<i64, End> {
    let mut digits = String::new();
    loop {
        match next(bytes, at)? {
            b'\r' => break,
            byte => digits.push(char::from(byte)),
        }
    }
    if next(bytes, at)? != b'\n' {
        return Err(End::Malformed);
    }
    let number: i64 = digits.parse().map_err(|_| End::Malformed)?;
    // One form each: `+1`, `01` and `-0` are others.
    if number.to_string() == digits { Ok(number) } else { Err(End::Malformed) }
}

fn array(bytes: &[u8], at: &mut usize) -> Result<Vec<Vec<u8>>, End> {
    *at += 1;
    let count = number(bytes, at)?.max(0) as usize;
    if count > LIMITS.args_max {
        return Err(End::Malformed);
    }
    let mut args = Vec::new();
    for _ in 0..count {
        if next(bytes, at)? != b'$' {
            return Err(End::Malformed);
        }
        let length = usize::try_from(number(bytes, at)?).map_err(|_| End::Malformed)?;
        if length > LIMITS.arg_bytes_max || *at + length + 2 > LIMITS.request_bytes_max {
            return Err(End::Malformed);
        }
        let mut arg = Vec::new();
        for _ in 0..length {
            arg.push(next(bytes, at)?);
        }
        // Both bytes of the line's end are waited for before the first is judged.
        let end = [next(bytes, at)?, next(bytes, at)?];
        if end != *b"\r\n" {
            return Err(End::Malformed);
        }
        args.push(arg);
    }
    Ok(args)
}

fn line_of_words(bytes: &[u8], at: &mut usize) -> Result<Vec<Vec<u8>>, End> {
    let mut line = Vec::new();
    loop {
        match next(bytes, at)? {
            b'\n' => break,
            byte => line.push(byte),
        }
    }
    if line.last() == Some(&b'\r') {
        line.pop();
    }
    let (mut words, mut word, mut quote) = (Vec::new(), None::<Vec<u8>>, None);
    let mut i = 0;
    while i < line.len() {
        let byte = line[i];
        let is_space = |byte: u8| matches!(byte, b' ' | b'\t' | b'\n' | b'\r' | 0x0b | 0x0c);
        match quote {
            None if is_space(byte) => words.extend(word.take()),
            None if matches!(byte, b'"' | b'\'') => {
                quote = Some(byte);
                word.get_or_insert_default();
            }
            None => word.get_or_insert_default().push(byte),
            Some(opened) if byte == opened => {
                if line.get(i + 1).is_some_and(|after| !is_space(*after)) {
                    return Err(End::Malformed);
                }
                quote = None;
            }
            Some(opened) => {
                let (escaped, skipped) = unescaped(opened, &line[i..]);
                word.get_or_insert_default().push(escaped);
                i += skipped;
            }
        }
        i += 1;
    }
    if quote.is_some() {
        return Err(End::Malformed);
    }
    words.extend(word);
    Ok(words)
}

/// The byte that stands at the beginning of this, and how many more bytes it was written with.
fn unescaped(quote: u8, text: &[u8]) -> (u8, usize) {
    let digit = |at: usize| text.get(at).and_then(|digit| char::from(*digit).to_digit(16));
    match (quote, text) {
        (b'\'', [b'\\', b'\'', ..]) => (b'\'', 1),
        (b'"', [b'\\', b'x', ..]) if digit(2).is_some() && digit(3).is_some() => {
            let (high, low) = (digit(2).unwrap_or(0), digit(3).unwrap_or(0));
            ((high * 16 + low) as u8, 3)
        }
        (b'"', [b'\\', letter, ..]) => match letter {
            b'n' => (b'\n', 1),
            b'r' => (b'\r', 1),
            b't' => (b'\t', 1),
            b'a' => (7, 1),
            b'b' => (8, 1),
            other => (*other, 1),
        },
        _ => (text[0], 0),
    }
}

/// Holds the parser against the slow one, for all of these bytes and for each of their beginnings: afresh, and as they come.
///
/// # Panics
/// If they read them differently.
pub fn check(bytes: &[u8]) {
    if let Err(difference) = compare(bytes, LIMITS) {
        panic!("{difference}");
    }
}

fn compare(bytes: &[u8], limits: Limits) -> Result<(), String> {
    let outcome = |decoder: &mut Decoder, bytes: &[u8]| match decoder.decode(bytes) {
        Ok(Step::Request(len)) => Outcome::Request { len, args: decoder.args(bytes).iter().map(<[u8]>::to_vec).collect() },
        Ok(Step::More(least)) => {
            assert!(least > 0, "nothing more is asked for after {}", bytes.escape_ascii());
            Outcome::More
        }
        Err(_) => Outcome::Malformed,
    };
    let mut rest = bytes;
    let mut coming = Decoder::new(limits);
    // Requests follow each other until one is not whole or none at all.
    loop {
        let mut ended = None;
        for come in 0..=rest.len() {
            let expected = reference(&rest[..come]);
            let afresh = outcome(&mut Decoder::new(limits), &rest[..come]);
            let on = outcome(&mut coming, &rest[..come]);
            if afresh != expected || on != expected {
                let shown = rest[..come].escape_ascii();
                return Err(format!("{shown}: read at once {afresh:?}, as it came {on:?}, and slowly {expected:?}"));
            }
            if expected != Outcome::More {
                ended = Some(expected);
                break;
            }
        }
        match ended {
            Some(Outcome::Request { len, .. }) => rest = &rest[len..],
            _ => return Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use fastrand::Rng;
    use redis_protocol::resp2::decode::decode;
    use redis_protocol::resp2::types::OwnedFrame;

    use super::*;
    use crate::seed;
    use crate::wire::encoded;

    /// What parsers stumble over, more often than chance has it.
    const PIECES: [&[u8]; 30] = [
        b"*",
        b"$",
        b"\r\n",
        b"\r",
        b"\n",
        b"*1\r\n",
        b"*2\r\n",
        b"*0\r\n",
        b"*-1\r\n",
        b"*7\r\n",
        b"$0\r\n",
        b"$1\r\n",
        b"$-1\r\n",
        b"$41\r\n",
        b"$40\r\n",
        b"*01\r\n",
        b"$+1\r\n",
        b"*9223372036854775808\r\n",
        b"$9223372036854775807\r\n",
        b"-",
        b"0",
        b" ",
        b"\"",
        b"'",
        b"\\",
        b"\\x4",
        b"\\x41",
        b"\0",
        b"\xff",
        b"PING",
    ];

    fn words(random: &mut Rng) -> Vec<Vec<u8>> {
        (0..random.usize(..5)).map(|_| (0..random.usize(..12)).map(|_| b"\r\n*$1 \"'\\\0ab"[random.usize(..12)]).collect()).collect()
    }

    /// Whole requests, broken ones, and anything.
    fn bytes(random: &mut Rng) -> Vec<u8> {
        let mut bytes = Vec::new();
        for _ in 0..random.usize(1..4) {
            match random.u32(..4) {
                0 => bytes.extend(encoded(&words(random))),
                // About as large as one may be.
                3 => bytes.extend(encoded(&vec![vec![b'x'; random.usize(20..=LIMITS.arg_bytes_max)]; random.usize(2..5)])),
                1 => (0..random.usize(1..12)).for_each(|_| bytes.extend(PIECES[random.usize(..PIECES.len())])),
                _ => bytes.extend([&b"SET k \"a\\x00\" 'b'"[..], PIECES[random.usize(..PIECES.len())], b"\r\n"].concat()),
            }
        }
        if random.bool() && !bytes.is_empty() {
            let at = random.usize(..bytes.len());
            match random.u32(..3) {
                0 => bytes[at] = random.u8(..),
                1 => drop(bytes.remove(at)),
                _ => bytes.insert(at, PIECES[random.usize(..PIECES.len())][0]),
            }
        }
        bytes
    }

    #[test]
    fn any_bytes_are_read_as_the_slow_parser_reads_them() {
        let seed = seed();
        println!("LARDER_SEED={seed}");
        let mut random = Rng::with_seed(seed);
        (0..20_000).for_each(|_| check(&bytes(&mut random)));
    }

    #[test]
    fn limits_that_are_off_by_one_are_noticed() {
        let seed = seed();
        let off = [
            Limits { args_max: LIMITS.args_max + 1, ..LIMITS },
            Limits { arg_bytes_max: LIMITS.arg_bytes_max - 1, ..LIMITS },
            Limits { request_bytes_max: LIMITS.request_bytes_max - 1, ..LIMITS },
        ];
        for limits in off {
            let mut random = Rng::with_seed(seed);
            let noticed = (0..100_000).any(|_| compare(&bytes(&mut random), limits).is_err());
            assert!(noticed, "LARDER_SEED={seed}: {limits:?}");
        }
    }

    #[test]
    #[ignore = "goes on for as long as LARDER_MINUTES says; `cargo xtask fuzz` runs it"]
    fn any_bytes_for_as_long_as_one_likes() {
        let minutes: f64 = std::env::var("LARDER_MINUTES").ok().and_then(|text| text.parse().ok()).expect("LARDER_MINUTES is a number");
        let (seed, began, mut count) = (seed(), Instant::now(), 0u64);
        println!("LARDER_SEED={seed}");
        let mut random = Rng::with_seed(seed);
        while began.elapsed().as_secs_f64() < minutes * 60.0 {
            (0..1_000).for_each(|_| check(&bytes(&mut random)));
            count += 1_000;
        }
        println!("{count} inputs, each cut at every byte");
    }

    #[test]
    fn whole_requests_are_read_as_redis_protocol_reads_them() {
        let seed = seed();
        println!("LARDER_SEED={seed}");
        let mut random = Rng::with_seed(seed);
        for _ in 0..5_000 {
            let asked = words(&mut random);
            // Of nothing there is nothing to read.
            if asked.is_empty() {
                continue;
            }
            let bytes = encoded(&asked);
            let (frame, len) = decode(&bytes).expect("it is a frame").expect("it is whole");
            let OwnedFrame::Array(parts) = frame else { panic!("{frame:?} is no array") };
            let read: Vec<Vec<u8>> = parts
                .into_iter()
                .map(|part| match part {
                    OwnedFrame::BulkString(bytes) => bytes,
                    other => panic!("{other:?} is no bulk string"),
                })
                .collect();
            let mut decoder = Decoder::new(Limits::default());
            assert_eq!(decoder.decode(&bytes), Ok(Step::Request(len)), "LARDER_SEED={seed}");
            assert_eq!(decoder.args(&bytes).iter().map(<[u8]>::to_vec).collect::<Vec<_>>(), read, "LARDER_SEED={seed}");
            assert_eq!(read, asked, "LARDER_SEED={seed}");
        }
    }
}
