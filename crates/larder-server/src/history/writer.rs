//! The thread that writes: one minute after the other, from a bounded queue, so that no disk holds up the runtime.
//!
//! What cannot be written (a disk that is full) waits here, in bounds, and is tried again with each minute. A file that is found
//! damaged is set aside, and what comes after goes into a new one.

use std::collections::VecDeque;
use std::sync::Arc;
use std::thread::JoinHandle;

use larder::analytics::Rollup;
use parking_lot::Mutex;
use tokio::sync::{mpsc, oneshot};

use super::store::Pruned;
use super::{History, HistoryError, Retention, Store};

/// Commands that may wait. Who finds it full waits too, without a thread, and what happens meanwhile is counted in the next minute.
const QUEUE: usize = 64;

/// Minutes that wait for a disk: a day of them. After that the two oldest become one.
const BACKLOG_MAX: usize = 1_440;

/// Steps of pruning after one minute.
const PRUNES_MAX: usize = 4;

type Task = Box<dyn FnOnce(&mut Store) + Send>;

enum Command {
    /// A minute that has ended by this time, and who wants to know when it was written or has to wait.
    Minute(Box<Rollup>, u64, oneshot::Sender<()>),
    /// Anything else.
    Do(Task),
}

/// The way to the thread that writes. The thread ends when all of them are dropped, or by [`close`](Self::close).
#[derive(Clone)]
pub struct Writer {
    commands: mpsc::Sender<Command>,
    trouble: Arc<Mutex<Option<String>>>,
    thread: Arc<Mutex<Option<JoinHandle<()>>>>,
}

/// The right to have the history forget what is kept no longer, before its time. It does not keep the thread that writes from ending.
#[derive(Clone)]
pub struct Pruner {
    commands: mpsc::WeakSender<Command>,
    retention: Retention,
}

impl Pruner {
    /// One bounded step, in its turn between the minutes that are written. Nothing, while the clock is not to be believed.
    ///
    /// # Errors
    /// [`HistoryError::Closed`] when nobody writes any more, and what the database says.
    pub async fn step(&self, now_ms: u64) -> Result<Pruned, HistoryError> {
        let commands = self.commands.upgrade().ok_or(HistoryError::Closed)?;
        let retention = self.retention;
        let prune = move |store: &mut Store| {
            let is_believed = store.believes(now_ms)?;
            if is_believed { store.prune_step(now_ms, &retention) } else { Ok(Pruned::default()) }
        };
        ask(&commands, prune).await
    }
}

/// Has something done with the store, in its turn.
async fn ask<T: Send + 'static>(
    commands: &mpsc::Sender<Command>,
    task: impl FnOnce(&mut Store) -> Result<T, HistoryError> + Send + 'static,
) -> Result<T, HistoryError> {
    let (reply, answer) = oneshot::channel();
    let task: Task = Box::new(move |store| {
        // Who asked may have gone.
        drop(reply.send(task(store)));
    });
    commands.send(Command::Do(task)).await.map_err(|_| HistoryError::Closed)?;
    answer.await.map_err(|_| HistoryError::Closed)?
}

impl Writer {
    /// Begins to write.
    ///
    /// # Errors
    /// When there is no thread to be had.
    pub fn start(store: Arc<Mutex<Store>>, history: History, retention: Retention) -> std::io::Result<Writer> {
        let (commands, queue) = mpsc::channel(QUEUE);
        let trouble = Arc::new(Mutex::new(None));
        let desk = Desk { store, history, retention, backlog: VecDeque::new(), trouble: trouble.clone() };
        let thread = std::thread::Builder::new().name("history".into()).spawn(move || desk.run(queue))?;
        Ok(Writer { commands, trouble, thread: Arc::new(Mutex::new(Some(thread))) })
    }

    /// Has a minute written, which has ended by this time. Returns when it is, or has to wait for the disk.
    pub async fn minute(&self, minute: Rollup, now_ms: u64) {
        let (done, is_done) = oneshot::channel();
        if self.commands.send(Command::Minute(Box::new(minute), now_ms, done)).await.is_err() || is_done.await.is_err() {
            tracing::error!("a minute of the history came after its end, and is lost");
        }
    }

    /// Does something with the store, in its turn.
    ///
    /// # Errors
    /// What it fails with; [`HistoryError::Closed`] when nobody writes any more.
    pub async fn with<T: Send + 'static>(
        &self,
        task: impl FnOnce(&mut Store) -> Result<T, HistoryError> + Send + 'static,
    ) -> Result<T, HistoryError> {
        ask(&self.commands, task).await
    }

    /// What can have it forget what is kept no longer than this.
    pub fn pruner(&self, retention: Retention) -> Pruner {
        Pruner { commands: self.commands.downgrade(), retention }
    }

    /// Why nothing can be written, while it cannot.
    pub fn trouble(&self) -> Option<String> {
        self.trouble.lock().clone()
    }

    /// Ends the thread when it has done what was asked before, and waits for that.
    pub async fn close(self) {
        let Writer { commands, thread, .. } = self;
        drop(commands);
        let thread = thread.lock().take();
        if let Some(thread) = thread {
            let joined = tokio::task::spawn_blocking(move || thread.join()).await;
            if !matches!(joined, Ok(Ok(()))) {
                tracing::error!("the history's thread ended out of order");
            }
        }
    }
}

/// What the thread has.
struct Desk {
    store: Arc<Mutex<Store>>,
    history: History,
    retention: Retention,
    backlog: VecDeque<Rollup>,
    trouble: Arc<Mutex<Option<String>>>,
}

impl Desk {
    fn run(mut self, mut queue: mpsc::Receiver<Command>) {
        let checked = self.store.lock().check();
        self.settle(checked);
        while let Some(command) = queue.blocking_recv() {
            match command {
                Command::Do(task) => task(&mut self.store.lock()),
                Command::Minute(minute, now_ms, done) => {
                    self.take(*minute);
                    let kept = self.write().and_then(|()| self.keep(now_ms));
                    self.settle(kept);
                    if done.send(()).is_err() {
                        tracing::debug!("nobody waits for a minute that was written");
                    }
                }
            }
        }
        let written = self.write().and_then(|()| self.store.lock().checkpoint());
        self.settle(written);
        if !self.backlog.is_empty() {
            tracing::error!(minutes = self.backlog.len(), "the last minutes of the history could not be written");
        }
    }

    fn take(&mut self, minute: Rollup) {
        if self.backlog.len() >= BACKLOG_MAX
            && let (Some(mut oldest), Some(next)) = (self.backlog.pop_front(), self.backlog.pop_front())
        {
            oldest.then(&next);
            self.backlog.push_front(oldest);
        }
        self.backlog.push_back(minute);
    }

    fn write(&mut self) -> Result<(), HistoryError> {
        while let Some(minute) = self.backlog.front() {
            match self.store.lock().add(minute) {
                // No later try would find it in the calendar.
                Err(error @ HistoryError::Calendar) => tracing::error!(%error, "a minute of the history is not written"),
                written => written?,
            }
            self.backlog.pop_front();
        }
        Ok(())
    }

    /// What there is to do once a minute beside writing it.
    fn keep(&self, now_ms: u64) -> Result<(), HistoryError> {
        let mut store = self.store.lock();
        store.close_due(now_ms)?;
        if !store.believes(now_ms)? {
            return Ok(());
        }
        for _ in 0..PRUNES_MAX {
            if !store.prune(now_ms, &self.retention)? {
                break;
            }
        }
        Ok(())
    }

    /// Tells of trouble when it begins and when it ends, and begins a new file where the old one is of no use.
    fn settle(&mut self, outcome: Result<(), HistoryError>) {
        let was_troubled = self.trouble.lock().is_some();
        match outcome {
            Ok(()) if was_troubled => {
                tracing::info!("the history is written again");
                *self.trouble.lock() = None;
            }
            Ok(()) => {}
            Err(error) if error.is_damage() => {
                let renewed = self.store.lock().renew();
                self.history.forget_connections();
                match renewed {
                    Ok(aside) => tracing::error!(%error, kept = ?aside, "the history is damaged; it is set aside, and a new one begun"),
                    Err(again) => self.tell(&again),
                }
            }
            Err(error) => self.tell(&error),
        }
    }

    fn tell(&self, error: &HistoryError) {
        if self.trouble.lock().replace(error.to_string()).is_none() {
            tracing::error!(%error, "the history cannot be written; it is tried again every minute");
        }
    }
}
