//! Every form, what it is recognised by, and what is said of files that are none of it.

use std::fs;
use std::io::Write;
use std::path::PathBuf;

use super::*;

fn file(name: &str, bytes: &[u8]) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join(name);
    fs::write(&path, bytes).expect("it is written");
    (folder, path)
}

fn read(name: &str, bytes: &[u8], form: Option<Form>) -> Result<(Form, Vec<Access>), String> {
    let (folder, path) = file(name, bytes);
    let trace = Trace::open(&path, form, 1_024);
    let read = trace.and_then(|trace| {
        let mut accesses = Vec::new();
        trace.each(|access| accesses.push(access)).map(|()| (trace.form(), accesses))
    });
    read.map_err(|error| error.to_string().replace(&*path.parent().expect("in a folder").to_string_lossy(), "")).inspect(|_| drop(folder))
}

fn numbered(ids: &[u64], bytes: u32) -> Vec<Access> {
    ids.iter().map(|id| Access::numbered(*id, bytes, 0)).collect()
}

fn oracle(id: u64, size: u32) -> Vec<u8> {
    [&7u32.to_le_bytes()[..], &id.to_le_bytes(), &size.to_le_bytes(), &(-1i64).to_le_bytes()].concat()
}

#[test]
fn every_form_is_recognised_and_read() {
    let blocks: Vec<u8> = [1u64, 2, 1].iter().flat_map(|id| id.to_be_bytes()).collect();
    let small: Vec<u8> = [258u32, 2].iter().flat_map(|id| id.to_be_bytes()).collect();
    for (name, bytes, form, expected) in [
        ("a.oracleGeneral.bin", [oracle(9, 100), oracle(5, 7)].concat(), Form::OracleGeneral, {
            vec![Access::numbered(9, 100 + ENTRY_OVERHEAD, 0), Access::numbered(5, 7 + ENTRY_OVERHEAD, 0)]
        }),
        ("OLTP.lis", b"5 3 0 0\n\n1 1 0 1\n".to_vec(), Form::Arc, numbered(&[5, 6, 7, 1], 1_024)),
        ("blocks", b"5 3 0 0\n".to_vec(), Form::Arc, numbered(&[5, 6, 7], 1_024)),
        ("loop.trace", b"*\n7\r\n8\n*\n7".to_vec(), Form::Lirs, numbered(&[7, 8, 7], 1_024)),
        ("ids", blocks, Form::U64be, numbered(&[1, 2, 1], 1_024)),
        ("ids.trace", small, Form::U32be, numbered(&[258, 2], 1_024)),
        ("keys.csv", b"a\nb\n".to_vec(), Form::Csv, vec![Access::new(b"a", 1_024, 0), Access::new(b"b", 1_024, 0)]),
        ("reads", b"time,Key,size,cost\n1,\"a,\"\"b\",10,2.5\n".to_vec(), Form::Csv, {
            vec![Access::new(b"a,\"b", 10 + ENTRY_OVERHEAD, 2)]
        }),
        ("reads", (0..20).flat_map(|n| oracle(n, 1)).collect(), Form::OracleGeneral, {
            (0..20).map(|n| Access::numbered(n, 1 + ENTRY_OVERHEAD, 0)).collect()
        }),
        ("empty.csv", Vec::new(), Form::Csv, Vec::new()),
    ] {
        assert_eq!(read(name, &bytes, None), Ok((form, expected)), "{name}");
    }
}

#[test]
fn what_is_compressed_is_told_by_its_first_bytes() {
    let text = b"5 3 0 0\n1 1 0 1\n".repeat(1_000);
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(&text).expect("into memory");
    let zstd = zstd::encode_all(&text[..], 1).expect("into memory");
    let plain = read("x.lis", &text, None);
    assert!(plain.as_ref().is_ok_and(|(_, accesses)| accesses.len() == 4_000));
    let gzip = gzip.finish().expect("into memory");
    assert_eq!(read("x.lis", &gzip, None), plain);
    assert_eq!(read("blocks", &[gzip.clone(), gzip.clone()].concat(), None).map(|(_, reads)| reads.len()), Ok(8_000), "one behind another");
    assert_eq!(read("x.lis.zst", &zstd, None), plain);
    let cut = read("x.lis.gz", &gzip[..gzip.len() / 2], None).expect_err("half of it");
    assert!(cut.starts_with("/x.lis.gz, line "), "{cut}");
    assert!(read("x.lis.zst", &zstd[..zstd.len() / 2], None).is_err());
}

/// `7\n8\n` by xz, with its check.
const XZ: &[u8] = include_bytes!("two.xz");

#[test]
fn xz_is_read_and_a_broken_one_is_refused() {
    assert_eq!(read("x.trace.xz", XZ, None), Ok((Form::Lirs, numbered(&[7, 8], 1_024))));
    for cut in 6..XZ.len() {
        assert!(read("x.trace.xz", &XZ[..cut], Some(Form::Lirs)).is_err(), "cut to {cut}");
    }
    for at in 6..XZ.len() {
        let mut broken = XZ.to_vec();
        broken[at] ^= 0x10;
        // Whatever it is taken for, it is an answer.
        drop(read("x.trace.xz", &broken, Some(Form::Lirs)));
    }
}

#[test]
fn what_is_wrong_is_told_with_its_place() {
    for (name, bytes, form, says) in [
        ("a.lis", "1 1 0 0\n1 x 0 0\n".as_bytes(), None, "/a.lis, line 2: expected a number, found \"x\""),
        ("a.lis", b"1 1 0\n", None, "/a.lis, line 1: expected four numbers, found \"1 1 0\""),
        ("a.lis", b"1 4294967295 0 0\n", None, "/a.lis, line 1: 4294967295 blocks at once are more than 1048576"),
        ("a", b"1\n2\n-3\n", Some(Form::Lirs), "/a, line 3: expected a number, found \"-3\""),
        ("a.csv", b"time,what\n1,2\n", None, "/a.csv, line 1: the first line names no key; one of its columns must be called key"),
        ("a.csv", b"key,size\nk\n", None, "/a.csv, line 2: it has no column 2"),
        ("a.csv", b"key,cost\nk,NaN\n", None, "/a.csv, line 2: a cost is no \"NaN\""),
        ("a.csv", b"key,size\n\"k,1\n", None, "/a.csv, line 2: a quote is not closed"),
        ("a.csv", b"key,size\n,1\n", None, "/a.csv, line 2: the key is empty"),
        ("a.csv", b"key\n\xff\n", None, "/a.csv, line 2: it is no text"),
        ("a.oracleGeneral", &[0; 30], None, "/a.oracleGeneral, byte 24: it ends within a record, 6 of 24 bytes into it"),
        ("a", b"what is this", None, "/a: what it is cannot be told; say it with --trace-format"),
        ("a", b"\xff\x00\x01", None, "/a: what it is cannot be told"),
        ("a", b"", None, "/a: what it is cannot be told"),
    ] {
        let error = read(name, bytes, form).expect_err(says);
        assert!(error.starts_with(says), "{error:?} and not {says:?}");
    }
    let long = read("a.csv", &vec![b'k'; LINE_BYTES_MAX + 1], None).expect_err("it has no end");
    assert!(long.contains("line 1: it is longer than"), "{long}");
    let columns = read("a.csv", ",".repeat(300).as_bytes(), None).expect_err("too many");
    assert!(columns.contains("more than 256 columns"), "{columns}");
    assert!(Trace::open(&std::env::temp_dir(), Some(Form::Csv), 1).is_ok_and(|trace| trace.each(drop).is_err()), "a folder");
}

#[test]
fn no_message_drives_a_terminal() {
    let error = read("a", "\u{1b}[31m\n".as_bytes(), Some(Form::Lirs)).expect_err("no number");
    assert!(error.contains("\\u{1b}[31m") && !error.contains('\u{1b}'), "{error}");
}
