//! The spans of a request: what the library and the program tell `tracing`, as a listener hears it.

#[path = "http/client.rs"]
#[allow(dead_code, reason = "the tests of the data plane use more of it")]
mod client;

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use client::Server;
use larder::Larder;
use larder_server::settings::HttpLimits;
use larder_testkit::wait;
use serde_json::json;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Level, Subscriber};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};
use tracing_subscriber::registry::LookupSpan;

const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
const OTHER: &str = "00-11111111111111111111111111111111-2222222222222222-01";

/// A span that has ended.
#[derive(Clone, Debug, Default)]
struct Span {
    name: &'static str,
    parent: Option<u64>,
    id: u64,
    fields: BTreeMap<&'static str, String>,
}

#[derive(Clone, Default)]
struct Heard(Arc<Mutex<Vec<Span>>>);

impl Heard {
    fn all(&self) -> Vec<Span> {
        self.0.lock().expect("no test goes on after a panic").clone()
    }

    fn of(&self, name: &str) -> Vec<Span> {
        self.all().into_iter().filter(|span| span.name == name).collect()
    }
}

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Heard {
    fn enabled(&self, metadata: &tracing::Metadata<'_>, _: Context<'_, S>) -> bool {
        *metadata.level() <= Level::DEBUG && (metadata.target() == "larder::spans" || metadata.name() == "caller")
    }

    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let span = context.span(id).expect("it is new");
        let parent = span.parent().map(|parent| parent.id().into_u64());
        let mut heard = Span { name: span.name(), parent, id: id.into_u64(), fields: BTreeMap::new() };
        attributes.record(&mut Fields(&mut heard.fields));
        span.extensions_mut().insert(heard);
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, context: Context<'_, S>) {
        let span = context.span(id).expect("it is open");
        if let Some(heard) = span.extensions_mut().get_mut::<Span>() {
            values.record(&mut Fields(&mut heard.fields));
        }
    }

    fn on_close(&self, id: Id, context: Context<'_, S>) {
        let span = context.span(&id).and_then(|span| span.extensions_mut().remove::<Span>());
        self.0.lock().expect("no test goes on after a panic").extend(span);
    }
}

struct Fields<'a>(&'a mut BTreeMap<&'static str, String>);

impl Visit for Fields<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.0.insert(field.name(), format!("{value:?}").trim_matches('"').to_owned());
    }
}

/// One listener for the process, as `tracing` has it.
fn heard() -> &'static Heard {
    static HEARD: OnceLock<Heard> = OnceLock::new();
    HEARD.get_or_init(|| {
        let heard = Heard::default();
        tracing::subscriber::set_global_default(tracing_subscriber::registry().with(heard.clone())).expect("nobody else listens");
        heard
    })
}

#[test]
fn a_request_that_belongs_to_a_trace_says_so_and_what_it_causes_is_its() {
    let heard = heard();
    let folder = tempfile::tempdir().expect("a folder");
    let server = Server::start(Larder::builder().data(folder.path()), HttpLimits::default());
    let put = server.put("secret:key").header("traceparent", PARENT).body("hidden").send();
    assert_eq!(put.status, 204);
    let of_trace =
        || heard.of("larder.request").into_iter().find(|span| span.fields.get("trace_id").is_some_and(|id| id.starts_with("4bf9")));
    let request = wait::until_some(Duration::from_secs(20), of_trace).expect("the request is heard");
    let field = |span: &Span, name: &str| span.fields.get(name).cloned().unwrap_or_default();
    assert_eq!([field(&request, "method"), field(&request, "route"), field(&request, "status")], ["PUT", "/v1/entries/{key}", "204"]);
    assert_eq!(field(&request, "parent_id"), "00f067aa0ba902b7");
    let child = |name: &str| heard.all().into_iter().find(|span| span.name == name && span.parent == Some(request.id)).expect(name);
    let append = child("larder.append");
    assert_eq!((field(&append, "outcome"), field(&append, "names")), ("appended".into(), "1".into()));
    assert_eq!(Some(field(&append, "position").as_str()), put.header("larder-position"));
    let write = child("larder.tier");
    assert_eq!([field(&write, "operation"), field(&write, "tier"), field(&write, "namespace")], ["write", "disk", "other"]);
    let told = format!("{:?}", heard.all());
    assert!(!told.contains("hidden") && !told.contains("secret:key"), "neither values nor keys: {told}");
}

#[test]
fn an_event_says_what_trace_it_is_of() {
    let heard = heard();
    let server = Server::plain();
    let event = json!({ "specversion": "1.0", "id": "1", "source": "s", "type": "t", "traceparent": OTHER, "data": {} });
    let sent = server.request("POST", "/v1/events").header("content-type", "application/cloudevents+json").body(event.to_string()).send();
    assert_eq!(sent.status, 200, "{sent:?}");
    let span = wait::until_some(Duration::from_secs(20), || heard.of("larder.event").pop()).expect("the event is heard");
    assert_eq!([&span.fields["trace_id"], &span.fields["parent_id"], &span.fields["kind"]], [&"1".repeat(32), &"2".repeat(16), "t"]);
    assert!(span.parent.is_some(), "and within the request by which it came");
    // What is no traceparent begins nothing.
    let event = json!({ "specversion": "1.0", "id": "2", "source": "s", "type": "odd", "traceparent": "00-1", "data": {} });
    server
        .request("POST", "/v1/events")
        .header("content-type", "application/cloudevents+json")
        .header("traceparent", "x")
        .body(event.to_string())
        .send();
    let odd = || heard.of("larder.event").into_iter().find(|span| span.fields["kind"] == "odd");
    assert!(!wait::until_some(Duration::from_secs(20), odd).expect("it is heard").fields.contains_key("trace_id"));
}

#[test]
fn a_load_is_its_callers_and_a_hit_in_memory_is_not_told() {
    let heard = heard();
    let runtime = tokio::runtime::Runtime::new().expect("threads");
    runtime.block_on(async {
        let larder = Larder::builder().build().await.expect("a cache in memory");
        let loaded = larder.namespace::<String>("loaded").expect("a name");
        let caller = tracing::info_span!("caller");
        let load = || async { Ok::<_, std::io::Error>("value".to_owned()) };
        tracing::Instrument::instrument(loaded.get_or_load("k", load), caller.clone()).await.expect("it loads");
        let failing = || async { Err::<String, _>(std::io::Error::other("on purpose")) };
        loaded.get_or_load("bad", failing).await.expect_err("it fails");
        let of_namespace = || heard.of("larder.load").into_iter().filter(|span| span.fields["namespace"] == "loaded").collect::<Vec<_>>();
        let spans = async {
            while of_namespace().len() < 2 {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), spans).await.expect("they are heard");
        // Whoever waits for a load goes on before its task has ended, so the second may end first.
        let mut spans: [Span; 2] = of_namespace().try_into().expect("two");
        spans.sort_by_key(|span| span.fields["outcome"] != "loaded");
        let [ok, bad] = spans;
        assert_eq!(
            (ok.parent, &ok.fields["outcome"], &ok.fields["bytes"]),
            (caller.id().map(|id| id.into_u64()), &"loaded".to_owned(), &"7".to_owned())
        );
        assert!(ok.fields.contains_key("position") && bad.fields["outcome"] == "error: Load", "{bad:?}");
        for _ in 0..100 {
            loaded.get("k").await.expect("it is there");
        }
        assert_eq!(of_namespace().len(), 2);
    });
}
