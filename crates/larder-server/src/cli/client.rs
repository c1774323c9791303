//! A running server, asked over HTTP. What the answers mean is the commands' affair; what went wrong on the way is told
//! here, with what to do about it.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;
use serde_json::Value as Json;
use ureq::http::{HeaderMap, Request, StatusCode};
use ureq::tls::TlsConfig;
use ureq::{Agent, AsSendBody};

use super::failure::Failure;
use super::trust;
use crate::config::{REFERENCE_EXPECTED, Reference};

/// Answers larger than this are not read: no value may be as large.
const ANSWER_BYTES_MAX: u64 = 1 << 32;

/// How to reach the server.
#[derive(Clone, Debug, clap::Args)]
pub struct ServerArgs {
    /// The server to ask
    #[arg(long, value_name = "URL", env = "LARDER_SERVER", default_value = "http://127.0.0.1:7070")]
    pub server: String,
    /// Where the token is that says who asks, as env:NAME or file:PATH [default: what LARDER_TOKEN holds]
    #[arg(long, value_name = "WHERE")]
    pub token: Option<String>,
    /// How long to wait for its answer
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = time)]
    pub timeout: Duration,
    /// The authority (PEM) of the server's certificate, in the place of those that the system trusts
    #[arg(long, value_name = "FILE", env = "LARDER_CA")]
    pub ca: Option<PathBuf>,
    /// The certificate (PEM) to show to the server, and its key in the same file or with --client-key
    #[arg(long, value_name = "FILE", env = "LARDER_CLIENT_CERTIFICATE")]
    pub client_certificate: Option<PathBuf>,
    /// The key (PEM) of --client-certificate
    #[arg(long, value_name = "FILE", env = "LARDER_CLIENT_KEY", requires = "client_certificate")]
    pub client_key: Option<PathBuf>,
}

/// A time on the command line.
pub fn time(text: &str) -> Result<Duration, String> {
    use crate::config::units::{TIME_EXPECTED, parse_time};
    parse_time(text).filter(|time| !time.is_zero()).ok_or_else(|| format!("expected {TIME_EXPECTED}"))
}

/// A running server.
pub struct Client {
    agent: Agent,
    timeout: Duration,
    base: String,
    tls: TlsConfig,
    /// The header that says who asks; never shown.
    bearer: Option<String>,
}

/// What the server answered.
pub struct Answer {
    /// The status.
    pub status: StatusCode,
    /// The headers.
    pub headers: HeaderMap,
    /// The body.
    pub body: Vec<u8>,
}

/// A problem, as the server tells it (RFC 9457).
#[derive(Debug, Deserialize)]
pub struct Problem {
    /// What kind of problem it is.
    #[serde(rename = "type")]
    pub kind: String,
    title: String,
    #[serde(default)]
    detail: String,
}

impl Problem {
    /// The problem in words.
    pub fn words(&self) -> String {
        if self.detail.is_empty() { self.title.clone() } else { format!("{}: {}", self.title, self.detail) }
    }
}

impl Answer {
    /// A header as text, if it is there.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// The problem that it tells of, if it is one of larder's.
    pub fn problem(&self) -> Option<Problem> {
        let told = self.header("content-type")?.starts_with("application/problem+json");
        told.then(|| serde_json::from_slice(&self.body).ok()).flatten()
    }
}

impl Client {
    /// A client of the server that the arguments name.
    ///
    /// # Errors
    /// For what is no URL of a server, and certificates that cannot be used.
    pub fn new(args: &ServerArgs) -> Result<Self, Failure> {
        let base = base(&args.server)?;
        let tls = if base.starts_with("https") { trust::of(args)? } else { TlsConfig::default() };
        // Caches are reached directly: a proxy for the web has no business between a program and its cache.
        let config = Agent::config_builder().http_status_as_error(false).timeout_global(Some(args.timeout)).proxy(None);
        let bearer = token(args.token.as_deref())?.map(|token| format!("Bearer {token}"));
        let config = config.tls_config(tls.clone());
        Ok(Self { agent: config.build().new_agent(), timeout: args.timeout, base, tls, bearer })
    }

    /// Asks without a body.
    ///
    /// # Errors
    /// When there is no answer. A problem is an answer.
    pub fn ask(&self, method: &str, path: &str) -> Result<Answer, Failure> {
        self.run(method, path, &[], ())
    }

    /// Sends a body with headers.
    ///
    /// # Errors
    /// As [`ask`](Self::ask).
    pub fn send(&self, method: &str, path: &str, headers: &[(&str, String)], body: Vec<u8>) -> Result<Answer, Failure> {
        self.run(method, path, headers, body)
    }

    /// Sends JSON, and reads JSON from the answer.
    ///
    /// # Errors
    /// When there is no answer, or it is a problem.
    pub fn send_json(&self, path: &str, body: &Json) -> Result<Json, Failure> {
        let headers = [("content-type", "application/json".to_owned())];
        self.json(self.send("POST", path, &headers, body.to_string().into_bytes())?)
    }

    /// Reads JSON.
    ///
    /// # Errors
    /// As [`send_json`](Self::send_json).
    pub fn get_json(&self, path: &str) -> Result<Json, Failure> {
        self.json(self.ask("GET", path)?)
    }

    /// The JSON of an answer.
    ///
    /// # Errors
    /// When it is a problem, or no JSON.
    pub fn json(&self, answer: Answer) -> Result<Json, Failure> {
        if !answer.status.is_success() {
            return Err(self.refused(&answer));
        }
        serde_json::from_slice(&answer.body).map_err(|_| self.stranger(&answer))
    }

    /// The failure that an answer tells of.
    pub fn refused(&self, answer: &Answer) -> Failure {
        match answer.problem() {
            Some(problem) if problem.kind.ends_with(":unauthenticated") => Failure::new(problem.words())
                .hint("LARDER_TOKEN holds the token, or --token says where it is (file:PATH); `larder token create` makes one"),
            Some(problem) => Failure::new(problem.words()),
            None => self.stranger(answer),
        }
    }

    /// Asks for an answer that goes on, which is read from what is returned. Only its beginning has to come in time.
    ///
    /// # Errors
    /// As [`ask`](Self::ask), and when the answer is a problem.
    pub fn stream(&self, path: &str, headers: &[(&str, String)]) -> Result<impl Read + Send + 'static, Failure> {
        let config = Agent::config_builder().http_status_as_error(false).proxy(None).tls_config(self.tls.clone());
        let config = config.timeout_connect(Some(self.timeout)).timeout_recv_response(Some(self.timeout));
        let request = Request::builder().method("GET").uri(format!("{}{path}", self.base));
        let request = headers.iter().fold(request, |request, (name, value)| request.header(*name, value));
        let request = self.bearer.iter().fold(request, |request, bearer| request.header("authorization", bearer));
        let request = request.body(()).map_err(|error| Failure::new(format!("this cannot be asked over HTTP: {error}")))?;
        let response = config.build().new_agent().run(request).map_err(|error| self.unreachable(&error))?;
        let is_stream = response.headers().get("content-type").is_some_and(|media| media == "text/event-stream");
        if response.status().is_success() && is_stream {
            return Ok(response.into_body().into_reader());
        }
        let (parts, mut body) = response.into_parts();
        let body = body.read_to_vec().map_err(|error| self.unreachable(&error))?;
        Err(self.refused(&Answer { status: parts.status, headers: parts.headers, body }))
    }

    fn stranger(&self, answer: &Answer) -> Failure {
        let what = format!("what answers at {} does not speak as larder does (status {})", self.base, answer.status.as_u16());
        Failure::new(what).hint("is it another program's address? --server URL or LARDER_SERVER says where larder is")
    }

    fn run<B: AsSendBody>(&self, method: &str, path: &str, headers: &[(&str, String)], body: B) -> Result<Answer, Failure> {
        let request = Request::builder().method(method).uri(format!("{}{path}", self.base));
        let request = headers.iter().fold(request, |request, (name, value)| request.header(*name, value));
        let request = self.bearer.iter().fold(request, |request, bearer| request.header("authorization", bearer));
        let request = request.body(body).map_err(|error| Failure::new(format!("this cannot be asked over HTTP: {error}")))?;
        let response = self.agent.run(request).map_err(|error| self.unreachable(&error))?;
        let (parts, mut body) = response.into_parts();
        let body = body.with_config().limit(ANSWER_BYTES_MAX).read_to_vec().map_err(|error| self.unreachable(&error))?;
        Ok(Answer { status: parts.status, headers: parts.headers, body })
    }

    fn unreachable(&self, error: &ureq::Error) -> Failure {
        let base = &self.base;
        match error {
            ureq::Error::Timeout(_) => {
                Failure::new(format!("the server at {base} did not answer in time")).hint("--timeout says how long to wait")
            }
            error if base.starts_with("https") => Failure::new(format!("no server answers by TLS at {base}: {error}"))
                .hint("--ca FILE says whose certificates to trust, and --client-certificate FILE which one to show"),
            error => Failure::new(format!("no server answers at {base}: {error}"))
                .hint("start one with `larder serve`, or say where it is with --server URL or LARDER_SERVER"),
        }
    }
}

/// The token, from where it is said to be.
fn token(at: Option<&str>) -> Result<Option<String>, Failure> {
    let environment: BTreeMap<String, String> =
        std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?))).collect();
    let text = match at {
        None => environment.get("LARDER_TOKEN").filter(|text| !text.is_empty()).cloned(),
        Some(at) => {
            let reference = Reference::parse(at).ok_or_else(|| Failure::new(format!("--token: expected {REFERENCE_EXPECTED}")))?;
            let found = reference.resolve(&environment);
            Some(found.map_err(|why| Failure::new(format!("--token {reference}: {why}")))?)
        }
    };
    // A header could not have anything else in it, and a message must not.
    let is_token = |text: &String| crate::access::token::Token::parse(text.as_bytes()).is_some();
    match text {
        Some(text) if !is_token(&text) => Err(Failure::new("what is there is no token of larder's").hint("it looks like ldr_ID_SECRET")),
        text => Ok(text),
    }
}

/// The URL of a server without a slash at its end; an address alone will do.
fn base(server: &str) -> Result<String, Failure> {
    let (scheme, rest) = server.split_once("://").unwrap_or(("http", server));
    let rest = rest.trim_end_matches('/');
    if !["http", "https"].contains(&scheme) || rest.is_empty() || rest.contains(['?', '#', '@']) || rest.contains(char::is_whitespace) {
        let what = format!("\"{}\" is no server's address", server.escape_debug());
        return Err(Failure::new(what).hint("it looks like http://127.0.0.1:7070, or https:// for one that speaks TLS"));
    }
    Ok(format!("{scheme}://{rest}"))
}

/// The path of an entry.
pub fn entry_path(key: &str) -> String {
    format!("/v1/entries/{}", percent_encoded(key.as_bytes()))
}

/// Bytes as a part of a URL. Dots alone would be taken for a step up, so they are written out.
pub fn percent_encoded(bytes: &[u8]) -> String {
    let only_dots = bytes.iter().all(|byte| *byte == b'.');
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'~' | b':') || (byte == b'.' && !only_dots);
    bytes.iter().map(|byte| if plain(*byte) { char::from(*byte).to_string() } else { format!("%{byte:02X}") }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_alone_is_a_server() {
        assert_eq!(base("127.0.0.1:7070").as_deref(), Ok("http://127.0.0.1:7070"));
        assert_eq!(base("http://cache.local/larder/").as_deref(), Ok("http://cache.local/larder"));
        assert_eq!(base("https://cache/").as_deref(), Ok("https://cache"));
        for bad in ["", "http://", "https://", "ftp://cache", "a b", "http://a?x", "http://ada:secret@cache"] {
            assert!(base(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn keys_become_one_segment() {
        assert_eq!(entry_path("features:AAPL:5m"), "/v1/entries/features:AAPL:5m");
        assert_eq!(entry_path("a/b c%\u{e4}?"), "/v1/entries/a%2Fb%20c%25%C3%A4%3F");
        assert_eq!([entry_path(".."), entry_path("a.b")], ["/v1/entries/%2E%2E", "/v1/entries/a.b"]);
    }

    #[test]
    fn a_server_that_is_not_there_is_told_with_what_to_do() {
        // Taken and given up again, so that nobody listens there.
        let port = std::net::TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a free port").port();
        let server = format!("127.0.0.1:{port}");
        let timeout = Duration::from_secs(5);
        let args = ServerArgs { server, token: None, timeout, ca: None, client_certificate: None, client_key: None };
        let client = Client::new(&args).expect("it is an address");
        let failure = client.ask("GET", "/v1/stats").err().expect("nobody is there").to_string();
        assert!(failure.contains("no server answers at http://127.0.0.1:"), "{failure}");
        assert!(failure.contains("larder serve"), "{failure}");
    }

    #[test]
    fn who_is_not_known_is_told_how_to_be() {
        let args = ServerArgs {
            server: "127.0.0.1:1".into(),
            token: None,
            timeout: Duration::ZERO,
            ca: None,
            client_certificate: None,
            client_key: None,
        };
        let problem = serde_json::json!({ "type": "urn:larder:problem:unauthenticated", "title": "It is not known who asks" });
        let headers = [("content-type", "application/problem+json")].map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()));
        let answer = Answer { status: StatusCode::UNAUTHORIZED, headers: headers.into_iter().collect(), body: problem.to_string().into() };
        let told = Client::new(&args).expect("it is an address").refused(&answer).to_string();
        assert!(told.contains("It is not known who asks") && told.contains("LARDER_TOKEN"), "{told}");
    }
}
