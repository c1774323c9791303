//! Input that is refused: each refusal is of its kind, names the key and says the limit; and what is just within a limit
//! is taken.

use larder::{ErrorKind, Item, KEY_LEN_MAX, NAMES_MAX, Names, Policy, TAG_LEN_MAX, TAGS_MAX};

use crate::support::{Loads, in_memory, with_policy};

#[tokio::test]
async fn keys_have_1_to_1024_bytes_namespace_included() {
    let (larder, _) = with_policy(Policy::default()).await;
    let numbers = larder.namespace::<u32>("n").unwrap();
    let longest = "k".repeat(KEY_LEN_MAX - "n:".len());
    numbers.put(&longest, 1).await.unwrap();
    assert_eq!(numbers.get(&longest).await.unwrap().unwrap(), 1);
    for (key, says) in [(longest + "k", "at most 1024 bytes, this one has 1025"), (String::new(), "at least one byte")] {
        for error in [
            numbers.put(&key, 1).await.unwrap_err(),
            numbers.put_many([(&key, 1)]).await.unwrap_err(),
            numbers.get(&key).await.unwrap_err(),
            numbers.get_many([&key]).await.unwrap_err(),
            numbers.get_or_load(&key, Loads::open().value(1)).await.unwrap_err(),
            numbers.update(&key, Loads::open().value(1)).await.unwrap_err(),
            numbers.remove(&key).await.unwrap_err(),
            numbers.touch(&key, None).await.unwrap_err(),
            numbers.peek(&key).await.unwrap_err(),
            numbers.contains(&key).await.unwrap_err(),
        ] {
            assert_eq!(error.kind(), ErrorKind::InvalidKey);
            assert!(error.operation().is_some() && error.key().is_some_and(|key| key.len() <= 32), "{error}");
            assert!(error.to_string().contains(says), "{error}");
        }
    }
}

#[tokio::test]
async fn raw_keys_are_checked_like_others() {
    let (larder, _) = with_policy(Policy::default()).await;
    let raw = larder.raw();
    let longest = "k".repeat(KEY_LEN_MAX);
    raw.put(&longest, Item::new("v".into())).await.unwrap();
    assert!(raw.lookup(&longest).await.unwrap().fresh().is_some());
    for key in [String::new(), longest + "k"] {
        let value = || Item::new(bytes::Bytes::from_static(b"v"));
        for error in [
            raw.put(&key, value()).await.unwrap_err(),
            raw.put_many([(&key, value())]).await.unwrap_err(),
            raw.lookup(&key).await.unwrap_err(),
            raw.lookup_many([&key]).await.unwrap_err(),
            raw.peek(&key).await.unwrap_err(),
            raw.touch(&key, None).await.unwrap_err(),
            raw.remove([&key]).await.unwrap_err(),
            raw.fill(&key, raw.begin_fill(&key), value()).await.unwrap_err(),
            larder.invalidate(Names::new().key(&key)).await.unwrap_err(),
        ] {
            assert_eq!(error.kind(), ErrorKind::InvalidKey, "{error}");
        }
    }
}

#[tokio::test]
async fn an_entry_has_up_to_32_tags_of_1_to_128_bytes() {
    let (larder, _) = with_policy(Policy::default()).await;
    let numbers = larder.namespace::<u32>("n").unwrap();
    let tagged = |tags: usize| (0..tags).fold(Item::new(1), |item, tag| item.tag(format!("t{tag}")));
    let longest = "t".repeat(TAG_LEN_MAX);
    numbers.put("k", tagged(TAGS_MAX)).await.unwrap();
    assert_eq!(numbers.get("k").await.unwrap().unwrap().tags().count(), 32);
    numbers.put("k", tagged(TAGS_MAX).tag("t0")).await.expect("tags are a set");
    numbers.put("k", Item::new(1).tag(&longest)).await.unwrap();
    for (item, says) in [
        (tagged(TAGS_MAX + 1), "at most 32 tags, this one has 33"),
        (Item::new(1).tag(""), "at least one byte"),
        (Item::new(1).tag(longest + "t"), "at most 128 bytes"),
    ] {
        let error = numbers.put("k", item).await.unwrap_err();
        assert_eq!((error.kind(), error.key()), (ErrorKind::InvalidTag, Some(b"n:k".as_slice())));
        assert!(error.to_string().contains(says), "{error}");
    }
    for tag in [String::new(), "t".repeat(TAG_LEN_MAX + 1)] {
        assert_eq!(larder.invalidate(Names::new().tag(tag)).await.unwrap_err().kind(), ErrorKind::InvalidTag);
    }
}

#[tokio::test]
async fn a_value_is_as_large_as_its_namespace_allows_and_no_larger() {
    let (larder, _) = with_policy(Policy::default().value_bytes_max(12)).await;
    let texts = larder.namespace::<String>("n").unwrap();
    texts.put("k", "x".repeat(10)).await.expect("12 bytes with its quotes");
    let error = texts.put("k", "x".repeat(11)).await.unwrap_err();
    assert_eq!((error.kind(), error.key()), (ErrorKind::ValueTooLarge, Some(b"n:k".as_slice())));
    assert!(error.to_string().contains("at most 12 bytes, this one has 13"), "{error}");
    assert_eq!(texts.get("k").await.unwrap().unwrap().len(), 10, "what was there stays");
    let error = texts.put("k", Item::new("x".to_string()).media_type("m".repeat(1_000))).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidConfig);
}

#[tokio::test]
async fn patterns_that_cannot_be_understood_say_why() {
    let (larder, _) = with_policy(Policy::default()).await;
    let numbers = larder.namespace::<u32>("n").unwrap();
    for (pattern, says) in [("a:**:b", "not the last"), ("a:[b", "unclosed"), ("a:b\\", "backslash")] {
        for error in [
            larder.invalidate(Names::new().pattern(pattern)).await.unwrap_err(),
            numbers.keys(pattern, Default::default(), 1).await.unwrap_err(),
            larder.raw().keys(pattern, Default::default(), 1).await.unwrap_err(),
        ] {
            assert_eq!(error.kind(), ErrorKind::InvalidPattern);
            assert!(error.to_string().contains(says) && error.to_string().contains("a:"), "{error}");
        }
    }
    assert_eq!(larder.invalidate(Names::new().pattern("")).await.unwrap_err().kind(), ErrorKind::InvalidPattern);
    assert_eq!(larder.invalidate(Names::new().namespace("a:b")).await.unwrap_err().kind(), ErrorKind::InvalidConfig);
    let too_many = (0..=NAMES_MAX).fold(Names::new(), |names, _| names.tag("t"));
    assert!(larder.invalidate(too_many).await.unwrap_err().to_string().contains("at most 65536 names"));
}

#[tokio::test]
async fn namespaces_and_settings_that_make_no_sense_are_refused_before_anything_opens() {
    let (larder, _) = with_policy(Policy::default()).await;
    for name in ["", "a:b", "a b", "*", &"n".repeat(200)] {
        assert_eq!(larder.namespace::<u32>(name).err().unwrap().kind(), ErrorKind::InvalidConfig, "{name}");
    }
    assert_eq!(larder.resize_memory(1_000).unwrap_err().kind(), ErrorKind::InvalidConfig);
    assert_eq!(larder.resize_namespace("n", 1 << 20).unwrap_err().kind(), ErrorKind::InvalidConfig, "it has no pool of its own");
    let builders = [
        in_memory().0.memory(1_000),
        in_memory().0.default_policy(Policy::default().jitter(2.0)),
        in_memory().0.namespace("n", Policy::default().loads_max(0)),
        in_memory().0.namespace("a:b", Policy::default()),
    ];
    for builder in builders {
        assert_eq!(builder.build().await.err().unwrap().kind(), ErrorKind::InvalidConfig);
    }
    let bad_tag = in_memory().0.namespace("n", Policy::default().tag("{x}"));
    assert_eq!(bad_tag.build().await.err().unwrap().kind(), ErrorKind::InvalidTag);
}
