//! A small blocking client for RESP2: one command, one reply, with a limit on the time. It is for arranging what a test needs
//! and asking how it stands, and depends on no client library, since those may be under test.

use std::fmt;
use std::io::{self, BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// A reply of the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// A simple string, as `+OK`.
    Status(String),
    /// An error inside an array, as one command of a transaction may have. An error as a whole is [`CommandError::Refused`].
    Error(String),
    /// A number.
    Integer(i64),
    /// A string of bytes.
    Bulk(Vec<u8>),
    /// The absence of a string or array.
    Nil,
    /// Several replies.
    Array(Vec<Reply>),
}

impl Reply {
    /// The reply as text: of a status, error, string (where not UTF-8, with replacement characters) or number. The
    /// absence of a string is the empty text, and an array is its elements' texts, one a line.
    pub fn text(&self) -> String {
        match self {
            Reply::Status(text) | Reply::Error(text) => text.clone(),
            Reply::Integer(number) => number.to_string(),
            Reply::Bulk(bytes) => String::from_utf8_lossy(bytes).into_owned(),
            Reply::Nil => String::new(),
            Reply::Array(items) => items.iter().map(Reply::text).collect::<Vec<_>>().join("\n"),
        }
    }

    /// The reply as a number: of an integer, or of a text that is one.
    pub fn number(&self) -> Option<i64> {
        match self {
            Reply::Integer(number) => Some(*number),
            other => other.text().parse().ok(),
        }
    }

    /// The elements of an array; none of anything else.
    pub fn items(&self) -> &[Reply] {
        match self {
            Reply::Array(items) => items,
            _ => &[],
        }
    }

    /// The value of a field: of `name:value` lines, as `INFO` and `CLUSTER INFO` have them, or of an array of names and
    /// values in turns, as `CONFIG GET` and `SENTINEL MASTER` have them.
    pub fn field(&self, name: &str) -> Option<String> {
        if let Reply::Array(items) = self {
            return items.chunks_exact(2).find(|pair| pair[0].text() == name).map(|pair| pair[1].text());
        }
        let text = self.text();
        text.lines().find_map(|line| Some(line.strip_prefix(name)?.strip_prefix(':')?.trim_end().to_owned()))
    }
}

/// Why a command has no reply.
#[derive(Debug)]
pub enum CommandError {
    /// The server was not reached, did not answer in time, or ended the connection. What it was told may have taken effect.
    Unanswered(io::Error),
    /// The server answered with this error, and did nothing.
    Refused(String),
}

impl fmt::Display for CommandError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CommandError::Unanswered(error) => write!(f, "no answer: {error}"),
            CommandError::Refused(error) => write!(f, "refused: {error}"),
        }
    }
}

impl std::error::Error for CommandError {}

impl From<io::Error> for CommandError {
    fn from(error: io::Error) -> Self {
        CommandError::Unanswered(error)
    }
}

/// A connection to a server. After [`CommandError::Unanswered`] it is of no more use, since a late reply would be taken
/// for that of the next command.
#[derive(Debug)]
pub struct Connection {
    stream: BufReader<TcpStream>,
}

impl Connection {
    /// Connects; connecting and every wait for a part of a reply may take as long as `limit`.
    ///
    /// # Errors
    ///
    /// When the server is not reached in that time.
    pub fn open(address: SocketAddr, limit: Duration) -> io::Result<Self> {
        let stream = TcpStream::connect_timeout(&address, limit)?;
        stream.set_read_timeout(Some(limit))?;
        stream.set_write_timeout(Some(limit))?;
        stream.set_nodelay(true)?;
        Ok(Connection { stream: BufReader::new(stream) })
    }

    /// Sends one command and reads its reply.
    ///
    /// # Errors
    ///
    /// When there is no answer in time, and when the answer is an error.
    pub fn command<W: AsRef<[u8]>>(&mut self, words: &[W]) -> Result<Reply, CommandError> {
        self.send(words)?;
        match self.receive()? {
            Reply::Error(error) => Err(CommandError::Refused(error)),
            reply => Ok(reply),
        }
    }

    /// Sends one command and does not wait for its reply: the first half of [`Connection::command`].
    ///
    /// # Errors
    ///
    /// When it cannot be sent in time.
    pub fn send<W: AsRef<[u8]>>(&mut self, words: &[W]) -> io::Result<()> {
        let mut bytes = format!("*{}\r\n", words.len()).into_bytes();
        for word in words {
            let word = word.as_ref();
            bytes.extend_from_slice(format!("${}\r\n", word.len()).as_bytes());
            bytes.extend_from_slice(word);
            bytes.extend_from_slice(b"\r\n");
        }
        self.stream.get_mut().write_all(&bytes)
    }

    /// Reads one reply: the second half of [`Connection::command`]. Also what a server pushes to a subscriber.
    ///
    /// # Errors
    ///
    /// When no whole reply comes in time, or what comes is no RESP2.
    pub fn receive(&mut self) -> io::Result<Reply> {
        receive(&mut self.stream)
    }
}

fn receive(from: &mut impl BufRead) -> io::Result<Reply> {
    let mut line = Vec::new();
    from.read_until(b'\n', &mut line)?;
    if line.is_empty() {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    let line = line.strip_suffix(b"\r\n").ok_or(io::ErrorKind::UnexpectedEof)?;
    let line = String::from_utf8_lossy(line);
    let (kind, rest) = line.split_at_checked(1).ok_or_else(|| malformed(&line))?;
    let number = || rest.parse::<i64>().map_err(|_| malformed(&line));
    match kind {
        "+" => Ok(Reply::Status(rest.to_owned())),
        "-" => Ok(Reply::Error(rest.to_owned())),
        ":" => Ok(Reply::Integer(number()?)),
        // A negative length stands for nothing.
        "$" => usize::try_from(number()?).map_or(Ok(Reply::Nil), |length| receive_bytes(from, length)),
        "*" => usize::try_from(number()?)
            .map_or(Ok(Reply::Nil), |length| (0..length).map(|_| receive(from)).collect::<io::Result<_>>().map(Reply::Array)),
        _ => Err(malformed(&line)),
    }
}

fn receive_bytes(from: &mut impl BufRead, length: usize) -> io::Result<Reply> {
    let mut bytes = vec![0; length + b"\r\n".len()];
    from.read_exact(&mut bytes)?;
    bytes.truncate(length);
    Ok(Reply::Bulk(bytes))
}

fn malformed(line: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("{line:?} is no RESP2"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(mut bytes: &[u8]) -> io::Result<Reply> {
        receive(&mut bytes)
    }

    #[test]
    fn every_kind_of_reply_is_read() {
        let reply = read(b"*6\r\n+OK\r\n-ERR no\r\n:-7\r\n$4\r\na\r\nb\r\n$-1\r\n*0\r\n").expect("a reply");
        let (ok, no) = (Reply::Status("OK".into()), Reply::Error("ERR no".into()));
        let all = vec![ok, no, Reply::Integer(-7), Reply::Bulk(b"a\r\nb".to_vec()), Reply::Nil, Reply::Array(Vec::new())];
        assert_eq!(reply, Reply::Array(all));
    }

    #[test]
    fn what_is_cut_short_or_strange_is_an_error() {
        for bytes in [&b""[..], b"+OK", b"$5\r\nab", b"*2\r\n+OK\r\n", b"?\r\n", b"\r\n", b":x\r\n", "é\r\n".as_bytes()] {
            assert!(read(bytes).is_err(), "{bytes:?}");
        }
    }

    #[test]
    fn fields_are_found_in_lines_and_in_arrays() {
        let info = Reply::Bulk(b"# Server\r\nrole:master\r\nrole_x:1\r\n".to_vec());
        assert_eq!(info.field("role").as_deref(), Some("master"));
        assert_eq!(info.field("rol"), None);
        let config = Reply::Array(["maxmemory", "100"].map(|word| Reply::Bulk(word.into())).to_vec());
        assert_eq!(config.field("maxmemory").as_deref(), Some("100"));
        assert_eq!(config.field("100"), None);
    }
}
