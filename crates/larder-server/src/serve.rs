//! Serving: taking the address, serving until told to stop, and stopping in order.
//!
//! ```text
//!   serving -> shutdown -> draining                        -> closing
//!              /readyz 503  open requests end, new ones 503    no connections; flush, close
//! ```
//!
//! While requests are still open the address keeps answering, so that a load balancer sees "not ready" and not a refused
//! connection. After the last of them, or when the time for it is over, the address is given up.

use std::fmt;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use larder::Larder;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};

use crate::access::Door;
use crate::audit::Audit;
use crate::backup::runs::Backups;
use crate::cleanup::Cleaner;
use crate::exposure;
use crate::health::{Health, Watched};
use crate::history::Running;
use crate::http::browsers::Hosts;
use crate::http::{self, App, Shared, Upkeep};
use crate::jobs;
use crate::maintenance::Maintenance;
use crate::promise::Promise;
use crate::resp;
use crate::settings::{Guards, HttpLimits, RespSettings, UpkeepSettings, Webhooks};
use crate::tls;
use connections::Connections;

mod connections;

/// What to serve, where, and how.
pub struct Serve {
    /// The cache; it is closed in the end.
    pub larder: Larder,
    /// Where to serve HTTP. Port 0 takes a free one.
    pub http: SocketAddr,
    /// What clients may ask for at most.
    pub limits: HttpLimits,
    /// Where clients of Redis are served, if they are.
    pub resp: RespSettings,
    /// Who may send events.
    pub webhooks: Webhooks,
    /// What stands between the doors and whoever reaches them.
    pub guards: Guards,
    /// Where what is done is recorded, if it is; it is closed after the last request.
    pub audit: Option<Arc<Audit>>,
    /// Who may do what.
    pub door: Arc<Door>,
    /// Whether the cache shares its log and is strict, so that it is of no use while the log cannot be reached.
    pub is_strict: bool,
    /// How the server finds out how it is.
    pub watched: Watched,
    /// How long open requests may still take once the server is told to stop.
    pub drain: Duration,
    /// What writes down what happens, if that is kept; it is ended before the cache is closed.
    pub history: Option<Running>,
    /// How the server looks after itself.
    pub upkeep: UpkeepSettings,
    /// What is cleaned up, and whether that is under way.
    pub cleaner: Arc<Cleaner>,
    /// What the server does by itself, if it does anything; it is ended before the history is.
    pub jobs: Option<jobs::Running>,
    /// Where backups are kept, if they are.
    pub backups: Option<Arc<Backups>>,
}

/// A server that has its address.
pub struct Bound {
    app: Shared,
    connections: Connections,
    larder: Larder,
    listener: TcpListener,
    addr: SocketAddr,
    resp: Option<resp::Bound>,
    door: Arc<Door>,
    drain: Duration,
    history: Option<Running>,
    jobs: Option<jobs::Running>,
    audit: Option<Arc<Audit>>,
    /// What goes on beside, and ends with it: certificates are renewed, and doors that stand open are told of.
    beside: JoinSet<()>,
}

impl Serve {
    /// Takes the addresses.
    ///
    /// # Errors
    /// When one cannot be had, or would be open to more than this machine without access control and TLS.
    pub async fn bind(self) -> Result<Bound, BindError> {
        let Serve { larder, http, limits, resp, webhooks, guards, door, audit, is_strict, watched, drain, history, .. } = self;
        let Serve { upkeep, cleaner, backups, jobs, .. } = self;
        let exposed = exposure::exposed(http, resp.listen, &guards, door.is_guarded());
        if let (Some(one), false) = (exposed.first(), guards.insecure) {
            let error = io::Error::new(io::ErrorKind::PermissionDenied, format!("{one}: {}", exposure::ADVICE));
            return Err(BindError { door: one.addr.to_string(), error });
        }
        let listener = TcpListener::bind(http).await.map_err(|error| BindError { door: http.to_string(), error })?;
        let addr = listener.local_addr().map_err(|error| BindError { door: http.to_string(), error })?;
        let resp = match resp.listen.is_some() || resp.unix.is_some() {
            true => Some(resp::bind(&larder, &resp, (door.clone(), guards.of_resp(), audit.clone())).await?),
            false => None,
        };
        let mut beside = JoinSet::new();
        if let Some(tls) = &guards.tls {
            let renewing = tls::renewing(tls.clone());
            beside.spawn(renewing.map_err(|error| BindError { door: "SIGHUP".to_owned(), error })?);
        }
        if !exposed.is_empty() {
            beside.spawn(exposure::warn(exposed.clone()));
        }
        // Before the first request: what a restart left under maintenance takes no write in between.
        let maintenance = Maintenance::open(&larder, upkeep.maintenance_file);
        let promise = Promise::new(larder.clone(), upkeep.readings, upkeep.budget);
        beside.spawn(promise.clone().keep());
        let (maintained, promised) = (Some(maintenance.clone()), Some(promise.clone()));
        let looked_after = jobs.as_ref().map(|jobs| jobs.jobs().clone());
        let watched = Watched {
            tls: guards.tls.clone(),
            exposed,
            audit: audit.clone(),
            maintenance: maintained,
            promise: promised,
            jobs: looked_after.clone(),
            ..watched
        };
        let health = Health::watch(&larder, watched, is_strict);
        let kept = history.as_ref().map(|history| history.history().clone());
        let doors = (resp.as_ref().map(|resp| resp.resp().clone()), door.clone(), audit.clone());
        let upkeep = Upkeep { cleaner, backups, maintenance, ready_waits: upkeep.ready_waits, promise };
        let app = App::new(larder.clone(), (limits.clone(), webhooks), health, (kept, looked_after), doors, upkeep);
        let hosts = Hosts::new(addr, &guards.hosts, guards.of_http());
        let connections =
            Connections::new(http::router(app.clone(), hosts, audit.clone()), &limits, guards.of_http(), app.connections().clone());
        Ok(Bound { app, connections, larder, listener, addr, resp, drain, history, jobs, door, audit, beside })
    }
}

impl Bound {
    /// Where clients of Redis are served over the network, if they are.
    pub fn resp_addr(&self) -> Option<SocketAddr> {
        self.resp.as_ref().and_then(resp::Bound::addr)
    }

    /// Where HTTP is served.
    pub fn http_addr(&self) -> SocketAddr {
        self.addr
    }

    /// Serves until `shutdown` ends, then lets open requests end, and closes the cache.
    ///
    /// # Errors
    /// When the cache cannot be closed in order.
    pub async fn run_until(self, shutdown: impl Future<Output = ()>) -> Result<(), ServeError> {
        let Bound { app, mut connections, larder, listener, addr, resp, drain, history, jobs, door, audit, beside } = self;
        tracing::info!(%addr, "serving HTTP");
        let resp = match resp.map(resp::Bound::serve).transpose() {
            Ok(resp) => resp,
            Err(error) => {
                close(&larder).await.map_err(ServeError::Close)?;
                return Err(ServeError::Threads(error));
            }
        };
        let keeping = tokio::spawn(door.clone().keep());
        tokio::select! {
            () = shutdown => {}
            never = connections.accept(&listener) => match never {},
        }
        jobs.iter().for_each(jobs::Running::close);
        let deadline = Instant::now() + drain;
        tokio::select! {
            () = drained(&app, deadline) => {}
            never = connections.accept(&listener) => match never {},
        }
        drop(listener);
        let mut cut = connections.end(deadline).await;
        if let Some(resp) = resp {
            cut += resp.end(deadline).await;
        }
        if cut > 0 {
            tracing::warn!(connections = cut, "connections were cut off when the time to drain was over");
        }
        drop(beside);
        // Before what it cleans up ends.
        app.upkeep().cleaner.stop();
        if let Some(audit) = audit
            && let Err(error) = tokio::task::spawn_blocking(move || audit.close()).await
        {
            tracing::error!(%error, "the audit log was not closed in order");
        }
        keeping.abort();
        // That it was told to end is how it ended.
        drop(keeping.await);
        door.write_used().await;
        // Before what they use.
        if let Some(jobs) = jobs {
            jobs.end().await;
        }
        // After the last request, which is in it, and before the cache ends, which it looks at.
        if let Some(history) = history {
            history.end().await;
        }
        // However the connections ended, what was acknowledged is kept.
        close(&larder).await.map_err(ServeError::Close)
    }
}

/// Refuses new requests, and waits for those under way.
async fn drained(app: &Shared, deadline: Instant) {
    app.gate().close();
    app.upkeep().backups.iter().for_each(|backups| backups.stop());
    tracing::info!(under_way = app.gate().under_way(), "draining");
    if timeout_at(deadline, app.gate().emptied()).await.is_err() {
        tracing::warn!(under_way = app.gate().under_way(), "requests were still under way when the time to drain was over");
    }
}

async fn close(larder: &Larder) -> larder::Result<()> {
    let flushed = larder.flush().await;
    larder.close().await.and(flushed)
}

/// Ends when the process is told to: by SIGTERM, or from the keyboard. It listens from the moment of the call, so that a
/// signal which comes before the server is ready is not lost.
///
/// Where signals cannot be listened to, it ends at once: a server that cannot be stopped in order had better not start.
///
/// # Panics
/// Outside of a tokio runtime.
pub fn shutdown_signal() -> impl Future<Output = ()> + Send {
    let signals = listen();
    async move {
        match signals {
            Ok(told) => told.await,
            Err(error) => tracing::error!(%error, "signals cannot be listened to; the server stops"),
        }
    }
}

#[cfg(unix)]
fn listen() -> io::Result<impl Future<Output = ()> + Send> {
    use tokio::signal::unix::{SignalKind, signal};
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}

#[cfg(not(unix))]
fn listen() -> io::Result<impl Future<Output = ()> + Send> {
    Ok(async {
        if let Err(error) = tokio::signal::ctrl_c().await {
            tracing::error!(%error, "the keyboard cannot be listened to; the server stops");
        }
    })
}

/// An address that cannot be had.
#[derive(Debug)]
pub struct BindError {
    /// The address, or the path of a socket.
    pub door: String,
    /// What the system says.
    pub error: io::Error,
}

impl fmt::Display for BindError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} cannot be listened on: {}", self.door, self.error)
    }
}

impl std::error::Error for BindError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.error)
    }
}

/// Why serving ended other than in order.
#[derive(Debug)]
#[non_exhaustive]
pub enum ServeError {
    /// The threads for clients of Redis could not be started.
    Threads(io::Error),
    /// The cache could not be closed in order. What was acknowledged as durable is.
    Close(larder::Error),
}

impl fmt::Display for ServeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ServeError::Threads(error) => write!(f, "cannot start the threads that serve clients of Redis: {error}"),
            ServeError::Close(error) => write!(f, "cannot close the cache in order: {error}"),
        }
    }
}

impl std::error::Error for ServeError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            ServeError::Threads(error) => Some(error),
            ServeError::Close(error) => Some(error),
        }
    }
}
