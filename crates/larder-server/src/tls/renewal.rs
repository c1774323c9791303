//! Certificates that are renewed while the server serves: the files are looked at now and then, and on SIGHUP. Connections that are
//! open go on with what they began with. Files that cannot be used change nothing, and that is told: in the log once, in health for as
//! long as it is so.

use std::io;
use std::sync::Arc;

use super::Tls;
use super::pair::{Files, TlsError};

/// What a look at the files found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Renewal {
    /// They are what is in use.
    Unchanged,
    /// They were others, and are what is in use from now on.
    Renewed,
    /// They cannot be used; what was in use still is.
    Refused(TlsError),
}

impl Tls {
    /// Looks at the files. It waits for the disk.
    pub fn look(&self) -> Renewal {
        let loaded = Files::read(&self.settings)
            .and_then(|files| if files.mark() == self.current.load().mark { Ok(None) } else { files.load(&self.settings).map(Some) });
        match loaded {
            // Certificate and key are two files, and between the writing of one and of the other they do not belong together. That is
            // refused as well, and put right at the next look.
            Err(why) => {
                let is_news = self.refused.lock().replace(why.clone()).as_ref() != Some(&why);
                if is_news {
                    tracing::warn!(%why, "the new certificate cannot be used: the one before stays in use");
                }
                Renewal::Refused(why)
            }
            Ok(None) => {
                *self.refused.lock() = None;
                Renewal::Unchanged
            }
            Ok(Some(loaded)) => {
                self.current.store(Arc::new(loaded));
                *self.refused.lock() = None;
                tracing::info!("the certificate was renewed; new connections are shown it");
                Renewal::Renewed
            }
        }
    }
}

/// Looks at the files until it is dropped. It listens to SIGHUP from the moment of the call.
///
/// # Errors
/// When signals cannot be listened to.
///
/// # Panics
/// Outside of a tokio runtime.
pub fn renewing(tls: Arc<Tls>) -> io::Result<impl Future<Output = ()> + Send> {
    let mut hangups = hangups()?;
    Ok(async move {
        let mut every = tokio::time::interval(tls.settings.look_every);
        every.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            let told = tokio::select! {
                _ = every.tick() => false,
                () = hangups.recv() => true,
            };
            let looking = tls.clone();
            // One look at a time, and on a thread that may wait: a disk that hangs holds up renewals, and nothing else.
            match tokio::task::spawn_blocking(move || looking.look()).await {
                Ok(found) if told => tracing::info!(?found, "the certificates were looked at, as SIGHUP says"),
                Ok(_) => {}
                Err(error) => tracing::error!(%error, "looking at the certificates ended out of order"),
            }
        }
    })
}

#[cfg(unix)]
struct Hangups(tokio::signal::unix::Signal);

#[cfg(unix)]
fn hangups() -> io::Result<Hangups> {
    use tokio::signal::unix::{SignalKind, signal};
    signal(SignalKind::hangup()).map(Hangups)
}

#[cfg(unix)]
impl Hangups {
    async fn recv(&mut self) {
        if self.0.recv().await.is_none() {
            // No more will come.
            std::future::pending::<()>().await;
        }
    }
}

#[cfg(not(unix))]
struct Hangups;

#[cfg(not(unix))]
fn hangups() -> io::Result<Hangups> {
    Ok(Hangups)
}

#[cfg(not(unix))]
impl Hangups {
    async fn recv(&mut self) {
        std::future::pending::<()>().await;
    }
}
