//! Refreshing: what an event invalidated is loaded again before readers ask, the hottest first, within a budget.
//!
//! It comes behind the rules, which have made everything stale by then: a reader that is faster joins the load or leads its own, and
//! none sees what the event ended.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;

use super::event::Event;
use super::handlers::{Failure, Handler};
use super::template::{Filled, Template};
use crate::codec::Value;
use crate::error::{Error, ErrorKind, Result};
use crate::item::Item;
use crate::namespace::Namespace;
use crate::pattern::Pattern;

/// A [`Handler`] that loads keys again: see [`Namespace::refresh_on`].
pub struct Refresh<V, L> {
    namespace: Namespace<V>,
    keys: Arc<[Template]>,
    loader: Arc<L>,
    budget: Budget,
}

/// How much is loaded for one event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Budget {
    keys: usize,
    time: Duration,
    at_once: usize,
}

impl<V: Value> Namespace<V> {
    /// A handler that loads again what an event made stale, before readers ask for it. Which keys: those that are
    /// [hot](Self::hot_keys) and that one of the templates names, the hottest first; and those that a template names in full. Templates
    /// are as in [rules](crate::events::Rule::new), for keys and patterns over whole keys.
    ///
    /// The rules for the event come first, and so nothing old is served meanwhile. Its budget for one event is 100 keys, a second, and
    /// 8 loads at once, unless [`budget`](Refresh::budget) says otherwise; what is beyond it, and what cannot be loaded, readers load.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> larder::Result<()> {
    /// use larder::events::Event;
    /// let larder = larder::Larder::builder().build().await?;
    /// let features = larder.namespace::<f64>("features")?;
    /// let compute = |key: Box<[u8]>| async move { Ok::<_, std::io::Error>(key.len() as f64) };
    /// larder.on("market_data_update", features.refresh_on(["key:features:{symbol}:5m", "features:{symbol}:*"], compute)?);
    /// larder.emit(Event::new("market_data_update", serde_json::json!({ "symbol": "AAPL" }))).await?;
    /// assert_eq!(*features.get("AAPL:5m").await?.expect("it was loaded ahead"), 7.0);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`ErrorKind::InvalidConfig`] for a template that names no keys.
    pub fn refresh_on<T, L, F, I, E>(&self, keys: impl IntoIterator<Item = T>, loader: L) -> Result<Refresh<V, L>>
    where
        T: AsRef<str>,
        L: Fn(Box<[u8]>) -> F + Send + Sync + 'static,
        F: Future<Output = Result<I, E>> + Send + 'static,
        I: Into<Item<V>> + 'static,
        E: Into<Box<dyn std::error::Error + Send + Sync>> + 'static,
    {
        let keys: Vec<Template> = keys.into_iter().map(|text| Template::parse(text.as_ref())).collect::<Result<_>>()?;
        if let Some(other) = keys.iter().find(|template| !template.names_keys()) {
            let message = format!("the template \"{other}\" names no keys, and only keys can be loaded again");
            return Err(Error::new(ErrorKind::InvalidConfig, message));
        }
        let budget = Budget { keys: 100, time: Duration::from_secs(1), at_once: 8 };
        Ok(Refresh { namespace: self.clone(), keys: keys.into(), loader: Arc::new(loader), budget })
    }
}

impl<V, L> Refresh<V, L> {
    /// How much is loaded for one event: so many keys, within this time, so many at once. At least one.
    #[must_use]
    pub fn budget(mut self, keys: usize, time: Duration, at_once: usize) -> Self {
        self.budget = Budget { keys, time, at_once: at_once.max(1) };
        self
    }
}

impl<V, L, F, I, E> Handler for Refresh<V, L>
where
    V: Value,
    L: Fn(Box<[u8]>) -> F + Send + Sync + 'static,
    F: Future<Output = Result<I, E>> + Send + 'static,
    I: Into<Item<V>> + 'static,
    E: Into<Box<dyn std::error::Error + Send + Sync>> + 'static,
{
    fn handle(&self, event: Arc<Event>) -> Pin<Box<dyn Future<Output = Result<(), Failure>> + Send>> {
        let (namespace, loader, budget) = (self.namespace.clone(), self.loader.clone(), self.budget);
        let keys = self.named(&event);
        Box::pin(async move {
            let mut waiting = keys?.into_iter();
            let mut loads = JoinSet::new();
            let begin = |loads: &mut JoinSet<()>, key: Box<[u8]>| {
                let (namespace, loader) = (namespace.clone(), loader.clone());
                loads.spawn(async move {
                    let load = {
                        let key = key.clone();
                        move || loader(key)
                    };
                    if let Err(error) = namespace.get_or_load(&key, load).await {
                        tracing::debug!(%error, "a key could not be loaded ahead; its readers will");
                    }
                });
            };
            let all = async {
                waiting.by_ref().take(budget.at_once).for_each(|key| begin(&mut loads, key));
                while loads.join_next().await.is_some() {
                    waiting.next().into_iter().for_each(|key| begin(&mut loads, key));
                }
            };
            // What has begun goes on by itself; it is only not waited for.
            if tokio::time::timeout(budget.time, all).await.is_err() {
                tracing::debug!(event = event.id(), "the time for loading ahead is over; readers load the rest");
            }
            Ok(())
        })
    }
}

impl<V: Value, L> Refresh<V, L> {
    /// The keys to load, without their namespace: those that are named in full, then the hot ones, hottest first.
    fn named(&self, event: &Event) -> Result<Vec<Box<[u8]>>> {
        let (mut keys, mut patterns) = (Vec::new(), Vec::new());
        for template in &*self.keys {
            let Filled::Names(names) = template.fill(event)? else { continue };
            for name in names {
                match name.into_key_or_pattern() {
                    Ok(key) => keys.push(key),
                    Err(pattern) => patterns.push(Pattern::new(pattern)?),
                }
            }
        }
        let hot = self.namespace.hot_keys(usize::MAX).into_iter().map(|hot| hot.key);
        keys.extend(hot.filter(|key| patterns.iter().any(|pattern| pattern.matches(key))));
        let prefix = self.namespace.prefix();
        let mut wanted: Vec<Box<[u8]>> = Vec::new();
        for key in keys.iter().filter_map(|key| key.strip_prefix(prefix)).filter(|key| !key.is_empty()) {
            if wanted.len() == self.budget.keys {
                break;
            }
            if !wanted.iter().any(|known| **known == *key) {
                wanted.push(key.into());
            }
        }
        Ok(wanted)
    }
}
