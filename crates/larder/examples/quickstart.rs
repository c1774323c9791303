//! The first five minutes: a cache on disk, a value that is computed once, and the event that makes it stale.
//!
//! Run it twice with `cargo run -p larder --example quickstart`: the second time, the value comes from the disk.

use std::time::Duration;

use larder::{Item, Larder, Names, Policy};

#[tokio::main]
async fn main() -> larder::Result<()> {
    // Memory in front, a folder behind. Entries of `features` live for five minutes at most, and each gets a tag that is
    // made from its key: `features:AAPL:5m` is tagged `symbol:AAPL`.
    let policy = Policy::default().ttl(Duration::from_secs(300)).jitter(0.1).tag("symbol:{1}");
    let folder = std::env::temp_dir().join("larder-quickstart");
    let larder = Larder::builder().data(&folder).memory(64 << 20).namespace("features", policy).build().await?;
    let features = larder.namespace::<Vec<f64>>("features")?;

    // However many ask for it at once, it is computed once.
    let answer = features.lookup_or_load("AAPL:5m", || async { compute("AAPL").await }).await?;
    println!("AAPL: {:?}, from {:?}, {:?} old", answer.value, answer.source, answer.age);
    features.get_or_load("MSFT:5m", || async { compute("MSFT").await }).await?;

    // A new bar of AAPL came in. First the source changes, then the cache is told: when this returns, nobody reads what
    // was computed from the old bars any more, not even if it was being computed just now.
    let receipt = larder.invalidate(Names::new().tag("symbol:AAPL")).await?;
    println!("invalidated at {}", receipt.position());
    assert!(features.get("AAPL:5m").await?.is_none());
    assert!(features.get("MSFT:5m").await?.is_some());

    // The next reader computes it from the new bars. It is kept on disk, too, for the next run of this program.
    features.get_or_load("AAPL:5m", || async { compute("AAPL").await }).await?;
    larder.close().await
}

/// Stands for what is worth caching.
async fn compute(symbol: &str) -> Result<Item<Vec<f64>>, std::io::Error> {
    println!("computing {symbol}");
    let closes = [101.0, 102.5, 101.75, 103.0];
    let returns = closes.windows(2).map(|pair: &[f64]| pair[1] / pair[0] - 1.0).collect();
    Ok(Item::new(returns).tag("model:returns"))
}
