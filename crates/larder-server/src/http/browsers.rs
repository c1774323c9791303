//! What keeps the pages of others from using a browser of somebody who may reach this server: requests have to name this server, changes
//! have to come from a page of its own or from no page at all, and what is answered is not run, framed, embedded or kept.
//!
//! ```text
//!   Host      of another       -> 421   a name of an attacker's that leads here (DNS rebinding) is of the attacker's origin
//!   Origin    of another page  -> 403   a form or a script elsewhere that has the browser send something
//!   answers   headers             whatever somebody stored as HTML is shown as a page of this server otherwise
//! ```
//!
//! There is no CORS: no page of another origin reads anything here. All of this is about browsers. Who may do what is another matter.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, HOST, HeaderName, ORIGIN, REFERRER_POLICY, STRICT_TRANSPORT_SECURITY, X_CONTENT_TYPE_OPTIONS,
};
use axum::http::uri::Authority;
use axum::http::{HeaderMap, HeaderValue, Method, Uri, Version};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::peer::Peer;
use super::problem::{Kind, Problem};
use crate::tls::Tls;

/// Says whether a page asks, and from where, in browsers of today.
const SEC_FETCH_SITE: &str = "sec-fetch-site";

const CROSS_ORIGIN_RESOURCE_POLICY: HeaderName = HeaderName::from_static("cross-origin-resource-policy");

/// For all that is no page of ours: nothing in it is loaded or run, whatever media type it was stored with.
const NO_PAGE: HeaderValue =
    HeaderValue::from_static("default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'; sandbox");

/// For a page of ours that has all in it, and no script.
pub const STILL_PAGE: HeaderValue = HeaderValue::from_static(
    "default-src 'none'; style-src 'unsafe-inline'; img-src data:; frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
);

/// A year, in which browsers come by TLS alone.
const BY_TLS_ALONE: HeaderValue = HeaderValue::from_static("max-age=31536000");

/// What tells a balancer whether to send somebody here: asked by address, by name and by any name, and worth nothing to a page.
const ASKED_BY_ANY_NAME: [&str; 3] = ["/livez", "/readyz", "/startupz"];

/// The names by which this server is asked.
#[derive(Clone, Debug)]
pub struct Hosts {
    listen: IpAddr,
    configured: Vec<String>,
    /// The certificate is for some more.
    tls: Option<Arc<Tls>>,
}

impl Hosts {
    /// Those of this machine, the address where it listens, those of its certificate, and those that are configured; `*` is all.
    pub fn new(listen: SocketAddr, configured: &[String], tls: Option<Arc<Tls>>) -> Self {
        Hosts { listen: listen.ip().to_canonical(), configured: configured.to_vec(), tls }
    }

    fn takes(&self, host: &str) -> bool {
        is_own(host)
            // An address leads where it says, so nobody can have one that is this server's lead here from elsewhere.
            || address(host).is_some_and(|address| self.listen.is_unspecified() || self.listen == address)
            || self.configured.iter().any(|name| name == "*" || name.eq_ignore_ascii_case(host))
            || self.tls.as_ref().is_some_and(|tls| tls.is_for(host))
    }
}

/// An address in the place of a name.
fn address(host: &str) -> Option<IpAddr> {
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    bare.parse::<IpAddr>().ok().map(|address| address.to_canonical())
}

/// Whether it names the machine itself.
fn is_own(host: &str) -> bool {
    host.eq_ignore_ascii_case("localhost") || address(host).is_some_and(|address| address.is_loopback())
}

/// The layer of all routes.
pub async fn guard(State(hosts): State<Arc<Hosts>>, request: Request, next: Next) -> Response {
    let is_tls = request.extensions().get::<Peer>().is_some_and(|peer| peer.is_tls);
    let checked = check(&hosts, &request, is_tls);
    let by_a_name_of_its_own = matches!(checked, Ok(true));
    let mut response = match checked {
        Ok(_) => next.run(request).await,
        Err(problem) => problem.into_response(),
    };
    protect(response.headers_mut());
    // For one's own machine it would hold for every other server on it as well, whatever its port.
    if is_tls && by_a_name_of_its_own {
        response.headers_mut().insert(STRICT_TRANSPORT_SECURITY, BY_TLS_ALONE);
    }
    response
}

fn protect(headers: &mut HeaderMap) {
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    headers.insert(CROSS_ORIGIN_RESOURCE_POLICY, HeaderValue::from_static("same-origin"));
    headers.entry(CONTENT_SECURITY_POLICY).or_insert(NO_PAGE);
    // What says how long it may be kept has said so; all else is of this moment, and for who asked.
    headers.entry(CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
}

/// Whether the server was asked by another name than the machine's own, if the request may go on. HTTP/1.0 needs none.
fn check(hosts: &Hosts, request: &Request, is_tls: bool) -> Result<bool, Problem> {
    let named = named(request)?;
    if let Some(authority) = &named
        && !hosts.takes(bare(authority.host()))
        && !ASKED_BY_ANY_NAME.contains(&request.uri().path())
    {
        let detail = format!("this server is not called {}; http.hosts in its configuration says what it is called", authority.host());
        return Err(Problem::new(Kind::Misdirected, detail));
    }
    let changes = ![Method::GET, Method::HEAD, Method::OPTIONS].contains(request.method());
    if changes {
        same_origin(request.headers(), named.as_ref(), is_tls)?;
    }
    Ok(named.is_some_and(|authority| !is_own(bare(authority.host()))))
}

/// A name may end with a dot.
fn bare(host: &str) -> &str {
    host.strip_suffix('.').unwrap_or(host)
}

/// The name in the request's line, or else in its head.
fn named(request: &Request) -> Result<Option<Authority>, Problem> {
    if let Some(authority) = request.uri().authority() {
        return Ok(Some(authority.clone()));
    }
    let mut found = request.headers().get_all(HOST).iter();
    let wrong = |what: &str| Err(Problem::new(Kind::InvalidHeader, format!("host: {what}")));
    match (found.next(), found.next()) {
        (None, _) if request.version() == Version::HTTP_10 => Ok(None),
        (None, _) => wrong("it is missing"),
        (Some(_), Some(_)) => wrong("it stands there twice"),
        (Some(host), None) => match host.to_str().ok().and_then(|host| host.parse::<Authority>().ok()) {
            Some(authority) if is_plain(&authority) => Ok(Some(authority)),
            _ => wrong("it is no name with or without a port"),
        },
    }
}

/// A name, and a number behind it or nothing.
fn is_plain(authority: &Authority) -> bool {
    let rest = authority.as_str().strip_prefix(authority.host());
    rest.is_some_and(|rest| rest.is_empty() || rest.strip_prefix(':').is_some_and(|port| port.parse::<u16>().is_ok()))
}

/// Programs that are no browsers send neither header.
fn same_origin(headers: &HeaderMap, named: Option<&Authority>, is_tls: bool) -> Result<(), Problem> {
    let foreign = |detail: &str| Err(Problem::new(Kind::ForeignOrigin, detail));
    if let Some(origin) = headers.get(ORIGIN) {
        let origin = origin.to_str().ok().and_then(|origin| origin.parse::<Uri>().ok());
        let is_same = match (origin.as_ref().and_then(|origin| Some((origin.scheme_str()?, origin.authority()?))), named) {
            (Some((scheme, origin)), Some(named)) => {
                // Before a proxy that speaks TLS in our place pages have that scheme.
                (scheme == "https" || (scheme == "http" && !is_tls))
                    && origin.host().eq_ignore_ascii_case(named.host())
                    && port(origin) == port(named)
            }
            _ => false,
        };
        if !is_same {
            return foreign("a page of another origin asks for a change; only pages of this server may");
        }
    }
    match headers.get(SEC_FETCH_SITE).map(HeaderValue::as_bytes) {
        None | Some(b"same-origin" | b"none") => Ok(()),
        Some(_) => foreign("the browser says that a page of another origin asks for a change; only pages of this server may"),
    }
}

/// A port that does not go without saying.
fn port(authority: &Authority) -> Option<u16> {
    authority.port_u16().filter(|port| ![80, 443].contains(port))
}

#[cfg(test)]
mod tests {
    use axum::body::Body;

    use super::*;

    fn hosts(listen: &str, configured: &[&str]) -> Hosts {
        let configured: Vec<String> = configured.iter().map(|&name| name.to_owned()).collect();
        Hosts::new(listen.parse().expect("an address"), &configured, None)
    }

    /// What is said to a request with these headers: the kind, or nothing.
    fn said(hosts: &Hosts, method: &str, path: &str, headers: &[(&str, &str)], is_tls: bool) -> Option<u16> {
        let mut request = Request::builder().method(method).uri(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Body::empty()).expect("it is one");
        check(hosts, &request, is_tls).err().map(|problem| problem.document().status)
    }

    #[test]
    fn the_names_of_the_server_are_its_own_and_those_that_it_was_given() {
        let ask = |hosts: &Hosts, host: &str| said(hosts, "GET", "/v1/stats", &[("host", host)], false);
        let plain = hosts("127.0.0.1:7070", &[]);
        for own in ["localhost", "LOCALHOST:7070", "localhost.", "127.0.0.1:7070", "[::1]:7070", "127.0.0.9"] {
            assert_eq!(ask(&plain, own), None, "{own}");
        }
        for foreign in ["evil.example", "localhost.evil.example", "127.0.0.1.evil.example:7070", "192.168.0.7", "[fe80::1]", "0.0.0.0"] {
            assert_eq!(ask(&plain, foreign), Some(421), "{foreign}");
        }
        for wrong in ["", "user@localhost", "a b", "localhost:x", "[::1", "localhost/x"] {
            assert_eq!(ask(&plain, wrong), Some(400), "{wrong}");
        }
        let open = hosts("0.0.0.0:7070", &["Cache.example"]);
        for own in ["192.168.0.7:7070", "[fe80::1]:7070", "cache.EXAMPLE:1"] {
            assert_eq!(ask(&open, own), None, "{own}");
        }
        assert_eq!(ask(&open, "evil.example"), Some(421));
        assert_eq!(ask(&hosts("10.0.0.1:1", &[]), "10.0.0.1"), None);
        assert_eq!(ask(&hosts("10.0.0.1:1", &["*"]), "evil.example"), None);
        assert_eq!(said(&plain, "GET", "/livez", &[("host", "10.9.8.7")], false), None, "whoever balances may ask");
        assert_eq!(said(&plain, "GET", "/metrics", &[("host", "evil.example")], false), Some(421));
        assert_eq!(said(&plain, "GET", "/v1/stats", &[], false), Some(400));
        assert_eq!(said(&plain, "GET", "/v1/stats", &[("host", "localhost"), ("host", "evil.example")], false), Some(400));
        // What stands in the line of the request counts, as proxies have it.
        assert_eq!(said(&plain, "GET", "http://evil.example/v1/stats", &[("host", "localhost")], false), Some(421));
    }

    #[test]
    fn only_pages_of_the_server_itself_change_anything() {
        let hosts = hosts("127.0.0.1:7070", &["cache.example"]);
        let ask = |method: &str, more: &[(&str, &str)], is_tls| {
            said(&hosts, method, "/v1/invalidations", &[&[("host", "cache.example:7070")], more].concat(), is_tls)
        };
        let own = "http://cache.example:7070";
        assert_eq!(ask("POST", &[], false), None, "no page");
        assert_eq!(ask("POST", &[("origin", own), ("sec-fetch-site", "same-origin")], false), None);
        assert_eq!(ask("POST", &[("origin", "https://cache.example:7070")], true), None);
        assert_eq!(ask("POST", &[("origin", own)], true), Some(403), "somebody on the way could have made that page");
        for foreign in
            ["http://evil.example", "null", "http://cache.example", "http://cache.example:7071", "http://cache.example:7070.evil", "x"]
        {
            for method in ["POST", "PUT", "DELETE", "PATCH"] {
                assert_eq!(ask(method, &[("origin", foreign)], false), Some(403), "{method} {foreign}");
            }
            assert_eq!(ask("GET", &[("origin", foreign)], false), None, "it cannot read what is answered");
        }
        for site in ["cross-site", "same-site", "?"] {
            assert_eq!(ask("DELETE", &[("sec-fetch-site", site)], false), Some(403), "{site}");
        }
        let proxied = said(&hosts, "POST", "/", &[("host", "cache.example"), ("origin", "https://cache.example")], false);
        assert_eq!(proxied, None, "TLS ends before");
    }
}
