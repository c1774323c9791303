//! Sealed and opened by us, by age's own program, and by neither.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use bytes::Bytes;
use larder::backup::{BackupOptions, FolderPlace, RestoreOptions, diff, verify};
use larder::{ErrorKind, Larder};
use larder_testkit::process;

use super::*;

const NEEDLE: &str = "needle-in-a-haystack-of-ciphertext";
const PASSPHRASE: &str = "correct horse battery staple";

/// A secret key, and its public one.
fn key() -> (String, Recipient) {
    let identity = x25519::Identity::generate();
    (identity.to_string().expose_secret().to_owned(), Recipient(identity.to_public()))
}

fn keys(identities: &[&str], passphrases: &[&str]) -> Keys {
    let mut keys = Keys::default();
    identities.iter().for_each(|text| keys.add_identities(text).expect("a key"));
    passphrases.iter().for_each(|text| keys.add_passphrase(Passphrase::new((*text).to_owned())));
    keys
}

fn by_passphrase() -> SealBy {
    SealBy::Passphrase(Passphrase::to_seal_by(PASSPHRASE.to_owned()).expect("it is long enough"))
}

/// A cache with a needle in key, tag and value, and the place where its backups are.
async fn bench(folder: &Path) -> (Larder, Arc<FolderPlace>) {
    let larder = Larder::builder().memory(16 << 20).index_bytes(1 << 12).build().await.expect("a cache");
    for n in 0..20 {
        larder.raw().put(format!("a:{NEEDLE}-{n}"), Bytes::from(format!("{NEEDLE}-{n}"))).await.expect("a put");
    }
    (larder, Arc::new(FolderPlace::new(folder)))
}

async fn take(larder: &Larder, place: &Arc<FolderPlace>, name: &str, by: Option<&SealBy>) {
    let sealer = by.map(|by| by.sealer().expect("it seals"));
    larder.backup(place.clone(), &BackupOptions { sealer, ..BackupOptions::new(name) }, Arc::new(())).await.expect("it is taken");
}

fn files(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let read = |entry: std::io::Result<fs::DirEntry>| {
        let entry = entry.expect("it can be listed");
        (entry.file_name().into_string().expect("text"), fs::read(entry.path()).expect("it can be read"))
    };
    fs::read_dir(folder).expect("a folder").map(read).collect()
}

fn has(bytes: &[u8], needle: &str) -> bool {
    bytes.windows(needle.len()).any(|window| window == needle.as_bytes())
}

#[tokio::test]
async fn what_is_sealed_shows_nothing_and_is_opened_by_each_of_its_keys_and_by_no_other() {
    let folder = tempfile::tempdir().expect("a folder");
    let (larder, place) = bench(folder.path()).await;
    let [(one, to_one), (two, to_two), (other, _)] = [key(), key(), key()];
    take(&larder, &place, "plain", None).await;
    take(&larder, &place, "one", Some(&SealBy::Recipients(vec![to_one.clone()]))).await;
    take(&larder, &place, "both", Some(&SealBy::Recipients(vec![to_one.clone(), to_two.clone()]))).await;
    take(&larder, &place, "words", Some(&by_passphrase())).await;
    // Small values are compressed together; the needle is there all the same, or looking for it would prove nothing.
    assert!(has(&files(&folder.path().join("plain"))["segment-000001"], NEEDLE), "it is what is looked for");
    for name in ["one", "both", "words"] {
        let files = files(&folder.path().join(name));
        assert_eq!(files.contains_key("key.age"), name == "words");
        assert!(files.values().all(|bytes| !has(bytes, NEEDLE) && !has(bytes, "LBFR") && !has(bytes, PASSPHRASE)), "{name}");
        assert!(files.values().all(|bytes| !has(bytes, "AGE-SECRET-KEY-")), "{name}");
    }
    let open = [
        ("one", keys(&[&one], &[])),
        ("both", keys(&[&one], &[])),
        ("both", keys(&[&other, &two], &["wrong"])),
        ("words", keys(&[&other], &["wrong", PASSPHRASE])),
    ];
    for (name, keys) in open {
        assert_eq!(verify(&*place, name, Some(&keys), &()).expect("it opens").entries, 20, "{name}");
        assert_eq!(diff(&*place, "plain", name, Some(&keys), &()).expect("it opens").same, 20, "{name}");
        let options = RestoreOptions { opener: keys.opener(), present: larder::backup::Present::Replace, ..RestoreOptions::new(name) };
        assert_eq!(larder.restore(place.clone(), &options, Arc::new(())).await.expect("it is restored").restored, 20, "{name}");
    }
    let before = larder.position();
    let closed = [
        ("one", keys(&[&other], &[]), format!("one is encrypted to {to_one}, and no key of it was given")),
        ("one", keys(&[], &[PASSPHRASE]), "there is only a passphrase".to_owned()),
        ("both", keys(&[&other], &[PASSPHRASE]), format!("{to_one}, {to_two}")),
        ("words", keys(&[&one], &[]), format!("encrypted by a passphrase, and none was given; there is the key of {to_one}")),
        ("words", keys(&[], &["wrong"]), "not by what was given".to_owned()),
        ("words", Keys::default(), "encrypted by a passphrase, and no key was given".to_owned()),
    ];
    for (name, keys, told) in closed {
        let options = RestoreOptions { opener: keys.opener(), ..RestoreOptions::new(name) };
        let error = larder.restore(place.clone(), &options, Arc::new(())).await.expect_err(name);
        assert_eq!((error.kind(), larder.position()), (ErrorKind::Sealed, before), "{error}");
        let error = error.to_string();
        assert!(error.contains(&told) && error.contains("nothing was touched"), "{told}: {error}");
        for text in [error, format!("{keys:?} {options:?} {:?}", by_passphrase())] {
            let is_shown = [one.as_str(), &other, "AGE-SECRET", PASSPHRASE, "wrong"].iter().any(|secret| text.contains(secret));
            assert!(!is_shown, "{text}");
        }
    }
}

#[test]
fn every_flipped_bit_and_every_cut_of_a_sealed_file_is_noticed() {
    let ((secret, public), text) = (key(), "what is in it".repeat(3));
    let sealer = SealBy::Recipients(vec![public.clone(), key().1]).sealer().expect("it seals");
    let sealed = sealer.seal(text.as_bytes()).expect("it is sealed");
    let encryption = Encryption { scheme: "age".into(), recipients: vec![public.to_string()], key: None };
    let unsealed = keys(&[&secret], &[]).unseal(&encryption, None).expect("a key of it");
    assert_eq!(unsealed.open(&sealed).expect("it is whole"), text.as_bytes());
    for bit in 0..sealed.len() * 8 {
        let mut flipped = sealed.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        assert!(unsealed.open(&flipped).is_err(), "bit {bit}");
    }
    for len in 0..sealed.len() {
        assert!(unsealed.open(&sealed[..len]).is_err(), "the first {len} bytes");
    }
    assert!(unsealed.open(&[sealed.as_slice(), b"x"].concat()).is_err(), "one byte more");
    // Whole pieces that are left out or change places.
    let long = sealer.seal(&vec![7; 200 << 10]).expect("it is sealed");
    let head = long.len() - (200 << 10) - 4 * 16;
    let piece = (64 << 10) + 16;
    let (first, second) = (head..head + piece, head + piece..head + 2 * piece);
    let swapped = [&long[..head], &long[second.clone()], &long[first], &long[second.end..]].concat();
    assert!(unsealed.open(&swapped).is_err() && unsealed.open(&long[..second.end]).is_err());
    assert_eq!(unsealed.open(&long).expect("it is whole").len(), 200 << 10);
}

#[test]
fn what_means_no_good_costs_little_and_is_told_without_secrets() {
    let ((secret, public), (other, to_other)) = (key(), key());
    let encryption = |recipients: &[&Recipient]| {
        let recipients = recipients.iter().map(ToString::to_string).collect();
        Encryption { scheme: "age".into(), recipients, key: None }
    };
    // A head without an end, which would be parsed again for each of its lines.
    let unsealed = keys(&[&secret], &[]).unseal(&encryption(&[&public]), None).expect("a key of it");
    let endless = [b"age-encryption.org/v1\n".as_slice(), &b"-> x y\n\n".repeat(1 << 20)].concat();
    assert!(unsealed.open(&endless).expect_err("it has no end").contains("head has no end"));
    let ended = [b"age-encryption.org/v1\n".as_slice(), &b"-> x\n\n".repeat(5_000), b"--- mac\n"].concat();
    assert!(unsealed.open(&ended).expect_err("it ends late").contains("longer than any that is written"));
    let all: Vec<Recipient> = (1..RECIPIENTS_MAX).map(|_| key().1).chain([public.clone()]).collect();
    let to_all = SealBy::Recipients(all).sealer().expect("as many as there may be").seal(b"x").expect("it is sealed");
    assert_eq!(unsealed.open(&to_all).expect("a head of as many as there may be"), b"x");
    let elsewhere = SealBy::Recipients(vec![to_other.clone()]).sealer().and_then(|s| s.seal(b"x").map_err(|e| e.to_string()));
    let told = unsealed.open(&elsewhere.expect("it is sealed")).expect_err("to another");
    assert_eq!(told, format!("is not encrypted to {public}, as its manifest says"));

    // A key that asks for more work than anybody has, and one that is another's.
    let stretched = |log_n: u8, text: &str| {
        let mut by = age::scrypt::Recipient::new(PASSPHRASE.to_owned().into());
        by.set_work_factor(log_n);
        sealed_to(&[&by], text.as_bytes()).expect("it is sealed")
    };
    let words = keys(&[], &[PASSPHRASE]);
    let open = |key: &[u8]| words.unseal(&encryption(&[&public]), Some(key)).expect_err("it means no good");
    let right = stretched(2, &secret);
    words.unseal(&encryption(&[&public]), Some(&right)).expect("little work is as good to read");
    let at = right.windows(3).position(|end| end == b" 2\n").expect("the work asked for");
    let hard = [&right[..at], b" 40\n", &right[at + 3..]].concat();
    assert!(matches!(open(&hard), NotOpened::Unknown(why) if why.contains("2^40 rounds of scrypt")));
    let damaged = |key: &[u8], told: &str| match open(key) {
        NotOpened::Damaged(why) => assert!(why.contains(told) && !why.contains("AGE-SECRET"), "{told}: {why}"),
        other => panic!("{told}: {other:?}"),
    };
    damaged(&stretched(2, &other), "is not the one that its manifest names");
    damaged(&stretched(2, "no key"), "is none of age");
    damaged(b"nothing of the kind", "is no file of age");
    let scheme = Encryption { scheme: "rot13".into(), ..encryption(&[&public]) };
    assert!(matches!(words.unseal(&scheme, None), Err(NotOpened::Unknown(why)) if why.contains("rot13")));

    for text in ["hunter2", "", "# a comment\n", "AGE-SECRET-KEY-1QQQ", "age-encryption.org/v1\n", "ssh-ed25519 AAAA"] {
        let told = Keys::default().add_identities(text).expect_err(text);
        assert!(!told.contains("hunter2") && !told.contains("QQQ"), "{told}");
    }
    for text in [secret.as_str(), "age1", "ssh-ed25519 AAAA", ""] {
        let told = text.parse::<Recipient>().expect_err("it is none");
        assert!(told.contains("age1ql3z7h") && !told.contains(&secret), "{told}");
    }
    let short = Passphrase::to_seal_by("hunter2".to_owned()).expect_err("it is short");
    assert!(short.contains("12 characters or more") && !short.contains("hunter2"), "{short}");
    assert!(SealBy::Recipients(Vec::new()).sealer().is_err() && SealBy::Recipients(vec![public; 65]).sealer().is_err());
}

/// age's own programs. `None`: they are not installed, which `cargo xtask setup` does.
fn age() -> Option<PathBuf> {
    let found = process::find("age");
    if found.is_none() {
        eprintln!("SKIPPED: there is no program age; cargo xtask setup installs it");
    }
    found
}

#[tokio::test]
async fn the_program_of_age_opens_what_we_sealed_and_we_open_what_it_sealed() {
    let Some(age) = age() else { return };
    let folder = tempfile::tempdir().expect("a folder");
    let keygen = age.with_file_name("age-keygen");
    let identity = folder.path().join("key.txt");
    let made = Command::new(keygen).arg("-o").arg(&identity).stderr(Stdio::null()).status().expect("age-keygen runs");
    assert!(made.success());
    let text = fs::read_to_string(&identity).expect("a file of keys");
    let ours = keys(&[&text], &[]);
    let public: Recipient = ours.public()[0].parse().expect("its public key");

    let (larder, place) = bench(&folder.path().join("backups")).await;
    take(&larder, &place, "plain", None).await;
    take(&larder, &place, "b", Some(&SealBy::Recipients(vec![key().1, public.clone()]))).await;
    let stored = |file: &str| folder.path().join("backups/b").join(file);
    for file in ["segment-000001", "index"] {
        let opened = Command::new(&age).arg("-d").arg("-i").arg(&identity).arg(stored(file)).output().expect("age runs");
        assert!(opened.status.success(), "{file}: {opened:?}");
        assert_eq!(&opened.stdout[..8], b"LARDERBK", "{file}");
        let inside = folder.path().join(format!("{file}.opened"));
        fs::write(&inside, &opened.stdout).expect("it can be written");
        let again = Command::new(&age).args(["-r", &public.to_string()]).arg(&inside).output().expect("age runs");
        let encryption = Encryption { scheme: "age".into(), recipients: vec![public.to_string()], key: None };
        let unsealed = ours.unseal(&encryption, None).expect("its key");
        assert_eq!(unsealed.open(&again.stdout).expect("we open what it sealed"), opened.stdout, "{file}");
    }

    // By a passphrase, which age's program asks for on a terminal alone.
    take(&larder, &place, "words", Some(&by_passphrase())).await;
    let Some(script) = process::find("script") else { return eprintln!("SKIPPED: there is no program script to ask age on a terminal") };
    let (key, opened) = (folder.path().join("backups/words/key.age"), folder.path().join("key.opened"));
    let asked = format!("{} -d -o {} {}", age.display(), opened.display(), key.display());
    let mut terminal = Command::new(script)
        .args(["-qec", &asked, "/dev/null"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("script runs");
    // It throws away what was typed before it asked.
    let mut said = terminal.stdout.take().expect("it is piped");
    let mut prompt = Vec::new();
    while !has(&prompt, "passphrase") {
        let mut some = [0; 256];
        let read = said.read(&mut some).expect("it can be heard");
        assert!(read > 0, "it ended before it asked: {}", String::from_utf8_lossy(&prompt));
        prompt.extend_from_slice(&some[..read]);
    }
    terminal.stdin.as_mut().expect("it is piped").write_all(format!("{PASSPHRASE}\n").as_bytes()).expect("it listens");
    io::copy(&mut said, &mut io::sink()).expect("it ends");
    assert!(terminal.wait().expect("it is a child").success());
    let segment = folder.path().join("backups/words/segment-000001");
    let inside = Command::new(&age).arg("-d").arg("-i").arg(&opened).arg(segment).output().expect("age runs");
    assert!(inside.status.success() && inside.stdout.starts_with(b"LARDERBK"), "{inside:?}");
}
