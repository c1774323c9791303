//! Requests on the wire: bytes in, arguments out, without IO.
//!
//! A request is a flat array of bulk strings, or a line of words for people with a terminal ([inline commands]). A decoder is given what
//! has come so far, always from the request's first byte on, and goes on where it stopped: a request that comes in a thousand pieces is
//! looked at once. Nothing is copied but inline commands, whose escapes change them: arguments are ranges of what was given.
//!
//! Nothing is allocated for what a client only says will come: a count is a number until the arguments are there.
//!
//! [inline commands]: https://redis.io/docs/latest/develop/reference/protocol-spec/

use std::fmt;

/// A line with a count or a length, or an inline command, has this many bytes at most, as in Redis.
const LINE_MAX: usize = 64 << 10;

/// What a request may have at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Arguments, the command's name included. Default 1,048,576, as in Redis.
    pub args_max: usize,
    /// Bytes of an argument. Default 64 MiB.
    pub arg_bytes_max: usize,
    /// Bytes of a request. Default 256 MiB; no more than 4 GiB count.
    pub request_bytes_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Limits { args_max: 1 << 20, arg_bytes_max: 64 << 20, request_bytes_max: 256 << 20 }
    }
}

/// What has come so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// A request of so many bytes. One without [arguments](Decoder::args) is nothing to answer: an empty line, or an array of none.
    Request(usize),
    /// Not a whole request yet; at least so many bytes are to come.
    More(usize),
}

/// Bytes that are no request. The connection cannot go on, since nobody knows where the next one begins. The texts are those of Redis,
/// as far as it looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Malformed {
    /// A count that is no number, or too large.
    Count,
    /// A length that is no number, or too large.
    Length,
    /// Something other than a bulk string among the arguments.
    NotBulk(u8),
    /// A line for a count that does not end.
    CountTooLong,
    /// A line for a length that does not end.
    LengthTooLong,
    /// An inline command that does not end.
    InlineTooLong,
    /// Quotes of an inline command that do not close, or close in the midst of a word.
    Quotes,
    /// No line end where there must be one.
    NoLineEnd,
    /// All arguments together are too large.
    TooLarge,
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = match self {
            Malformed::Count => "invalid multibulk length",
            Malformed::Length => "invalid bulk length",
            Malformed::NotBulk(byte) => {
                let byte = if matches!(byte, b'\r' | b'\n') { b' ' } else { *byte };
                return write!(f, "Protocol error: expected '$', got '{}'", byte as char);
            }
            Malformed::CountTooLong => "too big mbulk count string",
            Malformed::LengthTooLong => "too big bulk count string",
            Malformed::InlineTooLong => "too big inline request",
            Malformed::Quotes => "unbalanced quotes in request",
            Malformed::NoLineEnd => "expected a line end",
            Malformed::TooLarge => "too big request",
        };
        write!(f, "Protocol error: {what}")
    }
}

impl std::error::Error for Malformed {}

/// Where an argument is.
#[derive(Clone, Copy, Debug)]
struct Span {
    from: u32,
    len: u32,
}

/// The arguments of a request.
#[derive(Clone, Copy, Debug)]
pub struct Args<'a> {
    bytes: &'a [u8],
    spans: &'a [Span],
}

impl<'a> Args<'a> {
    /// How many there are.
    pub fn len(&self) -> usize {
        self.spans.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.spans.is_empty()
    }

    /// One of them; empty where there are not so many, which the table of commands has checked before anybody asks.
    pub fn at(&self, at: usize) -> &'a [u8] {
        self.spans.get(at).map_or(&[], |span| &self.bytes[span.from as usize..(span.from + span.len) as usize])
    }

    /// All, in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &'a [u8]> + use<'a> {
        let bytes = self.bytes;
        self.spans.iter().map(move |span| &bytes[span.from as usize..(span.from + span.len) as usize])
    }

    /// All but the first so many.
    pub fn skip(&self, n: usize) -> Args<'a> {
        Args { bytes: self.bytes, spans: self.spans.get(n..).unwrap_or(&[]) }
    }
}

/// Arguments that outlive the request, as those of a transaction do.
#[derive(Clone, Debug)]
pub struct OwnedArgs {
    bytes: Box<[u8]>,
    spans: Box<[Span]>,
}

impl OwnedArgs {
    /// A copy.
    pub fn of(args: Args<'_>) -> Self {
        let mut bytes = Vec::with_capacity(args.iter().map(<[u8]>::len).sum());
        let spans = args.iter().map(|arg| push_arg(&mut bytes, arg)).collect();
        OwnedArgs { bytes: bytes.into(), spans }
    }

    /// As those of a request.
    pub fn args(&self) -> Args<'_> {
        Args { bytes: &self.bytes, spans: &self.spans }
    }

    /// What they take in memory.
    pub fn bytes(&self) -> usize {
        self.bytes.len() + size_of_val(&*self.spans)
    }
}

fn push_arg(bytes: &mut Vec<u8>, arg: &[u8]) -> Span {
    let from = bytes.len() as u32;
    bytes.extend_from_slice(arg);
    Span { from, len: arg.len() as u32 }
}

/// See the head of this file.
#[derive(Debug)]
pub struct Decoder {
    limits: Limits,
    spans: Vec<Span>,
    /// The words of an inline command, without their quotes.
    inline: Vec<u8>,
    is_inline: bool,
    /// Up to where the request was looked at.
    at: usize,
    /// Arguments that are to come; `None` before the count is known.
    left: Option<usize>,
    /// The length of the argument that is coming, once it is known.
    length: Option<usize>,
}

impl Decoder {
    /// One that refuses what is more than this.
    pub fn new(limits: Limits) -> Self {
        let limits = Limits { request_bytes_max: limits.request_bytes_max.min(u32::MAX as usize), ..limits };
        Decoder { limits, spans: Vec::new(), inline: Vec::new(), is_inline: false, at: 0, left: None, length: None }
    }

    /// Takes other limits from here on.
    pub fn limit(&mut self, limits: Limits) {
        self.limits = Limits { request_bytes_max: limits.request_bytes_max.min(u32::MAX as usize), ..limits };
    }

    /// Looks at what has come: all bytes of a request from its first one on, and what may follow it. After
    /// [`Step::Request`] the next call begins with the next one.
    ///
    /// # Errors
    /// For bytes that are no request, after which there is nothing to be had from this decoder.
    pub fn decode(&mut self, bytes: &[u8]) -> Result<Step, Malformed> {
        if self.at == 0 && self.left.is_none() {
            self.spans.clear();
            self.is_inline = false;
            match bytes.first() {
                None => return Ok(Step::More(1)),
                Some(b'*') => {}
                Some(_) => return self.inline(bytes),
            }
        }
        let mut left = match self.left {
            Some(left) => left,
            None => {
                let Some((count, next)) = number(bytes, 1, Malformed::CountTooLong, Malformed::Count)? else { return Ok(Step::More(1)) };
                self.at = next;
                // None, and fewer than none, are nothing to answer.
                let count = usize::try_from(count).unwrap_or(0);
                if count > self.limits.args_max {
                    return Err(Malformed::Count);
                }
                count
            }
        };
        while left > 0 {
            self.left = Some(left);
            let length = match self.length {
                Some(length) => length,
                None => match bytes.get(self.at) {
                    None => return Ok(Step::More(1)),
                    Some(b'$') => {
                        let line = number(bytes, self.at + 1, Malformed::LengthTooLong, Malformed::Length)?;
                        let Some((length, next)) = line else { return Ok(Step::More(1)) };
                        let length = usize::try_from(length).ok().filter(|length| *length <= self.limits.arg_bytes_max);
                        let length = length.ok_or(Malformed::Length)?;
                        self.at = next;
                        if self.at + length + 2 > self.limits.request_bytes_max {
                            return Err(Malformed::TooLarge);
                        }
                        length
                    }
                    Some(other) => return Err(Malformed::NotBulk(*other)),
                },
            };
            let end = self.at + length;
            match bytes.get(end..end + 2) {
                Some(b"\r\n") => {}
                Some(_) => return Err(Malformed::NoLineEnd),
                None => {
                    self.length = Some(length);
                    return Ok(Step::More(end + 2 - bytes.len()));
                }
            }
            self.length = None;
            self.spans.push(Span { from: self.at as u32, len: length as u32 });
            self.at = end + 2;
            left -= 1;
        }
        self.left = None;
        Ok(Step::Request(std::mem::take(&mut self.at)))
    }

    /// The arguments of the request that was found last in these bytes.
    #[inline]
    pub fn args<'a>(&'a self, bytes: &'a [u8]) -> Args<'a> {
        Args { bytes: if self.is_inline { &self.inline } else { bytes }, spans: &self.spans }
    }

    /// Gives back the room of a request that was larger than most are.
    pub fn slim(&mut self) {
        const USUAL: usize = 1_024;
        self.spans.clear();
        self.spans.shrink_to(USUAL);
        self.inline.clear();
        self.inline.shrink_to(USUAL);
    }

    fn inline(&mut self, bytes: &[u8]) -> Result<Step, Malformed> {
        // Not looked for beyond the limit: somebody who never ends a line would have it searched again and again.
        let within = &bytes[..bytes.len().min(LINE_MAX + 1)];
        let Some(end) = within.iter().position(|byte| *byte == b'\n') else {
            return if bytes.len() > LINE_MAX { Err(Malformed::InlineTooLong) } else { Ok(Step::More(1)) };
        };
        let line = bytes[..end].strip_suffix(b"\r").unwrap_or(&bytes[..end]);
        self.is_inline = true;
        self.inline.clear();
        split_words(line, |word| self.spans.push(push_arg(&mut self.inline, word)))?;
        Ok(Step::Request(end + 1))
    }
}

/// The number of a line that begins at `from`, and where the next line begins. `None` before the line has ended.
#[inline]
fn number(bytes: &[u8], from: usize, endless: Malformed, wrong: Malformed) -> Result<Option<(i64, usize)>, Malformed> {
    let line = &bytes[from.min(bytes.len())..];
    let within = &line[..line.len().min(LINE_MAX)];
    let Some(end) = within.iter().position(|byte| *byte == b'\r') else {
        return if line.len() >= LINE_MAX { Err(endless) } else { Ok(None) };
    };
    match line.get(end + 1) {
        None => Ok(None),
        Some(b'\n') => Ok(Some((integer(&line[..end]).ok_or(wrong)?, from + end + 2))),
        Some(_) => Err(Malformed::NoLineEnd),
    }
}

/// A number in the one form that Redis takes: no sign but a minus, no leading zero, no space.
pub fn integer(text: &[u8]) -> Option<i64> {
    let (negative, digits) = match text {
        [b'-', digits @ ..] => (true, digits),
        digits => (false, digits),
    };
    match digits {
        [b'0'] if !negative => return Some(0),
        [b'1'..=b'9', ..] if digits.len() <= 19 => {}
        _ => return None,
    }
    let mut number: i64 = 0;
    for digit in digits {
        if !digit.is_ascii_digit() {
            return None;
        }
        // Below zero, where there is room for one more.
        number = number.checked_mul(10)?.checked_sub((digit - b'0').into())?;
    }
    if negative { Some(number) } else { number.checked_neg() }
}

/// The words of a line: separated by space, `"..."` with escapes, `'...'` without, as redis-cli writes them.
fn split_words(line: &[u8], mut found: impl FnMut(&[u8])) -> Result<(), Malformed> {
    let is_space = |byte: u8| byte.is_ascii_whitespace() || byte == 0x0b;
    let mut rest = line;
    let mut word = Vec::new();
    loop {
        while let [first, behind @ ..] = rest
            && is_space(*first)
        {
            rest = behind;
        }
        if rest.is_empty() {
            return Ok(());
        }
        word.clear();
        loop {
            rest = match rest {
                [] => break,
                [first, ..] if is_space(*first) => break,
                [quote @ (b'"' | b'\''), behind @ ..] => quoted(*quote, behind, &mut word)?,
                [byte, behind @ ..] => {
                    word.push(*byte);
                    behind
                }
            };
        }
        found(&word);
    }
}

/// Takes in what is between quotes. Returns what is behind them, where a word must end.
fn quoted<'a>(quote: u8, mut rest: &'a [u8], word: &mut Vec<u8>) -> Result<&'a [u8], Malformed> {
    let hex = |digit: u8| (digit as char).to_digit(16).map(|digit| digit as u8);
    loop {
        let (byte, behind) = match rest {
            [] => return Err(Malformed::Quotes),
            [end, behind @ ..] if *end == quote => {
                let ends = behind.first().is_none_or(|next| next.is_ascii_whitespace() || *next == 0x0b);
                return if ends { Ok(behind) } else { Err(Malformed::Quotes) };
            }
            [b'\\', b'x', high, low, behind @ ..]
                if quote == b'"'
                    && let (Some(high), Some(low)) = (hex(*high), hex(*low)) =>
            {
                (high << 4 | low, behind)
            }
            [b'\\', escaped, behind @ ..] if quote == b'"' => {
                let byte = match escaped {
                    b'n' => b'\n',
                    b'r' => b'\r',
                    b't' => b'\t',
                    b'b' => 0x08,
                    b'a' => 0x07,
                    other => *other,
                };
                (byte, behind)
            }
            [b'\\', b'\'', behind @ ..] if quote == b'\'' => (b'\'', behind),
            [byte, behind @ ..] => (*byte, behind),
        };
        word.push(byte);
        rest = behind;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(decoder: &Decoder, bytes: &[u8]) -> Vec<Vec<u8>> {
        decoder.args(bytes).iter().map(<[u8]>::to_vec).collect()
    }

    fn one(bytes: &[u8]) -> Result<Vec<Vec<u8>>, Malformed> {
        let mut decoder = Decoder::new(Limits::default());
        match decoder.decode(bytes)? {
            Step::Request(len) => {
                assert_eq!(len, bytes.len());
                Ok(all(&decoder, bytes))
            }
            more => panic!("{more:?} for {}", bytes.escape_ascii()),
        }
    }

    #[test]
    fn a_request_is_found_wherever_it_is_cut() {
        let bytes = b"*3\r\n$3\r\nSET\r\n$0\r\n\r\n$5\r\na\r\nb\0\r\n*1\r\n$4\r\nPING\r\n";
        let first = bytes.len() - b"*1\r\n$4\r\nPING\r\n".len();
        for cut in 0..first {
            let mut decoder = Decoder::new(Limits::default());
            let Step::More(least) = decoder.decode(&bytes[..cut]).unwrap() else { panic!("cut at {cut}") };
            assert!(least > 0 && cut + least <= first, "{least} more are asked for at {cut}");
            for come in cut..first {
                assert!(matches!(decoder.decode(&bytes[..come]).unwrap(), Step::More(_)));
            }
            assert_eq!(decoder.decode(bytes).unwrap(), Step::Request(first));
            assert_eq!(all(&decoder, bytes), [b"SET".as_slice(), b"", b"a\r\nb\0"]);
            assert_eq!(decoder.decode(&bytes[first..]).unwrap(), Step::Request(bytes.len() - first));
            assert_eq!(all(&decoder, &bytes[first..]), [b"PING"]);
        }
    }

    #[test]
    fn nothing_to_answer_is_skipped() {
        for nothing in [b"*0\r\n".as_slice(), b"*-1\r\n", b"\r\n", b"\n", b"  \t \r\n"] {
            assert!(one(nothing).unwrap().is_empty());
        }
    }

    #[test]
    fn what_is_no_request_is_told_as_redis_does() {
        let cases: [(&[u8], &str); 13] = [
            (b"*x\r\n", "Protocol error: invalid multibulk length"),
            (b"*01\r\n", "Protocol error: invalid multibulk length"),
            (b"*1048577\r\n", "Protocol error: invalid multibulk length"),
            (b"*99999999999999999999\r\n", "Protocol error: invalid multibulk length"),
            (b"*1\r\n*1\r\n", "Protocol error: expected '$', got '*'"),
            (b"*1\r\n\n", "Protocol error: expected '$', got ' '"),
            (b"*1\r\n$-1\r\n", "Protocol error: invalid bulk length"),
            (b"*1\r\n$+3\r\nGET\r\n", "Protocol error: invalid bulk length"),
            (b"*1\r\n$1000000000\r\n", "Protocol error: invalid bulk length"),
            (b"*1\r\n$3\r\nGETxx", "Protocol error: expected a line end"),
            (b"*1\rx", "Protocol error: expected a line end"),
            (b"SET k \"v\r\n", "Protocol error: unbalanced quotes in request"),
            (b"SET k \"v\"x\r\n", "Protocol error: unbalanced quotes in request"),
        ];
        for (bytes, text) in cases {
            assert_eq!(one(bytes).unwrap_err().to_string(), text, "{}", bytes.escape_ascii());
        }
        let long = |start: &[u8]| [start, &vec![b'1'; LINE_MAX]].concat();
        assert_eq!(one(&long(b"*")), Err(Malformed::CountTooLong));
        assert_eq!(one(&long(b"*1\r\n$")), Err(Malformed::LengthTooLong));
        assert_eq!(one(&long(b"PING")), Err(Malformed::InlineTooLong));
        let mut decoder = Decoder::new(Limits { request_bytes_max: 30, ..Limits::default() });
        assert_eq!(decoder.decode(b"*2\r\n$3\r\nGET\r\n$20\r\n"), Err(Malformed::TooLarge));
    }

    #[test]
    fn a_count_is_only_a_number_until_the_arguments_come() {
        let mut decoder = Decoder::new(Limits::default());
        assert_eq!(decoder.decode(b"*1048576\r\n$1\r\na\r\n$67108864\r\n"), Ok(Step::More((64 << 20) + 2)));
        assert!(decoder.spans.capacity() < 16);
    }

    #[test]
    fn lines_of_words_are_commands_too() {
        let line = b"SET  'it\\'s' \"a\\x00\\n\\q\\\"\" pl\"ai\"\r\n";
        assert_eq!(one(line).unwrap(), [b"SET".as_slice(), b"it's", b"a\0\nq\"", b"plai"]);
        assert_eq!(one(b"PING\n").unwrap(), [b"PING"]);
    }

    #[test]
    fn numbers_have_one_form() {
        let good = [("0", 0), ("-1", -1), ("9223372036854775807", i64::MAX), ("-9223372036854775808", i64::MIN)];
        good.iter().for_each(|(text, number)| assert_eq!(integer(text.as_bytes()), Some(*number), "{text}"));
        for bad in ["", "-", "-0", "00", "01", "+1", " 1", "1 ", "1.0", "9223372036854775808", "-9223372036854775809", "x"] {
            assert_eq!(integer(bad.as_bytes()), None, "{bad}");
        }
    }

    #[test]
    fn arguments_can_be_kept() {
        let bytes = b"*2\r\n$3\r\nGET\r\n$1\r\nk\r\n";
        let mut decoder = Decoder::new(Limits::default());
        decoder.decode(bytes).unwrap();
        let kept = OwnedArgs::of(decoder.args(bytes));
        assert_eq!(kept.args().iter().collect::<Vec<_>>(), [b"GET".as_slice(), b"k"]);
        assert_eq!((kept.args().skip(1).at(0), kept.args().skip(9).len()), (b"k".as_slice(), 0));
    }
}
