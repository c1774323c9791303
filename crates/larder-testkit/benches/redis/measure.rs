//! Clocks, medians, and the instances that are measured.

use std::future::Future;
use std::time::{Duration, Instant};

use larder::{Builder, Larder, Policy, RedisOptions};
use larder_testkit::redis::Server;
use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Client};
use rustix::time::{ClockId, clock_gettime};
use tokio::runtime::Runtime;

/// Rounds of each side.
pub const ROUNDS: usize = 9;

/// Bytes of a value.
pub const VALUE_LEN: usize = 256;

/// What the library waits for an answer by default; the bare client is given the same.
const RESPONSE_TIMEOUT: Duration = Duration::from_millis(500);

/// What one round took.
#[derive(Clone, Copy)]
pub struct Took {
    /// This process's CPU time, all threads.
    pub cpu: Duration,
    pub wall: Duration,
}

pub async fn timed(work: impl Future<Output = ()>) -> Took {
    let (cpu, wall) = (cpu(ClockId::ProcessCPUTime), Instant::now());
    work.await;
    Took { cpu: self::cpu(ClockId::ProcessCPUTime) - cpu, wall: wall.elapsed() }
}

/// The CPU time of this thread or process.
pub fn cpu(clock: ClockId) -> Duration {
    let now = clock_gettime(clock);
    Duration::new(now.tv_sec as u64, now.tv_nsec as u32)
}

/// The smallest that so large a part of the samples does not exceed.
pub fn quantile(samples: &mut [f64], part: f64) -> f64 {
    samples.sort_by(f64::total_cmp);
    samples[((samples.len() - 1) as f64 * part).round() as usize]
}

pub fn median(mut samples: Vec<f64>) -> f64 {
    quantile(&mut samples, 0.5)
}

pub fn runtime(workers: usize) -> Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(workers).enable_all().build().expect("a runtime to measure in")
}

pub fn options(server: &Server) -> RedisOptions {
    RedisOptions::parse(&server.url()).expect("the fixture's address is one")
}

pub fn builder(server: &Server) -> Builder {
    Larder::builder().redis(options(server)).default_policy(Policy::default().ttl(Duration::from_secs(3600)))
}

pub async fn instance(builder: Builder) -> Larder {
    let larder = builder.build().await.expect("an instance opens");
    assert!(larder.stats().log.shared.is_some_and(|shared| shared.connected), "the server is there");
    larder
}

/// The client that the library uses, as it uses it.
pub async fn bare(server: &Server) -> MultiplexedConnection {
    let config = AsyncConnectionConfig::new().set_response_timeout(Some(RESPONSE_TIMEOUT));
    let client = Client::open(server.url()).expect("the fixture's address is one");
    client.get_multiplexed_async_connection_with_config(&config).await.expect("the server answers")
}

/// Runs one task each of so many, and waits for all.
pub async fn side_by_side<F: Future<Output = ()> + Send + 'static>(tasks: usize, work: impl Fn(usize) -> F) {
    let tasks: Vec<_> = (0..tasks).map(|n| tokio::spawn(work(n))).collect();
    for task in tasks {
        task.await.expect("no task panics");
    }
}
