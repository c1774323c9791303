//! What a restore can be told, one thing at a time; what an interrupted one leaves; what a backup of what changed has.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use larder::backup::{BackupOptions, FolderPlace, Present, RestoreOptions, Restored, Ttl, diff, read_manifest, verify};
use larder::{Clock, ErrorKind, Item, Larder, Names, Policy};
use tempfile::TempDir;

use crate::world::Stops;

/// A cache in memory over a clock of the test's, and a place.
struct Bench {
    larder: Larder,
    clock: Clock,
    folder: TempDir,
}

impl Bench {
    async fn begin() -> Self {
        Self::begin_in(None).await
    }

    async fn begin_in(data: Option<&std::path::Path>) -> Self {
        let clock = Clock::manual();
        clock.advance(Duration::from_secs(1_000));
        let larder = crate::world::open(data, &clock, None).await;
        Bench { larder, clock, folder: tempfile::tempdir().unwrap() }
    }

    fn place(&self) -> Arc<FolderPlace> {
        Arc::new(FolderPlace::new(self.folder.path()))
    }

    async fn put(&self, key: &str, value: &'static str) {
        self.larder.raw().put(key, Bytes::from(value)).await.unwrap();
    }

    async fn show(&self, key: &str) -> Option<String> {
        let answer = self.larder.raw().peek(key).await.unwrap();
        answer.map(|answer| String::from_utf8(answer.value.to_vec()).unwrap())
    }

    async fn back_up(&self, name: &str, parent: Option<&str>) -> u64 {
        let options = BackupOptions { parent: parent.map(str::to_owned), ..BackupOptions::new(name) };
        self.larder.backup(self.place(), &options, Arc::new(())).await.unwrap().entries
    }

    async fn restore(&self, options: RestoreOptions) -> larder::Result<Restored> {
        self.larder.restore(self.place(), &options, Arc::new(())).await
    }

    /// Into a cache elsewhere, which has nothing, and in which nobody knows what happened since.
    async fn elsewhere(&self, options: RestoreOptions) -> (Larder, Restored) {
        let other = crate::world::open(None, &self.clock, None).await;
        let options = RestoreOptions { accept_unknown_invalidations: true, ..options };
        let restored = other.restore(self.place(), &options, Arc::new(())).await.unwrap();
        (other, restored)
    }
}

async fn shown(larder: &Larder, key: &str) -> Option<String> {
    larder.raw().peek(key).await.unwrap().map(|answer| String::from_utf8(answer.value.to_vec()).unwrap())
}

#[tokio::test]
async fn namespaces_patterns_and_other_names() {
    let bench = Bench::begin().await;
    for (key, value) in [("both:x:1", "one"), ("both:y:2", "two"), ("memory:x:3", "three"), ("other:x:4", "four")] {
        bench.put(key, value).await;
    }
    bench.back_up("b", None).await;
    let of = |namespaces: &[&str], pattern: Option<&str>, rename: &[(&str, &str)]| RestoreOptions {
        namespaces: namespaces.iter().map(|name| (*name).to_owned()).collect(),
        pattern: pattern.map(str::to_owned),
        rename: rename.iter().map(|(from, to)| ((*from).to_owned(), (*to).to_owned())).collect(),
        ..RestoreOptions::new("b")
    };
    let (other, restored) = bench.elsewhere(of(&["both"], None, &[])).await;
    assert_eq!((restored.restored, restored.skipped_unasked, shown(&other, "memory:x:3").await), (2, 2, None));
    let (other, restored) = bench.elsewhere(of(&[], Some("*:x:*"), &[])).await;
    assert_eq!((restored.restored, shown(&other, "both:y:2").await), (3, None));
    let (other, restored) = bench.elsewhere(of(&["both", "memory"], None, &[("both", "trial")])).await;
    assert_eq!(restored.namespaces.keys().collect::<Vec<_>>(), ["memory", "trial"]);
    assert_eq!((shown(&other, "trial:x:1").await.as_deref(), shown(&other, "both:x:1").await), (Some("one"), None));

    // By another name it is dead by what happened under its own.
    bench.larder.invalidate(Names::new().key("both:x:1")).await.unwrap();
    let restored = bench.restore(of(&["both"], None, &[("both", "trial")])).await.unwrap();
    assert_eq!((restored.restored, restored.dead_invalidated), (1, 1));
    assert_eq!((bench.show("trial:x:1").await, bench.show("trial:y:2").await.as_deref()), (None, Some("two")));
    let twice = bench.restore(of(&[], None, &[("both", "a"), ("both", "b")])).await.unwrap_err();
    assert_eq!(twice.kind(), ErrorKind::InvalidConfig);
}

#[tokio::test]
async fn what_is_there_stays_or_goes_as_asked_and_a_dry_run_only_counts() {
    let bench = Bench::begin().await;
    let raw = bench.larder.raw();
    // Filled, so that nothing is invalidated between what is in the backup and what is there.
    let token = raw.begin_fill("both:k");
    raw.fill("both:k", token, Item::new(Bytes::from("then"))).await.unwrap();
    bench.put("both:dead", "then").await;
    bench.back_up("b", None).await;
    bench.put("both:dead", "now").await;
    let token = raw.begin_fill("both:k");
    raw.fill("both:k", token, Item::new(Bytes::from("now"))).await.unwrap();
    let of = |present, dry_run| RestoreOptions { present, dry_run, ..RestoreOptions::new("b") };

    let position = bench.larder.position();
    for (present, restored, newer, there) in [(Present::KeepNewer, 0, 1, 0), (Present::Replace, 1, 0, 0), (Present::KeepPresent, 0, 0, 1)] {
        let counted = bench.restore(of(present, true)).await.unwrap();
        assert_eq!((counted.restored, counted.skipped_newer, counted.skipped_present), (restored, newer, there), "{present:?}");
        assert_eq!((counted.dead_invalidated, bench.larder.position()), (1, position), "nothing was touched");
    }
    for (present, expected) in [(Present::KeepNewer, "now"), (Present::KeepPresent, "now"), (Present::Replace, "then")] {
        bench.restore(of(present, false)).await.unwrap();
        assert_eq!(bench.show("both:k").await.as_deref(), Some(expected), "{present:?}");
        assert_eq!(bench.show("both:dead").await.as_deref(), Some("now"), "what was put since is never replaced");
    }
}

#[tokio::test]
async fn of_two_that_reflect_as_much_the_one_that_was_made_later_stays() {
    for data in [None, Some(tempfile::tempdir().unwrap())] {
        let bench = Bench::begin_in(data.as_ref().map(TempDir::path)).await;
        let fill = async |value: &'static str| {
            let raw = bench.larder.raw();
            // Nothing is appended, so all of them have one stamp.
            assert!(raw.fill("both:k", raw.begin_fill("both:k"), Item::new(Bytes::from(value))).await.unwrap());
        };
        fill("then").await;
        bench.back_up("b", None).await;
        bench.clock.advance(Duration::from_secs(5));
        fill("later").await;
        let of = |ttl, dry_run| RestoreOptions { ttl, dry_run, ..RestoreOptions::new("b") };
        for (ttl, dry_run) in [(Ttl::Keep, true), (Ttl::Ignore, true), (Ttl::Shift, false), (Ttl::Ignore, false)] {
            let restored = bench.restore(of(ttl, dry_run)).await.unwrap();
            assert_eq!((restored.restored, restored.skipped_newer), (0, 1), "{ttl:?}, in a folder: {}", data.is_some());
        }
        // A new life makes nothing younger: what was made later than that comes back over it.
        bench.back_up("c", None).await;
        for ttl in [Ttl::Shift, Ttl::Ignore] {
            bench.clock.advance(Duration::from_secs(5));
            let older = RestoreOptions { present: Present::Replace, ..of(ttl, false) };
            assert_eq!(bench.restore(older).await.unwrap().restored, 1, "{ttl:?}");
            let restored = bench.restore(RestoreOptions::new("c")).await.unwrap();
            assert_eq!((restored.restored, restored.skipped_newer), (1, 0), "{ttl:?}, in a folder: {}", data.is_some());
        }
        assert_eq!(bench.show("both:k").await.as_deref(), Some("later"));
        let replace = RestoreOptions { present: Present::Replace, ..RestoreOptions::new("b") };
        assert_eq!(bench.restore(replace).await.unwrap().restored, 1);
        assert_eq!(bench.show("both:k").await.as_deref(), Some("then"), "unless it is to go");
        bench.larder.close().await.unwrap();
    }
}

#[tokio::test]
async fn the_time_in_the_archive_counts_or_not() {
    let bench = Bench::begin().await;
    let minute = Duration::from_secs(60);
    bench.larder.raw().put("both:k", Item::new(Bytes::from("v")).ttl(minute)).await.unwrap();
    bench.clock.advance(minute / 4);
    bench.back_up("b", None).await;
    let left = |larder: Larder, clock: Clock| async move {
        let answer = larder.raw().peek("both:k").await.unwrap();
        answer.map(|answer| answer.value.fresh_for(clock.now_ms()))
    };
    let of = |ttl| RestoreOptions { ttl, ..RestoreOptions::new("b") };
    for (after, ttl, expected) in [
        (minute / 4, Ttl::Keep, Some(Some(minute / 2))),
        (minute / 4, Ttl::Shift, Some(Some(minute * 3 / 4))),
        (minute / 4, Ttl::Ignore, Some(None)),
        (minute, Ttl::Keep, None),
        (minute, Ttl::Shift, Some(Some(minute * 3 / 4))),
    ] {
        bench.clock.advance(after);
        let (other, restored) = bench.elsewhere(of(ttl)).await;
        assert_eq!(left(other, bench.clock.clone()).await, expected, "{ttl:?} {after:?} later");
        assert_eq!(restored.dead_expired, u64::from(expected.is_none()));
        // The next one begins where this one did.
        if after < minute {
            drop(std::fs::remove_dir_all(bench.folder.path().join("b")));
            bench.larder.raw().put("both:k", Item::new(Bytes::from("v")).ttl(minute)).await.unwrap();
            bench.clock.advance(minute / 4);
            bench.back_up("b", None).await;
        }
    }
}

#[tokio::test]
async fn half_a_restore_is_seen_by_nobody_also_after_a_restart_until_it_is_run_again() {
    let (data, clock) = (tempfile::tempdir().unwrap(), Clock::manual());
    clock.advance(Duration::from_secs(1_000));
    let folder = tempfile::tempdir().unwrap();
    let place = || Arc::new(FolderPlace::new(folder.path()));
    let larder = crate::world::open(Some(data.path()), &clock, None).await;
    for n in 0..300 {
        larder.raw().put(format!("both:{n}"), Bytes::from("v")).await.unwrap();
    }
    larder.backup(place(), &BackupOptions::new("b"), Arc::new(())).await.unwrap();
    let stopping = Arc::new(Stops::at("restoring"));
    let error = larder.restore(place(), &RestoreOptions::new("b"), stopping).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Cancelled);
    let seen = async |larder: &Larder| {
        let mut seen = 0;
        for n in 0..300 {
            seen += usize::from(larder.raw().lookup(format!("both:{n}")).await.unwrap().fresh().is_some());
        }
        seen
    };
    assert_eq!(seen(&larder).await, 0, "nothing of it is seen");
    let is_told = |larder: &Larder| larder.health().findings.iter().any(|finding| finding.about == "restore");
    assert!(is_told(&larder), "who asks how it is hears so");
    larder.sweep().await.unwrap();
    larder.raw().put("both:new", Bytes::from("v")).await.unwrap();
    assert_eq!(shown(&larder, "both:new").await.as_deref(), Some("v"), "what is newer is");
    let other = RestoreOptions { namespaces: vec!["memory".into()], ..RestoreOptions::new("b") };
    let refused = larder.restore(place(), &other, Arc::new(())).await.unwrap_err();
    assert!(refused.to_string().contains("both"), "another would show what this one left: {refused}");
    larder.close().await.unwrap();

    let larder = crate::world::open(Some(data.path()), &clock, None).await;
    assert_eq!(seen(&larder).await, 0, "not after a restart either");
    larder.restore(place(), &RestoreOptions::new("b"), Arc::new(())).await.unwrap();
    assert_eq!(seen(&larder).await, 300, "now all of it is");
    assert!(!is_told(&larder));

    let stopping = Arc::new(Stops::at("restoring"));
    larder.restore(place(), &RestoreOptions::new("b"), stopping).await.unwrap_err();
    assert!(larder.abandon_restore().await.unwrap() && !larder.abandon_restore().await.unwrap());
    assert_eq!(seen(&larder).await, 0, "what was given up is gone");
    larder.close().await.unwrap();
    let larder = crate::world::open(Some(data.path()), &clock, None).await;
    let restored = larder.restore(place(), &RestoreOptions::new("b"), Arc::new(())).await.unwrap();
    assert_eq!((restored.restored, restored.dead_invalidated), (0, 300), "for good");
    larder.close().await.unwrap();
}

#[tokio::test]
async fn a_cancelled_backup_is_none() {
    let bench = Bench::begin().await;
    bench.put("both:k", "v").await;
    let stopping = Arc::new(Stops::at("memory"));
    let error = bench.larder.backup(bench.place(), &BackupOptions::new("b"), stopping).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Cancelled);
    assert_eq!(verify(&*bench.place(), "b", None, &()).unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(bench.back_up("b", None).await, 1, "nothing is in the way of another");
}

#[tokio::test]
async fn a_backup_of_what_changed_has_that_and_stands_on_the_very_one_it_was_taken_on() {
    let bench = Bench::begin().await;
    for key in ["both:same", "both:changed", "both:removed"] {
        bench.put(key, "old").await;
    }
    bench.clock.advance(Duration::from_secs(60));
    bench.back_up("full", None).await;
    bench.clock.advance(Duration::from_secs(60));
    bench.put("both:changed", "new").await;
    bench.put("both:added", "new").await;
    bench.larder.raw().remove(["both:removed"]).await.unwrap();
    // What is made a moment before a backup may come too late for it, and is in the next one, too.
    bench.clock.advance(Duration::from_secs(20));
    assert_eq!(bench.back_up("more", Some("full")).await, 2);
    bench.clock.advance(Duration::from_secs(60));
    assert_eq!(bench.back_up("most", Some("more")).await, 0);

    let (other, restored) = bench.elsewhere(RestoreOptions::new("most")).await;
    assert_eq!((restored.restored, restored.skipped_superseded, restored.dead_invalidated), (3, 1, 1), "{restored:?}");
    let shows = async |key: &str| shown(&other, key).await;
    assert_eq!(shows("both:same").await.as_deref(), Some("old"));
    assert_eq!(shows("both:changed").await.as_deref(), Some("new"));
    assert_eq!((shows("both:added").await.as_deref(), shows("both:removed").await), (Some("new"), None));

    let difference = diff(&*bench.place(), "full", "most", None, &()).unwrap();
    assert_eq!((difference.same, difference.changed, difference.added), (2, 1, 1));
    assert_eq!(difference.added_keys, ["both:added"]);

    let named = RestoreOptions { namespaces: vec!["both".into()], ..RestoreOptions::new("most") };
    bench.restore(named).await.unwrap();
    std::fs::remove_dir_all(bench.folder.path().join("full")).unwrap();
    let missing = bench.restore(RestoreOptions::new("most")).await.unwrap_err();
    assert!(missing.to_string().contains("\"full\", which is not there any more"), "{missing}");
    bench.back_up("full", None).await;
    let another = bench.restore(RestoreOptions::new("most")).await.unwrap_err();
    assert!(another.to_string().contains("another backup has that name"), "{another}");
    assert_eq!(read_manifest(&*bench.place(), "most").unwrap().depth, 2);
    let on_nothing = BackupOptions { parent: Some("none".into()), ..BackupOptions::new("x") };
    let gone = bench.larder.backup(bench.place(), &on_nothing, Arc::new(())).await.unwrap_err();
    assert_eq!(gone.kind(), ErrorKind::NotFound);
}

#[tokio::test]
async fn values_of_a_type_come_back_as_what_they_were() {
    let (clock, folder) = (Clock::manual(), tempfile::tempdir().unwrap());
    let open = || async {
        let builder = Larder::builder().clock(clock.clone()).namespace("typed", Policy::default().tag("symbol:{1}"));
        builder.build().await.unwrap()
    };
    let (larder, other) = (open().await, open().await);
    let typed = larder.namespace::<Vec<u64>>("typed").unwrap();
    typed.put("AAPL:1", Item::new(vec![1, 2, 3])).await.unwrap();
    let place = Arc::new(FolderPlace::new(folder.path()));
    larder.backup(place.clone(), &BackupOptions::new("b"), Arc::new(())).await.unwrap();
    let accept = RestoreOptions { accept_unknown_invalidations: true, ..RestoreOptions::new("b") };
    other.restore(place, &accept, Arc::new(())).await.unwrap();
    let again = other.namespace::<Vec<u64>>("typed").unwrap();
    assert_eq!(*again.get("AAPL:1").await.unwrap().unwrap(), vec![1, 2, 3]);
    other.invalidate(Names::new().tag("symbol:AAPL")).await.unwrap();
    assert!(again.get("AAPL:1").await.unwrap().is_none(), "its tags came along");
}
