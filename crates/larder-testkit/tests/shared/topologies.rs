//! Where Redis stands: passwords, databases, sockets, TLS.

use std::sync::Arc;

use larder::Larder;
use larder_testkit::redis::{Certificates, Server, ServerOptions, Tls, or_skip};

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
