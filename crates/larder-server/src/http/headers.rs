//! Headers, read and written. All of it is pure: bytes in, values out; nothing here knows the cache, and no bytes make it
//! panic.

use std::fmt;
use std::time::Duration;

use axum::http::{HeaderMap, HeaderName};
use larder::fingerprint::Fingerprint;
use larder::{FillToken, Position, Version};

use super::percent;

/// How an answer was come by (RFC 9211).
pub const CACHE_STATUS: HeaderName = HeaderName::from_static("cache-status");
/// An entry's tags, separated by commas. What is not visible ASCII, and `,` and `%`, is percent-encoded.
pub const CACHE_TAG: HeaderName = HeaderName::from_static("cache-tag");
/// On a value that could not be verified: that it could not. On no other.
pub const LARDER_FRESHNESS: HeaderName = HeaderName::from_static("larder-freshness");
/// The position that an answer reflects, or that a change got.
pub const LARDER_POSITION: HeaderName = HeaderName::from_static("larder-position");
/// On a read: the position that the answer must reflect at least.
pub const LARDER_AT_LEAST: HeaderName = HeaderName::from_static("larder-at-least");
/// On a read with `Larder-At-Least`: how long to wait for it, in milliseconds.
pub const LARDER_WAIT_MS: HeaderName = HeaderName::from_static("larder-wait-ms");
/// On a miss: the right to fill it. On a put: that right, given back.
pub const LARDER_FILL: HeaderName = HeaderName::from_static("larder-fill");

/// On a put: what the value was computed from, each name (percent-encoded) with its version, separated by commas.
pub const LARDER_DEPENDS_ON: HeaderName = HeaderName::from_static("larder-depends-on");
/// On a put: the fingerprint of the content that the value stands for.
pub const LARDER_CONTENT: HeaderName = HeaderName::from_static("larder-content");
/// On a put: that nothing is to be appended if the same is there already. On its answer: whether it was.
pub const LARDER_IF_CHANGED: HeaderName = HeaderName::from_static("larder-if-changed");
/// On the answer to such a put: whether anything changed.
pub const LARDER_CHANGED: HeaderName = HeaderName::from_static("larder-changed");

/// A header that cannot be understood, or asks for what is not done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadHeader {
    name: HeaderName,
    message: String,
}

impl BadHeader {
    fn new(name: HeaderName, message: impl Into<String>) -> Self {
        BadHeader { name, message: message.into() }
    }
}

impl fmt::Display for BadHeader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.name, self.message)
    }
}

/// What a put says in `Cache-Control` of how its value lives. What it does not say is the namespace's to say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Times {
    /// Its time to live.
    pub max_age: Option<Duration>,
    /// How long after its time it may be served while it is loaded again.
    pub stale_while_revalidate: Option<Duration>,
    /// How long after its time it may be served because loading failed.
    pub stale_if_error: Option<Duration>,
}

/// Reads `Cache-Control` of a put. Unknown directives are ignored, as RFC 9111 asks; where one is repeated, the last holds.
///
/// # Errors
/// For a number that is none, and for `no-store`, which contradicts a put.
pub fn times(headers: &HeaderMap) -> Result<Times, BadHeader> {
    use axum::http::header::CACHE_CONTROL;
    let mut times = Times::default();
    for directive in headers.get_all(CACHE_CONTROL).iter().flat_map(|value| elements(value.as_bytes())) {
        let (name, value) = match directive.iter().position(|byte| *byte == b'=') {
            Some(at) => (&directive[..at], Some(&directive[at + 1..])),
            None => (directive, None),
        };
        let place = match name.trim_ascii().to_ascii_lowercase().as_slice() {
            b"max-age" => &mut times.max_age,
            b"stale-while-revalidate" => &mut times.stale_while_revalidate,
            b"stale-if-error" => &mut times.stale_if_error,
            b"no-store" => return Err(BadHeader::new(CACHE_CONTROL, "a value that must not be stored is not put into a cache")),
            _ => continue,
        };
        let seconds = value.and_then(delta_seconds).ok_or_else(|| {
            BadHeader::new(CACHE_CONTROL, format!("\"{}\" is not followed by a number of seconds", directive.escape_ascii()))
        })?;
        *place = Some(seconds);
    }
    Ok(times)
}

/// Seconds, as a token or quoted. More than a u64 holds is as good as its largest, which the library then refuses.
fn delta_seconds(value: &[u8]) -> Option<Duration> {
    let value = value.trim_ascii();
    let digits = value.strip_prefix(b"\"").and_then(|value| value.strip_suffix(b"\"")).unwrap_or(value);
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let push = |number: u64, digit: &u8| number.saturating_mul(10).saturating_add(u64::from(digit - b'0'));
    Some(Duration::from_secs(digits.iter().fold(0, push)))
}

/// The elements of a list (RFC 9110, 5.6.1): separated by commas outside of quotes, trimmed, empty ones left out.
fn elements(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    let (mut quoted, mut escaped) = (false, false);
    let separates = move |byte: &u8| {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            _ => {}
        }
        *byte == b',' && !quoted
    };
    value.split(separates).map(<[u8]>::trim_ascii).filter(|element| !element.is_empty())
}

/// Reads `Cache-Tag` of a put.
///
/// # Errors
/// Where the percent-encoding is broken.
pub fn tags(headers: &HeaderMap) -> Result<Vec<Vec<u8>>, BadHeader> {
    let values = headers.get_all(CACHE_TAG).iter();
    let texts = values.flat_map(|value| value.as_bytes().split(|byte| *byte == b',')).map(<[u8]>::trim_ascii);
    let bad = |text: &[u8]| BadHeader::new(CACHE_TAG, format!("\"{}\" is badly percent-encoded", text.escape_ascii()));
    texts.filter(|text| !text.is_empty()).map(|text| percent::decode(text).map_err(|_| bad(text))).collect()
}

/// Reads `Larder-Depends-On` of a put: names and versions.
///
/// # Errors
/// Where the percent-encoding is broken, or a name has no version.
pub fn sources(headers: &HeaderMap) -> Result<Vec<(Vec<u8>, Version)>, BadHeader> {
    let values = headers.get_all(LARDER_DEPENDS_ON).iter();
    let texts = values.flat_map(|value| value.as_bytes().split(|byte| *byte == b',')).map(<[u8]>::trim_ascii);
    texts.filter(|text| !text.is_empty()).map(source).collect()
}

fn source(text: &[u8]) -> Result<(Vec<u8>, Version), BadHeader> {
    let bad = |why: &str| BadHeader::new(LARDER_DEPENDS_ON, format!("\"{}\" {why}", text.escape_ascii()));
    let at = text.iter().rposition(|byte| *byte == b'=').ok_or_else(|| bad("has no version; give NAME=VERSION"))?;
    let name = percent::decode(&text[..at]).map_err(|_| bad("is badly percent-encoded"))?;
    let version = std::str::from_utf8(&text[at + 1..]).ok().and_then(|version| version.trim().parse().ok());
    Ok((name, version.ok_or_else(|| bad("has a version that is neither a number nor a fingerprint"))?))
}

/// Reads `Larder-Content` of a put.
///
/// # Errors
/// For what is no fingerprint.
pub fn content(headers: &HeaderMap) -> Result<Option<Fingerprint>, BadHeader> {
    single(headers, LARDER_CONTENT, |text| text.parse().map_err(|error: larder::Error| error.message().to_owned()))
}

/// Reads `Larder-If-Changed` of a put.
///
/// # Errors
/// For anything but true and false.
pub fn if_changed(headers: &HeaderMap) -> Result<bool, BadHeader> {
    let asked = single(headers, LARDER_IF_CHANGED, |text| text.parse().map_err(|_| "it is true or false".to_owned()))?;
    Ok(asked.unwrap_or(false))
}

/// `Cache-Tag` of an answer; empty where there are no tags.
pub fn tags_text<'a>(tags: impl Iterator<Item = &'a [u8]>) -> String {
    tags.map(|tag| percent::encode(tag, b",")).collect::<Vec<_>>().join(",")
}

/// The entity tag of a value: strong, since equal fingerprints are equal bytes.
pub fn etag(fingerprint: Fingerprint) -> String {
    format!("\"{fingerprint}\"")
}

/// Whether `If-None-Match` names the entity tag, compared weakly (RFC 9110, 13.1.2). What is no list of tags names none.
pub fn none_match_names(headers: &HeaderMap, etag: &str) -> bool {
    let values = headers.get_all(axum::http::header::IF_NONE_MATCH).iter();
    let mut named = values.flat_map(|value| entity_tags(value.as_bytes()));
    named.any(|tag| tag == b"*" || tag.strip_prefix(b"W/").unwrap_or(tag) == etag.as_bytes())
}

/// Entity tags of a list. There are no escapes in them, and commas do not end them.
fn entity_tags(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut quoted = false;
    let separates = move |byte: &u8| {
        quoted ^= *byte == b'"';
        *byte == b',' && !quoted
    };
    value.split(separates).map(<[u8]>::trim_ascii)
}

/// `Cache-Control` of an answer. `max-age` counts from when the value was made, as `Age` does, so that their difference is
/// what is left.
///
/// `no-cache` asks caches on the way to come back (`If-None-Match` makes that cheap): an invalidation cannot reach a copy
/// that is kept elsewhere.
pub fn cache_control(max_age: Option<Duration>, stale_while_revalidate: Duration, stale_if_error: Duration) -> String {
    let mut text = String::from("no-cache");
    let windows = [("stale-while-revalidate", stale_while_revalidate), ("stale-if-error", stale_if_error)];
    let windows = windows.into_iter().filter(|(_, window)| !window.is_zero());
    for (name, time) in max_age.map(|age| ("max-age", age)).into_iter().chain(windows) {
        text += &format!(", {name}={}", time.as_secs());
    }
    text
}

/// How an answer was come by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status<'a> {
    /// A fresh value.
    Hit {
        /// Where it came from.
        tier: &'a str,
        /// How much longer it is fresh as far as time goes.
        left: Option<Duration>,
    },
    /// A value that is fresh as far as is known here, while other instances cannot be heard.
    Unverified {
        /// Where it came from.
        tier: &'a str,
        /// How much longer it is fresh as far as time goes.
        left: Option<Duration>,
    },
    /// A value past its time, within its window.
    Stale {
        /// Where it came from.
        tier: &'a str,
        /// How long its time has been over.
        over: Duration,
    },
    /// The knowledge that there is no such thing.
    Negative,
    /// Nothing was there.
    Absent,
    /// What was there is past its time.
    Expired,
    /// What was there was invalidated.
    Invalidated,
}

impl fmt::Display for Status<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("larder; ")?;
        match self {
            Status::Hit { tier, left: Some(left) } => write!(f, "hit; ttl={}; detail={tier}", left.as_secs()),
            Status::Hit { tier, left: None } => write!(f, "hit; detail={tier}"),
            Status::Unverified { tier, left: Some(left) } => write!(f, "hit; ttl={}; detail=unverified-{tier}", left.as_secs()),
            Status::Unverified { tier, left: None } => write!(f, "hit; detail=unverified-{tier}"),
            // RFC 9211: a stale answer is a hit whose time left is below zero.
            Status::Stale { tier, over } => write!(f, "hit; ttl=-{}; detail=stale-{tier}", over.as_secs().max(1)),
            Status::Negative => f.write_str("hit; detail=negative"),
            Status::Absent => f.write_str("fwd=miss; detail=absent"),
            Status::Expired => f.write_str("fwd=stale; detail=expired"),
            Status::Invalidated => f.write_str("fwd=stale; detail=invalidated"),
        }
    }
}

/// The token of `Larder-Fill`, where there is one.
///
/// # Errors
/// For anything that was not given by a miss.
pub fn fill_token(headers: &HeaderMap) -> Result<Option<FillToken>, BadHeader> {
    let parse = |text: &str| text.parse().map_err(|error: larder::Error| error.message().to_owned());
    single(headers, LARDER_FILL, parse)
}

/// What a read asks of the position it is answered at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AtLeast {
    /// The position.
    pub position: Position,
    /// How long it waits; `None`: as long as the server thinks right.
    pub wait: Option<Duration>,
}

/// `Larder-At-Least` with `Larder-Wait-Ms`, where there is one.
///
/// # Errors
/// For what is no position, or no number.
pub fn at_least(headers: &HeaderMap) -> Result<Option<AtLeast>, BadHeader> {
    let position = single(headers, LARDER_AT_LEAST, |text| text.parse().map_err(|error: larder::ParsePositionError| error.to_string()))?;
    let wait = single(headers, LARDER_WAIT_MS, |text| text.parse().map_err(|_| "milliseconds are a number".to_owned()))?;
    Ok(position.map(|position| AtLeast { position, wait: wait.map(Duration::from_millis) }))
}

/// The value of a header that may stand once.
fn single<T>(headers: &HeaderMap, name: HeaderName, parse: impl FnOnce(&str) -> Result<T, String>) -> Result<Option<T>, BadHeader> {
    let mut values = headers.get_all(&name).iter();
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(BadHeader::new(name, "it stands there twice"));
    }
    let text = value.to_str().map_err(|_| "it is not ASCII".to_owned());
    text.and_then(|text| parse(text.trim())).map(Some).map_err(|message| BadHeader::new(name, message))
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::HeaderValue;
    use axum::http::header::{CACHE_CONTROL, IF_NONE_MATCH};
    use proptest::prelude::*;

    fn with(name: HeaderName, values: &[&str]) -> HeaderMap {
        values.iter().map(|value| (name.clone(), HeaderValue::from_bytes(value.as_bytes()).unwrap())).collect()
    }

    fn seconds(seconds: u64) -> Option<Duration> {
        Some(Duration::from_secs(seconds))
    }

    #[test]
    fn cache_control_of_a_put_gives_its_times() {
        let read = |values: &[&str]| times(&with(CACHE_CONTROL, values));
        let times =
            read(&["public, Max-Age=60 ,, stale-while-revalidate=\"30\"", "stale-if-error=7, ext=\"max-age=1, no-store\""]).unwrap();
        let expected = Times { max_age: seconds(60), stale_while_revalidate: seconds(30), stale_if_error: seconds(7) };
        assert_eq!(times, expected);
        assert_eq!(read(&[]), Ok(Times::default()));
        assert_eq!(read(&["max-age=99999999999999999999999"]).unwrap().max_age, seconds(u64::MAX));
        for bad in ["max-age", "max-age=", "max-age=-1", "max-age=1.5", "max-age=abc", "no-store", "NO-STORE", "max-age=\"1"] {
            assert!(read(&[bad]).is_err(), "{bad}");
        }
    }

    #[test]
    fn tags_are_written_as_they_are_read() {
        let read = tags(&with(CACHE_TAG, &["symbol:AAPL, a%2Cb ,,", "%FF"])).unwrap();
        assert_eq!(read, [b"symbol:AAPL".to_vec(), b"a,b".to_vec(), vec![0xff]]);
        assert_eq!(tags_text(read.iter().map(Vec::as_slice)), "symbol:AAPL,a%2Cb,%FF");
        assert!(tags(&with(CACHE_TAG, &["a%2"])).is_err());
    }

    #[test]
    fn sources_are_names_with_versions() {
        let read = |text: &str| sources(&with(LARDER_DEPENDS_ON, &[text]));
        let print = "af1349b9f5f9a1a6a0404dea36dcc949";
        let both = read(&format!("bars:AAPL=17 , a%2Cb%3D={print},")).unwrap();
        let names: Vec<&[u8]> = both.iter().map(|(name, _)| name.as_slice()).collect();
        assert_eq!(names, [b"bars:AAPL".as_slice(), b"a,b="]);
        assert_eq!(both.iter().map(|(_, version)| version.to_string()).collect::<Vec<_>>(), ["17", print]);
        for bad in ["bars", "bars=", "bars=v17", "%2=1", "bars=-1"] {
            assert!(read(bad).is_err(), "{bad}");
        }
        assert!(content(&with(LARDER_CONTENT, &[print])).unwrap().is_some() && content(&with(LARDER_CONTENT, &["17"])).is_err());
        assert!(if_changed(&with(LARDER_IF_CHANGED, &["true"])).unwrap() && if_changed(&with(LARDER_IF_CHANGED, &["yes"])).is_err());
    }

    #[test]
    fn if_none_match_compares_weakly_and_takes_lists() {
        let own = etag(Fingerprint::from(7));
        assert_eq!(own, "\"00000000000000000000000000000007\"");
        for names in ["*", &own, &format!("W/{own}"), &format!("\"a,b\", {own}"), &format!("\"x\",W/\"y\" ,{own}")] {
            assert!(none_match_names(&with(IF_NONE_MATCH, &[names]), &own), "{names}");
        }
        assert!(none_match_names(&with(IF_NONE_MATCH, &["\"x\"", &own]), &own));
        for names in ["", "\"x\"", own.trim_matches('"'), &format!("\"a,{own}"), &format!("w/{own}")] {
            assert!(!none_match_names(&with(IF_NONE_MATCH, &[names]), &own), "{names}");
        }
    }

    #[test]
    fn an_answer_says_how_long_it_may_be_kept() {
        let second = Duration::from_secs(1);
        assert_eq!(cache_control(None, Duration::ZERO, Duration::ZERO), "no-cache");
        assert_eq!(
            cache_control(Some(60 * second), 30 * second, 9 * second),
            "no-cache, max-age=60, stale-while-revalidate=30, stale-if-error=9"
        );
    }

    #[test]
    fn statuses_are_those_of_rfc_9211() {
        let tier = "disk";
        let texts = [
            (Status::Hit { tier, left: seconds(59) }, "larder; hit; ttl=59; detail=disk"),
            (Status::Hit { tier, left: None }, "larder; hit; detail=disk"),
            (Status::Stale { tier, over: Duration::from_millis(20) }, "larder; hit; ttl=-1; detail=stale-disk"),
            (Status::Unverified { tier, left: seconds(59) }, "larder; hit; ttl=59; detail=unverified-disk"),
            (Status::Unverified { tier, left: None }, "larder; hit; detail=unverified-disk"),
            (Status::Negative, "larder; hit; detail=negative"),
            (Status::Absent, "larder; fwd=miss; detail=absent"),
            (Status::Expired, "larder; fwd=stale; detail=expired"),
            (Status::Invalidated, "larder; fwd=stale; detail=invalidated"),
        ];
        texts.into_iter().for_each(|(status, text)| assert_eq!(status.to_string(), text));
    }

    #[test]
    fn a_position_is_asked_for_once_and_in_full() {
        let position = "00000000000000ab-7";
        let mut headers = with(LARDER_AT_LEAST, &[position]);
        assert_eq!(at_least(&headers), Ok(Some(AtLeast { position: position.parse().unwrap(), wait: None })));
        headers.insert(LARDER_WAIT_MS, HeaderValue::from_static(" 250 "));
        assert_eq!(at_least(&headers).unwrap().unwrap().wait, Some(Duration::from_millis(250)));
        headers.insert(LARDER_WAIT_MS, HeaderValue::from_static("soon"));
        assert!(at_least(&headers).is_err());
        assert!(at_least(&with(LARDER_AT_LEAST, &["7"])).is_err());
        assert!(at_least(&with(LARDER_AT_LEAST, &[position, position])).unwrap_err().to_string().starts_with("larder-at-least: "));
        assert_eq!(at_least(&HeaderMap::new()), Ok(None));
        assert!(fill_token(&with(LARDER_FILL, &["00000000000000ab-7-zzzzzzzz"])).is_err());
        assert!(fill_token(&with(LARDER_FILL, &["00000000000000ab-7-0000000f"])).unwrap().is_some());
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..60)) {
            let Ok(value) = HeaderValue::from_bytes(&bytes) else { return Ok(()) };
            let ours = [LARDER_AT_LEAST, LARDER_WAIT_MS, LARDER_FILL, LARDER_DEPENDS_ON, LARDER_CONTENT, LARDER_IF_CHANGED];
            let every = [CACHE_CONTROL, CACHE_TAG, IF_NONE_MATCH].into_iter().chain(ours);
            let headers: HeaderMap = every.map(|name| (name, value.clone())).collect();
            let digits = bytes.iter().any(u8::is_ascii_digit);
            prop_assert!(digits || at_least(&headers).is_err() && fill_token(&headers).is_err());
            prop_assert!(digits || times(&headers).map_or(true, |times| times == Times::default()));
            prop_assert!(none_match_names(&headers, &etag(Fingerprint::from(1))) == entity_tags(&bytes).any(|tag| tag == b"*"));
            prop_assert!(sources(&headers).map_or(true, |sources| sources.is_empty() || bytes.contains(&b'=')));
            prop_assert!(content(&headers).is_err() || bytes.len() >= 32);
            prop_assert!(if_changed(&headers).is_err() || bytes.len() >= 4);
            prop_assert!(tags(&headers).is_ok() || bytes.contains(&b'%'));
        }

        #[test]
        fn lists_and_numbers_read_back(max_age in any::<u64>(), tag in proptest::collection::vec(any::<u8>(), 1..20)) {
            let text = format!("a=\"\\\"\", {}", cache_control(seconds(max_age), Duration::ZERO, Duration::ZERO));
            prop_assert_eq!(times(&with(CACHE_CONTROL, &[&text])).unwrap().max_age, seconds(max_age));
            let text = tags_text([tag.as_slice(), b"x"].into_iter());
            prop_assert_eq!(tags(&with(CACHE_TAG, &[&text])).unwrap(), [tag, b"x".to_vec()]);
        }
    }
}
