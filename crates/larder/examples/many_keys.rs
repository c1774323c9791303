//! Many keys at once: one call of the loader for all that are missing, one position for all that are put, and listing
//! keys by pattern, a page at a time.
//!
//! `cargo run -p larder --example many_keys`

use std::io;

use larder::{Cursor, Larder, Names};

#[tokio::main]
async fn main() -> larder::Result<()> {
    let larder = Larder::builder().build().await?;
    let prices = larder.namespace::<f64>("prices")?;
    prices.put_many([("AAPL:close", 101.0), ("MSFT:close", 402.5)]).await?;

    // Two of the four are there, and one is asked for twice: the loader hears of two keys.
    let wanted = ["AAPL:close", "GOOG:close", "MSFT:close", "IBM:close", "GOOG:close"];
    let found = prices
        .get_many_or_load(wanted, |missing| async move {
            println!("one query for {missing:?}");
            Ok::<_, io::Error>(missing.into_iter().map(|key| (key, key.len() as f64)).collect())
        })
        .await?;
    for (key, price) in wanted.iter().zip(found) {
        println!("{key}: {price:?}");
    }

    // All closes of the day are settled anew: one invalidation, whatever their number.
    println!("keys before: {:?}", list(&prices, "*:close").await?);
    larder.invalidate(Names::new().pattern("prices:*:close")).await?;
    println!("keys after: {:?}", list(&prices, "*:close").await?);
    larder.close().await
}

/// All keys that match, two at a time.
async fn list(prices: &larder::Namespace<f64>, pattern: &str) -> larder::Result<Vec<String>> {
    let (mut keys, mut cursor) = (Vec::new(), Cursor::start());
    loop {
        let page = prices.keys(pattern, cursor, 2).await?;
        keys.extend(page.keys.iter().map(|key| String::from_utf8_lossy(key).into_owned()));
        match page.next {
            Some(next) => cursor = next,
            None => return Ok(keys),
        }
    }
}
