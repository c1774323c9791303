//! What survives the end of a process, and which folders are refused.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use larder::{ErrorKind, Item, Larder, Names};

async fn open(folder: &Path) -> larder::Result<Larder> {
    Larder::builder().data(folder).index_bytes(1 << 20).build().await
}

#[tokio::test]
async fn entries_and_invalidations_outlive_the_process() {
    let folder = tempfile::tempdir().unwrap();
    let larder = open(folder.path()).await.unwrap();
    let numbers = larder.namespace::<u32>("n").unwrap();
    for key in ["key", "tag", "pattern", "glob", "stays"] {
        numbers.put(key, Item::new(1).tag(format!("t-{key}"))).await.unwrap();
    }
    larder.flush().await.unwrap();
    let names = Names::new().key("n:key").tag("t-tag").pattern("*:pattern").pattern("n:gl?b");
    let receipt = larder.invalidate(names).await.unwrap();
    larder.close().await.unwrap();
    drop((numbers, larder));

    let larder = open(folder.path()).await.unwrap();
    assert!(larder.position() >= receipt.position(), "positions go on, they do not begin anew");
    larder.reach(receipt.position(), std::time::Duration::ZERO).await.unwrap();
    let numbers = larder.namespace::<u32>("n").unwrap();
    for key in ["key", "tag", "pattern", "glob"] {
        assert!(numbers.get(key).await.unwrap().is_none(), "{key}");
    }
    assert_eq!(numbers.get("stays").await.unwrap().unwrap(), 1);
    let after = larder.invalidate(Names::new().everything()).await.unwrap();
    assert!(after.position() > receipt.position());
    larder.close().await.unwrap();
    drop((numbers, larder));

    let larder = open(folder.path()).await.unwrap();
    assert!(larder.namespace::<u32>("n").unwrap().get("stays").await.unwrap().is_none());
    larder.close().await.unwrap();
}

#[tokio::test]
async fn a_folder_belongs_to_one_at_a_time() {
    let folder = tempfile::tempdir().unwrap();
    let larder = open(folder.path()).await.unwrap();
    let error = open(folder.path()).await.err().unwrap();
    assert_eq!(error.kind(), ErrorKind::Locked);
    assert!(error.to_string().contains(&folder.path().display().to_string()), "{error}");
    larder.namespace::<u32>("n").unwrap().put("k", 1).await.expect("the first one is not disturbed");
    larder.close().await.unwrap();
    drop(larder);
    let larder = open(folder.path()).await.expect("it is free again");
    assert!(larder.namespace::<u32>("n").unwrap().get("k").await.unwrap().is_some());
    larder.close().await.unwrap();
}

/// All files of a folder and what they hold, by name.
fn contents(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let paths = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    paths.filter(|path| path.is_file()).map(|path| (path.clone(), fs::read(path).unwrap())).collect()
}

/// The newest segment of the log.
fn segment(folder: &Path) -> PathBuf {
    let log = contents(&folder.join("log"));
    let is_segment = |path: &&PathBuf| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("segment-"));
    log.keys().rfind(is_segment).expect("an open log has a segment").clone()
}

async fn used_folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let larder = open(folder.path()).await.unwrap();
    larder.namespace::<u32>("n").unwrap().put("k", 1).await.unwrap();
    larder.invalidate(Names::new().tag("t")).await.unwrap();
    larder.close().await.unwrap();
    folder
}

#[tokio::test]
async fn a_format_of_another_version_is_refused_and_left_as_it_is() {
    let log = used_folder().await;
    let segment = segment(log.path());
    let mut bytes = fs::read(&segment).unwrap();
    // The version is the third word of the header, behind eight bytes of magic.
    bytes[8..12].copy_from_slice(&99u32.to_le_bytes());
    fs::write(&segment, bytes).unwrap();
    let disk = used_folder().await;
    let format = disk.path().join("disk/FORMAT");
    let magic = fs::read_to_string(&format).unwrap().lines().next().unwrap().to_string();
    fs::write(&format, format!("{magic}\nversion 99\n")).unwrap();
    for (folder, part, names) in [(&log, "log", segment.file_name().unwrap().to_str().unwrap()), (&disk, "disk", "FORMAT")] {
        let before = contents(&folder.path().join(part));
        let error = open(folder.path()).await.err().unwrap();
        assert_eq!(error.kind(), ErrorKind::UnknownFormat, "{error}");
        assert!(error.to_string().contains(names) && error.to_string().contains("99"), "{error}");
        assert_eq!(contents(&folder.path().join(part)), before, "nothing may be overwritten");
    }
}

#[tokio::test]
async fn a_damaged_log_is_put_aside_and_everything_older_is_stale() {
    let folder = used_folder().await;
    let foreign = b"not a segment at all, and long enough to be taken for a header of one, if nobody looks closely";
    fs::write(segment(folder.path()), foreign).unwrap();
    let larder = open(folder.path()).await.unwrap();
    let numbers = larder.namespace::<u32>("n").unwrap();
    assert!(numbers.get("k").await.unwrap().is_none(), "who knows what the damage hides");
    numbers.put("k", 2).await.unwrap();
    assert_eq!(numbers.get("k").await.unwrap().unwrap(), 2);
    larder.close().await.unwrap();
}

#[tokio::test]
async fn a_closed_cache_gives_its_folder_back_though_handles_are_left() {
    let folder = tempfile::tempdir().unwrap();
    let closed = open(folder.path()).await.unwrap();
    let numbers = closed.namespace::<u32>("n").unwrap();
    numbers.put("k", 1).await.unwrap();
    assert_eq!(open(folder.path()).await.err().map(|error| error.kind()), Some(ErrorKind::Locked));
    closed.close().await.unwrap();
    let larder = open(folder.path()).await.unwrap();
    assert_eq!(larder.namespace::<u32>("n").unwrap().get("k").await.unwrap().unwrap(), 1);
    assert_eq!(numbers.put("k", 2).await.unwrap_err().kind(), ErrorKind::Closed, "what was given back is not written to");
    larder.close().await.unwrap();
}

#[tokio::test]
async fn what_is_closed_takes_no_more_writes_and_still_answers_from_memory() {
    let folder = tempfile::tempdir().unwrap();
    let on_disk = open(folder.path()).await.unwrap();
    let in_memory = Larder::builder().build().await.unwrap();
    for larder in [on_disk, in_memory] {
        let numbers = larder.namespace::<u32>("n").unwrap();
        numbers.put("k", 1).await.unwrap();
        larder.close().await.unwrap();
        larder.close().await.expect("closing twice is closing");
        let change = || async { Ok::<_, std::io::Error>(2) };
        for error in [
            numbers.put("k", 2).await.unwrap_err(),
            numbers.put_many([("k", 2)]).await.unwrap_err(),
            numbers.update("k", change).await.unwrap_err(),
            numbers.remove("k").await.unwrap_err(),
            larder.invalidate(Names::new().everything()).await.unwrap_err(),
        ] {
            assert_eq!(error.kind(), ErrorKind::Closed, "{error}");
        }
        assert_eq!(numbers.get("k").await.unwrap().unwrap(), 1);
        assert_eq!(numbers.get_or_load("other", change).await.unwrap(), 2, "a closed tier is one that fails, and the loader answers");
    }
}
