//! The sizing of memory over HTTP.

use larder::{Clock, Larder, Policy, SizingMode};
use larder_server::settings::HttpLimits;
use serde_json::json;

use crate::client::Server;

#[test]
fn what_was_found_is_told_and_off_is_an_answer() {
    let off = Server::plain().request("GET", "/v1/optimize").send();
    assert_eq!((off.status, off.json()), (200, json!({ "mode": "off", "sizing": null })));
    let builder = Larder::builder().memory(1 << 20).namespace("bars", Policy::default()).sizing(SizingMode::Observe).clock(Clock::manual());
    let server = Server::start(builder, HttpLimits::default());
    let bars = server.larder.namespace::<String>("bars").expect("a namespace").blocking();
    for n in 0..1_400 {
        let key = format!("{}", n % 350);
        if bars.get(&key).expect("a key").is_none() {
            bars.put(&key, "x".to_owned()).expect("it is put");
        }
        // Reads of a key within one tick of the clock are one.
        server.larder.clock().advance(larder::TICK);
        if n % 700 == 699 {
            assert_eq!(server.request("POST", "/v1/optimize").send().status, 200);
        }
    }
    let found = server.request("GET", "/v1/optimize").send().json();
    assert_eq!((&found["mode"], &found["sizing"]["budget"]), (&json!("observe"), &json!(1 << 20)));
    let bars = &found["sizing"]["namespaces"][0];
    assert_eq!((&bars["name"], &bars["own_bytes"]), (&json!("bars"), &json!(null)));
    assert_eq!(bars["curve"]["points"].as_array().map(Vec::len), Some(16));
    assert!(bars["curve"]["reads"].as_u64() > Some(500), "{bars}");
}
