//! What stands between a backup and those who are at it at the same time, or were, and went away: who prunes, another restore, a caller
//! that waits no longer, a log that still goes on.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use larder::backup::{BackupOptions, FolderPlace, Place, RestoreOptions, Retention, Watch, prune, verify};
use larder::{Clock, ErrorKind, Item, Larder, Names};
use larder_testkit::wait;
use tokio::sync::Notify;

use crate::world::Stops;

/// Long enough for anything that should happen, on a machine that is busy with all other tests.
const LONG: Duration = Duration::from_secs(20);

fn clock() -> Clock {
    let clock = Clock::manual();
    clock.advance(Duration::from_secs(1_000));
    clock
}

fn place(folder: &Path) -> Arc<FolderPlace> {
    Arc::new(FolderPlace::new(folder))
}

async fn filled(larder: &Larder, entries: usize) {
    for n in 0..entries {
        let (key, raw) = (format!("both:{n}"), larder.raw());
        assert!(raw.fill(&key, raw.begin_fill(&key), Item::new(Bytes::from("v"))).await.unwrap());
    }
}

async fn take(larder: &Larder, folder: &Path, name: &str, parent: Option<&str>) -> u64 {
    let options = BackupOptions { parent: parent.map(str::to_owned), ..BackupOptions::new(name) };
    larder.backup(place(folder), &options, Arc::new(())).await.unwrap().entries
}

/// Holds up what it looks on at its first step of this kind, until it is let go.
struct HeldAt {
    doing: &'static str,
    is_there: Notify,
    met: AtomicBool,
    go_on: AtomicBool,
}

impl HeldAt {
    fn new(doing: &'static str) -> Arc<Self> {
        Arc::new(HeldAt { doing, is_there: Notify::new(), met: AtomicBool::new(false), go_on: AtomicBool::new(false) })
    }
}

impl Watch for HeldAt {
    fn at(&self, doing: &str, _done: u64, _of: Option<u64>) {
        if doing == self.doing && !self.met.swap(true, Ordering::SeqCst) {
            self.is_there.notify_one();
            assert!(wait::until(LONG, || self.go_on.load(Ordering::SeqCst)), "it is let go");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_caller_who_goes_away_began_is_put_in_order() {
    let folder = tempfile::tempdir().unwrap();
    let larder = crate::world::open(None, &clock(), None).await;
    filled(&larder, 20).await;
    let (watch, taking) = (HeldAt::new("memory"), BackupOptions::new("b"));
    tokio::select! {
        _ = larder.backup(place(folder.path()), &taking, watch.clone()) => panic!("it is held up"),
        () = watch.is_there.notified() => {}
    }
    let place = place(folder.path());
    assert_eq!(place.unfinished().unwrap(), ["b"], "it has begun");
    assert!(place.hold_still().is_err(), "nobody removes what is still at work");
    watch.go_on.store(true, Ordering::SeqCst);
    let is_gone = tokio::task::block_in_place(|| wait::until(LONG, || place.hold_still().is_ok()));
    assert!(is_gone && place.unfinished().unwrap().is_empty() && place.list().unwrap().is_empty(), "nothing is left of it");

    take(&larder, folder.path(), "b", None).await;
    let (watch, restoring) = (HeldAt::new("restoring"), RestoreOptions::new("b"));
    tokio::select! {
        _ = larder.restore(place.clone(), &restoring, watch.clone()) => panic!("it is held up"),
        () = watch.is_there.notified() => {}
    }
    let busy = larder.restore(place.clone(), &RestoreOptions::new("b"), Arc::new(())).await.unwrap_err();
    assert_eq!(busy.kind(), ErrorKind::Overloaded, "the first one is not over before its thread is: {busy}");
    let half = larder.backup(place.clone(), &BackupOptions::new("half"), Arc::new(())).await.unwrap_err();
    assert_eq!(half.kind(), ErrorKind::Overloaded, "what stands on it would not know of the rest: {half}");
    let prune_all = || prune(&*place, Retention { last: 1, ..Retention::default() }, false, &()).unwrap();
    take(&crate::world::open(None, &clock(), None).await, folder.path(), "c", None).await;
    assert_eq!(prune_all().in_use, ["b"], "it is still read");
    watch.go_on.store(true, Ordering::SeqCst);
    let mut again = None;
    let begun = std::time::Instant::now();
    while again.is_none() && begun.elapsed() < LONG {
        again = larder.restore(place.clone(), &RestoreOptions::new("b"), Arc::new(())).await.ok();
        tokio::task::yield_now().await;
    }
    assert!(again.is_some(), "and then it goes on");
    assert_eq!(prune_all().removed, ["b"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_being_verified_is_not_pruned() {
    let folder = tempfile::tempdir().unwrap();
    let clock = clock();
    let larder = crate::world::open(None, &clock, None).await;
    filled(&larder, 20).await;
    take(&larder, folder.path(), "one", None).await;
    clock.advance(Duration::from_secs(20));
    take(&larder, folder.path(), "two", None).await;
    let watch = HeldAt::new("verifying");
    let verifying = {
        let (place, watch) = (place(folder.path()), watch.clone());
        tokio::task::spawn_blocking(move || verify(&*place, "one", None, &*watch))
    };
    watch.is_there.notified().await;
    let last = Retention { last: 1, ..Retention::default() };
    let pruned = prune(&*place(folder.path()), last, false, &()).unwrap();
    assert_eq!((pruned.in_use, pruned.removed.len()), (vec!["one".to_owned()], 0));
    watch.go_on.store(true, Ordering::SeqCst);
    assert_eq!(verifying.await.unwrap().unwrap().entries, 20, "all of it was there");
    assert_eq!(prune(&*place(folder.path()), last, false, &()).unwrap().removed, ["one"]);
}

#[tokio::test]
async fn an_interrupted_restore_is_ended_by_the_same_alone_also_after_a_restart() {
    let (data, folder, clock) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap(), clock());
    let mut larder = crate::world::open(Some(data.path()), &clock, None).await;
    filled(&larder, 300).await;
    take(&larder, folder.path(), "one", None).await;
    take(&larder, folder.path(), "other", None).await;
    let of = |name: &str, to: &str, pattern: &str| RestoreOptions {
        rename: vec![("both".into(), to.into())],
        pattern: Some(pattern.into()),
        ..RestoreOptions::new(name)
    };
    let stopping = Arc::new(Stops::at("restoring"));
    larder.restore(place(folder.path()), &of("one", "both", "both:*"), stopping).await.unwrap_err();
    for restarted in [false, true] {
        if restarted {
            larder.close().await.unwrap();
            larder = crate::world::open(Some(data.path()), &clock, None).await;
        }
        assert_eq!(seen(&larder, 300).await, 0, "none of it is seen meanwhile, restarted: {restarted}");
        for another in [of("other", "both", "both:*"), of("one", "both", "both:1*")] {
            let refused = larder.restore(place(folder.path()), &another, Arc::new(())).await.unwrap_err();
            assert_eq!(refused.kind(), ErrorKind::Overloaded);
            assert!(refused.to_string().contains("from the backup \"one\" matching \"both:*\""), "restarted: {restarted}, {refused}");
            let counted = RestoreOptions { dry_run: true, ..another };
            larder.restore(place(folder.path()), &counted, Arc::new(())).await.expect("counting is in nobody's way");
        }
    }
    let restored = larder.restore(place(folder.path()), &of("one", "both", "both:*"), Arc::new(())).await.unwrap();
    assert_eq!(restored.restored + restored.skipped_newer, 300);
    assert_eq!(seen(&larder, 300).await, 300, "and all of it then");
    larder.restore(place(folder.path()), &of("other", "both", "both:*"), Arc::new(())).await.expect("now nothing is unfinished");
    larder.close().await.unwrap();
}

async fn seen(larder: &Larder, entries: usize) -> usize {
    let mut seen = 0;
    for n in 0..entries {
        seen += usize::from(larder.raw().peek(format!("both:{n}")).await.unwrap().is_some());
    }
    seen
}

#[tokio::test]
async fn an_interrupted_restore_is_not_ended_by_one_that_knows_more_of_what_is_stale() {
    let (then, data, folder, clock) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap(), clock());
    let source = crate::world::open(Some(then.path()), &clock, None).await;
    filled(&source, 300).await;
    take(&source, folder.path(), "b", None).await;
    for n in 0..300 {
        source.invalidate(Names::new().key(format!("both:{n}"))).await.unwrap();
    }
    source.close().await.unwrap();
    let mut larder = crate::world::open(Some(data.path()), &clock, None).await;
    let accepts = RestoreOptions { accept_unknown_invalidations: true, ..RestoreOptions::new("b") };
    let knows = RestoreOptions { log_of_then: Some(then.path().into()), ..RestoreOptions::new("b") };
    let stopping = Arc::new(Stops::at("restoring"));
    larder.restore(place(folder.path()), &accepts, stopping).await.unwrap_err();
    for restarted in [false, true] {
        if restarted {
            larder.close().await.unwrap();
            larder = crate::world::open(Some(data.path()), &clock, None).await;
        }
        let refused = larder.restore(place(folder.path()), &knows, Arc::new(())).await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Overloaded);
        let told = refused.to_string();
        assert!(told.contains("by the archive alone; this one would by the log of then") && told.contains("give it up first"), "{told}");
        assert_eq!(seen(&larder, 300).await, 0, "what the first wrote, and the log of then knows to be stale, is not seen");
    }
    assert!(larder.abandon_restore().await.unwrap());
    assert_eq!(larder.restore(place(folder.path()), &knows, Arc::new(())).await.unwrap().dead_invalidated, 300);
    assert_eq!(seen(&larder, 300).await, 0);
    larder.close().await.unwrap();
}

#[tokio::test]
async fn a_backup_of_what_changed_has_what_a_restore_brought_meanwhile() {
    let (data, folder, clock) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap(), clock());
    let larder = crate::world::open(Some(data.path()), &clock, None).await;
    filled(&larder, 300).await;
    take(&larder, folder.path(), "old", None).await;
    larder.close().await.unwrap();
    fs::remove_dir_all(data.path().join("disk")).unwrap();
    let larder = crate::world::open(Some(data.path()), &clock, None).await;
    clock.advance(Duration::from_secs(60));
    assert_eq!(take(&larder, folder.path(), "full", None).await, 0, "its disk was lost");
    clock.advance(Duration::from_secs(60));
    assert_eq!(take(&larder, folder.path(), "nothing", Some("full")).await, 0);
    // These have stamps of before, and were made before.
    let stopping = Arc::new(Stops::at("restoring"));
    larder.restore(place(folder.path()), &RestoreOptions::new("old"), stopping).await.unwrap_err();
    assert_ne!(take(&larder, folder.path(), "half", Some("nothing")).await, 0, "what was written of one that may never be completed");
    larder.restore(place(folder.path()), &RestoreOptions::new("old"), Arc::new(())).await.unwrap();
    clock.advance(Duration::from_secs(60));
    assert_eq!(take(&larder, folder.path(), "more", Some("nothing")).await, 300, "all of it came since");
    clock.advance(Duration::from_secs(60));
    assert_eq!(take(&larder, folder.path(), "most", Some("more")).await, 0, "and nothing after that");
    let elsewhere = crate::world::open(None, &clock, None).await;
    let accept = RestoreOptions { accept_unknown_invalidations: true, ..RestoreOptions::new("most") };
    assert_eq!(elsewhere.restore(place(folder.path()), &accept, Arc::new(())).await.unwrap().restored, 300);
    larder.close().await.unwrap();
}

fn copied(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        if entry.file_type().unwrap().is_file() {
            fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
        }
    }
}

#[tokio::test]
async fn the_log_of_then_counts_where_it_is_at_its_end_and_knows_as_much_as_the_backup() {
    let (data, folder, clock) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap(), clock());
    let larder = crate::world::open(Some(data.path()), &clock, None).await;
    filled(&larder, 200).await;
    let early = data.path().join("early");
    copied(&data.path().join("log"), &early);
    // Two hundred names in a log without a checkpoint: an index of one line would know the last few alone.
    for n in 0..200 {
        larder.invalidate(Names::new().key(format!("other:{n}"))).await.unwrap();
    }
    larder.invalidate(Names::new().key("both:7")).await.unwrap();
    take(&larder, folder.path(), "b", None).await;
    larder.invalidate(Names::new().key("both:8")).await.unwrap();
    let with = async |log: &Path, accepts: bool| {
        let elsewhere = crate::world::open(None, &clock, None).await;
        let options = RestoreOptions { log_of_then: Some(log.into()), accept_unknown_invalidations: accepts, ..RestoreOptions::new("b") };
        let restored = elsewhere.restore(place(folder.path()), &options, Arc::new(())).await;
        restored.map(|restored| (restored.restored, restored.dead_invalidated))
    };
    // It goes on: what it is told after it was read is known to nobody here.
    let refused = with(data.path(), false).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::UnknownPosition);
    assert!(refused.to_string().contains("in use"), "{refused}");
    assert!(with(&data.path().join("log"), false).await.unwrap_err().to_string().contains("in use"), "asked by the log's own folder");
    let links = tempfile::tempdir().unwrap();
    let link = links.path().join("log-of-then");
    std::os::unix::fs::symlink(data.path().join("log"), &link).unwrap();
    assert!(with(&link, false).await.unwrap_err().to_string().contains("in use"), "asked by another way to it");
    assert_eq!(with(data.path(), true).await.unwrap(), (198, 1), "as far as it goes");
    // A copy of a time before the backup, and one of another epoch, know less than the backup.
    let refused = with(&early, false).await.unwrap_err();
    assert!(refused.kind() == ErrorKind::UnknownPosition && refused.to_string().contains("ends at position"), "{refused}");
    assert_eq!(with(&early, true).await.unwrap(), (199, 0), "as the backup knows");
    let other = tempfile::tempdir().unwrap();
    crate::world::open(Some(other.path()), &clock, None).await.close().await.unwrap();
    let refused = with(other.path(), false).await.unwrap_err();
    assert!(refused.kind() == ErrorKind::UnknownPosition && refused.to_string().contains("is of epoch"), "{refused}");
    assert_eq!(with(other.path(), true).await.unwrap(), (199, 0), "as the backup knows");
    larder.close().await.unwrap();
    assert_eq!(with(data.path(), false).await.unwrap(), (198, 1), "it is at its end");
    // A lock that cannot be asked, and a part of the log that cannot be read.
    let copy = links.path().join("log");
    copied(&data.path().join("log"), &copy);
    assert_eq!(with(links.path(), false).await.unwrap(), (198, 1), "a copy has no lock");
    fs::create_dir(links.path().join("lock")).unwrap();
    assert!(with(links.path(), false).await.unwrap_err().to_string().contains("in use"), "nobody can know");
    fs::create_dir(copy.join("segment-00000000000000ff")).unwrap();
    let refused = with(links.path(), true).await.unwrap_err();
    assert!(refused.kind() == ErrorKind::LogUnavailable && refused.to_string().contains("cannot list"), "{refused}");
}
