//! `cargo +nightly fuzz run execution`: any bytes are answered in the protocol, by a server in this process.

#![no_main]

#[path = "../../crates/larder-server/tests/resp/conversation.rs"]
mod conversation;
// The tests use all of it.
#[allow(dead_code)]
#[path = "../../crates/larder-server/tests/resp/wire.rs"]
mod wire;

use std::net::SocketAddr;
use std::sync::LazyLock;

use larder::Larder;
use larder_server::access::Door;
use larder_server::resp;
use larder_server::settings::RespSettings;

/// Where it listens, for as long as the process lives.
static ADDR: LazyLock<SocketAddr> = LazyLock::new(|| {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
    let addr = runtime.block_on(async {
        let larder = Larder::builder().build().await.expect("a cache in memory");
        let settings = RespSettings { listen: Some(([127, 0, 0, 1], 0).into()), threads: 1, ..RespSettings::default() };
        let bound = resp::bind(&larder, &settings, (Door::open(), None, None)).await.expect("a free port");
        let addr = bound.addr().expect("it listens");
        // Neither of them ends before the process does.
        std::mem::forget((bound.serve().expect("threads"), larder));
        addr
    });
    std::mem::forget(runtime);
    addr
});

libfuzzer_sys::fuzz_target!(|input: (u8, &[u8])| {
    let (cut, bytes) = input;
    conversation::check(*ADDR, bytes, cut.into());
});
