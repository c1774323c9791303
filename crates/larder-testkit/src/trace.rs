//! Traces: what real programs asked a cache for. They are not a part of the project; where they are not there, what needs them skips
//! and says so.

use std::fs;
use std::io;
use std::path::PathBuf;

/// One request of a trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Access {
    /// When, in seconds of the trace's own clock.
    pub at_seconds: u64,
    /// Of what.
    pub id: u64,
    /// Its size in bytes.
    pub bytes: u32,
}

/// A record of libCacheSim's oracleGeneral format: u32 time, u64 id, u32 size, i64 next access, little-endian and without padding.
const ORACLE_GENERAL_RECORD: usize = 24;

/// Where a trace lies: in the folder that `LARDER_TRACES` names, or in `shared/data/traces` beside the project. `None` where it does not,
/// which is said on the standard error.
pub fn find(name: &str) -> Option<PathBuf> {
    let beside = || PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/data/traces"));
    let path = std::env::var_os("LARDER_TRACES").map_or_else(beside, PathBuf::from).join(name);
    if path.is_file() {
        return Some(path);
    }
    eprintln!("skipped: there is no trace {}; LARDER_TRACES names the folder of traces", path.display());
    None
}

/// Reads a trace in libCacheSim's oracleGeneral format.
///
/// # Errors
/// When it cannot be read, or is cut short.
pub fn read_oracle_general(path: &PathBuf) -> io::Result<Vec<Access>> {
    parse_oracle_general(&fs::read(path)?)
}

fn parse_oracle_general(bytes: &[u8]) -> io::Result<Vec<Access>> {
    if !bytes.len().is_multiple_of(ORACLE_GENERAL_RECORD) {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "the trace ends within a record"));
    }
    let record = |record: &[u8]| {
        let field = |from: usize, len: usize| record[from..from + len].iter().rev().fold(0u64, |n, byte| n << 8 | u64::from(*byte));
        Access { at_seconds: field(0, 4), id: field(4, 8), bytes: field(12, 4) as u32 }
    };
    Ok(bytes.chunks_exact(ORACLE_GENERAL_RECORD).map(record).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_read_and_a_part_of_one_is_not() {
        let mut bytes = Vec::new();
        bytes.extend(7u32.to_le_bytes());
        bytes.extend(0x0102_0304_0506_0708u64.to_le_bytes());
        bytes.extend(512u32.to_le_bytes());
        bytes.extend((-1i64).to_le_bytes());
        let access = Access { at_seconds: 7, id: 0x0102_0304_0506_0708, bytes: 512 };
        assert_eq!(parse_oracle_general(&bytes).expect("one record"), [access]);
        assert!(parse_oracle_general(&bytes[..23]).is_err());
    }
}
