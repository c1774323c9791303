//! A client that knows the protocol and nothing else: what it is sent it keeps as it came, so that two servers can be held to the same
//! bytes. It blocks, and a reply that does not come is an error after a while.

use std::fmt;
use std::io::{self, BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

/// How long a reply may take. It takes microseconds, on a machine that is not busy with all other tests.
const REPLY_MAX: Duration = Duration::from_secs(20);

/// A command: its words, any bytes.
pub type Words = Vec<Vec<u8>>;

/// The words of a text, at white space; `\r`, `\n`, `\t`, `\0`, `\xHH`, `\s` (a blank), `\e` (nothing at all, for an empty word) and `\\`
/// stand for what cannot be written otherwise. `{N*c}` is `c` N times.
pub fn words(text: &str) -> Words {
    text.split_whitespace().map(word).collect()
}

fn word(text: &str) -> Vec<u8> {
    if let Some((count, letter)) = text.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')).and_then(|rest| rest.split_once('*')) {
        return word(letter).repeat(count.parse().expect("a count stands before the star"));
    }
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        rest = after;
        if first != b'\\' {
            bytes.push(first);
            continue;
        }
        let (&kind, after) = rest.split_first().expect("something follows a backslash");
        rest = after;
        match kind {
            b'r' => bytes.push(b'\r'),
            b'n' => bytes.push(b'\n'),
            b't' => bytes.push(b'\t'),
            b'0' => bytes.push(0),
            b's' => bytes.push(b' '),
            b'\\' => bytes.push(b'\\'),
            b'e' => {}
            b'x' => {
                let (digits, after) = rest.split_at(2);
                rest = after;
                let digits = std::str::from_utf8(digits).expect("hexadecimal digits are text");
                bytes.push(u8::from_str_radix(digits, 16).expect("two hexadecimal digits"));
            }
            other => panic!("`\\{}` stands for nothing", char::from(other)),
        }
    }
    bytes
}

/// A command as clients send it: an array of bulk strings.
pub fn encoded<W: AsRef<[u8]>>(words: &[W]) -> Vec<u8> {
    let mut bytes = format!("*{}\r\n", words.len()).into_bytes();
    for word in words {
        bytes.extend(format!("${}\r\n", word.as_ref().len()).into_bytes());
        bytes.extend(word.as_ref());
        bytes.extend(b"\r\n");
    }
    bytes
}

/// Bytes for a person to read, and not too many of them.
pub fn shown(bytes: &[u8]) -> String {
    const SHOWN_MAX: usize = 160;
    let text = bytes[..bytes.len().min(SHOWN_MAX)].escape_ascii().to_string();
    if bytes.len() > SHOWN_MAX { format!("{text}... ({} bytes)", bytes.len()) } else { text }
}

/// A command for a person to read.
pub fn shown_words<W: AsRef<[u8]>>(words: &[W]) -> String {
    words.iter().map(|word| format!("{} ", shown(word.as_ref()))).collect::<String>().trim_end().to_owned()
}

/// What a server said, with the byte that each part began with.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Value {
    /// What stands in one line: `+ - : , # ( _`.
    Line(u8, Vec<u8>),
    /// What has a length before it: `$ ! =`; nothing for `$-1`.
    Bulk(u8, Option<Vec<u8>>),
    /// What has parts: `* ~ > %`, where `%` has two for each; nothing for `*-1`.
    Parts(u8, Option<Vec<Value>>),
}

impl Value {
    /// An integer.
    pub fn integer(&self) -> Option<i64> {
        match self {
            Value::Line(b':', digits) => std::str::from_utf8(digits).ok()?.parse().ok(),
            _ => None,
        }
    }

    /// What a string holds, however it was sent.
    pub fn bytes(&self) -> Option<&[u8]> {
        match self {
            Value::Bulk(b'$', Some(bytes)) | Value::Line(b'+', bytes) => Some(bytes),
            _ => None,
        }
    }

    /// The parts of whatever has some.
    pub fn parts(&self) -> Option<&[Value]> {
        match self {
            Value::Parts(_, parts) => parts.as_deref(),
            _ => None,
        }
    }

    /// The text of an error.
    pub fn error(&self) -> Option<&[u8]> {
        match self {
            Value::Line(b'-', text) | Value::Bulk(b'!', Some(text)) => Some(text),
            _ => None,
        }
    }

    /// Whether nothing was found, in either protocol.
    pub fn is_nil(&self) -> bool {
        matches!(self, Value::Bulk(_, None) | Value::Parts(_, None) | Value::Line(b'_', _))
    }
}

/// A reply, as it was understood and as it came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    pub value: Value,
    pub raw: Vec<u8>,
}

impl fmt::Display for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&shown(&self.raw))
    }
}

/// A connection to a server.
pub struct Client {
    stream: BufReader<TcpStream>,
}

impl Client {
    /// Connects.
    ///
    /// # Errors
    /// When nobody listens there.
    pub fn connect(addr: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect(addr)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(REPLY_MAX))?;
        stream.set_write_timeout(Some(REPLY_MAX))?;
        Ok(Client { stream: BufReader::new(stream) })
    }

    /// Sends these bytes.
    ///
    /// # Errors
    /// When the server has closed the connection, or reads nothing.
    pub fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.get_mut().write_all(bytes)
    }

    /// Waits for one reply, pushes among them.
    ///
    /// # Errors
    /// When the connection ends, nothing comes, or what comes is not the protocol.
    pub fn reply(&mut self) -> io::Result<Reply> {
        let mut raw = Vec::new();
        let value = read_value(&mut self.stream, &mut raw)?;
        Ok(Reply { value, raw })
    }

    /// Runs one command.
    ///
    /// # Errors
    /// As for sending and waiting.
    pub fn ask<W: AsRef<[u8]>>(&mut self, words: &[W]) -> io::Result<Reply> {
        self.send(&encoded(words))?;
        self.reply()
    }

    /// Says that nothing more will be sent, and returns all that still comes.
    ///
    /// # Errors
    /// When the server does not end the connection then.
    pub fn rest(mut self) -> io::Result<Vec<u8>> {
        // The server may have closed it already.
        self.stream.get_ref().shutdown(Shutdown::Write).ok();
        self.until_closed()
    }

    /// All that comes until the server closes the connection.
    ///
    /// # Errors
    /// When it does not.
    pub fn until_closed(&mut self) -> io::Result<Vec<u8>> {
        let mut rest = Vec::new();
        match self.stream.read_to_end(&mut rest) {
            // It closed the connection before it had read all that was sent: closed is closed.
            Err(error) if error.kind() == ErrorKind::ConnectionReset => Ok(rest),
            other => other.map(|_| rest),
        }
    }

    /// The connection itself.
    pub fn stream(&mut self) -> &mut TcpStream {
        self.stream.get_mut()
    }
}

/// Reads one reply, and keeps its bytes.
///
/// # Errors
/// When it ends too early, or is none.
pub fn read_value(stream: &mut impl BufRead, raw: &mut Vec<u8>) -> io::Result<Value> {
    let begins = raw.len();
    if stream.read_until(b'\n', raw)? == 0 {
        return Err(ErrorKind::UnexpectedEof.into());
    }
    let line = raw[begins..].to_vec();
    let strange = || io::Error::new(ErrorKind::InvalidData, format!("{} is not RESP", shown(&line)));
    let [kind, text @ .., b'\r', b'\n'] = &line[..] else { return Err(strange()) };
    let length = || std::str::from_utf8(text).ok().and_then(|text| text.parse::<i64>().ok()).ok_or_else(strange);
    Ok(match *kind {
        b'+' | b'-' | b':' | b',' | b'#' | b'(' | b'_' => Value::Line(*kind, text.to_vec()),
        b'$' | b'!' | b'=' => match usize::try_from(length()?) {
            Err(_) => Value::Bulk(*kind, None),
            Ok(length) => {
                let begins = raw.len();
                raw.resize(begins + length + 2, 0);
                stream.read_exact(&mut raw[begins..])?;
                if !raw.ends_with(b"\r\n") {
                    return Err(strange());
                }
                Value::Bulk(*kind, Some(raw[begins..begins + length].to_vec()))
            }
        },
        b'*' | b'~' | b'>' | b'%' => match usize::try_from(length()?) {
            Err(_) => Value::Parts(*kind, None),
            Ok(count) => {
                let count = if *kind == b'%' { 2 * count } else { count };
                Value::Parts(*kind, Some((0..count).map(|_| read_value(stream, raw)).collect::<io::Result<_>>()?))
            }
        },
        _ => return Err(strange()),
    })
}

#[test]
fn replies_are_kept_as_they_came() {
    let raw = b"*3\r\n$2\r\na\n\r\n%1\r\n+k\r\n_\r\n$-1\r\n".to_vec();
    let mut kept = Vec::new();
    let value = read_value(&mut &raw[..], &mut kept).expect("a reply");
    let map = Value::Parts(b'%', Some(vec![Value::Line(b'+', b"k".to_vec()), Value::Line(b'_', Vec::new())]));
    assert_eq!(value, Value::Parts(b'*', Some(vec![Value::Bulk(b'$', Some(b"a\n".to_vec())), map, Value::Bulk(b'$', None)])));
    assert_eq!(kept, raw);
    assert!(read_value(&mut &b"$1\r\nab\r\n"[..], &mut Vec::new()).is_err());
}

#[test]
fn words_are_written_as_text() {
    assert_eq!(words(r"SET a\r\n\x00 \e {3*ab}"), [&b"SET"[..], b"a\r\n\0", b"", b"ababab"].map(<[u8]>::to_vec));
}
