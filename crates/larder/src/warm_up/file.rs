//! The file of the hottest keys. It is written whole or not at all, and one that does not add up is an error and never a guess.
//!
//! ```text
//!  0  magic "LRHK"    4  version = 1    5  three zeros    8  number of keys    12  CRC-32C of what follows
//! 16  for each key, the hottest first: its length (two bytes), and the key
//! ```

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::Path;

use crate::key::KEY_LEN_MAX;

/// What it is called in the data folder.
pub(super) const NAME: &str = "hot-keys";

const MAGIC: &[u8; 4] = b"LRHK";
const VERSION: u8 = 1;
const HEADER: usize = 16;

/// No file that this program wrote is larger.
const BYTES_MAX: u64 = (HEADER + super::KEYS_MAX * (2 + KEY_LEN_MAX)) as u64;

pub(super) fn write(path: &Path, keys: &[Box<[u8]>]) -> io::Result<()> {
    let mut body = Vec::with_capacity(keys.iter().map(|key| key.len() + 2).sum());
    for key in keys {
        let len = u16::try_from(key.len()).map_err(|_| io::Error::other("a key is too long"))?;
        body.extend_from_slice(&len.to_le_bytes());
        body.extend_from_slice(key);
    }
    let count = u32::try_from(keys.len()).map_err(|_| io::Error::other("there are too many keys"))?;
    let beside = path.with_extension("new");
    let mut file = File::create(&beside)?;
    file.write_all(MAGIC)?;
    file.write_all(&[VERSION, 0, 0, 0])?;
    file.write_all(&count.to_le_bytes())?;
    file.write_all(&crc32c::crc32c(&body).to_le_bytes())?;
    file.write_all(&body)?;
    // It must not be there under its name before what is in it: a half of it would be told as damage, and cost a cold start.
    file.sync_all()?;
    fs::rename(&beside, path)
}

/// The keys; none where there is no file.
pub(super) fn read(path: &Path) -> io::Result<Vec<Box<[u8]>>> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut bytes = Vec::new();
    file.take(BYTES_MAX + 1).read_to_end(&mut bytes)?;
    parse(&bytes).ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "it is damaged, or of another version"))
}

fn parse(bytes: &[u8]) -> Option<Vec<Box<[u8]>>> {
    let (header, body) = bytes.split_at_checked(HEADER)?;
    let word = |at: usize| header[at..at + 4].try_into().map(u32::from_le_bytes).ok();
    if header[..4] != *MAGIC || header[4..8] != [VERSION, 0, 0, 0] || word(12)? != crc32c::crc32c(body) {
        return None;
    }
    let (count, mut rest) = (word(8)? as usize, body);
    // Not `with_capacity(count)`: a number in a file is no reason to take memory.
    let mut keys = Vec::new();
    while let Some((len, behind)) = rest.split_first_chunk::<2>() {
        let (key, behind) = behind.split_at_checked(usize::from(u16::from_le_bytes(*len)))?;
        if key.is_empty() || key.len() > KEY_LEN_MAX {
            return None;
        }
        keys.push(key.into());
        rest = behind;
    }
    (rest.is_empty() && keys.len() == count).then_some(keys)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_come_back_in_their_order_and_damage_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(NAME);
        assert!(read(&path).unwrap().is_empty(), "there is none yet");
        let keys: Vec<Box<[u8]>> = ["n:hot", "n:warm", "m:\u{0}x"].map(|key| key.as_bytes().into()).into();
        write(&path, &keys).unwrap();
        assert_eq!(read(&path).unwrap(), keys);
        write(&path, &keys[..1]).unwrap();
        assert_eq!(read(&path).unwrap(), keys[..1], "another takes its place");
        let good = fs::read(&path).unwrap();
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 0x40;
            assert_eq!(parse(&bad), None, "a bit of byte {at} is another");
            assert_eq!(parse(&good[..at]), None, "it ends after {at} bytes");
        }
        fs::write(&path, "nonsense").unwrap();
        assert_eq!(read(&path).unwrap_err().kind(), io::ErrorKind::InvalidData);
    }

    #[test]
    fn no_keys_are_a_file_as_well() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(NAME);
        write(&path, &[]).unwrap();
        assert!(read(&path).unwrap().is_empty());
    }
}
