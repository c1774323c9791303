//! Cuts what happens into minutes of the clock on the wall, and hands them to who writes.
//!
//! A cut is filed under the minute in which it was begun, whatever the clock shows when it is made: what was counted before a clock is
//! set ahead, or a machine sleeps, belongs before it, and the time that was left out stays empty. Where a clock is set back, minutes
//! come twice and are added up.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use larder::Larder;
use larder::analytics::Recorder;
use parking_lot::Mutex;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::fleet::Fleet;
use super::span::{MINUTE_MS, Span};
use super::{History, HistoryError, Opened, Pruner, Store, Writer};
use crate::settings::HistorySettings;

/// How often the clock is looked at, so that what happened before it was set is not counted as after it by more.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// How long a server that ends still tells others.
const LAST_EXCHANGE_MAX: Duration = Duration::from_secs(2);

/// Cuts minutes. It is told the time.
pub struct Historian {
    recorder: Recorder,
    writer: Writer,
    /// The minute that is open.
    open_ms: u64,
}

impl Historian {
    /// Begins now.
    pub fn new(larder: &Larder, writer: Writer, now_ms: u64) -> Self {
        Historian { recorder: Recorder::new(larder, now_ms), writer, open_ms: Span::Minute.floor(now_ms) }
    }

    /// Cuts if the open minute is over, or the clock no longer shows it. Returns whether it did; then it is written, or waits for the
    /// disk.
    pub async fn look(&mut self, now_ms: u64) -> bool {
        let minute_ms = Span::Minute.floor(now_ms);
        let is_over = minute_ms != self.open_ms;
        if is_over {
            self.cut(now_ms).await;
            self.open_ms = minute_ms;
        }
        is_over
    }

    /// Writes the open minute as far as it has come.
    pub async fn cut(&mut self, now_ms: u64) {
        let mut minute = self.recorder.cut(now_ms);
        (minute.start_ms, minute.end_ms) = (self.open_ms, self.open_ms + MINUTE_MS);
        self.writer.minute(minute, now_ms).await;
    }
}

/// The task that cuts, and tells other instances.
pub struct Running {
    end: oneshot::Sender<()>,
    task: JoinHandle<()>,
    writer: Writer,
    history: History,
    pruner: Pruner,
}

impl Running {
    /// Opens the history as it is set, and begins to cut by the clock on the wall.
    ///
    /// # Errors
    /// When the file cannot be opened, or must not be touched.
    pub async fn start(larder: &Larder, settings: &HistorySettings) -> Result<Running, HistoryError> {
        let (larder, settings) = (larder.clone(), settings.clone());
        let is_shared = larder.stats().log.shared.is_some();
        let opening = move || open(&settings, is_shared);
        let (writer, history, pruner) = tokio::task::spawn_blocking(opening).await.map_err(|_| HistoryError::Closed)??;
        let (end, ended) = oneshot::channel();
        let historian = Historian::new(&larder, writer.clone(), wall_ms());
        let fleet = Fleet::new(&larder, writer.clone());
        Ok(Running { end, task: tokio::spawn(run(historian, fleet, ended)), writer, history, pruner })
    }

    /// What there is to be asked.
    pub fn history(&self) -> &History {
        &self.history
    }

    /// What can have it forget what is kept no longer.
    pub fn pruner(&self) -> Pruner {
        self.pruner.clone()
    }

    /// Why nothing can be written, while it cannot.
    pub fn trouble(&self) -> Option<String> {
        self.writer.trouble()
    }

    /// Writes the open minute, and ends. Returns when all of it is in the file.
    pub async fn end(self) {
        let Running { end, task, writer, .. } = self;
        // A task that has ended by itself says so when it is waited for.
        drop(end);
        if let Err(error) = task.await {
            tracing::error!(%error, "the history's task ended out of order");
        }
        writer.close().await;
    }
}

fn open(settings: &HistorySettings, is_shared: bool) -> Result<(Writer, History, Pruner), HistoryError> {
    let (mut store, retention) = match &settings.file {
        Some(path) => {
            let (store, opened) = Store::open(path)?;
            if let Opened::SetAside(aside) = &opened {
                tracing::error!(path = %path.display(), kept = %aside.display(), "the history was damaged; it is set aside, and a new one begun");
            }
            (store, settings.retention)
        }
        None => (Store::in_memory()?, settings.retention.in_memory()),
    };
    store.set_name(&settings.name)?;
    if is_shared {
        store.ships();
    }
    let store = Arc::new(Mutex::new(store));
    let history = History::of(&store)?;
    let writer = Writer::start(store, history.clone(), retention);
    let writer = writer.map_err(|error| HistoryError::File(settings.file.clone().unwrap_or_default(), error))?;
    let pruner = writer.pruner(retention);
    Ok((writer, history, pruner))
}

async fn run(mut historian: Historian, fleet: Fleet, mut ended: oneshot::Receiver<()>) {
    loop {
        tokio::select! {
            _ = &mut ended => break,
            () = tokio::time::sleep(until_next(wall_ms())) => {}
        }
        if historian.look(wall_ms()).await {
            // What others do not hear now they hear a minute later; it must not hold up the next cut.
            tokio::select! {
                _ = &mut ended => break,
                () = fleet.exchange(wall_ms()) => {}
            }
        }
    }
    let now_ms = wall_ms();
    historian.look(now_ms).await;
    historian.cut(now_ms).await;
    // It is told when the server is back, if not now.
    if tokio::time::timeout(LAST_EXCHANGE_MAX, fleet.exchange(now_ms)).await.is_err() {
        tracing::info!("the last minute of the history could not be told to other instances in time");
    }
}

/// How long until the next look: at the end of the minute, and before.
fn until_next(now_ms: u64) -> Duration {
    Duration::from_millis(MINUTE_MS - now_ms % MINUTE_MS).min(LOOK_EVERY)
}

/// The clock on the wall, in milliseconds since 1970.
pub fn wall_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::super::span::{DAY_MS, HOUR_MS};
    use super::super::tests::{JUNE, in_memory, one, whole};
    use super::super::{Detail, Retention};
    use super::*;

    async fn begun(now_ms: u64) -> (Larder, Historian, History, Arc<Mutex<Store>>) {
        let larder = Larder::builder().build().await.expect("it opens");
        let (store, history) = in_memory();
        let writer = Writer::start(store.clone(), history.clone(), Retention::default()).expect("a thread");
        (larder.clone(), Historian::new(&larder, writer, now_ms), history, store)
    }

    async fn puts(larder: &Larder, n: u64) {
        let numbers = larder.namespace::<u64>("numbers").expect("a namespace");
        for key in 0..n {
            numbers.put(&key.to_string(), key).await.expect("it is put");
        }
    }

    fn told(history: &History, from_ms: u64, to_ms: u64) -> (u64, u64) {
        let found = one(history, &whole(from_ms, to_ms, Detail::Counts));
        (found.samples, found.total().counts.puts)
    }

    #[tokio::test]
    async fn each_minute_has_what_happened_in_it() {
        let (larder, mut historian, history, _store) = begun(JUNE + 20_000).await;
        puts(&larder, 3).await;
        assert!(!historian.look(JUNE + 59_999).await);
        assert!(historian.look(JUNE + MINUTE_MS).await);
        puts(&larder, 4).await;
        historian.cut(JUNE + 2 * MINUTE_MS - 1).await;
        assert_eq!(told(&history, JUNE, JUNE + MINUTE_MS), (1, 3));
        assert_eq!(told(&history, JUNE + MINUTE_MS, JUNE + 2 * MINUTE_MS), (1, 4));
        larder.close().await.expect("it closes");
    }

    #[tokio::test]
    async fn a_clock_that_is_set_ahead_leaves_a_gap_and_one_that_is_set_back_adds_up() {
        let (larder, mut historian, history, _store) = begun(JUNE).await;
        puts(&larder, 1).await;
        // An hour that nobody lived through: the machine slept.
        assert!(historian.look(JUNE + HOUR_MS).await);
        puts(&larder, 10).await;
        assert!(historian.look(JUNE + HOUR_MS + MINUTE_MS).await);
        assert_eq!(told(&history, JUNE, JUNE + MINUTE_MS), (1, 1));
        assert_eq!(told(&history, JUNE + MINUTE_MS, JUNE + HOUR_MS), (0, 0));
        assert_eq!(told(&history, JUNE + HOUR_MS, JUNE + HOUR_MS + MINUTE_MS), (1, 10));
        // Back to where it was: the minute is there already.
        puts(&larder, 100).await;
        assert!(historian.look(JUNE + 30_000).await);
        puts(&larder, 1_000).await;
        assert!(historian.look(JUNE + MINUTE_MS).await);
        assert_eq!(told(&history, JUNE, JUNE + MINUTE_MS), (1, 1_001));
        assert_eq!(told(&history, 0, JUNE + DAY_MS), (3, 1_111), "and nothing is lost");
        larder.close().await.expect("it closes");
    }

    #[tokio::test]
    async fn a_clock_far_ahead_forgets_nothing() {
        let (larder, mut historian, history, _store) = begun(JUNE).await;
        puts(&larder, 5).await;
        assert!(historian.look(JUNE + 20_000 * DAY_MS).await);
        assert!(historian.look(JUNE + 20_000 * DAY_MS + MINUTE_MS).await);
        assert!(historian.look(JUNE + 5 * MINUTE_MS).await);
        assert_eq!(told(&history, JUNE, JUNE + MINUTE_MS), (1, 5));
        larder.close().await.expect("it closes");
    }

    #[tokio::test]
    async fn a_clock_beyond_the_calendar_holds_nothing_up() {
        let (larder, mut historian, history, _store) = begun(u64::MAX - DAY_MS).await;
        assert!(historian.look(JUNE).await);
        puts(&larder, 5).await;
        assert!(historian.look(JUNE + MINUTE_MS).await);
        assert_eq!(told(&history, JUNE, JUNE + MINUTE_MS), (1, 5));
        larder.close().await.expect("it closes");
    }

    #[test]
    fn looks_are_at_the_end_of_minutes_and_every_five_seconds() {
        assert_eq!(until_next(JUNE), LOOK_EVERY);
        assert_eq!(until_next(JUNE + 59_000), Duration::from_secs(1));
    }
}
