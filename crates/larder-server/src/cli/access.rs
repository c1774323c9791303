//! `larder init`, `larder token` and `larder access`: who may do what. Asked of a running server, or with `--data` or `--config` of the
//! files of one that does not run.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, SystemTime};

use clap::{Args, Subcommand};
use larder::access::Policy;
use serde_json::{Value as Json, json};
use ureq::http::StatusCode;

use super::NO;
use super::client::{Client, ServerArgs, percent_encoded, time};
use super::config::{ConfigArgs, unusable};
use super::failure::Failure;
use super::output::{Output, plain};
use crate::access::book::{Book, Person, Unchanged};
use crate::access::store::{Lock, Store};
use crate::access::token::Token;
use crate::access::{AccessSettings, policy_of};
use crate::http::access::{decided, known};
use crate::moment::date_and_time;

/// Who the first token is for.
const FIRST: &str = "admin";

/// Make the first token, of an administrator
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  larder init --data ./larder           for a server with this data folder
  larder init --config larder.toml      for one with this configuration
  export LARDER_TOKEN=$(larder init --data ./larder --json | jq -r .token)

The token is told once and kept nowhere: only a digest of it is. It is for the principal \"admin\", who may do everything. Then set
access.enabled = true in the configuration, and start the server.")]
pub struct InitArgs {
    #[command(flatten)]
    files: Files,
}

/// The files of a server that does not run.
#[derive(Clone, Debug, Default, Args)]
struct Files {
    /// The data folder of a server that does not run
    #[arg(long, value_name = "DIR")]
    data: Option<String>,
    /// The configuration of a server that does not run
    #[arg(long, short, value_name = "FILE")]
    config: Option<PathBuf>,
}

/// Make, list, rotate and revoke tokens
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  larder token create ingest --label 'nightly job' --expires 90d
  larder token list
  larder token rotate 4fJq0ZbT9xkA --overlap 1h     a new secret; the one before is good for another hour
  larder token revoke 4fJq0ZbT9xkA                  what is open with it is closed within a second
  larder token create ingest --data ./larder        of a server that does not run
  larder token draw                                 one for a [[principal]] of the configuration

A token is told once, when it is made.")]
pub struct TokenCommand {
    #[command(subcommand)]
    what: TokenWhat,
}

#[derive(Debug, Subcommand)]
enum TokenWhat {
    /// Make one for a principal
    Create {
        /// Whose it is
        principal: String,
        /// What it is for
        #[arg(long, default_value = "")]
        label: String,
        /// How long it is good [default: until it is revoked]
        #[arg(long, value_name = "TIME", value_parser = time)]
        expires: Option<Duration>,
        #[command(flatten)]
        at: Where,
    },
    /// List them, without their secrets
    List {
        #[command(flatten)]
        at: Where,
    },
    /// Give one another secret
    Rotate {
        /// Which
        id: String,
        /// How long the secret before is good
        #[arg(long, value_name = "TIME", default_value = "24h", value_parser = time)]
        overlap: Duration,
        /// How long the new one is good [default: until it is revoked]
        #[arg(long, value_name = "TIME", value_parser = time)]
        expires: Option<Duration>,
        #[command(flatten)]
        at: Where,
    },
    /// Take one back
    Revoke {
        /// Which
        id: String,
        #[command(flatten)]
        at: Where,
    },
    /// Draw one for the configuration, which is kept nowhere
    Draw,
}

/// Say and change who may do what
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  larder access explain ada read features:AAPL:5m       which grant decides; exits with 1 where it is denied
  larder access explain ada invalidate --tag symbol:AAPL
  larder access explain ada invalidate --pattern 'features:**'
  larder access list
  larder access put ingest --role service --grant 'deny write on features:live:**'
  larder access put ada --role operator --password file:./password
  larder access remove ingest")]
pub struct AccessCommand {
    #[command(subcommand)]
    what: AccessWhat,
}

#[derive(Debug, Subcommand)]
enum AccessWhat {
    /// Say whether somebody may do something, and which grant decides
    Explain {
        /// Who
        principal: String,
        /// What: read, write, delete, invalidate, emit, admin or metrics
        operation: String,
        /// With which key [default: with everything]
        key: Option<String>,
        /// With which tag
        #[arg(long)]
        tag: Option<String>,
        /// With all keys of a pattern
        #[arg(long, conflicts_with_all = ["key", "tag"])]
        pattern: Option<String>,
        #[command(flatten)]
        at: Where,
    },
    /// List the principals
    List {
        #[command(flatten)]
        at: Where,
    },
    /// Add a principal, or give one other roles and grants
    Put {
        /// What they are called
        principal: String,
        /// A role; as many as you like
        #[arg(long = "role", value_name = "ROLE")]
        roles: Vec<String>,
        /// A grant of their own; as many as you like
        #[arg(long = "grant", value_name = "GRANT")]
        grants: Vec<String>,
        /// Where their password is, as env:NAME or file:PATH
        #[arg(long, value_name = "WHERE")]
        password: Option<String>,
        #[command(flatten)]
        server: ServerArgs,
    },
    /// Take a principal out, with their tokens
    Remove {
        /// Whom
        principal: String,
        #[command(flatten)]
        server: ServerArgs,
    },
}

/// Where it is asked.
#[derive(Clone, Debug, Args)]
struct Where {
    #[command(flatten)]
    server: ServerArgs,
    #[command(flatten)]
    files: Files,
}

/// The book of a server that does not run, for as long as it is changed.
struct Offline {
    settings: AccessSettings,
    store: Store,
    book: Book,
    _lock: Lock,
}

impl Files {
    fn are_given(&self) -> bool {
        self.data.is_some() || self.config.is_some()
    }

    fn open(&self) -> Result<Offline, Failure> {
        let config = ConfigArgs::of(self.config.clone(), self.data.clone()).read()?.map_err(|faults| unusable(&faults))?;
        let settings = config.access;
        let store = settings.store.clone().ok_or_else(|| {
            Failure::new("there is no file to keep it in").hint("--data DIR says where the server keeps its data; or set access.file")
        })?;
        let lock = store.lock().map_err(|why| Failure::new(why).hint("a server runs with it; ask that one, with --server URL"))?;
        let book = store.read().map_err(Failure::new)?;
        Ok(Offline { settings, store, book, _lock: lock })
    }
}

impl Offline {
    fn policy(&self) -> Result<Policy, Failure> {
        policy_of(&self.settings, &self.book).map_err(Failure::new)
    }

    fn change<T>(mut self, change: impl FnOnce(&mut Book, &Policy) -> Result<T, Unchanged>) -> Result<T, Failure> {
        let policy = self.policy()?;
        let outcome = change(&mut self.book, &policy).map_err(Failure::new)?;
        self.store.write(&self.book).map_err(Failure::new)?;
        Ok(outcome)
    }
}

fn now_ms() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

/// Carries out `larder init`.
pub fn init(args: &InitArgs, out: Output) -> Result<ExitCode, Failure> {
    let token = args.files.open()?.change(|book, policy| {
        if !book.tokens.is_empty() {
            return Err(Unchanged::Invalid("there are tokens already; larder token makes others".to_owned()));
        }
        if policy.get(FIRST).is_none() {
            book.put_principal(FIRST, Person { roles: vec!["admin".to_owned()], ..Person::default() })?;
        }
        book.create_token(FIRST, "the first one", None, now_ms())
    })?;
    tell_token(out, &json!({ "principal": FIRST, "id": token.id(), "token": token.reveal() }))?;
    out.remark("larder: keep it; it is not told again. Set access.enabled = true, and start the server.");
    Ok(ExitCode::SUCCESS)
}

fn tell_token(out: Output, made: &Json) -> Result<(), Failure> {
    out.say(made, || made["token"].as_str().unwrap_or_default().to_owned())
}

/// Carries out `larder token`.
pub fn token(command: &TokenCommand, out: Output) -> Result<ExitCode, Failure> {
    match &command.what {
        TokenWhat::Draw => {
            let token = Token::draw().map_err(Failure::new)?;
            tell_token(out, &json!({ "id": token.id(), "token": token.reveal() }))?;
        }
        TokenWhat::Create { principal, label, expires, at } => {
            let made = if at.files.are_given() {
                let token = at.files.open()?.change(|book, policy| {
                    known(policy, principal)?;
                    book.create_token(principal, label, *expires, now_ms())
                })?;
                json!({ "id": token.id(), "token": token.reveal() })
            } else {
                let body = json!({ "principal": principal, "label": label, "expires_in": expires.map(text_of) });
                Client::new(&at.server)?.send_json("/v1/access/tokens", &body)?
            };
            tell_token(out, &made)?;
        }
        TokenWhat::Rotate { id, overlap, expires, at } => {
            let made = if at.files.are_given() {
                let token = at.files.open()?.change(|book, _| book.rotate(id, (*overlap, *expires), now_ms()))?;
                json!({ "id": token.id(), "token": token.reveal() })
            } else {
                let body = json!({ "overlap": text_of(*overlap), "expires_in": expires.map(text_of) });
                Client::new(&at.server)?.send_json(&format!("{}/rotate", token_path(id)), &body)?
            };
            tell_token(out, &made)?;
        }
        TokenWhat::Revoke { id, at } => {
            if at.files.are_given() {
                at.files.open()?.change(|book, _| book.revoke(id))?;
            } else {
                done(&Client::new(&at.server)?, "DELETE", &token_path(id))?;
            }
            out.say(&json!({ "revoked": id }), || format!("revoked {}", plain(id)))?;
        }
        TokenWhat::List { at } => {
            let tokens = if at.files.are_given() {
                let offline = at.files.open()?;
                let token = |(id, token): (&String, &crate::access::book::Issued)| {
                    let secrets = token.secrets.iter().filter(|secret| secret.is_live(now_ms()));
                    json!({
                        "id": id, "principal": token.principal, "label": token.label, "created_ms": token.created_ms,
                        "last_used_ms": token.last_used_ms, "secrets": secrets.map(|secret| secret.expires_ms).collect::<Vec<_>>(),
                    })
                };
                json!({ "tokens": offline.book.tokens.iter().map(token).collect::<Vec<_>>() })
            } else {
                Client::new(&at.server)?.get_json("/v1/access/tokens")?
            };
            out.say(&tokens, || lines(&tokens["tokens"], "there are no tokens", token_line))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// A time as the server reads it.
fn text_of(time: Duration) -> String {
    format!("{}ms", time.as_millis())
}

fn token_path(id: &str) -> String {
    format!("/v1/access/tokens/{}", percent_encoded(id.as_bytes()))
}

/// Asks for what has no answer but that it was done.
fn done(client: &Client, method: &str, path: &str) -> Result<(), Failure> {
    let answer = client.ask(method, path)?;
    if answer.status == StatusCode::NO_CONTENT { Ok(()) } else { Err(client.refused(&answer)) }
}

fn lines(list: &Json, none: &str, line: fn(&Json) -> String) -> String {
    let list = list.as_array().map_or(&[][..], Vec::as_slice);
    if list.is_empty() { none.to_owned() } else { list.iter().map(line).collect::<Vec<_>>().join("\n") }
}

fn token_line(token: &Json) -> String {
    let text = |name: &str| plain(token[name].as_str().unwrap_or_default());
    let used = token["last_used_ms"].as_u64().map_or_else(|| "not used yet".to_owned(), |at| format!("used {}", date_and_time(at)));
    let live = token["secrets"].as_array().map_or(&[][..], Vec::as_slice);
    let end = live.iter().map(|end| end.as_u64().map_or_else(|| "for ever".to_owned(), |at| format!("until {}", date_and_time(at))));
    let end = end.collect::<Vec<_>>().join(", ");
    let end = if end.is_empty() { "expired".to_owned() } else { end };
    format!("{}  {}  {used}  {end}  {}", text("id"), text("principal"), text("label")).trim_end().to_owned()
}

fn principal_line(principal: &Json) -> String {
    let texts = |name: &str| principal[name].as_array().into_iter().flatten().filter_map(Json::as_str).collect::<Vec<_>>().join("; ");
    plain(&format!("{}  {}  {}", principal["name"].as_str().unwrap_or_default(), texts("roles"), texts("grants")))
}

/// Carries out `larder access`.
pub fn access(command: &AccessCommand, out: Output) -> Result<ExitCode, Failure> {
    match &command.what {
        AccessWhat::Explain { principal, operation, key, tag, pattern, at } => {
            let told = if at.files.are_given() {
                let bytes = |text: &Option<String>| text.as_ref().map(|text| text.clone().into_bytes());
                let policy = at.files.open()?.policy()?;
                let told = decided(&policy, principal, operation, [bytes(key), bytes(tag), bytes(pattern)]).map_err(Failure::new)?;
                json!({ "allowed": told.allowed, "grant": told.grant, "role": told.role })
            } else {
                let body = json!({ "principal": principal, "operation": operation, "key": key, "tag": tag, "pattern": pattern });
                Client::new(&at.server)?.send_json("/v1/access/explain", &body)?
            };
            out.say(&told, || explained(&told))?;
            return Ok(if told["allowed"] == true { ExitCode::SUCCESS } else { NO.into() });
        }
        AccessWhat::List { at } => {
            let told = if at.files.are_given() {
                let policy = at.files.open()?.policy()?;
                let principal = |principal: &larder::access::Principal| {
                    let grants: Vec<String> = principal.rights().grants().map(|(grant, _)| grant.to_string()).collect();
                    json!({ "name": principal.name(), "roles": principal.roles(), "grants": grants })
                };
                json!({ "principals": policy.principals().map(principal).collect::<Vec<_>>() })
            } else {
                Client::new(&at.server)?.get_json("/v1/access/principals")?
            };
            out.say(&told, || lines(&told["principals"], "there are no principals", principal_line))?;
        }
        AccessWhat::Put { principal, roles, grants, password, server } => {
            let password = password.as_deref().map(secret).transpose()?;
            let body = json!({ "roles": roles, "grants": grants, "password": password });
            let client = Client::new(server)?;
            let headers = [("content-type", "application/json".to_owned())];
            let answer = client.send("PUT", &principal_path(principal), &headers, body.to_string().into_bytes())?;
            if answer.status != StatusCode::NO_CONTENT {
                return Err(client.refused(&answer));
            }
            out.say(&json!({ "principal": principal }), || format!("{} is as you said", plain(principal)))?;
        }
        AccessWhat::Remove { principal, server } => {
            done(&Client::new(server)?, "DELETE", &principal_path(principal))?;
            out.say(&json!({ "removed": principal }), || format!("removed {}", plain(principal)))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn principal_path(name: &str) -> String {
    format!("/v1/access/principals/{}", percent_encoded(name.as_bytes()))
}

fn secret(at: &str) -> Result<String, Failure> {
    use crate::config::{REFERENCE_EXPECTED, Reference};
    let environment = std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?))).collect();
    let reference = Reference::parse(at).ok_or_else(|| Failure::new(format!("--password: expected {REFERENCE_EXPECTED}")))?;
    reference.resolve(&environment).map_err(|why| Failure::new(format!("--password {reference}: {why}")))
}

fn explained(told: &Json) -> String {
    let allowed = if told["allowed"] == true { "allowed" } else { "denied" };
    let role = told["role"].as_str().map(|role| format!(" (role {role})")).unwrap_or_default();
    match told["grant"].as_str() {
        Some(grant) => format!("{allowed}: {}{role}", plain(grant)),
        None => "denied: no grant allows it".to_owned(),
    }
}
