//! Connections for reads alone, on which whoever reads asks and waits himself.
//!
//! The client has a task for each of its connections: a read hands over its command, is woken with the answer, and two tasks have run for
//! it. To a read that is alone that is a quarter of all that it takes. Here it writes, waits, and takes the answer apart where it lies; a
//! connection is one read's at a time, so there are a few of them.
//!
//! They are a short cut. They are opened behind the back of reads that would have used one, and only to the process that the other
//! connections lead to; where none is free, or one breaks off, the same is asked of the client. One that falls silent costs its read the
//! time of one answer, as the client's does. A read that is given up leaves behind an answer that is still to come: its connection is
//! closed. The protocol is RESP2, in which a server says nothing unasked.

use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use ::redis::{Cmd, ConnectionAddr, ConnectionInfo, RedisResult, Value, cmd, parse_redis_value};
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::runtime::Handle;
use tokio::task::JoinSet;

use super::link::{About, Server, failed};
use super::{RedisOptions, reply};
use crate::error::{Error, Result};

/// Connections at the same time: for reads that go alone, and one for those that go together.
pub(crate) const CONNECTIONS_MAX: usize = 3;

/// The pause after one was opened, and after one could not be: reads that are given up all the time must not have the server greet new
/// connections all the time.
const PAUSE: Duration = Duration::from_millis(100);
const PAUSE_AFTER_FAILURE: Duration = Duration::from_secs(5);

/// One that was idle for longer is closed and not used: something between here and the server may have forgotten it.
const IDLE_MAX: Duration = Duration::from_secs(20);

/// Bytes that are read at a time at least, and made room for at most: what a server says of a length is not believed before it comes.
const READ_MIN: usize = 16 << 10;
const READ_MAX: usize = 1 << 20;

/// A buffer that grew beyond it is not kept.
const BUFFER_KEPT: usize = 256 << 10;

/// The longest string that a server has, by its own default.
const VALUE_MAX: usize = 512 << 20;

/// The longest line that is no error, and the longest that is one.
const LINE_MAX: usize = 32;
const ERROR_MAX: usize = 4 << 10;

/// Those of one server, see the head of this file.
pub(crate) struct ReadConnections {
    to: Arc<Address>,
    operation_timeout: Duration,
    runtime: Handle,
    idle: Mutex<Vec<ReadConnection>>,
    count: Arc<Count>,
    /// Whoever opens one ends with the server.
    opening: Mutex<JoinSet<()>>,
}

/// Where they lead, and how.
struct Address {
    info: ConnectionInfo,
    /// The same that the server's other connections found there.
    process: String,
    timeout: Duration,
}

/// How many there are.
struct Count {
    open: AtomicUsize,
    /// When the next one may be opened; `None`: while one is.
    opens: Mutex<Option<Instant>>,
}

/// See the head of this file.
pub(crate) struct ReadConnection {
    stream: Box<dyn Stream>,
    buffer: Vec<u8>,
    idle_since: Instant,
    _open: Open,
}

trait Stream: AsyncRead + AsyncWrite + Send + Sync + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Sync + Unpin> Stream for T {}

/// One of them, counted as long as it lives.
struct Open(Arc<Count>);

/// The right to open one. When it ends, the next may be opened after its pause.
struct Opening {
    count: Arc<Count>,
    pause: Duration,
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Drop for Opening {
    fn drop(&mut self) {
        *self.count.opens.lock() = Some(Instant::now() + self.pause);
    }
}

impl Count {
    fn new() -> Arc<Self> {
        Arc::new(Count { open: AtomicUsize::new(0), opens: Mutex::new(Some(Instant::now())) })
    }

    fn add(self: &Arc<Self>) -> Open {
        self.open.fetch_add(1, Ordering::Relaxed);
        Open(self.clone())
    }

    /// Whether one more is to be opened now, and by who asks.
    fn begin_opening(self: &Arc<Self>) -> Option<Opening> {
        if self.open.load(Ordering::Relaxed) >= CONNECTIONS_MAX {
            return None;
        }
        let mut opens = self.opens.lock();
        if opens.is_none_or(|at| Instant::now() < at) {
            return None;
        }
        *opens = None;
        Some(Opening { count: self.clone(), pause: PAUSE_AFTER_FAILURE })
    }
}

impl ReadConnections {
    /// `None`: to this address there are none. TLS is left to the client: what it takes hides what is saved here.
    ///
    /// # Panics
    /// Outside of a runtime.
    pub(crate) fn to(info: &ConnectionInfo, about: &About, options: &RedisOptions) -> Option<Self> {
        let is_plain = matches!(info.addr(), ConnectionAddr::Tcp(..)) || (cfg!(unix) && matches!(info.addr(), ConnectionAddr::Unix(_)));
        is_plain.then(|| ReadConnections {
            to: Arc::new(Address { info: info.clone(), process: about.process().to_owned(), timeout: options.connect_timeout }),
            operation_timeout: options.operation_timeout,
            runtime: Handle::current(),
            idle: Mutex::default(),
            count: Count::new(),
            opening: Mutex::default(),
        })
    }

    /// One that nobody uses: the last that was, which is the warmest.
    fn take(&self) -> Option<ReadConnection> {
        let connection = self.idle.lock().pop()?;
        if connection.idle_since.elapsed() > IDLE_MAX {
            // The others have been idle for longer.
            self.close_idle();
            return None;
        }
        Some(connection)
    }

    fn give_back(&self, mut connection: ReadConnection) {
        connection.idle_since = Instant::now();
        self.idle.lock().push(connection);
    }

    fn close_idle(&self) {
        // They are closed after the lock is given back.
        let idle = std::mem::take(&mut *self.idle.lock());
        drop(idle);
    }
}

impl Server {
    /// Reads entries: on a connection for reads if one is free, else by the client.
    pub(crate) async fn read(self: &Arc<Self>, command: &Cmd) -> RedisResult<Value> {
        let Some(reads) = &self.reads else { return self.send(command).await };
        let Some(mut connection) = reads.take() else {
            self.open_for_reads(reads);
            return self.send(command).await;
        };
        let reading = async {
            match connection.ask(command).await {
                Ok(value) => {
                    let answer = value.extract_error();
                    // A refusal may be of the connection and not of what was asked.
                    if answer.is_ok() {
                        reads.give_back(connection);
                    }
                    answer
                }
                Err(error) => {
                    drop(connection);
                    tracing::debug!(%error, "a connection for reads is closed; the client is asked");
                    self.send(command).await
                }
            }
        };
        tokio::time::timeout(reads.operation_timeout, reading).await.unwrap_or_else(|_| {
            // Those who were idle meanwhile are likely to be as dead.
            reads.close_idle();
            Err(io::Error::from(io::ErrorKind::TimedOut).into())
        })
    }

    /// In a task of its own: the read that wants it does not wait for it.
    fn open_for_reads(self: &Arc<Self>, reads: &ReadConnections) {
        let Some(opening) = reads.count.begin_opening() else { return };
        let mut tasks = reads.opening.lock();
        while tasks.try_join_next().is_some() {}
        tasks.spawn_on(open_one(Arc::downgrade(self), reads.to.clone(), opening), &reads.runtime);
    }
}

/// Does not hold the server meanwhile: where that is given up, so is this.
async fn open_one(server: Weak<Server>, to: Arc<Address>, mut opening: Opening) {
    let late = |_| Err(Error::of_tier("Redis did not answer in time"));
    let opened = tokio::time::timeout(to.timeout, ReadConnection::open(&to, &opening.count)).await.unwrap_or_else(late);
    match opened {
        Ok(connection) => {
            opening.pause = PAUSE;
            if let Some(reads) = server.upgrade().as_ref().and_then(|server| server.reads.as_ref()) {
                reads.give_back(connection);
            }
        }
        Err(error) => tracing::debug!(%error, "no connection for reads could be opened; the client is asked"),
    }
}

impl ReadConnection {
    /// Opens one, and makes sure that it leads to where the others do.
    async fn open(to: &Address, count: &Arc<Count>) -> Result<Self> {
        let open = count.add();
        let stream = connect(to.info.addr()).await.map_err(|error| failed(error.into()))?;
        let mut connection = ReadConnection { stream, buffer: Vec::new(), idle_since: Instant::now(), _open: open };
        let settings = to.info.redis_settings();
        if let Some(password) = settings.password() {
            connection.demand(cmd("AUTH").arg(settings.username()).arg(password)).await?;
        }
        if settings.db() != 0 {
            connection.demand(cmd("SELECT").arg(settings.db())).await?;
        }
        let about = About::read(&reply::text(connection.demand(&cmd("INFO")).await?, "INFO")?)?;
        if about.process() == to.process { Ok(connection) } else { Err(Error::of_tier("another server is there now")) }
    }

    /// The same as [`ask`](Self::ask), where what the server refuses is an error.
    async fn demand(&mut self, command: &Cmd) -> Result<Value> {
        let answer = self.ask(command).await.map_err(|error| failed(error.into()))?;
        answer.extract_error().map_err(failed)
    }

    /// One command and its answer, which may be that it was refused. After an error, or if it is not waited for, nobody may use the
    /// connection any more.
    async fn ask(&mut self, command: &Cmd) -> io::Result<Value> {
        let ReadConnection { stream, buffer, .. } = self;
        buffer.clear();
        command.write_packed_command(buffer);
        stream.write_all(buffer).await?;
        stream.flush().await?;
        buffer.clear();
        let mut answer = Answer::default();
        let mut used = 0;
        let value = loop {
            let missing = match answer.take(&buffer[used..])? {
                Taken::Part(bytes) => {
                    used += bytes;
                    continue;
                }
                Taken::Whole(value, bytes) => {
                    used += bytes;
                    break value;
                }
                Taken::Missing(missing) => missing,
            };
            buffer.drain(..used);
            used = 0;
            buffer.reserve(missing.clamp(READ_MIN, READ_MAX));
            if stream.read_buf(buffer).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        };
        if used != buffer.len() {
            return Err(unexpected());
        }
        if buffer.capacity() > BUFFER_KEPT {
            *buffer = Vec::new();
        }
        Ok(value)
    }
}

async fn connect(addr: &ConnectionAddr) -> io::Result<Box<dyn Stream>> {
    match addr {
        ConnectionAddr::Tcp(host, port) => {
            let stream = TcpStream::connect((host.as_str(), *port)).await?;
            stream.set_nodelay(true)?;
            Ok(Box::new(stream))
        }
        #[cfg(unix)]
        ConnectionAddr::Unix(path) => Ok(Box::new(tokio::net::UnixStream::connect(path).await?)),
        _ => Err(io::ErrorKind::Unsupported.into()),
    }
}

/// An answer of which a part may have come: a string, or a list of strings.
#[derive(Default)]
struct Answer {
    /// The items that came, of how many; `None`: it is no list, or that is not known yet.
    list: Option<(Vec<Value>, usize)>,
}

enum Taken {
    /// So many bytes were another part of the answer.
    Part(usize),
    /// So many bytes were the last part of it.
    Whole(Value, usize),
    /// So many bytes at least have yet to come.
    Missing(usize),
}

impl Answer {
    /// Takes the next part, from where the last one ended.
    fn take(&mut self, from: &[u8]) -> io::Result<Taken> {
        let is_error = from.first() == Some(&b'-');
        let longest = if is_error { ERROR_MAX } else { LINE_MAX };
        let Some(end) = from.iter().take(longest).position(|byte| *byte == b'\n') else {
            return if from.len() < longest { Ok(Taken::Missing(1)) } else { Err(unexpected()) };
        };
        let line = from[..end].strip_suffix(b"\r").ok_or_else(unexpected)?;
        let (value, used) = match line.split_first() {
            Some((b'$', b"-1")) => (Value::Nil, end + 1),
            Some((b'$', length)) => {
                let length = number(length).filter(|length| *length <= VALUE_MAX).ok_or_else(unexpected)?;
                let (begin, whole) = (end + 1, end + 1 + length + 2);
                if from.len() < whole {
                    return Ok(Taken::Missing(whole - from.len()));
                }
                if &from[begin + length..whole] != b"\r\n" {
                    return Err(unexpected());
                }
                (Value::BulkString(from[begin..begin + length].to_vec()), whole)
            }
            Some((b'*', length)) if self.list.is_none() => {
                let length = number(length).ok_or_else(unexpected)?;
                self.list = Some((Vec::with_capacity(length.min(1_024)), length));
                return Ok(if length == 0 { Taken::Whole(Value::Array(Vec::new()), end + 1) } else { Taken::Part(end + 1) });
            }
            Some((b'+', b"OK")) if self.list.is_none() => (Value::Okay, end + 1),
            // What it means is the client's knowledge.
            Some((b'-', _)) if self.list.is_none() => (parse_redis_value(&from[..=end]).map_err(|_| unexpected())?, end + 1),
            _ => return Err(unexpected()),
        };
        let Some((items, length)) = &mut self.list else { return Ok(Taken::Whole(value, used)) };
        items.push(value);
        Ok(if items.len() == *length { Taken::Whole(Value::Array(std::mem::take(items)), used) } else { Taken::Part(used) })
    }
}

fn number(digits: &[u8]) -> Option<usize> {
    std::str::from_utf8(digits).ok().filter(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()))?.parse().ok()
}

fn unexpected() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "the answer is neither a value nor a list of values")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is made of an answer of which one piece comes after the other.
    fn taken(pieces: &[&[u8]]) -> io::Result<Option<Value>> {
        let (mut answer, mut buffer, mut used) = (Answer::default(), Vec::new(), 0);
        for piece in pieces {
            buffer.extend_from_slice(piece);
            loop {
                match answer.take(&buffer[used..])? {
                    Taken::Part(bytes) => used += bytes,
                    Taken::Whole(value, bytes) => {
                        assert_eq!(used + bytes, buffer.len(), "all of it was taken");
                        return Ok(Some(value));
                    }
                    Taken::Missing(missing) => {
                        assert!(missing > 0);
                        break;
                    }
                }
            }
        }
        Ok(None)
    }

    fn some(bytes: &[u8]) -> Value {
        Value::BulkString(bytes.to_vec())
    }

    #[test]
    fn an_answer_is_the_same_however_it_comes() {
        let refusal = parse_redis_value(b"-NOPERM no\r\n").unwrap();
        assert!(refusal.clone().extract_error().is_err());
        let answers: [(&[u8], Value); 9] = [
            (b"-NOPERM no\r\n", refusal),
            (b"$5\r\nvalue\r\n", some(b"value")),
            (b"$0\r\n\r\n", some(b"")),
            (b"$6\r\n\r\n$1\r\n\r\n", some(b"\r\n$1\r\n")),
            (b"$-1\r\n", Value::Nil),
            (b"+OK\r\n", Value::Okay),
            (b"*0\r\n", Value::Array(Vec::new())),
            (b"*1\r\n$-1\r\n", Value::Array(vec![Value::Nil])),
            (b"*3\r\n$1\r\na\r\n$-1\r\n$2\r\nbc\r\n", Value::Array(vec![some(b"a"), Value::Nil, some(b"bc")])),
        ];
        for (bytes, value) in answers {
            let each: Vec<&[u8]> = bytes.chunks(1).collect();
            assert_eq!(taken(&each).unwrap().as_ref(), Some(&value), "{}", bytes.escape_ascii());
            for (first, second) in (0..bytes.len()).map(|at| bytes.split_at(at)) {
                assert_eq!(taken(&[first]).unwrap(), None, "{}", first.escape_ascii());
                assert_eq!(taken(&[first, second]).unwrap().as_ref(), Some(&value), "{}", bytes.escape_ascii());
            }
        }
    }

    #[test]
    fn what_is_no_value_is_an_error_and_takes_no_room() {
        let answers: [&[u8]; 16] = [
            &[b'-'; ERROR_MAX],
            b"*2\r\n$1\r\na\r\n-ERR no\r\n",
            b"*1\r\n*1\r\n$1\r\na\r\n",
            b"*1\r\n+OK\r\n",
            b"+QUEUED\r\n",
            b":1\r\n",
            b"$5\nvalue\r\n",
            b"$5\r\nvalues\r\n",
            b"$+5\r\nvalue\r\n",
            b"$-2\r\n",
            b"$\r\n\r\n",
            b"$99999999999999999999999\r\n",
            b"$536870913\r\n",
            b"*-1\r\n",
            b"\r\n",
            &[b'$'; 64],
        ];
        for bytes in answers {
            let error = taken(&[bytes]).expect_err(&bytes.escape_ascii().to_string());
            assert_eq!(error.kind(), io::ErrorKind::InvalidData, "{}", bytes.escape_ascii());
        }
        let mut answer = Answer::default();
        assert!(matches!(answer.take(b"*99999999999\r\n"), Ok(Taken::Part(14))));
        assert!(answer.list.unwrap().0.capacity() <= 1_024, "a length is not believed");
    }

    fn connection(stream: impl Stream + 'static) -> ReadConnection {
        ReadConnection { stream: Box::new(stream), buffer: Vec::new(), idle_since: Instant::now(), _open: Count::new().add() }
    }

    #[tokio::test]
    async fn a_command_is_written_and_its_answer_taken() {
        let (near, mut far) = tokio::io::duplex(64);
        let mut connection = connection(near);
        let large = vec![b'x'; BUFFER_KEPT];
        let serving = async {
            for value in [&b"v"[..], &large] {
                let mut asked = [0; 20];
                far.read_exact(&mut asked).await.unwrap();
                assert_eq!(asked, *b"*2\r\n$3\r\nGET\r\n$1\r\nk\r\n");
                far.write_all(&[format!("${}\r\n", value.len()).as_bytes(), value, b"\r\n"].concat()).await.unwrap();
            }
        };
        let get = Cmd::get("k");
        let asking = async {
            assert_eq!(connection.ask(&get).await.unwrap(), some(b"v"));
            assert_eq!(connection.ask(&get).await.unwrap(), some(&large));
            assert!(connection.buffer.capacity() <= BUFFER_KEPT, "what was large is not kept");
        };
        tokio::join!(serving, asking);
        drop(far);
        assert!(connection.ask(&get).await.is_err(), "nobody is there any more");
    }

    /// Why a connection whose read was given up is closed: this is what would be read there.
    #[tokio::test]
    async fn what_a_read_leaves_behind_would_be_the_next_ones_answer() {
        let (near, mut far) = tokio::io::duplex(1 << 10);
        let mut connection = connection(near);
        let (first, second) = (Cmd::get("first"), Cmd::get("second"));
        let given_up = tokio::time::timeout(Duration::ZERO, connection.ask(&first)).await;
        assert!(given_up.is_err());
        far.write_all(b"$5\r\nfirst\r\n").await.unwrap();
        assert_eq!(connection.ask(&second).await.unwrap(), some(b"first"));
    }

    #[test]
    fn one_is_opened_at_a_time_and_the_next_after_a_pause() {
        let count = Count::new();
        let opening = count.begin_opening().unwrap();
        assert!(count.begin_opening().is_none(), "one is being opened");
        drop(opening);
        assert!(count.begin_opening().is_none(), "it ended a moment ago");
        *count.opens.lock() = Some(Instant::now());
        let all: Vec<_> = (0..CONNECTIONS_MAX).map(|_| count.add()).collect();
        assert!(count.begin_opening().is_none(), "there are as many as there may be");
        drop(all);
        assert!(count.begin_opening().is_some());
    }

    #[tokio::test]
    async fn more_than_one_answer_is_an_error() {
        let (near, mut far) = tokio::io::duplex(1 << 10);
        let mut connection = connection(near);
        far.write_all(b"$1\r\na\r\n$1\r\nb\r\n").await.unwrap();
        let error = connection.ask(&Cmd::get("k")).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
    }
}
