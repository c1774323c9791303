//! Events invalidate what the rules for them say, nothing else, and never in silence.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use larder::events::{Event, Failing, Rule, Watched};
use larder::{ErrorKind, Item, Larder, Namespace, Policy};
use proptest::prelude::*;
use serde_json::{Value as Json, json};

use crate::support::{in_memory, ms, secs};

async fn open(rules: impl IntoIterator<Item = Rule>) -> Larder {
    rules.into_iter().fold(Larder::builder(), |builder, rule| builder.rule(rule)).build().await.unwrap()
}

async fn has(features: &Namespace<u64>, key: &str) -> bool {
    features.get(key).await.unwrap().is_some()
}

#[tokio::test]
async fn the_built_in_rules_take_out_what_they_name_and_nothing_beside() {
    let larder = open([]).await;
    let features = larder.namespace::<u64>("features").unwrap();
    let prediction = larder.namespace::<u64>("prediction").unwrap();
    let model = larder.namespace::<u64>("model").unwrap();
    let fill = async || {
        for key in ["AAPL:5m", "v2:AAPL:5m", "A:5m", "AAPLW:5m"] {
            features.put(key, 1).await.unwrap();
        }
        features.put("other", Item::new(1).tag("symbol:AAPL")).await.unwrap();
        for key in ["AAPL:1d:v17", "MSFT:1d:v17", "MSFT:v18"] {
            prediction.put(key, 1).await.unwrap();
        }
        for key in ["gbm:v17", "gbm", "gbmx"] {
            model.put(key, 1).await.unwrap();
        }
    };
    let left = async || {
        let mut left = BTreeSet::new();
        for key in ["features:AAPL:5m", "features:v2:AAPL:5m", "features:A:5m", "features:AAPLW:5m", "features:other"].into_iter().chain([
            "prediction:AAPL:1d:v17",
            "prediction:MSFT:1d:v17",
            "prediction:MSFT:v18",
            "model:gbm:v17",
            "model:gbm",
            "model:gbmx",
        ]) {
            if larder.raw().lookup(key).await.unwrap().fresh().is_some() {
                left.insert(key);
            }
        }
        left
    };
    fill().await;
    let all = left().await;
    assert_eq!(all.len(), 11);
    let gone = async |event: Event| {
        fill().await;
        let emitted = larder.emit(event).await.unwrap();
        assert!(emitted.position.is_some());
        all.difference(&left().await).copied().collect::<Vec<_>>()
    };
    let symbol = Event::new("market_data_update", json!({ "symbol": "AAPL", "timestamp": 1 }));
    assert_eq!(gone(symbol).await, ["features:AAPL:5m", "features:other", "features:v2:AAPL:5m", "prediction:AAPL:1d:v17"]);
    let version = Event::new("model_update", json!({ "model_version": "v17" }));
    assert_eq!(gone(version).await, ["prediction:AAPL:1d:v17", "prediction:MSFT:1d:v17"]);
    let of_type = Event::new("model_update", json!({ "model_type": "gbm" }));
    assert_eq!(gone(of_type).await, ["model:gbm", "model:gbm:v17"]);
    let scope = Event::new("system_maintenance", json!({ "scope": "model" }));
    assert_eq!(gone(scope).await, ["model:gbm", "model:gbm:v17", "model:gbmx"]);
    assert_eq!(gone(Event::new("system_maintenance", Json::Null)).await.len(), 11);
}

#[tokio::test]
async fn an_event_that_lacks_what_a_rule_needs_is_refused_and_counted() {
    let larder = open([]).await;
    let features = larder.namespace::<u64>("features").unwrap();
    features.put("AAPL:5m", 1).await.unwrap();
    for (data, what) in [
        (json!({}), "symbol"),
        (json!({ "symbol": "A:B" }), "':'"),
        (json!({ "symbol": "" }), "empty"),
        (json!({ "symbol": null }), "symbol"),
    ] {
        let error = larder.emit(Event::new("market_data_update", data)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidEvent);
        assert!(error.to_string().contains("market_data_update") && error.to_string().contains(what), "{error}");
    }
    assert!(has(&features, "AAPL:5m").await);
    let nobody = larder.emit(Event::new("unheard_of", json!({}))).await.unwrap();
    assert_eq!((nobody.position, nobody.rules.len()), (None, 0));
    let stats = larder.stats().events;
    assert_eq!((stats.received, stats.refused, stats.unmatched, stats.names), (5, 4, 1, 0));
}

#[tokio::test]
async fn an_event_that_is_delivered_twice_is_carried_out_once_and_one_that_failed_again() {
    let larder = open([Rule::new("t", ["tag:{x}"]).unwrap()]).await;
    let event = Event::new("t", json!({ "x": "a" })).from("s").with_id("1");
    assert!(!larder.emit(event.clone()).await.unwrap().duplicate);
    assert!(larder.emit(event.clone()).await.unwrap().duplicate);
    assert!(!larder.emit(event.from("other")).await.unwrap().duplicate, "another source may use the same identifier");
    let broken = Event::new("t", json!({})).from("s").with_id("2");
    larder.emit(broken).await.unwrap_err();
    let mended = Event::new("t", json!({ "x": "a" })).from("s").with_id("2");
    assert!(!larder.emit(mended).await.unwrap().duplicate, "what did not take effect is not remembered");
    assert_eq!(larder.stats().events.duplicates, 1);
}

#[tokio::test]
async fn an_event_that_took_effect_is_remembered_by_the_next_process() {
    let folder = tempfile::tempdir().unwrap();
    let debounced = Rule::new("late", ["tag:{x}"]).unwrap().debounce(Duration::from_millis(20)).unwrap();
    let both = [Rule::new("late", ["tag:other:{x}"]).unwrap()];
    let open = || async {
        let rules = [Rule::new("t", ["tag:{x}"]).unwrap(), debounced.clone()].into_iter().chain(both.clone());
        rules.fold(Larder::builder().data(folder.path()), |builder, rule| builder.rule(rule)).build().await.unwrap()
    };
    let event = |kind: &str, id: &str| Event::new(kind, json!({ "x": "a" })).from("s").with_id(id);
    let larder = open().await;
    larder.emit(event("t", "1")).await.unwrap();
    let (first, second) = tokio::join!(larder.emit(event("late", "2")), larder.emit(event("late", "3")));
    assert!(first.unwrap().conflated + second.unwrap().conflated > 0, "one was put off");
    assert!(!larder.emit(event("of no rule", "4")).await.unwrap().duplicate);
    larder.on("told", |_: Arc<Event>| async { Ok::<_, std::io::Error>(()) });
    assert_eq!(larder.emit(event("told", "5")).await.unwrap().handled, 1);
    let again = larder.emit(event("told", "5")).await.unwrap();
    assert_eq!((again.duplicate, again.handled), (true, 0));
    // Without a word, as a process that is killed.
    drop(larder);
    let larder = open().await;
    let position = larder.position();
    for (kind, id) in [("t", "1"), ("late", "2"), ("late", "3"), ("told", "5")] {
        assert!(larder.emit(event(kind, id)).await.unwrap().duplicate, "{id}");
    }
    assert!(!larder.emit(event("of no rule", "4")).await.unwrap().duplicate, "what matches nothing leaves nothing behind");
    assert_eq!(larder.position(), position, "nothing was appended");
    larder.on("told", |_: Arc<Event>| async { Ok::<_, std::io::Error>(()) });
    let told = larder.emit(event("told", "5")).await.unwrap();
    assert_eq!((told.duplicate, told.handled), (true, 1), "whether its handlers were done this process does not know");
}

#[tokio::test]
async fn the_same_event_many_times_at_once_takes_effect_once() {
    let larder = open([Rule::new("t", ["tag:{x}"]).unwrap()]).await;
    let before = larder.position().number();
    let all: Vec<_> = (0..50)
        .map(|_| {
            let (larder, event) = (larder.clone(), Event::new("t", json!({ "x": "a" })).from("s").with_id("1"));
            tokio::spawn(async move { larder.emit(event).await.unwrap().duplicate })
        })
        .collect();
    let mut duplicates = 0;
    for one in all {
        duplicates += u32::from(one.await.unwrap());
    }
    assert_eq!((duplicates, larder.position().number() - before), (49, 1));
}

#[tokio::test(start_paused = true)]
async fn many_changes_of_a_name_are_the_first_and_the_last() {
    let larder = open([Rule::new("t", ["tag:{x}"]).unwrap().debounce(Duration::from_millis(20)).unwrap()]).await;
    let features = larder.namespace::<u64>("features").unwrap();
    let put = async || features.put("k", Item::new(1).tag("a")).await.unwrap();
    let emit = |x: &str| {
        let (larder, event) = (larder.clone(), Event::new("t", json!({ "x": x })));
        tokio::spawn(async move { larder.emit(event).await.unwrap() })
    };
    put().await;
    assert_eq!(emit("a").await.unwrap().conflated, 0);
    assert!(!has(&features, "k").await, "the first at once");
    put().await;
    let began = tokio::time::Instant::now();
    let later: Vec<_> = (0..50).map(|_| emit("a")).collect();
    assert_eq!(emit("b").await.unwrap().conflated, 0, "another name does not wait");
    assert!(has(&features, "k").await);
    let before = larder.stats().events.names;
    for emitted in later {
        let emitted = emitted.await.unwrap();
        assert!(emitted.conflated == 1 && emitted.position.is_some());
    }
    assert!(began.elapsed() <= Duration::from_millis(25), "{:?}", began.elapsed());
    assert!(!has(&features, "k").await, "the last is not lost");
    assert_eq!(larder.stats().events.names - before, 1, "fifty are one");
}

#[tokio::test(start_paused = true)]
async fn a_handler_that_fails_is_told_again_and_stops_no_other() {
    let larder = open([]).await;
    let tries = Arc::new(AtomicU64::new(0));
    let counted = tries.clone();
    let flaky = larder.on("t", move |_: Arc<Event>| {
        let before = counted.fetch_add(1, Ordering::Relaxed);
        async move { if before < 2 { Err(std::io::Error::other("not yet")) } else { Ok(()) } }
    });
    larder.on("t", |event: Arc<Event>| async move {
        assert_eq!(event.data(), &json!("calm"), "this handler bears nothing else");
        Ok::<_, std::io::Error>(())
    });
    let emitted = larder.emit(Event::new("t", json!("wild"))).await.unwrap();
    assert_eq!((emitted.handled, emitted.dead.len(), tries.load(Ordering::Relaxed)), (1, 1, 3));
    let letter = larder.dead_letters().remove(0);
    assert!(letter.reason.contains("panicked") && letter.reason.contains("bears nothing else"), "{}", letter.reason);
    assert_eq!(letter.event["data"], json!("wild"));
    assert_eq!(larder.replay_dead_letter(letter.id).await.unwrap_err().kind(), ErrorKind::Load);
    assert_eq!(larder.dead_letters().len(), 1);
    assert!(flaky.remove() && !flaky.remove());
    assert_eq!(larder.emit(Event::new("t", json!("calm"))).await.unwrap().handled, 1);
    assert!(larder.drop_dead_letter(letter.id).await.unwrap() && !larder.drop_dead_letter(letter.id).await.unwrap());
    assert_eq!(larder.replay_dead_letter(letter.id).await.unwrap_err().kind(), ErrorKind::NotFound);
}

#[tokio::test(start_paused = true)]
async fn a_dead_letter_outlives_the_process_and_can_be_replayed_by_the_next() {
    let folder = tempfile::tempdir().unwrap();
    let open = || async { Larder::builder().data(folder.path()).build().await.unwrap() };
    let larder = open().await;
    let failing = larder.on("t", |_: Arc<Event>| async { Err::<(), _>(std::io::Error::other("down")) });
    let dead = larder.emit(Event::new("t", json!(1))).await.unwrap().dead;
    assert!(failing.replace(|_: Arc<Event>| async { Ok::<_, std::io::Error>(()) }));
    larder.close().await.unwrap();
    drop((larder, failing));
    let larder = open().await;
    assert_eq!(larder.dead_letters().iter().map(|letter| letter.id).collect::<Vec<_>>(), dead);
    assert_eq!(larder.replay_dead_letter(dead[0]).await.unwrap_err().kind(), ErrorKind::NotFound, "nobody is there to tell");
    larder.on("t", |_: Arc<Event>| async { Ok::<_, std::io::Error>(()) });
    assert_eq!(larder.replay_dead_letter(dead[0]).await.unwrap().handled, 1);
    assert!(larder.dead_letters().is_empty());
    larder.close().await.unwrap();
}

#[tokio::test]
async fn an_event_that_could_not_be_carried_out_is_replayed_once_the_rules_are_mended() {
    let folder = tempfile::tempdir().unwrap();
    let event = Event::new("bar", json!({ "ticker": "AAPL" })).from("feed").with_id("1");
    let open = async |field: &str| {
        let rule = Rule::new("bar", [format!("tag:symbol:{{{field}}}")]).unwrap();
        Larder::builder().data(folder.path()).rule(rule).build().await.unwrap()
    };
    let larder = open("symbol").await;
    let refused = larder.emit(event.clone()).await.unwrap_err();
    assert!(larder.dead_letters().is_empty(), "who emitted it was told");
    let id = larder.keep_dead_letter(event.to_json(), refused.message()).await;
    let junk = larder.keep_dead_letter(json!("no event"), "it is none").await;
    assert_eq!(larder.replay_dead_letter(id).await.unwrap_err().kind(), ErrorKind::InvalidEvent);
    larder.close().await.unwrap();
    drop(larder);

    let larder = open("ticker").await;
    let features = larder.namespace::<u64>("features").unwrap();
    features.put("k", Item::new(1).tag("symbol:AAPL")).await.unwrap();
    let letter = larder.dead_letter(id).unwrap();
    assert_eq!(letter.failed, Failing::Event);
    assert!(letter.reason.contains("\"bar\"") && letter.reason.contains("field symbol"), "{}", letter.reason);
    let emitted = larder.replay_dead_letter(id).await.unwrap();
    assert_eq!((emitted.names.as_slice(), has(&features, "k").await), (["tag:symbol:AAPL".to_owned()].as_slice(), false));
    assert_eq!(larder.replay_dead_letter(junk).await.unwrap_err().kind(), ErrorKind::InvalidEvent);
    assert_eq!(larder.dead_letters().iter().map(|letter| letter.id).collect::<Vec<_>>(), [junk], "what fails again stays");
    // Its source may deliver it once more: it is the same event.
    assert!(larder.emit(event).await.unwrap().duplicate);
    larder.close().await.unwrap();
}

#[tokio::test]
async fn every_event_leaves_a_trace() {
    let larder = open([Rule::new("t", ["tag:{x}", "features:{x}:**"]).unwrap()]).await;
    let features = larder.namespace::<u64>("features").unwrap();
    for key in ["a:1", "a:2", "b:1"] {
        features.put(key, 1).await.unwrap();
    }
    let mut watch = larder.watch_events_and_entries();
    let event = |x: &str| Event::new("t", json!({ "x": x })).from("feed").with_id(x);
    let position = larder.emit_from(event("a"), "http").await.unwrap().position;
    larder.emit(event("a")).await.unwrap();
    larder.emit(event("a:b")).await.unwrap_err();
    larder.emit(Event::new("unheard_of", Json::Null)).await.unwrap();
    let Some(Watched::Event(first)) = watch.next().await else { panic!("nobody was too slow") };
    assert_eq!((first.through.as_ref(), first.source.as_str(), first.id.as_str(), first.kind.as_str()), ("http", "feed", "a", "t"));
    assert_eq!((first.rules.as_slice(), first.names_count, first.position), (["t".to_owned()].as_slice(), 2, position));
    assert_eq!(first.entries, Some(2), "both of a, in memory");
    assert!(first.applied_after.is_some_and(|applied| applied <= first.took));
    let traces = larder.event_traces(10);
    let outcomes: Vec<&str> = traces.iter().map(|trace| trace.outcome.as_str()).collect();
    assert_eq!(outcomes, ["applied", "duplicate", "refused", "unmatched"]);
    assert!(traces[2].outcome.reason().unwrap().contains("':'"), "{:?}", traces[2]);
    assert_eq!((traces[1].through.as_ref(), traces[1].applied_after), ("library", None));
    drop(watch);
    larder.emit(event("b")).await.unwrap();
    assert_eq!(larder.event_traces(1)[0].entries, None, "nobody wants to know");
}

#[tokio::test(start_paused = true)]
async fn a_trace_says_that_an_event_took_effect_with_others() {
    let larder = open([Rule::new("t", ["tag:{x}"]).unwrap().debounce(Duration::from_millis(20)).unwrap()]).await;
    for id in ["1", "2"] {
        larder.emit(Event::new("t", json!({ "x": "a" })).with_id(id)).await.unwrap();
    }
    let traces = larder.event_traces(2);
    assert_eq!(traces.iter().map(|trace| trace.outcome.as_str()).collect::<Vec<_>>(), ["applied", "conflated"]);
    assert!(traces[1].applied_after.unwrap() >= Duration::from_millis(20), "{:?}", traces[1]);
}

#[tokio::test]
async fn a_rehearsal_counts_and_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let larder = Larder::builder().data(folder.path()).build().await.unwrap();
    let features = larder.namespace::<u64>("features").unwrap();
    for key in ["AAPL:5m", "AAPL:1h", "MSFT:5m"] {
        features.put(key, 1).await.unwrap();
    }
    larder.flush().await.unwrap();
    let event = Event::new("market_data_update", json!({ "symbol": "AAPL" }));
    let (planned, impact) = larder.rehearse(&event).await.unwrap();
    assert_eq!(planned.rules, ["market_data_update"]);
    assert!(planned.names.contains(&"features:AAPL:**".to_owned()), "{:?}", planned.names);
    let touched = impact.namespaces["features"];
    assert_eq!((touched.memory_entries, touched.backing_entries), (2, 2));
    assert!(touched.memory_bytes > 0 && touched.backing_bytes > 0);
    assert!(has(&features, "AAPL:5m").await);
    larder.emit(event.clone()).await.unwrap();
    let (again, impact) = larder.rehearse(&event).await.unwrap();
    assert!(again.duplicate && impact.namespaces.is_empty(), "what is gone already is not counted");
    larder.close().await.unwrap();
}

/// What a plain model says is dead: entries with this very tag, or whose key has this very segment where the template has it.
fn is_dead(template: &str, symbol: &str, key: &str, tag: &str) -> bool {
    match template {
        "tag:symbol:{symbol}" => tag == format!("symbol:{symbol}"),
        "features:{symbol}:**" => key.split(':').nth(1) == Some(symbol),
        "features:*:{symbol}" => key.split(':').count() == 3 && key.split(':').nth(2) == Some(symbol),
        other => unreachable!("{other} is none of the templates"),
    }
}

const TEMPLATES: [&str; 3] = ["tag:symbol:{symbol}", "features:{symbol}:**", "features:*:{symbol}"];

/// Symbols that somebody might choose who wants to reach more than his own.
fn symbol() -> impl Strategy<Value = String> {
    prop_oneof![
        3 => "[AB]{1,3}",
        2 => r"[AB*?\[\]\\{}!^-]{1,4}",
        1 => any::<String>().prop_filter("as long as a name may be", |text| text.len() < 100),
        1 => Just("**".to_owned()),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(192))]

    #[test]
    fn an_event_never_reaches_further_than_a_plain_model_says(
        template in proptest::sample::select(TEMPLATES.to_vec()),
        symbols in proptest::collection::vec(symbol(), 1..8),
        value in symbol(),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let larder = open([Rule::new("t", [template]).unwrap()]).await;
            let mut entries = BTreeMap::new();
            for symbol in symbols.iter().filter(|symbol| !symbol.contains(':')).chain([&"AAB".to_owned(), &"AA".to_owned()]) {
                for key in [format!("features:{symbol}:5m"), format!("features:x:{symbol}")] {
                    let tag = format!("symbol:{symbol}");
                    larder.raw().put(&key, Item::new(bytes::Bytes::from_static(b"v")).tag(tag.clone())).await.unwrap();
                    entries.insert(key, tag);
                }
            }
            let emitted = larder.emit(Event::new("t", json!({ "symbol": value }))).await;
            let refused = value.is_empty() || value.contains(':');
            prop_assert_eq!(emitted.is_err(), refused, "{:?}", emitted);
            for (key, tag) in &entries {
                let lives = larder.raw().lookup(key).await.unwrap().fresh().is_some();
                let expected = refused || !is_dead(template, &value, key, tag);
                prop_assert_eq!(lives, expected, "{} with {:?}: {}", template, value, key);
            }
            Ok(())
        })?;
    }

    #[test]
    fn no_template_condition_or_event_makes_it_panic(template in ".{0,40}", condition in ".{0,40}", words in r"[a-z@.&|!=<>()\[\]'0-9 {}?:*-]{0,40}", data in ".{0,20}") {
        let event = Event::new("t", json!({ "a": data.clone(), "b": [data.clone(), 1, true], "c": { "d": data } }));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        for template in [template, words.clone()] {
            let Ok(mut rule) = Rule::new("t", [template]) else { continue };
            for condition in [&condition, &words] {
                if let Ok(with) = rule.clone().when(condition) {
                    rule = with;
                }
            }
            runtime.block_on(async {
                let outcome = open([rule]).await.emit(event.clone()).await;
                prop_assert!(outcome.is_ok() || outcome.unwrap_err().kind() == ErrorKind::InvalidEvent);
                Ok(())
            })?;
        }
    }
}

#[tokio::test]
async fn what_an_event_took_out_is_loaded_again_the_hottest_first() {
    let (builder, clock) = in_memory();
    let larder = builder.namespace("features", Policy::default()).build().await.unwrap();
    let features = larder.namespace::<u32>("features").unwrap();
    for (key, reads) in [("A:warm", 640), ("A:hot", 6_400), ("A:hottest", 64_000), ("B:hot", 6_400), ("A:cold", 1)] {
        features.put(key, 1).await.unwrap();
        for _ in 0..reads {
            clock.advance(ms(1));
            assert!(features.get(key).await.unwrap().is_some());
        }
    }
    let hot: Vec<_> = features.hot_keys(2).into_iter().map(|hot| hot.key).collect();
    assert_eq!(hot, [Box::from(b"features:A:hottest".as_slice()), Box::from(b"features:A:hot".as_slice())]);
    let loaded = Arc::new(Mutex::new(Vec::new()));
    let load = {
        let loaded = loaded.clone();
        move |key: Box<[u8]>| {
            loaded.lock().unwrap().push(String::from_utf8(key.into()).unwrap());
            async { Ok::<_, std::io::Error>(2) }
        }
    };
    let refresh = features.refresh_on(["key:features:{symbol}:named", "features:{symbol}:*"], load).unwrap().budget(3, secs(5), 1);
    larder.on("market_data_update", refresh);
    let emitted = larder.emit(Event::new("market_data_update", json!({ "symbol": "A" }))).await.unwrap();
    assert_eq!(emitted.handled, 1);
    assert_eq!(*loaded.lock().unwrap(), ["A:named", "A:hottest", "A:hot"], "in this order, and no more than three");
    for (key, expected) in [("A:hottest", Some(2)), ("A:named", Some(2)), ("A:warm", None), ("A:cold", None), ("B:hot", Some(1))] {
        assert_eq!(features.get(key).await.unwrap().map(|value| *value), expected, "{key}");
    }
    let error = features.refresh_on(["tag:symbol:{symbol}"], |_| async { Ok::<u32, std::io::Error>(1) }).err().unwrap();
    assert!(error.to_string().contains("names no keys"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_refresh_that_takes_too_long_keeps_nobody_waiting() {
    let (builder, _) = in_memory();
    let larder = builder.namespace("features", Policy::default()).build().await.unwrap();
    let features = larder.namespace::<u32>("features").unwrap();
    let load = |_: Box<[u8]>| std::future::pending::<Result<u32, std::io::Error>>();
    let refresh = features.refresh_on(["key:features:{symbol}:a", "key:features:{symbol}:b"], load).unwrap();
    larder.on("market_data_update", refresh.budget(10, ms(200), 1));
    let before = tokio::time::Instant::now();
    let emitted = larder.emit(Event::new("market_data_update", json!({ "symbol": "A" }))).await.unwrap();
    assert_eq!((emitted.handled, emitted.dead.len()), (1, 0), "what could not be loaded ahead is no failure");
    assert!(before.elapsed() < secs(1));
}
