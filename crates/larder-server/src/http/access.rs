//! Who may do what, managed while the server runs; and the sessions of people. What is secret is told once, to who made it, and never
//! again.

use std::time::Duration;

use axum::Extension;
use axum::Json as Answer;
use axum::extract::{Path, State};
use axum::http::header::{CACHE_CONTROL, SET_COOKIE};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use larder::Pattern;
use larder::access::{Decision, Grant, Operation, Policy, Source, Target};
use serde::{Deserialize, Serialize};

use super::audited::Facts;
use super::door::{SESSION_COOKIE, Who};
use super::octets::Octets;
use super::payload::Json;
use super::peer::Peer;
use super::problem::{Kind, Problem};
use super::{Shared, no_content};
use crate::access::book::{Person, Unchanged};
use crate::access::password::PASSWORD_LEN;
use crate::access::{NotLetIn, Proof};
use crate::audit::Name;
use crate::config::units::{TIME_EXPECTED, parse_time};

/// How long a secret is good beside the one that takes its place, unless it is said.
const OVERLAP: Duration = Duration::from_secs(24 * 3_600);

impl From<Unchanged> for Problem {
    fn from(unchanged: Unchanged) -> Self {
        match unchanged {
            Unchanged::Unknown(_) => Problem::new(Kind::NotFound, unchanged.to_string()),
            Unchanged::Invalid(_) => Problem::new(Kind::InvalidRequest, unchanged.to_string()),
            Unchanged::NoChance => Problem::new(Kind::Internal, unchanged.to_string()),
        }
    }
}

/// A secret in a request, which nothing shows.
#[derive(Deserialize)]
#[serde(transparent)]
pub struct Hidden(String);

impl std::fmt::Debug for Hidden {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("***")
    }
}

/// Who wants a session.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Login {
    principal: String,
    password: Hidden,
}

/// Who asks.
#[derive(Debug, Serialize)]
pub struct Myself {
    principal: Option<String>,
    roles: Vec<String>,
    /// `token`, `session`, or `none` where nobody has to be somebody.
    proof: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    expires_ms: Option<u64>,
    /// The word for what changes something in this session.
    #[serde(skip_serializing_if = "Option::is_none")]
    csrf: Option<String>,
}

/// `POST /v1/access/session`: a session for who has a password, in a cookie that no script of a page can read.
///
/// # Errors
/// [`Kind::Unauthenticated`], without saying whether there is such a person.
pub async fn begin_session(
    State(app): State<Shared>,
    peer: Option<Extension<Peer>>,
    facts: Facts,
    Json(login): Json<Login>,
) -> Result<Response, Problem> {
    facts.about(|| [Name::new("principal", login.principal.as_str())]);
    if !app.door.is_guarded() {
        return Err(Problem::new(Kind::InvalidRequest, "nobody has to say who they are here; access.enabled says so"));
    }
    let address = peer.as_ref().map(|Extension(peer)| peer.addr.ip());
    let (backoff, id) = (app.door.backoff(), login.principal.as_bytes());
    backoff.check(address, id, app.door.now_ms()).map_err(|held| {
        let detail = format!("the name or the password was wrong too often; come again in {} s", held.seconds());
        Problem::new(Kind::TooManyAttempts, detail)
    })?;
    let identity = app.door.by_password(&login.principal, login.password.0.as_bytes()).await.inspect_err(|refused| {
        if *refused == NotLetIn::Wrong {
            backoff.failed(address, id, app.door.now_ms());
        }
    })?;
    let Proof::Password(hashed) = &identity.proof else { unreachable!("it was proven with a password") };
    let (now, life) = (app.door.now_ms(), app.door.session_life());
    let expires_ms = now.saturating_add(u64::try_from(life.as_millis()).unwrap_or(u64::MAX));
    let begun = app.door.sessions().begin(&identity.principal, hashed, expires_ms, now);
    let begun = begun.map_err(|error| Problem::from(Unchanged::from(error)))?;
    // Where TLS ends before this server, whoever ends it has to see to that word.
    let secure = if peer.is_some_and(|Extension(peer)| peer.is_tls) { "; Secure" } else { "" };
    let cookie = format!("{SESSION_COOKIE}={}; Path=/; HttpOnly; SameSite=Strict; Max-Age={}{secure}", begun.secret, life.as_secs());
    let cookie = HeaderValue::try_from(cookie).expect("it is letters, digits and signs");
    let told = Myself {
        principal: Some(identity.principal.name().to_owned()),
        roles: identity.principal.roles().to_vec(),
        proof: "session",
        expires_ms: Some(expires_ms),
        csrf: Some(begun.word),
    };
    Ok(([(SET_COOKIE, cookie), (CACHE_CONTROL, NO_STORE)], Answer(told)).into_response())
}

const NO_STORE: HeaderValue = HeaderValue::from_static("no-store");

/// `GET /v1/access/session`: who asks.
///
/// # Errors
/// None that the door has not told.
pub async fn who(State(app): State<Shared>, who: Who, headers: HeaderMap) -> Result<Response, Problem> {
    let identity = who.identity();
    let is_session = identity.is_some_and(|who| matches!(who.proof, Proof::Session { .. }));
    let secret = super::door::cookie(&headers)?.filter(|_| is_session);
    let csrf = secret.and_then(|secret| app.door.by_cookie(secret).ok()).map(|(_, word)| word);
    let proof = match identity.map(|who| &who.proof) {
        None => "none",
        Some(Proof::Token { .. }) => "token",
        Some(Proof::Certificate(_)) => "certificate",
        Some(Proof::Password(_) | Proof::Session { .. }) => "session",
    };
    let told = Myself {
        principal: identity.map(|who| who.principal.name().to_owned()),
        roles: identity.map(|who| who.principal.roles().to_vec()).unwrap_or_default(),
        proof,
        expires_ms: identity.and_then(|who| who.expires_ms),
        csrf,
    };
    Ok(([(CACHE_CONTROL, NO_STORE)], Answer(told)).into_response())
}

/// `DELETE /v1/access/session`.
pub async fn end_session(State(app): State<Shared>, who: Who) -> Response {
    if let Some(Proof::Session { session, .. }) = who.identity().map(|who| &who.proof) {
        app.door.sessions().end(session);
    }
    let gone = HeaderValue::from_static("larder_session=; Path=/; HttpOnly; SameSite=Strict; Max-Age=0");
    ([(SET_COOKIE, gone)], no_content()).into_response()
}

/// A principal, as it is told.
#[derive(Debug, Serialize)]
struct Told {
    name: String,
    roles: Vec<String>,
    /// Its own grants and those of its roles.
    grants: Vec<String>,
    /// Whether it stands in the configuration, and is changed there.
    configured: bool,
}

/// All principals.
#[derive(Debug, Serialize)]
pub struct Principals {
    principals: Vec<Told>,
}

/// `GET /v1/access/principals`.
pub async fn principals(State(app): State<Shared>) -> Answer<Principals> {
    let principals = app.door.look(|book, policy| {
        let told = |principal: &larder::access::Principal| Told {
            name: principal.name().to_owned(),
            roles: principal.roles().to_vec(),
            grants: principal.rights().grants().map(|(grant, _)| grant.to_string()).collect(),
            configured: !book.principals.contains_key(principal.name()),
        };
        policy.principals().map(told).collect()
    });
    Answer(Principals { principals })
}

/// What a principal is to be.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewPrincipal {
    #[serde(default)]
    roles: Vec<String>,
    #[serde(default)]
    grants: Vec<String>,
    #[serde(default)]
    password: Option<Hidden>,
}

/// `PUT /v1/access/principals/{name}`.
///
/// # Errors
/// [`Kind::InvalidRequest`] for a name, a grant or a password that is none; [`Kind::NotFound`] for a role that there is not.
pub async fn put_principal(
    State(app): State<Shared>,
    Path(name): Path<String>,
    Json(new): Json<NewPrincipal>,
) -> Result<Response, Problem> {
    let grants = new.grants.iter().map(|text| text.parse::<Grant>()).collect::<larder::Result<Vec<_>>>();
    let grants = grants.map_err(|error| Problem::new(Kind::InvalidRequest, error.message()))?;
    let password = match new.password {
        None => None,
        Some(Hidden(password)) if PASSWORD_LEN.contains(&password.len()) => Some(app.door.hash(password.into_bytes()).await?),
        Some(_) => return Err(Problem::new(Kind::InvalidRequest, "a password has 10 to 256 bytes")),
    };
    let person = Person { roles: new.roles, grants, password };
    app.door.change(move |book, _| book.put_principal(&name, person)).await?;
    Ok(no_content())
}

/// `DELETE /v1/access/principals/{name}`: with its tokens and sessions.
///
/// # Errors
/// [`Kind::NotFound`].
pub async fn remove_principal(State(app): State<Shared>, Path(name): Path<String>) -> Result<Response, Problem> {
    app.door.change(move |book, _| book.remove_principal(&name)).await?;
    Ok(no_content())
}

/// A token, as it is told: nothing of its secrets.
#[derive(Debug, Serialize)]
struct ToldToken {
    id: String,
    principal: String,
    label: String,
    created_ms: u64,
    last_used_ms: Option<u64>,
    /// When each of its secrets expires; null: never.
    secrets: Vec<Option<u64>>,
}

/// All tokens of the book.
#[derive(Debug, Serialize)]
pub struct Tokens {
    tokens: Vec<ToldToken>,
}

/// `GET /v1/access/tokens`.
pub async fn tokens(State(app): State<Shared>) -> Answer<Tokens> {
    let (now, used) = (app.door.now_ms(), app.door.tokens_used());
    let tokens = app.door.look(|book, _| {
        let told = |(id, token): (&String, &crate::access::book::Issued)| ToldToken {
            id: id.clone(),
            principal: token.principal.clone(),
            label: token.label.clone(),
            created_ms: token.created_ms,
            last_used_ms: used.get(id).copied().filter(|used| *used > 0),
            secrets: token.secrets.iter().filter(|secret| secret.is_live(now)).map(|secret| secret.expires_ms).collect(),
        };
        book.tokens.iter().map(told).collect()
    });
    Answer(Tokens { tokens })
}

/// A token to be made.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewToken {
    principal: String,
    #[serde(default)]
    label: String,
    /// A time such as `90d`; without it, for ever.
    #[serde(default)]
    expires_in: Option<String>,
}

/// A token that was made: the only time that it is told.
#[derive(Debug, Serialize)]
pub struct Made {
    id: String,
    token: String,
}

fn time(name: &str, text: Option<&str>) -> Result<Option<Duration>, Problem> {
    let read = |text: &str| {
        let wrong = || Problem::new(Kind::InvalidRequest, format!("{name}: expected {TIME_EXPECTED}"));
        parse_time(text).filter(|time| !time.is_zero()).ok_or_else(wrong)
    };
    text.map(read).transpose()
}

/// `POST /v1/access/tokens`.
///
/// # Errors
/// [`Kind::NotFound`] for a principal that there is not.
pub async fn create_token(State(app): State<Shared>, facts: Facts, Json(new): Json<NewToken>) -> Result<Response, Problem> {
    facts.about(|| [Name::new("principal", new.principal.as_str())]);
    let (now, life) = (app.door.now_ms(), time("expires_in", new.expires_in.as_deref())?);
    let made = app.door.change(move |book, policy| {
        known(policy, &new.principal)?;
        book.create_token(&new.principal, &new.label, life, now)
    });
    let made = made.await?;
    facts.about(|| [Name::new("token", made.id())]);
    Ok(told_once(&made))
}

/// Refuses a principal that there is not.
///
/// # Errors
/// [`Unchanged::Unknown`].
pub fn known(policy: &Policy, principal: &str) -> Result<(), Unchanged> {
    let unknown = || Unchanged::Unknown(format!("principal \"{}\"", principal.escape_debug()));
    policy.get(principal).map(drop).ok_or_else(unknown)
}

fn told_once(token: &crate::access::token::Token) -> Response {
    let made = Made { id: token.id().to_owned(), token: token.reveal() };
    (StatusCode::CREATED, [(CACHE_CONTROL, NO_STORE)], Answer(made)).into_response()
}

/// How a token is to be rotated.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Rotation {
    /// How long the secret before is good; a day unless it is said.
    overlap: Option<String>,
    /// How long the new one is.
    expires_in: Option<String>,
}

/// `POST /v1/access/tokens/{id}/rotate`.
///
/// # Errors
/// [`Kind::NotFound`].
pub async fn rotate_token(State(app): State<Shared>, Path(id): Path<String>, Json(asked): Json<Rotation>) -> Result<Response, Problem> {
    let overlap = time("overlap", asked.overlap.as_deref())?.unwrap_or(OVERLAP);
    let (now, life) = (app.door.now_ms(), time("expires_in", asked.expires_in.as_deref())?);
    Ok(told_once(&app.door.change(move |book, _| book.rotate(&id, (overlap, life), now)).await?))
}

/// `DELETE /v1/access/tokens/{id}`: what is open with it is closed within a second.
///
/// # Errors
/// [`Kind::NotFound`].
pub async fn revoke_token(State(app): State<Shared>, Path(id): Path<String>) -> Result<Response, Problem> {
    app.door.change(move |book, _| book.revoke(&id)).await?;
    Ok(no_content())
}

/// What is to be explained: an operation, and what with: one of the three, or the server.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Question {
    principal: String,
    operation: String,
    #[serde(default)]
    key: Option<Octets>,
    #[serde(default)]
    tag: Option<Octets>,
    #[serde(default)]
    pattern: Option<Octets>,
}

/// Whether it may be done, and which grant says so.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct Explained {
    /// Whether it may be done.
    pub allowed: bool,
    /// The grant that decided; null: none allows it.
    pub grant: Option<String>,
    /// The role that it comes from; null: the principal's own, or none.
    pub role: Option<String>,
}

/// `POST /v1/access/explain`.
///
/// # Errors
/// [`Kind::NotFound`] for a principal that there is not, [`Kind::InvalidRequest`] for an operation or a pattern that is none.
pub async fn explain(State(app): State<Shared>, Json(question): Json<Question>) -> Result<Answer<Explained>, Problem> {
    let part = |part: &Option<Octets>| part.as_ref().map(|octets| octets.0.clone());
    let what = [part(&question.key), part(&question.tag), part(&question.pattern)];
    Ok(Answer(app.door.look(|_, policy| decided(policy, &question.principal, &question.operation, what))?))
}

/// A decision of the policy, as it is told.
///
/// # Errors
/// See [`explain`].
pub fn decided(
    policy: &Policy,
    principal: &str,
    operation: &str,
    [key, tag, pattern]: [Option<Vec<u8>>; 3],
) -> Result<Explained, Unchanged> {
    known(policy, principal)?;
    let principal = policy.get(principal).expect("it is known");
    let operation: Operation = operation.parse()?;
    let pattern = pattern.map(Pattern::new).transpose()?;
    let target = match (&key, &tag, &pattern) {
        (Some(key), Some(tag), None) => Target::Tagged { key, tag },
        (Some(key), None, None) => Target::Key(key),
        (None, Some(tag), None) => Target::Tag(tag),
        (None, None, Some(pattern)) => Target::Pattern(pattern),
        (None, None, None) if operation.is_about_keys() => Target::Everything,
        (None, None, None) => Target::Server,
        _ => return Err(Unchanged::Invalid("a pattern stands alone, without a key or a tag".to_owned())),
    };
    let Decision { allowed, by } = principal.rights().decide(operation, target);
    let role = by.and_then(|(_, source)| if let Source::Role(role) = source { Some(role.to_string()) } else { None });
    Ok(Explained { allowed, grant: by.map(|(grant, _)| grant.to_string()), role })
}
