//! Files: of other versions, of other programs, damaged, in use, killed.

use rusqlite::Connection;

use super::*;

fn folder() -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("history.db");
    (folder, path)
}

fn written(path: &Path) {
    let (mut store, opened) = Store::open(path).expect("it opens");
    assert_eq!(opened, Opened::New);
    store.add(&minute(JUNE, 3)).expect("it is written");
}

fn told(path: &Path) -> u64 {
    let history = History::read_only(path).expect("it is a history");
    one(&history, &whole(JUNE, JUNE + DAY_MS, Detail::Sketches)).total().counts.hits_memory
}

#[test]
fn what_was_written_is_there_for_the_next_and_for_who_only_reads() {
    let (_folder, path) = folder();
    written(&path);
    assert_eq!(told(&path), 7);
    let (mut store, opened) = Store::open(&path).expect("it opens again");
    assert_eq!(opened, Opened::AsItWas);
    let identity = store.identity().unwrap();
    store.set_name("a").expect("it is written");
    store.add(&minute(JUNE + MINUTE_MS, 1)).expect("it is written");
    assert_eq!(told(&path), 8, "while it is open");
    assert_eq!(History::read_only(&path).unwrap().instances().unwrap(), ["a"]);
    drop(store);
    assert_eq!(Store::open(&path).expect("it opens").0.identity().unwrap(), identity);
    assert_eq!(identity.len(), 32);
}

#[test]
fn one_process_writes() {
    let (_folder, path) = folder();
    let (_store, _) = Store::open(&path).expect("it opens");
    assert!(matches!(Store::open(&path), Err(HistoryError::Locked(_))));
}

#[test]
fn a_later_version_is_left_as_it_is() {
    let (_folder, path) = folder();
    written(&path);
    Connection::open(&path).unwrap().pragma_update(None, "user_version", schema::VERSION + 1).unwrap();
    let before = std::fs::read(&path).expect("it is there");
    for error in [Store::open(&path).map(drop), History::read_only(&path).map(drop)].map(|opened| opened.expect_err("it is newer")) {
        assert!(matches!(error, HistoryError::Newer { .. }));
        assert!(error.to_string().contains("it is left as it is"), "{error}");
    }
    assert_eq!(std::fs::read(&path).expect("it is there"), before);
}

#[test]
fn a_database_of_another_program_is_left_as_it_is() {
    let (_folder, path) = folder();
    Connection::open(&path).unwrap().execute_batch("CREATE TABLE accounts (id INTEGER)").unwrap();
    let before = std::fs::read(&path).expect("it is there");
    assert!(matches!(Store::open(&path), Err(HistoryError::Foreign(_))));
    assert_eq!(std::fs::read(&path).expect("it is there"), before);
}

#[test]
fn counters_that_are_missing_are_added_and_unknown_ones_kept() {
    let (_folder, path) = folder();
    written(&path);
    let db = Connection::open(&path).unwrap();
    db.execute_batch("DROP VIEW minutes; ALTER TABLE minute DROP COLUMN unverified; ALTER TABLE minute ADD COLUMN yet_to_come INTEGER")
        .unwrap();
    db.execute_batch("UPDATE minute SET yet_to_come = 77").unwrap();
    drop(db);
    let (mut store, _) = Store::open(&path).expect("it opens");
    store.add(&minute(JUNE, 3)).expect("it is written");
    assert_eq!(told(&path), 14);
    let kept: i64 = Connection::open(&path).unwrap().query_row("SELECT max(yet_to_come) FROM minute", [], |row| row.get(0)).unwrap();
    assert_eq!(kept, 77);
}

#[test]
fn what_is_no_database_is_set_aside_and_kept() {
    let (_folder, path) = folder();
    std::fs::write(&path, "these are not the rows you are looking for").expect("it is written");
    let (mut store, opened) = Store::open(&path).expect("a new one is begun");
    let Opened::SetAside(aside) = opened else { panic!("{opened:?}") };
    assert!(std::fs::read_to_string(&aside).expect("it is kept").starts_with("these are not"));
    store.add(&minute(JUNE, 3)).expect("it is written");
    assert_eq!(told(&path), 7);
}

#[test]
fn a_damaged_page_is_found() {
    let (_folder, path) = folder();
    written(&path);
    Store::open(&path).expect("it opens").0.checkpoint().expect("nobody reads");
    let mut bytes = std::fs::read(&path).expect("it is there");
    assert!(bytes.len() > 3 * 8_192);
    bytes[8_192..].iter_mut().for_each(|byte| *byte ^= 0x5a);
    std::fs::write(&path, bytes).expect("it is written");
    let is_damaged = match Store::open(&path) {
        Ok((_, Opened::SetAside(_))) => true,
        Ok((store, _)) => store.check().is_err_and(|error| error.is_damage()),
        Err(error) => panic!("{error}"),
    };
    assert!(is_damaged);
}

#[test]
fn there_is_no_history_where_there_is_no_file() {
    let (_folder, path) = folder();
    assert!(matches!(History::read_only(&path), Err(HistoryError::NotThere(_))));
    assert!(!path.exists(), "and none is made by who only reads");
}

/// For who looks at it by hand.
#[test]
fn the_views_have_names_and_dates_in_them() {
    let (_folder, path) = folder();
    written(&path);
    let db = Connection::open(&path).unwrap();
    let row: (String, String, i64) = db
        .query_row("SELECT at, namespace_name, hits_memory FROM minutes WHERE namespace_name = 'bars'", [], |row| {
            Ok((row.get(0)?, row.get(1)?, row.get(2)?))
        })
        .unwrap();
    assert_eq!(row, ("2026-06-01 00:00:00".into(), "bars".into(), 3));
}
