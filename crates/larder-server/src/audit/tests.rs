//! The log against whoever changes it, a disk without room, a queue without room, and time.

use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use larder_testkit::wait;
use proptest::prelude::*;

use super::files::name_of;
use super::search::{Wanted, last, search};
use super::verify::{Report, verify};
use super::*;

const PATIENCE: Duration = Duration::from_secs(20);

fn settings(folder: &Path) -> AuditSettings {
    AuditSettings { is_durable: false, ..AuditSettings::new(folder.join("audit")) }
}

fn a_record(number: usize) -> Record {
    let mut record = Record::begun("http", Class::Delete, "DELETE /v1/entries/{key}", "127.0.0.1:1");
    record.name([Name::new("key", format!("features:{number}"))]);
    record.end(Decision::Allowed, Outcome::Done, "");
    record
}

/// Puts so many records into a log, and waits until they are written.
fn put(audit: &Audit, records: usize) {
    let before = audit.standing().written;
    for number in 0..records {
        drop(audit.begin(Class::Delete, || a_record(number)).expect("there is room").expect("it is recorded").end());
    }
    assert!(wait::until(PATIENCE, || audit.standing().written == before + records as u64), "{:?}", audit.standing());
}

fn sound(folder: &Path) -> Report {
    let report = verify(&folder.join("audit")).expect("it can be read");
    assert!(report.is_sound(), "{report:#?}");
    report
}

fn findings(folder: &Path) -> Vec<String> {
    verify(&folder.join("audit")).expect("it can be read").findings.iter().map(ToString::to_string).collect()
}

/// A log of three files, in a folder of its own.
fn three_files() -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("temporary files can be written");
    let clock = Clock::manual();
    let audit = Audit::open(settings(folder.path()), clock.clone()).expect("a new log");
    for file in 1..=3 {
        put(&audit, 10);
        assert!(folder.path().join("audit").join(name_of(file)).exists());
        // What comes first on another day goes to another file.
        clock.advance(Duration::from_secs(86_400));
    }
    audit.close();
    folder
}

#[test]
fn a_log_goes_on_over_files_and_restarts() {
    let folder = three_files();
    let report = sound(folder.path());
    // The log itself says that it was opened, and twice that a file begins.
    assert_eq!((report.files, report.lines), (3, 33));
    let before = report.head.expect("it has lines");
    let audit = Audit::open(settings(folder.path()), Clock::manual()).expect("it is its own again");
    put(&audit, 1);
    assert!(matches!(Audit::open(settings(folder.path()), Clock::manual()), Err(AuditError::Locked(_))), "two do not write it");
    drop(audit);
    let report = sound(folder.path());
    assert_eq!((report.files, report.lines, report.head.expect("it has lines").0), (3, 35, before.0 + 2));
}

#[test]
fn whatever_is_changed_in_a_log_is_found() {
    let seed = std::env::var("LARDER_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or_else(|| fastrand::u64(..));
    let mut random = fastrand::Rng::with_seed(seed);
    let made = three_files();
    let original: Vec<(String, Vec<u8>)> = ["audit-00000001.jsonl", "audit-00000002.jsonl", "audit-00000003.jsonl", "head"]
        .into_iter()
        .map(|name| (name.to_owned(), fs::read(made.path().join("audit").join(name)).expect("it is there")))
        .collect();
    let folder = tempfile::tempdir().expect("temporary files can be written");
    let audit = folder.path().join("audit");
    fs::create_dir(&audit).expect("it can be made");
    let restore = || original.iter().for_each(|(name, bytes)| fs::write(audit.join(name), bytes).expect("it can be written"));
    restore();
    // The canary: a check that finds something in anything would pass below.
    sound(folder.path());
    for round in 0..250 {
        restore();
        let (name, bytes) = &original[random.usize(..3)];
        let mut bytes = bytes.clone();
        let lines: Vec<&[u8]> = bytes.split_inclusive(|byte| *byte == b'\n').collect();
        let at = random.usize(..lines.len());
        let what = match round % 5 {
            0 => {
                let at = random.usize(..bytes.len());
                bytes[at] ^= 1 << random.u8(..8);
                format!("the byte {at}")
            }
            1 => {
                bytes = [&lines[..at], &lines[at + 1..]].concat().concat();
                format!("the line {at} without it")
            }
            2 => {
                bytes = [&lines[..=at], &lines[at..]].concat().concat();
                format!("the line {at} twice")
            }
            3 => {
                let mut lines = lines;
                let other = (at + 1) % lines.len();
                lines.swap(at, other);
                bytes = lines.concat();
                format!("the lines {at} and {other} swapped")
            }
            _ => {
                bytes.truncate(random.usize(..bytes.len()));
                format!("cut to {} bytes", bytes.len())
            }
        };
        fs::write(audit.join(name), &bytes).expect("it can be written");
        assert!(!findings(folder.path()).is_empty(), "LARDER_SEED={seed}: {name}, {what}");
    }
    for gone in ["audit-00000001.jsonl", "audit-00000002.jsonl", "audit-00000003.jsonl", "head"] {
        restore();
        fs::remove_file(audit.join(gone)).expect("it is there");
        assert!(!findings(folder.path()).is_empty(), "{gone} is gone");
    }
    // A line that was made anew with a right hash of its own is seen by the next; the last line of all by the head.
    restore();
    let text = String::from_utf8(original[2].1.clone()).expect("JSON");
    let last_line = text.lines().last().expect("it has lines");
    let (entry, _) = chain::open(last_line.as_bytes()).expect("it is sound");
    let mut forged = text.as_bytes()[..text.len() - last_line.len() - 1].to_vec();
    chain::seal(&record::Entry { who: "nobody".to_owned(), ..entry }, &mut forged);
    fs::write(audit.join("audit-00000003.jsonl"), forged).expect("it can be written");
    assert!(findings(folder.path())[0].contains("made anew"), "{:?}", findings(folder.path()));
}

#[test]
fn a_half_line_is_put_aside_and_told_and_a_missing_one_stays_a_finding() {
    let folder = three_files();
    let file = folder.path().join("audit/audit-00000003.jsonl");
    let whole = fs::read(&file).expect("it is there");
    // As a killed process leaves it: the head is that of the lines before.
    let half = [whole.as_slice(), b"{\"seq\":34,\"prev\":"].concat();
    fs::write(&file, &half).expect("it can be written");
    let report = sound(folder.path());
    assert!(report.notes.iter().any(|note| note.contains("half a line at its end")), "{report:?}");
    drop(Audit::open(settings(folder.path()), Clock::manual()).expect("it goes on"));
    let report = sound(folder.path());
    assert!(report.notes.iter().any(|note| note.contains("torn-00000003")), "{report:?}");
    assert_eq!(fs::read(folder.path().join("audit/torn-00000003")).expect("it was put aside"), b"{\"seq\":34,\"prev\":");
    // Somebody takes lines off the end: the head knows better, before a restart and after.
    let lines: Vec<&[u8]> = whole.split_inclusive(|byte| *byte == b'\n').collect();
    fs::write(&file, lines[..lines.len() - 1].concat()).expect("it can be written");
    assert!(findings(folder.path()).iter().any(|finding| finding.contains("lines are missing at the end")));
    let audit = Audit::open(settings(folder.path()), Clock::manual()).expect("it goes on");
    put(&audit, 3);
    drop(audit);
    let told = findings(folder.path());
    assert!(told.iter().any(|finding| finding.contains("a server that was started found: lines are missing")), "{told:#?}");
    assert!(told.iter().any(|finding| finding.contains("it does not follow the line before it")), "{told:#?}");
}

#[test]
fn old_files_go_and_the_log_says_so() {
    let folder = three_files();
    let clock = Clock::manual();
    // Files are as old as the machine says, so that the clock goes to where they are old.
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("it is after 1970");
    clock.advance(now.saturating_sub(Duration::from_millis(clock.now_ms())) + Duration::from_secs(3_600));
    let keep = AuditSettings { keep: Duration::from_secs(60), ..settings(folder.path()) };
    let audit = Audit::open(keep, clock.clone()).expect("it goes on");
    clock.advance(Duration::from_secs(60));
    put(&audit, 1);
    drop(audit);
    let report = sound(folder.path());
    assert_eq!(report.files, 1);
    // One that goes without a word is missing.
    let folder = three_files();
    fs::remove_file(folder.path().join("audit").join(name_of(1))).expect("it is there");
    assert_eq!(findings(folder.path()), ["audit-00000001.jsonl: missing, and the log does not say that it removed it"]);
}

#[test]
fn what_there_is_no_room_for_is_refused_or_counted() {
    let folder = tempfile::tempdir().expect("temporary files can be written");
    let small = AuditSettings { queue_max: 2, ..settings(folder.path()) };
    let audit = Audit::open(small.clone(), Clock::manual()).expect("a new log");
    let begin = |audit: &Audit| audit.begin(Class::Admin, || a_record(0));
    // Operations under way have their places.
    let held = [begin(&audit).expect("one").expect("recorded"), begin(&audit).expect("two").expect("recorded")];
    let full = begin(&audit).err().expect("there is no third");
    assert!(full.to_string().starts_with("2 records wait"), "{full}");
    assert!(audit.begin(Class::Write, || a_record(0)).is_ok_and(|slot| slot.is_none()), "what is not recorded needs none");
    drop(held);
    assert!(wait::until(PATIENCE, || audit.standing().written == 2), "what is broken off is recorded as well");
    drop(audit);
    let told = last(&small.folder, &Wanted { result: Some(Outcome::Done), class: Some(Class::Delete), ..Wanted::default() }, 9);
    assert_eq!(told.expect("it can be read").len(), 2);

    let clock = Clock::manual();
    let audit = Audit::open(AuditSettings { on_failure: OnFailure::Warn, ..small.clone() }, clock.clone()).expect("it goes on");
    let held = [begin(&audit).expect("one").expect("recorded"), begin(&audit).expect("two").expect("recorded")];
    assert!(begin(&audit).is_ok_and(|slot| slot.is_none()), "it is done without");
    assert_eq!(audit.standing().lost, 1);
    drop(held);
    assert!(wait::until(PATIENCE, || audit.standing().waiting == 0), "there is room again");
    clock.advance(Duration::from_secs(2));
    put(&audit, 1);
    drop(audit);
    let notes = verify(&small.folder).expect("it can be read").notes;
    assert!(notes.iter().any(|note| note.contains("1 operations were carried out")), "{notes:?}");
}

#[tokio::test]
async fn nobody_waits_for_a_writer_that_is_gone() {
    let folder = tempfile::tempdir().expect("temporary files can be written");
    let audit = Audit::open(settings(folder.path()), Clock::manual()).expect("a new log");
    let slot = audit.begin(Class::Admin, || a_record(0)).expect("there is room").expect("it is recorded");
    audit.queue.over();
    assert!(!slot.end().wait().await, "it is told that nobody writes");
    assert!(audit.begin(Class::Admin, || a_record(0)).is_err(), "nothing is done any more that would be recorded");
}

#[test]
fn a_log_that_cannot_be_had_is_told_at_once() {
    let folder = tempfile::tempdir().expect("temporary files can be written");
    let in_the_way = folder.path().join("audit");
    fs::create_dir(&in_the_way).expect("it can be made");
    fs::create_dir(in_the_way.join(name_of(1))).expect("it can be made");
    let told = Audit::open(settings(folder.path()), Clock::manual()).err().expect("there is a folder in the place of the file");
    assert!(told.to_string().contains("cannot be used"), "{told}");
}

#[test]
fn very_many_refusals_are_counted_and_not_written_one_by_one() {
    let folder = tempfile::tempdir().expect("temporary files can be written");
    let audit = Audit::open(settings(folder.path()), Clock::system()).expect("a new log");
    for number in 0..10_000 {
        let mut record = a_record(number);
        record.end(Decision::Denied, Outcome::Failed, "urn:larder:problem:foreign-origin");
        audit.refused(|| record);
    }
    audit.close();
    let denied = Wanted { decision: Some(Decision::Denied), ..Wanted::default() };
    let written = last(&folder.path().join("audit"), &denied, usize::MAX).expect("it can be read").len();
    assert!((100..2_000).contains(&written), "{written}");
    let notes = sound(folder.path()).notes;
    let counted = notes.iter().filter_map(|note| note.strip_suffix(" more were refused")?.rsplit(' ').next()?.parse::<usize>().ok());
    assert_eq!(written + counted.sum::<usize>(), 10_000, "none is lost: {notes:?}");
}

#[tokio::test]
async fn an_answer_waits_for_its_record() {
    let folder = tempfile::tempdir().expect("temporary files can be written");
    let audit = Audit::open(settings(folder.path()), Clock::system()).expect("a new log");
    let is_over = AtomicBool::new(false);
    let slot = audit.begin(Class::Invalidate, || a_record(7)).expect("there is room").expect("it is recorded");
    let waiting = async {
        assert!(slot.end().wait().await, "it is written");
        is_over.store(true, Ordering::SeqCst);
    };
    tokio::time::timeout(PATIENCE, waiting).await.expect("it is written in time");
    let found = last(&folder.path().join("audit"), &Wanted::default(), 1).expect("it can be read");
    assert!(is_over.load(Ordering::SeqCst) && found[0].names == ["key:features:7"], "{found:?}");
}

#[test]
fn names_can_be_hashed_and_found_all_the_same() {
    let folder = tempfile::tempdir().expect("temporary files can be written");
    let secret = b"a secret of some length".to_vec();
    let hashed = AuditSettings { name_secret: Some(secret.clone()), ..settings(folder.path()) };
    let audit = Audit::open(hashed.clone(), Clock::system()).expect("a new log");
    put(&audit, 20);
    drop(audit);
    let text = fs::read_to_string(hashed.folder.join(name_of(1))).expect("it is there");
    assert!(!text.contains("features:"), "{text}");
    let find = |wanted: Wanted| {
        let mut found = Vec::new();
        let each = |entry: &record::Entry| {
            found.push(entry.names.clone());
            Ok::<_, io::Error>(true)
        };
        search(&hashed.folder, &wanted, each).expect("it can be read");
        found
    };
    let wanted = Wanted { name: Some("key:features:13".to_owned()), ..Wanted::default() };
    assert!(find(wanted.clone()).is_empty());
    let found = find(wanted.hashed(&secret));
    assert!(found.len() == 1 && found[0][0].starts_with("key:#") && found[0][0].len() == 5 + 32, "{found:?}");
}

#[test]
fn records_are_bounded_whatever_is_in_them() {
    let mut record = Record::begun("resp", Class::Delete, "del", "x".repeat(10_000));
    record.name((0..1_000).map(|number| Name::new("key", vec![0xff; number])));
    record.who = "\u{1b}[31m\u{e4}".repeat(1_000);
    record.end(Decision::Allowed, Outcome::Failed, "\"\n\u{0}".repeat(10_000));
    let entry = record::Entry::of(&record, (1, chain::Link::start().hash), String::new(), None);
    assert_eq!(entry.names.len() + entry.names_more, 1_000);
    let mut line = Vec::new();
    chain::seal(&entry, &mut line);
    assert!(line.len() < 64 << 10 && line.iter().filter(|byte| **byte == b'\n').count() == 1, "{}", line.len());
    assert_eq!(chain::open(&line[..line.len() - 1]).map(|(read, _)| read), Ok(entry));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn no_bytes_make_the_readers_panic_or_pass_for_a_log(bytes in proptest::collection::vec(any::<u8>(), 1..2_000), head in any::<bool>()) {
        let folder = tempfile::tempdir().expect("temporary files can be written");
        let audit = folder.path().join("audit");
        fs::create_dir(&audit).expect("it can be made");
        fs::write(audit.join(name_of(1)), &bytes).expect("it can be written");
        if head {
            fs::write(audit.join("head"), &bytes).expect("it can be written");
        }
        prop_assert!(!verify(&audit).expect("it can be read").is_sound());
        prop_assert!(last(&audit, &Wanted::default(), 10).expect("it can be read").is_empty());
        // A server goes on beside it, and says what it found.
        drop(Audit::open(settings(folder.path()), Clock::manual()).expect("it can be written beside"));
        let report = verify(&audit).expect("it can be read");
        prop_assert!(!report.is_sound() || report.notes.iter().any(|note| note.contains("half a line was put aside")));
        prop_assert_eq!(last(&audit, &Wanted { what: Some("audit.opened".to_owned()), ..Wanted::default() }, 10).expect("it can be read").len(), 1);
    }

    #[test]
    fn a_line_that_is_bent_is_never_taken_for_another(at in 0..10_000_usize, bit in 0..8_u32) {
        let mut line = Vec::new();
        let entry = record::Entry::of(&a_record(1), (1, chain::Link::start().hash), "2026-11-27T00:00:00.000Z".to_owned(), None);
        chain::seal(&entry, &mut line);
        line.pop();
        let at = at % line.len();
        line[at] ^= 1 << bit;
        prop_assert!(chain::open(&line).is_err());
    }
}
