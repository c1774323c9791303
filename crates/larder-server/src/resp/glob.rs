//! Patterns as Redis writes them, over bytes: `*`, `?`, `[a-z]`, `[^a]`, and a backslash before what is meant as it is.

/// Whether a pattern matches all of a text. Takes no longer than the product of both lengths, whatever the pattern.
pub fn matches(pattern: &[u8], text: &[u8]) -> bool {
    let (mut p, mut t) = (0, 0);
    // Where to go on when what follows the last star does not match: the star stands for one byte more.
    let mut star: Option<(usize, usize)> = None;
    loop {
        if pattern.get(p) == Some(&b'*') {
            star = Some((p + 1, t));
            p += 1;
            continue;
        }
        let step = match text.get(t) {
            Some(byte) => one(&pattern[p..], *byte),
            None if p == pattern.len() => return true,
            None => return false,
        };
        match (step, star) {
            (Some(len), _) => {
                p += len;
                t += 1;
            }
            (None, Some((after, from))) => {
                star = Some((after, from + 1));
                (p, t) = (after, from + 1);
            }
            (None, None) => return false,
        }
    }
}

/// The length of the first part of a pattern, if it matches a byte.
fn one(pattern: &[u8], byte: u8) -> Option<usize> {
    match pattern {
        [] => None,
        [b'?', ..] => Some(1),
        [b'\\', literal, ..] => (*literal == byte).then_some(2),
        [b'[', rest @ ..] => {
            let (is_in, len) = class(rest, byte);
            is_in.then_some(1 + len)
        }
        [literal, ..] => (*literal == byte).then_some(1),
    }
}

/// Whether a byte is in a class, and how long that is. One that does not end, ends with the pattern, as in Redis.
fn class(rest: &[u8], byte: u8) -> (bool, usize) {
    let is_not = rest.first() == Some(&b'^');
    let mut at = usize::from(is_not);
    let mut is_in = false;
    loop {
        match rest.get(at..).unwrap_or(&[]) {
            [] => break,
            [b'\\', literal, ..] => {
                is_in |= *literal == byte;
                at += 2;
            }
            [b']', ..] => {
                at += 1;
                break;
            }
            [from, b'-', to, ..] => {
                let (low, high) = (from.min(to), from.max(to));
                is_in |= (*low..=*high).contains(&byte);
                at += 3;
            }
            [literal, ..] => {
                is_in |= *literal == byte;
                at += 1;
            }
        }
    }
    (is_in != is_not, at)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_are_redis_own() {
        let cases = [
            ("*", "", true),
            ("h?llo", "hallo", true),
            ("h*llo", "heeeello", true),
            ("h[ae]llo", "hillo", false),
            ("h[^e]llo", "hallo", true),
            ("h[^e]llo", "hello", false),
            ("h[b-a]llo", "hbllo", true),
            ("\\*", "*", true),
            ("\\*", "a", false),
            ("a*b*c", "a-b-b-c", true),
            ("a*b*c", "a-b-b", false),
            ("[a", "a", true),
            ("", "", true),
            ("", "a", false),
            ("a:*", "a:b:c", true),
        ];
        for (pattern, text, is_match) in cases {
            assert_eq!(matches(pattern.as_bytes(), text.as_bytes()), is_match, "{pattern:?} over {text:?}");
        }
        let stars = "a*".repeat(50) + "b";
        assert!(!matches(stars.as_bytes(), &[b'a'; 10_000]), "and it takes no time");
    }
}
