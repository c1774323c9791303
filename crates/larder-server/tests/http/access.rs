//! The one door, over HTTP and RESP: every route and every command, as every role, over all keys and over some, with keys of one's own,
//! others' and both; and what somebody would try who means no good.

#[path = "access/adversaries.rs"]
mod adversaries;
#[path = "access/commands.rs"]
mod commands;
#[path = "access/limits.rs"]
mod limits;
#[path = "access/routes.rs"]
mod routes;
#[path = "access/texts.rs"]
mod texts;

use std::sync::Arc;
use std::time::Duration;

use larder::access::{Operation, Operations, Role};
use larder::{Builder, Clock, Larder};
use larder_server::access::allowance::Allowances;
use larder_server::access::store::Store;
use larder_server::access::token::Token;
use larder_server::access::{AccessSettings, Configured, Door};
use larder_server::settings::Webhooks;
use tempfile::TempDir;

use super::client::{Reply, Server};
use super::wire::{Client, Value, words};

/// Somebody of the matrix.
pub struct Somebody {
    pub name: String,
    pub token: Token,
    /// What they may do.
    pub operations: Operations,
    /// Whether with all keys, or with those that begin with `own:`.
    pub everywhere: bool,
}

impl Somebody {
    /// Whether they may do this, with these keys.
    pub fn may(&self, operation: Operation, keys: &[&str]) -> bool {
        self.operations.has(operation) && (self.everywhere || operation.is_about_keys() && keys.iter().all(|key| key.starts_with("own:")))
    }

    fn configured(&self, roles: Vec<String>, grants: &[String]) -> Configured {
        Configured {
            name: self.name.clone(),
            roles,
            grants: grants.iter().map(|text| text.parse().expect("a grant")).collect(),
            token: Some((self.token.id().to_owned(), self.token.digest())),
            password: None,
            certificates: Vec::new(),
        }
    }
}

/// A server, and all who are let in.
pub struct Guarded {
    pub server: Server,
    pub door: Arc<Door>,
    pub people: Vec<Somebody>,
    _folder: TempDir,
}

impl Guarded {
    /// With each built-in role over all keys, the same over some, and nobody's.
    pub fn start() -> Self {
        Self::with(Larder::builder(), Webhooks::default())
    }

    pub fn with(cache: Builder, webhooks: Webhooks) -> Self {
        Self::limited(cache, webhooks, Allowances::default(), Clock::system())
    }

    /// One that lets nobody have more than this.
    pub fn limited(cache: Builder, webhooks: Webhooks, allowances: Allowances, clock: Clock) -> Self {
        let folder = tempfile::tempdir().expect("temporary files can be written");
        let (mut people, mut principals) = (Vec::new(), Vec::new());
        for role in Role::built_in_names().chain(["nobody"]) {
            let operations = Role::built_in(role).map_or(Operations::default(), |role| role.grants()[0].operations());
            let somebody = |name: String, everywhere| Somebody { name, token: Token::draw().expect("chance"), operations, everywhere };
            let all = somebody(role.to_owned(), true);
            let roles = if role == "nobody" { vec![] } else { vec![role.to_owned()] };
            principals.push(all.configured(roles, &[]));
            people.push(all);
            let of_keys: Operations = operations.iter().filter(|operation| operation.is_about_keys()).collect();
            if !of_keys.is_empty() {
                let some = somebody(format!("{role}.own"), false);
                principals.push(some.configured(vec![], &[format!("allow {of_keys} on own:**")]));
                people.push(some);
            }
        }
        let settings = AccessSettings {
            enabled: true,
            store: Some(Store::in_folder(folder.path())),
            roles: Vec::new(),
            principals,
            session: Duration::from_secs(3_600),
            allowances,
        };
        let door = Door::of(settings, clock).expect("a door");
        let server = Server::behind(cache, webhooks, door.clone());
        Guarded { server, door, people, _folder: folder }
    }

    pub fn somebody(&self, name: &str) -> &Somebody {
        self.people.iter().find(|one| one.name == name).expect("there is one")
    }

    /// A connection over RESP that nobody has said anything on.
    pub fn stranger(&self) -> Client {
        Client::connect(self.server.resp.expect("it listens")).expect("it listens")
    }

    /// A connection over RESP of somebody.
    pub fn client(&self, name: &str) -> Client {
        let mut client = self.stranger();
        let ok = client.ask(&[b"AUTH".as_slice(), self.somebody(name).token.reveal().as_bytes()]).expect("it answers").value;
        assert_eq!(ok.bytes(), Some(b"OK".as_slice()), "{ok:?}");
        client
    }

    /// A request of somebody.
    pub fn ask(&self, name: &str, method: &str, path: &str, body: Option<serde_json::Value>) -> Reply {
        let bearer = format!("Bearer {}", self.somebody(name).token.reveal());
        let request = self.server.request(method, path).header("authorization", bearer);
        match body {
            Some(body) => request.header("content-type", "application/json").body(body.to_string()).send(),
            None => request.send(),
        }
    }
}

/// Asks over RESP.
pub fn ask(client: &mut Client, text: &str) -> Value {
    client.ask(&words(text)).expect("it answers").value
}

/// The first word of an error.
pub fn refusal(value: &Value) -> Option<&str> {
    value.error().and_then(|text| std::str::from_utf8(text).ok()).and_then(|text| text.split(' ').next())
}

#[test]
fn no_text_of_access_panics_and_what_is_read_is_read_again() {
    use proptest::prelude::*;
    use proptest::test_runner::{Config, TestRunner};
    let book = r#"{"format":"larder-access","version":1,"principals":[{"name":"a","roles":["x"],"grants":["allow read on a\\ b:*"],"password":null}],"tokens":[]}"#;
    texts::check(book.as_bytes());
    let words = "(allow|deny|read|write|all|on|tags|,| |\\\\|\\*\\*|:|\\[|a){0,12}";
    let texts = prop_oneof![
        words,
        "(pattern=)?([a-z:*+&=]|%[0-9a-fA-F]{0,2}){0,20}",
        "ldr_[a-zA-Z0-9]{12}_[a-zA-Z0-9]{43}",
        "\\$argon2id\\$v=19\\$m=[0-9]{1,6},t=[0-9],p=[0-9]\\$[a-zA-Z0-9/+]{0,30}\\$[a-zA-Z0-9/+]{0,60}"
    ];
    let mut runner = TestRunner::new(Config { cases: 400, failure_persistence: None, ..Config::default() });
    let run = runner.run(&texts, |text| {
        texts::check(text.as_bytes());
        Ok(())
    });
    run.unwrap();
    let broken = (0..book.len(), "[\\[\\]{}\",:0-9a-z\\\\]{0,3}");
    let run = runner.run(&broken, |(at, with)| {
        let mut text = book.to_owned();
        text.replace_range(at..(at + with.len()).min(book.len()), &with);
        texts::check(text.as_bytes());
        Ok(())
    });
    run.unwrap();
}
