//! What must not be shown: where a password is to be found, and addresses that may hold one. Their texts, as messages,
//! `config show` and logs have them, never do.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::path::PathBuf;

/// What is expected of a reference, for messages.
pub const REFERENCE_EXPECTED: &str = "\"env:NAME\" or \"file:PATH\"";

/// What stands in the place of a password.
const HIDDEN: &str = "***";

/// Where a secret is to be found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reference {
    /// In this environment variable.
    Variable(String),
    /// In this file, all of it but for an end of line.
    File(PathBuf),
}

impl Reference {
    /// Reads `env:NAME` or `file:PATH`.
    pub fn parse(text: &str) -> Option<Self> {
        match text.split_once(':')? {
            ("env", name) if !name.is_empty() => Some(Self::Variable(name.to_owned())),
            ("file", path) if !path.is_empty() => Some(Self::File(path.into())),
            _ => None,
        }
    }

    /// The secret.
    ///
    /// # Errors
    /// Why it is not to be had.
    pub fn resolve(&self, environment: &BTreeMap<String, String>) -> Result<String, String> {
        let secret = match self {
            Self::Variable(name) => environment.get(name).cloned().ok_or_else(|| format!("the environment has no variable {name}"))?,
            Self::File(path) => fs::read_to_string(path).map_err(|error| format!("{} cannot be read: {error}", path.display()))?,
        };
        let secret = secret.strip_suffix('\n').map_or(secret.as_str(), |line| line.strip_suffix('\r').unwrap_or(line));
        if secret.is_empty() { Err("there is nothing in it".to_owned()) } else { Ok(secret.to_owned()) }
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Variable(name) => write!(f, "env:{name}"),
            Self::File(path) => write!(f, "file:{}", path.display()),
        }
    }
}

/// The address of a Redis, or where it is to be found.
#[derive(Clone, PartialEq, Eq)]
pub enum RedisAddress {
    /// As it was given. It may hold a password.
    Given(String),
    /// To be found there; whatever it holds is a secret.
    At(Reference),
}

impl RedisAddress {
    /// Any text that is not empty: what is no address is told by larder.
    pub fn parse(text: &str) -> Option<Self> {
        let given = || (!text.is_empty()).then(|| Self::Given(text.to_owned()));
        Reference::parse(text).map(Self::At).or_else(given)
    }

    /// Whether a password can be read in it.
    pub fn shows_a_password(&self) -> bool {
        matches!(self, Self::Given(url) if masked(url) != *url)
    }

    /// The address.
    ///
    /// # Errors
    /// Why it is not to be had.
    pub fn resolve(&self, environment: &BTreeMap<String, String>) -> Result<String, String> {
        match self {
            Self::Given(url) => Ok(url.clone()),
            Self::At(reference) => reference.resolve(environment),
        }
    }
}

/// Without the password.
impl fmt::Display for RedisAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Given(url) => f.write_str(&masked(url)),
            Self::At(reference) => reference.fmt(f),
        }
    }
}

impl fmt::Debug for RedisAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// An address with its password hidden, if it has one. What is no address is searched as if it were, because what is
/// mistyped is shown in a message.
pub fn masked(url: &str) -> String {
    let (scheme, rest) = url.find("://").map_or(("", url), |at| url.split_at(at + "://".len()));
    // A password may hold an '@', a '/' or a '?' that should have been encoded; hosts cannot hold an '@'. A socket's path
    // has no credentials before it.
    let (credentials, rest) = match rest.rsplit_once('@') {
        Some((credentials, rest)) if !scheme.contains("unix") => (Some(credentials), rest),
        _ => (None, rest),
    };
    let credentials = credentials.map_or_else(String::new, |credentials| match credentials.split_once(':') {
        Some((user, password)) if !password.is_empty() => format!("{user}:{HIDDEN}@"),
        _ => format!("{credentials}@"),
    });
    let Some((place, query)) = rest.split_once('?') else { return format!("{scheme}{credentials}{rest}") };
    let query: Vec<String> = query.split('&').map(masked_pair).collect();
    format!("{scheme}{credentials}{place}?{}", query.join("&"))
}

/// Sockets have their credentials in the query: `unix:///path?user=ada&pass=secret`.
fn masked_pair(pair: &str) -> String {
    match pair.split_once('=') {
        Some((name, value)) if !value.is_empty() && !matches!(name, "db" | "user" | "protocol") => format!("{name}={HIDDEN}"),
        _ => pair.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn passwords_are_hidden_wherever_an_address_has_them() {
        let shown = [
            ("redis://127.0.0.1:6379/2", "redis://127.0.0.1:6379/2"),
            ("redis://ada:hunter2@h:1/2", "redis://ada:***@h:1/2"),
            ("redis://:hunter2@h", "redis://:***@h"),
            ("redis://:hun@ter2@h", "redis://:***@h"),
            ("redis://:hun/t?er2@h", "redis://:***@h"),
            ("redis+sentinel://ada:hunter2@a:1,b:2/main", "redis+sentinel://ada:***@a:1,b:2/main"),
            ("unix:///run/redis?db=1&user=ada&pass=hunter2@", "unix:///run/redis?db=1&user=ada&pass=***"),
            ("ada:hunter2@h", "ada:***@h"),
            ("redis://ada@h", "redis://ada@h"),
        ];
        for (url, expected) in shown {
            let address = RedisAddress::parse(url).expect("it is not empty");
            assert_eq!(address.to_string(), expected);
            assert!(!format!("{address:?}").contains("hunter2"));
            assert_eq!(address.shows_a_password(), url != expected, "{url}");
        }
    }

    #[test]
    fn secrets_come_from_where_they_are_said_to_be() {
        let file = tempfile::NamedTempFile::new().expect("temporary files can be written");
        std::fs::write(file.path(), "hunter2\r\n").expect("it can be written");
        let environment = BTreeMap::from([("SECRET".to_owned(), "hunter3".to_owned()), ("EMPTY".to_owned(), String::new())]);
        let resolve = |text: &str| Reference::parse(text).expect("it is one").resolve(&environment);
        assert_eq!(resolve(&format!("file:{}", file.path().display())), Ok("hunter2".to_owned()));
        assert_eq!(resolve("env:SECRET"), Ok("hunter3".to_owned()));
        assert_eq!(resolve("env:NONE"), Err("the environment has no variable NONE".to_owned()));
        assert!(resolve("env:EMPTY").is_err() && resolve("file:/no/such/file").is_err());
        for text in ["", "hunter2", "env:", "file:", "environment:x", "hunter:2"] {
            assert_eq!(Reference::parse(text), None, "{text}");
        }
        assert_eq!(RedisAddress::parse("env:SECRET").expect("a reference").resolve(&environment), Ok("hunter3".to_owned()));
    }

    proptest! {
        #![proptest_config(crate::demo::properties())]

        #[test]
        fn no_password_is_shown(user in "[a-z]{0,4}", password in "[^*]{1,12}", tls: bool) {
            let scheme = if tls { "rediss" } else { "redis" };
            let url = format!("{scheme}://{user}:S3CR{password}ET@host:1/0");
            let shown = masked(&url);
            prop_assert!(!shown.contains("S3CR") && !shown.contains("ET"), "{}", shown);
        }

        #[test]
        fn no_text_panics(text in ".{0,40}") {
            let shown = RedisAddress::parse(&text).map(|address| address.to_string());
            prop_assert_eq!(shown.is_none(), text.is_empty());
        }
    }
}
