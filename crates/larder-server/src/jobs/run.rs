//! A run of a job: what is recorded of it, and how much at most.

use serde::{Deserialize, Serialize};
use serde_json::{Value as Json, json};

use super::planner::{GivenUp, Why};

/// Lines of its log that are kept: the last.
pub const LOG_LINES_MAX: usize = 50;

/// The most bytes of a line, or of a reason.
const LINE_BYTES_MAX: usize = 500;

/// The most bytes of a result. A record of larder's takes four times as much.
const RESULT_BYTES_MAX: usize = 64 << 10;

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// It is under way.
    Running,
    /// It went well.
    Ok,
    /// It failed, and every time that it was tried again.
    Failed,
    /// It took too long.
    TimedOut,
    /// Somebody stopped it.
    Cancelled,
    /// Its instance ended, or died, while it was under way.
    Interrupted,
    /// Another instance took it over; what this one did counts for nothing.
    Superseded,
    /// Nobody could begin it in time.
    Missed,
    /// The run before was still under way.
    Overlapped,
}

impl Outcome {
    /// All of them.
    pub const ALL: [Outcome; 9] = [
        Outcome::Running,
        Outcome::Ok,
        Outcome::Failed,
        Outcome::TimedOut,
        Outcome::Cancelled,
        Outcome::Interrupted,
        Outcome::Superseded,
        Outcome::Missed,
        Outcome::Overlapped,
    ];

    /// The word that it is told with.
    pub fn name(self) -> &'static str {
        match self {
            Outcome::Running => "running",
            Outcome::Ok => "ok",
            Outcome::Failed => "failed",
            Outcome::TimedOut => "timed_out",
            Outcome::Cancelled => "cancelled",
            Outcome::Interrupted => "interrupted",
            Outcome::Superseded => "superseded",
            Outcome::Missed => "missed",
            Outcome::Overlapped => "overlapped",
        }
    }

    /// Whether somebody should look at it.
    pub fn is_bad(self) -> bool {
        matches!(self, Outcome::Failed | Outcome::TimedOut | Outcome::Missed)
    }
}

/// What is recorded of a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Run {
    /// Its number, larger than that of every run of this job before.
    pub id: u64,
    /// The job.
    pub job: String,
    /// The instant at which it was due, in milliseconds since 1970; of one that somebody asked for, when they did.
    pub due_ms: u64,
    /// Whether it is by schedule.
    pub scheduled: bool,
    /// Who asked for it: a principal, or nobody where it is by schedule or nobody has to say who they are.
    pub by: Option<String>,
    /// The instance that it ran on.
    pub instance: String,
    /// When it began.
    pub started_ms: u64,
    /// When it ended.
    pub ended_ms: Option<u64>,
    /// How often it was tried.
    pub attempts: u32,
    /// How it ended.
    pub outcome: Outcome,
    /// Why it did not go well.
    pub error: Option<String>,
    /// What came of it.
    pub result: Json,
    /// The last lines of what was noted.
    pub log: Vec<String>,
}

impl Run {
    /// One that begins.
    pub fn begun(job: &str, (id, due_ms, scheduled): (u64, u64, bool), by: Option<String>, instance: &str, now_ms: u64) -> Self {
        Run {
            id,
            job: job.to_owned(),
            due_ms,
            scheduled,
            by,
            instance: instance.to_owned(),
            started_ms: now_ms,
            ended_ms: None,
            attempts: 0,
            outcome: Outcome::Running,
            error: None,
            result: Json::Null,
            log: Vec::new(),
        }
    }

    /// That nothing is done for some instants. It has no number until it is recorded.
    pub fn given_up(job: &str, given_up: &GivenUp, instance: &str, now_ms: u64) -> Self {
        let GivenUp { why, from_ms, to_ms, count } = *given_up;
        let (outcome, error) = match why {
            Why::Missed => (Outcome::Missed, "no instance could begin it in time"),
            Why::Overlapped => (Outcome::Overlapped, "the run before was still under way"),
        };
        Run {
            ended_ms: Some(now_ms),
            outcome,
            error: Some(error.to_owned()),
            result: json!({ "instants": count, "from_ms": from_ms, "to_ms": to_ms }),
            ..Run::begun(job, (0, to_ms, true), None, instance, now_ms)
        }
    }

    /// How long it took, in milliseconds; of one that is under way, up to now.
    pub fn took_ms(&self, now_ms: u64) -> u64 {
        self.ended_ms.unwrap_or(now_ms).saturating_sub(self.started_ms)
    }

    /// Ends it.
    pub fn end(&mut self, outcome: Outcome, error: Option<&str>, now_ms: u64) {
        self.outcome = outcome;
        self.error = error.map(cut);
        self.ended_ms = Some(now_ms);
    }

    /// Takes what came of it, unless that is too much to keep.
    pub fn keep(&mut self, result: Json) {
        let bytes = result.to_string().len();
        let limit = RESULT_BYTES_MAX;
        self.result = if bytes <= limit { result } else { json!({ "not_kept": format!("it has {bytes} bytes, and {limit} are kept") }) };
    }

    /// Notes a line; of too many the first go.
    pub fn note(&mut self, line: &str) {
        if self.log.len() == LOG_LINES_MAX {
            self.log.remove(0);
        }
        self.log.push(cut(line));
    }
}

fn cut(text: &str) -> String {
    let end = (0..=LINE_BYTES_MAX.min(text.len())).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
    if end == text.len() { text.to_owned() } else { format!("{}...", &text[..end]) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_recorded_is_bounded_and_read_again() {
        let mut run = Run::begun("cleanup", (7, 1_000, true), None, "a", 1_100);
        (0..200).for_each(|number| run.note(&format!("{number} {}", "\u{1f980}".repeat(1_000))));
        run.keep(Json::String("x".repeat(1 << 20)));
        run.end(Outcome::Failed, Some(&"\u{e4}".repeat(10_000)), 1_500);
        assert_eq!(run.log.len(), LOG_LINES_MAX);
        assert!(run.log[0].starts_with("150 "), "the last lines are kept");
        assert_eq!(run.took_ms(9_999), 400);
        let text = serde_json::to_vec(&run).expect("it is JSON");
        assert!(text.len() < larder::election::RECORD_BYTES_MAX / 2, "{}", text.len());
        assert_eq!(serde_json::from_slice::<Run>(&text).expect("it is a run"), run);
    }

    #[test]
    fn the_words_are_those_of_the_documents() {
        for outcome in Outcome::ALL {
            assert_eq!(serde_json::to_value(outcome).expect("a word"), outcome.name());
        }
    }
}
