//! How long it takes to be told that one is not let in: with a name or id that there is not, and with one that there is and a wrong secret.
//! Whoever guesses must not learn from the time which of the two it was.

use std::time::{Duration, Instant};

use larder::Clock;
use larder_server::access::book::Person;
use larder_server::access::password::Hashed;
use larder_server::access::store::Store;
use larder_server::access::token::Token;
use larder_server::access::{AccessSettings, Door};

use super::median;

/// Rounds; each asks both in turns. Odd, for a median that was measured.
const ROUNDS: usize = 21;

/// Principals with a token each, so that ids are looked for among some.
const PRINCIPALS: usize = 1_000;

pub fn run() {
    let folder = tempfile::tempdir().expect("temporary files can be written");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let settings = AccessSettings { enabled: true, store: Some(Store::in_folder(folder.path())), ..AccessSettings::default() };
    let door = Door::of(settings, Clock::system()).expect("a door");
    let password = Hashed::of(b"correct horse").ok();
    let known = runtime.block_on(door.change(move |book, _| {
        let mut last = None;
        for number in 0..PRINCIPALS {
            let name = format!("p{number}");
            let password = password.clone().filter(|_| number == 0);
            book.put_principal(&name, Person { roles: vec!["client".to_owned()], grants: Vec::new(), password })?;
            last = Some(book.create_token(&name, "", None, 0)?);
        }
        Ok(last)
    }));
    let known = known.expect("it is changed").expect("there are some");
    println!("\nguess: not to be let in, with a wrong name or id against a wrong secret; medians of {ROUNDS} rounds in turns");
    let wrong: Vec<[Token; 2]> =
        (0..20_000).map(|_| [Token::draw().expect("chance"), Token::draw_again(known.id()).expect("chance")]).collect();
    report("token", |which| {
        let begun = Instant::now();
        assert!(wrong.iter().all(|tokens| door.by_token(&tokens[which]).is_err()));
        begun.elapsed() / wrong.len() as u32
    });
    report("password", |which| {
        let name = ["nobody", "p0"][which];
        let begun = Instant::now();
        assert!((0..4).all(|_| runtime.block_on(door.by_password(name, b"another horse")).is_err()));
        begun.elapsed() / 4
    });
}

fn report(what: &str, time: impl Fn(usize) -> Duration) {
    let rounds: Vec<[f64; 2]> = (0..ROUNDS)
        .map(|round| {
            // Whoever is first in one round is not in the next.
            let first = round % 2;
            let mut times = [0.0; 2];
            for which in [first, 1 - first] {
                times[which] = time(which).as_nanos() as f64;
            }
            times
        })
        .collect();
    let middle = |which: usize| median(rounds.iter().map(|round| round[which]).collect());
    let ratio = median(rounds.iter().map(|round| round[0] / round[1]).collect());
    println!("{what:<10}wrong name or id: {:>12.0} ns   wrong secret: {:>12.0} ns   ratio {ratio:.3}", middle(0), middle(1));
}
