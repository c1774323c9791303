//! The book of who has access, as it is managed while the server runs: principals, their passwords, and tokens. Values alone; the time is
//! told. Roles, and principals that are not to be changed by hand, stand in the configuration.
//!
//! ```json
//! { "format": "larder-access", "version": 1,
//!   "principals": [{ "name": "ada", "roles": ["admin"], "grants": [], "password": "$argon2id$.." }],
//!   "tokens": [{ "id": "..", "principal": "ada", "created_ms": 0,
//!                "secrets": [{ "sha256": "..", "created_ms": 0, "expires_ms": null }] }] }
//! ```

use std::collections::BTreeMap;
use std::time::Duration;

use larder::access::Grant;
use serde::{Deserialize, Serialize};

use super::password::Hashed;
use super::token::{Digest, NoChance, Token};

/// What it says of itself, and which version of it is known here.
const FORMAT: &str = "larder-access";
const VERSION: u32 = 1;

/// The most principals, and the most tokens.
pub const PRINCIPALS_MAX: usize = 10_000;
/// See [`PRINCIPALS_MAX`].
pub const TOKENS_MAX: usize = 10_000;

/// The longest label of a token.
const LABEL_LEN_MAX: usize = 128;

/// Secrets of one token that are good at once: the one before, while users change over, and the new one.
const SECRETS_MAX: usize = 2;

/// See the head of this file.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Book {
    /// By name.
    pub principals: BTreeMap<String, Person>,
    /// By id.
    pub tokens: BTreeMap<String, Issued>,
}

/// A principal. A person has a password, a program has tokens; nothing keeps one from having both.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Person {
    /// The names of its roles.
    pub roles: Vec<String>,
    /// Grants of its own.
    pub grants: Vec<Grant>,
    /// Its password.
    pub password: Option<Hashed>,
}

/// A token that was given out.
#[derive(Clone, Debug, PartialEq)]
pub struct Issued {
    /// Whose it is.
    pub principal: String,
    /// What it is for.
    pub label: String,
    /// When it was made, in milliseconds since 1970.
    pub created_ms: u64,
    /// When it was used last, as far as that was written down.
    pub last_used_ms: Option<u64>,
    /// What is kept of its secrets, the newest last.
    pub secrets: Vec<Secret>,
}

/// What is kept of a secret.
#[derive(Clone, Debug, PartialEq)]
pub struct Secret {
    /// Its digest.
    pub digest: Digest,
    /// When it was made.
    pub created_ms: u64,
    /// Until when it is good.
    pub expires_ms: Option<u64>,
}

impl Secret {
    /// Whether it is good now.
    pub fn is_live(&self, now: u64) -> bool {
        self.expires_ms.is_none_or(|at| now < at)
    }
}

/// Why the book was not changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unchanged {
    /// There is nothing of this name.
    Unknown(String),
    /// It cannot be so.
    Invalid(String),
    /// The system gives no random bytes.
    NoChance,
}

impl std::fmt::Display for Unchanged {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Unchanged::Unknown(what) => write!(f, "there is no {what}"),
            Unchanged::Invalid(why) => f.write_str(why),
            Unchanged::NoChance => NoChance.fmt(f),
        }
    }
}

impl std::error::Error for Unchanged {}

impl From<NoChance> for Unchanged {
    fn from(_: NoChance) -> Self {
        Unchanged::NoChance
    }
}

impl From<larder::Error> for Unchanged {
    fn from(error: larder::Error) -> Self {
        Unchanged::Invalid(error.message().to_owned())
    }
}

impl Book {
    /// Adds a principal, or has it have these roles and grants; its password stays unless there is another.
    ///
    /// # Errors
    /// For a name that is none, and where there are too many.
    pub fn put_principal(&mut self, name: &str, person: Person) -> Result<(), Unchanged> {
        larder::access::check_name(name)?;
        if !self.principals.contains_key(name) && self.principals.len() >= PRINCIPALS_MAX {
            return Err(Unchanged::Invalid(format!("there are {PRINCIPALS_MAX} principals, which is the most")));
        }
        let before = self.principals.remove(name).and_then(|before| before.password);
        self.principals.insert(name.to_owned(), Person { password: person.password.or(before), ..person });
        Ok(())
    }

    /// Takes a principal out, with its tokens.
    ///
    /// # Errors
    /// Where there is none.
    pub fn remove_principal(&mut self, name: &str) -> Result<(), Unchanged> {
        self.principals.remove(name).ok_or_else(|| Unchanged::Unknown(format!("principal \"{}\" in the book", name.escape_debug())))?;
        self.tokens.retain(|_, token| token.principal != name);
        Ok(())
    }

    /// Makes a token.
    ///
    /// # Errors
    /// For a label that is too long, and where there are too many.
    pub fn create_token(&mut self, principal: &str, label: &str, life: Option<Duration>, now: u64) -> Result<Token, Unchanged> {
        if label.len() > LABEL_LEN_MAX || label.chars().any(char::is_control) {
            return Err(Unchanged::Invalid(format!("a label is a line of at most {LABEL_LEN_MAX} bytes")));
        }
        self.tokens.retain(|_, token| token.secrets.iter().any(|secret| secret.is_live(now)));
        if self.tokens.len() >= TOKENS_MAX {
            return Err(Unchanged::Invalid(format!("there are {TOKENS_MAX} tokens, which is the most; revoke some")));
        }
        let token = Token::draw()?;
        let secrets = vec![Secret { digest: token.digest(), created_ms: now, expires_ms: end(life, now) }];
        let (principal, label) = (principal.to_owned(), label.to_owned());
        self.tokens.insert(token.id().to_owned(), Issued { principal, label, created_ms: now, last_used_ms: None, secrets });
        Ok(token)
    }

    /// Gives a token another secret. The one before is good for so long, and those before that no more.
    ///
    /// # Errors
    /// Where there is none of this id.
    pub fn rotate(&mut self, id: &str, (overlap, life): (Duration, Option<Duration>), now: u64) -> Result<Token, Unchanged> {
        let issued = self.tokens.get_mut(id).ok_or_else(|| no_token(id))?;
        let token = Token::draw_again(id)?;
        issued.secrets.retain(|secret| secret.is_live(now));
        let over = issued.secrets.len().saturating_sub(SECRETS_MAX - 1);
        issued.secrets.drain(..over);
        for secret in &mut issued.secrets {
            secret.expires_ms = secret.expires_ms.min(end(Some(overlap), now)).or(end(Some(overlap), now));
        }
        issued.secrets.push(Secret { digest: token.digest(), created_ms: now, expires_ms: end(life, now) });
        Ok(token)
    }

    /// Takes a token out.
    ///
    /// # Errors
    /// Where there is none of this id.
    pub fn revoke(&mut self, id: &str) -> Result<(), Unchanged> {
        self.tokens.remove(id).map(drop).ok_or_else(|| no_token(id))
    }

    /// Reads it.
    ///
    /// # Errors
    /// What is wrong with it, and never what stands in it.
    pub fn read(text: &str) -> Result<Self, String> {
        let what: What = serde_json::from_str(text).map_err(|error| format!("it is not JSON with a format and a version: {error}"))?;
        if what.format != FORMAT || what.version != VERSION {
            return Err(format!("it is of another kind or version: this program knows \"{FORMAT}\", version {VERSION}"));
        }
        let written: Written = serde_json::from_str(text).map_err(|error| format!("line {}: it is not as it should be", error.line()))?;
        written.book()
    }

    /// Its text.
    pub fn write(&self) -> String {
        serde_json::to_string_pretty(&Written::of(self)).expect("it is texts and numbers") + "\n"
    }
}

fn no_token(id: &str) -> Unchanged {
    Unchanged::Unknown(format!("token \"{}\"", id.chars().take(32).collect::<String>().escape_debug()))
}

fn end(life: Option<Duration>, now: u64) -> Option<u64> {
    life.map(|life| now.saturating_add(u64::try_from(life.as_millis()).unwrap_or(u64::MAX)))
}

#[derive(Deserialize)]
struct What {
    format: String,
    version: u32,
}

/// The book as it is written.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    format: String,
    version: u32,
    principals: Vec<WrittenPerson>,
    tokens: Vec<WrittenToken>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenPerson {
    name: String,
    roles: Vec<String>,
    grants: Vec<String>,
    password: Option<String>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenToken {
    id: String,
    principal: String,
    label: String,
    created_ms: u64,
    last_used_ms: Option<u64>,
    secrets: Vec<WrittenSecret>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenSecret {
    sha256: String,
    created_ms: u64,
    expires_ms: Option<u64>,
}

impl Written {
    fn of(book: &Book) -> Self {
        let person = |(name, person): (&String, &Person)| WrittenPerson {
            name: name.clone(),
            roles: person.roles.clone(),
            grants: person.grants.iter().map(ToString::to_string).collect(),
            password: person.password.as_ref().map(Hashed::text),
        };
        let secret =
            |secret: &Secret| WrittenSecret { sha256: secret.digest.hex(), created_ms: secret.created_ms, expires_ms: secret.expires_ms };
        let token = |(id, token): (&String, &Issued)| WrittenToken {
            id: id.clone(),
            principal: token.principal.clone(),
            label: token.label.clone(),
            created_ms: token.created_ms,
            last_used_ms: token.last_used_ms,
            secrets: token.secrets.iter().map(secret).collect(),
        };
        Written {
            format: FORMAT.to_owned(),
            version: VERSION,
            principals: book.principals.iter().map(person).collect(),
            tokens: book.tokens.iter().map(token).collect(),
        }
    }

    fn book(self) -> Result<Book, String> {
        if self.principals.len() > PRINCIPALS_MAX || self.tokens.len() > TOKENS_MAX {
            return Err("it has too many principals or tokens".to_owned());
        }
        let mut book = Book::default();
        for WrittenPerson { name, roles, grants, password } in self.principals {
            larder::access::check_name(&name).map_err(|error| error.message().to_owned())?;
            let grants = grants.iter().map(|text| text.parse::<Grant>()).collect::<larder::Result<Vec<_>>>();
            let grants = grants.map_err(|error| error.message().to_owned())?;
            let password = match password {
                Some(text) => Some(Hashed::parse(&text).ok_or_else(|| format!("the password of \"{name}\" is not as it should be"))?),
                None => None,
            };
            if book.principals.insert(name.clone(), Person { roles, grants, password }).is_some() {
                return Err(format!("there are two principals \"{name}\""));
            }
        }
        for WrittenToken { id, principal, label, created_ms, last_used_ms, secrets } in self.tokens {
            let secret = |secret: WrittenSecret| {
                let digest = Digest::parse(&secret.sha256).ok_or_else(|| "a secret of a token is not as it should be".to_owned())?;
                Ok::<_, String>(Secret { digest, created_ms: secret.created_ms, expires_ms: secret.expires_ms })
            };
            if secrets.len() > SECRETS_MAX {
                return Err(format!("a token has at most {SECRETS_MAX} secrets"));
            }
            let secrets = secrets.into_iter().map(secret).collect::<Result<_, _>>()?;
            if book.tokens.insert(id, Issued { principal, label, created_ms, last_used_ms, secrets }).is_some() {
                return Err("there are two tokens of one id".to_owned());
            }
        }
        Ok(book)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const HOUR: Duration = Duration::from_secs(3_600);

    fn filled() -> Book {
        let mut book = Book::default();
        let person = Person {
            roles: vec!["admin".to_owned()],
            grants: vec!["deny read on a:**".parse().unwrap()],
            password: Some(Hashed::nobodys()),
        };
        book.put_principal("ada", person).unwrap();
        book.create_token("ada", "ci", Some(HOUR), 1_000).unwrap();
        book.create_token("bob", "", None, 2_000).unwrap();
        book
    }

    #[test]
    fn a_book_survives_its_text_and_another_version_is_refused() {
        let book = filled();
        let text = book.write();
        assert_eq!(Book::read(&text), Ok(book));
        for (from, to, says) in [
            ("\"version\": 1", "\"version\": 2", "another kind or version"),
            ("larder-access", "other", "another kind or version"),
            ("\"label\"", "\"lable\"", "not as it should be"),
            ("$argon2id$", "$argon2d$", "the password of \"ada\""),
            ("deny read", "deny reed", "no operation"),
        ] {
            let error = Book::read(&text.replacen(from, to, 1)).unwrap_err();
            assert!(error.contains(says), "{error}");
        }
        assert!(Book::read("").is_err() && Book::read("{}").is_err());
    }

    #[test]
    fn a_token_has_two_secrets_while_its_users_change_over() {
        let mut book = Book::default();
        let first = book.create_token("ada", "", None, 0).unwrap();
        let live = |book: &Book, now| {
            let live = book.tokens[first.id()].secrets.iter().filter(|secret| secret.is_live(now)).map(|secret| secret.digest);
            live.collect::<Vec<_>>()
        };
        let second = book.rotate(first.id(), (HOUR, None), 10).unwrap();
        assert_eq!(second.id(), first.id());
        assert_eq!(live(&book, 11), [first.digest(), second.digest()]);
        assert_eq!(live(&book, 10 + 3_600_000), [second.digest()]);
        let third = book.rotate(first.id(), (HOUR, Some(2 * HOUR)), 20).unwrap();
        assert_eq!(live(&book, 21), [second.digest(), third.digest()], "the oldest goes at once");
        assert_eq!(live(&book, 20 + 7_200_000), []);
        assert_eq!(book.revoke(first.id()), Ok(()));
        assert!(matches!(book.revoke(first.id()), Err(Unchanged::Unknown(_))));
        assert!(matches!(book.rotate("x", (HOUR, None), 0), Err(Unchanged::Unknown(_))));
    }

    #[test]
    fn who_leaves_takes_their_tokens_along_and_who_changes_keeps_their_password() {
        let mut book = filled();
        book.put_principal("ada", Person { roles: vec!["client".to_owned()], ..Person::default() }).unwrap();
        assert!(book.principals["ada"].password.is_some());
        book.remove_principal("ada").unwrap();
        assert_eq!(book.tokens.values().map(|token| token.principal.as_str()).collect::<Vec<_>>(), ["bob"]);
        assert!(book.remove_principal("ada").is_err() && book.put_principal("a b", Person::default()).is_err());
        assert!(book.create_token("bob", "a\nb", None, 0).is_err());
    }

    proptest! {
        #![proptest_config(crate::demo::properties())]

        #[test]
        fn no_text_panics(text in ".{0,80}", at in 0usize..2_000, with in "[\\[\\]{}\",:0-9a-z]{0,3}") {
            prop_assert!(Book::read(&text).is_err());
            let mut broken = filled().write();
            let at = at.min(broken.len());
            broken.replace_range(at..(at + with.len()).min(broken.len()), &with);
            if let Ok(book) = Book::read(&broken) {
                prop_assert_eq!(Book::read(&book.write()), Ok(book));
            }
        }
    }
}
