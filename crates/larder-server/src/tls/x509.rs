//! When a certificate runs out and whose it is: as much of X.509 (RFC 5280) as that takes. It believes nothing that it reads; nobody
//! trusts a certificate because of it, so whose names are to mean something has to be verified before.
//!
//! ```text
//!   Certificate  SEQUENCE { tbs SEQUENCE { [0] version?, serial, algorithm, issuer, validity SEQUENCE { notBefore, notAfter },
//!                                          subject, key, [1] [2] identifiers?, [3] SEQUENCE OF extension }, .. }
//!   extension    SEQUENCE { identifier, critical?, OCTET STRING of what it is }
//! ```

use std::time::{Duration, SystemTime};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::PeerName;

const BEGIN: &str = "-----BEGIN CERTIFICATE-----";
const END: &str = "-----END CERTIFICATE-----";

/// Certificates of one file: a chain has a few, the authorities of a whole system some hundred.
const CERTIFICATES_MAX: usize = 1_000;

/// Names of a certificate that are taken in; of more, the first ones.
const NAMES_MAX: usize = 64;

/// The longest name that is taken for one.
const NAME_BYTES_MAX: usize = 1_024;

/// `subjectAltName`, 2.5.29.17.
const ALTERNATIVE_NAMES: [u8; 3] = [0x55, 0x1d, 0x11];

const SEQUENCE: u8 = 0x30;
const VERSION: u8 = 0xa0;
const UNIQUE_IDENTIFIERS: [u8; 2] = [0x81, 0x82];
const EXTENSIONS: u8 = 0xa3;
const IDENTIFIER: u8 = 0x06;
const BOOLEAN: u8 = 0x01;
const OCTETS: u8 = 0x04;
const EMAIL: u8 = 0x81;
const DNS: u8 = 0x82;
const URI: u8 = 0x86;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;

/// When the first of the certificates in a PEM file runs out.
pub fn runs_out(pem: &[u8]) -> Result<SystemTime, String> {
    let text = std::str::from_utf8(pem).map_err(|_| "it is no text, so no certificate in PEM form".to_owned())?;
    let bodies = text.split(BEGIN).skip(1).take(CERTIFICATES_MAX).filter_map(|rest| rest.split_once(END)).map(|(body, _)| body);
    let times = bodies.map(|body| {
        let base64: String = body.split_ascii_whitespace().collect();
        let der = STANDARD.decode(base64).map_err(|error| format!("a certificate in it is no base64: {error}"))?;
        not_after(&der).ok_or_else(|| "a certificate in it is not as RFC 5280 has it".to_owned())
    });
    let times: Vec<SystemTime> = times.collect::<Result<_, _>>()?;
    times.into_iter().min().ok_or_else(|| "there is no certificate in PEM form in it".to_owned())
}

/// The end of the time for which a certificate holds.
fn not_after(der: &[u8]) -> Option<SystemTime> {
    let (validity, _) = tagged(from_validity(der)?, SEQUENCE)?;
    let (_, _, not_after) = element(validity)?;
    let (tag, time, _) = element(not_after)?;
    time_of(tag, time)
}

/// What follows the issuer.
fn from_validity(der: &[u8]) -> Option<&[u8]> {
    let (certificate, _) = tagged(der, SEQUENCE)?;
    let (mut tbs, _) = tagged(certificate, SEQUENCE)?;
    if tbs.first() == Some(&VERSION) {
        (_, _, tbs) = element(tbs)?;
    }
    for _serial_algorithm_issuer in 0..3 {
        (_, _, tbs) = element(tbs)?;
    }
    Some(tbs)
}

/// The names of whoever a certificate was given to: hosts, URIs and addresses of mail. Nothing where it is not as it should be, or has
/// the extension twice: two readers could take different ones for it then.
pub fn alternative_names(der: &[u8]) -> Option<Vec<PeerName>> {
    let mut rest = from_validity(der)?;
    for _validity_subject_key in 0..3 {
        (_, _, rest) = element(rest)?;
    }
    while rest.first().is_some_and(|tag| UNIQUE_IDENTIFIERS.contains(tag)) {
        (_, _, rest) = element(rest)?;
    }
    let Some((extensions, _)) = tagged(rest, EXTENSIONS) else { return Some(Vec::new()) };
    let (mut extensions, _) = tagged(extensions, SEQUENCE)?;
    let mut found = None;
    while !extensions.is_empty() {
        let (extension, after) = tagged(extensions, SEQUENCE)?;
        extensions = after;
        let (identifier, mut value) = tagged(extension, IDENTIFIER)?;
        if identifier != ALTERNATIVE_NAMES {
            continue;
        }
        if let Some((_, after)) = tagged(value, BOOLEAN) {
            value = after;
        }
        let (octets, _) = tagged(value, OCTETS)?;
        let (names, _) = tagged(octets, SEQUENCE)?;
        if found.replace(names).is_some() {
            return None;
        }
    }
    names_of(found.unwrap_or_default())
}

fn names_of(mut rest: &[u8]) -> Option<Vec<PeerName>> {
    let mut names = Vec::new();
    while !rest.is_empty() && names.len() < NAMES_MAX {
        let (tag, content, after) = element(rest)?;
        rest = after;
        // They are ASCII. A name with anything else in it, a NUL above all, is no name, and shown it might look like another.
        let is_name = (1..=NAME_BYTES_MAX).contains(&content.len()) && content.iter().all(u8::is_ascii_graphic);
        let Some(text) = std::str::from_utf8(content).ok().filter(|_| is_name) else { continue };
        names.extend(match tag {
            // Hosts are the same however they are written.
            DNS => Some(PeerName::Dns(text.to_ascii_lowercase())),
            URI => Some(PeerName::Uri(text.to_owned())),
            EMAIL => Some(PeerName::Email(text.to_owned())),
            _ => None,
        });
    }
    Some(names)
}

/// An element: its tag, its content, and what follows it.
fn element(der: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&[tag, first], rest) = der.split_first_chunk()?;
    let (len, rest) = match first {
        0..=0x7f => (usize::from(first), rest),
        0x81..=0x84 => {
            let (bytes, rest) = rest.split_at_checked(usize::from(first - 0x80))?;
            (bytes.iter().fold(0, |len, byte| len << 8 | usize::from(*byte)), rest)
        }
        // Of no known length, or larger than any certificate.
        _ => return None,
    };
    let (content, rest) = rest.split_at_checked(len)?;
    Some((tag, content, rest))
}

fn tagged(der: &[u8], wanted: u8) -> Option<(&[u8], &[u8])> {
    let (tag, content, rest) = element(der)?;
    (tag == wanted).then_some((content, rest))
}

/// `YYMMDDHHMMSSZ` or `YYYYMMDDHHMMSSZ`; others are not allowed in certificates.
fn time_of(tag: u8, text: &[u8]) -> Option<SystemTime> {
    let digits = text.strip_suffix(b"Z").filter(|digits| digits.iter().all(u8::is_ascii_digit))?;
    let number = |digits: &[u8]| digits.iter().fold(0, |number, digit| number * 10 + u64::from(digit - b'0'));
    let (year, rest) = match tag {
        UTC_TIME => {
            let (year, rest) = digits.split_at_checked(2)?;
            // RFC 5280, 4.1.2.5.1.
            let year = number(year);
            (if year < 50 { 2000 + year } else { 1900 + year }, rest)
        }
        GENERALIZED_TIME => {
            let (year, rest) = digits.split_at_checked(4)?;
            (number(year), rest)
        }
        _ => return None,
    };
    let rest: &[u8; 10] = rest.try_into().ok()?;
    let part = |at: usize| number(&rest[at..at + 2]);
    let (month, day, hour, minute, second) = (part(0), part(2), part(4), part(6), part(8));
    if !(1..=12).contains(&month) || !(1..=31).contains(&day) || hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    // What ended before 1970 has ended.
    let days = days_since_1970(year, month, day).unwrap_or(0);
    Some(SystemTime::UNIX_EPOCH + Duration::from_secs(days * 86_400 + hour * 3_600 + minute * 60 + second))
}

/// In years that begin with March, so that the day that not every year has is the last.
fn days_since_1970(year: u64, month: u64, day: u64) -> Option<u64> {
    let (year, month) = if month > 2 { (year, month - 3) } else { (year.checked_sub(1)?, month + 9) };
    let days = 365 * year + year / 4 - year / 100 + year / 400 + (153 * month + 2) / 5 + day - 1;
    // Days from 1 March of the year 0 to 1970.
    days.checked_sub(719_468)
}

#[cfg(test)]
mod tests {
    use larder_testkit::redis::Certificates;
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn moments_are_those_of_the_calendar() {
        let seconds =
            |tag, text: &[u8]| time_of(tag, text).and_then(|time| time.duration_since(SystemTime::UNIX_EPOCH).ok()).map(|t| t.as_secs());
        assert_eq!(seconds(UTC_TIME, b"700101000000Z"), Some(0));
        assert_eq!(seconds(UTC_TIME, b"240229000000Z"), Some(1_709_164_800));
        assert_eq!(seconds(UTC_TIME, b"251126093000Z"), Some(1_764_149_400));
        assert_eq!(seconds(GENERALIZED_TIME, b"21000301000000Z"), Some(4_107_542_400));
        assert_eq!(seconds(GENERALIZED_TIME, b"99991231235959Z"), Some(253_402_300_799));
        assert_eq!(seconds(UTC_TIME, b"500101000000Z"), Some(0), "1950");
        for bad in [&b"251126093000"[..], b"251326093000Z", b"25112609300Z", b"2511260930000Z", b"25112\xff093000Z", b"Z", b""] {
            assert_eq!(time_of(UTC_TIME, bad), None, "{}", bad.escape_ascii());
        }
    }

    #[test]
    fn certificates_that_openssl_made_are_read() {
        let Ok(made) = Certificates::make() else {
            eprintln!("SKIPPED: openssl is not installed");
            return;
        };
        for file in [made.authority(), made.server_certificate(), made.client_certificate()] {
            let pem = std::fs::read(&file).expect("it was made");
            let left = runs_out(&pem).expect("it is a certificate").duration_since(SystemTime::now()).expect("it is valid");
            assert!(left > Duration::from_secs(23 * 3_600) && left <= Duration::from_secs(24 * 3_600), "a day, not {left:?}");
            let both = [pem.as_slice(), b"\n", pem.as_slice()].concat();
            assert_eq!(runs_out(&both), runs_out(&pem));
            // Cut or bent anywhere it is refused or read as something else, and nothing panics.
            let der = STANDARD.decode(String::from_utf8_lossy(&pem).lines().filter(|line| !line.starts_with('-')).collect::<String>());
            let der = der.expect("openssl writes base64");
            assert!(not_after(&der).is_some());
            for at in 0..der.len() {
                assert_eq!(not_after(&der[..at]), None, "cut at {at}");
                let mut bent = der.clone();
                bent[at] ^= 0xff;
                std::hint::black_box(not_after(&bent));
            }
        }
    }

    #[test]
    fn what_is_no_certificate_says_so() {
        for (text, part) in [("", "no certificate"), (BEGIN, "no certificate"), ("\u{e4}", "no certificate")] {
            assert!(runs_out(text.as_bytes()).expect_err("it is none").contains(part), "{text}");
        }
        assert!(runs_out(b"\xff").expect_err("it is none").contains("no text"));
        assert!(runs_out(format!("{BEGIN}\n!!!!\n{END}").as_bytes()).expect_err("it is none").contains("no base64"));
        assert!(runs_out(format!("{BEGIN}\nAAAA\n{END}").as_bytes()).expect_err("it is none").contains("RFC 5280"));
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            prop_assert!(not_after(&bytes).is_none());
            prop_assert!(alternative_names(&bytes).is_none());
            std::hint::black_box(names_of(&bytes));
        }
    }
}
