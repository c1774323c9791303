//! Where Redis stands: passwords, databases, sockets, TLS.

use std::sync::Arc;

use larder::Larder;
use larder_testkit::redis::{Certificates, Cluster, SentinelSet, Server, ServerOptions, Tls, or_skip, slot_of};

use crate::support::*;

async fn works(larder: &Larder) {
    assert!(connected(larder), "{:?}", larder.health());
    let namespace = larder.namespace::<String>("n").unwrap();
    namespace.put("k", "v".to_owned()).await.unwrap();
    namespace.get_or_load("loaded", loader("w")).await.unwrap();
    larder.flush().await.unwrap();
    assert_eq!(*namespace.get("k").await.unwrap().unwrap(), "v");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn users_databases_and_prefixes_keep_caches_apart() {
    let options = ServerOptions {
        password: Some("hunter2".into()),
        users: vec!["ada on >lovelace ~* &* +@all".into()],
        unix_socket: true,
        ..ServerOptions::default()
    };
    let Some(server) = or_skip(Server::start(options)) else { return };
    let port = server.port();
    let socket = server.unix_socket().unwrap();
    let urls = [
        format!("redis://:hunter2@127.0.0.1:{port}"),
        format!("redis://ada:lovelace@127.0.0.1:{port}/3"),
        format!("unix://{}?pass=hunter2&db=4", socket.display()),
    ];
    for url in urls {
        let larder = instance(&url).await;
        let namespace = larder.namespace::<String>("n").unwrap();
        assert!(namespace.get("k").await.unwrap().is_none(), "{url} is a cache of its own");
        works(&larder).await;
    }
    let url = format!("redis://127.0.0.1:{port}");
    let other = Larder::builder()
        .redis(crate::support::options(&url).credentials("ada", "lovelace").prefix("shop"))
        .index_bytes(1 << 16)
        .build()
        .await
        .unwrap();
    works(&other).await;
    let wrong =
        Larder::builder().redis(crate::support::options(&url).credentials("ada", "wrong")).index_bytes(1 << 16).build().await.unwrap();
    let told = format!("{:?}", wrong.health());
    assert!(told.contains("authentication failed") && !told.contains("lovelace"), "{told}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tls_with_certificates_of_both_sides() {
    let Some(made) = or_skip(Certificates::make()) else { return };
    let read = |path: std::path::PathBuf| std::fs::read(path).unwrap();
    let (authority, certificate, key) = (read(made.authority()), read(made.client_certificate()), read(made.client_key()));
    let tls = Tls { certificates: Arc::new(made), demands_client_certificate: true };
    let options = ServerOptions { tls: Some(tls), ..ServerOptions::default() };
    let Some(server) = or_skip(Server::start(options)) else { return };
    let url = format!("rediss://127.0.0.1:{}", server.tls_port().unwrap());
    let trusted = crate::support::options(&url).certificate_authority(authority).client_certificate(certificate, key);
    let larder = Larder::builder().redis(trusted).index_bytes(1 << 16).build().await.unwrap();
    works(&larder).await;
    let stranger = Larder::builder().redis(crate::support::options(&url)).index_bytes(1 << 16).build().await.unwrap();
    assert!(!connected(&stranger), "an authority that nobody named is not trusted");
}

/// Reads and writes go on, and nothing old comes back, through whatever happens to the servers meanwhile.
async fn goes_on_through(url: &str, happens: impl FnOnce() + Send + 'static) {
    let (a, b) = (instance(url).await, instance(url).await);
    let (on_a, on_b) = (a.namespace::<String>("n").unwrap(), b.namespace::<String>("n").unwrap());
    until("both are in their place", || connected(&a) && connected(&b)).await;
    let receipt = on_a.put("k", "old".to_owned()).await.unwrap();
    assert_eq!(*on_b.at_least(receipt.position()).within(LONG).get("k").await.unwrap().expect("it was put"), "old");
    let epoch = a.position().epoch();
    tokio::task::spawn_blocking(happens).await.unwrap();
    for larder in [&a, &b] {
        until("the log is taken up again, as another", || connected(larder) && larder.position().epoch() != epoch).await;
    }
    assert_eq!(a.position().epoch(), b.position().epoch());
    assert!(on_a.get("k").await.unwrap().is_none() && on_b.get("k").await.unwrap().is_none(), "nobody knows what was lost");
    let receipt = on_b.put("k", "new".to_owned()).await.unwrap();
    assert!(!receipt.is_queued());
    assert_eq!(*on_a.at_least(receipt.position()).within(LONG).get("k").await.unwrap().expect("it was put"), "new");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sentinels_say_who_the_master_is_now() {
    let Some(set) = or_skip(SentinelSet::start(ServerOptions::default())) else { return };
    let addresses: Vec<String> = set.sentinel_addresses().iter().map(ToString::to_string).collect();
    let url = format!("redis+sentinel://{}/{}", addresses.join(","), SentinelSet::MASTER_NAME);
    let set = Arc::new(set);
    let killed = set.clone();
    goes_on_through(&url, move || {
        killed.kill_master();
        killed.wait_until_settled();
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_keeps_entries_on_all_nodes_and_the_log_on_one() {
    let Some(cluster) = or_skip(Cluster::start(ServerOptions::default())) else { return };
    let hosts: Vec<String> = cluster.ports().iter().map(|port| format!("127.0.0.1:{port}")).collect();
    let url = format!("redis+cluster://{}", hosts.join(","));
    let (a, b) = (instance(&url).await, instance(&url).await);
    let (on_a, on_b) = (a.namespace::<u64>("n").unwrap(), b.namespace::<u64>("n").unwrap());
    until("both are in their place", || connected(&a) && connected(&b)).await;
    let receipt = on_a.put_many((0..100u64).map(|n| (n.to_string(), n))).await.unwrap();
    a.flush().await.unwrap();
    b.reach(receipt.position(), LONG).await.unwrap();
    let found = on_b.get_many((0..100u64).map(|n| n.to_string())).await.unwrap();
    assert!(found.iter().zip(0u64..).all(|(value, n)| value.as_ref().is_some_and(|value| **value == n)), "{found:?}");
    let on = |server: &Server| server.command(&["DBSIZE"]).unwrap().number().unwrap();
    assert!(cluster.nodes()[..3].iter().all(|node| on(node) > 10), "every master has some");
    let keys = on_a.keys("**", larder::Cursor::start(), 1_000).await.unwrap().keys;
    assert_eq!(keys.len(), 100);
    drop((a, b));
    let slot = slot_of(b"{larder}:log");
    let to = (0..3).find(|node| *node != cluster.owner_of(slot)).expect("there are three masters");
    let cluster = Arc::new(cluster);
    let moved = cluster.clone();
    goes_on_through(&url, move || moved.migrate_slot(slot, to)).await;
    let failed_over = cluster.clone();
    goes_on_through(&url, move || {
        failed_over.failover(slot);
    })
    .await;
}
