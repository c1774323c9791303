//! One history of all instances that share a cache: each ships its minutes over Redis, and takes those of the others into its own file.
//!
//! ```text
//!   own minutes --(unshipped)--> Redis: the last three days --(taken: up to here)--> minutes of the others
//! ```
//!
//! Both sides know where they were when they are started again. Who was away for longer than three days misses what the others did
//! before that; they themselves have it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use larder::{Larder, PARCELS_MAX, ParcelBounds};

use super::Writer;
use super::parcels::{TOLD_MAX, TOLD_MS};

/// What is packed in one step: some milliseconds of the thread that writes.
const STEP: u32 = 64;

/// How long one exchange may take: others wait for nobody, and the next minute is near.
const EXCHANGE_MAX: Duration = Duration::from_secs(40);

/// Instances whose history is taken. There are never that many: whoever can write to Redis could make up names for ever.
const SENDERS_MAX: usize = 256;

/// Why nothing was exchanged.
type Trouble = Box<dyn std::error::Error + Send + Sync>;

/// Tells other instances, and listens to them.
pub struct Fleet {
    larder: Larder,
    writer: Writer,
    was_troubled: AtomicBool,
}

impl Fleet {
    /// For the instances that share this cache.
    pub fn new(larder: &Larder, writer: Writer) -> Self {
        Fleet { larder: larder.clone(), writer, was_troubled: AtomicBool::new(false) }
    }

    /// Tells what others do not know yet, and takes what they tell. Does nothing where the cache is this process' alone.
    pub async fn exchange(&self, now_ms: u64) {
        if self.larder.stats().log.shared.is_none() {
            return;
        }
        let both = async {
            self.tell(now_ms).await?;
            self.listen().await
        };
        let outcome = match tokio::time::timeout(EXCHANGE_MAX, both).await {
            Ok(outcome) => outcome,
            Err(_) => Err(format!("it takes longer than {EXCHANGE_MAX:?}").into()),
        };
        match outcome {
            Ok(()) if self.was_troubled.swap(false, Ordering::Relaxed) => {
                tracing::info!("the history is exchanged with other instances again")
            }
            Ok(()) => {}
            Err(error) if self.was_troubled.swap(true, Ordering::Relaxed) => tracing::debug!(%error, "the history is still not exchanged"),
            Err(error) => tracing::warn!(%error, "the history cannot be exchanged with other instances; it is tried again every minute"),
        }
    }

    async fn tell(&self, now_ms: u64) -> Result<(), Trouble> {
        let identity = self.writer.with(|store| store.identity()).await?;
        let bounds = ParcelBounds { parcels_max: TOLD_MAX, life: Duration::from_millis(TOLD_MS) };
        let name = self.writer.with(|store| store.name_parcel()).await?;
        self.larder.ship(&identity, &[name], bounds).await?;
        loop {
            let untold = self.writer.with(move |store| store.untold(now_ms, STEP)).await?;
            if untold.is_empty() {
                return Ok(());
            }
            let (told, parcels): (Vec<_>, Vec<_>) = untold.into_iter().unzip();
            self.larder.ship(&identity, &parcels, bounds).await?;
            self.writer.with(move |store| store.told(&told)).await?;
        }
    }

    async fn listen(&self) -> Result<(), Trouble> {
        let own = self.writer.with(|store| store.identity()).await?;
        let senders = self.larder.senders().await?;
        for sender in senders.into_iter().filter(|sender| *sender != own).take(SENDERS_MAX) {
            loop {
                let identity = sender.clone();
                let taken = self.writer.with(move |store| store.taken(&identity)).await?;
                let parcels = self.larder.shipped(&sender, taken).await?;
                let is_last = parcels.len() < PARCELS_MAX;
                let identity = sender.clone();
                self.writer.with(move |store| store.take(&identity, &parcels)).await?;
                if is_last {
                    break;
                }
            }
        }
        Ok(())
    }
}
