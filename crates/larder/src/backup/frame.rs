//! Frames and the files that they make up: what is read without being believed.
//!
//! ```text
//! file    0  magic "LARDERBK"      8  u16 version = 1      10  u8 kind (1: records, 2: index)    11  zero
//!        12  u32 number of the file, from 1             16  frames, to the end of the file
//!
//! frame   0  magic "LBFR"          4  u32 number of the frame in its file, from 0
//!         8  u32 length before compression              12  u32 length of the compressed bytes
//!        16  u32 CRC-32C of bytes 4 to 16 and of the compressed bytes
//!        20  compressed: one zstd frame
//! ```
//!
//! Each frame stands alone, so that a file can be read from any of them on, a damaged one says where it is, and neither side holds more
//! than one. A frame has about 1 MiB before compression, or one record that is larger.

use std::io::Read;

use crate::error::{Error, ErrorKind, Result};

/// Where a frame is closed, in bytes before compression.
pub(super) const FRAME_BYTES: usize = 1 << 20;

/// The most that a frame may claim to be. It bounds what a hostile one can have us take: such a frame needs as many bytes after being
/// decompressed, and no more is taken than came out.
pub(super) const FRAME_BYTES_MAX: usize = 256 << 20;

/// The version of files and frames.
const VERSION: u16 = 1;
const FILE_MAGIC: &[u8; 8] = b"LARDERBK";
const FRAME_MAGIC: &[u8; 4] = b"LBFR";
pub(super) const FILE_HEADER: usize = 16;
const FRAME_HEADER: usize = 20;
/// zstd's fastest ordinary level. A cache is backed up often and restored seldom, beside readers who want the processor.
const LEVEL: i32 = 1;

/// What a file is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Records = 1,
    Index = 2,
}

/// Makes the bytes of one file.
pub(super) struct FileWriter {
    bytes: Vec<u8>,
    frames: u32,
    compressor: zstd::bulk::Compressor<'static>,
}

impl FileWriter {
    pub(super) fn begin(kind: Kind, number: u32) -> Result<Self> {
        let compressor = zstd::bulk::Compressor::new(LEVEL).map_err(cannot_compress)?;
        let mut writer = FileWriter { bytes: Vec::new(), frames: 0, compressor };
        writer.begin_next(kind, number);
        Ok(writer)
    }

    /// Another file, with the same compressor: making one costs as much as compressing some frames.
    pub(super) fn begin_next(&mut self, kind: Kind, number: u32) -> Vec<u8> {
        let mut header = Vec::with_capacity(FILE_HEADER);
        header.extend_from_slice(FILE_MAGIC);
        header.extend_from_slice(&VERSION.to_le_bytes());
        header.extend_from_slice(&[kind as u8, 0]);
        header.extend_from_slice(&number.to_le_bytes());
        self.frames = 0;
        std::mem::replace(&mut self.bytes, header)
    }

    pub(super) fn frame(&mut self, raw: &[u8]) -> Result<()> {
        debug_assert!(raw.len() <= FRAME_BYTES_MAX, "who fills frames leaves out what is larger");
        let start = self.bytes.len();
        self.bytes.resize(start + FRAME_HEADER + zstd::zstd_safe::compress_bound(raw.len()), 0);
        let len = self.compressor.compress_to_buffer(raw, &mut self.bytes[start + FRAME_HEADER..]).map_err(cannot_compress)?;
        self.bytes.truncate(start + FRAME_HEADER + len);
        let mut header = Vec::with_capacity(FRAME_HEADER);
        header.extend_from_slice(FRAME_MAGIC);
        for number in [self.frames, raw.len() as u32, len as u32] {
            header.extend_from_slice(&number.to_le_bytes());
        }
        let crc = crc32c::crc32c_append(crc32c::crc32c(&header[4..16]), &self.bytes[start + FRAME_HEADER..]);
        header.extend_from_slice(&crc.to_le_bytes());
        self.bytes[start..start + FRAME_HEADER].copy_from_slice(&header);
        self.frames += 1;
        Ok(())
    }

    pub(super) fn len(&self) -> usize {
        self.bytes.len()
    }
}

/// Reads a file frame by frame, and knows where it is, for whoever must be told what is wrong.
pub(super) struct FileReader<'a> {
    name: &'a str,
    rest: &'a [u8],
    at: u64,
    frames: u32,
    decompressor: zstd::bulk::Decompressor<'static>,
}

impl<'a> FileReader<'a> {
    pub(super) fn open(name: &'a str, bytes: &'a [u8], kind: Kind, number: u32) -> Result<Self> {
        let Some((header, rest)) = bytes.split_at_checked(FILE_HEADER) else {
            return Err(bad(name, 0, "is cut short within its header"));
        };
        if &header[..8] != FILE_MAGIC {
            return Err(bad(name, 0, "is no file of a larder backup"));
        }
        let version = u16::from_le_bytes([header[8], header[9]]);
        if version != VERSION {
            let message = format!("{name} is of format {version}, and this version of larder knows format {VERSION}; nothing was touched");
            return Err(Error::new(ErrorKind::UnknownFormat, message));
        }
        if header[10..12] != [kind as u8, 0] {
            return Err(bad(name, 10, "is of another kind than its name says"));
        }
        if header[12..16] != number.to_le_bytes() {
            return Err(bad(name, 12, "stands in the place of another file"));
        }
        let decompressor = zstd::bulk::Decompressor::new()
            .map_err(|e| Error::new(ErrorKind::BadArchive, "the decompressor cannot be had").with_source(e))?;
        Ok(FileReader { name, rest, at: FILE_HEADER as u64, frames: 0, decompressor })
    }

    /// Where the next frame begins.
    pub(super) fn offset(&self) -> u64 {
        self.at
    }

    /// The next frame as it was before compression; `None` at the end of the file.
    pub(super) fn next_frame(&mut self) -> Result<Option<Vec<u8>>> {
        if self.rest.is_empty() {
            return Ok(None);
        }
        let (name, at) = (self.name, self.at);
        let fail = |why: &str| bad(name, at, why);
        let (header, rest) = self.rest.split_at_checked(FRAME_HEADER).ok_or_else(|| fail("is cut short within a frame's header"))?;
        let word = |at: usize| u32::from_le_bytes(header[at..at + 4].try_into().expect("four bytes of a header"));
        if &header[..4] != FRAME_MAGIC {
            return Err(fail("has no frame where one should begin"));
        }
        let (number, raw_len, len) = (word(4), word(8) as usize, word(12) as usize);
        let Some((compressed, rest)) = rest.split_at_checked(len) else { return Err(fail("is cut short within a frame")) };
        if word(16) != crc32c::crc32c_append(crc32c::crc32c(&header[4..16]), compressed) {
            return Err(fail("has a frame that does not match its checksum"));
        }
        if number != self.frames {
            return Err(fail("has its frames in another order than they were written in"));
        }
        if raw_len > FRAME_BYTES_MAX {
            return Err(fail("has a frame that claims to be larger than any can be"));
        }
        let raw = self.decompress(compressed, raw_len).ok_or_else(|| fail("has a frame that is not as long as it says"))?;
        self.rest = rest;
        self.at += (FRAME_HEADER + len) as u64;
        self.frames += 1;
        Ok(Some(raw))
    }

    /// No more than is claimed ever comes out; and what is claimed beyond the ordinary is taken only as it comes.
    fn decompress(&mut self, compressed: &[u8], raw_len: usize) -> Option<Vec<u8>> {
        let raw = if raw_len <= 2 * FRAME_BYTES {
            self.decompressor.decompress(compressed, raw_len).ok()?
        } else {
            let mut decoder = zstd::stream::read::Decoder::with_buffer(compressed).ok()?.single_frame();
            decoder.window_log_max(27).ok()?;
            let mut raw = Vec::new();
            decoder.take(raw_len as u64 + 1).read_to_end(&mut raw).ok()?;
            raw
        };
        (raw.len() == raw_len).then_some(raw)
    }
}

/// What is wrong with a file, and where.
pub(super) fn bad(name: &str, at: u64, why: &str) -> Error {
    Error::new(ErrorKind::BadArchive, format!("{name} {why} (at byte {at})"))
}

fn cannot_compress(e: std::io::Error) -> Error {
    Error::new(ErrorKind::Backup, "a backup cannot be compressed").with_source(e)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(frames: &[&[u8]]) -> Vec<u8> {
        let mut writer = FileWriter::begin(Kind::Records, 3).unwrap();
        frames.iter().for_each(|frame| writer.frame(frame).unwrap());
        writer.begin_next(Kind::Records, 4)
    }

    fn read(bytes: &[u8]) -> Result<Vec<Vec<u8>>> {
        let mut reader = FileReader::open("f", bytes, Kind::Records, 3)?;
        std::iter::from_fn(|| reader.next_frame().transpose()).collect()
    }

    #[test]
    fn frames_come_back_and_every_flipped_bit_and_every_cut_is_noticed() {
        let frames: [&[u8]; 3] = [b"first", &[7; 5000], b""];
        let bytes = file(&frames);
        assert_eq!(read(&bytes).unwrap(), frames);
        for at in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[at / 8] ^= 1 << (at % 8);
            let error = read(&flipped).expect_err("a flipped bit");
            assert!(error.to_string().contains('f'), "{error}");
        }
        for len in 0..bytes.len() {
            // A file that ends between two frames is noticed by its length, which the manifest has.
            let cut = read(&bytes[..len]);
            assert!(cut.is_err() || cut.is_ok_and(|read| read.len() < frames.len()), "{len}");
        }
    }

    #[test]
    fn frames_in_another_order_are_noticed() {
        let (one, two) = (file(&[b"one"]), file(&[b"one", b"two"]));
        let mut swapped = two[..FILE_HEADER].to_vec();
        swapped.extend_from_slice(&two[one.len()..]);
        swapped.extend_from_slice(&one[FILE_HEADER..]);
        assert!(read(&swapped).unwrap_err().to_string().contains("another order"));
    }

    /// A frame that is in order but for the length that it claims.
    fn claiming(raw_len: u32, compressed: &[u8]) -> Vec<u8> {
        let mut bytes = file(&[]);
        let mut header = FRAME_MAGIC.to_vec();
        for number in [0, raw_len, compressed.len() as u32] {
            header.extend_from_slice(&number.to_le_bytes());
        }
        let crc = crc32c::crc32c_append(crc32c::crc32c(&header[4..16]), compressed);
        header.extend_from_slice(&crc.to_le_bytes());
        bytes.extend_from_slice(&header);
        bytes.extend_from_slice(compressed);
        bytes
    }

    #[test]
    fn a_bomb_is_refused_before_it_goes_off() {
        let bomb = zstd::bulk::compress(&vec![0; 64 << 20], 1).unwrap();
        for claim in [10, 1 << 20, (32 << 20) as u32, FRAME_BYTES_MAX as u32 + 1, u32::MAX] {
            let error = read(&claiming(claim, &bomb)).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::BadArchive, "{claim}: {error}");
        }
        assert_eq!(read(&claiming(64 << 20, &bomb)).unwrap()[0].len(), 64 << 20, "what is as long as it says is read");
    }

    #[test]
    fn a_newer_version_and_a_foreign_file_say_so() {
        let mut newer = file(&[b"x"]);
        newer[8] = 2;
        assert_eq!(read(&newer).unwrap_err().kind(), ErrorKind::UnknownFormat);
        assert!(read(b"GIF89a, and some more").unwrap_err().to_string().contains("no file of a larder backup"));
        assert!(FileReader::open("f", &file(&[]), Kind::Records, 4).err().unwrap().to_string().contains("another file"));
        assert!(FileReader::open("f", &file(&[]), Kind::Index, 3).err().unwrap().to_string().contains("another kind"));
    }
}
