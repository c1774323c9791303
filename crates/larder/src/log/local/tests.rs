//! The local log: what survives the end of a process, of a machine, and of a file.

use std::fs;
use std::path::Path;

use super::super::Mark;
use super::*;
use crate::freshness::{Named, StaleBy};
use crate::log::{Guard, OnConflict};
use crate::name::Names;
use crate::position::Position;

fn options(folder: &Path) -> LogOptions {
    LogOptions { folder: folder.into(), index_bytes: 1 << 14, segment_bytes: 1 << 20, os_appends: false, mutations: Mutations::default() }
}

fn open(folder: &Path) -> (LocalLog, Arc<Index>) {
    LocalLog::open(&options(folder)).unwrap()
}

fn key(key: &str) -> Append {
    Append {
        names: Names::new().key(key).check().unwrap(),
        marks: Vec::new(),
        durability: Durability::Fsync,
        guard: None,
        writes: Vec::new(),
        mode: Default::default(),
        is_put: false,
    }
}

fn judge(index: &Index, key: &str, position: Position) -> Option<StaleBy> {
    index.stamp_of(position).map_or(Some(StaleBy::Epoch), |stamp| {
        index.judge(Named::of(key.as_bytes(), &index.hashes(key.as_bytes(), &[])), stamp).map(|stale| stale.by)
    })
}

fn files(folder: &Path) -> Vec<String> {
    let mut names: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[tokio::test]
async fn an_append_takes_effect_and_survives_a_reopening_without_a_close() {
    let folder = tempfile::tempdir().unwrap();
    let (before, at) = {
        let (log, index) = open(folder.path());
        let before = index.position_of(index.latest()).unwrap();
        let at = log.append(key("a:b")).await.unwrap();
        assert_eq!(judge(&index, "a:b", before), Some(StaleBy::Key));
        (before, at.position)
    };
    let (log, index) = open(folder.path());
    assert_eq!(index.position_of(index.latest()), Some(at), "the same epoch, the same head");
    assert_eq!(judge(&index, "a:b", before), Some(StaleBy::Key));
    assert_eq!(judge(&index, "a:b", at), None);
    let next = log.append(key("a:c")).await.unwrap();
    assert_eq!(next.position.number(), at.number() + 1);
    log.close().unwrap();
    assert_eq!(log.append(key("late")).await.unwrap_err().kind(), ErrorKind::Closed);
}

#[tokio::test]
async fn segments_rotate_and_checkpoints_replace_them() {
    let folder = tempfile::tempdir().unwrap();
    let small = LogOptions { segment_bytes: 4096, ..options(folder.path()) };
    let (log, index) = LocalLog::open(&small).unwrap();
    let start = index.position_of(index.latest()).unwrap();
    for n in 0..2_000 {
        log.append(key(&format!("k:{n}"))).await.unwrap();
    }
    log.close().unwrap();
    let left = files(folder.path());
    assert!(left.len() <= 4, "checkpoints let old segments go: {left:?}");
    let (_log, index) = LocalLog::open(&small).unwrap();
    assert_eq!(index.latest().seq(), 2_000);
    for n in 0..2_000 {
        assert_eq!(judge(&index, &format!("k:{n}"), start), Some(StaleBy::Key), "k:{n}");
    }
}

fn event(number: u128, names: Names) -> Append {
    Append { names: names.check().unwrap(), marks: vec![Mark(number)], ..key("k") }
}

#[tokio::test]
async fn an_event_is_remembered_with_its_names_and_survives_segments_and_checkpoints() {
    let folder = tempfile::tempdir().unwrap();
    let small = LogOptions { segment_bytes: 4096, ..options(folder.path()) };
    let (log, _index) = LocalLog::open(&small).unwrap();
    for n in 0..1_000 {
        log.append(event(n, Names::new().tag("t"))).await.unwrap();
    }
    assert!(files(folder.path()).iter().any(|name| name.starts_with("checkpoint")), "the oldest marks are in a checkpoint alone");
    drop(log);
    for _ in 0..2 {
        let (log, _index) = LocalLog::open(&small).unwrap();
        assert!((0..1_000).all(|n| log.marks().has(Mark(n))) && !log.marks().has(Mark(1_000)));
        assert_eq!(log.marks().list()[0], Mark(0), "in their order");
        log.close().unwrap();
    }
}

#[tokio::test]
async fn marks_alone_take_no_position_so_that_no_reader_looks_closer() {
    let folder = tempfile::tempdir().unwrap();
    let (log, index) = open(folder.path());
    let before = log.append(key("k")).await.unwrap();
    let alone = log.append(event(7, Names::new())).await.unwrap();
    assert_eq!((alone.position, index.latest()), (before.position, before.stamp));
    log.append(key("k")).await.unwrap();
    drop((log, index));
    let (log, index) = open(folder.path());
    assert!(log.marks().has(Mark(7)));
    assert_eq!(index.latest().seq(), 2);
}

#[tokio::test]
async fn what_an_event_killed_in_an_older_epoch_stays_remembered() {
    let folder = tempfile::tempdir().unwrap();
    let lossy = LogOptions { os_appends: true, ..options(folder.path()) };
    let (log, index) = LocalLog::open(&lossy).unwrap();
    let epoch = index.epoch();
    log.append(event(7, Names::new().tag("t"))).await.unwrap();
    drop((log, index));
    pretend_the_machine_crashed(folder.path());
    let (log, index) = LocalLog::open(&lossy).unwrap();
    assert_ne!(index.epoch(), epoch);
    assert!(log.marks().has(Mark(7)));
}

#[tokio::test]
async fn a_guard_is_answered_for_what_came_before_and_not_for_itself() {
    let (log, index) = LocalLog::in_memory(1 << 14, Mutations::default());
    let since = index.latest();
    let guard =
        |since| Some(Guard { keys: vec![b"k".as_slice().into()], hashes: index.hashes(b"k", &[]), since, on_conflict: OnConflict::Append });
    let first = log.append(Append { guard: guard(since), ..key("k") }).await.unwrap();
    assert!(!first.conflict);
    let second = log.append(Append { guard: guard(since), ..key("k") }).await.unwrap();
    assert!(second.conflict);
    let third = log.append(Append { guard: guard(second.stamp), ..key("k") }).await.unwrap();
    assert!(!third.conflict);
    let refusing = |since| guard(since).map(|guard| Guard { on_conflict: OnConflict::Refuse, ..guard });
    let refused = log.append(Append { guard: refusing(second.stamp), ..key("k") }).await.unwrap();
    assert!(refused.conflict);
    assert_eq!((refused.position, index.latest()), (third.position, third.stamp), "nothing was appended");
    let fourth = log.append(Append { guard: refusing(third.stamp), ..key("k") }).await.unwrap();
    assert!(!fourth.conflict && fourth.position > third.position);
}

#[tokio::test]
async fn a_torn_tail_is_dropped_and_a_damaged_middle_begins_a_new_epoch() {
    let folder = tempfile::tempdir().unwrap();
    let (log, index) = open(folder.path());
    let epoch = index.epoch();
    for n in 0..10 {
        log.append(key(&format!("k:{n}"))).await.unwrap();
    }
    drop((log, index));
    let segment = folder.path().join(segment_name(1));
    let whole = fs::read(&segment).unwrap();

    fs::write(&segment, &whole[..whole.len() - 3]).unwrap();
    let (log, index) = open(folder.path());
    assert_eq!((index.epoch(), index.latest().seq()), (epoch, 9));
    drop((log, index));

    fs::remove_dir_all(folder.path()).unwrap();
    fs::create_dir(folder.path()).unwrap();
    let mut damaged = whole.clone();
    damaged[HEADER_LEN + 12] ^= 1;
    fs::write(&segment, &damaged).unwrap();
    let (_log, index) = open(folder.path());
    assert_ne!(index.epoch(), epoch);
    assert_eq!(index.latest().seq(), 0);
    assert_eq!(fs::read(folder.path().join("damaged.1").join(segment_name(1))).unwrap(), damaged, "kept as evidence");
}

#[tokio::test]
async fn a_missing_segment_begins_a_new_epoch() {
    let folder = tempfile::tempdir().unwrap();
    for _ in 0..2 {
        let (log, _index) = open(folder.path());
        log.append(key("k")).await.unwrap();
    }
    let epoch = open(folder.path()).1.epoch();
    let oldest = files(folder.path()).into_iter().find(|name| name.starts_with("segment")).unwrap();
    fs::remove_file(folder.path().join(oldest)).unwrap();
    assert_ne!(open(folder.path()).1.epoch(), epoch);
}

#[test]
fn an_unknown_version_is_refused_and_nothing_is_touched() {
    let folder = tempfile::tempdir().unwrap();
    drop(open(folder.path()));
    let segment = folder.path().join(segment_name(1));
    let mut bytes = fs::read(&segment).unwrap();
    bytes[8] = 9;
    fs::write(&segment, &bytes).unwrap();
    let before = files(folder.path());
    let error = LocalLog::open(&options(folder.path())).err().unwrap();
    assert_eq!(error.kind(), ErrorKind::UnknownFormat);
    assert!(error.to_string().contains("format 9"), "{error}");
    assert_eq!((files(folder.path()), fs::read(&segment).unwrap()), (before, bytes));
}

/// As after a power failure: the boot id in the newest segment is another one.
fn pretend_the_machine_crashed(folder: &Path) {
    let newest = files(folder).into_iter().rfind(|name| name.starts_with("segment")).unwrap();
    let path = folder.join(newest);
    let mut bytes = fs::read(&path).unwrap();
    let header = Header { boot: [7; 16], ..Header::decode(&bytes).unwrap() };
    bytes[..HEADER_LEN].copy_from_slice(&header.encode());
    fs::write(&path, &bytes).unwrap();
}

#[tokio::test]
async fn after_a_machine_crash_no_position_is_used_again() {
    let folder = tempfile::tempdir().unwrap();
    let (log, index) = open(folder.path());
    let (epoch, before) = (index.epoch(), index.position_of(index.latest()).unwrap());
    log.append(key("k")).await.unwrap();
    drop((log, index));
    pretend_the_machine_crashed(folder.path());
    let (log, index) = open(folder.path());
    assert_eq!((index.epoch(), index.latest().seq()), (epoch, CEILING_STEP));
    assert_eq!(judge(&index, "k", before), Some(StaleBy::Key));
    assert_eq!(log.append(key("k")).await.unwrap().position.number(), CEILING_STEP + 1);
}

#[tokio::test]
async fn after_a_machine_crash_that_may_have_lost_appends_nothing_old_is_believed() {
    let folder = tempfile::tempdir().unwrap();
    let loose = LogOptions { os_appends: true, ..options(folder.path()) };
    let epoch = LocalLog::open(&loose).unwrap().1.epoch();
    assert_eq!(LocalLog::open(&loose).unwrap().1.epoch(), epoch, "the end of a process loses nothing");
    pretend_the_machine_crashed(folder.path());
    let next = LocalLog::open(&loose).unwrap().1.epoch();
    assert_ne!(next, epoch);
    assert_eq!(LocalLog::open(&loose).unwrap().1.epoch(), next, "and the new epoch is kept");
}

#[tokio::test]
async fn a_used_up_epoch_is_followed_by_another() {
    let folder = tempfile::tempdir().unwrap();
    let (log, index) = open(folder.path());
    let epoch = index.epoch();
    log.shared.state.lock().head = SEQ_MAX;
    let next = log.append(key("k")).await.unwrap().position;
    assert_eq!(next.number(), 1);
    assert_ne!(next.epoch(), epoch);
    drop((log, index));
    assert_eq!(open(folder.path()).1.epoch(), next.epoch());
}

#[tokio::test]
async fn concurrent_appends_share_syncs() {
    let folder = tempfile::tempdir().unwrap();
    let (log, _index) = open(folder.path());
    let log = Arc::new(log);
    let appends: Vec<_> = (0..200)
        .map(|n| {
            let log = log.clone();
            tokio::spawn(async move { log.append(key(&format!("k:{n}"))).await.unwrap().position.number() })
        })
        .collect();
    let mut positions = Vec::new();
    for append in appends {
        positions.push(append.await.unwrap());
    }
    positions.sort_unstable();
    assert_eq!(positions, (1..=200).collect::<Vec<_>>());
    let stats = log.stats();
    assert!(stats.syncs < 200, "{} syncs for {} appends", stats.syncs, stats.appends);
}

/// A file that takes no more bytes: a write fails, nothing changes, and the next one works once there is room.
#[tokio::test]
async fn a_failing_write_changes_nothing_and_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let (log, index) = open(folder.path());
    log.append(key("a")).await.unwrap();
    let head = index.latest();
    let read_only = File::open(folder.path().join(segment_name(1))).unwrap();
    let good = std::mem::replace(&mut log.shared.state.lock().file.as_mut().unwrap().file, Arc::new(read_only));
    let error = log.append(key("b")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::LogUnavailable);
    assert_eq!(index.latest(), head);
    log.shared.state.lock().file.as_mut().unwrap().file = good;
    // The write could not be taken back either, so the log refuses until its thread has begun a new file.
    let mut tries = 0;
    while let Err(error) = log.append(key("b")).await {
        assert!(error.to_string().contains("nothing was changed"), "{error}");
        tokio::task::yield_now().await;
        tries += 1;
        assert!(tries < 10_000_000, "it never recovered");
    }
    assert!(index.latest() > head);
}

#[tokio::test]
async fn whoever_asks_is_told_whether_the_log_takes_appends_and_nothing_is_appended_for_it() {
    let folder = tempfile::tempdir().unwrap();
    let (log, _) = open(folder.path());
    let len = || fs::metadata(folder.path().join(segment_name(1))).unwrap().len();
    let before = (len(), log.stats());
    log.confirm().await.unwrap().unwrap();
    assert_eq!((len(), log.stats()), before, "the file is as long as it was, and no sync was counted");
    // Its thread, on the way back from the first question, may begin a new file before it is asked again: then it fails once more.
    let refused = async {
        loop {
            log.fail_for_a_test(Some("no room".into()));
            if let Err(refused) = log.confirm().await.unwrap() {
                return refused;
            }
        }
    };
    let refused = tokio::time::timeout(Duration::from_secs(20), refused).await.unwrap();
    assert!(refused.kind() == ErrorKind::LogUnavailable && refused.to_string().contains("no room"), "{refused}");
    // The thread that was asked also begins a new file, after which all is well.
    let well = async { while log.confirm().await.unwrap().is_err() {} };
    tokio::time::timeout(Duration::from_secs(20), well).await.unwrap();
    log.append(key("a:b")).await.unwrap();
    log.close().unwrap();
    assert!(log.confirm().await.is_err(), "nobody is there to answer");
    let (in_memory, _) = LocalLog::in_memory(1 << 14, Mutations::default());
    in_memory.confirm().await.unwrap().unwrap();
}
