//! Who asks over HTTP, and whether they may: each route says in the table of endpoints what it needs, and this is asked before its handler.
//!
//! ```text
//!   Authorization: Bearer ldr_..  ──┐
//!   Cookie: larder_session=..     ──┼──> Identity ──> what the route needs ──> handler, which checks what stands in the body
//!   a certificate of the client's ──┘
//! ```
//!
//! Where nobody has to say who they are, all of it is let through.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::body::{Body, HttpBody};
use axum::extract::{FromRequestParts, Request, State};
use axum::http::header::{AUTHORIZATION, COOKIE};
use axum::http::request::Parts;
use axum::http::{HeaderMap, Method, Uri};
use axum::middleware::Next;
use axum::response::Response;
use bytes::Bytes;
use hyper::body::{Frame, SizeHint};
use larder::access::{Operation, Target};
use larder::{Item, Names};

use super::Shared;
use super::audited::Facts;
use super::payload::{BodyMax, ENTRIES, SOURCES, key_in};
use super::problem::{Kind, Problem};
use crate::access::allowance::{Connected, TooMuch};
use crate::access::token::Token;
use crate::access::{Identity, NotLetIn};
use crate::tls::PeerNames;

/// The cookie of a person's session.
pub const SESSION_COOKIE: &str = "larder_session";

/// The header with the word that what changes something needs, where a session asks.
pub const CSRF_HEADER: &str = "larder-csrf";

/// What a route needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// Nothing; and why.
    Nothing(&'static str),
    /// To be somebody.
    Somebody,
    /// An operation on the server.
    Server(Operation),
    /// Operations on the key in the path of an entry.
    Entry(&'static [Operation]),
    /// Operations on the name in the path of a source.
    Source(&'static [Operation]),
    /// An operation on what stands in the body, which the handler checks, each of it.
    Body(Operation),
    /// To read: what the handler tells is what may be read.
    Readable,
    /// To emit, unless the request is signed, which the handler checks.
    EmitOrSigned,
}

/// Who asks; nobody in particular where nobody has to say who they are.
#[derive(Clone, Debug)]
pub struct Who(Option<Arc<Identity>>);

impl Who {
    /// Somebody, if anybody has to be.
    pub fn identity(&self) -> Option<&Arc<Identity>> {
        self.0.as_ref()
    }

    /// Who asks on a route that needs nothing, where that can be known; nobody in particular where nobody has to say who they are.
    pub fn if_known(app: &Shared, request: &Request) -> Option<Who> {
        if !app.door.is_guarded() {
            return Some(Who(None));
        }
        let peer = request.extensions().get::<PeerNames>();
        prove(app, request.method(), request.headers(), peer).ok().map(|identity| Who(Some(identity)))
    }

    /// Refuses what they may not do.
    ///
    /// # Errors
    /// [`Kind::Forbidden`].
    pub fn check(&self, operation: Operation, target: Target<'_>) -> Result<(), Problem> {
        self.0.as_ref().map_or(Ok(()), |who| Ok(who.principal.check(operation, target)?))
    }

    /// Refuses what they may not write.
    ///
    /// # Errors
    /// [`Kind::Forbidden`].
    pub fn check_item(&self, key: &[u8], item: &Item<Bytes>) -> Result<(), Problem> {
        self.0.as_ref().map_or(Ok(()), |who| Ok(item.permitted_to(&who.principal, key)?))
    }

    /// Refuses what they may not invalidate.
    ///
    /// # Errors
    /// [`Kind::Forbidden`], and what is wrong with the names.
    pub fn check_names(&self, names: &Names) -> Result<(), Problem> {
        self.0.as_ref().map_or(Ok(()), |who| Ok(names.permitted_to(&who.principal)?))
    }

    /// Whether they may read a key.
    pub fn may_read(&self, key: &[u8]) -> bool {
        self.0.as_ref().is_none_or(|who| who.may_read(key))
    }

    /// Whether they may read whatever there is.
    pub fn reads_all(&self) -> bool {
        self.0.as_ref().is_none_or(|who| who.reads_all())
    }
}

impl FromRequestParts<Shared> for Who {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &Shared) -> Result<Self, Problem> {
        match parts.extensions.get::<Who>() {
            Some(who) => Ok(who.clone()),
            None if !app.door.is_guarded() => Ok(Who(None)),
            // A route that was let through without, and asks for it: it has a fault, and stays shut.
            None => Err(unproven("say who you are")),
        }
    }
}

/// Asked before a route's handler.
///
/// # Errors
/// [`Kind::Unauthenticated`], [`Kind::Forbidden`].
pub async fn pass((State(app), need): (State<Shared>, Need), mut request: Request, next: Next) -> Result<Response, Problem> {
    if app.door.is_guarded() {
        let open = matches!(need, Need::Nothing(_)) || need == Need::EmitOrSigned && app.intake.is_signed(request.headers());
        if !open {
            let peer = request.extensions().get::<PeerNames>();
            let identity = prove(&app, request.method(), request.headers(), peer)?;
            // Before it is asked whether they may: who was refused is what a record of that is about.
            request.extensions().get::<Facts>().into_iter().for_each(|facts| facts.by(identity.principal.name()));
            let who = Who(Some(identity));
            let held = take(&app, &who, &mut request)?;
            allow(&who, need, request.uri())?;
            request.extensions_mut().insert(who);
            let response = next.run(request).await;
            return Ok(match held {
                // An answer that is sent as it comes is under way until its end.
                Some(held) if response.body().size_hint().exact().is_none() => response.map(|body| Body::new(Held { body, _held: held })),
                _ => response,
            });
        }
    }
    Ok(next.run(request).await)
}

/// Counts a request of who asks, and says how large its body may be.
///
/// # Errors
/// [`Kind::TooManyRequests`].
fn take(app: &Shared, who: &Who, request: &mut Request) -> Result<Option<Connected>, Problem> {
    let Some(identity) = who.identity() else { return Ok(None) };
    let (usages, now_ms) = (app.door.usages(), app.door.now_ms());
    let Some(connected) = usages.connect(identity.principal.name(), now_ms)? else { return Ok(None) };
    connected.take(now_ms)?;
    let bytes = usages.of_roles(identity.principal.roles()).request_bytes_max;
    if bytes > 0 {
        request.extensions_mut().insert(BodyMax(bytes));
    }
    Ok(Some(connected))
}

impl From<TooMuch> for Problem {
    fn from(too_much: TooMuch) -> Self {
        Problem::new(Kind::TooManyRequests, too_much.to_string()).limit(too_much.limit().into())
    }
}

/// A body that counts as under way until it is sent or given up.
struct Held {
    body: Body,
    _held: Connected,
}

impl HttpBody for Held {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// Refuses what the route needs and they may not do. What stands in a body is the handler's to check.
fn allow(who: &Who, need: Need, uri: &Uri) -> Result<(), Problem> {
    let each = |operations: &[Operation], prefix: &str| {
        let key = key_in(uri.path(), prefix)?;
        operations.iter().try_for_each(|operation| who.check(*operation, Target::Key(&key)))
    };
    let somewhere = |operation: Operation| {
        let rights = who.0.as_ref().map(|who| who.principal.rights());
        match rights.is_none_or(|rights| rights.allows_somewhere(operation)) {
            true => Ok(()),
            // Nothing that the body could name would be allowed.
            false => who.check(operation, Target::Everything),
        }
    };
    match need {
        Need::Nothing(_) | Need::Somebody => Ok(()),
        Need::Server(operation) => who.check(operation, Target::Server),
        Need::Entry(operations) => each(operations, ENTRIES),
        Need::Source(operations) => each(operations, SOURCES),
        Need::Body(operation) => somewhere(operation),
        Need::Readable => somewhere(Operation::Read),
        Need::EmitOrSigned => who.check(Operation::Emit, Target::Server),
    }
}

/// Who asks, proven by a token, a session, or the certificate of the connection, in this order. A token or session that is given and wrong
/// is refused, whatever else is given.
fn prove(app: &Shared, method: &Method, headers: &HeaderMap, peer: Option<&PeerNames>) -> Result<Arc<Identity>, Problem> {
    let mut given = headers.get_all(AUTHORIZATION).iter();
    if let Some(authorization) = given.next() {
        if given.next().is_some() {
            return Err(unproven("there are two Authorization headers"));
        }
        let bytes = authorization.as_bytes();
        let (scheme, token) = bytes.split_at_checked(7).ok_or_else(wrong)?;
        let token = Token::parse(token).filter(|_| scheme.eq_ignore_ascii_case(b"bearer "));
        // Looked at however many were wrong before: a token cannot be guessed, and behind a proxy all come from one address.
        return app.door.by_token(&token.ok_or_else(wrong)?).map_err(|_| wrong());
    }
    let Some(secret) = cookie(headers)? else {
        let certified = peer.and_then(|names| app.door.by_certificate(names));
        return certified.ok_or_else(|| unproven("send a token, as \"Authorization: Bearer ldr_..\""));
    };
    let (identity, word) = app.door.by_cookie(secret).map_err(|_| wrong())?;
    let is_safe = matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS);
    let given = headers.get(CSRF_HEADER).map(|value| value.as_bytes()).unwrap_or_default();
    if !is_safe && !crate::access::session::Sessions::is_word(&word, given) {
        let detail = format!("a session changes something only with the header {CSRF_HEADER} that it was given when it began");
        return Err(Problem::new(Kind::Forbidden, detail));
    }
    Ok(identity)
}

/// The session's cookie, if there is one.
///
/// # Errors
/// Where there are two: another host of the domain may have set one.
pub fn cookie(headers: &HeaderMap) -> Result<Option<&[u8]>, Problem> {
    let pairs = headers.get_all(COOKIE).iter().flat_map(|value| value.as_bytes().split(|byte| *byte == b';'));
    let name = [SESSION_COOKIE.as_bytes(), b"="].concat();
    let mut found = pairs.filter_map(|pair| pair.trim_ascii().strip_prefix(&name[..]));
    let first = found.next();
    if found.next().is_some() { Err(unproven("there are two sessions")) } else { Ok(first) }
}

fn unproven(detail: &str) -> Problem {
    Problem::new(Kind::Unauthenticated, detail)
}

/// The same for what is unknown, wrong, over and taken back.
fn wrong() -> Problem {
    unproven("that is no token or session that is good here")
}

impl From<NotLetIn> for Problem {
    fn from(refused: NotLetIn) -> Self {
        match refused {
            NotLetIn::Wrong => unproven("that is nobody's name and password"),
            NotLetIn::Busy => Problem::new(Kind::Overloaded, "too many passwords are looked at just now"),
        }
    }
}
