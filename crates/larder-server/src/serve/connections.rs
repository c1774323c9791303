//! Connections: accepted up to a bound, each served in a task that belongs to this set, all ended when it is told to. It
//! knows nothing of what is asked over them, but tells each request where it comes from. TLS begins in the connection's own task, which
//! counts from when it was accepted: who does not get on with it takes up one place, for as long as a handshake may take.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};

use crate::http::metrics::ConnectionCounts;
use crate::http::peer::{Peer, SPOKEN_PLAINLY};
use crate::settings::HttpLimits;
use crate::tls::{PeerNames, Tls};

/// How long no connection is accepted after one could not be: most likely the process has no file left for it, and gets one
/// when another connection ends.
const PAUSE: Duration = Duration::from_millis(50);

/// The open connections.
pub(super) struct Connections {
    tasks: JoinSet<()>,
    connections_max: usize,
    protocol: http1::Builder,
    router: Router,
    tls: Option<Arc<Tls>>,
    ending: watch::Sender<bool>,
    counts: Arc<ConnectionCounts>,
}

impl Connections {
    pub(super) fn new(router: Router, limits: &HttpLimits, tls: Option<Arc<Tls>>, counts: Arc<ConnectionCounts>) -> Self {
        let mut protocol = http1::Builder::new();
        // Without it a client could hold a connection for ever by never ending its first line.
        protocol.timer(TokioTimer::new()).header_read_timeout(limits.head_timeout);
        Connections {
            tasks: JoinSet::new(),
            connections_max: limits.connections_max as usize,
            protocol,
            router,
            tls,
            ending: watch::Sender::new(false),
            counts,
        }
    }

    /// Accepts and serves connections for as long as it is polled. Those beyond the bound wait in the system's queue.
    pub(super) async fn accept(&mut self, listener: &TcpListener) -> Infallible {
        loop {
            tokio::select! {
                accepted = listener.accept(), if self.tasks.len() < self.connections_max => match accepted {
                    Ok((connection, addr)) => self.serve(connection, addr),
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

    fn serve(&mut self, connection: TcpStream, addr: SocketAddr) {
        if let Err(error) = connection.set_nodelay(true) {
            tracing::debug!(%error, "a connection keeps its delay");
        }
        let (protocol, router, tls) = (self.protocol.clone(), self.router.clone(), self.tls.clone());
        let (mut ending, open) = (self.ending.subscribe(), self.counts.open());
        self.tasks.spawn(async move {
            let _open = open;
            let Some(tls) = tls else {
                let peer = Peer { addr, is_tls: false };
                return converse(&protocol, connection, router, (peer, PeerNames::default()), ending).await;
            };
            let accepted = tokio::select! {
                accepted = tls.accept(connection, SPOKEN_PLAINLY.as_bytes()) => accepted,
                () = told(&mut ending) => return,
            };
            match accepted {
                Ok((stream, names)) => converse(&protocol, stream, router, (Peer { addr, is_tls: true }, names), ending).await,
                Err(error) => tracing::debug!(%error, %addr, "TLS could not be spoken with a client"),
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

/// Serves a connection until it ends.
async fn converse<S>(protocol: &http1::Builder, stream: S, router: Router, from: (Peer, PeerNames), mut ending: watch::Receiver<bool>)
where
    S: AsyncRead + AsyncWrite + Unpin + 'static,
{
    let (service, (peer, names)) = (TowerToHyperService::new(router), from);
    let service = service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(peer);
        request.extensions_mut().insert(names.clone());
        service.call(request)
    });
    let mut connection = pin!(protocol.serve_connection(TokioIo::new(stream), service));
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
}

/// Ends when connections are to end: when it is said, or nobody is left to say it.
async fn told(ending: &mut watch::Receiver<bool>) {
    let said = ending.wait_for(|ending| *ending).await.is_ok();
    tracing::trace!(said, "a connection is to end");
}
