//! The cache for clients of Redis: what all connections share, and the threads that serve them.
//!
//! ```text
//!   listener (TCP, Unix)      accepts, counts, refuses what is too much; gives each connection to one thread
//!   threads                   a runtime each: a connection's commands run where its bytes arrive, without a hand-over
//!     connection.rs           read -> frame.rs -> commands.rs -> reply.rs -> write
//!   reaper                    twice a second: connections that only cost, leases that are over
//! ```
//!
//! `table.rs` is the list of commands, `commands/` what they do. Semantics, and where they differ from Redis': `docs/resp.md`.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed, Ordering::SeqCst};
use std::time::Duration;

use larder::{Larder, Raw};
use parking_lot::RwLock;
use tokio::net::{TcpListener, UnixListener};
use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, timeout_at};

use crate::access::Door;
use crate::audit::Audit;
use crate::serve::BindError;
use crate::settings::RespSettings;
use crate::tls::Tls;
use clients::{Accepted, Clients, Patience, Stream};
use commands::Scans;
use lease::Leases;
use stripes::Stripes;
use table::COMMANDS;
use tracking::Tracking;

pub mod access;
pub mod allowance;
pub mod audited;
pub mod channels;
pub mod clients;
pub mod commands;
pub mod connection;
pub mod frame;
pub mod glob;
pub mod lease;
mod metrics;
pub mod reply;
pub mod session;
pub mod stripes;
pub mod table;
pub mod tracking;
pub mod transactions;

/// How often the reaper looks.
const REAP_EVERY: Duration = Duration::from_millis(500);

/// How long no connection is accepted after one could not be: most likely the process has no file left for it.
const PAUSE: Duration = Duration::from_millis(50);

/// Who may do what, what TLS is spoken with over the network, and where what is done is recorded.
pub type Guarded = (Arc<Door>, Option<Arc<Tls>>, Option<Arc<Audit>>);

/// What all connections share.
pub struct Resp {
    /// The cache.
    pub larder: Larder,
    /// The same, by whole keys.
    pub raw: Raw,
    /// What the settings say that cannot be set while it runs.
    pub limits: Bounds,
    live: RwLock<Live>,
    /// The connections.
    pub clients: Clients,
    /// What keeps changes of one key apart.
    pub stripes: Stripes,
    /// What misses leave.
    pub leases: Leases,
    /// Listings under way.
    pub scans: Scans,
    /// Who listens to what.
    pub channels: channels::Channels,
    /// Who read what.
    pub tracking: Tracking,
    /// Commands so far, by their place in the table.
    pub calls: Box<[AtomicU64]>,
    /// When it began, in milliseconds since 1970.
    pub started_at: u64,
    /// What answers from the backing tier are said to come from.
    pub backing: &'static str,
    /// Who may do what.
    pub door: Arc<Door>,
    port: u16,
    /// What TLS is spoken with over the network, where it is.
    pub tls: Option<Arc<Tls>>,
    /// Where what is done is recorded, if it is.
    pub audit: Option<Arc<Audit>>,
    /// Whether no connection is taken any more.
    is_ending: AtomicBool,
    /// Where work goes that no connection is to wait for.
    runtime: Handle,
}

/// Limits for as long as it runs.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Of requests.
    pub requests: frame::Limits,
    /// The largest reply.
    pub reply_bytes_max: usize,
    /// Messages that wait for a client.
    pub messages_bytes_max: usize,
    /// Keys that are put down for clients who track them.
    pub tracked_keys_max: usize,
    half: Duration,
    stuck: Duration,
}

/// Limits that can be set while it runs.
#[derive(Clone, Copy, Debug)]
pub struct Live {
    /// Connections at once.
    pub connections_max: u32,
    /// How long one may ask for nothing; zero: for ever.
    pub idle: Duration,
}

impl Resp {
    fn new(larder: Larder, settings: &RespSettings, (door, tls, audit): Guarded, port: u16) -> Arc<Self> {
        let backing = larder.stats().backing.map_or("none", |backing| backing.name);
        Arc::new(Resp {
            raw: larder.raw(),
            limits: Bounds {
                requests: settings.requests,
                reply_bytes_max: settings.reply_bytes_max,
                messages_bytes_max: settings.messages_bytes_max,
                tracked_keys_max: settings.tracked_keys_max,
                half: settings.half_timeout,
                stuck: settings.stuck_timeout,
            },
            live: RwLock::new(Live { connections_max: settings.connections_max, idle: settings.idle_timeout }),
            clients: Clients::default(),
            stripes: Stripes::default(),
            leases: Leases::new(settings.miss_lease, settings.miss_leases.clone(), settings.lease_keys_max),
            scans: Scans::default(),
            channels: channels::Channels::default(),
            tracking: Tracking::default(),
            calls: COMMANDS.iter().map(|_| AtomicU64::new(0)).collect(),
            started_at: larder.clock().refresh(),
            backing,
            door,
            port,
            tls,
            audit,
            is_ending: false.into(),
            runtime: Handle::current(),
            larder,
        })
    }

    /// The time by which lives are counted, in milliseconds since 1970.
    pub fn now_ms(&self) -> u64 {
        self.larder.clock().now_ms()
    }

    /// The limits in force.
    pub fn limits(&self) -> Live {
        *self.live.read()
    }

    /// Sets them.
    pub fn set_limits(&self, limits: Live) {
        *self.live.write() = limits;
    }

    /// The runtime of all that is not a connection's own.
    pub fn runtime(&self) -> &Handle {
        &self.runtime
    }

    /// Counts a command.
    #[inline]
    pub fn called(&self, place: usize) {
        if let Some(calls) = self.calls.get(place) {
            calls.fetch_add(1, Relaxed);
        }
    }

    /// The port it listens on; 0: on none.
    pub fn port(&self) -> u16 {
        self.port
    }

    fn patience(&self) -> Patience {
        let ms = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        Patience { idle_ms: ms(self.limits().idle), half_ms: ms(self.limits.half), stuck_ms: ms(self.limits.stuck) }
    }
}

/// A server that has its addresses.
pub struct Bound {
    resp: Arc<Resp>,
    tcp: Option<TcpListener>,
    unix: Option<(UnixListener, PathBuf)>,
    addr: Option<SocketAddr>,
    threads: usize,
}

/// Takes the addresses. Over the network TLS is spoken, where there is what it is spoken with.
///
/// # Errors
/// When one cannot be had.
pub async fn bind(larder: &Larder, settings: &RespSettings, guarded: Guarded) -> Result<Bound, BindError> {
    let mut tcp = None;
    let mut addr = None;
    if let Some(wanted) = settings.listen {
        let failed = |error| BindError { door: wanted.to_string(), error };
        let listener = TcpListener::bind(wanted).await.map_err(failed)?;
        addr = Some(listener.local_addr().map_err(failed)?);
        tcp = Some(listener);
    }
    let listen = |path: &PathBuf| match listen_on(path) {
        Ok(listener) => Ok((listener, path.clone())),
        Err(error) => Err(BindError { door: path.display().to_string(), error }),
    };
    let unix = settings.unix.as_ref().map(listen).transpose()?;
    let resp = Resp::new(larder.clone(), settings, guarded, addr.map_or(0, |addr| addr.port()));
    Ok(Bound { resp, tcp, unix, addr, threads: settings.threads.max(1) as usize })
}

/// A socket at a path: in the place of one that nobody listens on any more, and of nothing else.
fn listen_on(path: &PathBuf) -> io::Result<UnixListener> {
    match UnixListener::bind(path) {
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
            match std::os::unix::net::UnixStream::connect(path) {
                Err(refused) if refused.kind() == io::ErrorKind::ConnectionRefused => std::fs::remove_file(path)?,
                _ => return Err(error),
            }
            UnixListener::bind(path)
        }
        bound => bound,
    }
}

/// A server that serves.
pub struct Serving {
    resp: Arc<Resp>,
    accepting: Vec<tokio::task::JoinHandle<()>>,
    threads: Vec<(mpsc::UnboundedSender<Accepted>, oneshot::Receiver<()>)>,
    unix: Option<PathBuf>,
}

impl Bound {
    /// Where it listens.
    pub fn addr(&self) -> Option<SocketAddr> {
        self.addr
    }

    /// What its connections share.
    pub fn resp(&self) -> &Arc<Resp> {
        &self.resp
    }

    /// Begins to serve.
    ///
    /// # Errors
    /// When a thread cannot be started.
    pub fn serve(self) -> io::Result<Serving> {
        let Bound { resp, tcp, unix, threads, .. } = self;
        let threads: Vec<_> = (0..threads).map(|at| start(resp.clone(), at)).collect::<io::Result<_>>()?;
        let next = Arc::new(AtomicUsize::new(0));
        let give = {
            let senders: Vec<_> = threads.iter().map(|(sender, _)| sender.clone()).collect();
            move |accepted: io::Result<Accepted>| match accepted {
                // A thread takes all that it is given until the server ends, and then none is accepted any more.
                Ok(accepted) => drop(senders[next.fetch_add(1, Relaxed) % senders.len()].send(accepted)),
                Err(error) => tracing::warn!(%error, "a connection could not be handed over"),
            }
        };
        let mut accepting = Vec::new();
        if let Some(listener) = tcp {
            let give = give.clone();
            accepting.push(tokio::spawn(async move {
                loop {
                    match listener.accept().await {
                        Ok((stream, addr)) => {
                            if let Err(error) = stream.set_nodelay(true) {
                                tracing::debug!(%error, "a connection keeps its delay");
                            }
                            give(stream.into_std().map(|stream| Accepted::Tcp(stream, addr)));
                        }
                        Err(error) => not_accepted(&error).await,
                    }
                }
            }));
        }
        let path = unix.as_ref().map(|(_, path)| path.clone());
        if let Some((listener, _)) = unix {
            accepting.push(tokio::spawn(async move {
                loop {
                    match listener.accept().await {
                        Ok((stream, _)) => give(stream.into_std().map(Accepted::Unix)),
                        Err(error) => not_accepted(&error).await,
                    }
                }
            }));
        }
        let reaping = Arc::downgrade(&resp);
        accepting.push(tokio::spawn(async move {
            let mut every = tokio::time::interval(REAP_EVERY);
            let mut known = [0; 2];
            loop {
                every.tick().await;
                let Some(resp) = reaping.upgrade() else { return };
                resp.clients.reap(resp.now_ms(), resp.patience());
                resp.leases.sweep(resp.now_ms());
                access::look_again(&resp, &mut known);
                resp.door.usages().sweep(resp.now_ms());
            }
        }));
        Ok(Serving { resp, accepting, threads, unix: path })
    }
}

async fn not_accepted(error: &io::Error) {
    tracing::warn!(%error, "a connection could not be accepted");
    tokio::time::sleep(PAUSE).await;
}

/// A thread that serves the connections it is given.
fn start(resp: Arc<Resp>, at: usize) -> io::Result<(mpsc::UnboundedSender<Accepted>, oneshot::Receiver<()>)> {
    // As many wait in it as connections are open, which are bounded.
    let (sender, mut work) = mpsc::unbounded_channel();
    let (ended, told) = oneshot::channel();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    std::thread::Builder::new().name(format!("larder-resp-{at}")).spawn(move || {
        runtime.block_on(async {
            let mut connections = tokio::task::JoinSet::new();
            loop {
                tokio::select! {
                    given = work.recv() => match given {
                        Some(accepted) => drop(connections.spawn(take_over(resp.clone(), accepted))),
                        None => break,
                    },
                    Some(ended) = connections.join_next() => noted(ended),
                }
            }
            while let Some(ended) = connections.join_next().await {
                noted(ended);
            }
        });
        // Nobody waits for it where the server was dropped.
        let _gone = ended.send(());
    })?;
    Ok((sender, told))
}

/// Serves a connection on this thread, unless there are too many.
async fn take_over(resp: Arc<Resp>, accepted: Accepted) {
    let (stream, addr) = match accepted.adopt(resp.tls.as_deref()) {
        Ok(adopted) => adopted,
        Err(error) => return tracing::warn!(%error, "a connection could not be taken over"),
    };
    match resp.clients.open(stream, addr, resp.now_ms(), resp.limits().connections_max as usize) {
        Ok((stream, client)) => {
            // On the list, or seen here: whoever ends the server has told all on the list before it looks at who is left.
            if resp.is_ending.load(SeqCst) {
                client.drain();
            }
            connection::serve(resp, stream, client).await;
        }
        // A client that waits for a handshake would not understand it.
        Err(Stream::Tls(_)) => {}
        Err(refused) => {
            let told = async {
                refused.writable().await?;
                refused.try_write(b"-ERR max number of clients reached\r\n")
            };
            if let Ok(Err(error)) = tokio::time::timeout(PAUSE, told).await {
                tracing::debug!(%error, "a connection that was one too many is gone");
            }
        }
    }
}

fn noted(ended: Result<(), tokio::task::JoinError>) {
    if let Err(error) = ended {
        tracing::error!(%error, "the task of a connection ended out of order");
    }
}

impl Serving {
    /// What its connections share.
    pub fn resp(&self) -> &Arc<Resp> {
        &self.resp
    }

    /// Takes no more connections and no more requests, has those under way answered, and ends. Returns how many connections had to be
    /// cut off.
    pub async fn end(self, deadline: Instant) -> usize {
        for task in self.accepting {
            task.abort();
            // That it was told to end is how it ended.
            drop(task.await);
        }
        if let Some(path) = &self.unix
            && let Err(error) = std::fs::remove_file(path)
        {
            tracing::warn!(%error, path = %path.display(), "the socket is left behind");
        }
        self.resp.is_ending.store(true, SeqCst);
        let cut = match timeout_at(deadline, self.resp.clients.drain()).await {
            Ok(()) => 0,
            Err(_) => self.resp.clients.cut_all(),
        };
        for (sender, ended) in self.threads {
            drop(sender);
            // A thread that is gone has ended as well.
            drop(timeout_at(deadline + PAUSE, ended).await);
        }
        cut
    }
}
