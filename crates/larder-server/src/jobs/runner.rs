//! Looks after the jobs of this instance: when they are due, what others did, and the runs that begin here.
//!
//! A look asks how a job stands, takes in what was recorded since, and asks the planner. Whoever claims an instant first begins it. All
//! instances look; none is in charge, so that none has to be replaced.

use std::sync::Arc;
use std::time::Duration;

use larder::election::{Claim, Claimed, Remembered};
use serde_json::Value as Json;
use tokio::sync::Notify;

use super::attempt::{End, Watch, closed};
use super::planner::{self, GivenUp, Step, plan};
use super::{Failure, Here, Inner, Job, Known, Outcome, Run, Tools};
use crate::progress::Progress;

/// Steps of the planner in one look, so that one job keeps no other from its turn.
const STEPS_A_LOOK: usize = 16;

/// What is over by more than this after now was done by a clock that was wrong.
const AHEAD_MAX_MS: u64 = 24 * 60 * 60 * 1_000;

/// How often it is tried to record the end of a run that cannot be told to the others.
const FINISH_TRIES: u32 = 20;

/// The task of a server.
pub(super) async fn look_after(inner: Arc<Inner>) {
    let mut closing = inner.closing.subscribe();
    while !*closing.borrow() {
        let mut wait = inner.pace.look_every;
        for job in &inner.jobs {
            if let Some(until_ms) = see_to(&inner, job).await {
                // A clock that runs faster than it should is looked at more often than it asks for.
                wait = wait.min(Duration::from_millis(until_ms.saturating_sub(inner.now_ms()).max(1)));
            }
        }
        inner.runs.lock().retain(|run| !run.is_finished());
        tokio::select! {
            () = closed(&mut closing) => {}
            () = inner.wake.notified() => {}
            () = tokio::time::sleep(wait) => {}
        }
    }
}

/// Does what is to be done about a job now. Returns until when nothing is, if that is known.
async fn see_to(inner: &Arc<Inner>, job: &Job) -> Option<u64> {
    for _ in 0..STEPS_A_LOOK {
        if !inner.look(job).await {
            return None;
        }
        let standing = {
            let seen = job.seen.lock();
            let standing = &seen.standing;
            let running = standing.held.is_some();
            planner::Standing { done_ms: standing.done_ms, running, paused: standing.paused, last: seen.last }
        };
        match plan(&job.definition, &standing, inner.now_ms()) {
            Step::Wait(until_ms) => return until_ms,
            Step::GiveUp(given_up) => inner.give_up(job, &given_up).await,
            Step::Begin { due_ms, late } => {
                if late {
                    tracing::info!(
                        job = job.definition.name,
                        due = crate::moment::timestamp(due_ms),
                        "a run that was missed is made up for"
                    );
                }
                match job.duty.claim(due_ms, true, &inner.instance, inner.pace.lease).await {
                    Ok(Claimed::Won(claim)) => {
                        Inner::begin(inner, &job.definition.name, claim, None);
                        return None;
                    }
                    // Somebody was faster. What came of it is seen at the next look.
                    Ok(Claimed::Held | Claimed::Paused) => return None,
                    Ok(Claimed::Over) => {}
                    Err(error) => {
                        job.seen.lock().trouble = Some(error.to_string());
                        return None;
                    }
                }
            }
        }
    }
    // There is more to do at once.
    Some(0)
}

impl Inner {
    /// Asks how a job stands, and takes in what was recorded since. Says whether it is known.
    pub(super) async fn look(&self, job: &Job) -> bool {
        let looking = job.looking.lock().await;
        let looked = self.try_look(job).await;
        drop(looking);
        let is_known = looked.is_ok();
        job.seen.lock().trouble = looked.unwrap_or_else(Some);
        is_known
    }

    /// How it stands is known, or why not; and if it is, what somebody should look at all the same.
    async fn try_look(&self, job: &Job) -> Result<Option<String>, String> {
        let said = |error: &dyn std::fmt::Display| error.to_string();
        let (name, terms) = (&job.definition.name, job.definition.schedule.terms());
        let mut standing = job.duty.standing().await.map_err(|error| said(&error))?;
        let is_known_here = {
            let seen = job.seen.lock();
            // A record that is not there any more: Redis lost it, and whoever enrolled since may know less than this instance.
            seen.standing.enrolled && standing.newest >= seen.standing.newest
        };
        if !(standing.enrolled && is_known_here) {
            self.enrol(job).await?;
            standing = job.duty.standing().await.map_err(|error| said(&error))?;
        }
        let (has_news, has_moved) = {
            let seen = job.seen.lock();
            (standing.newest > seen.synced, seen.kept != Some((standing.done_ms, standing.paused)))
        };
        if has_news {
            self.take_in(job).await?;
        }
        let done_ms = standing.done_ms;
        let mut trouble = None;
        if has_moved {
            let known = Known { terms, done_ms, paused: standing.paused };
            let name = name.clone();
            // A disk without room is no reason to do nothing: cleaning up makes room.
            trouble = self.stored(move |store| store.remember(&name, &known)).await.err().map(|error| said(&error));
            // What could not be kept is tried again at the next look.
            job.seen.lock().kept = trouble.is_none().then_some((done_ms, standing.paused));
        }
        job.seen.lock().standing = standing;
        if done_ms > self.now_ms() + AHEAD_MAX_MS {
            let at = crate::moment::date_and_time(done_ms);
            trouble = Some(format!(
                "all up to {at} is over, which is yet to come: the clock was set back; larder jobs pause {name}, and then resume, begins anew"
            ));
        }
        Ok(trouble)
    }

    /// Takes part, with what is known from before: from this process, or else from the store.
    async fn enrol(&self, job: &Job) -> Result<(), String> {
        let said = |error: &dyn std::fmt::Display| error.to_string();
        let (name, terms) = (job.definition.name.clone(), job.definition.schedule.terms());
        let known = self.stored(move |store| store.known(&name)).await.map_err(|error| said(&error))?;
        let (seen, token) = {
            let seen = job.seen.lock();
            (seen.standing.clone(), seen.remembered.max(seen.synced).max(seen.standing.newest))
        };
        let stored_ms = known.as_ref().filter(|known| known.terms == terms).map_or(0, |known| known.done_ms);
        let is_alone = self.larder.stats().log.shared.is_none();
        // Among others, it is known there whether it is paused; where that was lost, whoever has seen it says so.
        let paused = seen.paused || is_alone && known.is_some_and(|known| known.paused);
        let remembered = Remembered { done_ms: stored_ms.max(seen.done_ms), token, paused };
        job.duty.enrol(&terms, remembered, self.now_ms()).await.map_err(|error| said(&error))
    }

    /// Takes in records that are not in the store yet.
    async fn take_in(&self, job: &Job) -> Result<(), String> {
        let records = job.duty.records().await.map_err(|error| error.to_string())?;
        let synced = job.seen.lock().synced;
        // The newest comes first, and is to be the last that is taken in.
        for (token, bytes) in records.into_iter().rev().filter(|(token, _)| *token > synced) {
            match serde_json::from_slice::<Run>(&bytes) {
                Ok(run) => self.took_place(job, Run { id: token, ..run }).await,
                Err(error) => {
                    tracing::warn!(job = job.definition.name, token, %error, "a record of a job cannot be read; it is passed over")
                }
            }
            job.seen.lock().synced = token;
        }
        Ok(())
    }

    async fn took_place(&self, job: &Job, run: Run) {
        self.keep(&run).await;
        let mut seen = job.seen.lock();
        if let (Some(ended_ms), false) = (run.ended_ms, matches!(run.outcome, Outcome::Missed | Outcome::Overlapped)) {
            seen.last = Some((run.started_ms, ended_ms));
        }
        if run.outcome == Outcome::Ok {
            seen.last_ok_ms = run.ended_ms;
        }
        seen.last_run = Some(run);
    }

    async fn give_up(&self, job: &Job, given_up: &GivenUp) {
        let run = Run::given_up(&job.definition.name, given_up, &self.instance, self.now_ms());
        let record = serde_json::to_vec(&run).expect("a run has no keys that are no text");
        match job.duty.pass(given_up.to_ms, record.into()).await {
            // It is taken in at the next look, as on all instances.
            Ok(Some(_)) => {
                job.count(run.outcome);
                tracing::warn!(job = run.job, instants = given_up.count, why = run.error, "nothing is done for what was due");
            }
            Ok(None) => {}
            Err(error) => job.seen.lock().trouble = Some(error.to_string()),
        }
    }

    /// Begins a run that is claimed, unless the server ends; says whether it did.
    pub(super) fn begin(inner: &Arc<Inner>, name: &str, claim: Claim, by: Option<String>) -> bool {
        let (running, name) = (inner.clone(), name.to_owned());
        let here = Here { token: claim.token, progress: Arc::default(), cancelled: Arc::new(Notify::new()) };
        // Who ends them says so first, and then takes this lock: what is begun is waited for, and nothing is begun after that.
        let mut runs = inner.runs.lock();
        if *inner.closing.borrow() {
            return false;
        }
        if let Ok(job) = inner.job(&name) {
            *job.here.lock() = Some(here.clone());
        }
        runs.push(tokio::spawn(async move {
            if let Ok(job) = running.job(&name) {
                running.carry_out(job, claim, by, &here).await;
                // A run that was taken over may end after the next one has begun here.
                let ended = job.here.lock().take_if(|one| one.token == claim.token);
                drop(ended);
                running.wake.notify_one();
            }
        }));
        true
    }

    async fn carry_out(&self, job: &Job, claim: Claim, by: Option<String>, here: &Here) {
        let definition = &job.definition;
        let key = (claim.token, claim.due_ms, claim.scheduled);
        let mut run = Run::begun(&definition.name, key, by, &self.instance, self.now_ms());
        self.keep(&run).await;
        let (name, due_ms) = (definition.name.clone(), claim.due_ms);
        let before = self.stored(move |store| store.interrupted(&name, due_ms)).await.unwrap_or_else(|error| {
            tracing::warn!(%error, "it is not known how often a run was begun before");
            0
        });
        let begun = claim.attempt.max(before + 1);
        if claim.scheduled && begun > 1 + definition.retries {
            let why = format!("it was begun {} times, and the instance ended each time; it is not begun again", begun - 1);
            run.end(Outcome::Failed, Some(&why), self.now_ms());
            return self.finish(job, &claim, run).await;
        }
        let end = self.try_until(job, &claim, here, &mut run).await;
        let (outcome, error) = match end {
            End::Ok(result) => {
                run.keep(result);
                (Outcome::Ok, None)
            }
            End::Failed(failure) => (Outcome::Failed, Some(failure.what)),
            End::TimedOut => (Outcome::TimedOut, Some(format!("it took longer than {:?}", definition.timeout))),
            End::Cancelled => (Outcome::Cancelled, None),
            End::Lost => (Outcome::Superseded, Some("another instance has taken it over".to_owned())),
            End::Interrupted => (Outcome::Interrupted, Some("the server ended while it was under way".to_owned())),
        };
        run.end(outcome, error.as_deref(), self.now_ms());
        match outcome {
            // What is by schedule is left to whoever comes next: the lease runs out.
            Outcome::Interrupted if claim.scheduled => {
                job.count(outcome);
                self.keep(&run).await;
            }
            _ => self.finish(job, &claim, run).await,
        }
    }

    /// Tries until it goes well, has been tried often enough, or somebody says that it is enough.
    async fn try_until(&self, job: &Job, claim: &Claim, here: &Here, run: &mut Run) -> End {
        let definition = &job.definition;
        let watch = |grace| Watch {
            duty: &job.duty,
            claim,
            lease: self.pace.lease,
            grace,
            cancelled: &here.cancelled,
            closing: self.closing.subscribe(),
        };
        loop {
            run.attempts += 1;
            let progress = Arc::new(Progress::default());
            *here.progress.lock() = progress.clone();
            let zone = definition.schedule.zone().clone();
            let tools = Tools::new(self.larder.clone(), self.history.clone(), self.reports.clone(), (zone, claim.due_ms));
            let Some(work) = self.works.begin(&definition.name, tools.clone(), progress.clone()) else {
                return End::Failed(Failure::for_good("there is nothing to do for it"));
            };
            let end = watch(self.pace.grace).over(tokio::spawn(work), &progress, definition.timeout).await;
            tools.noted().iter().for_each(|line| run.note(line));
            let why = match &end {
                End::Failed(failure) if failure.again => failure.what.clone(),
                End::TimedOut => format!("it took longer than {:?}", definition.timeout),
                _ => return end,
            };
            if run.attempts > definition.retries {
                return end;
            }
            let pause = definition.pause_after(run.attempts);
            run.note(&format!("attempt {} failed: {why}; it is tried again in {pause:?}", run.attempts));
            tracing::warn!(job = run.job, attempt = run.attempts, why, "a job failed, and is tried again");
            let waiting = tokio::spawn(async move {
                tokio::time::sleep(pause).await;
                Ok(Json::Null)
            });
            match watch(Duration::ZERO).over(waiting, &progress, Duration::MAX).await {
                End::Ok(_) => {}
                ended => return ended,
            }
        }
    }

    /// Records the end of a run where the token is compared. One that lost its claim is told so, and records nothing but here.
    async fn finish(&self, job: &Job, claim: &Claim, mut run: Run) {
        let record: bytes::Bytes = serde_json::to_vec(&run).expect("a run has no keys that are no text").into();
        let mut closing = self.closing.subscribe();
        let mut pause = Duration::from_millis(100);
        let mut told = job.duty.finish(claim, record.clone()).await;
        for _ in 1..FINISH_TRIES {
            if told.is_ok() || *closing.borrow() {
                break;
            }
            tokio::select! {
                () = closed(&mut closing) => {}
                () = tokio::time::sleep(pause) => {}
            }
            pause = (pause * 2).min(self.pace.lease);
            told = job.duty.finish(claim, record.clone()).await;
        }
        match told {
            Ok(true) => {}
            Ok(false) => {
                run.end(Outcome::Superseded, Some("another instance had taken it over; what was done here does not count"), self.now_ms())
            }
            Err(error) => run.note(&format!("the others could not be told: {error}")),
        }
        let (job_name, outcome, took_ms) = (&run.job, run.outcome.name(), run.took_ms(self.now_ms()));
        match run.outcome.is_bad() {
            true => tracing::error!(job = job_name, id = run.id, outcome, took_ms, why = run.error, "a job did not go well"),
            false => tracing::info!(job = job_name, id = run.id, outcome, took_ms, "a job ended"),
        }
        // What landed is taken in from where it landed. Before anybody is told that it ended, it is in the store.
        if run.outcome == Outcome::Superseded || !self.look(job).await {
            self.keep(&run).await;
        }
        job.count(run.outcome);
    }
}
