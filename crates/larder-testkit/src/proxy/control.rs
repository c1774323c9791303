//! The gate that every chunk of a proxy's traffic passes, and the register of its connections and threads. It decides and
//! counts; it reads and writes nothing.

use std::collections::BTreeMap;
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use rustix::net::sockopt::set_socket_linger;

use super::Counters;

/// What happens to the bytes of all connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Traffic {
    Pass,
    Hold,
    Delay(Duration),
    DropReplies,
}

/// What a trap does to the chunk of requests that springs it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Trap {
    /// Loses its reply.
    Reply,
    /// Loses it.
    Request,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Direction {
    Requests,
    Replies,
}

/// What may be done with a chunk.
#[derive(Debug)]
pub(super) enum Verdict {
    /// Write it, then [tell](Control::wrote).
    Write(Permit),
    /// It is lost, with all replies after it. What the upstream has been sent still has to reach it.
    LoseReplies,
    /// The connection is over.
    Cut,
}

/// That a chunk is being written, and under which rules it was let through.
#[derive(Debug)]
pub(super) struct Permit {
    rules: u64,
}

/// The two ends of a connection. Shared and not duplicated, so that it is closed exactly when the last user drops it.
#[derive(Debug)]
pub(super) struct Streams {
    pub(super) client: TcpStream,
    /// Once it is connected.
    pub(super) upstream: OnceLock<TcpStream>,
}

impl Streams {
    /// Makes both ends be reset when they are closed, and wakes the threads that read from them. Reading alone is shut
    /// down: shutting down writing would end the connection in an orderly way before it can be reset.
    pub(super) fn reset(&self) {
        for stream in [Some(&self.client), self.upstream.get()].into_iter().flatten() {
            reset_when_closed(stream);
            drop(stream.shutdown(Shutdown::Read));
        }
    }
}

/// Makes the connection end with a reset. It fails only where it has ended already.
pub(super) fn reset_when_closed(stream: &TcpStream) {
    set_socket_linger(stream, Some(Duration::ZERO)).ok();
}

#[derive(Debug)]
struct Connection {
    /// None in the moment between their closing and the connection's removal.
    streams: Option<Arc<Streams>>,
    is_cut: bool,
    doom: Doom,
}

/// Whether a trap has marked a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Doom {
    None,
    /// When the request has been written. A reply that comes before, to an earlier request, waits: it would else cut
    /// the connection before the upstream has the request that was to reach it.
    OnceWritten,
    /// With the next reply.
    Now,
}

#[derive(Debug)]
pub(super) struct State {
    has_ended: bool,
    is_refusing: bool,
    is_listening: bool,
    upstream: SocketAddr,
    traffic: Traffic,
    /// Counts the changes of `traffic`, and what else has to wait for what is under way.
    rules: u64,
    traps: Vec<(Trap, Vec<u8>)>,
    /// The rules under which each chunk that is being written was let through.
    writing: Vec<u64>,
    connections: BTreeMap<u64, Connection>,
    threads: usize,
    counters: Counters,
}

impl State {
    pub(super) fn is_listening(&self) -> bool {
        self.is_listening
    }

    pub(super) fn has_threads(&self) -> bool {
        self.threads > 0
    }

    pub(super) fn has_connections_before(&self, number: u64) -> bool {
        self.connections.range(..number).next().is_some()
    }

    pub(super) fn is_writing_under_old_rules(&self) -> bool {
        self.writing.iter().any(|rules| *rules < self.rules)
    }

    fn is_cut(&self, number: u64) -> bool {
        self.has_ended || self.connections.get(&number).is_none_or(|connection| connection.is_cut)
    }

    fn doom(&self, number: u64) -> Doom {
        self.connections.get(&number).map_or(Doom::None, |connection| connection.doom)
    }

    fn set_doom(&mut self, number: u64, doom: Doom) {
        if let Some(connection) = self.connections.get_mut(&number) {
            connection.doom = doom;
        }
    }

    /// Marks one connection as cut; its streams are for resetting them when the lock is free.
    fn cut(&mut self, number: u64) -> Option<Arc<Streams>> {
        let connection = self.connections.get_mut(&number).filter(|connection| !connection.is_cut)?;
        connection.is_cut = true;
        self.counters.cut += 1;
        connection.streams.clone()
    }

    /// How long a chunk that came then still has to wait: no time at all, so long, or until something changes.
    fn wait_of(&self, number: u64, direction: Direction, came: Instant) -> Option<Option<Duration>> {
        match self.traffic {
            Traffic::Hold => return Some(None),
            Traffic::Delay(by) => {
                let left = by.saturating_sub(came.elapsed());
                if !left.is_zero() {
                    return Some(Some(left));
                }
            }
            Traffic::Pass | Traffic::DropReplies => {}
        }
        (direction == Direction::Replies && self.doom(number) == Doom::OnceWritten).then_some(None)
    }

    /// Takes out the trap that this chunk springs. The end of a stream, an empty chunk, springs none.
    fn spring(&mut self, chunk: &[u8]) -> Option<Trap> {
        let is_in = |bytes: &[u8]| bytes.is_empty() || chunk.windows(bytes.len()).any(|window| window == bytes);
        let sprung = self.traps.iter().position(|(_, bytes)| !chunk.is_empty() && is_in(bytes))?;
        Some(self.traps.remove(sprung).0)
    }
}

/// The state, and the wait for its change.
#[derive(Debug)]
pub(super) struct Control {
    state: Mutex<State>,
    changed: Condvar,
}

impl Control {
    pub(super) fn new(upstream: SocketAddr) -> Self {
        let state = State {
            has_ended: false,
            is_refusing: false,
            is_listening: true,
            upstream,
            traffic: Traffic::Pass,
            rules: 0,
            traps: Vec::new(),
            writing: Vec::new(),
            connections: BTreeMap::new(),
            threads: 0,
            counters: Counters::default(),
        };
        Control { state: Mutex::new(state), changed: Condvar::new() }
    }

    /// Nothing that is done under the lock panics.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the state and wakes whoever waits for it.
    fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let result = change(&mut self.lock());
        self.changed.notify_all();
        result
    }

    /// Waits until it is so, and says whether it is.
    pub(super) fn wait(&self, limit: Duration, is_so: impl Fn(&State) -> bool) -> bool {
        let waited = self.changed.wait_timeout_while(self.lock(), limit, |state| !is_so(state));
        !waited.unwrap_or_else(PoisonError::into_inner).1.timed_out()
    }

    // For the one who sets the faults.

    pub(super) fn heal(&self) {
        self.change(|state| {
            state.is_refusing = false;
            state.traps.clear();
            state.traffic = Traffic::Pass;
            state.rules += 1;
        });
    }

    pub(super) fn refuse(&self) {
        self.change(|state| state.is_refusing = true);
    }

    pub(super) fn set_traffic(&self, traffic: Traffic) {
        self.change(|state| {
            state.traffic = traffic;
            state.rules += 1;
        });
    }

    /// Tells the chunks that are being written now from those that come after.
    pub(super) fn begin_rules(&self) {
        self.change(|state| state.rules += 1);
    }

    pub(super) fn set_trap(&self, trap: Trap, containing: &[u8]) {
        self.change(|state| state.traps.push((trap, containing.to_vec())));
    }

    pub(super) fn traps(&self) -> usize {
        self.lock().traps.len()
    }

    pub(super) fn set_upstream(&self, upstream: SocketAddr) {
        self.change(|state| state.upstream = upstream);
    }

    pub(super) fn counters(&self) -> Counters {
        let state = self.lock();
        Counters { open: state.connections.len() as u64, ..state.counters }
    }

    /// Cuts all connections, and returns the number that the next one will have.
    pub(super) fn cut_all(&self) -> u64 {
        let (streams, next) = self.change(|state| {
            let numbers: Vec<u64> = state.connections.keys().copied().collect();
            let streams: Vec<_> = numbers.into_iter().filter_map(|number| state.cut(number)).collect();
            (streams, state.counters.accepted)
        });
        streams.iter().for_each(|streams| streams.reset());
        next
    }

    /// Ends everything: no thread goes on after this.
    pub(super) fn end(&self) {
        self.change(|state| state.has_ended = true);
        self.cut_all();
    }

    // For the acceptor.

    pub(super) fn is_accepting(&self) -> bool {
        let state = self.lock();
        !state.is_refusing && !state.has_ended
    }

    /// Waits while it refuses; `false` when it has ended.
    pub(super) fn wait_until_accepting(&self) -> bool {
        let waited = self.changed.wait_while(self.lock(), |state| state.is_refusing && !state.has_ended);
        !waited.unwrap_or_else(PoisonError::into_inner).has_ended
    }

    pub(super) fn set_listening(&self, is_listening: bool) {
        self.change(|state| state.is_listening = is_listening);
    }

    // For the threads of a connection.

    /// Enters a connection that was accepted, and returns its number and where to connect it to.
    pub(super) fn open(&self, streams: &Arc<Streams>) -> u64 {
        self.change(|state| {
            let number = state.counters.accepted;
            state.counters.accepted += 1;
            let connection = Connection { streams: Some(Arc::clone(streams)), is_cut: state.has_ended, doom: Doom::None };
            state.connections.insert(number, connection);
            number
        })
    }

    /// Where to connect it to, when nothing is held back any more; nowhere if it is cut before.
    pub(super) fn wait_to_connect(&self, number: u64) -> Option<SocketAddr> {
        let is_waiting = |state: &mut State| state.traffic == Traffic::Hold && !state.is_cut(number);
        let state = self.changed.wait_while(self.lock(), is_waiting).unwrap_or_else(PoisonError::into_inner);
        (!state.is_cut(number)).then_some(state.upstream)
    }

    /// Whether a connection was cut, perhaps while its upstream was not there yet to be reset.
    pub(super) fn is_cut(&self, number: u64) -> bool {
        self.lock().is_cut(number)
    }

    pub(super) fn has_ended(&self) -> bool {
        self.lock().has_ended
    }

    pub(super) fn count_unreachable(&self) {
        self.change(|state| state.counters.unreachable += 1);
    }

    /// Waits until a chunk that came then may go on, and says how. An empty chunk is the end of the stream. Of a chunk that goes
    /// on in parts, only the first is shown to the traps.
    pub(super) fn pass(&self, number: u64, direction: Direction, chunk: &[u8], is_first: bool, came: Instant) -> Verdict {
        let mut state = self.lock();
        loop {
            if state.is_cut(number) {
                return Verdict::Cut;
            }
            state = match state.wait_of(number, direction, came) {
                None => break,
                Some(None) => self.changed.wait(state).unwrap_or_else(PoisonError::into_inner),
                Some(Some(left)) => self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0,
            };
        }
        if direction == Direction::Replies {
            let is_lost = state.traffic == Traffic::DropReplies || state.doom(number) == Doom::Now;
            if is_lost && !chunk.is_empty() {
                state.counters.lost_replies += 1;
                // Not with `reset`, which would also reset the upstream.
                drop(state.cut(number));
                return Verdict::LoseReplies;
            }
        } else if is_first {
            match state.spring(chunk) {
                Some(Trap::Request) => {
                    state.counters.lost_requests += 1;
                    let streams = state.cut(number);
                    drop(state);
                    streams.iter().for_each(|streams| streams.reset());
                    self.changed.notify_all();
                    return Verdict::Cut;
                }
                Some(Trap::Reply) => state.set_doom(number, Doom::OnceWritten),
                None => {}
            }
        }
        let rules = state.rules;
        state.writing.push(rules);
        Verdict::Write(Permit { rules })
    }

    /// Says that the bytes which were let through have been written, so many of them; and whether the whole chunk has been.
    pub(super) fn wrote(&self, permit: Permit, number: u64, direction: Direction, bytes: usize, is_all: bool) {
        self.change(|state| {
            let at = state.writing.iter().position(|rules| *rules == permit.rules).expect("every permit is entered once");
            state.writing.swap_remove(at);
            match direction {
                Direction::Requests => state.counters.bytes_to_upstream += bytes as u64,
                Direction::Replies => state.counters.bytes_to_clients += bytes as u64,
            }
            if direction == Direction::Requests && is_all && state.doom(number) == Doom::OnceWritten {
                state.set_doom(number, Doom::Now);
            }
        });
    }

    /// Resets a connection that one of its ends has broken, unless a fault has ended it already.
    pub(super) fn reset(&self, number: u64) {
        let streams = self.change(|state| {
            let connection = state.connections.get_mut(&number).filter(|connection| !connection.is_cut)?;
            connection.is_cut = true;
            connection.streams.clone()
        });
        streams.iter().for_each(|streams| streams.reset());
    }

    /// Forgets a connection whose threads are done with it. It is closed before it is forgotten, so that whoever waits for its
    /// end can rely on that.
    pub(super) fn close(&self, number: u64) {
        let streams = self.lock().connections.get_mut(&number).and_then(|connection| connection.streams.take());
        drop(streams);
        self.change(|state| state.connections.remove(&number));
    }
}

/// A thread of the proxy, counted until this is dropped at its end.
#[derive(Debug)]
pub(super) struct Thread(Arc<Control>);

impl Thread {
    pub(super) fn of(control: &Arc<Control>) -> Self {
        control.change(|state| state.threads += 1);
        Thread(Arc::clone(control))
    }
}

impl Drop for Thread {
    fn drop(&mut self) {
        self.0.change(|state| state.threads -= 1);
    }
}
