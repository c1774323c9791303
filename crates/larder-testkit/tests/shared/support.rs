//! What these tests share: instances, and waiting for them.

use std::time::Duration;

use larder::{Builder, Larder, Policy, RedisOptions};
use larder_testkit::proxy::Proxy;
use larder_testkit::redis::{Server, ServerOptions, or_skip};

/// Long enough for anything that should happen, on a machine that is busy with all other tests.
pub const LONG: Duration = Duration::from_secs(20);

/// What random choices come from: `LARDER_SEED`, or another one each time.
pub fn seed() -> u64 {
    std::env::var("LARDER_SEED").map_or_else(|_| fastrand::u64(..1 << 32), |seed| seed.parse().expect("LARDER_SEED is a number"))
}

/// Cuts an instance off until the proxy heals.
pub async fn cut_off(proxy: &Proxy, larder: &Larder) {
    proxy.refuse();
    proxy.cut();
    until("it is cut off", || !connected(larder)).await;
}

pub fn server() -> Option<Server> {
    or_skip(Server::start(ServerOptions::default()))
}

pub fn options(url: &str) -> RedisOptions {
    RedisOptions::parse(url).expect("the fixture's address is one").heartbeat(Duration::from_millis(50))
}

/// An instance with a small index: snapshots are read often here.
pub fn builder(url: &str) -> Builder {
    Larder::builder()
        .redis(options(url))
        .index_bytes(1 << 16)
        .memory(16 << 20)
        .default_policy(Policy::default().ttl(Duration::from_secs(600)))
}

pub async fn instance(url: &str) -> Larder {
    builder(url).build().await.expect("an instance opens")
}

/// Waits until a condition holds, or fails the test.
pub async fn until(what: &str, condition: impl FnMut() -> bool) {
    let came = tokio::task::block_in_place(|| larder_testkit::wait::until(LONG, condition));
    assert!(came, "it never came to this: {what}");
}

pub fn connected(larder: &Larder) -> bool {
    larder.stats().log.shared.is_some_and(|shared| shared.connected)
}

pub fn loader(value: &'static str) -> impl FnOnce() -> std::future::Ready<Result<String, std::io::Error>> + Send + 'static {
    move || std::future::ready(Ok(value.to_owned()))
}
