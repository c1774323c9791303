//! What a caller asks the source with, once its type is left behind.
//!
//! All that a load goes through is then built once for each type of value, and not once for each call in each program: what a program
//! with many loaders takes to build is mostly that. A load pays an allocation for it, and a hit nothing.

use std::future::Future;
use std::pin::Pin;

use crate::item::Item;

/// A loader that is called when this is first polled. `None`: there is no such thing.
pub(crate) type Loading<V> = Pin<Box<dyn Future<Output = Result<Option<Item<V>>, LoaderError>> + Send>>;

/// Why it failed, in the caller's words.
pub(crate) type LoaderError = Box<dyn std::error::Error + Send + Sync>;

/// Of a loader that always finds something.
pub(crate) fn always<V, L, F, I, E>(loader: L) -> Loading<V>
where
    V: 'static,
    L: FnOnce() -> F + Send + 'static,
    F: Future<Output = Result<I, E>> + Send + 'static,
    I: Into<Item<V>> + 'static,
    E: Into<LoaderError> + 'static,
{
    Box::pin(async move { loader().await.map(|found| Some(found.into())).map_err(Into::into) })
}

/// Of one that may find nothing.
pub(crate) fn perhaps<V, L, F, I, E>(loader: L) -> Loading<V>
where
    V: 'static,
    L: FnOnce() -> F + Send + 'static,
    F: Future<Output = Result<Option<I>, E>> + Send + 'static,
    I: Into<Item<V>> + 'static,
    E: Into<LoaderError> + 'static,
{
    Box::pin(async move { loader().await.map(|found| found.map(Into::into)).map_err(Into::into) })
}
