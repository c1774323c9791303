//! The connections that are open: who they are, what they do, and how they are ended.

use std::collections::HashMap;
use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering::Relaxed};

use parking_lot::Mutex;
use rustix::net::{Shutdown, shutdown};
use tokio::io::Interest;
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::Notify;

use super::table::COMMANDS;
use crate::tls::{PeerNames, Socket, Tls};

/// What somebody is told who speaks without TLS where it is spoken.
const SPOKEN_PLAINLY: &[u8] = b"-ERR TLS is spoken here: connect with rediss://, or redis-cli --tls\r\n";
use crate::access::Identity;

/// A connection's socket.
#[derive(Debug)]
pub enum Stream {
    /// Over the network.
    Tcp(TcpStream),
    /// Over the network, by TLS.
    Tls(Box<Socket>),
    /// Within the machine.
    Unix(UnixStream),
}

/// A connection that was accepted on one thread, to be served on another.
#[derive(Debug)]
pub enum Accepted {
    /// Over the network, from there.
    Tcp(std::net::TcpStream, SocketAddr),
    /// Within the machine.
    Unix(std::os::unix::net::UnixStream),
}

impl Accepted {
    /// Makes it this thread's. Over the network TLS is spoken, where there is what it is spoken with.
    pub fn adopt(self, tls: Option<&Tls>) -> std::io::Result<(Stream, Option<SocketAddr>)> {
        Ok(match self {
            Accepted::Tcp(stream, addr) => {
                let stream = TcpStream::from_std(stream)?;
                let stream = match tls {
                    Some(tls) => Stream::Tls(Socket::new(stream, tls.resp())?.into()),
                    None => Stream::Tcp(stream),
                };
                (stream, Some(addr))
            }
            Accepted::Unix(stream) => (Stream::Unix(UnixStream::from_std(stream)?), None),
        })
    }
}

impl Stream {
    /// Whose it is, once that is settled.
    pub(super) async fn shake_hands(&self, tls: Option<&Tls>) -> std::io::Result<PeerNames> {
        match (self, tls) {
            (Stream::Tls(stream), Some(tls)) => stream.shake_hands(tls, SPOKEN_PLAINLY).await,
            _ => Ok(PeerNames::default()),
        }
    }

    /// Whether what was written is on its way; the rest goes when it is [`writable`](Self::writable).
    pub(super) fn try_flush(&self) -> std::io::Result<bool> {
        match self {
            Stream::Tls(stream) => stream.try_flush(),
            Stream::Tcp(_) | Stream::Unix(_) => Ok(true),
        }
    }

    /// Says that it ends, where there are words for that.
    pub(super) fn close(&self) {
        if let Stream::Tls(stream) = self {
            stream.close();
        }
    }

    pub(super) async fn readable(&self) -> std::io::Result<()> {
        match self {
            Stream::Tcp(stream) => stream.readable().await,
            Stream::Tls(stream) => stream.readable().await,
            Stream::Unix(stream) => stream.readable().await,
        }
    }

    pub(super) async fn writable(&self) -> std::io::Result<()> {
        match self {
            Stream::Tcp(stream) => stream.writable().await,
            Stream::Tls(stream) => stream.writable().await,
            Stream::Unix(stream) => stream.writable().await,
        }
    }

    /// Notes that all there was has been read, so that the next wait for more begins without asking for it once in vain. To be said right
    /// after the read, before the task has waited for anything: what comes later is told to this thread only then.
    pub(super) fn is_drained(&self) {
        let nothing = || Err::<(), _>(ErrorKind::WouldBlock.into());
        let _what_was_just_said = match self {
            Stream::Tcp(stream) => stream.try_io(Interest::READABLE, nothing),
            Stream::Unix(stream) => stream.try_io(Interest::READABLE, nothing),
            // What was read of it says nothing of its socket.
            Stream::Tls(_) => return,
        };
    }

    pub(super) fn try_read(&self, into: &mut Vec<u8>) -> std::io::Result<usize> {
        match self {
            Stream::Tcp(stream) => stream.try_read_buf(into),
            Stream::Tls(stream) => stream.try_read(into),
            Stream::Unix(stream) => stream.try_read_buf(into),
        }
    }

    pub(super) fn try_write(&self, bytes: &[u8]) -> std::io::Result<usize> {
        match self {
            Stream::Tcp(stream) => stream.try_write(bytes),
            Stream::Tls(stream) => stream.try_write(bytes),
            Stream::Unix(stream) => stream.try_write(bytes),
        }
    }

    fn shutdown(&self, how: Shutdown) {
        let done = match self {
            Stream::Tcp(stream) => shutdown(stream.as_fd(), how),
            Stream::Tls(stream) => shutdown(stream.tcp().as_fd(), how),
            Stream::Unix(stream) => shutdown(stream.as_fd(), how),
        };
        // One that the other side has closed already is as it should be.
        if let Err(error) = done {
            tracing::debug!(%error, "a connection was closed already");
        }
    }
}

/// A connection.
#[derive(Debug)]
pub struct Client {
    /// Its number, which no other has or will have.
    pub id: u64,
    /// Where it comes from.
    pub addr: String,
    /// The same, without its port; none within the machine.
    pub address: Option<IpAddr>,
    /// Where it came to.
    pub laddr: String,
    /// When it was opened, in milliseconds since 1970.
    pub opened_at: u64,
    /// What it says of itself.
    pub told: Mutex<Told>,
    /// When it asked for something last.
    pub asked_at: AtomicU64,
    /// Since when a request of it is only half here; 0: none is.
    pub half_since: AtomicU64,
    /// Since when it does not take what it is sent; 0: it does.
    pub stuck_since: AtomicU64,
    /// What it asked for last, by its place in the table.
    pub command: AtomicUsize,
    /// Commands that are queued, plus one; 0: it is not in a transaction.
    pub queued: AtomicUsize,
    /// Channels, and patterns of channels, that it listens to.
    pub channels: AtomicUsize,
    /// See `channels`.
    pub patterns: AtomicUsize,
    /// The version of the protocol.
    pub protocol: AtomicU8,
    /// Whether it is told of what changes.
    pub is_tracked: AtomicBool,
    /// Who it is, if that was proven: for who tells it of keys, and who looks whether it may still be here.
    pub who: Mutex<Option<Arc<Identity>>>,
    /// What is to be sent to it beside its replies.
    pub mailbox: Mailbox,
    stream: Arc<Stream>,
}

/// What a client says of itself.
#[derive(Clone, Debug, Default)]
pub struct Told {
    /// Its name.
    pub name: String,
    /// Its library.
    pub library: String,
    /// That one's version.
    pub version: String,
}

/// Messages for a connection, as they are written to it.
#[derive(Debug, Default)]
pub struct Mailbox {
    waiting: Mutex<Vec<u8>>,
    come: Notify,
}

impl Mailbox {
    /// Waits for one.
    pub async fn come(&self) {
        self.come.notified().await;
    }

    /// Takes what has come.
    pub fn take(&self) -> Vec<u8> {
        std::mem::take(&mut self.waiting.lock())
    }
}

impl Client {
    /// Sends it a message. One that takes none while more than `most` bytes wait for it is cut off: it has missed what it was to be
    /// told, and must know.
    pub fn send(&self, most: usize, write: impl FnOnce(&mut Vec<u8>)) {
        let mut waiting = self.mailbox.waiting.lock();
        write(&mut waiting);
        let is_too_much = waiting.len() > most;
        if is_too_much {
            *waiting = Vec::new();
        }
        drop(waiting);
        if is_too_much {
            tracing::warn!(client = self.id, most, "a client that does not take its messages is cut off");
            self.cut();
        } else {
            self.mailbox.come.notify_one();
        }
    }

    /// Ends the connection at once.
    pub fn cut(&self) {
        self.stream.shutdown(Shutdown::Both);
    }

    /// Takes no more requests; what was asked for is answered.
    pub fn drain(&self) {
        self.stream.shutdown(Shutdown::Read);
    }

    /// What who it is is called.
    pub fn user(&self) -> String {
        self.who.lock().as_ref().map_or_else(|| "default".to_owned(), |who| who.principal.name().to_owned())
    }

    /// As `CLIENT LIST` tells it.
    pub fn line(&self, now: u64) -> String {
        let told = self.told.lock().clone();
        let flags =
            match (self.queued.load(Relaxed), self.channels.load(Relaxed) + self.patterns.load(Relaxed), self.is_tracked.load(Relaxed)) {
                (0, 0, false) => "N".to_owned(),
                (queued, listening, tracked) => {
                    [(queued > 0, "x"), (listening > 0, "P"), (tracked, "t")].iter().filter(|(is, _)| *is).map(|(_, flag)| *flag).collect()
                }
            };
        let seconds = |since: u64| now.saturating_sub(since) / 1_000;
        format!(
            "id={} addr={} laddr={} fd=-1 name={} age={} idle={} flags={flags} db=0 sub={} psub={} ssub=0 multi={} qbuf=0 qbuf-free=0 \
             argv-mem=0 multi-mem=0 rbs=0 rbp=0 obl=0 oll=0 omem={} tot-mem=0 events=r cmd={} user={} redir=-1 resp={} lib-name={} \
             lib-ver={}",
            self.id,
            self.addr,
            self.laddr,
            told.name,
            seconds(self.opened_at),
            seconds(self.asked_at.load(Relaxed)),
            self.channels.load(Relaxed),
            self.patterns.load(Relaxed),
            self.queued.load(Relaxed) as i64 - 1,
            self.mailbox.waiting.lock().len(),
            COMMANDS.get(self.command.load(Relaxed)).map_or("NULL", |command| command.name),
            self.user(),
            self.protocol.load(Relaxed).max(2),
            told.library,
            told.version,
        )
    }
}

/// All connections.
#[derive(Debug, Default)]
pub struct Clients {
    open: Mutex<HashMap<u64, Arc<Client>>>,
    opened: AtomicU64,
    refused: AtomicU64,
    cut: AtomicU64,
    emptied: Notify,
}

/// How long connections are left alone.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// Without a request, in milliseconds; 0: for ever.
    pub idle_ms: u64,
    /// With half a request.
    pub half_ms: u64,
    /// Without taking what they are sent.
    pub stuck_ms: u64,
}

impl Clients {
    /// Takes in a connection, unless there are too many.
    pub fn open(&self, stream: Stream, addr: Option<SocketAddr>, now: u64, most: usize) -> Result<(Arc<Stream>, Arc<Client>), Stream> {
        let mut open = self.open.lock();
        if open.len() >= most {
            self.refused.fetch_add(1, Relaxed);
            return Err(stream);
        }
        let shown = |addr: Option<SocketAddr>| addr.map_or_else(|| "unix:0".to_owned(), |addr| addr.to_string());
        let laddr = match &stream {
            Stream::Tcp(stream) => stream.local_addr().ok(),
            Stream::Tls(stream) => stream.local_addr().ok(),
            Stream::Unix(_) => None,
        };
        let stream = Arc::new(stream);
        let id = self.opened.fetch_add(1, Relaxed) + 1;
        let client = Arc::new(Client {
            id,
            addr: shown(addr),
            address: addr.map(|addr| addr.ip()),
            laddr: shown(laddr),
            opened_at: now,
            told: Mutex::default(),
            asked_at: now.into(),
            half_since: 0.into(),
            stuck_since: 0.into(),
            command: usize::MAX.into(),
            queued: 0.into(),
            channels: 0.into(),
            patterns: 0.into(),
            protocol: 2.into(),
            is_tracked: false.into(),
            who: Mutex::default(),
            mailbox: Mailbox::default(),
            stream: stream.clone(),
        });
        open.insert(id, client.clone());
        Ok((stream, client))
    }

    /// A connection has ended.
    pub fn closed(&self, id: u64) {
        let mut open = self.open.lock();
        open.remove(&id);
        if open.is_empty() {
            self.emptied.notify_waiters();
        }
    }

    /// All of them, the oldest first.
    pub fn all(&self) -> Vec<Arc<Client>> {
        let mut all: Vec<_> = self.open.lock().values().cloned().collect();
        all.sort_unstable_by_key(|client| client.id);
        all
    }

    /// One of them.
    pub fn get(&self, id: u64) -> Option<Arc<Client>> {
        self.open.lock().get(&id).cloned()
    }

    /// How many there are now, were ever, were turned away, and were cut off.
    pub fn counts(&self) -> [u64; 4] {
        [self.open.lock().len() as u64, self.opened.load(Relaxed), self.refused.load(Relaxed), self.cut.load(Relaxed)]
    }

    /// Ends those that try one's patience.
    pub fn reap(&self, now: u64, patience: Patience) {
        let over = |since: u64, most: u64| since > 0 && now.saturating_sub(since) >= most;
        for client in self.all() {
            let listens = client.channels.load(Relaxed) + client.patterns.load(Relaxed) > 0 || client.is_tracked.load(Relaxed);
            let why = if over(client.stuck_since.load(Relaxed), patience.stuck_ms) {
                "it does not take what it is sent"
            } else if over(client.half_since.load(Relaxed), patience.half_ms) {
                "the rest of its request does not come"
            } else if patience.idle_ms > 0 && !listens && over(client.asked_at.load(Relaxed), patience.idle_ms) {
                "it asks for nothing"
            } else {
                continue;
            };
            tracing::info!(client = client.id, addr = %client.addr, why, "a connection is cut off");
            self.cut.fetch_add(1, Relaxed);
            client.cut();
        }
    }

    /// Has all of them end when they are answered, and waits for that.
    pub async fn drain(&self) {
        loop {
            let emptied = self.emptied.notified();
            let open = self.all();
            if open.is_empty() {
                return;
            }
            open.iter().for_each(|client| client.drain());
            emptied.await;
        }
    }

    /// Ends all of them at once, and says how many that were.
    pub fn cut_all(&self) -> usize {
        let open = self.all();
        open.iter().for_each(|client| client.cut());
        open.len()
    }
}
