//! One attempt at a piece of work, watched: it may take too long, be stopped, or be taken over by another instance. Meanwhile its lease is
//! kept.

use std::sync::Arc;
use std::time::Duration;

use larder::election::{Claim, Duty, Renewed};
use serde_json::Value as Json;
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};

use super::work::Failure;
use crate::progress::Progress;

/// How an attempt ended.
#[derive(Debug, PartialEq)]
pub enum End {
    /// With a result.
    Ok(Json),
    /// Without.
    Failed(Failure),
    /// It took too long.
    TimedOut,
    /// Somebody stopped it.
    Cancelled,
    /// Another instance has taken it over.
    Lost,
    /// The server ends.
    Interrupted,
}

/// Who may end an attempt before it ends by itself.
pub struct Watch<'a> {
    /// What is claimed, and to be kept.
    pub duty: &'a Duty,
    /// The claim.
    pub claim: &'a Claim,
    /// How long a lease goes.
    pub lease: Duration,
    /// How long work that was told to stop has for it before it is dropped where it waits.
    pub grace: Duration,
    /// Told by whoever stops it here.
    pub cancelled: &'a Notify,
    /// Told when the server ends.
    pub closing: watch::Receiver<bool>,
}

impl Watch<'_> {
    /// Waits for work, for a time at most.
    pub async fn over(&self, mut work: JoinHandle<Result<Json, Failure>>, progress: &Arc<Progress>, timeout: Duration) -> End {
        let mut renew = interval((self.lease / 3).max(Duration::from_millis(1)));
        renew.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let far = Instant::now() + Duration::from_secs(365 * 24 * 3_600);
        let late = Instant::now().checked_add(timeout).unwrap_or(far);
        // Why it was told to stop, and until when it has time to.
        let mut told: Option<(End, Instant)> = None;
        let mut closing = self.closing.clone();
        loop {
            let until = told.as_ref().map_or(late, |(_, until)| *until);
            let why = tokio::select! {
                joined = &mut work => {
                    return match (joined, told) {
                        // It was done before it saw that it should stop. Whether that counts, the token decides.
                        (Ok(Ok(result)), _) => End::Ok(result),
                        (_, Some((why, _))) => why,
                        // By who stops the work itself, as `larder cleanup --cancel` does, and not the run.
                        (Ok(Err(failure)), None) if failure.is_stopped() => End::Cancelled,
                        (Ok(Err(failure)), None) => End::Failed(failure),
                        (Err(error), None) => End::Failed(Failure::for_good(format!("it panicked, which is a fault of larder: {error}"))),
                    };
                }
                () = sleep_until(until) => match told {
                    Some((why, _)) => {
                        // At a place where it waits: what is not async goes on to its end, and nobody hears of it.
                        work.abort();
                        return why;
                    }
                    None => End::TimedOut,
                },
                _ = renew.tick() => match self.duty.renew(self.claim, self.lease).await {
                    Ok(Renewed::Kept) => continue,
                    Ok(Renewed::Cancel) => End::Cancelled,
                    Ok(Renewed::Lost) => End::Lost,
                    // The lease may run out meanwhile. Then somebody takes it over, and that is found when they can be heard again.
                    Err(error) => {
                        tracing::debug!(duty = self.duty.name(), %error, "a lease could not be renewed");
                        continue;
                    }
                },
                () = self.cancelled.notified() => End::Cancelled,
                () = closed(&mut closing), if !matches!(told, Some((End::Interrupted, _))) => End::Interrupted,
            };
            // What came first is why, but for the end of the server, after which nothing is recorded any more.
            if told.is_none() || why == End::Interrupted {
                told = Some((why, Instant::now() + self.grace));
                progress.cancel();
            }
        }
    }
}

/// Waits until the server ends. Who would tell may be gone, too, which is the same.
pub(super) async fn closed(closing: &mut watch::Receiver<bool>) {
    // What it returns holds a lock.
    drop(closing.wait_for(|closing| *closing).await);
}
