//! The two threads of one connection through the proxy: each reads a chunk, asks the gate, and writes it on.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use super::control::{Control, Direction, Permit, Streams, Thread, Verdict, reset_when_closed};

/// How long a write may wait for room before the gate is asked again: a peer that does not read must not keep a fault
/// from coming into force.
const PATIENCE: Duration = Duration::from_millis(20);

/// How long connecting to the upstream may take. On one machine it takes no time, unless the other's queue is full.
const CONNECT_MAX: Duration = Duration::from_secs(5);

/// How much is read at once: more than a client usually writes at once, so that a request is one chunk.
const CHUNK_BYTES: usize = 64 << 10;

/// Why a direction of a connection does not go on.
enum Stop {
    /// The side that was read from has said that it ends, and the other has been told.
    End,
    /// What was still to come from the upstream is not to reach the client.
    LoseReplies,
    /// A fault has ended the connection, and reset it.
    Cut,
    /// One of its ends has broken it.
    Broken,
}

/// One connection, as its two threads share it. It is closed, and leaves the register, when the second of them drops it.
struct Link {
    number: u64,
    /// Always there, but while it is dropped.
    streams: Option<Arc<Streams>>,
    control: Arc<Control>,
}

impl Drop for Link {
    fn drop(&mut self) {
        // First ours: the register's is to be the last.
        drop(self.streams.take());
        self.control.close(self.number);
    }
}

/// Takes over a client's connection.
pub(super) fn start(client: TcpStream, control: &Arc<Control>) {
    let streams = Arc::new(Streams { client, upstream: OnceLock::new() });
    let number = control.open(&streams);
    let link = Arc::new(Link { number, streams: Some(streams), control: Arc::clone(control) });
    spawn(link, |link| {
        if link.connect() {
            spawn(Arc::clone(&link), |link| link.pump(Direction::Replies));
            link.pump(Direction::Requests);
        }
    });
}

fn spawn(link: Arc<Link>, work: impl FnOnce(Arc<Link>) + Send + 'static) {
    let thread = Thread::of(&link.control);
    std::thread::spawn(move || {
        work(link);
        drop(thread);
    });
}

impl Link {
    fn streams(&self) -> &Streams {
        self.streams.as_ref().expect("it is taken only when the link is dropped")
    }

    fn upstream(&self) -> &TcpStream {
        self.streams().upstream.get().expect("nothing is pumped before it is connected")
    }

    /// Connects to the upstream; a client whose upstream is not there is reset.
    fn connect(&self) -> bool {
        let Some(address) = self.control.wait_to_connect(self.number) else { return false };
        let connected = TcpStream::connect_timeout(&address, CONNECT_MAX).and_then(|upstream| {
            for stream in [&upstream, &self.streams().client] {
                stream.set_nodelay(true)?;
                stream.set_write_timeout(Some(PATIENCE))?;
            }
            Ok(upstream)
        });
        let Ok(upstream) = connected else {
            self.control.count_unreachable();
            self.control.reset(self.number);
            return false;
        };
        self.streams().upstream.set(upstream).expect("it is connected once");
        // A cut that came before the line above did not see the upstream.
        let is_cut = self.control.is_cut(self.number);
        if is_cut {
            self.streams().reset();
        }
        !is_cut
    }

    /// Moves bytes in one direction until there are no more.
    fn pump(&self, direction: Direction) {
        let (from, to) = match direction {
            Direction::Requests => (&self.streams().client, self.upstream()),
            Direction::Replies => (self.upstream(), &self.streams().client),
        };
        let mut buffer = vec![0; CHUNK_BYTES];
        let stop = loop {
            let read = retried(|| { from }.read(&mut buffer));
            let Ok(bytes) = read else { break Stop::Broken };
            if let Err(stop) = self.write(direction, to, &buffer[..bytes]) {
                break stop;
            }
        };
        match stop {
            Stop::End | Stop::Cut => {}
            Stop::LoseReplies => self.lose_replies(),
            Stop::Broken => self.control.reset(self.number),
        }
    }

    /// Writes a chunk on as soon as, and as far as, the gate lets it.
    fn write(&self, direction: Direction, mut to: &TcpStream, chunk: &[u8]) -> Result<(), Stop> {
        let came = Instant::now();
        let mut written = 0;
        loop {
            let permit = self.permit(direction, &chunk[written..], written == 0, came)?;
            if chunk.is_empty() {
                let told = to.shutdown(Shutdown::Write);
                self.control.wrote(permit, self.number, direction, 0, true);
                return Err(told.map_or(Stop::Broken, |()| Stop::End));
            }
            let result = retried(|| to.write(&chunk[written..]));
            written += result.as_ref().map_or(0, |bytes| *bytes);
            let is_all = written == chunk.len();
            self.control.wrote(permit, self.number, direction, *result.as_ref().unwrap_or(&0), is_all);
            match result {
                Ok(_) if is_all => return Ok(()),
                Ok(_) => {}
                // No room in time.
                Err(error) if is_timeout(&error) => {}
                Err(_) => return Err(Stop::Broken),
            }
        }
    }

    fn permit(&self, direction: Direction, chunk: &[u8], is_first: bool, came: Instant) -> Result<Permit, Stop> {
        match self.control.pass(self.number, direction, chunk, is_first, came) {
            Verdict::Write(permit) => Ok(permit),
            Verdict::LoseReplies => Err(Stop::LoseReplies),
            Verdict::Cut => Err(Stop::Cut),
        }
    }

    /// Resets the client, and ends the upstream's side in an orderly way. A reset there might overtake a request that the server
    /// has received and not read yet, and then it would not be done.
    fn lose_replies(&self) {
        let (client, upstream) = (&self.streams().client, self.upstream());
        reset_when_closed(client);
        // Wakes the other thread. The client's end is closed when we both have ended, and must not wait for the server's.
        drop(client.shutdown(Shutdown::Read));
        drop(upstream.shutdown(Shutdown::Write));
        let Ok(upstream) = upstream.try_clone() else { return };
        let (control, thread) = (Arc::clone(&self.control), Thread::of(&self.control));
        std::thread::spawn(move || {
            read_to_end(&upstream, &control);
            drop(thread);
        });
    }
}

/// Reads what nobody wants until the server has seen that we have ended, or the proxy ends.
fn read_to_end(mut upstream: &TcpStream, control: &Control) {
    let mut lost = vec![0; CHUNK_BYTES];
    drop(upstream.set_read_timeout(Some(PATIENCE)));
    while !control.has_ended() {
        match retried(|| upstream.read(&mut lost)) {
            Ok(0) => return,
            Ok(_) => {}
            Err(error) if is_timeout(&error) => {}
            Err(_) => return,
        }
    }
}

fn is_timeout(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut)
}

fn retried<T>(mut call: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    loop {
        match call() {
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            other => return other,
        }
    }
}
