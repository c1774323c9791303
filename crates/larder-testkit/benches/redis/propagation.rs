//! From the call of an invalidation on one instance until another one obeys it.

use std::time::{Duration, Instant};

use bytes::Bytes;
use larder::{Larder, Names, Namespace};
use larder_testkit::redis::Server;
use tokio::sync::oneshot;

use crate::measure::{VALUE_LEN, builder, instance, quantile, runtime};

/// Invalidations of each kind of look.
const SAMPLES: usize = 1_000;

/// The pause before each: what is measured is a machine that has nothing else to do.
const PAUSE: Duration = Duration::from_millis(3);

/// Between two reads of who watches for the miss.
const LOOK: Duration = Duration::from_micros(20);

const LIMIT: Duration = Duration::from_secs(10);

pub fn run(server: &Server) {
    runtime(2).block_on(async {
        let (a, b) = (instance(builder(server)).await, instance(builder(server)).await);
        let on_a = a.namespace::<Bytes>("features").expect("the type fits");
        let on_b = b.namespace::<Bytes>("features").expect("the type fits");
        println!("{:>28} {:>10} {:>10} {:>10} {:>10}", "from the call until", "median, ms", "p90, ms", "p99, ms", "max, ms");
        let (mut returned, mut reached) = (Vec::new(), Vec::new());
        for n in 0..SAMPLES {
            let key = filled(&on_a, &b, &on_b, n).await;
            let called = Instant::now();
            let receipt = a.invalidate(Names::new().key(format!("features:{key}"))).await.expect("the server is there");
            returned.push(called.elapsed().as_secs_f64() * 1e3);
            b.reach(receipt.position(), LIMIT).await.expect("it arrives");
            reached.push(called.elapsed().as_secs_f64() * 1e3);
            assert!(on_b.get(&key).await.expect("the key is one").is_none(), "what was reached is obeyed");
        }
        let mut missed = Vec::new();
        for n in 0..SAMPLES {
            let key = filled(&on_a, &b, &on_b, n).await;
            let (begin, watched) = watch(on_b.clone(), key.clone());
            begin.await.expect("the watcher runs");
            let called = Instant::now();
            a.invalidate(Names::new().key(format!("features:{key}"))).await.expect("the server is there");
            let first_miss = watched.await.expect("the watcher sees it");
            missed.push(first_miss.saturating_duration_since(called).as_secs_f64() * 1e3);
        }
        for (what, mut samples) in [("it returned", returned), ("the other has applied it", reached), ("a read there misses", missed)] {
            let of = |samples: &mut [f64], part| quantile(samples, part);
            println!(
                "{what:>28} {:>10.3} {:>10.3} {:>10.3} {:>10.3}",
                of(&mut samples, 0.5),
                of(&mut samples, 0.9),
                of(&mut samples, 0.99),
                of(&mut samples, 1.0)
            );
        }
        a.close().await.and(b.close().await).expect("they close");
    });
}

/// A key that is in the memory of the other instance.
async fn filled(on_a: &Namespace<Bytes>, b: &Larder, on_b: &Namespace<Bytes>, n: usize) -> String {
    let key = format!("SYM{n}:5m");
    let receipt = on_a.put(&key, Bytes::from(vec![7; VALUE_LEN])).await.expect("the server is there");
    b.reach(receipt.position(), LIMIT).await.expect("it arrives");
    assert!(on_b.get(&key).await.expect("the key is one").is_some());
    tokio::time::sleep(PAUSE).await;
    key
}

/// Reads a key over and over on a thread of its own. Gives when it has begun, and the moment at which the first read began
/// that missed.
fn watch(on_b: Namespace<Bytes>, key: String) -> (oneshot::Receiver<()>, oneshot::Receiver<Instant>) {
    let (begun, begin) = oneshot::channel();
    let (saw, watched) = oneshot::channel();
    let reader = on_b.blocking();
    std::thread::spawn(move || {
        let mut begun = Some(begun);
        loop {
            let at = Instant::now();
            if reader.get(&key).expect("the key is one").is_none() {
                return saw.send(at);
            }
            // Whoever waits may be gone; then the next send says so, too.
            begun.take().map(|begun| begun.send(()));
            std::thread::sleep(LOOK);
        }
    });
    (begin, watched)
}
