//! A glob inside one segment, as Redis writes them: `*`, `?`, `[a-z]`, `[^a-z]`, and a backslash before a literal byte.

/// A segment with wildcards in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Glob(Box<[Token]>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Token {
    Byte(u8),
    AnyByte,
    AnyBytes,
    Class { negated: bool, ranges: Box<[(u8, u8)]> },
}

/// What a segment turned out to be.
pub(super) enum Parsed {
    Literal(Box<[u8]>),
    Glob(Glob),
}

impl Glob {
    /// Reads one segment. The error completes the sentence "the pattern ...".
    pub(super) fn parse(segment: &[u8]) -> Result<Parsed, &'static str> {
        let mut tokens = Vec::with_capacity(segment.len());
        let mut rest = segment.iter().copied();
        while let Some(byte) = rest.next() {
            let token = match byte {
                b'\\' => Token::Byte(rest.next().ok_or("ends a segment with a backslash")?),
                b'?' => Token::AnyByte,
                b'[' => parse_class(&mut rest)?,
                // Two stars in a row match no more than one, and would only cost backtracking.
                b'*' if tokens.last() == Some(&Token::AnyBytes) => continue,
                b'*' => Token::AnyBytes,
                byte => Token::Byte(byte),
            };
            tokens.push(token);
        }
        let literal: Option<Box<[u8]>> =
            tokens.iter().map(|token| if let Token::Byte(byte) = token { Some(*byte) } else { None }).collect();
        Ok(literal.map_or_else(|| Parsed::Glob(Glob(tokens.into_boxed_slice())), Parsed::Literal))
    }

    /// The bytes that every matching segment begins with.
    pub(super) fn leading(&self) -> Vec<u8> {
        let byte = |token: &Token| if let Token::Byte(byte) = token { Some(*byte) } else { None };
        self.0.iter().map_while(byte).collect()
    }

    /// What it begins with, if that and a star are all of it.
    pub(super) fn as_prefix(&self) -> Option<Vec<u8>> {
        let leading = self.leading();
        matches!(&self.0[leading.len()..], [Token::AnyBytes]).then_some(leading)
    }

    /// Whether a segment matches. At most `segment.len() * tokens` steps: only the last star is ever tried again.
    pub(super) fn matches(&self, segment: &[u8]) -> bool {
        let (mut token, mut byte) = (0, 0);
        let mut star = None;
        while byte < segment.len() {
            match self.0.get(token) {
                Some(Token::AnyBytes) => {
                    star = Some((token, byte));
                    token += 1;
                }
                Some(one) if one.matches(segment[byte]) => (token, byte) = (token + 1, byte + 1),
                _ => {
                    let Some((star_token, star_byte)) = star else { return false };
                    star = Some((star_token, star_byte + 1));
                    (token, byte) = (star_token + 1, star_byte + 1);
                }
            }
        }
        self.0[token..].iter().all(|token| *token == Token::AnyBytes)
    }
}

impl Token {
    fn matches(&self, byte: u8) -> bool {
        match self {
            Token::Byte(literal) => *literal == byte,
            Token::AnyByte => true,
            Token::AnyBytes => false,
            Token::Class { negated, ranges } => ranges.iter().any(|(from, to)| (*from..=*to).contains(&byte)) != *negated,
        }
    }
}

/// The inside of `[...]`, whose opening bracket was taken.
fn parse_class(rest: &mut impl Iterator<Item = u8>) -> Result<Token, &'static str> {
    const UNCLOSED: &str = "has an unclosed [";
    let mut bytes = Vec::new();
    let mut negated = false;
    loop {
        // Escaped bytes are marked, so that `[a\-z]` holds three bytes and no range.
        match rest.next().ok_or(UNCLOSED)? {
            b']' => break,
            b'^' if bytes.is_empty() && !negated => negated = true,
            b'\\' => bytes.push((rest.next().ok_or(UNCLOSED)?, true)),
            byte => bytes.push((byte, false)),
        }
    }
    let mut ranges = Vec::new();
    let mut at = 0;
    while at < bytes.len() {
        let from = bytes[at].0;
        if at + 2 < bytes.len() && bytes[at + 1] == (b'-', false) {
            let to = bytes[at + 2].0;
            ranges.push((from.min(to), from.max(to)));
            at += 3;
        } else {
            ranges.push((from, from));
            at += 1;
        }
    }
    if ranges.is_empty() {
        return Err("has an empty []");
    }
    Ok(Token::Class { negated, ranges: ranges.into_boxed_slice() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(glob: &str, segment: &str) -> bool {
        match Glob::parse(glob.as_bytes()).unwrap() {
            Parsed::Literal(literal) => *literal == *segment.as_bytes(),
            Parsed::Glob(glob) => glob.matches(segment.as_bytes()),
        }
    }

    #[test]
    fn wildcards_do_what_redis_documents() {
        for (glob, segment, expected) in [
            ("h?llo", "hello", true),
            ("h?llo", "hllo", false),
            ("h*llo", "hllo", true),
            ("h*llo", "heeeello", true),
            ("h[ae]llo", "hallo", true),
            ("h[ae]llo", "hillo", false),
            ("h[^e]llo", "hallo", true),
            ("h[^e]llo", "hello", false),
            ("h[a-b]llo", "hbllo", true),
            ("h[b-a]llo", "hallo", true),
            (r"h\?llo", "h?llo", true),
            (r"h\?llo", "hello", false),
            (r"[a\-z]", "-", true),
            (r"[a\-z]", "m", false),
            ("a**b", "ab", true),
            ("*a*b", "xaybab", true),
            ("*a*b", "xayba", false),
            ("?", "", false),
            ("a*", "a", true),
        ] {
            assert_eq!(matches(glob, segment), expected, "{glob} against {segment}");
        }
    }

    #[test]
    fn a_hostile_glob_stays_cheap() {
        let glob = format!("{}b", "*a".repeat(400));
        assert!(!matches(&glob, &"a".repeat(1000)));
    }
}
