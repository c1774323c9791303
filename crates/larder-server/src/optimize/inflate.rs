//! A file as it is read, whatever it was compressed with: gzip, Zstandard or xz, told by how it begins and not by its name.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Chain, Cursor, Read};
use std::path::Path;

use flate2::read::MultiGzDecoder;
use lzma_rust2::XzReader;

const GZIP: &[u8] = &[0x1f, 0x8b];
const ZSTD: &[u8] = &[0x28, 0xb5, 0x2f, 0xfd];
const XZ: &[u8] = &[0xfd, b'7', b'z', b'X', b'Z', 0];

/// What decoding may take at most: a file can ask for as much as it likes. (Zstandard's own decoder refuses more than this by itself.)
const DECODER_KIB_MAX: u32 = 128 << 10;

const BUFFER: usize = 256 << 10;

/// Opens a file to be read as it was before it was compressed.
///
/// # Errors
/// Where it cannot be opened, or its decoder does not start.
pub fn open(path: &Path) -> io::Result<Box<dyn BufRead>> {
    let mut file = File::open(path)?;
    if file.metadata()?.is_dir() {
        return Err(io::ErrorKind::IsADirectory.into());
    }
    let mut start = Vec::new();
    file.by_ref().take(XZ.len() as u64).read_to_end(&mut start)?;
    let is = |magic: &[u8]| start.starts_with(magic);
    let (gzip, zstd, xz) = (is(GZIP), is(ZSTD), is(XZ));
    let whole: BufReader<Chain<Cursor<Vec<u8>>, File>> = BufReader::with_capacity(BUFFER, Cursor::new(start).chain(file));
    Ok(if gzip {
        buffered(MultiGzDecoder::new(whole))
    } else if zstd {
        buffered(zstd::Decoder::with_buffer(whole)?)
    } else if xz {
        buffered(XzReader::new_mem_limit(whole, true, DECODER_KIB_MAX))
    } else {
        Box::new(whole)
    })
}

fn buffered(reader: impl Read + 'static) -> Box<dyn BufRead> {
    Box::new(BufReader::with_capacity(BUFFER, reader))
}
