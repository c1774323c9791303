//! Rust text taken apart just far enough for the rules: what is code, what is comment, what is inside a literal, and
//! what is test code. It is a scanner and no parser, so it must never be asked what a piece of code *means*.

use std::ops::Range;

/// A Rust file with its parts told apart. All texts have the lines and byte offsets of the file: what does not belong
/// to them is blank.
pub struct Source {
    /// The file without comments and without the insides of literals.
    pub code: String,
    /// The comments alone.
    pub comments: String,
    /// The insides of string and character literals alone.
    pub literals: String,
    /// The byte ranges of items under `#[cfg(test)]`.
    test_items: Vec<Range<usize>>,
}

/// What a byte of the file belongs to.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Part {
    Code,
    Comment,
    Literal,
}

impl Source {
    /// Takes `text` apart.
    pub fn new(text: &str) -> Self {
        let parts = Scanner::new(text).scan();
        let only = |wanted: Part| blank_all_but(text, &parts, wanted);
        let code = only(Part::Code);
        let test_items = test_items(&code);
        Self { comments: only(Part::Comment), literals: only(Part::Literal), code, test_items }
    }

    /// Whether the byte `offset` is inside an item under `#[cfg(test)]`.
    pub fn is_test(&self, offset: usize) -> bool {
        self.test_items.iter().any(|range| range.contains(&offset))
    }

    /// The line, counted from 1, of the byte `offset`.
    pub fn line_of(&self, offset: usize) -> usize {
        self.code.as_bytes()[..offset].iter().filter(|byte| **byte == b'\n').count() + 1
    }
}

/// Where `word` stands in `text` as a whole: not as a piece of a longer identifier.
pub fn whole_words<'a>(text: &'a str, word: &'a str) -> impl Iterator<Item = usize> + 'a {
    text.match_indices(word).map(|(offset, _)| offset).filter(move |&offset| {
        let before = text[..offset].chars().next_back();
        let after = text[offset + word.len()..].chars().next();
        let starts = !before.is_some_and(is_word) || !word.starts_with(is_word);
        let ends = !after.is_some_and(is_word) || !word.ends_with(is_word);
        starts && ends
    })
}

/// Whether `letter` may stand in an identifier.
pub fn is_word(letter: char) -> bool {
    letter.is_alphanumeric() || letter == '_'
}

/// Where the bracket that opens at `opens` is closed.
pub fn matching(code: &str, opens: usize, opening: char, closing: char) -> Option<usize> {
    let mut depth = 0;
    for (offset, letter) in code[opens..].char_indices() {
        if letter == opening {
            depth += 1;
        } else if letter == closing {
            depth -= 1;
            if depth == 0 {
                return Some(opens + offset);
            }
        }
    }
    None
}

fn blank_all_but(text: &str, parts: &[Part], wanted: Part) -> String {
    let shown = text.char_indices().flat_map(|(offset, letter)| {
        let keep = parts[offset] == wanted || letter == '\n';
        // As many blanks as the letter has bytes, so that offsets mean the same in every text.
        let (shown, times) = if keep { (letter, 1) } else { (' ', letter.len_utf8()) };
        std::iter::repeat_n(shown, times)
    });
    shown.collect()
}

/// Walks over the file once, from left to right.
struct Scanner<'a> {
    bytes: &'a [u8],
    parts: Vec<Part>,
    at: usize,
}

impl<'a> Scanner<'a> {
    fn new(text: &'a str) -> Self {
        Self { bytes: text.as_bytes(), parts: vec![Part::Code; text.len()], at: 0 }
    }

    fn scan(mut self) -> Vec<Part> {
        while self.at < self.bytes.len() {
            match self.bytes[self.at] {
                b'/' if self.rest().starts_with(b"//") => self.line_comment(),
                b'/' if self.rest().starts_with(b"/*") => self.block_comment(),
                b'"' => self.string(),
                b'r' if self.starts_raw_string() => self.raw_string(),
                b'\'' => self.character_or_lifetime(),
                _ => self.at += 1,
            }
        }
        self.parts
    }

    fn rest(&self) -> &'a [u8] {
        self.bytes.get(self.at..).unwrap_or_default()
    }

    /// Gives all bytes from here to `end` to `part`, and goes there. A file that breaks off ends before `end`.
    fn take(&mut self, end: usize, part: Part) {
        let end = end.min(self.bytes.len());
        let begin = self.at.min(end);
        self.parts[begin..end].fill(part);
        self.at = end;
    }

    fn line_comment(&mut self) {
        let length = self.rest().iter().position(|byte| *byte == b'\n').unwrap_or(self.rest().len());
        self.take(self.at + length, Part::Comment);
    }

    /// Block comments nest.
    fn block_comment(&mut self) {
        let mut depth = 0;
        let mut end = self.at;
        loop {
            match &self.bytes[end..] {
                [] => break,
                [b'/', b'*', ..] => {
                    depth += 1;
                    end += 2;
                }
                [b'*', b'/', ..] => {
                    depth -= 1;
                    end += 2;
                    if depth == 0 {
                        break;
                    }
                }
                _ => end += 1,
            }
        }
        self.take(end, Part::Comment);
    }

    fn string(&mut self) {
        self.at += 1;
        let mut end = self.at;
        while end < self.bytes.len() && self.bytes[end] != b'"' {
            end += if self.bytes[end] == b'\\' { 2 } else { 1 };
        }
        self.take(end, Part::Literal);
        self.at += 1;
    }

    /// `r"`, `r#"`, `br##"` start a raw string; `r#match` is an identifier, and an `r` at the end of a word is no prefix.
    fn starts_raw_string(&self) -> bool {
        let in_word = |byte: &u8| is_word(char::from(*byte));
        let begins_word = match &self.bytes[..self.at] {
            [before @ .., b'b' | b'c'] => !before.last().is_some_and(in_word),
            before => !before.last().is_some_and(in_word),
        };
        let after_hashes = self.rest()[1..].iter().find(|byte| **byte != b'#');
        begins_word && after_hashes == Some(&b'"')
    }

    fn raw_string(&mut self) {
        self.at += 1;
        let hashes = self.rest().iter().take_while(|byte| **byte == b'#').count();
        self.at += hashes + 1;
        let closing: Vec<u8> = std::iter::once(b'"').chain(std::iter::repeat_n(b'#', hashes)).collect();
        let length = self.rest().windows(closing.len()).position(|window| window == closing);
        self.take(self.at + length.unwrap_or(self.rest().len()), Part::Literal);
        self.at += closing.len();
    }

    /// `'x'` and `'\n'` are characters, `'a` is a lifetime.
    fn character_or_lifetime(&mut self) {
        self.at += 1;
        let length = match self.rest() {
            // The escaped character itself may be a quote, so the search begins after it.
            [b'\\', _, after @ ..] => after.iter().position(|byte| *byte == b'\'').map(|more| more + 2),
            [first, ..] => {
                let width = utf8_width(*first);
                (self.rest().get(width) == Some(&b'\'')).then_some(width)
            }
            [] => None,
        };
        if let Some(length) = length {
            self.take(self.at + length, Part::Literal);
            self.at += 1;
        }
    }
}

/// How many bytes the character has whose first byte is `first`.
fn utf8_width(first: u8) -> usize {
    match first {
        0xF0.. => 4,
        0xE0.. => 3,
        0xC0.. => 2,
        _ => 1,
    }
}

/// Where in `code` the items under `#[cfg(test)]`, or another `cfg` that needs `test`, begin and end.
fn test_items(code: &str) -> Vec<Range<usize>> {
    code.match_indices("#[cfg(").filter_map(|(begin, opening)| test_item(code, begin, begin + opening.len() - 1)).collect()
}

/// The item whose `#[cfg` begins at `begin` and opens its condition at `opens`, if the condition needs `test`.
fn test_item(code: &str, begin: usize, opens: usize) -> Option<Range<usize>> {
    let closes = matching(code, opens, '(', ')')?;
    let condition = &code[opens..closes];
    let needs_test = whole_words(condition, "test").next().is_some() && !condition.contains("not(");
    // The item ends with its block, or with a semicolon if it has none.
    let body = closes + code[closes..].find(['{', ';'])?;
    let end = if code[body..].starts_with('{') { matching(code, body, '{', '}')? } else { body };
    needs_test.then_some(begin..end + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<&str> {
        text.split_whitespace().collect()
    }

    #[test]
    fn comments_and_code_are_told_apart() {
        let source = Source::new("let a = 1; // one /* not two\n/* outer /* inner */ still */ let b; /// doc\n");
        assert_eq!(words(&source.code), ["let", "a", "=", "1;", "let", "b;"]);
        assert_eq!(words(&source.comments)[..3], ["//", "one", "/*"]);
        assert_eq!(source.code.lines().count(), 2);
    }

    #[test]
    fn literals_hide_what_looks_like_code() {
        for (text, inside) in [
            (r#"f("unsafe // no comment");"#, "unsafe // no comment"),
            (r#"f("a \" quote");"#, r#"a \" quote"#),
            (r##"f(r#"raw "quoted" one"#);"##, r#"raw "quoted" one"#),
            (r##"f(br#"bytes"#);"##, "bytes"),
            (r#"r"first""#, "first"),
            ("f('\"', x);", "\""),
            (r"f('\'', x);", r"\'"),
            ("f('é');", "é"),
            ("f('€');", "€"),
        ] {
            let source = Source::new(text);
            assert_eq!(source.literals.trim(), inside, "{text}");
            assert_eq!(source.code.len(), text.len(), "{text}");
            assert!(source.comments.trim().is_empty(), "{text}");
        }
    }

    #[test]
    fn lifetimes_and_raw_identifiers_are_code() {
        let text = "fn longest<'a>(r#type: &'a str, b: &'static str) -> &'a str { r#type }";
        assert_eq!(Source::new(text).code, text);
    }

    #[test]
    fn a_file_that_breaks_off_is_no_reason_to_panic() {
        for text in ["\"open", "r#\"open", "'", "'\\", "/* open", "b'", "\"ends in \\", "r\"", "\""] {
            assert_eq!(Source::new(text).code.len(), text.len(), "{text}");
        }
    }

    #[test]
    fn test_items_end_with_their_block() {
        let text = "fn a() {}\n#[cfg(test)]\nmod tests {\n fn b() { { } }\n}\nfn c() {}\n#[cfg(not(test))]\nfn d() {}";
        let source = Source::new(text);
        for (function, is_test) in [("fn a", false), ("fn b", true), ("fn c", false), ("fn d", false)] {
            let offset = text.find(function).expect("it is in the text above");
            assert_eq!(source.is_test(offset), is_test, "{function}");
        }
        assert_eq!(source.line_of(text.find("fn b").expect("it is in the text above")), 4);
    }

    #[test]
    fn words_are_whole() {
        assert_eq!(whole_words("unsafe_code unsafe(x) munsafe", "unsafe").collect::<Vec<_>>(), [12]);
        assert_eq!(whole_words("a::b::c ab::b", "b").count(), 2);
    }
}
