//! `GET /metrics`: everything that is counted, for Prometheus and whoever speaks OpenMetrics.
//!
//! ```text
//!   Stats of the cache ----.
//!   sources ---------------+--> families.rs: the one list --> encode.rs: the text, as `Accept` asks for it
//!   commands.rs, process.rs'
//! ```

use std::sync::atomic::{AtomicU64, Ordering};

use axum::extract::State;
use axum::http::HeaderMap;
use axum::http::header::{ACCEPT, CONTENT_TYPE, VARY};
use axum::response::{IntoResponse, Response};

use super::{App, Shared};

pub mod commands;
pub mod encode;
pub mod families;
mod process;

use encode::{Family, Format, Kind, Value, encode};
use families::Families;

/// Connections, as the part that accepts them counts them.
#[derive(Debug, Default)]
pub struct ConnectionCounts {
    open: AtomicU64,
    accepted: AtomicU64,
}

impl ConnectionCounts {
    /// Counts one more, for as long as what is returned is held.
    pub fn open(self: &std::sync::Arc<Self>) -> OpenConnection {
        self.open.fetch_add(1, Ordering::Relaxed);
        self.accepted.fetch_add(1, Ordering::Relaxed);
        OpenConnection(self.clone())
    }
}

/// A connection that is open.
#[derive(Debug)]
pub struct OpenConnection(std::sync::Arc<ConnectionCounts>);

impl Drop for OpenConnection {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::Relaxed);
    }
}

/// `GET /metrics`.
pub async fn show(State(app): State<Shared>, headers: HeaderMap) -> Response {
    let accepted: Vec<&str> = headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok()).collect();
    let format = Format::wanted(&accepted.join(","));
    ([(CONTENT_TYPE, format.media_type()), (VARY, "accept")], encode(&families(&app), format)).into_response()
}

fn families(app: &App) -> Vec<Family> {
    let mut families = Families::default();
    families.begin("larder_build", Kind::Info, "The program.").add(&[("version", env!("CARGO_PKG_VERSION"))], Value::Whole(1));
    families.of_cache(&app.larder.stats(), &app.larder.sources(), app.intake.unsigned());
    app.commands.tell(&mut families);
    families.size("larder_http_requests_under_way", "Requests under way behind the gate.", app.gate.under_way() as u64);
    families.size("larder_http_requests_limit", "How many requests may be under way.", app.limits.requests_max.into());
    families.size("larder_http_connections", "Connections that are open.", app.connections.open.load(Ordering::Relaxed));
    families.size("larder_http_connections_limit", "How many connections may be open.", app.limits.connections_max.into());
    families.counter(
        "larder_http_connections_accepted",
        "Connections that were accepted.",
        app.connections.accepted.load(Ordering::Relaxed),
    );
    app.jobs.iter().for_each(|jobs| families.of_jobs(&jobs.views()));
    app.resp.iter().for_each(|resp| resp.tell(&mut families));
    families.counter("larder_access_refused", "Proofs of who somebody is that were wrong, over HTTP and RESP.", app.door.refused());
    families.of_audit(app.audit.as_ref().map(|audit| audit.standing()));
    let process = app.upkeep.promise.standing();
    families.size("larder_process_resident_bytes", "Memory of the process that is resident.", process.resident);
    if let Some(budget) = process.budget {
        families.size("larder_process_budget_bytes", "Memory that the process may have.", budget);
    }
    families.measure("larder_memory_share", "The share of their sizes that pools of memory may use.", process.share);
    let is_maintained = u64::from(!app.larder.takes_writes());
    families.size("larder_maintenance", "Whether the server is under maintenance, and takes no writes.", is_maintained);
    families.size("larder_draining", "Whether the server is shutting down.", u64::from(app.gate.is_draining()));
    process::tell(&mut families);
    families.finish()
}
