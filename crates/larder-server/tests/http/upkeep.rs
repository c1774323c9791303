//! How a server looks after itself, over HTTP: cleaning up, and maintenance.

use std::time::Duration;

use larder::{Clock, Larder, Policy};
use larder_server::settings::HttpLimits;
use larder_testkit::wait;
use serde_json::json;

use crate::client::Server;

const LONG: Duration = Duration::from_secs(20);

#[test]
fn a_clean_up_is_begun_looked_at_and_says_what_it_gave_back() {
    let clock = Clock::manual();
    let policy = Policy::default().ttl(Duration::from_secs(1));
    let builder = Larder::builder().clock(clock.clone()).sweep_every(Duration::from_secs(86_400)).namespace("bars", policy);
    let server = Server::start(builder, HttpLimits::default());
    assert_eq!(server.request("GET", "/v1/cleanup").send().json(), json!({ "running": null, "last": null }));
    let bars = server.larder.namespace::<u64>("bars").expect("a namespace").blocking();
    for n in 0..300u64 {
        bars.put(n.to_string(), n).expect("it is put");
    }
    clock.advance(Duration::from_secs(2));
    let begun = server.request("POST", "/v1/cleanup").send();
    assert_eq!(begun.status, 202);
    let look = || server.request("GET", "/v1/cleanup").send().json();
    assert!(wait::until(LONG, || look()["running"].is_null()));
    let last = look()["last"].clone();
    assert_eq!((&last["swept"]["expired"], &last["cancelled"], &last["failed"]), (&json!(300), &json!(false), &json!([])));
    assert_eq!(last["swept"]["namespaces"][0]["name"], "bars");
    assert_eq!(last["total"]["entries"], 300);
    assert_eq!(server.request("DELETE", "/v1/cleanup").send().status, 202, "there is nothing to stop, which is as asked");
}

#[test]
fn under_maintenance_writes_are_refused_and_everything_else_goes_on() {
    let server = Server::plain();
    let put = || server.request("PUT", "/v1/entries/n:k").header("content-type", "application/json").body("1").send();
    assert_eq!(put().status, 204);
    let ask = |method: &str, body: Option<serde_json::Value>| {
        let request = server.request(method, "/v1/maintenance");
        body.iter().fold(request, |request, body| request.header("content-type", "application/json").body(body.to_string())).send()
    };
    let on = ask("POST", Some(json!({ "for": "30m", "reason": "a new disk" }))).json();
    assert_eq!((&on["on"], &on["reason"], &on["writes_under_way"]), (&json!(true), &json!("a new disk"), &json!(0)));
    let refused = put();
    refused.problem(503, "maintenance");
    assert_eq!(refused.header("retry-after"), Some("10"));
    let many = json!({ "entries": [{ "key": "n:k", "value": "2" }] }).to_string();
    let many = server.request("POST", "/v1/entries/put").header("content-type", "application/json").body(many).send();
    assert_eq!(many.status, 503);
    assert_eq!(server.request("GET", "/v1/entries/n:k").send().status, 200);
    let text = |path: &str| String::from_utf8_lossy(&server.request("GET", path).send().body).into_owned();
    let told = || text("/health");
    assert!(wait::until(LONG, || told().contains("the server takes no writes for another")), "{}", told());
    assert_eq!(server.request("GET", "/readyz").send().status, 200, "it answers reads");
    assert!(text("/metrics").contains("\nlarder_maintenance 1\n"));
    let gone = server.request("POST", "/v1/invalidations").header("content-type", "application/json").body(r#"{"keys":["n:k"]}"#).send();
    assert_eq!(gone.status, 200);
    assert_eq!(server.request("GET", "/v1/entries/n:k").send().status, 404);
    for bad in [json!({ "for": "8d" }), json!({ "for": "soon" }), json!({ "reason": "x".repeat(2_000) })] {
        assert_eq!(ask("POST", Some(bad.clone())).status, 400, "{bad}");
    }
    assert_eq!(ask("DELETE", None).json()["on"], false);
    assert_eq!((put().status, ask("GET", None).json()["on"].clone()), (204, json!(false)));
}
