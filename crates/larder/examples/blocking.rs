//! Without async: the same cache from plain threads. It brings a small runtime of its own; a hit in memory never touches
//! it.
//!
//! `cargo run -p larder --example blocking`

use std::io;
use std::thread;

use larder::{Larder, Names};

fn main() -> larder::Result<()> {
    let larder = Larder::builder().build_blocking()?;
    let squares = larder.namespace::<u64>("squares")?.blocking();

    // Four threads ask for the same value at once; one of them computes it, on a thread where it may take its time.
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| match squares.get_or_load("12", || square("12")) {
                Ok(square) => println!("12 squared is {square}"),
                Err(error) => eprintln!("{error}"),
            });
        }
    });

    // What goes wrong in the loader comes back as an error that names the key.
    if let Err(error) = squares.get_or_load("twelve", || square("twelve")) {
        println!("as it should be: {error}");
    }

    larder.invalidate_blocking(Names::new().namespace("squares"))?;
    assert!(squares.get("12")?.is_none());
    larder.close_blocking()
}

fn square(number: &str) -> Result<u64, io::Error> {
    println!("computing the square of {number}");
    let number: u64 = number.parse().map_err(io::Error::other)?;
    Ok(number * number)
}
