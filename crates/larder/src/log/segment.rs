//! A segment: one file of the local log, a header and then records, only ever appended to.
//!
//! ```text
//! header, 64 bytes                                   record
//!  0  magic "LARDERLG"                               0  length of the body
//!  8  version = 2        12  flags                   4  CRC-32C of the body
//! 16  epoch              24  the head it begins at   8  body: position u64, kind u8, then by kind
//! 32  ceiling            40  boot id, 16 bytes          1 names:   count u32, the names
//! 56  CRC-32C of the 56 bytes before                    2 ceiling: position u64
//!                                                       3 closed:  nothing
//!                                                       4 events:  count u32, the marks (16 bytes each), then as names
//!                                                       5 marks:   the marks
//! ```
//!
//! Version 1 had no marks. Names take the next position, with or without marks; everything else repeats the head.
//!
//! The *ceiling* is a position that nothing was handed out above, and it is on stable storage before it is passed: after
//! a machine crash, when positions may have been handed out that never reached the disk, the log goes on from there.

use super::marks::{MARK_BYTES, Mark};
use crate::name::Name;
use crate::position::{Epoch, SEQ_MAX};

pub(super) const HEADER_LEN: usize = 64;
const MAGIC: &[u8; 8] = b"LARDERLG";
const VERSION: u32 = 2;
/// The oldest that can still be read.
const VERSION_MIN: u32 = 1;
/// Appends may have returned before they were on stable storage.
const FLAG_OS_APPENDS: u32 = 1;
const FRAME_LEN: usize = 8;
/// No body is longer: the most names of the greatest length, and room to spare.
const BODY_LEN_MAX: usize = 128 << 20;

const KIND_NAMES: u8 = 1;
const KIND_CEILING: u8 = 2;
const KIND_CLOSED: u8 = 3;
const KIND_EVENTS: u8 = 4;
const KIND_MARKS: u8 = 5;

/// What a segment says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) epoch: Epoch,
    /// The head when it was begun: the last position before, or the ceiling after a machine crash.
    pub(super) base: u64,
    pub(super) ceiling: u64,
    /// Which run of the machine wrote it.
    pub(super) boot: [u8; 16],
    pub(super) os_appends: bool,
}

/// Why a header cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BadHeader {
    /// Another version of larder wrote it: refuse, touch nothing.
    Version(u32),
    /// Not a header.
    Damaged,
}

impl Header {
    pub(super) fn encode(&self) -> [u8; HEADER_LEN] {
        let mut out = [0; HEADER_LEN];
        out[..8].copy_from_slice(MAGIC);
        out[8..12].copy_from_slice(&VERSION.to_le_bytes());
        out[12..16].copy_from_slice(&if self.os_appends { FLAG_OS_APPENDS } else { 0 }.to_le_bytes());
        for (at, number) in [(16, self.epoch.0), (24, self.base), (32, self.ceiling)] {
            out[at..at + 8].copy_from_slice(&number.to_le_bytes());
        }
        out[40..56].copy_from_slice(&self.boot);
        let crc = crc32c::crc32c(&out[..56]);
        out[56..60].copy_from_slice(&crc.to_le_bytes());
        out
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Self, BadHeader> {
        let bytes: &[u8; HEADER_LEN] = bytes.first_chunk().ok_or(BadHeader::Damaged)?;
        let u32_at = |at: usize| u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
        let u64_at = |at: usize| u64::from(u32_at(at)) | u64::from(u32_at(at + 4)) << 32;
        if &bytes[..8] != MAGIC {
            return Err(BadHeader::Damaged);
        }
        if !(VERSION_MIN..=VERSION).contains(&u32_at(8)) {
            return Err(BadHeader::Version(u32_at(8)));
        }
        let header = Header {
            epoch: Epoch(u64_at(16)),
            base: u64_at(24),
            ceiling: u64_at(32),
            boot: std::array::from_fn(|i| bytes[40 + i]),
            os_appends: u32_at(12) & FLAG_OS_APPENDS != 0,
        };
        let sound = crc32c::crc32c(&bytes[..56]) == u32_at(56) && header.epoch.0 != 0 && header.base <= SEQ_MAX;
        sound.then_some(header).ok_or(BadHeader::Damaged)
    }
}

/// One record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Entry {
    /// Names, and the events that they are invalidated for.
    Names(Vec<Name>, Vec<Mark>),
    /// Events that took effect earlier, or without a name.
    Marks(Vec<Mark>),
    Ceiling(u64),
    Closed,
}

/// Appends a record of names to `out`.
pub(super) fn encode_names(seq: u64, names: &[Name], marks: &[Mark], out: &mut Vec<u8>) {
    frame(seq, if marks.is_empty() { KIND_NAMES } else { KIND_EVENTS }, out, |out| {
        if !marks.is_empty() {
            out.extend_from_slice(&(marks.len() as u32).to_le_bytes());
            Mark::encode_all(marks, out);
        }
        out.extend_from_slice(&(names.len() as u32).to_le_bytes());
        names.iter().for_each(|name| name.encode(out));
    });
}

pub(super) fn encode_marks(seq: u64, marks: &[Mark], out: &mut Vec<u8>) {
    frame(seq, KIND_MARKS, out, |out| Mark::encode_all(marks, out));
}

pub(super) fn encode_ceiling(seq: u64, ceiling: u64, out: &mut Vec<u8>) {
    frame(seq, KIND_CEILING, out, |out| out.extend_from_slice(&ceiling.to_le_bytes()));
}

pub(super) fn encode_closed(seq: u64, out: &mut Vec<u8>) {
    frame(seq, KIND_CLOSED, out, |_| {});
}

fn frame(seq: u64, kind: u8, out: &mut Vec<u8>, body: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    out.extend_from_slice(&[0; FRAME_LEN]);
    out.extend_from_slice(&seq.to_le_bytes());
    out.push(kind);
    body(out);
    let (len, crc) = ((out.len() - start - FRAME_LEN) as u32, crc32c::crc32c(&out[start + FRAME_LEN..]));
    out[start..start + 4].copy_from_slice(&len.to_le_bytes());
    out[start + 4..start + 8].copy_from_slice(&crc.to_le_bytes());
}

/// How the records of a segment end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// With the last record whole.
    Whole,
    /// In the middle of the last write: its append never returned.
    Torn,
    /// With bytes that no interrupted write leaves behind: acknowledged records may be lost.
    Damaged,
}

/// Reads records one by one.
pub(super) struct Records<'a> {
    rest: &'a [u8],
    last: u64,
}

impl<'a> Records<'a> {
    /// `body` is what follows the header; `head` the position the segment begins at.
    pub(super) fn new(body: &'a [u8], head: u64) -> Self {
        Records { rest: body, last: head }
    }

    /// How the records ended, once [`next`](Iterator::next) gave none.
    pub(super) fn end(&self) -> End {
        match self.rest {
            [] => End::Whole,
            rest if complete_body(rest).is_some() || valid_record_behind(rest, self.last) => End::Damaged,
            _ => End::Torn,
        }
    }
}

impl Iterator for Records<'_> {
    type Item = (u64, Entry);

    fn next(&mut self) -> Option<(u64, Entry)> {
        let (seq, entry, len) = parse(self.rest)?;
        // Names take the next position; the other kinds repeat the head.
        let expected = if matches!(entry, Entry::Names(..)) { self.last + 1 } else { self.last };
        if seq != expected {
            return None;
        }
        self.last = seq;
        self.rest = &self.rest[len..];
        Some((seq, entry))
    }
}

/// The body and checksum of the frame at the front, if all its bytes are there.
fn complete_body(bytes: &[u8]) -> Option<(&[u8], u32)> {
    let (&[a, b, c, d, e, f, g, h], rest) = bytes.split_first_chunk()?;
    let len = u32::from_le_bytes([a, b, c, d]) as usize;
    let sane = (9..=BODY_LEN_MAX).contains(&len) && len <= rest.len();
    sane.then(|| (&rest[..len], u32::from_le_bytes([e, f, g, h])))
}

fn parse(bytes: &[u8]) -> Option<(u64, Entry, usize)> {
    let (body, crc) = complete_body(bytes)?;
    if crc32c::crc32c(body) != crc {
        return None;
    }
    let (seq, rest) = body.split_first_chunk()?;
    let (&kind, mut rest) = rest.split_first()?;
    let entry = match kind {
        KIND_NAMES | KIND_EVENTS => {
            let mut marks = Vec::new();
            if kind == KIND_EVENTS {
                let (count, body) = rest.split_first_chunk()?;
                let (bytes, behind) = body.split_at_checked((u32::from_le_bytes(*count) as usize).checked_mul(MARK_BYTES)?)?;
                marks = Mark::decode_all(bytes)?;
                rest = behind;
            }
            let (count, names) = rest.split_first_chunk()?;
            rest = names;
            let names = (0..u32::from_le_bytes(*count)).map(|_| Name::decode(&mut rest)).collect::<Option<_>>()?;
            Entry::Names(names, marks)
        }
        KIND_MARKS => Entry::Marks(Mark::decode_all(std::mem::take(&mut rest))?),
        KIND_CEILING => {
            let (ceiling, none) = rest.split_first_chunk()?;
            rest = none;
            Entry::Ceiling(u64::from_le_bytes(*ceiling))
        }
        KIND_CLOSED => Entry::Closed,
        _ => return None,
    };
    rest.is_empty().then_some((u64::from_le_bytes(*seq), entry, FRAME_LEN + body.len()))
}

/// Whether a whole record of a later position stands anywhere behind the front: then what is at the front was not the
/// last write, but was one that returned.
fn valid_record_behind(bytes: &[u8], last: u64) -> bool {
    let plausible = |at: usize| {
        let rest = &bytes[at..];
        let later = |body: &[u8]| body.first_chunk().is_some_and(|seq| (last..last + (1 << 24)).contains(&u64::from_le_bytes(*seq)));
        complete_body(rest).is_some_and(|(body, _)| later(body)) && parse(rest).is_some()
    };
    (1..bytes.len()).any(plausible)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::name::Names;

    fn header() -> Header {
        Header { epoch: Epoch(3), base: 5, ceiling: 1000, boot: *b"0123456789abcdef", os_appends: true }
    }

    fn three_records() -> Vec<u8> {
        let mut bytes = Vec::new();
        encode_names(6, &Names::new().key("a:b").everything().check().unwrap(), &[Mark(4), Mark(5)], &mut bytes);
        encode_ceiling(6, 2000, &mut bytes);
        encode_names(7, &Names::new().pattern("a:*").check().unwrap(), &[], &mut bytes);
        bytes
    }

    #[test]
    fn a_header_survives_and_no_flipped_bit_passes() {
        let bytes = header().encode();
        assert_eq!(Header::decode(&bytes), Ok(header()));
        for bit in 0..8 * 60 {
            let mut flipped = bytes;
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(Header::decode(&flipped).is_err(), "bit {bit}");
        }
        let mut newer = bytes;
        newer[8] = 3;
        assert_eq!(Header::decode(&newer), Err(BadHeader::Version(3)));
    }

    #[test]
    fn records_survive() {
        let bytes = three_records();
        let mut records = Records::new(&bytes, 5);
        let read: Vec<_> = records.by_ref().map(|(seq, entry)| (seq, matches!(entry, Entry::Names(..)))).collect();
        assert_eq!(read, [(6, true), (6, false), (7, true)]);
        assert_eq!(records.end(), End::Whole);
    }

    #[test]
    fn a_segment_of_the_version_before_is_read() {
        let mut older = header().encode();
        older[8] = 1;
        let crc = crc32c::crc32c(&older[..56]);
        older[56..60].copy_from_slice(&crc.to_le_bytes());
        assert_eq!(Header::decode(&older), Ok(header()));
    }

    #[test]
    fn marks_come_back_with_their_names_or_alone_at_the_head() {
        let (names, mut bytes) = (Names::new().tag("t").check().unwrap(), Vec::new());
        encode_names(6, &names, &[Mark(1), Mark(2)], &mut bytes);
        encode_marks(6, &[Mark(3)], &mut bytes);
        encode_names(7, &names, &[], &mut bytes);
        let read: Vec<_> = Records::new(&bytes, 5).collect();
        let expected = [
            (6, Entry::Names(names.clone(), vec![Mark(1), Mark(2)])),
            (6, Entry::Marks(vec![Mark(3)])),
            (7, Entry::Names(names, Vec::new())),
        ];
        assert_eq!(read, expected);
    }

    #[test]
    fn a_cut_is_torn_and_loses_only_the_last_record() {
        let bytes = three_records();
        let whole: Vec<usize> = {
            let mut ends = vec![0];
            while let Some((_, _, len)) = parse(&bytes[*ends.last().unwrap()..]) {
                ends.push(ends.last().unwrap() + len);
            }
            ends
        };
        for cut in 0..=bytes.len() {
            let mut records = Records::new(&bytes[..cut], 5);
            let read = records.by_ref().count();
            assert_eq!(read, whole.iter().filter(|end| **end <= cut).count() - 1, "cut at {cut}");
            assert_eq!(records.end(), if whole.contains(&cut) { End::Whole } else { End::Torn }, "cut at {cut}");
        }
    }

    #[test]
    fn a_flipped_bit_before_the_last_record_is_damage() {
        let bytes = three_records();
        let last = bytes.len() - 30;
        for bit in 0..8 * last {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            let mut records = Records::new(&flipped, 5);
            assert!(records.by_ref().count() < 3 && records.end() == End::Damaged, "bit {bit}");
        }
    }
}
