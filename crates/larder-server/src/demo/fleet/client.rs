//! HTTP to one server of the fleet, over connections that are kept. It knows nothing of what is asked.

use std::error::Error;
use std::fmt;
use std::net::SocketAddr;

use axum::body::{Body, to_bytes};
use axum::http::{HeaderMap, Request, StatusCode};
use bytes::Bytes;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use tokio::net::TcpStream;

/// Answers larger than this are not read; the demo's values have under a kilobyte.
const ANSWER_BYTES_MAX: usize = 1 << 20;

/// A server, and connections to it that nobody uses just now.
pub struct Client {
    addr: SocketAddr,
    idle: Mutex<Vec<SendRequest<Body>>>,
}

/// What it answered.
#[derive(Debug)]
pub struct Reply {
    /// The status.
    pub status: StatusCode,
    /// The headers.
    pub headers: HeaderMap,
    /// The body.
    pub body: Bytes,
}

impl Reply {
    /// A header as text; nothing if it is not there.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }
}

/// Why there is no answer.
#[derive(Debug)]
pub struct NoAnswer {
    addr: SocketAddr,
    source: Box<dyn Error + Send + Sync>,
}

impl fmt::Display for NoAnswer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the server at {} does not answer: {}", self.addr, self.source)
    }
}

impl Error for NoAnswer {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&*self.source)
    }
}

impl Client {
    /// A client of the server there.
    pub fn new(addr: SocketAddr) -> Self {
        Self { addr, idle: Mutex::default() }
    }

    /// Asks, and reads the whole answer.
    ///
    /// # Errors
    /// When there is no answer. A refusal is one.
    pub async fn ask(&self, method: &str, path: &str, headers: &[(&str, &str)], body: impl Into<Bytes>) -> Result<Reply, NoAnswer> {
        let body = body.into();
        let request = || {
            let request = Request::builder().method(method).uri(path).header("host", "localhost");
            let request = headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
            request.body(Body::from(body.clone())).expect("the demo's requests are well formed")
        };
        let kept = self.idle.lock().pop();
        if let Some(connection) = kept
            && let Ok(reply) = self.ask_over(connection, request()).await
        {
            return Ok(reply);
        }
        // Nothing was kept, or the server has closed what was. Everything that the demo asks may be asked twice.
        let failed = |source| NoAnswer { addr: self.addr, source };
        let connection = connect(self.addr).await.map_err(failed)?;
        self.ask_over(connection, request()).await.map_err(failed)
    }

    async fn ask_over(&self, mut connection: SendRequest<Body>, request: Request<Body>) -> Result<Reply, Box<dyn Error + Send + Sync>> {
        connection.ready().await?;
        let (parts, body) = connection.send_request(request).await?.into_parts();
        let body = to_bytes(Body::new(body), ANSWER_BYTES_MAX).await?;
        self.idle.lock().push(connection);
        Ok(Reply { status: parts.status, headers: parts.headers, body })
    }
}

async fn connect(addr: SocketAddr) -> Result<SendRequest<Body>, Box<dyn Error + Send + Sync>> {
    let stream = TcpStream::connect(addr).await?;
    stream.set_nodelay(true)?;
    let (sender, connection) = handshake(TokioIo::new(stream)).await?;
    // It ends with the sender, which this client owns.
    tokio::spawn(async move {
        if let Err(error) = connection.await {
            tracing::debug!(%error, "a connection ended early");
        }
    });
    Ok(sender)
}
