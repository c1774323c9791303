//! Requests over HTTP, counted by route, method and status, and timed by route.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use axum::extract::{MatchedPath, Request, State};
use axum::http::Method;
use axum::middleware::Next;
use axum::response::Response;
use parking_lot::Mutex;

use super::super::Shared;
use super::encode::{Buckets, Kind, Value};
use super::families::{Families, bounds};

/// Routes times methods times statuses are some hundreds. That is not for clients to change; this is in case we are wrong.
const SERIES_MAX: usize = 4_096;

/// What is not one of ours.
const OTHER: &str = "other";

/// See the head of this file.
#[derive(Default)]
pub struct Commands(Mutex<Counted>);

#[derive(Default)]
struct Counted {
    answers: BTreeMap<(Box<str>, &'static str, u16), u64>,
    times: BTreeMap<Box<str>, Times>,
}

#[derive(Default)]
struct Times {
    /// By bound; the last is for what took longer.
    within: Vec<u64>,
    sum: Duration,
}

impl Commands {
    /// Counts an answer.
    pub fn count(&self, route: &str, method: &Method, status: u16, took: Duration) {
        let mut counted = self.0.lock();
        let route = if counted.answers.len() < SERIES_MAX || counted.times.contains_key(route) { route } else { OTHER };
        *counted.answers.entry((route.into(), name_of(method), status)).or_default() += 1;
        if !counted.times.contains_key(route) {
            counted.times.insert(route.into(), Times::default());
        }
        counted.times.get_mut(route).expect("it was just put there").add(took);
    }

    /// As metrics.
    pub fn tell(&self, families: &mut Families) {
        let counted = self.0.lock();
        families.begin("larder_http_requests", Kind::Counter, "Requests that were answered, by route, method and status.");
        for ((route, method, status), n) in &counted.answers {
            families.add(&[("route", route), ("method", method), ("status", &status.to_string())], Value::Whole(*n));
        }
        let help = "How long it took until the head of an answer was ready.";
        families.begin("larder_http_request_duration_seconds", Kind::Histogram, help);
        for (route, times) in &counted.times {
            families.add(&[("route", route)], Value::Buckets(times.buckets()));
        }
    }
}

impl Times {
    fn add(&mut self, took: Duration) {
        let ns = took.as_nanos();
        self.within.resize(bounds().count() + 1, 0);
        let at = bounds().position(|(_, bound)| ns < u128::from(bound)).unwrap_or(self.within.len() - 1);
        self.within[at] += 1;
        self.sum += took;
    }

    fn buckets(&self) -> Buckets {
        let mut below = 0;
        let up_to = bounds().zip(&self.within).map(|((seconds, _), n)| {
            below += n;
            (seconds, below)
        });
        Buckets { up_to: up_to.collect(), count: self.within.iter().sum(), sum: self.sum.as_secs_f64() }
    }
}

/// Clients may make up methods.
fn name_of(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::PUT => "PUT",
        Method::POST => "POST",
        Method::DELETE => "DELETE",
        Method::OPTIONS => "OPTIONS",
        Method::PATCH => "PATCH",
        _ => OTHER,
    }
}

/// Counts every request, those included that no route is for.
pub async fn count(State(app): State<Shared>, request: Request, next: Next) -> Response {
    let (method, begun) = (request.method().clone(), Instant::now());
    let route = request.extensions().get::<MatchedPath>().cloned();
    let response = next.run(request).await;
    let route = route.as_ref().map_or(OTHER, MatchedPath::as_str);
    app.commands.count(route, &method, response.status().as_u16(), begun.elapsed());
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_clients_make_up_does_not_make_more_series() {
        let commands = Commands::default();
        for n in 0..3 * SERIES_MAX {
            let method = Method::from_bytes(format!("M{n}").as_bytes()).unwrap();
            commands.count("/v1/stats", &method, 405, Duration::from_millis(1));
            commands.count(&format!("/r/{n}"), &Method::GET, 200, Duration::from_secs(60));
        }
        let counted = commands.0.lock();
        assert!(counted.answers.len() <= SERIES_MAX + 2 && counted.times.len() <= SERIES_MAX + 1);
        assert_eq!(counted.answers.values().sum::<u64>(), 6 * SERIES_MAX as u64);
        let buckets = counted.times["/v1/stats"].buckets();
        assert_eq!((buckets.count, buckets.up_to.last().unwrap().1), (3 * SERIES_MAX as u64, 3 * SERIES_MAX as u64));
        assert_eq!(counted.times[OTHER].buckets().up_to.last().unwrap().1, 0, "a minute is beyond all bounds");
    }
}
