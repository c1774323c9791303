//! What the built-in jobs do. Each is a function of what it may use and of how it tells how far it is; when it begins, how often it is
//! tried and what is recorded of it, others decide.
//!
//! `backup` is among them only where a place is configured: it has nowhere to put anything otherwise.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use larder::Larder;
use parking_lot::Mutex;
use serde_json::{Value as Json, json};

use super::run::LOG_LINES_MAX;
use crate::backup::runs::Backups;
use crate::cleanup::Cleaner;
use crate::history::History;
use crate::progress::Progress;
use crate::report::{self, Asked, Format, Report};

/// What a job may use.
#[derive(Clone)]
pub struct Tools {
    /// The cache.
    pub larder: Larder,
    /// What happened, if that is kept.
    pub history: Option<History>,
    /// Where reports are stored, and how many of them are kept.
    pub reports: Option<(PathBuf, usize)>,
    /// The time zone of the job.
    pub zone: TimeZone,
    /// The instant at which it was due, in milliseconds since 1970.
    pub due_ms: u64,
    notes: Arc<Mutex<Vec<String>>>,
}

/// Why a job did not do what it was to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// Why, in a line.
    pub what: String,
    /// Whether it may go better when it is tried again.
    pub again: bool,
    stopped: bool,
}

/// The future of a job.
pub type Working = Pin<Box<dyn Future<Output = Result<Json, Failure>> + Send>>;

type Work = Arc<dyn Fn(Tools, Arc<Progress>) -> Working + Send + Sync>;

/// What is done by each job, by its name.
#[derive(Clone, Default)]
pub struct Works(BTreeMap<String, Work>);

impl Tools {
    /// What a job may use that was due at an instant in a time zone.
    pub fn new(larder: Larder, history: Option<History>, reports: Option<(PathBuf, usize)>, (zone, due_ms): (TimeZone, u64)) -> Self {
        Tools { larder, history, reports, zone, due_ms, notes: Arc::default() }
    }

    /// Notes a line in the log of the run. Of too many, the last are kept.
    pub fn note(&self, line: impl Into<String>) {
        let mut notes = self.notes.lock();
        if notes.len() == LOG_LINES_MAX {
            notes.remove(0);
        }
        notes.push(line.into());
    }

    /// Takes what was noted.
    pub fn noted(&self) -> Vec<String> {
        std::mem::take(&mut *self.notes.lock())
    }
}

impl Failure {
    /// What may go better when it is tried again.
    pub fn new(what: impl fmt::Display) -> Self {
        Failure { what: what.to_string(), again: true, stopped: false }
    }

    /// What will not.
    pub fn for_good(what: impl fmt::Display) -> Self {
        Failure { what: what.to_string(), again: false, stopped: false }
    }

    /// For work that stopped because it was told to.
    pub fn stopped() -> Self {
        Failure { stopped: true, ..Failure::for_good("it was stopped") }
    }

    /// Whether somebody stopped it, which is no failure.
    pub fn is_stopped(&self) -> bool {
        self.stopped
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)
    }
}

impl Works {
    /// Cleanup, by whoever cleans up here, optimize, analyze, and backup, where there is a place for any.
    pub fn built_in(cleaner: &Arc<Cleaner>, backups: Option<&Arc<Backups>>) -> Self {
        let mut works = Works::default();
        let cleaner = cleaner.clone();
        works.add("cleanup", move |tools, progress| {
            let cleaner = cleaner.clone();
            async move { cleanup(&cleaner, &tools, progress).await }
        });
        works.add("optimize", |tools, progress| async move { optimize(&tools, &progress).await });
        works.add("analyze", |tools, progress| async move { analyze(&tools, &progress).await });
        if let Some(backups) = backups.cloned() {
            works.add("backup", move |tools, progress| {
                let backups = backups.clone();
                async move { backup(&backups, &tools, progress).await }
            });
        }
        works
    }

    /// Has a job do this.
    pub fn add<W>(&mut self, job: &str, work: impl Fn(Tools, Arc<Progress>) -> W + Send + Sync + 'static)
    where
        W: Future<Output = Result<Json, Failure>> + Send + 'static,
    {
        self.0.insert(job.to_owned(), Arc::new(move |tools, progress| Box::pin(work(tools, progress))));
    }

    /// Whether there is anything to do for a job.
    pub fn has(&self, job: &str) -> bool {
        self.0.contains_key(job)
    }

    /// Begins.
    pub(super) fn begin(&self, job: &str, tools: Tools, progress: Arc<Progress>) -> Option<Working> {
        self.0.get(job).map(|work| work(tools, progress))
    }
}

impl fmt::Debug for Works {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

/// Gives back what nobody needs any more.
async fn cleanup(cleaner: &Cleaner, tools: &Tools, progress: Arc<Progress>) -> Result<Json, Failure> {
    let report = cleaner.run(progress.clone()).await;
    let total = |report: &Json| format!("{} entries and {} bytes were given back", report["total"]["entries"], report["total"]["bytes"]);
    tools.note(total(report.as_ref().unwrap_or_else(|failed| &failed.report)));
    if progress.is_cancelled() {
        return Err(Failure::stopped());
    }
    report.map_err(Failure::new)
}

/// Takes a backup, and removes those that need not stay.
async fn backup(backups: &Arc<Backups>, tools: &Tools, progress: Arc<Progress>) -> Result<Json, Failure> {
    let result = backups.scheduled(progress.clone()).await;
    if progress.is_cancelled() && result.is_err() {
        return Err(Failure::stopped());
    }
    let result = result.map_err(Failure::new)?;
    tools.note(format!("the backup {} was taken", result["backup"]["name"].as_str().unwrap_or_default()));
    Ok(result)
}

/// Ends the window of what is looked at for the sizing of memory, acts on it where that was asked for, and tells what was found.
async fn optimize(tools: &Tools, progress: &Progress) -> Result<Json, Failure> {
    progress.at("simulating caches of other sizes", 0, None);
    let larder = tools.larder.clone();
    // It errs where nothing is looked at, which is as it was set.
    let found = tokio::task::spawn_blocking(move || larder.optimize().ok()).await.map_err(Failure::new)?;
    let Some(sizing) = found else {
        tools.note("nothing is looked at: sizing is off");
        return Ok(json!({ "mode": "off", "sizing": null }));
    };
    if let Some(last) = sizing.decisions.last() {
        tools.note(format!("the last decision: {}", last.what));
    }
    let mode = serde_json::to_value(sizing.mode).map_err(Failure::for_good)?;
    Ok(json!({ "mode": mode, "sizing": serde_json::to_value(&sizing).map_err(Failure::for_good)? }))
}

/// The report of the last whole month, stored, and what it found. Keys are in the file alone: who may look at jobs need not be allowed
/// to read them.
async fn analyze(tools: &Tools, progress: &Progress) -> Result<Json, Failure> {
    progress.at("reading the history", 0, None);
    let history =
        tools.history.clone().ok_or_else(|| Failure::for_good("no history is kept, so there is nothing to report; see [history]"))?;
    let tools = tools.clone();
    let made = tokio::task::spawn_blocking(move || monthly(&tools, &history));
    made.await.map_err(Failure::new)?
}

fn monthly(tools: &Tools, history: &History) -> Result<Json, Failure> {
    let asked = Asked { kind: Some(report::Kind::Monthly), from: None, to: None, whole: true };
    let at = i64::try_from(tools.due_ms).map_err(Failure::for_good)?;
    let now = Timestamp::from_millisecond(at).map_err(Failure::for_good)?.to_zoned_datetime(tools.zone.clone());
    let mut report = report::of_history(history, &asked, &now, None).map_err(Failure::new)?;
    let stored = match &tools.reports {
        Some((folder, kept)) => Some(store(folder, *kept, &report).map_err(Failure::new)?),
        None => None,
    };
    report.shown_to(|_| false, false);
    tools.note(format!("{} findings", report.findings.len()));
    let period = serde_json::to_value(&report.period).map_err(Failure::for_good)?;
    let findings = serde_json::to_value(&report.findings).map_err(Failure::for_good)?;
    Ok(json!({ "report": "monthly", "period": period, "findings": findings, "stored": stored }))
}

/// Whoever has it stores a report. An attempt that took too long goes on where nobody hears of it, beside the next one, and both would
/// write to the same unfinished file. Files of different names would need none of this, and somebody to remove those that are left.
static STORING: Mutex<()> = Mutex::new(());

/// Puts a report where reports are, as a page and as JSON, and lets the oldest go. Returns where they are.
fn store(folder: &Path, kept: usize, report: &Report) -> std::io::Result<Vec<String>> {
    let _alone = STORING.lock();
    fs::create_dir_all(folder)?;
    let name: String = report.period.from.chars().take(7).filter(|c| c.is_ascii_digit() || *c == '-').collect();
    let mut stored = Vec::new();
    for (format, ending) in [(Format::Html, "html"), (Format::Json, "json")] {
        let text = report.render(format).map_err(std::io::Error::other)?;
        let path = folder.join(format!("monthly-{name}.{ending}"));
        // Whoever reads it meanwhile has the whole of one or of the other.
        let unfinished = path.with_extension(format!("{ending}.new"));
        fs::write(&unfinished, text)?;
        fs::rename(&unfinished, &path)?;
        stored.push(path.display().to_string());
    }
    let mut all = Vec::new();
    for entry in fs::read_dir(folder)? {
        all.push(entry?.path());
    }
    all.retain(|path| path.file_name().and_then(|name| name.to_str()).is_some_and(|name| name.starts_with("monthly-")));
    all.sort();
    // Two files for each.
    let over = all.len().saturating_sub(2 * kept.max(1));
    all.into_iter().take(over).try_for_each(fs::remove_file)?;
    Ok(stored)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backup::BackupSettings;
    use crate::history::Store;

    fn tools(larder: &Larder, history: Option<History>, reports: Option<(PathBuf, usize)>) -> Tools {
        // 2026-11-01 04:00 UTC.
        Tools::new(larder.clone(), history, reports, (TimeZone::UTC, 1_793_505_600_000))
    }

    #[tokio::test]
    async fn the_monthly_report_is_stored_and_the_oldest_go() {
        let folder = tempfile::tempdir().expect("temporary files can be written");
        let larder = Larder::builder().build().await.expect("a cache");
        let history = History::of(&Arc::new(Mutex::new(Store::in_memory().expect("memory")))).expect("a history");
        let reports = folder.path().join("reports");
        fs::create_dir_all(&reports).expect("a folder");
        for old in ["monthly-2020-01.html", "monthly-2020-01.json", "monthly-2020-02.html", "notes.txt"] {
            fs::write(reports.join(old), "old").expect("a file");
        }
        let tools = tools(&larder, Some(history), Some((reports.clone(), 1)));
        let result = analyze(&tools, &Progress::default()).await.expect("it is made");
        let page = reports.join("monthly-2026-10.html");
        assert_eq!(result["stored"][0], page.display().to_string(), "{result}");
        assert!(fs::read_to_string(&page).expect("a file").contains("<html"));
        let mut left: Vec<_> = fs::read_dir(&reports).expect("a folder").map(|entry| entry.expect("a file").file_name()).collect();
        left.sort();
        assert_eq!(left, ["monthly-2026-10.html", "monthly-2026-10.json", "notes.txt"], "what is of others stays");
        larder.close().await.expect("it closes");
    }

    #[tokio::test]
    async fn a_late_attempt_and_the_next_one_write_one_after_the_other() {
        let folder = tempfile::tempdir().expect("temporary files can be written");
        let larder = Larder::builder().build().await.expect("a cache");
        let history = History::of(&Arc::new(Mutex::new(Store::in_memory().expect("memory")))).expect("a history");
        let reports = folder.path().join("reports");
        let tools = tools(&larder, Some(history.clone()), Some((reports.clone(), 1)));
        std::thread::scope(|threads| {
            let attempts: Vec<_> =
                (0..4).map(|_| threads.spawn(|| (0..10).try_for_each(|_| monthly(&tools, &history).map(drop)))).collect();
            attempts.into_iter().for_each(|attempt| attempt.join().expect("no panic").expect("each is stored whole"));
        });
        let mut left: Vec<_> = fs::read_dir(&reports).expect("a folder").map(|entry| entry.expect("a file").file_name()).collect();
        left.sort();
        assert_eq!(left, ["monthly-2026-10.html", "monthly-2026-10.json"]);
        larder.close().await.expect("it closes");
    }

    #[tokio::test]
    async fn without_what_it_needs_a_job_says_so() {
        let larder = Larder::builder().build().await.expect("a cache");
        let tools = tools(&larder, None, None);
        let failure = analyze(&tools, &Progress::default()).await.expect_err("there is no history");
        assert!(!failure.again && failure.what.contains("[history]"), "{failure}");
        let result = optimize(&tools, &Progress::default()).await.expect("it is off, which is an answer");
        assert_eq!(result["mode"], "off");
        assert_eq!(tools.noted(), ["nothing is looked at: sizing is off"]);
        let (cleaner, progress) = (Cleaner::of(&larder), Arc::new(Progress::default()));
        let result = cleanup(&cleaner, &tools, progress.clone()).await.expect("there is nothing to sweep");
        assert_eq!((&result["swept"]["examined"], &cleaner.standing().running), (&0.into(), &None));
        assert_eq!((cleaner.standing().last.is_some(), tools.noted()), (true, vec!["0 entries and 0 bytes were given back".to_owned()]));
        progress.cancel();
        assert_eq!(cleanup(&cleaner, &tools, progress).await, Err(Failure::stopped()));
        assert_eq!(tools.noted(), ["0 entries and 0 bytes were given back"], "what was done up to there is told");
        let works = Works::built_in(&cleaner, None);
        assert!(works.has("cleanup") && !works.has("backup"));
        let folder = tempfile::tempdir().expect("temporary files can be written");
        let backups = Backups::new(larder.clone(), BackupSettings::in_folder(folder.path()));
        let result = backup(&backups, &tools, Arc::default()).await.expect("it is taken");
        let name = result["backup"]["name"].as_str().expect("it has a name");
        assert!(folder.path().join(name).join("manifest.json").is_file(), "{result}");
        assert_eq!(tools.noted(), [format!("the backup {name} was taken")]);
        assert!(Works::built_in(&cleaner, Some(&backups)).has("backup"));
        larder.close().await.expect("it closes");
    }
}
