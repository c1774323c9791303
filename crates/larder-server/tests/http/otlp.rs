//! What a collector gets: a server in a process of its own exports to one that only listens.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, Mutex};

use larder_testkit::wait;
use serde_json::{Value, json};

use crate::client::PATIENCE;
use crate::shared::Instance;

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const CALLER: &str = "00f067aa0ba902b7";

/// A collector: what was posted to it, by path.
struct Collector {
    addr: SocketAddr,
    got: Arc<Mutex<Vec<(String, Value)>>>,
}

impl Collector {
    /// It answers with this status. Its thread ends with the test's process.
    fn start(status: &'static str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("there is a free port");
        let addr = listener.local_addr().expect("it has one");
        let got: Arc<Mutex<Vec<(String, Value)>>> = Arc::default();
        let taken = got.clone();
        std::thread::spawn(move || {
            for connection in listener.incoming() {
                let connection = connection.expect("it listens");
                let mut reader = BufReader::new(connection.try_clone().expect("it can be read and written"));
                let mut head = Vec::new();
                loop {
                    let mut line = String::new();
                    if reader.read_line(&mut line).unwrap_or(0) <= 2 {
                        break;
                    }
                    head.push(line.trim_end().to_owned());
                }
                let Some(first) = head.first() else { continue };
                let path = first.split(' ').nth(1).expect("it has a path").to_owned();
                let length = head.iter().find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length: ").map(str::to_owned));
                let mut body = vec![0; length.and_then(|length| length.parse().ok()).expect("it has a length")];
                reader.read_exact(&mut body).expect("all of it comes");
                assert!(head.iter().any(|line| line.eq_ignore_ascii_case("content-type: application/json")), "{head:?}");
                taken.lock().expect("no test goes on after a panic").push((path, serde_json::from_slice(&body).expect("JSON")));
                let answer =
                    format!("HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: 2\r\nconnection: close\r\n\r\n{{}}");
                // Whoever has gone away does not want it.
                drop((&connection).write_all(answer.as_bytes()));
            }
        });
        Collector { addr, got }
    }

    fn spans(&self) -> Vec<Value> {
        let got = self.got.lock().expect("no test goes on after a panic");
        let traces = got.iter().filter(|(path, _)| path == "/v1/traces");
        traces.flat_map(|(_, body)| body["resourceSpans"][0]["scopeSpans"][0]["spans"].as_array().expect("spans").clone()).collect()
    }

    /// The last value of a counter in a namespace.
    fn counted(&self, name: &str, namespace: &str) -> Option<u64> {
        let got = self.got.lock().expect("no test goes on after a panic");
        let (_, last) = got.iter().rev().find(|(path, _)| path == "/v1/metrics")?;
        let metrics = last["resourceMetrics"][0]["scopeMetrics"][0]["metrics"].as_array()?;
        let metric = metrics.iter().find(|metric| metric["name"] == name)?;
        assert_eq!((&metric["sum"]["isMonotonic"], &metric["sum"]["aggregationTemporality"]), (&true.into(), &2.into()));
        let points = metric["sum"]["dataPoints"].as_array()?;
        let point = points.iter().find(|point| point["attributes"][0]["value"]["stringValue"] == namespace)?;
        point["asInt"].as_str()?.parse().ok()
    }
}

fn attribute<'a>(span: &'a Value, key: &str) -> &'a Value {
    let all = span["attributes"].as_array().expect("attributes");
    &all.iter().find(|one| one["key"] == key).unwrap_or_else(|| panic!("{key} in {span}"))["value"]
}

fn exporting(collector: &Collector) -> Instance {
    let endpoint = format!("http://{}", collector.addr);
    let environment = [("LARDER_OTLP_ENDPOINT", endpoint.as_str()), ("LARDER_OTLP_EVERY", "100ms"), ("LARDER_LOG", "error")];
    Instance::serve(&[], &environment)
}

#[test]
fn spans_are_nested_in_the_callers_trace_and_counters_are_there() {
    let collector = Collector::start("200 OK");
    let server = exporting(&collector);
    let traceparent = format!("00-{TRACE}-{CALLER}-01");
    let put = server.request("PUT", "/v1/entries/secret:key").header("traceparent", &traceparent).body("hidden").send();
    assert_eq!(put.status, 204);
    assert_eq!(server.get("secret:key").status, 200);
    let request = || collector.spans().into_iter().find(|span| span["name"] == "larder.request" && span["traceId"] == TRACE);
    let request = wait::until_some(PATIENCE, request).expect("it is exported");
    assert_eq!((&request["parentSpanId"], &request["kind"]), (&CALLER.into(), &2.into()));
    assert_eq!(attribute(&request, "http.route")["stringValue"], "/v1/entries/{key}");
    assert_eq!(attribute(&request, "http.response.status_code")["intValue"], "204");
    let append = || collector.spans().into_iter().find(|span| span["name"] == "larder.append" && span["parentSpanId"] == request["spanId"]);
    let append = wait::until_some(PATIENCE, append).expect("what the request caused is its");
    assert_eq!(append["traceId"], TRACE);
    assert_eq!(Some(attribute(&append, "larder.position")["stringValue"].as_str().expect("a text")), put.header("larder-position"));
    let time = |span: &Value, name: &str| span[name].as_str().and_then(|ns| ns.parse::<u64>().ok()).expect("nanoseconds");
    assert!(time(&append, "startTimeUnixNano") >= time(&request, "startTimeUnixNano"));
    assert!(time(&append, "endTimeUnixNano") >= time(&append, "startTimeUnixNano"));
    assert!(wait::until(PATIENCE, || collector.counted("larder.puts", "other") == Some(1)));
    assert!(wait::until(PATIENCE, || collector.counted("larder.hits_memory", "other") == Some(1)));
    // An event is of the trace that it says, and linked to the request by which it came.
    let event = json!({ "specversion": "1.0", "id": "1", "source": "s", "type": "t", "data": {}, "traceparent": format!("00-{}-{CALLER}-01", "7".repeat(32)) });
    let sent = server.request("POST", "/v1/events").header("content-type", "application/cloudevents+json").body(event.to_string()).send();
    assert_eq!(sent.status, 200);
    let event = || collector.spans().into_iter().find(|span| span["name"] == "larder.event");
    let event = wait::until_some(PATIENCE, event).expect("it is exported");
    assert_eq!((&event["traceId"], &event["parentSpanId"]), (&"7".repeat(32).into(), &CALLER.into()));
    let carrier = || collector.spans().into_iter().find(|span| span["spanId"] == event["links"][0]["spanId"]);
    let carrier = wait::until_some(PATIENCE, carrier).expect("the request is exported, too");
    assert_eq!(
        (&carrier["traceId"], attribute(&carrier, "http.route")),
        (&event["links"][0]["traceId"], &json!({ "stringValue": "/v1/events" }))
    );
    let unsampled = format!("00-{}-{CALLER}-00", "5".repeat(32));
    assert_eq!(server.request("PUT", "/v1/entries/k").header("traceparent", unsampled).body("v").send().status, 204);
    assert_eq!(server.request("GET", "/livez").send().status, 200);
    // What the last moments brought is sent when the server ends.
    server.request("DELETE", "/v1/entries/gone").header("traceparent", format!("00-{}-{CALLER}-01", "9".repeat(32))).send();
    server.abandon();
    assert!(collector.spans().iter().any(|span| span["traceId"] == "9".repeat(32)), "and nothing is left behind");
    assert!(collector.spans().iter().all(|span| span["traceId"] != "5".repeat(32)), "what whoever began it does not keep is not told");
    let all = format!("{:?}", collector.got.lock().expect("no test goes on after a panic"));
    assert!(!all.contains("hidden") && !all.contains("secret"), "neither values nor keys");
    assert!(!all.contains("livez"), "and no probes");
    assert!(all.contains("service.name"), "it says who exports");
}

#[test]
fn a_collector_that_refuses_or_is_not_there_costs_nothing_but_what_it_would_have_got() {
    let collector = Collector::start("503 Service Unavailable");
    let server = exporting(&collector);
    assert_eq!(server.request("PUT", "/v1/entries/k").body("v").send().status, 204);
    assert!(wait::until(PATIENCE, || !collector.spans().is_empty()), "it is tried");
    let own = || {
        let got = collector.got.lock().expect("no test goes on after a panic");
        got.iter().any(|(path, body)| path == "/v1/metrics" && body.to_string().contains("larder.otlp.spans_dropped"))
    };
    assert!(wait::until(PATIENCE, own));
    assert_eq!(server.get("k").status, 200);
    server.abandon();
    let nobody = Instance::serve(&[], &[("LARDER_OTLP_ENDPOINT", "http://127.0.0.1:1"), ("LARDER_LOG", "error")]);
    assert_eq!(nobody.request("PUT", "/v1/entries/k").body("v").send().status, 204);
    nobody.abandon();
}
