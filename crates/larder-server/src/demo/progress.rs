//! The line that moves while the demo runs: on stderr, and only where a person watches.

use std::io::IsTerminal;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use tokio::task::JoinHandle;
use tokio::time::{Instant, MissedTickBehavior, interval};

use super::print::{count, percent};
use super::run::{Extent, Live};

/// How often the line moves.
const EVERY: Duration = Duration::from_millis(100);

/// A progress line; it goes away when this is dropped.
#[derive(Debug)]
pub struct Progress {
    task: Option<JoinHandle<()>>,
    bar: ProgressBar,
}

impl Progress {
    /// Shows how far a run is, if stderr is a terminal.
    pub fn show(mode: &str, extent: Extent, live: &Arc<Live>) -> Self {
        if !std::io::stderr().is_terminal() {
            return Self { task: None, bar: ProgressBar::hidden() };
        }
        let bar = ProgressBar::with_draw_target(Some(length(extent)), ProgressDrawTarget::stderr());
        let style = ProgressStyle::with_template("{prefix:>16} {bar:12} {wide_msg}");
        bar.set_style(style.expect("the template is fixed and well formed").progress_chars("━╸─"));
        bar.set_prefix(mode.to_owned());
        let task = tokio::spawn(keep_moving(bar.clone(), extent, Arc::clone(live)));
        Self { task: Some(task), bar }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.abort();
        }
        self.bar.finish_and_clear();
    }
}

async fn keep_moving(bar: ProgressBar, extent: Extent, live: Arc<Live>) {
    let began = Instant::now();
    let mut ticks = interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    loop {
        ticks.tick().await;
        bar.set_position(position(extent, began.elapsed(), &live));
        bar.set_message(line(&live));
    }
}

fn length(extent: Extent) -> u64 {
    match extent {
        Extent::For(time) => millis(time),
        Extent::Reads(reads) => reads,
    }
}

fn position(extent: Extent, elapsed: Duration, live: &Live) -> u64 {
    match extent {
        Extent::For(_) => millis(elapsed),
        Extent::Reads(_) => live.reads.load(Ordering::Relaxed),
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

fn line(live: &Live) -> String {
    let reads = live.reads.load(Ordering::Relaxed);
    let hit_rate = live.hits.load(Ordering::Relaxed) as f64 / reads.max(1) as f64;
    // What matters most comes first, as a narrow terminal cuts the end off.
    format!(
        "{} reads · {} stale · hits {} · {} bars · {} releases",
        count(reads),
        count(live.stale.load(Ordering::Relaxed)),
        percent(hit_rate),
        count(live.bars.load(Ordering::Relaxed)),
        count(live.releases.load(Ordering::Relaxed)),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_says_what_matters() {
        let live = Live::default();
        live.reads.store(2_000_000, Ordering::Relaxed);
        live.hits.store(1_990_000, Ordering::Relaxed);
        live.bars.store(1_234, Ordering::Relaxed);
        live.stale.store(17, Ordering::Relaxed);
        assert_eq!(line(&live), "2,000,000 reads · 17 stale · hits 99.50 % · 1,234 bars · 0 releases");
    }

    #[test]
    fn progress_is_counted_in_what_ends_the_run() {
        let live = Live::default();
        live.reads.store(7, Ordering::Relaxed);
        let (time, reads) = (Extent::For(Duration::from_secs(2)), Extent::Reads(10));
        assert_eq!((length(time), position(time, Duration::from_millis(500), &live)), (2_000, 500));
        assert_eq!((length(reads), position(reads, Duration::from_millis(500), &live)), (10, 7));
    }
}
