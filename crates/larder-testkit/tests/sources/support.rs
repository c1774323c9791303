//! What these tests share.

use std::time::Duration;

use larder::events::{Following, Rule, SourceStats};
use larder::{Builder, Larder};
use serde_json::json;

/// Long enough for anything that should happen, on a machine that is busy with all other tests.
pub const LONG: Duration = Duration::from_secs(60);

/// An event as its source gets it: the text that takes out the tag of its number.
pub fn event(number: usize, partition: usize) -> String {
    let event = json!({
        "specversion": "1.0", "id": number.to_string(), "source": "proof", "type": "tick", "subject": format!("p{partition}"),
        "data": { "n": number.to_string() },
    });
    event.to_string()
}

/// A cache that has a rule for these events.
pub fn builder() -> Builder {
    Larder::builder().rule(Rule::new("tick", ["tag:{n}"]).expect("it is a rule")).index_bytes(1 << 16).memory(1 << 20)
}

/// Waits for what a source says of itself, or fails the test.
pub async fn until_stats(following: &Following, what: &str, mut condition: impl FnMut(&SourceStats) -> bool) {
    let came = tokio::task::block_in_place(|| larder_testkit::wait::until(LONG, || condition(&following.stats())));
    assert!(came, "it never came to this: {what}: {:?}", following.stats());
}

/// Whether the entry under a number is there; each has its number as a tag.
pub async fn has(larder: &Larder, number: usize) -> bool {
    larder.namespace::<u64>("n").expect("it opens").get(&number.to_string()).await.expect("a get works").is_some()
}

pub async fn put(larder: &Larder, number: usize) {
    let item = larder::Item::new(1).tag(number.to_string());
    larder.namespace::<u64>("n").expect("it opens").put(&number.to_string(), item).await.expect("a put works");
}
