//! Errors: one opaque type that says which operation failed on which key, and what the caller may rely on.
//!
//! A miss is no error, and neither is a stale answer. Errors are cheap to clone, because every caller that joined a
//! load gets the same one.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

/// The outcome of larder's operations.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What went wrong, in one word that a program can act on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// A key is empty, too long, or does not belong to the namespace it was used with.
    InvalidKey,
    /// A tag is empty, too long, or there are too many of them.
    InvalidTag,
    /// A pattern cannot be understood.
    InvalidPattern,
    /// A time to live is zero, or so long that adding it to the clock overflows.
    InvalidTtl,
    /// A value is larger than its namespace allows. Nothing was stored.
    ValueTooLarge,
    /// The configuration contradicts itself or names something impossible.
    InvalidConfig,
    /// A namespace is already open with another type of value.
    WrongType,
    /// A value could not be encoded, or stored bytes could not be decoded as the type asked for.
    Codec,
    /// The loader returned an error; [`source`](std::error::Error::source) is that error.
    Load,
    /// The loader did not finish within its hard limit, and nothing old could be served instead.
    LoadTimeout,
    /// The loader panicked.
    LoadPanicked,
    /// The loader said earlier that there is no such thing (negative caching), and that answer is still fresh.
    NotFound,
    /// More loads are under way than the namespace allows, or a queue stayed full, or others changed a key each time that a
    /// [change](crate::Raw::change) of it was made. Nothing was changed.
    Overloaded,
    /// The invalidation log could not take the change durably. See the message for what did take effect.
    LogUnavailable,
    /// The backing tier failed.
    Tier,
    /// A file was written by a version of larder that this one does not know. Nothing was overwritten.
    UnknownFormat,
    /// Another process uses the same data folder.
    Locked,
    /// A read asked for a position that this instance did not reach before the deadline.
    NotReached,
    /// The position belongs to another epoch of the log: what happened in between is unknown.
    UnknownPosition,
    /// A strict read cannot be answered: the log that is shared with other machines has not been heard for longer than
    /// `max_staleness`, and there is no loader to ask the source.
    Unverified,
    /// An event cannot be understood, lacks what a rule needs, or has a value that cannot stand in a name. Nothing was
    /// invalidated.
    InvalidEvent,
    /// What an item says it was computed from makes no sense: it depends on itself, or on too much. Nothing was stored.
    InvalidDependency,
    /// The value was computed from a version of a source that is known to be over. It was not stored; the message says whether
    /// anything else was done.
    Outdated,
    /// Who asks may not do that, or not with all that it would touch. Nothing was done; and whether there is anything is not said.
    Forbidden,
    /// Writes are refused for a while: see [`Larder::close_writes`](crate::Larder::close_writes). Nothing was changed, and it may be
    /// tried again later.
    Maintenance,
    /// A backup is damaged, cut short, or was not written by larder. Nothing was touched; the message names the file and the place in it.
    BadArchive,
    /// A backup is encrypted, and nothing that was given opens it. Nothing was touched; the message says to whom it is encrypted.
    Sealed,
    /// The place where backups are kept failed, or refused.
    Backup,
    /// It was told to stop, and did.
    Cancelled,
    /// The cache was closed.
    Closed,
}

/// What went wrong, for which key, and why.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> larder::Result<()> {
/// let larder = larder::Larder::builder().build().await?;
/// let names = larder.namespace::<String>("names")?;
/// let error = names.put("", "nobody".to_string()).await.unwrap_err();
/// assert_eq!(error.kind(), larder::ErrorKind::InvalidKey);
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct Error(Arc<Inner>);

struct Inner {
    kind: ErrorKind,
    message: Cow<'static, str>,
    operation: Option<&'static str>,
    key: Option<Box<[u8]>>,
    source: Option<Arc<dyn std::error::Error + Send + Sync>>,
}

impl Error {
    pub(crate) fn new(kind: ErrorKind, message: impl Into<Cow<'static, str>>) -> Self {
        Error(Arc::new(Inner { kind, message: message.into(), operation: None, key: None, source: None }))
    }

    /// What a [`Tier`](crate::tier::Tier) of your own fails with: [`ErrorKind::Tier`], and the reason.
    pub fn of_tier(reason: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Error::new(ErrorKind::Tier, "the backing tier failed").with_source(reason)
    }

    pub(crate) fn with_source(self, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        self.change(|inner| inner.source = Some(Arc::from(source.into())))
    }

    /// Names the operation and key. What is named already stays: the innermost place knows best.
    pub(crate) fn during(self, operation: &'static str, key: &[u8]) -> Self {
        self.change(|inner| {
            inner.operation.get_or_insert(operation);
            inner.key.get_or_insert_with(|| key.into());
        })
    }

    fn change(self, change: impl FnOnce(&mut Inner)) -> Self {
        let mut inner = match Arc::try_unwrap(self.0) {
            Ok(inner) => inner,
            Err(shared) => Inner {
                kind: shared.kind,
                message: shared.message.clone(),
                operation: shared.operation,
                key: shared.key.clone(),
                source: shared.source.clone(),
            },
        };
        change(&mut inner);
        Error(Arc::new(inner))
    }

    /// What went wrong, in one word.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// The key that the operation was about, if it was about one.
    pub fn key(&self) -> Option<&[u8]> {
        self.0.key.as_deref()
    }

    /// The operation that failed, as the method is named (`"put"`, `"get_or_load"`).
    pub fn operation(&self) -> Option<&'static str> {
        self.0.operation
    }

    /// The sentence without operation, key and source.
    pub fn message(&self) -> &str {
        &self.0.message
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.0.operation, &self.0.key) {
            (Some(operation), Some(key)) => write!(f, "{operation} \"{}\": ", key.escape_ascii())?,
            (Some(operation), None) => write!(f, "{operation}: ")?,
            _ => {}
        }
        f.write_str(&self.0.message)?;
        match &self.0.source {
            Some(source) => write!(f, ": {source}"),
            None => Ok(()),
        }
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {self}", self.0.kind)
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.source.as_deref().map(|source| source as _)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_names_operation_and_key_and_keeps_its_source() {
        let io = std::io::Error::other("disk on fire");
        let error = Error::new(ErrorKind::Tier, "the disk tier could not write").with_source(io).during("put", b"a:\xff");
        assert_eq!(error.to_string(), "put \"a:\\xff\": the disk tier could not write: disk on fire");
        assert_eq!(error.clone().during("get", b"other").operation(), Some("put"));
        assert!(std::error::Error::source(&error).is_some());
    }
}
