//! What was computed from something that moved is stale, and so is what was computed from that.

use std::collections::{HashMap, HashSet};
use std::io;

use larder::{ErrorKind, Item, Names, Policy, Updated, Verdict, Version};

use crate::support::{Loads, in_memory, over_own_tier, seeded, with_policy};

#[tokio::test]
async fn a_source_that_moved_makes_stale_what_was_computed_from_it() {
    let (larder, _) = with_policy(Policy::default()).await;
    let numbers = larder.namespace::<u32>("n").unwrap();
    numbers.put("k", Item::new(1).depends_on("bars:A", 1u64)).await.unwrap();
    numbers.put("other", Item::new(1).depends_on("bars:AA", 1u64)).await.unwrap();
    let first = larder.moved("bars:A", 2u64).await.unwrap();
    assert!(first.receipt.is_some() && first.before.is_none());
    assert!(numbers.get("k").await.unwrap().is_none());
    assert!(numbers.get("other").await.unwrap().is_some());
    let before = larder.position();
    for late in [2u64, 1] {
        let again = larder.moved("bars:A", late).await.unwrap();
        assert_eq!((again.receipt, again.before), (None, Some(Version::Number(2))));
    }
    assert_eq!(larder.position(), before, "what is known appends nothing");
    assert_eq!(larder.version_of("bars:A").await.unwrap(), Some(Version::Number(2)));
    assert_eq!(larder.version_of("bars:B").await.unwrap(), None);
    assert_eq!(larder.moved("", 1u64).await.unwrap_err().kind(), ErrorKind::InvalidKey);
}

#[tokio::test]
async fn whatever_invalidates_a_source_counts() {
    for names in [
        Names::new().key("bars:A"),
        Names::new().tag("symbol:A"),
        Names::new().pattern("bars:*"),
        Names::new().pattern("bars:?"),
        Names::new().namespace("bars"),
        Names::new().everything(),
    ] {
        let (larder, _) = with_policy(Policy::default()).await;
        let (bars, numbers) = (larder.namespace::<u32>("bars").unwrap(), larder.namespace::<u32>("n").unwrap());
        bars.put("A", Item::new(1).tag("symbol:A")).await.unwrap();
        let used = bars.get("A").await.unwrap().unwrap();
        numbers.put("held", Item::new(1).computed_from("bars:A", &used)).await.unwrap();
        numbers.put("named", Item::new(1).depends_on("bars:A", used.fingerprint())).await.unwrap();
        larder.invalidate(names.clone()).await.unwrap();
        for key in ["held", "named"] {
            assert!(numbers.get(key).await.unwrap().is_none(), "{key} after {names:?}");
        }
    }
}

#[tokio::test]
async fn it_goes_through_any_number_of_steps_and_explain_names_the_chain() {
    let (builder, _, _tier) = over_own_tier();
    let larder = builder.build().await.unwrap();
    let (features, predictions) = (larder.namespace::<f64>("features").unwrap(), larder.namespace::<f64>("prediction").unwrap());
    features.put("A", Item::new(0.5).depends_on("bars:A", 1u64)).await.unwrap();
    let used = features.get("A").await.unwrap().unwrap();
    predictions.put("A", Item::new(1.0).computed_from("features:A", &used).depends_on("model:m", 3u64)).await.unwrap();
    let signal = predictions.get("A").await.unwrap().unwrap();
    predictions.put("signal", Item::new(2.0).computed_from("prediction:A", &signal)).await.unwrap();
    let explained = larder.explain("prediction:signal").await.unwrap();
    assert!(explained.found.iter().all(|found| found.verdict == Verdict::Fresh), "{explained}");
    assert!(explained.to_string().contains("computed from bars:A at version 1, through features:A"), "{explained}");
    larder.moved("bars:A", 2u64).await.unwrap();
    let explained = larder.explain("prediction:signal").await.unwrap();
    assert_eq!(explained.found.len(), 2, "memory and the backing tier: {explained}");
    for found in &explained.found {
        let Verdict::Invalidated { chain, .. } = &found.verdict else { panic!("{explained}") };
        let chain: Vec<String> = chain.iter().map(|name| name.escape_ascii().to_string()).collect();
        assert_eq!(chain, ["prediction:signal", "prediction:A", "features:A", "bars:A"]);
    }
    assert!(explained.to_string().contains("prediction:signal <- prediction:A <- features:A <- bars:A"), "{explained}");
    for key in ["A", "signal"] {
        assert!(predictions.get(key).await.unwrap().is_none());
    }
    assert!(larder.explain("prediction:none").await.unwrap().to_string().contains("no tier has anything"));
}

#[tokio::test]
async fn what_was_computed_from_an_old_version_is_not_stored() {
    let (larder, _) = with_policy(Policy::default()).await;
    let numbers = larder.namespace::<u32>("n").unwrap();
    larder.moved("bars:A", 2u64).await.unwrap();
    let old = || Item::new(1).depends_on("bars:A", 1u64);
    numbers.put("k", Item::new(0)).await.unwrap();
    let before = larder.position();
    let error = numbers.put("k", old()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Outdated);
    assert!(error.to_string().contains("version 1 of \"bars:A\", which is known to be at 2"), "{error}");
    assert_eq!(numbers.put_many([("k", old())]).await.unwrap_err().kind(), ErrorKind::Outdated);
    assert_eq!(numbers.put_if_changed("k", old()).await.unwrap_err().kind(), ErrorKind::Outdated);
    assert_eq!(larder.position(), before, "nothing was changed");
    // A source that lags: the loader began after the move and did not see it.
    let loaded = numbers.get_or_load("lagging", || async { Ok::<_, io::Error>(Item::new(1).depends_on("bars:A", 1u64)) }).await;
    assert_eq!(loaded.unwrap_err().kind(), ErrorKind::Outdated);
    let Updated { stored, .. } =
        numbers.update("k", || async { Ok::<_, io::Error>(Item::new(1).depends_on("bars:A", 1u64)) }).await.unwrap();
    assert!(!stored);
    assert!(numbers.get("k").await.unwrap().is_none(), "an update may have changed the source, so the key is invalidated");
    numbers.put("k", Item::new(3).depends_on("bars:A", 3u64)).await.unwrap();
    assert!(numbers.get("k").await.unwrap().is_some(), "who computes may know a change before the cache does");
}

#[tokio::test]
async fn a_value_in_hand_that_became_stale_is_no_source() {
    let (larder, _) = with_policy(Policy::default()).await;
    let (bars, numbers) = (larder.namespace::<u32>("bars").unwrap(), larder.namespace::<u32>("n").unwrap());
    bars.put("A", 1).await.unwrap();
    let used = bars.get("A").await.unwrap().unwrap();
    bars.put("A", 2).await.unwrap();
    let error = numbers.put("k", Item::new(1).computed_from("bars:A", &used)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Outdated);
    assert!(error.to_string().contains("\"bars:A\", has become stale since it was read"), "{error}");
}

#[tokio::test]
async fn a_load_whose_source_moves_meanwhile_answers_and_is_not_kept() {
    let (larder, _) = with_policy(Policy::default()).await;
    let numbers = larder.namespace::<u32>("n").unwrap();
    larder.moved("bars:A", 1u64).await.unwrap();
    let loads = Loads::held();
    let caller = {
        let (numbers, load) = (numbers.clone(), loads.giving(Ok(Item::new(1).depends_on("bars:A", 1u64))));
        tokio::spawn(async move { numbers.get_or_load("k", load).await })
    };
    loads.until_begun(1).await;
    larder.moved("bars:A", 2u64).await.unwrap();
    loads.let_go(1);
    assert_eq!(*caller.await.unwrap().unwrap(), 1, "it began before");
    assert!(numbers.get("k").await.unwrap().is_none());
}

#[tokio::test]
async fn nothing_may_be_computed_from_itself() {
    let (larder, _) = with_policy(Policy::default()).await;
    let numbers = larder.namespace::<u32>("n").unwrap();
    let error = numbers.put("a", Item::new(1).depends_on("n:a", 1u64)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidDependency);
    numbers.put("a", Item::new(1).depends_on("n:b", 1u64)).await.unwrap();
    numbers.put("c", Item::new(1).depends_on("n:a", 1u64)).await.unwrap();
    let error = numbers.put("b", Item::new(1).depends_on("n:c", 1u64)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidDependency);
    assert!(error.to_string().contains("n:b <- n:c <- n:a <- n:b"), "{error}");
    let many = (0..40u64).fold(Item::new(1), |item, n| item.depends_on(format!("s:{n}"), n));
    assert_eq!(numbers.put("many", many).await.unwrap_err().kind(), ErrorKind::InvalidDependency);
}

/// Random graphs and random moves, against a plain model: an entry is there exactly if nothing it was computed from, at any distance,
/// has changed since it was stored.
#[tokio::test]
async fn it_does_as_a_plain_model_says() {
    let mut random = seeded("lineage");
    for _ in 0..20 {
        let (builder, _) = in_memory();
        let larder = builder.build().await.unwrap();
        let numbers = larder.namespace::<u64>("n").unwrap();
        let roots = ["bars:A", "bars:B", "model:m"];
        let mut version: HashMap<&str, u64> = roots.iter().map(|root| (*root, 1)).collect();
        // What each entry was computed from, and whether it is fresh.
        let mut sources: HashMap<u8, Vec<u8>> = HashMap::new();
        let mut from_roots: HashMap<u8, Vec<&str>> = HashMap::new();
        let mut fresh: HashSet<u8> = HashSet::new();
        for step in 0..200u64 {
            let entry = random.u8(..12);
            let key = format!("{entry:02}");
            match random.u8(..10) {
                // Computed from entries with smaller numbers, so that there is no cycle.
                0..=5 => {
                    let below: Vec<u8> = (0..entry).filter(|other| fresh.contains(other) && random.u8(..3) == 0).collect();
                    let of_roots: Vec<&str> = roots.iter().copied().filter(|_| random.u8(..3) == 0).collect();
                    let mut item = Item::new(step);
                    for other in &below {
                        let used = numbers.get(format!("{other:02}")).await.unwrap().expect("the model says it is fresh");
                        item = item.computed_from(format!("n:{other:02}"), &used);
                    }
                    for root in &of_roots {
                        item = item.depends_on(root, version[root]);
                    }
                    numbers.put(&key, item).await.unwrap();
                    kill_what_is_behind(entry, &sources, &mut fresh);
                    sources.insert(entry, below);
                    from_roots.insert(entry, of_roots);
                    fresh.insert(entry);
                }
                6..=7 => {
                    let root = roots[random.usize(..roots.len())];
                    *version.get_mut(root).unwrap() += 1;
                    larder.moved(root, version[root]).await.unwrap();
                    for hit in from_roots.iter().filter(|(_, from)| from.contains(&root)).map(|(entry, _)| *entry).collect::<Vec<_>>() {
                        fresh.remove(&hit);
                        kill_what_is_behind(hit, &sources, &mut fresh);
                    }
                }
                _ => {
                    numbers.remove(&key).await.unwrap();
                    fresh.remove(&entry);
                    kill_what_is_behind(entry, &sources, &mut fresh);
                }
            }
            for entry in 0..12 {
                let there = numbers.contains(format!("{entry:02}")).await.unwrap();
                assert_eq!(there, fresh.contains(&entry), "entry {entry} at step {step}");
            }
        }
    }
}

/// What was computed from an entry is stale, and what was computed from that.
fn kill_what_is_behind(entry: u8, sources: &HashMap<u8, Vec<u8>>, fresh: &mut HashSet<u8>) {
    for (other, from) in sources {
        if from.contains(&entry) && fresh.remove(other) {
            kill_what_is_behind(*other, sources, fresh);
        }
    }
}
