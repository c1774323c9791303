//! Bytes as hexadecimal digits, two for each, and back: digests, and keys that are no text.

/// As digits.
pub fn of(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The bytes of digits; `None` for what is none, or half a byte.
pub fn parse(text: &str) -> Option<Vec<u8>> {
    let digits = text.bytes().map(|digit| char::from(digit).to_digit(16)).collect::<Option<Vec<u32>>>()?;
    let (pairs, []) = digits.as_chunks::<2>() else { return None };
    Some(pairs.iter().map(|[high, low]| (high << 4 | low) as u8).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_is_read_and_nothing_else_is() {
        let all: Vec<u8> = (0..=255).collect();
        assert_eq!(parse(&of(&all)).as_deref(), Some(all.as_slice()));
        assert_eq!((of(&[]), parse(""), parse("fF")), (String::new(), Some(Vec::new()), Some(vec![255])));
        for none in ["f", "+f", "0g", "0x00", "\u{e9}\u{e9}"] {
            assert_eq!(parse(none), None, "{none}");
        }
    }
}
