//! The manifest: what a backup says of itself, and the one file whose being there makes it a backup.
//!
//! ```text
//! {"blake3":"64 hexadecimal digits",
//! the rest of the object, to the end of the file
//! ```
//!
//! It is JSON that anything reads; and its first line is the digest of every byte behind that line's end, so that nothing in it can
//! change unnoticed. It never names a path: the files of a backup are called `index`, `segment-000001` and so on, as many as it has.

use std::collections::HashSet;

use serde::{Deserialize, Serialize};

use super::frame::{FILE_HEADER, FRAME_BYTES_MAX};
use super::place::{MANIFEST, Place, check_backup_name};
use super::seal::{Encryption, KeySeal};
use crate::error::{Error, ErrorKind, Result};
use crate::position::{Epoch, Position, SEQ_MAX};

/// The format of a backup that anybody can read, and that of one that is sealed: who knows only the first must not take it for damaged.
pub(super) const FORMAT: u32 = 1;
pub(super) const FORMAT_SEALED: u32 = 2;

/// What a manifest may have: a thousand segments take about 200 KB, so it has room for the largest of caches.
const MANIFEST_BYTES_MAX: u64 = 64 << 20;

/// Where a segment is closed.
pub(super) const SEGMENT_BYTES: usize = 64 << 20;

/// The most a segment may have: one that was about to be closed, and one more frame of the largest, which does not compress.
const SEGMENT_BYTES_MAX: u64 = (SEGMENT_BYTES + FRAME_BYTES_MAX + (4 << 20)) as u64;

/// How much longer a sealed file may be: a head, and a thousandth for what is kept of each piece of it.
fn sealed_bytes_max(plain: u64) -> u64 {
    plain + plain / 1000 + (64 << 10)
}

/// The most that the freshness index of an archive may have before compression.
pub(super) const INDEX_BYTES_MAX: u64 = 1 << 30;

/// Backups that stand on one another, at most.
pub(super) const CHAIN_MAX: u32 = 64;

/// Namespaces that are counted by name, at most: more take room in every manifest, and nobody reads them.
pub(super) const NAMESPACES_MAX: usize = 4096;

/// The name of the file that has the freshness index.
pub(super) const INDEX: &str = "index";

/// What the names of the files begin with that have entries.
pub(super) const SEGMENT: &str = "segment-";

const HEAD: &str = "{\"blake3\":\"";
const HEAD_END: &str = "\",\n";

/// What a backup says of itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Manifest {
    /// The version of the format.
    pub format: u32,
    /// The version of larder that wrote it.
    pub larder: String,
    /// Its own name.
    pub name: String,
    /// The life of the log that all its stamps are of, as 16 hexadecimal digits.
    pub epoch: String,
    /// The position at which it is a cut: nothing in it is newer.
    pub position: u64,
    /// When it was taken, in milliseconds since the Unix epoch by the cache's clock. All spans of time in it are reckoned from here.
    pub taken_at_ms: u64,
    /// When it was complete.
    pub finished_at_ms: u64,
    /// The backing tier that it was taken of, if there was one.
    pub tier: Option<String>,
    /// Whether others wrote to that tier meanwhile, so that it is no cut at one position; the stamps make it exact when it is restored.
    pub fuzzy: bool,
    /// The namespaces that were asked for; empty: all.
    pub only: Vec<String>,
    /// What it stands on, if it has only what changed since.
    pub parent: Option<Parent>,
    /// How many backups it stands on.
    pub depth: u32,
    /// How many entries it has itself.
    pub entries: u64,
    /// Their bytes before compression.
    pub bytes: u64,
    /// Entries that were left out because no frame is large enough for them, or because they could not be encoded.
    pub left_out: u64,
    /// What is in it, by namespace, the largest 4,096; the rest goes without saying.
    pub namespaces: Vec<NamespaceCount>,
    /// Its segments in order.
    pub segments: Vec<FileSeal>,
    /// The freshness index when it was complete.
    pub index: IndexSeal,
    /// How its files are encrypted, if they are.
    pub encryption: Option<Encryption>,
}

/// What a backup stands on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Parent {
    /// Its name, in the same place.
    pub name: String,
    /// The digest in its manifest: another backup of that name will not do.
    pub blake3: String,
    /// Its position.
    pub position: u64,
}

/// What a backup has of one namespace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NamespaceCount {
    /// Its name; what is not text is escaped.
    pub name: String,
    /// Entries.
    pub entries: u64,
    /// Bytes before compression.
    pub bytes: u64,
}

/// What a segment must be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileSeal {
    /// Its length.
    pub bytes: u64,
    /// Entries in it.
    pub entries: u64,
    /// The digest of all of it.
    pub blake3: String,
}

/// What the file with the freshness index must be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IndexSeal {
    /// Its length.
    pub bytes: u64,
    /// Its length before compression.
    pub raw_bytes: u64,
    /// The digest of all of it.
    pub blake3: String,
    /// Everything invalidated up to this position is in it.
    pub head: u64,
}

impl Manifest {
    /// Where the backup is a cut.
    pub fn position(&self) -> Position {
        Position { epoch: self.epoch(), seq: self.position }
    }

    pub(super) fn epoch(&self) -> Epoch {
        Epoch(u64::from_str_radix(&self.epoch, 16).expect("a manifest was checked when it was read"))
    }

    /// The names of all namespaces that it has entries of. `None`: there are more than it has room to name.
    pub(super) fn all_namespaces(&self) -> Option<HashSet<Box<[u8]>>> {
        let names = || self.namespaces.iter().map(|namespace| unescaped(&namespace.name).expect("a manifest was checked when it was read"));
        (self.namespaces.len() < NAMESPACES_MAX).then(|| names().collect())
    }

    /// All bytes of its files but the manifest.
    pub fn stored_bytes(&self) -> u64 {
        self.segments.iter().map(|segment| segment.bytes).sum::<u64>() + self.index.bytes + self.key_bytes()
    }

    /// The bytes of the file with its own key, if it has one.
    pub(super) fn key_bytes(&self) -> u64 {
        self.key().map_or(0, |key| key.bytes)
    }

    /// What the file with its own key must be, if it has one.
    pub(super) fn key(&self) -> Option<&KeySeal> {
        self.encryption.as_ref()?.key.as_ref()
    }

    /// The manifest as it is kept, and its digest.
    pub(super) fn encode(&self) -> Result<(Vec<u8>, String)> {
        let failed = |e| Error::new(ErrorKind::Backup, "the manifest cannot be written").with_source(e);
        let json = serde_json::to_vec_pretty(self).map_err(failed)?;
        // Without the brace that the first line has.
        let body = [&json[1..], b"\n"].concat();
        let digest = blake3::hash(&body).to_hex().to_string();
        Ok(([HEAD.as_bytes(), digest.as_bytes(), HEAD_END.as_bytes(), &body].concat(), digest))
    }

    /// Reads what [`encode`](Self::encode) wrote for a backup of this name, and checks all of it that can be checked alone.
    pub(super) fn decode(name: &str, bytes: &[u8]) -> Result<(Self, String)> {
        let file = || format!("{name}/{MANIFEST}");
        let bad = |why: &str| Error::new(ErrorKind::BadArchive, format!("{} {why}", file()));
        let text = std::str::from_utf8(bytes).map_err(|e| bad(&format!("is not text (at byte {})", e.valid_up_to())))?;
        let rest = text.strip_prefix(HEAD).ok_or_else(|| bad("is no manifest of a larder backup (at byte 0)"))?;
        let (digest, rest) = rest.split_at_checked(64).ok_or_else(|| bad("is cut short (at byte 11)"))?;
        let body = rest.strip_prefix(HEAD_END).ok_or_else(|| bad("is no manifest of a larder backup (at byte 75)"))?;
        if blake3::hash(body.as_bytes()).to_hex().as_str() != digest {
            return Err(bad("does not match its own digest: it was cut short or changed (from byte 78 on)"));
        }
        let json = format!("{{{body}");
        let format = serde_json::from_str::<Format>(&json).map_err(|e| bad(&format!("cannot be read: {e}")))?.format;
        if format != FORMAT && format != FORMAT_SEALED {
            let known = format!("formats {FORMAT} and {FORMAT_SEALED}");
            let message = format!("{} is of format {format}, and this version of larder knows {known}; nothing was touched", file());
            return Err(Error::new(ErrorKind::UnknownFormat, message));
        }
        let manifest: Manifest = serde_json::from_str(&json).map_err(|e| bad(&format!("cannot be read: {e}")))?;
        manifest.check(name).map_err(|why| bad(&why))?;
        Ok((manifest, digest.to_owned()))
    }

    pub(super) fn check(&self, name: &str) -> std::result::Result<(), String> {
        if self.name != name {
            return Err(format!("is of a backup that is called \"{}\"", self.name.escape_debug()));
        }
        let epoch = u64::from_str_radix(&self.epoch, 16).ok().filter(|epoch| *epoch != 0 && self.epoch.len() == 16);
        if epoch.is_none() || self.position > SEQ_MAX || self.index.head > SEQ_MAX || self.index.head < self.position {
            return Err("has an epoch or a position that is none".into());
        }
        let digests = self.segments.iter().map(|segment| &segment.blake3).chain([&self.index.blake3]);
        let digests = digests.chain(self.parent.iter().map(|parent| &parent.blake3));
        if digests.into_iter().any(|digest| blake3::Hash::from_hex(digest).is_err()) {
            return Err("has a digest that is none".into());
        }
        if (self.format == FORMAT_SEALED) != self.encryption.is_some() {
            return Err(format!("is of format {}, which says whether it is encrypted, and says otherwise", self.format));
        }
        if let Some(encryption) = &self.encryption {
            encryption.check()?;
        }
        let bytes_max = |plain: u64| if self.encryption.is_some() { sealed_bytes_max(plain) } else { plain };
        let segment_max = bytes_max(SEGMENT_BYTES_MAX);
        let too_large = self.segments.iter().any(|segment| segment.bytes > segment_max || segment.bytes < FILE_HEADER as u64);
        if too_large || self.index.bytes > bytes_max(INDEX_BYTES_MAX) || self.index.raw_bytes > INDEX_BYTES_MAX {
            return Err("has a file that claims to be larger than any can be".into());
        }
        let entries = self.segments.iter().try_fold(0u64, |sum, segment| sum.checked_add(segment.entries));
        if entries != Some(self.entries) {
            return Err("has another number of entries than its segments".into());
        }
        if self.namespaces.len() > NAMESPACES_MAX || self.namespaces.iter().any(|namespace| unescaped(&namespace.name).is_none()) {
            return Err("has a namespace that is none, or more of them than it can name".into());
        }
        if self.parent.as_ref().is_some_and(|parent| parent.position > self.position) {
            return Err("stands on a backup that is newer than itself".into());
        }
        if self.depth > CHAIN_MAX || (self.depth == 0) != self.parent.is_none() {
            return Err(format!("stands on more than {CHAIN_MAX} others, or does not say on what"));
        }
        match &self.parent {
            Some(parent) => check_backup_name(&parent.name).map_err(|e| format!("has a parent that is none: {}", e.message())),
            None => Ok(()),
        }
    }
}

/// What [`escape_ascii`](slice::escape_ascii) made the text of. `None`: of nothing.
fn unescaped(text: &str) -> Option<Box<[u8]>> {
    let (mut bytes, mut rest) = (Vec::with_capacity(text.len()), text.as_bytes());
    while let Some((&first, behind)) = rest.split_first() {
        let (byte, behind) = match (first, behind) {
            (b'\\', [b'x', high, low, behind @ ..]) => {
                let digit = |digit: &u8| char::from(*digit).to_digit(16);
                ((digit(high)? << 4 | digit(low)?) as u8, behind)
            }
            (b'\\', [escaped, behind @ ..]) => match escaped {
                b't' => (b'\t', behind),
                b'r' => (b'\r', behind),
                b'n' => (b'\n', behind),
                b'\'' | b'"' | b'\\' => (*escaped, behind),
                _ => return None,
            },
            (b'\\', []) => return None,
            (plain, behind) => (plain, behind),
        };
        bytes.push(byte);
        rest = behind;
    }
    Some(bytes.into())
}

/// The one field that every format has.
#[derive(Deserialize)]
struct Format {
    format: u32,
}

pub(super) fn segment_name(number: usize) -> String {
    format!("{SEGMENT}{number:06}")
}

/// Reads the manifest of a backup. Blocks.
///
/// # Errors
/// [`ErrorKind::BadArchive`], [`ErrorKind::UnknownFormat`], [`ErrorKind::Backup`] where the place cannot be read.
pub fn read_manifest(place: &dyn Place, name: &str) -> Result<Manifest> {
    read_sealed(place, name).map(|(manifest, _)| manifest)
}

/// The same with its digest.
pub(super) fn read_sealed(place: &dyn Place, name: &str) -> Result<(Manifest, String)> {
    check_backup_name(name)?;
    let bytes = place.get(name, MANIFEST, MANIFEST_BYTES_MAX).map_err(|e| super::cannot_read(place, name, MANIFEST, e))?;
    Manifest::decode(name, &bytes)
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::seal::KeySeal;
    use super::*;

    pub(in crate::backup) fn manifest(name: &str) -> Manifest {
        let seal = blake3::hash(b"x").to_hex().to_string();
        Manifest {
            format: FORMAT,
            larder: "0".into(),
            name: name.into(),
            epoch: "00000000000000ab".into(),
            position: 7,
            taken_at_ms: 1,
            finished_at_ms: 2,
            tier: None,
            fuzzy: false,
            only: Vec::new(),
            parent: None,
            depth: 0,
            entries: 2,
            bytes: 10,
            left_out: 0,
            namespaces: vec![NamespaceCount { name: "n".into(), entries: 2, bytes: 10 }],
            segments: vec![FileSeal { bytes: 100, entries: 2, blake3: seal.clone() }],
            index: IndexSeal { bytes: 16, raw_bytes: 0, blake3: seal, head: 9 },
            encryption: None,
        }
    }

    #[test]
    fn every_flipped_bit_and_every_cut_is_noticed() {
        let (bytes, digest) = manifest("a").encode().unwrap();
        assert_eq!(Manifest::decode("a", &bytes).unwrap(), (manifest("a"), digest));
        let value: serde_json::Value = serde_json::from_slice(&bytes).expect("anything that reads JSON reads it");
        assert_eq!(value["position"], 7);
        for at in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[at / 8] ^= 1 << (at % 8);
            let error = Manifest::decode("a", &flipped).expect_err("a flipped bit");
            assert!(error.to_string().contains("a/manifest.json"), "{error}");
        }
        for len in 0..bytes.len() {
            assert!(Manifest::decode("a", &bytes[..len]).is_err(), "{len}");
        }
    }

    #[test]
    fn every_name_of_a_namespace_is_read_back() {
        for byte in 0..=u8::MAX {
            let name = [b'a', byte, b'\\', b'x'];
            assert_eq!(unescaped(&name.escape_ascii().to_string()).as_deref(), Some(name.as_slice()));
        }
        for wrong in ["\\", "\\x4", "\\xzz", "\\q"] {
            assert_eq!(unescaped(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn what_cannot_be_is_refused_though_its_digest_holds() {
        let refused = |change: &dyn Fn(&mut Manifest)| {
            let mut changed = manifest("a");
            change(&mut changed);
            Manifest::decode("a", &changed.encode().unwrap().0).expect_err("it cannot be").to_string()
        };
        assert!(refused(&|m| m.name = "b".into()).contains("called \"b\""));
        assert!(refused(&|m| m.format = 3).contains("format 3"));
        assert!(refused(&|m| m.format = 2).contains("says otherwise"));
        let sealed = |encryption: Encryption| refused(&|m: &mut Manifest| (m.format, m.encryption) = (2, Some(encryption.clone())));
        let to = |recipients: Vec<String>| Encryption { scheme: "age".into(), recipients, key: None };
        assert!(refused(&|m| m.encryption = Some(to(vec!["age1x".into()]))).contains("says otherwise"));
        assert!(sealed(to(Vec::new())).contains("encrypted to nobody"));
        assert!(sealed(to(vec!["age1\n".into()])).contains("no name of a key"));
        assert!(sealed(to(vec!["age1x".into(); 65])).contains("encrypted to nobody"));
        let key = |bytes, blake3: &str| Encryption { key: Some(KeySeal { bytes, blake3: blake3.into() }), ..to(vec!["age1x".into()]) };
        assert!(sealed(key(5 << 10, &manifest("a").index.blake3)).contains("larger"));
        assert!(sealed(key(5, "x")).contains("digest"));
        assert!(refused(&|m| m.epoch = "0000000000000000".into()).contains("epoch"));
        assert!(refused(&|m| m.index.head = 6).contains("position"));
        assert!(refused(&|m| m.segments[0].bytes = u64::MAX).contains("larger"));
        assert!(refused(&|m| m.index.raw_bytes = u64::MAX).contains("larger"));
        assert!(refused(&|m| m.segments[0].blake3 = "../../etc/passwd".into()).contains("digest"));
        assert!(refused(&|m| m.entries = 3).contains("number of entries"));
        assert!(refused(&|m| m.depth = 1).contains("stands on"));
        let parent = |name: &str| Parent { name: name.into(), blake3: manifest("a").segments[0].blake3.clone(), position: 1 };
        assert!(refused(&|m| (m.depth, m.parent) = (1, Some(parent("../x")))).contains("parent"));
        let newer = |name: &str| Parent { position: 8, ..parent(name) };
        assert!(refused(&|m| (m.depth, m.parent) = (1, Some(newer("x")))).contains("newer than itself"));
        assert!(refused(&|m| m.namespaces[0].name = "\\".into()).contains("namespace"));
        assert!(refused(&|m| m.namespaces = vec![m.namespaces[0].clone(); NAMESPACES_MAX + 1]).contains("namespace"));
        assert!(refused(&|m| (m.depth, m.parent) = (65, Some(parent("x")))).contains("more than 64"));
    }
}
