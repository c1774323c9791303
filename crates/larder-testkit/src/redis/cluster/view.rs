//! What one node of a cluster believes of all: `CLUSTER NODES`, read. And which slot a key has. It asks nobody.

use std::ops::RangeInclusive;

/// How many slots a cluster has.
pub const SLOTS: u16 = 16_384;

/// The slot of a key: CRC16 (XMODEM) of its hash tag, what stands between the first `{` and the next `}` if that is not
/// empty, else of all of it.
///
/// ```
/// # use larder_testkit::redis::slot_of;
/// assert_eq!(slot_of(b"foo"), 12_182);
/// assert_eq!(slot_of(b"{foo}.bar"), slot_of(b"foo"));
/// ```
pub fn slot_of(key: &[u8]) -> u16 {
    let tag = key.iter().position(|byte| *byte == b'{').and_then(|open| {
        let rest = &key[open + 1..];
        rest.iter().position(|byte| *byte == b'}').filter(|length| *length > 0).map(|length| &rest[..length])
    });
    crc16(tag.unwrap_or(key)) % SLOTS
}

fn crc16(bytes: &[u8]) -> u16 {
    const POLYNOMIAL: u16 = 0x1021;
    bytes.iter().fold(0, |crc, byte| {
        (0..8).fold(crc ^ u16::from(*byte) << 8, |crc, _| if crc & 0x8000 == 0 { crc << 1 } else { crc << 1 ^ POLYNOMIAL })
    })
}

/// A node as another one sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Seen {
    pub(super) id: String,
    pub(super) port: u16,
    pub(super) flags: Vec<String>,
    /// The identity of the master whose replica it is.
    pub(super) master: Option<String>,
    pub(super) slots: Vec<RangeInclusive<u16>>,
}

impl Seen {
    /// Of `ID HOST:PORT@BUS FLAGS MASTER PING PONG EPOCH LINK SLOTS...`; slots that are on their way stand in brackets.
    fn of_line(line: &str) -> Option<Self> {
        let words: Vec<&str> = line.split(' ').collect();
        let [id, address, flags, master, _ping, _pong, _epoch, _link, ref slots @ ..] = words[..] else { return None };
        let (_, port) = address.split('@').next()?.rsplit_once(':')?;
        Some(Seen {
            id: id.to_owned(),
            port: port.parse().ok()?,
            flags: flags.split(',').map(str::to_owned).collect(),
            master: (master != "-").then(|| master.to_owned()),
            slots: slots.iter().filter(|slots| !slots.starts_with('[')).map(|slots| range(slots)).collect::<Option<_>>()?,
        })
    }

    pub(super) fn is(&self, flag: &str) -> bool {
        self.flags.iter().any(|own| own == flag)
    }

    pub(super) fn has(&self, slot: u16) -> bool {
        self.slots.iter().any(|slots| slots.contains(&slot))
    }
}

/// Of `FIRST-LAST`, or of one number.
fn range(text: &str) -> Option<RangeInclusive<u16>> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    Some(first.parse().ok()?..=last.parse().ok()?)
}

/// All nodes, by port, as the answer to `CLUSTER NODES` has them; nothing if it cannot be understood.
pub(super) fn read(nodes: &str) -> Option<Vec<Seen>> {
    let mut seen = nodes.lines().map(Seen::of_line).collect::<Option<Vec<_>>>()?;
    seen.sort_by_key(|node| node.port);
    Some(seen)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_is_that_of_the_specification() {
        assert_eq!(crc16(b"123456789"), 0x31c3);
    }

    #[test]
    fn only_the_first_tag_that_is_not_empty_counts() {
        assert_eq!(slot_of(b"foo{}{bar}"), crc16(b"foo{}{bar}") % SLOTS);
        assert_eq!(slot_of(b"foo{{bar}}zap"), slot_of(b"{bar"));
        assert_eq!(slot_of(b"foo{bar}{zap}"), slot_of(b"bar"));
        assert_eq!(slot_of(b"foo{bar"), crc16(b"foo{bar") % SLOTS);
    }

    #[test]
    fn a_line_is_read_whole() {
        let lines = "b 127.0.0.1:7002@17002,host slave,fail? a 0 1 2 connected\n\
                     a 127.0.0.1:7001@17001 myself,master - 0 1 2 connected 0-9 93 [94->-b]\n";
        let seen = read(lines).expect("two lines");
        let [one, two] = &seen[..] else { panic!("{seen:?}") };
        assert_eq!((one.id.as_str(), one.port, one.master.as_deref(), one.is("master")), ("a", 7001, None, true));
        assert!(one.has(0) && one.has(9) && one.has(93) && !one.has(94) && !one.has(10));
        assert_eq!((two.port, two.master.as_deref(), two.is("fail?"), two.is("fail")), (7002, Some("a"), true, false));
        assert_eq!(read("a b c"), None);
    }
}
