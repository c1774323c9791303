//! Texts of access, of anybody's making: a token, a grant, a password's hash, the book, a path and a query.
//! Shared with the target of cargo-fuzz.

use larder::access::Grant;
use larder_server::access::book::Book;
use larder_server::access::password::Hashed;
use larder_server::access::token::Token;
use larder_server::http::percent;

/// What is read is read again as the same, and nothing panics.
pub fn check(bytes: &[u8]) {
    if let Some(token) = Token::parse(bytes) {
        assert_eq!(token.reveal().as_bytes(), bytes);
        assert!(!format!("{token:?}").contains(&token.reveal()));
    }
    if let Ok(key) = percent::decode(bytes) {
        assert_eq!(percent::decode(percent::encode(&key, b"/?#").as_bytes()), Ok(key));
    }
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Ok(grant) = text.parse::<Grant>() {
        let shown = grant.to_string();
        assert_eq!(shown.parse::<Grant>().expect("it was shown"), grant, "{shown}");
    }
    if let Some(hashed) = Hashed::parse(text) {
        assert_eq!(Hashed::parse(&hashed.text()), Some(hashed));
    }
    if let Ok(book) = Book::read(text) {
        assert_eq!(Book::read(&book.write()), Ok(book));
    }
    if let Ok(Some(value)) = percent::query_value(text, "pattern") {
        let again = format!("pattern={}", percent::encode(&value, b"&=+"));
        assert_eq!(percent::query_value(&again, "pattern"), Ok(Some(value)), "{again}");
    }
}
