//! Records on their way to the disk: a bounded queue, places in it that are taken before there is a record, and how far it is written.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};
use tokio::sync::{oneshot, watch};
use tokio::time::timeout;

use super::record::Record;

/// Refused operations of one second that are recorded one by one; of more, only their number is.
const REFUSED_PER_SECOND: u32 = 100;

/// How long operations under way are waited for when it is closed. They have ended by then, unless something hangs.
const LAST_WAIT: Duration = Duration::from_secs(5);

/// How long an answer waits for its record. A disk that takes longer hangs.
const WAIT_MAX: Duration = Duration::from_secs(10);

const SECOND: Duration = Duration::from_secs(1);

/// How far it is written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    /// Records that were written since it was opened.
    pub written: u64,
    /// Records that wait.
    pub waiting: usize,
    /// Operations that were carried out and could not be recorded.
    pub lost: u64,
    /// Why it cannot be written now, if it cannot.
    pub failing: Option<String>,
}

/// Why there is no place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NoRoom {
    Failing(String),
    Full(usize),
    Closed,
}

/// See the head of this file.
pub struct Queue {
    inner: Mutex<Inner>,
    come: Condvar,
    progress: watch::Sender<Progress>,
    most: usize,
}

struct Inner {
    waiting: VecDeque<Record>,
    /// Places taken by operations under way.
    taken: usize,
    /// Records that were ever put in.
    put: u64,
    failing: Option<String>,
    /// Since when nothing more is taken in.
    closed: Option<Instant>,
    /// Whether nobody takes anything out any more.
    is_over: bool,
    counts: Counts,
    second: (Option<Instant>, u32),
    /// Those who want old files removed now, and to hear what came of it.
    retiring: Vec<Retiring>,
}

/// Who wants to hear what came of the removal of old files.
pub type Retiring = oneshot::Sender<io::Result<Retired>>;

/// Files that were removed because their time was over.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Retired {
    /// How many.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// What could not be recorded one by one, since that was last recorded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Operations that were refused.
    pub refused: u64,
    /// Operations that were carried out.
    pub lost: u64,
    /// The same since it was opened.
    pub lost_ever: u64,
}

#[derive(Clone, Copy, Debug, Default)]
struct Progress {
    written: u64,
    is_failing: bool,
}

/// What a look at the queue finds.
pub enum Come {
    /// Records to be written, in their order; there may be none.
    Records(Vec<Record>),
    /// That was all there will ever be.
    Closed,
}

impl Queue {
    pub fn new(most: usize) -> Self {
        let inner = Inner {
            waiting: VecDeque::new(),
            taken: 0,
            put: 0,
            failing: None,
            closed: None,
            is_over: false,
            counts: Counts::default(),
            second: (None, 0),
            retiring: Vec::new(),
        };
        Queue { inner: Mutex::new(inner), come: Condvar::new(), progress: watch::Sender::new(Progress::default()), most }
    }

    /// Takes a place, if there is one.
    pub fn reserve(queue: &Arc<Self>, record: impl FnOnce() -> Record) -> Result<Slot, NoRoom> {
        let mut inner = queue.inner.lock();
        if inner.closed.is_some() {
            return Err(NoRoom::Closed);
        }
        if let Some(why) = &inner.failing {
            return Err(NoRoom::Failing(why.clone()));
        }
        if inner.waiting.len() + inner.taken >= queue.most {
            return Err(NoRoom::Full(queue.most));
        }
        inner.taken += 1;
        drop(inner);
        Ok(Slot { queue: queue.clone(), record: Some(record()) })
    }

    /// An operation is carried out that cannot be recorded.
    pub fn lose(&self) {
        let mut inner = self.inner.lock();
        inner.counts.lost += 1;
        inner.counts.lost_ever += 1;
    }

    /// Records what was refused, or counts it.
    pub fn refused(queue: &Arc<Self>, record: impl FnOnce() -> Record) {
        let mut inner = queue.inner.lock();
        if inner.second.0.is_none_or(|began| began.elapsed() >= SECOND) {
            inner.second = (Some(Instant::now()), 0);
        }
        inner.second.1 += 1;
        let has_room = inner.waiting.len() + inner.taken < queue.most;
        if inner.second.1 > REFUSED_PER_SECOND || !has_room || inner.closed.is_some() {
            inner.counts.refused += 1;
            return;
        }
        inner.taken += 1;
        drop(inner);
        drop(Slot { queue: queue.clone(), record: Some(record()) });
    }

    fn put(&self, record: Record) -> u64 {
        let mut inner = self.inner.lock();
        inner.taken -= 1;
        if inner.is_over {
            drop(inner);
            tracing::error!(?record, "this is not in the audit log, which was closed before it ended");
            return u64::MAX;
        }
        inner.waiting.push_back(record);
        inner.put += 1;
        let number = inner.put;
        drop(inner);
        self.come.notify_one();
        number
    }

    /// Waits for records, for so long at most, and takes up to so many.
    pub fn take(&self, most: usize, wait: Duration) -> Come {
        let mut inner = self.inner.lock();
        // Operations under way when it is closed have their places, and their records are waited for.
        let is_over = |inner: &Inner| inner.closed.is_some_and(|since| inner.taken == 0 || since.elapsed() >= LAST_WAIT);
        if inner.waiting.is_empty() && !is_over(&inner) {
            self.come.wait_for(&mut inner, wait);
        }
        let len = inner.waiting.len().min(most);
        let records: Vec<Record> = inner.waiting.drain(..len).collect();
        if records.is_empty() && is_over(&inner) {
            inner.is_over = true;
            return Come::Closed;
        }
        Come::Records(records)
    }

    /// Takes what was not recorded one by one since that was last done.
    pub fn take_counts(&self) -> Counts {
        let mut inner = self.inner.lock();
        let counts = inner.counts;
        (inner.counts.refused, inner.counts.lost) = (0, 0);
        counts
    }

    /// Asks for old files to be removed. Nobody answers where nobody writes any more.
    pub fn ask_to_retire(&self) -> oneshot::Receiver<io::Result<Retired>> {
        let (asked, answer) = oneshot::channel();
        let mut inner = self.inner.lock();
        if !inner.is_over {
            inner.retiring.push(asked);
        }
        drop(inner);
        self.come.notify_one();
        answer
    }

    /// Those who asked for that.
    pub fn take_retiring(&self) -> Vec<Retiring> {
        std::mem::take(&mut self.inner.lock().retiring)
    }

    /// Waits between two attempts to write. Less long where it is closed.
    pub fn pause(&self, wait: Duration) {
        let mut inner = self.inner.lock();
        if inner.closed.is_none() {
            self.come.wait_for(&mut inner, wait);
        }
    }

    /// Whether nothing more is taken in.
    pub fn is_closed(&self) -> bool {
        self.inner.lock().closed.is_some()
    }

    /// So many more are written.
    pub fn wrote(&self, records: u64) {
        self.inner.lock().failing = None;
        self.progress.send_modify(|progress| {
            progress.written += records;
            progress.is_failing = false;
        });
    }

    /// It cannot be written.
    pub fn failed(&self, why: &str) {
        self.inner.lock().failing = Some(why.to_owned());
        self.progress.send_modify(|progress| progress.is_failing = true);
    }

    /// Takes nothing more in.
    pub fn close(&self) {
        self.inner.lock().closed.get_or_insert_with(Instant::now);
        self.come.notify_all();
    }

    /// Nobody takes anything out any more, in order or not: nobody waits for it.
    pub fn over(&self) {
        let mut inner = self.inner.lock();
        inner.closed.get_or_insert_with(Instant::now);
        inner.is_over = true;
        inner.retiring.clear();
        inner.failing.get_or_insert_with(|| "nobody writes it any more".to_owned());
        drop(inner);
        self.progress.send_modify(|progress| progress.is_failing = true);
    }

    pub fn standing(&self) -> Standing {
        let inner = self.inner.lock();
        let written = self.progress.borrow().written;
        Standing {
            written,
            waiting: usize::try_from(inner.put.saturating_sub(written)).unwrap_or(usize::MAX),
            lost: inner.counts.lost_ever,
            failing: inner.failing.clone(),
        }
    }
}

/// A place in the queue, and the record that takes it. One that is dropped takes it as it is: nobody knows how the operation ended.
pub struct Slot {
    queue: Arc<Queue>,
    record: Option<Record>,
}

impl Slot {
    /// The record, for what comes to be known of the operation.
    pub fn record(&mut self) -> &mut Record {
        self.record.as_mut().expect("it is there until the slot ends")
    }

    /// The operation has ended as the record says.
    pub fn end(mut self) -> Written {
        let record = self.record.take().expect("it is there until the slot ends");
        let number = self.queue.put(record);
        Written { number, progress: self.queue.progress.subscribe() }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        if let Some(record) = self.record.take() {
            self.queue.put(record);
        }
    }
}

/// A record on its way.
#[derive(Debug)]
pub struct Written {
    number: u64,
    progress: watch::Receiver<Progress>,
}

impl Written {
    /// Waits until it is written, and all before it. Where that fails, or the disk hangs, it is not waited for any longer: it stays in the
    /// queue, and nothing else that is recorded is done before it is written. Whether it is.
    pub async fn wait(mut self) -> bool {
        let number = self.number;
        let reached = self.progress.wait_for(|progress| progress.written >= number || progress.is_failing);
        matches!(timeout(WAIT_MAX, reached).await, Ok(Ok(progress)) if progress.written >= number)
    }
}
