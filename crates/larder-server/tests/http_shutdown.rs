//! Stopping by signal, in a process of its own: the signal goes to all of it.
#![cfg(unix)]

use std::process::Command;
use std::time::Duration;

use larder::Larder;
use larder_server::cleanup::Cleaner;
use larder_server::health::Watched;
use larder_server::serve::{Serve, shutdown_signal};
use larder_server::settings::{Guards, HttpLimits, RespSettings, UpkeepSettings, Webhooks};

#[tokio::test(flavor = "multi_thread")]
async fn sigterm_stops_the_server_in_order() {
    let larder = Larder::builder().build().await.unwrap();
    let serve = Serve {
        cleaner: Cleaner::of(&larder),
        larder,
        http: ([127, 0, 0, 1], 0).into(),
        limits: HttpLimits::default(),
        resp: RespSettings::default(),
        webhooks: Webhooks::default(),
        guards: Guards::default(),
        audit: None,
        door: larder_server::access::Door::open(),
        is_strict: false,
        watched: Watched::default(),
        drain: Duration::from_secs(5),
        history: None,
        upkeep: UpkeepSettings::default(),
        jobs: None,
        backups: None,
    };
    let bound = serve.bind().await.unwrap();
    let addr = bound.http_addr();
    let told = shutdown_signal();
    let running = tokio::spawn(bound.run_until(told));
    let killed = Command::new("kill").args(["-TERM", &std::process::id().to_string()]).status().unwrap();
    assert!(killed.success());
    tokio::time::timeout(Duration::from_secs(20), running).await.expect("it ends in time").unwrap().unwrap();
    assert!(tokio::net::TcpStream::connect(addr).await.is_err(), "the address is given up");
}
