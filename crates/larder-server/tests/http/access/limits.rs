//! How much one principal may ask for, over both doors together.

use std::io::{Read, Write};
use std::time::Duration;

use larder::{Clock, Larder};
use larder_server::access::allowance::{Allowances, OfPrincipal, OfRole};
use larder_server::settings::Webhooks;

use super::super::client::{Request, connect, read_reply};
use super::{Guarded, ask};

fn limited(allowances: Allowances) -> (Guarded, Clock) {
    let clock = Clock::manual();
    (Guarded::limited(Larder::builder().clock(clock.clone()), Webhooks::default(), allowances, clock.clone()), clock)
}

fn anybody(anybody: OfPrincipal) -> Allowances {
    Allowances { anybody, ..Allowances::default() }
}

#[test]
fn requests_over_both_doors_are_counted_together_and_others_go_on() {
    let (guarded, clock) = limited(anybody(OfPrincipal { requests_per_second: 3, ..OfPrincipal::default() }));
    let get = |name: &str| guarded.ask(name, "GET", "/v1/entries/own:k", None);
    let mut client = guarded.client("service");
    get("service").problem(404, "miss");
    assert_eq!(ask(&mut client, "GET own:k").error(), None);
    get("service").problem(404, "miss");
    let refused = get("service");
    assert_eq!(refused.problem(429, "too-many-requests")["limit"], 3);
    assert_eq!(refused.header("retry-after"), Some("1"));
    let told = ask(&mut client, "GET own:k").error().map(|told| told.escape_ascii().to_string());
    assert_eq!(told.as_deref(), Some("ERR max number of requests of this user reached (3 in a second); come again"));
    get("client").problem(404, "miss");
    assert_eq!(guarded.server.request("GET", "/livez").send().status, 200, "who need not be anybody is not counted");
    clock.advance(Duration::from_millis(400));
    get("service").problem(404, "miss");
    get("service").problem(429, "too-many-requests");
}

#[test]
fn a_request_under_way_is_a_connection_and_a_stream_is_under_way_until_it_ends() {
    let (guarded, _) = limited(anybody(OfPrincipal { connections_max: 1, ..OfPrincipal::default() }));
    let get = |name: &str| guarded.ask(name, "GET", "/v1/entries/own:k", None);
    get("service").problem(404, "miss");
    get("service").problem(404, "miss");
    let bearer = format!("Bearer {}", guarded.somebody("service").token.reveal());
    let put = guarded.server.request("PUT", "/v1/entries/own:k").header("authorization", &bearer);
    let mut open = put.send_head(1);
    assert_eq!(get("service").problem(429, "too-many-requests")["limit"], 1);
    get("client").problem(404, "miss");
    open.write_all(b"v").unwrap();
    assert_eq!(read_reply(&mut open).status, 204);
    assert_eq!(get("service").status, 200);
    // A stream of events.
    let mut stream = connect(guarded.server.addr);
    let token = guarded.somebody("viewer").token.reveal();
    write!(stream, "GET /v1/events/tail HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {token}\r\n\r\n").unwrap();
    let mut begun = [0; 512];
    assert!(stream.read(&mut begun).unwrap() > 0 && begun.starts_with(b"HTTP/1.1 200"));
    let stats = || guarded.ask("viewer", "GET", "/v1/stats", None);
    stats().problem(429, "too-many-requests");
    drop(stream);
    assert!(larder_testkit::wait::until(Duration::from_secs(10), || stats().status == 200), "the stream that was left counts no more");
    // Over RESP a connection is one as long as it is open.
    let client = guarded.client("admin");
    guarded.ask("admin", "GET", "/v1/stats", None).problem(429, "too-many-requests");
    drop(client);
    let is_free = || guarded.ask("admin", "GET", "/v1/stats", None).status == 200;
    assert!(larder_testkit::wait::until(Duration::from_secs(10), is_free));
}

#[test]
fn a_role_bounds_a_body_whether_it_is_announced_or_not() {
    let roles = [("service".to_owned(), OfRole { pipeline_max: 0, request_bytes_max: 1_024 })];
    let (guarded, _) = limited(Allowances { roles: roles.into(), ..Allowances::default() });
    let put = |name: &str, bytes: usize| {
        let bearer = format!("Bearer {}", guarded.somebody(name).token.reveal());
        let request: Request = guarded.server.request("PUT", "/v1/entries/own:k").header("authorization", bearer);
        request.body(vec![b'v'; bytes]).send()
    };
    assert_eq!(put("service", 1_024).status, 204);
    assert_eq!(put("service", 1_025).problem(413, "body-too-large")["limit"], 1_024);
    assert_eq!(put("admin", 1_025).status, 204);
    let mut connection = connect(guarded.server.addr);
    let token = guarded.somebody("service").token.reveal();
    let head = format!("PUT /v1/entries/own:k HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\nauthorization: Bearer {token}\r\n");
    connection.write_all(&[head.as_bytes(), b"transfer-encoding: chunked\r\n\r\n401\r\n", &[b'w'; 1_025]].concat()).unwrap();
    read_reply(&mut connection).problem(413, "body-too-large");
    assert_eq!(guarded.ask("client", "GET", "/v1/entries/own:k", None).body, vec![b'v'; 1_025]);
}
