//! Replies on the wire, in both versions of the protocol.
//!
//! Version 2 has no maps, sets, doubles, booleans or pushes: they are written as what Redis makes of them there.

/// The version of the protocol that a client asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Protocol {
    /// What every client speaks.
    #[default]
    Resp2,
    /// After `HELLO 3`.
    Resp3,
}

/// Replies that are to be sent.
#[derive(Debug, Default)]
pub struct Replies {
    bytes: Vec<u8>,
    /// How they are written.
    pub protocol: Protocol,
}

impl Replies {
    /// None yet, in this version of the protocol.
    pub fn new(protocol: Protocol) -> Self {
        Replies { bytes: Vec::new(), protocol }
    }

    /// What was written so far.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// How much that is.
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Whether there is nothing.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Takes what was written, and the room it is in.
    pub fn take(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.bytes)
    }

    /// Gives it room to write in, as [`take`](Self::take) took it.
    pub fn give(&mut self, room: Vec<u8>) {
        self.bytes = room;
    }

    /// Forgets what was written.
    pub fn sent(&mut self) {
        self.bytes.clear();
    }

    /// Forgets what was written after there were so many bytes.
    pub fn back_to(&mut self, len: usize) {
        self.bytes.truncate(len);
    }

    fn line(&mut self, kind: u8, number: i64) {
        let mut digits = [0u8; 20];
        self.bytes.push(kind);
        self.bytes.extend_from_slice(decimal(number, &mut digits));
        self.bytes.extend_from_slice(b"\r\n");
    }

    fn is_3(&self) -> bool {
        self.protocol == Protocol::Resp3
    }

    /// A word such as `OK`.
    pub fn simple(&mut self, word: &str) {
        self.bytes.push(b'+');
        self.bytes.extend_from_slice(word.as_bytes());
        self.bytes.extend_from_slice(b"\r\n");
    }

    /// `OK`.
    pub fn ok(&mut self) {
        self.bytes.extend_from_slice(b"+OK\r\n");
    }

    /// A refusal: a word in capitals, and why. What would end the line is written as a space, and left out where it does, as in Redis.
    pub fn error(&mut self, text: &[u8]) {
        let ends_line = |byte: &u8| matches!(byte, b'\r' | b'\n');
        let from = text.iter().position(|byte| !ends_line(byte)).unwrap_or(text.len());
        let to = text.iter().rposition(|byte| !ends_line(byte)).map_or(from, |last| last + 1);
        let text = &text[from..to];
        self.bytes.push(b'-');
        self.bytes.extend(text.iter().map(|byte| if matches!(byte, b'\r' | b'\n') { b' ' } else { *byte }));
        self.bytes.extend_from_slice(b"\r\n");
    }

    /// A whole number.
    pub fn integer(&mut self, number: i64) {
        self.line(b':', number);
    }

    /// A length, or a count.
    pub fn count(&mut self, count: usize) {
        self.integer(count as i64);
    }

    /// Bytes.
    pub fn bulk(&mut self, bytes: &[u8]) {
        self.bytes.reserve(bytes.len() + 16);
        self.line(b'$', bytes.len() as i64);
        self.bytes.extend_from_slice(bytes);
        self.bytes.extend_from_slice(b"\r\n");
    }

    /// Bytes, or nothing.
    pub fn bulk_or_null(&mut self, bytes: Option<&[u8]>) {
        match bytes {
            Some(bytes) => self.bulk(bytes),
            None => self.null(),
        }
    }

    /// Nothing, where there could have been bytes.
    pub fn null(&mut self) {
        self.bytes.extend_from_slice(if self.is_3() { b"_\r\n" } else { b"$-1\r\n" });
    }

    /// Nothing, where there could have been an array.
    pub fn null_array(&mut self) {
        self.bytes.extend_from_slice(if self.is_3() { b"_\r\n" } else { b"*-1\r\n" });
    }

    /// So many elements follow.
    pub fn array(&mut self, len: usize) {
        self.line(b'*', len as i64);
    }

    /// So many pairs follow.
    pub fn map(&mut self, len: usize) {
        if self.is_3() { self.line(b'%', len as i64) } else { self.line(b'*', 2 * len as i64) }
    }

    /// So many elements follow, whose order means nothing.
    pub fn set(&mut self, len: usize) {
        self.line(if self.is_3() { b'~' } else { b'*' }, len as i64);
    }

    /// So many elements follow, which nobody asked for.
    pub fn push(&mut self, len: usize) {
        self.line(if self.is_3() { b'>' } else { b'*' }, len as i64);
    }

    /// Text for people.
    pub fn verbatim(&mut self, text: &str) {
        if self.is_3() {
            self.line(b'=', text.len() as i64 + 4);
            self.bytes.extend_from_slice(b"txt:");
            self.bytes.extend_from_slice(text.as_bytes());
            self.bytes.extend_from_slice(b"\r\n");
        } else {
            self.bulk(text.as_bytes());
        }
    }

    /// Replies that were written before.
    pub fn raw(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }
}

/// A number's digits.
pub fn decimal(number: i64, room: &mut [u8; 20]) -> &[u8] {
    let mut left = number.unsigned_abs();
    let mut at = room.len();
    loop {
        at -= 1;
        room[at] = b'0' + (left % 10) as u8;
        left /= 10;
        if left == 0 {
            break;
        }
    }
    if number < 0 {
        at -= 1;
        room[at] = b'-';
    }
    &room[at..]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(protocol: Protocol, write: impl Fn(&mut Replies)) -> String {
        let mut replies = Replies::new(protocol);
        write(&mut replies);
        String::from_utf8(replies.bytes).unwrap()
    }

    #[test]
    fn each_version_has_its_own_forms() {
        let write = |replies: &mut Replies| {
            replies.null();
            replies.null_array();
            replies.map(1);
            replies.set(2);
            replies.push(3);
            replies.verbatim("hi");
            replies.bulk(b"");
        };
        assert_eq!(written(Protocol::Resp2, write), "$-1\r\n*-1\r\n*2\r\n*2\r\n*3\r\n$2\r\nhi\r\n$0\r\n\r\n");
        assert_eq!(written(Protocol::Resp3, write), "_\r\n_\r\n%1\r\n~2\r\n>3\r\n=6\r\ntxt:hi\r\n$0\r\n\r\n");
    }

    #[test]
    fn an_error_is_one_line_whatever_is_in_it() {
        assert_eq!(written(Protocol::Resp2, |replies| replies.error(b"\nERR a\r\nb\r\n")), "-ERR a  b\r\n");
    }

    #[test]
    fn numbers_have_all_their_digits() {
        for number in [0, 7, -10, i64::MAX, i64::MIN] {
            assert_eq!(decimal(number, &mut [0; 20]), number.to_string().as_bytes());
        }
    }
}
