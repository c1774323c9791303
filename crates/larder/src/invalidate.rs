//! Invalidation: names, append, own index, receipt; the sweeper follows.
//!
//! Nothing is looked for: an invalidation costs the same whether it kills nothing or a million entries. Only single keys
//! are also taken out at once, since they are at hand.

use crate::cache::Larder;
use crate::error::Result;
use crate::invalidations::{InvalidationOrigin, kinds_of};
use crate::log::{Append, EntryWrite, Mark};
use crate::name::{Name, Names};
use crate::position::Receipt;
use crate::write::receipt;

impl Larder {
    /// Makes everything stale that depends on any of these names (steps 1 and 9 of the protocol). Change the source
    /// first, then call this.
    ///
    /// When it returns, no read on this handle that begins afterwards sees anything older (promise G1), and the
    /// invalidation is as durable as the cache was told to make invalidations. All names share one position.
    ///
    /// Once this was first polled, dropping the future does not undo it.
    ///
    /// # Errors
    /// The error of the first name that is not one; then nothing was done.
    /// [`LogUnavailable`](crate::ErrorKind::LogUnavailable): see its message for what was done.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> larder::Result<()> {
    /// use larder::{Item, Larder, Names};
    /// let larder = Larder::builder().build().await?;
    /// let features = larder.namespace::<f64>("features")?;
    /// features.put("AAPL:5m", Item::new(0.7).tag("symbol:AAPL")).await?;
    /// let receipt = larder.invalidate(Names::new().tag("symbol:AAPL")).await?;
    /// assert!(features.get("AAPL:5m").await?.is_none());
    /// println!("invalidated at {}", receipt.position());
    /// # Ok(()) }
    /// ```
    pub async fn invalidate(&self, names: Names) -> Result<Receipt> {
        self.invalidate_for(names, Vec::new(), InvalidationOrigin::Call).await
    }

    /// The same for events, which are remembered in one step with it, unless it is only queued.
    pub(crate) async fn invalidate_for(&self, names: Names, marks: Vec<Mark>, origin: InvalidationOrigin) -> Result<Receipt> {
        let names = names.check()?;
        let count = names.len();
        let keys: Vec<Box<[u8]>> =
            names.iter().filter_map(|name| if let Name::Key(key) = name { Some(key.clone()) } else { None }).collect();
        let sweep = keys.len() < count;
        let shared = &self.0;
        let writes = if shared.log.writes_entries() { keys.iter().cloned().map(EntryWrite::removal).collect() } else { Vec::new() };
        let kinds = kinds_of(&names);
        let append =
            Append { names, marks, durability: shared.invalidation_durability, guard: None, writes, mode: shared.mode, is_put: false };
        let appended = shared.append(append).await?;
        shared.invalidations.add(&kinds, origin);
        for key in keys {
            shared.raw_view(&key).purge(vec![key], &appended).await;
        }
        if sweep {
            shared.sweeper.wake_soon();
        }
        Ok(receipt(appended, count))
    }
}
