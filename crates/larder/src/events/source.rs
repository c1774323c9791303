//! Where events come from: the seam that every source is behind, and those that are here.
//!
//! A source is a broker's client that can be asked for more and told what is done; what is made of that (order, retries, dead
//! letters, how much may be under way) is the business of who [follows](crate::Larder::follow) it.

use std::future::Future;

use crate::error::Result;

#[cfg(feature = "events-postgres")]
mod postgres;
#[cfg(feature = "redis")]
mod redis;

#[cfg(feature = "events-postgres")]
pub use postgres::PostgresOutbox;
#[cfg(feature = "redis")]
pub use redis::RedisStream;

/// Something that delivers events, each at least once, and forgets them only when it is told that they are done.
///
/// All methods but [`wait`](Self::wait) are carried out to their end, one at a time. Errors are answered with a pause and
/// [`open`](Self::open). What was delivered and not acknowledged may be delivered again at any time after that.
///
/// ```
/// use std::collections::VecDeque;
/// use larder::events::source::{Delivery, Fetched, Source};
///
/// /// Events that somebody has put into a list.
/// struct Listed(VecDeque<String>);
///
/// impl Source for Listed {
///     type Token = ();
///     fn name(&self) -> String { "a list".into() }
///     async fn open(&mut self) -> larder::Result<()> { Ok(()) }
///     async fn fetch(&mut self, max: usize) -> larder::Result<Fetched<()>> {
///         let some = self.0.drain(..max.min(self.0.len()));
///         Ok(Fetched::Deliveries(some.map(|text| Delivery { token: (), text: text.into(), partition: None }).collect()))
///     }
///     async fn resume(&mut self) -> larder::Result<()> { Ok(()) }
///     async fn wait(&mut self) -> larder::Result<()> { std::future::pending().await }
///     async fn acknowledge(&mut self, _done: &[()]) -> larder::Result<()> { Ok(()) }
/// }
/// ```
pub trait Source: Send + 'static {
    /// What a delivery is acknowledged by.
    type Token: Clone + Eq + std::hash::Hash + Send + Sync + 'static;

    /// What it is called in logs and statistics. No secrets.
    fn name(&self) -> String;

    /// Connects, also after a failure; then what is not acknowledged is delivered again.
    fn open(&mut self) -> impl Future<Output = Result<()>> + Send;

    /// What there is now and was not delivered since it was opened, at most `max`, in order; nothing, if there is nothing. What is
    /// delivered again while it is under way is ignored.
    fn fetch(&mut self, max: usize) -> impl Future<Output = Result<Fetched<Self::Token>>> + Send;

    /// What was lost in the gap that [`fetch`](Self::fetch) told of has been made good: go on behind it.
    fn resume(&mut self) -> impl Future<Output = Result<()>> + Send;

    /// Returns when there may be more to fetch, or it should be tried; that may be too early, and must not be never. Dropping the
    /// future loses nothing.
    fn wait(&mut self) -> impl Future<Output = Result<()>> + Send;

    /// These took effect, durably, and need not be delivered again.
    fn acknowledge(&mut self, done: &[Self::Token]) -> impl Future<Output = Result<()>> + Send;

    /// It is followed no more: another instance may. It need not work, and is not called where the process is killed. Default: nothing
    /// is done.
    fn close(&mut self) -> impl Future<Output = ()> + Send {
        async {}
    }
}

/// What a source has to say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fetched<T> {
    /// Events, in order. None: nothing new is there.
    Deliveries(Vec<Delivery<T>>),
    /// Events were lost, or may have been, and this is why. The source goes on when it is told to [resume](Source::resume); if
    /// that does not come about it must say so again.
    Gap(String),
    /// Another instance follows it at present.
    Standby,
}

/// An event as it came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivery<T> {
    /// What it is acknowledged by.
    pub token: T,
    /// The event in the JSON format of CloudEvents, if all is right.
    pub text: Vec<u8>,
    /// What it is to be in order with. `None`: with events of the same `source` and `subject`.
    pub partition: Option<String>,
}
