//! HTTP to one server in one of its lives, over one connection: what a client asks, what it is answered, and why it may not be.
//! It knows nothing of caches.

use std::net::SocketAddr;
use std::time::Duration;

use axum::body::{Body, to_bytes};
use axum::http::{HeaderMap, Method, Request, StatusCode};
use bytes::Bytes;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use larder_testkit::chaos::Life;
use serde_json::Value;
use tokio::net::TcpStream;
use tokio::time::timeout;

/// Answers larger than this are not read; those here have a few kilobytes.
const ANSWER_BYTES_MAX: usize = 1 << 20;

/// A request to be.
#[derive(Clone, Debug)]
pub struct Asked {
    pub method: Method,
    pub path: String,
    pub headers: Vec<(&'static str, String)>,
    pub body: Bytes,
}

impl Asked {
    pub fn new(method: Method, path: impl Into<String>) -> Self {
        Asked { method, path: path.into(), headers: Vec::new(), body: Bytes::new() }
    }

    /// About an entry.
    pub fn entry(method: Method, whole_key: &str) -> Self {
        Asked::new(method, format!("/v1/entries/{whole_key}"))
    }

    pub fn post(path: &str, body: &Value) -> Self {
        Asked::new(Method::POST, path).header("content-type", "application/json").body(body.to_string())
    }

    pub fn header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    pub fn body(mut self, body: impl Into<Bytes>) -> Self {
        self.body = body.into();
        self
    }
}

/// What was answered.
#[derive(Clone, Debug)]
pub struct Reply {
    pub status: StatusCode,
    headers: HeaderMap,
    pub body: Bytes,
}

impl Reply {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// The body as JSON; null where it is none.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }

    /// The last part of the type of a problem.
    pub fn problem(&self) -> Option<String> {
        let kind = self.json()["type"].as_str()?.strip_prefix("urn:larder:problem:")?.to_owned();
        Some(kind)
    }
}

/// Why there is no answer.
#[derive(Debug)]
pub enum NoAnswer {
    /// The connection ended.
    Broken(String),
    /// It did not come in time.
    Late,
}

/// A connection. The server that answers on it is the one that took it, so its life is known.
#[derive(Debug)]
pub struct Connection {
    pub life: Life,
    sender: SendRequest<Body>,
}

impl Connection {
    pub async fn open(addr: SocketAddr, life: Life, limit: Duration) -> Result<Self, NoAnswer> {
        let broken = |error: &dyn std::fmt::Display| NoAnswer::Broken(error.to_string());
        let opening = async {
            let stream = TcpStream::connect(addr).await.map_err(|error| broken(&error))?;
            stream.set_nodelay(true).map_err(|error| broken(&error))?;
            handshake(TokioIo::new(stream)).await.map_err(|error| broken(&error))
        };
        let (sender, connection) = timeout(limit, opening).await.map_err(|_| NoAnswer::Late)??;
        // It ends with the sender; that it was cut off is seen there, too.
        tokio::spawn(async move { drop(connection.await) });
        Ok(Connection { life, sender })
    }

    /// Whether the other end has not closed it, as far as is known.
    pub fn is_open(&self) -> bool {
        !self.sender.is_closed()
    }

    /// Asks, and reads the whole answer. After anything else than an answer the connection must not be used again.
    pub async fn ask(&mut self, asked: Asked, limit: Duration) -> Result<Reply, NoAnswer> {
        let Asked { method, path, headers, body } = asked;
        let request = Request::builder().method(method).uri(path).header("host", "localhost");
        let request = headers.into_iter().fold(request, |request, (name, value)| request.header(name, value));
        let request = request.body(Body::from(body)).expect("requests here are well formed");
        let broken = |error: &dyn std::fmt::Display| NoAnswer::Broken(error.to_string());
        let answering = async {
            self.sender.ready().await.map_err(|error| broken(&error))?;
            let (parts, body) = self.sender.send_request(request).await.map_err(|error| broken(&error))?.into_parts();
            let body = to_bytes(Body::new(body), ANSWER_BYTES_MAX).await.map_err(|error| broken(&error))?;
            Ok(Reply { status: parts.status, headers: parts.headers, body })
        };
        timeout(limit, answering).await.map_err(|_| NoAnswer::Late)?
    }
}
