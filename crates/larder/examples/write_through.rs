//! Writing through the cache: why `update` is safe where a change followed by a `put` is not.
//!
//! `cargo run -p larder --example write_through`

use std::io;
use std::sync::{Arc, Mutex};

use larder::{Larder, Names};

#[tokio::main]
async fn main() -> larder::Result<()> {
    let larder = Larder::builder().build().await?;
    let stock = larder.namespace::<u32>("stock")?;
    let database = Arc::new(Mutex::new(10));

    // The change runs between two looks at the log. If nothing that the entry depends on was invalidated meanwhile, what
    // the change returned is current, and is stored.
    let sell = {
        let database = database.clone();
        move || async move { take_one(&database) }
    };
    let updated = stock.update("apples", sell).await?;
    println!("sold one, {} left; stored: {}, at {}", updated.value, updated.stored, updated.receipt.position());
    assert_eq!(*stock.get("apples").await?.expect("it was just stored"), 9);

    // Somebody else changes the same row while our change is under way. Who came last cannot be known from here, so
    // nothing is stored, and the next reader asks the database. A `put` would have stored a value that may be old.
    let contended = {
        let (database, larder) = (database.clone(), larder.clone());
        move || async move {
            let left = take_one(&database)?;
            *database.lock().expect("nobody panics here") = 100;
            larder.invalidate(Names::new().key("stock:apples")).await.map_err(io::Error::other)?;
            Ok::<_, io::Error>(left)
        }
    };
    let updated = stock.update("apples", contended).await?;
    println!("sold one, {} left when we looked; stored: {}", updated.value, updated.stored);
    assert!(!updated.stored);
    let load = move || async move { Ok::<_, io::Error>(*database.lock().expect("nobody panics here")) };
    assert_eq!(*stock.get_or_load("apples", load).await?, 100);
    larder.close().await
}

/// `UPDATE stock SET n = n - 1 WHERE item = 'apples' RETURNING n`
fn take_one(database: &Mutex<u32>) -> Result<u32, io::Error> {
    let mut left = database.lock().expect("nobody panics here");
    *left = left.checked_sub(1).ok_or_else(|| io::Error::other("sold out"))?;
    Ok(*left)
}
