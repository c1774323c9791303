//! The face for callers that are not async: every method, from plain threads.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use larder::{Cursor, ErrorKind, Larder, Lookup, Names};

use crate::support::secs;

#[test]
fn every_method_works_without_a_runtime_of_the_caller() {
    let folder = tempfile::tempdir().unwrap();
    let larder = Larder::builder().data(folder.path()).build_blocking().unwrap();
    let numbers = larder.namespace::<u32>("n").unwrap().blocking();
    assert!(numbers.get("k").unwrap().is_none());
    numbers.put("k", 1).unwrap();
    assert_eq!(numbers.get("k").unwrap().unwrap(), 1);
    assert!(matches!(numbers.lookup("k").unwrap(), Lookup::Hit(_)));
    assert_eq!(numbers.get_or_load("k", || Ok::<_, io::Error>(9)).unwrap(), 1);
    assert_eq!(numbers.get_or_load("loaded", || Ok::<_, io::Error>(2)).unwrap(), 2);
    numbers.put_many([("a", 3), ("b", 4)]).unwrap();
    let found = numbers.get_many(["b", "absent", "a"]).unwrap();
    assert_eq!(found.into_iter().map(|value| value.map(|value| *value)).collect::<Vec<_>>(), [Some(4), None, Some(3)]);
    let load = |keys: Vec<&'static str>| Ok::<_, io::Error>(keys.into_iter().map(|key| (key, key.len() as u32)).collect());
    let found = numbers.get_many_or_load(["a", "four", "a"], load).unwrap();
    assert_eq!(found.into_iter().map(|value| *value.unwrap()).collect::<Vec<_>>(), [3, 4, 3]);
    let updated = numbers.update("k", || Ok::<_, io::Error>(5)).unwrap();
    assert!(updated.stored);
    assert_eq!(numbers.get("k").unwrap().unwrap(), 5);
    assert!(numbers.touch("k", Some(secs(60))).unwrap());
    assert!(numbers.contains("k").unwrap());
    let page = numbers.keys("*", Cursor::start(), 2).unwrap();
    assert_eq!((page.keys.len(), page.next.is_some()), (2, true));
    numbers.remove("k").unwrap();
    assert!(!numbers.contains("k").unwrap());
    larder.invalidate_blocking(Names::new().everything()).unwrap();
    assert!(numbers.get("a").unwrap().is_none());
    larder.close_blocking().unwrap();
    assert_eq!(numbers.put("k", 1).unwrap_err().kind(), ErrorKind::Closed);
}

#[test]
fn errors_and_panics_of_blocking_loaders_are_the_caller_s_errors() {
    let larder = Larder::builder().build_blocking().unwrap();
    let numbers = larder.namespace::<u32>("n").unwrap().blocking();
    let error = numbers.get_or_load("k", || Err::<u32, _>(io::Error::other("the source is down"))).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Load);
    assert!(error.to_string().contains("the source is down"), "{error}");
    let panicking = || if true { panic!("on purpose") } else { Ok::<u32, io::Error>(1) };
    assert_eq!(numbers.get_or_load("k", panicking).unwrap_err().kind(), ErrorKind::LoadPanicked);
    assert_eq!(numbers.update("k", panicking).unwrap_err().kind(), ErrorKind::LoadPanicked);
    assert_eq!(numbers.get_or_load("k", || Ok::<_, io::Error>(1)).unwrap(), 1);
}

#[test]
fn threads_that_miss_at_once_share_one_load() {
    let larder = Larder::builder().build_blocking().unwrap();
    let numbers = larder.namespace::<u32>("n").unwrap().blocking();
    let (loads, barrier) = (Arc::new(AtomicUsize::new(0)), Arc::new(std::sync::Barrier::new(8)));
    std::thread::scope(|scope| {
        for _ in 0..8 {
            let (numbers, loads, barrier) = (numbers.clone(), loads.clone(), barrier.clone());
            scope.spawn(move || {
                barrier.wait();
                let load = move || {
                    loads.fetch_add(1, Ordering::SeqCst);
                    Ok::<_, io::Error>(7)
                };
                assert_eq!(numbers.get_or_load("k", load).unwrap(), 7);
            });
        }
    });
    assert_eq!(loads.load(Ordering::SeqCst), 1, "whoever came late found it in memory");
}
