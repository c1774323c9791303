//! Reads at a position: own receipts, positions that are not reached, positions of another log.

use larder::{ErrorKind, Names, Policy, Position};

use crate::support::{Loads, secs, settle, with_policy};

fn ahead(position: Position, by: u64) -> Position {
    format!("{}-{}", position.epoch(), position.number() + by).parse().unwrap()
}

#[tokio::test]
async fn a_read_at_an_own_receipt_sees_the_change() {
    let (larder, _) = with_policy(Policy::default()).await;
    let numbers = larder.namespace::<u32>("n").unwrap();
    let put = numbers.put("k", 1).await.unwrap();
    assert_eq!(numbers.at_least(put.position()).get("k").await.unwrap().unwrap(), 1);
    let gone = larder.invalidate(Names::new().everything()).await.unwrap();
    assert!(numbers.at_least(gone.position()).get("k").await.unwrap().is_none());
    assert_eq!(numbers.at_least(gone.position()).get_or_load("k", Loads::open().value(2)).await.unwrap(), 2);
    assert_eq!(larder.position(), gone.position());
    larder.reach(put.position(), secs(0)).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_position_that_is_not_reached_is_an_error_after_the_deadline() {
    let (larder, _) = with_policy(Policy::default()).await;
    let numbers = larder.namespace::<u32>("n").unwrap();
    let put = numbers.put("k", 1).await.unwrap();
    let begun = tokio::time::Instant::now();
    let error = numbers.at_least(ahead(put.position(), 1)).within(secs(3)).get("k").await.unwrap_err();
    assert_eq!((error.kind(), begun.elapsed().as_secs()), (ErrorKind::NotReached, 3));
    assert!(error.to_string().contains(&ahead(put.position(), 1).to_string()), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_read_waits_until_its_position_is_reached() {
    let (larder, _) = with_policy(Policy::default()).await;
    let numbers = larder.namespace::<u32>("n").unwrap();
    numbers.put("k", 1).await.unwrap();
    let next = ahead(larder.position(), 2);
    let reader = {
        let numbers = numbers.clone();
        tokio::spawn(async move { numbers.at_least(next).within(secs(60)).get("k").await })
    };
    settle().await;
    numbers.put("other", 1).await.unwrap();
    settle().await;
    assert!(!reader.is_finished());
    numbers.put("k", 2).await.unwrap();
    assert_eq!(reader.await.unwrap().unwrap().unwrap(), 2);
}

#[tokio::test(start_paused = true)]
async fn where_the_position_is_not_reached_the_loader_answers_past_the_tiers() {
    let (larder, _) = with_policy(Policy::default()).await;
    let numbers = larder.namespace::<u32>("n").unwrap();
    let put = numbers.put("k", 1).await.unwrap();
    let loads = Loads::open();
    let found = numbers.at_least(ahead(put.position(), 5)).get_or_load("k", loads.value(2)).await.unwrap();
    assert_eq!((*found, loads.begun()), (2, 1));
}

#[tokio::test]
async fn a_position_of_another_log_says_nothing_here() {
    let (larder, _) = with_policy(Policy::default()).await;
    let (other, _) = with_policy(Policy::default()).await;
    let numbers = larder.namespace::<u32>("n").unwrap();
    numbers.put("k", 1).await.unwrap();
    let foreign = other.namespace::<u32>("n").unwrap().put("k", 9).await.unwrap();
    let error = numbers.at_least(foreign.position()).get("k").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::UnknownPosition);
    assert_eq!(larder.reach(foreign.position(), secs(1)).await.unwrap_err().kind(), ErrorKind::UnknownPosition);
    let loaded = numbers.at_least(foreign.position()).get_or_load("k", Loads::open().value(2)).await.unwrap();
    assert_eq!(loaded, 2, "what is cached may be older than that position, the source is not");
}
