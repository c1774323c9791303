//! Backups of a cache that several instances share over Redis: a scan, made exact by the stamps.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use larder::backup::{BackupOptions, FolderPlace, Place, Present, RestoreOptions, Watch};
use larder::{ErrorKind, Larder, Names, Policy, RedisOptions};
use larder_testkit::redis::{Server, ServerOptions, or_skip};

/// Long enough for anything that should happen, on a machine that is busy with all other tests.
const LONG: Duration = Duration::from_secs(20);

async fn instance(url: &str) -> Larder {
    let options = RedisOptions::parse(url).expect("the fixture's address is one").heartbeat(Duration::from_millis(50));
    Larder::builder().redis(options).index_bytes(1 << 16).memory(16 << 20).build().await.expect("an instance opens")
}

/// Has Redis lose everything, and waits until that was noticed. What has to happen meanwhile may be a task of the very thread that waits.
fn lose_the_log(server: &Server, larder: &Larder) {
    let epoch = larder.position().epoch();
    server.command(&["FLUSHALL"]).expect("it is there");
    let adopted = tokio::task::block_in_place(|| larder_testkit::wait::until(LONG, || larder.position().epoch() != epoch));
    assert!(adopted, "a new epoch is adopted");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_another_instance_invalidated_since_stays_dead_and_so_does_all_when_the_log_is_lost() {
    let Some(server) = or_skip(Server::start(ServerOptions::default())) else { return };
    let (one, other) = (instance(&server.url()).await, instance(&server.url()).await);
    for n in 0..50 {
        one.raw().put(format!("n:{n}"), Bytes::from("v")).await.unwrap();
    }
    let folder = tempfile::tempdir().unwrap();
    let place = || Arc::new(FolderPlace::new(folder.path()));
    let manifest = other.backup(place(), &BackupOptions::new("b"), Arc::new(())).await.unwrap();
    assert_eq!((manifest.entries, manifest.fuzzy), (50, true));
    one.invalidate(Names::new().key("n:7")).await.unwrap();

    let restored = other.restore(place(), &RestoreOptions::new("b"), Arc::new(())).await.unwrap();
    assert_eq!((restored.restored, restored.dead_invalidated), (49, 1), "{restored:?}");
    assert!(other.raw().lookup("n:7").await.unwrap().fresh().is_none());
    assert!(one.raw().lookup("n:8").await.unwrap().fresh().is_some());

    lose_the_log(&server, &other);
    let refused = other.restore(place(), &RestoreOptions::new("b"), Arc::new(())).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::UnknownPosition, "{refused}");
    other.invalidate(Names::new().key("n:9")).await.unwrap();
    let accept = RestoreOptions { accept_unknown_invalidations: true, ..RestoreOptions::new("b") };
    let restored = other.restore(place(), &accept, Arc::new(())).await.unwrap();
    assert_eq!((restored.restored, restored.dead_invalidated), (49, 1), "what was invalidated in the new epoch is dead: {restored:?}");
    assert!(other.raw().lookup("n:9").await.unwrap().fresh().is_none());
    assert!(other.raw().lookup("n:8").await.unwrap().fresh().is_some());
}

/// Loses the log when all was written and nothing was let go.
struct LosesTheLog {
    server: Server,
    larder: Larder,
}

impl Watch for LosesTheLog {
    fn at(&self, doing: &str, _done: u64, _of: Option<u64>) {
        if doing == "making it durable" {
            lose_the_log(&self.server, &self.larder);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restore_whose_epoch_ends_before_it_is_let_go_is_none() {
    let Some(server) = or_skip(Server::start(ServerOptions::default())) else { return };
    let larder = instance(&server.url()).await;
    for n in 0..50 {
        larder.raw().put(format!("n:{n}"), Bytes::from("v")).await.unwrap();
    }
    let folder = tempfile::tempdir().unwrap();
    let place = || Arc::new(FolderPlace::new(folder.path()));
    larder.backup(place(), &BackupOptions::new("b"), Arc::new(())).await.unwrap();
    let watch = Arc::new(LosesTheLog { server, larder: larder.clone() });
    let ended = larder.restore(place(), &RestoreOptions::new("b"), watch.clone()).await.unwrap_err();
    assert_eq!(ended.kind(), ErrorKind::UnknownPosition, "{ended}");
    assert!(larder.raw().lookup("n:8").await.unwrap().fresh().is_none(), "nothing of it is seen");
    // It was of another epoch, and by what was known in that one: nothing is left of it that would have to be given up.
    let accept = RestoreOptions { accept_unknown_invalidations: true, ..RestoreOptions::new("b") };
    assert_eq!(larder.restore(place(), &accept, Arc::new(())).await.unwrap().restored, 50);
    assert!(larder.raw().lookup("n:8").await.unwrap().fresh().is_some());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_made_up_while_the_log_is_away_is_no_position_of_a_backup() {
    let Some(server) = or_skip(Server::start(ServerOptions::default())) else { return };
    let larder = instance(&server.url()).await;
    larder.raw().put("n:1", Bytes::from("v")).await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let place = || Arc::new(FolderPlace::new(folder.path()));
    server.kill();
    let begun = std::time::Instant::now();
    while !larder.invalidate(Names::new().key("n:2")).await.is_ok_and(|receipt| receipt.is_queued()) {
        assert!(begun.elapsed() < LONG, "it is noticed that Redis is away");
    }
    let refused = larder.backup(place(), &BackupOptions::new("b"), Arc::new(())).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::LogUnavailable, "{refused}");
    assert!(place().list().unwrap().is_empty() && place().unfinished().unwrap().is_empty(), "there is no such backup, and no rest of one");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_there_stays_or_goes_as_asked() {
    let Some(server) = or_skip(Server::start(ServerOptions::default())) else { return };
    let larder = instance(&server.url()).await;
    let raw = larder.raw();
    raw.put("n:1", Bytes::from("of the backup")).await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let place = || Arc::new(FolderPlace::new(folder.path()));
    larder.backup(place(), &BackupOptions::new("b"), Arc::new(())).await.unwrap();
    // Loaded later, and nobody said that it changed: both may be served, and this one reflects more.
    raw.put("n:2", Bytes::from("v")).await.unwrap();
    let token = raw.begin_fill("n:1");
    assert!(raw.fill("n:1", token, Bytes::from("loaded since")).await.unwrap());
    larder.flush().await.unwrap();
    // Has a copy in memory, as has the one that restores.
    let other = instance(&server.url()).await;
    assert!(other.raw().lookup("n:1").await.unwrap().fresh().is_some());
    for (present, expected, counts) in [
        (Present::KeepNewer, "loaded since", (0, 1, 0)),
        (Present::KeepPresent, "loaded since", (0, 0, 1)),
        (Present::Replace, "of the backup", (1, 0, 0)),
    ] {
        let options = RestoreOptions { present, ..RestoreOptions::new("b") };
        let restored = larder.restore(place(), &options, Arc::new(())).await.unwrap();
        assert_eq!((restored.restored, restored.skipped_newer, restored.skipped_present), counts, "{present:?}: {restored:?}");
        let found = raw.lookup("n:1").await.unwrap().fresh().expect("it is there");
        assert_eq!(&**found, expected.as_bytes(), "{present:?}");
        let began = std::time::Instant::now();
        while other.raw().lookup("n:1").await.unwrap().fresh().is_none_or(|found| &**found != expected.as_bytes()) {
            assert!(began.elapsed() < LONG, "{present:?}: the other one goes on showing what was there");
            tokio::task::yield_now().await;
        }
    }
}

/// Stops a restore once it writes.
struct Stops;

impl Watch for Stops {
    fn at(&self, _doing: &str, _done: u64, _of: Option<u64>) {}

    fn is_cancelled(&self) -> bool {
        true
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_redis_does_not_have_is_held_where_it_is_restored() {
    let Some(server) = or_skip(Server::start(ServerOptions::default())) else { return };
    let open = async || {
        let options = RedisOptions::parse(&server.url()).expect("the fixture's address is one");
        let policy = Policy::default().backing(false);
        Larder::builder().redis(options).index_bytes(1 << 16).memory(16 << 20).namespace("m", policy).build().await.expect("it opens")
    };
    let (one, other) = (open().await, open().await);
    for key in ["m:1", "n:1"] {
        one.raw().put(key, Bytes::from("v")).await.unwrap();
    }
    let folder = tempfile::tempdir().unwrap();
    let place = || Arc::new(FolderPlace::new(folder.path()));
    assert_eq!(one.backup(place(), &BackupOptions::new("b"), Arc::new(())).await.unwrap().entries, 2);
    let shown = async |larder: &Larder, key: &str| larder.raw().lookup(key).await.unwrap().fresh().is_some();
    // It was there before, and is as old as what is restored.
    other.raw().put("m:2", Bytes::from("v")).await.unwrap();
    let stopped = other.restore(place(), &RestoreOptions::new("b"), Arc::new(Stops)).await.unwrap_err();
    assert_eq!(stopped.kind(), ErrorKind::Cancelled);
    assert!(shown(&other, "m:2").await && shown(&other, "n:1").await, "nothing was written, and nothing is held");
    let restored = other.restore(place(), &RestoreOptions::new("b"), Arc::new(())).await.unwrap();
    assert_eq!(restored.restored, 2, "{restored:?}");
    assert!(shown(&other, "m:1").await && shown(&other, "n:1").await && shown(&one, "m:1").await);
}
