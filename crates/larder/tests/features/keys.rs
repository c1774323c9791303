//! Listing keys: pages, cursors, both tiers, and what comes and goes meanwhile.

use larder::{Cursor, Item, Names, Policy};

use crate::support::{over_own_tier, secs, with_policy};

async fn all(numbers: &larder::Namespace<u32>, pattern: &str, limit: usize) -> Vec<String> {
    let (mut found, mut cursor) = (Vec::new(), Cursor::start());
    loop {
        let page = numbers.keys(pattern, cursor, limit).await.unwrap();
        assert!(page.keys.len() <= limit);
        found.extend(page.keys.iter().map(|key| String::from_utf8(key.to_vec()).unwrap()));
        match page.next {
            // As it would travel: as text.
            Some(next) => cursor = next.to_string().parse().unwrap(),
            None => return found,
        }
    }
}

#[tokio::test]
async fn keys_come_in_order_page_by_page_whatever_the_page_s_size() {
    let (larder, _) = with_policy(Policy::default()).await;
    let numbers = larder.namespace::<u32>("n").unwrap();
    let expected: Vec<String> = (0..100).map(|key| format!("{}:{key:03}", key % 3)).collect();
    for (value, key) in (0..).zip(&expected) {
        numbers.put(key, value).await.unwrap();
    }
    larder.namespace::<u32>("m").unwrap().put("0:000", 1).await.unwrap();
    let mut sorted = expected.clone();
    sorted.sort_unstable();
    for limit in [1, 7, 34, 100, 1_000] {
        assert_eq!(all(&numbers, "**", limit).await, sorted);
    }
    let ones: Vec<String> = sorted.iter().filter(|key| key.starts_with("1:")).cloned().collect();
    assert_eq!(all(&numbers, "1:*", 10).await, ones);
    assert_eq!(all(&numbers, "*:01?", 3).await, sorted.iter().filter(|key| key[2..].starts_with("01")).cloned().collect::<Vec<_>>());
    assert!(all(&numbers, "9:*", 10).await.is_empty());
    let whole = larder.raw().keys("m:**", Cursor::start(), 10).await.unwrap();
    assert_eq!(whole.keys, [Box::from(b"m:0:000".as_slice())]);
}

#[tokio::test]
async fn keys_of_both_tiers_are_listed_once() {
    let (builder, _, tier) = over_own_tier();
    let larder = builder.memory(1 << 20).namespace("n", Policy::default()).build().await.unwrap();
    let texts = larder.namespace::<String>("n").unwrap();
    for key in 0..100 {
        texts.put(format!("{key:02}"), "x".repeat(50_000)).await.unwrap();
    }
    let memory = larder.stats().memory.entries;
    assert!((1..50).contains(&memory), "{memory} entries are in memory too");
    assert!(tier.record("n:00").is_some());
    let (mut found, mut cursor) = (Vec::new(), Cursor::start());
    loop {
        let page = texts.keys("**", cursor, 9).await.unwrap();
        found.extend(page.keys);
        let Some(next) = page.next else { break };
        cursor = next;
    }
    let expected: Vec<Box<[u8]>> = (0..100).map(|key| format!("{key:02}").into_bytes().into()).collect();
    assert_eq!(found, expected);
}

#[tokio::test]
async fn only_keys_with_a_fresh_entry_are_listed() {
    let (builder, clock, _) = over_own_tier();
    let larder = builder.build().await.unwrap();
    let numbers = larder.namespace::<u32>("n").unwrap();
    numbers
        .put_many([("a", Item::new(1).tag("t")), ("b", Item::new(2).ttl(secs(1))), ("c", Item::new(3)), ("d", Item::new(4))])
        .await
        .unwrap();
    larder.invalidate(Names::new().tag("t")).await.unwrap();
    numbers.remove("c").await.unwrap();
    clock.advance(secs(1));
    assert_eq!(all(&numbers, "**", 10).await, ["d"]);
}

#[tokio::test]
async fn a_key_that_is_there_all_the_while_is_returned_once_whatever_comes_and_goes() {
    let (builder, _, _) = over_own_tier();
    let larder = builder.build().await.unwrap();
    let numbers = larder.namespace::<u32>("n").unwrap();
    let staying: Vec<String> = (0..50).map(|key| format!("k{key:02}")).collect();
    for key in &staying {
        numbers.put(key, 1).await.unwrap();
        numbers.put(format!("{key}-goes"), 1).await.unwrap();
    }
    let (mut found, mut cursor, mut round) = (Vec::new(), Cursor::start(), 0);
    loop {
        let page = numbers.keys("**", cursor, 4).await.unwrap();
        found.extend(page.keys.iter().map(|key| String::from_utf8(key.to_vec()).unwrap()));
        // Behind the cursor and ahead of it, one comes and one goes; the last one returned goes, too, and comes back.
        numbers.remove(format!("k{:02}-goes", (round * 7) % 50)).await.unwrap();
        numbers.put(format!("k{:02}-comes", (round * 11) % 50), 2).await.unwrap();
        numbers.put(&staying[(round * 13) % 50], 3).await.unwrap();
        round += 1;
        let Some(next) = page.next else { break };
        cursor = next;
    }
    let stayed: Vec<&String> = found.iter().filter(|key| staying.contains(key)).collect();
    assert_eq!(stayed, staying.iter().collect::<Vec<_>>());
    assert!(found.is_sorted() && found.windows(2).all(|pair| pair[0] != pair[1]), "{found:?}");
}
