//! What a job is: when it is due, and what becomes of it when things go otherwise than they should.

use std::path::PathBuf;
use std::time::Duration;

use super::schedule::Schedule;

/// The names of all jobs that there can be, in the order in which they are told.
pub const NAMES: [&str; 4] = ["cleanup", "optimize", "analyze", "backup"];

/// What becomes of an instant that comes while the run before is still under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Overlap {
    /// Nothing is done for it.
    Skip,
    /// A run waits until the other ends. What comes besides counts as missed, but for the last.
    Queue,
}

/// What becomes of instants at which nobody could begin in time: the server was down, or could not reach Redis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Missed {
    /// They are recorded, and nothing is done for them.
    Skip,
    /// The last of them is made up for.
    Once,
    /// Each is, one after the other, but for those before the last [`MADE_UP_MAX`].
    All,
}

/// How many missed instants are made up for at most.
pub const MADE_UP_MAX: usize = 100;

/// A job, as it is configured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Definition {
    /// What it is called.
    pub name: String,
    /// When it is due.
    pub schedule: Schedule,
    /// What becomes of what comes due while it runs.
    pub overlap: Overlap,
    /// What becomes of what nobody began in time.
    pub missed: Missed,
    /// How long after its instant a run is still in time.
    pub start_deadline: Duration,
    /// A run begins so much later at most, so that not all jobs of all servers begin at once. How much is the same on every instance.
    pub jitter: Duration,
    /// How long one attempt may take.
    pub timeout: Duration,
    /// How often it is tried again when it fails.
    pub retries: u32,
    /// How long it waits before the first of those; twice as long before each next one, an hour at most.
    pub backoff: Duration,
}

/// Which jobs there are, and where they keep what they keep.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct JobSettings {
    /// Those that are on.
    pub jobs: Vec<Definition>,
    /// The file of their runs. `None`: in memory.
    pub file: Option<PathBuf>,
    /// Where reports are stored. `None`: nowhere; what they found is in the runs' results.
    pub reports: Option<PathBuf>,
    /// How many runs of each job are kept.
    pub runs_kept: usize,
    /// How many reports are.
    pub reports_kept: usize,
}

impl Definition {
    /// A job with what holds unless told otherwise. Only what is due by itself has a schedule to be given.
    pub fn new(name: &str, schedule: Schedule) -> Self {
        let minutes = |minutes: u64| Duration::from_secs(minutes * 60);
        Definition {
            name: name.to_owned(),
            schedule,
            overlap: Overlap::Skip,
            missed: Missed::Once,
            start_deadline: minutes(60),
            jitter: Duration::ZERO,
            timeout: minutes(60),
            retries: 2,
            backoff: Duration::from_secs(30),
        }
    }

    /// When what is due at an instant begins: with the jitter, which is less than the time to the next.
    pub fn begins_ms(&self, due_ms: u64) -> u64 {
        let jitter = millis(self.jitter);
        if jitter == 0 {
            return due_ms;
        }
        let room = self.schedule.after(due_ms).map_or(jitter, |next| (next - due_ms).min(jitter));
        // A number that all instances draw alike, and that is another one each time.
        let drawn = fastrand::Rng::with_seed(self.name.bytes().fold(due_ms, |seed, byte| seed.rotate_left(7) ^ u64::from(byte)));
        due_ms + { drawn }.u64(..room.max(1))
    }

    /// The next instants, and the jitter of each added.
    pub fn next_ms(&self, now_ms: u64, count: usize) -> Vec<u64> {
        self.schedule.next(now_ms, count).into_iter().map(|due_ms| self.begins_ms(due_ms)).collect()
    }

    /// How long to wait before the attempt after so many.
    pub fn pause_after(&self, attempts: u32) -> Duration {
        self.backoff.saturating_mul(1 << attempts.saturating_sub(1).min(16)).min(Duration::from_secs(3_600))
    }
}

/// In milliseconds, as far as those go.
pub(super) fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

impl Overlap {
    /// The word of the configuration.
    pub fn name(self) -> &'static str {
        match self {
            Overlap::Skip => "skip",
            Overlap::Queue => "queue",
        }
    }
}

impl Missed {
    /// The word of the configuration.
    pub fn name(self) -> &'static str {
        match self {
            Missed::Skip => "skip",
            Missed::Once => "once",
            Missed::All => "all",
        }
    }
}
