//! A TCP proxy on a loopback port, whose traffic can be cut, refused, held back, slowed and robbed of replies while it runs.
//! It knows nothing of what the bytes mean.
//!
//! ```text
//!              ┌─ acceptor ─ refuse? ─┐      ┌─ requests: read ─ gate ─ write ─┐
//!   client ────┤  one thread          ├──────┤                                 ├──── upstream
//!              └──────────────────────┘      └─ replies:  write ─ gate ─ read ─┘
//!                                              two threads for each connection
//! ```
//!
//! Every chunk of bytes passes the gate (`proxy/control.rs`) before it is written on, and a fault is a state of the gate.
//! The calls that set one return only when no chunk is on its way through any more: what a test sends after
//! [`Proxy::hold`] has returned is held, without "perhaps".

mod control;
mod pump;

use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use control::{Control, Thread, Traffic, Trap};

use crate::port::Port;

/// How long a fault may take to be in force, and the threads to end. It takes no longer than a write that
/// is under way, which is bounded.
const SETTLE_MAX: Duration = Duration::from_secs(10);

/// The proxy. It begins by passing everything on. When it is dropped, its connections are cut and its threads end.
///
/// ```
/// use std::io::{Read, Write};
/// use std::net::{TcpListener, TcpStream};
///
/// use larder_testkit::proxy::Proxy;
///
/// # fn main() -> std::io::Result<()> {
/// let server = TcpListener::bind("127.0.0.1:0")?;
/// let proxy = Proxy::start(server.local_addr()?)?;
/// let mut client = TcpStream::connect(proxy.address())?;
/// client.write_all(b"hello")?;
/// let mut heard = [0; 5];
/// let (mut upstream, _) = server.accept()?;
/// upstream.read_exact(&mut heard)?;
/// assert_eq!(&heard, b"hello");
///
/// proxy.cut();
/// assert!(client.read(&mut heard).is_err(), "the connection was reset");
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    control: Arc<Control>,
    /// So that nobody else has it while the proxy refuses.
    _port: Port,
}

/// What has passed, and what has not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Connections that were accepted, ever.
    pub accepted: u64,
    /// Connections that are open now.
    pub open: u64,
    /// Connections that found nobody at the upstream address, and were reset.
    pub unreachable: u64,
    /// Connections that a fault has ended.
    pub cut: u64,
    /// Bytes that were passed on to the upstream.
    pub bytes_to_upstream: u64,
    /// Bytes that were passed on to clients.
    pub bytes_to_clients: u64,
    /// Chunks from clients that were thrown away by [`Proxy::lose_request`].
    pub lost_requests: u64,
    /// Chunks from the upstream that were thrown away by [`Proxy::drop_replies`] or [`Proxy::lose_reply_to`].
    pub lost_replies: u64,
}

impl Proxy {
    /// Starts a proxy on a free port of 127.0.0.1, in front of this address.
    ///
    /// # Errors
    ///
    /// When there is no free port.
    pub fn start(upstream: SocketAddr) -> io::Result<Self> {
        let port = Port::reserve()?;
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port.number()));
        let listener = TcpListener::bind(address)?;
        let control = Arc::new(Control::new(upstream));
        let (acceptor, thread) = (Acceptor { address, control: Arc::clone(&control) }, Thread::of(&control));
        std::thread::spawn(move || {
            acceptor.run(listener);
            drop(thread);
        });
        Ok(Proxy { address, control, _port: port })
    }

    /// Where clients connect.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The port of [`Proxy::address`].
    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// Ends all faults: everything passes, new connections are accepted, no trap is set. What was held back passes first.
    pub fn heal(&self) {
        self.control.heal();
        self.settle("healing", control::State::is_listening);
    }

    /// Resets all connections that the proxy has accepted, once. What they were holding is lost. New ones are accepted as before.
    /// They are gone when this returns.
    pub fn cut(&self) {
        let until = self.control.cut_all();
        self.settle("cut", |control| !control.has_connections_before(until));
    }

    /// Refuses new connections, as if nobody listened. Those that are open go on; [`Proxy::cut`] ends them.
    pub fn refuse(&self) {
        self.control.refuse();
        // The acceptor waits for a connection; this is the one that wakes it. It fails if it was refusing already.
        drop(TcpStream::connect(self.address));
        self.settle("refuse", |control| !control.is_listening());
    }

    /// Holds everything back, in both directions, as a network that has lost its way: connections stay open, new ones are
    /// accepted, and nothing comes through, neither bytes nor ends. When it [heals](Proxy::heal) all of it arrives, late: also
    /// the requests that a client has given up on. To have them lost, [cut](Proxy::cut) before healing.
    pub fn hold(&self) {
        self.set_traffic(Traffic::Hold);
    }

    /// Delays every chunk by so much, in each direction: a request and its reply take at least twice as long. A chunk that comes
    /// while another waits on the same connection waits after it.
    pub fn delay(&self, by: Duration) {
        self.set_traffic(Traffic::Delay(by));
    }

    /// Lets requests reach the upstream and loses every reply: a connection is reset when its reply arrives. Its client cannot
    /// know whether what it asked for was done; it was. This goes on until it [heals](Proxy::heal), also for new
    /// connections, which get no further than their first reply.
    pub fn drop_replies(&self) {
        self.set_traffic(Traffic::DropReplies);
    }

    /// Sets a trap: the next chunk of requests that contains these bytes reaches the upstream, its reply is lost and its
    /// connection reset. Once; everything else passes. Bytes that a client writes at once nearly always come as one chunk.
    pub fn lose_reply_to(&self, containing: &[u8]) {
        self.control.set_trap(Trap::Reply, containing);
    }

    /// Sets a trap: the next chunk of requests that contains these bytes does not reach the upstream, and its connection is
    /// reset. Once; everything else passes.
    pub fn lose_request(&self, containing: &[u8]) {
        self.control.set_trap(Trap::Request, containing);
    }

    /// How many traps have not been sprung.
    pub fn traps(&self) -> usize {
        self.control.traps()
    }

    /// Leads new connections to another address. Those that are open stay where they are.
    pub fn set_upstream(&self, upstream: SocketAddr) {
        self.control.set_upstream(upstream);
    }

    /// What has passed so far: all that has arrived is counted.
    pub fn counters(&self) -> Counters {
        // A chunk is counted when it has been written, and may be answered before. No rule changes, but the wait is the same.
        self.control.begin_rules();
        self.settle("count", |control| !control.is_writing_under_old_rules());
        self.control.counters()
    }

    fn set_traffic(&self, traffic: Traffic) {
        self.control.set_traffic(traffic);
        self.settle("change of traffic", |control| !control.is_writing_under_old_rules());
    }

    fn settle(&self, what: &str, is_in_force: impl Fn(&control::State) -> bool) {
        assert!(self.control.wait(SETTLE_MAX, is_in_force), "the proxy's {what} was not in force after {SETTLE_MAX:?}");
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.control.end();
        // Wakes the acceptor; it fails if that was refusing, and then is awake.
        drop(TcpStream::connect(self.address));
        let have_ended = self.control.wait(SETTLE_MAX, |control| !control.has_threads());
        if !have_ended && !std::thread::panicking() {
            panic!("threads of the proxy are still there after {SETTLE_MAX:?}");
        }
    }
}

/// The thread that listens. It goes on listening until the proxy ends or refuses, and then waits to listen again.
struct Acceptor {
    address: SocketAddr,
    control: Arc<Control>,
}

impl Acceptor {
    fn run(self, first: TcpListener) {
        let mut listener = Some(first);
        while let Some(listening) = listener.take() {
            self.listen(listening);
            self.control.set_listening(false);
            if self.control.wait_until_accepting() {
                listener = self.bind_again();
                self.control.set_listening(listener.is_some());
            }
        }
    }

    /// Accepts until it may not. What comes in that moment is reset, as by a port that was closed under it.
    fn listen(&self, listener: TcpListener) {
        loop {
            let accepted = listener.accept();
            if !self.control.is_accepting() {
                return;
            }
            // A connection that ended before it was accepted is none.
            if let Ok((client, _)) = accepted {
                pump::start(client, &self.control);
            }
        }
    }

    /// Nobody else has the port, so this can fail only for want of resources; then [`Proxy::heal`] waits in vain, and says so.
    fn bind_again(&self) -> Option<TcpListener> {
        TcpListener::bind(self.address).ok()
    }
}
