//! Connections: accepted up to a bound, each served in a task that belongs to this set, all ended when it is told to. It
//! knows nothing of what is asked over them.

use std::convert::Infallible;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};

use crate::http::metrics::ConnectionCounts;
use crate::settings::HttpLimits;

/// How long no connection is accepted after one could not be: most likely the process has no file left for it, and gets one
/// when another connection ends.
const PAUSE: Duration = Duration::from_millis(50);

/// The open connections.
pub(super) struct Connections {
    tasks: JoinSet<()>,
    connections_max: usize,
    protocol: http1::Builder,
    router: Router,
    ending: watch::Sender<bool>,
    counts: Arc<ConnectionCounts>,
}

impl Connections {
    pub(super) fn new(router: Router, limits: &HttpLimits, counts: Arc<ConnectionCounts>) -> Self {
        let mut protocol = http1::Builder::new();
        // Without it a client could hold a connection for ever by never ending its first line.
        protocol.timer(TokioTimer::new()).header_read_timeout(limits.head_timeout);
        Connections {
            tasks: JoinSet::new(),
            connections_max: limits.connections_max as usize,
            protocol,
            router,
            ending: watch::Sender::new(false),
            counts,
        }
    }

    /// Accepts and serves connections for as long as it is polled. Those beyond the bound wait in the system's queue.
    pub(super) async fn accept(&mut self, listener: &TcpListener) -> Infallible {
        loop {
            tokio::select! {
                accepted = listener.accept(), if self.tasks.len() < self.connections_max => match accepted {
                    Ok((connection, _)) => self.serve(connection),
                    Err(error) => {
                        tracing::warn!(%error, "a connection could not be accepted");
                        tokio::time::sleep(PAUSE).await;
                    }
                },
                Some(ended) = self.tasks.join_next() => {
                    if let Err(error) = ended {
                        tracing::error!(%error, "the task of a connection ended out of order");
                    }
                }
            }
        }
    }

    fn serve(&mut self, connection: TcpStream) {
        if let Err(error) = connection.set_nodelay(true) {
            tracing::debug!(%error, "a connection keeps its delay");
        }
        let connection = self.protocol.serve_connection(TokioIo::new(connection), TowerToHyperService::new(self.router.clone()));
        let (mut ending, open) = (self.ending.subscribe(), self.counts.open());
        self.tasks.spawn(async move {
            let _open = open;
            let mut connection = pin!(connection);
            let ended = tokio::select! {
                ended = connection.as_mut() => ended,
                () = told(&mut ending) => {
                    connection.as_mut().graceful_shutdown();
                    connection.await
                }
            };
            if let Err(error) = ended {
                tracing::debug!(%error, "a connection ended early");
            }
        });
    }

    /// Lets each connection end the answer it is at, closes the others, and cuts off what is still open at the deadline.
    /// Returns how many those were.
    pub(super) async fn end(mut self, deadline: Instant) -> usize {
        self.ending.send_replace(true);
        let all_ended = async { while self.tasks.join_next().await.is_some() {} };
        if timeout_at(deadline, all_ended).await.is_ok() {
            return 0;
        }
        let cut = self.tasks.len();
        self.tasks.shutdown().await;
        cut
    }
}

/// Ends when connections are to end: when it is said, or nobody is left to say it.
async fn told(ending: &mut watch::Receiver<bool>) {
    let said = ending.wait_for(|ending| *ending).await.is_ok();
    tracing::trace!(said, "a connection is to end");
}
