//! A bucket of S3, or of anything that speaks its protocol.
//!
//! Requests are signed by `rusty-s3` and sent by `ureq`: the one opens no connection, and the other is here anyway. A segment is put in
//! one request, so it is there whole or not at all, which is all that a manifest needs; it is at hand until that went well, so trying
//! again costs nothing but time. What is read is gone on with where a connection broke off.
//!
//! A store has no locks. So two who remove backups, or one who removes what another is about to stand on, are not kept apart; and
//! what has no manifest counts as left behind only when it is a day old.

use std::collections::BTreeMap;
use std::fmt;
use std::io::{self, Read};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use larder::backup::{MANIFEST, Place, is_file_of_backup};
use rustls::crypto::ring::default_provider;
use rusty_s3::actions::{ListObjectsV2, ListObjectsV2Response, S3Action};
use rusty_s3::{Bucket, Credentials, UrlStyle};
use ureq::http::StatusCode;
use ureq::tls::{Certificate, RootCerts, TlsConfig};
use ureq::{Agent, SendBody};
use url::Url;

#[cfg(test)]
mod faults;
#[cfg(test)]
mod store;

/// How long a signature is good.
const SIGNED_FOR: Duration = Duration::from_secs(300);

/// An answer to a question that is not about a file's content is never as large.
const ANSWER_BYTES_MAX: u64 = 16 << 20;

/// What has no manifest after this long will not get one any more.
const LEFT_BEHIND_AFTER: Duration = Duration::from_secs(24 * 3600);

/// How a store that fails is borne with.
#[derive(Clone, Copy, Debug)]
struct Patience {
    /// How often something is tried.
    tries: u32,
    /// The pause before it is tried again; each next one is twice as long.
    pause: Duration,
    /// How long a request may take.
    timeout: Duration,
    /// A fault that tests plant: what came before a connection broke off counts as all there is.
    #[cfg(test)]
    believes_what_was_cut: bool,
}

impl Default for Patience {
    fn default() -> Self {
        Patience {
            tries: 5,
            pause: Duration::from_millis(200),
            // 64 MiB over a slow line.
            timeout: Duration::from_secs(280),
            #[cfg(test)]
            believes_what_was_cut: false,
        }
    }
}

/// Where a bucket is: `s3://BUCKET/PREFIX?endpoint=https://HOST&region=REGION`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct S3Address {
    endpoint: Url,
    region: String,
    bucket: String,
    /// Ends with a slash, unless it is empty.
    prefix: String,
}

impl S3Address {
    /// Reads what follows `s3://`.
    pub fn parse(text: &str) -> Option<Self> {
        let (path, query) = text.split_once('?').unwrap_or((text, ""));
        let (bucket, prefix) = path.split_once('/').unwrap_or((path, ""));
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '/');
        if bucket.is_empty() || !path.chars().all(plain) || prefix.split('/').any(|part| part == "..") {
            return None;
        }
        let (mut endpoint, mut region) = (None, "us-east-1".to_owned());
        for (name, value) in url::form_urlencoded::parse(query.as_bytes()) {
            match &*name {
                "endpoint" => endpoint = Some(Url::parse(&value).ok()?),
                "region" => region = value.into_owned(),
                _ => return None,
            }
        }
        let endpoint = match endpoint {
            Some(endpoint) => endpoint,
            None => Url::parse(&format!("https://s3.{region}.amazonaws.com")).ok()?,
        };
        // A name and a password in an address would be seen where addresses are shown.
        let is_plain = matches!(endpoint.scheme(), "http" | "https") && endpoint.username().is_empty() && endpoint.password().is_none();
        let prefix = prefix.trim_matches('/');
        let prefix = if prefix.is_empty() { String::new() } else { format!("{prefix}/") };
        is_plain.then(|| S3Address { endpoint, region, bucket: bucket.to_owned(), prefix })
    }

    /// The bucket, with the keys that the environment has (`AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY`, `AWS_SESSION_TOKEN`).
    ///
    /// # Errors
    /// Where they are missing, or the address is none after all.
    pub fn open(&self) -> Result<S3Place, String> {
        let of = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        let (Some(key), Some(secret)) = (of("AWS_ACCESS_KEY_ID"), of("AWS_SECRET_ACCESS_KEY")) else {
            return Err(format!("{self} needs AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY in the environment"));
        };
        let credentials = match of("AWS_SESSION_TOKEN") {
            Some(token) => Credentials::new_with_token(key, secret, token),
            None => Credentials::new(key, secret),
        };
        self.with(credentials, Patience::default())
    }

    fn with(&self, credentials: Credentials, patience: Patience) -> Result<S3Place, String> {
        // By path: it works for every store and every name of a bucket, and names need no certificate of their own.
        let bucket = Bucket::new(self.endpoint.clone(), UrlStyle::Path, self.bucket.clone(), self.region.clone());
        let bucket = bucket.map_err(|error| format!("{self}: {error}"))?;
        let mut config = Agent::config_builder().http_status_as_error(false).timeout_global(Some(patience.timeout)).proxy(None);
        if self.endpoint.scheme() == "https" {
            config = config.tls_config(trusted()?);
        }
        Ok(S3Place {
            agent: config.build().new_agent(),
            bucket,
            credentials,
            shown: self.to_string(),
            prefix: self.prefix.clone(),
            patience,
        })
    }
}

impl fmt::Display for S3Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "s3://{}/{} at {}", self.bucket, self.prefix, self.endpoint)
    }
}

/// The authorities that the system trusts.
fn trusted() -> Result<TlsConfig, String> {
    let roots = rustls_native_certs::load_native_certs().certs;
    if roots.is_empty() {
        return Err("the system has no authorities to trust".to_owned());
    }
    let roots = RootCerts::new_with_certs(&roots.iter().map(|one| Certificate::from_der(one).to_owned()).collect::<Vec<_>>());
    Ok(TlsConfig::builder().root_certs(roots).unversioned_rustls_crypto_provider(Arc::new(default_provider())).build())
}

/// See the head of this file.
pub struct S3Place {
    agent: Agent,
    bucket: Bucket,
    credentials: Credentials,
    shown: String,
    prefix: String,
    patience: Patience,
}

/// What came of one try.
enum Tried<T> {
    Done(T),
    /// It may go well another time.
    Again(io::Error),
}

/// An object of a listing.
struct Object {
    /// The backup that it is of, and its name there, in which slashes say that it is none of ours.
    backup: String,
    file: String,
    changed_at: Option<Timestamp>,
}

/// What is there below the name of a backup.
#[derive(Default)]
struct Rest {
    is_finished: bool,
    /// Something is there that larder did not put there.
    is_others: bool,
    is_young: bool,
}

impl S3Place {
    fn object(&self, backup: &str, file: &str) -> String {
        format!("{}{backup}/{file}", self.prefix)
    }

    /// Tries until it goes well, or is refused, or has failed too often.
    fn retried<T>(&self, mut once: impl FnMut() -> io::Result<Tried<T>>) -> io::Result<T> {
        let mut pause = self.patience.pause;
        for _ in 1..self.patience.tries {
            match once()? {
                Tried::Done(done) => return Ok(done),
                Tried::Again(error) => {
                    tracing::debug!(%error, place = self.shown, "a store failed; it is tried again");
                    std::thread::sleep(pause);
                    pause *= 2;
                }
            }
        }
        match once()? {
            Tried::Done(done) => Ok(done),
            Tried::Again(error) => Err(error),
        }
    }

    /// Asks once. What is signed is in the address, so no error may tell of it.
    fn ask(&self, method: &str, url: &Url, from: usize, body: Option<&[u8]>) -> io::Result<Tried<ureq::http::Response<ureq::Body>>> {
        let mut request = ureq::http::Request::builder().method(method).uri(url.as_str());
        if from > 0 {
            request = request.header("range", format!("bytes={from}-"));
        }
        let given = |body: SendBody<'_>, request: ureq::http::request::Builder| {
            let request = request.body(body).map_err(|_| io::Error::new(io::ErrorKind::InvalidInput, "that is no request"))?;
            Ok::<_, io::Error>(self.agent.run(request))
        };
        let mut bytes = body.unwrap_or_default();
        let length = bytes.len();
        if body.is_some() {
            request = request.header("content-length", length);
        }
        let answered = if body.is_some() { given(SendBody::from_reader(&mut bytes), request)? } else { given(SendBody::none(), request)? };
        let answer = match answered {
            Ok(answer) => answer,
            Err(error) => return Ok(Tried::Again(io::Error::other(told(&error)))),
        };
        let status = answer.status();
        match status {
            _ if status.is_success() => Ok(Tried::Done(answer)),
            // Nothing is left to go on with.
            StatusCode::RANGE_NOT_SATISFIABLE if from > 0 => Ok(Tried::Done(answer)),
            StatusCode::NOT_FOUND => Err(io::ErrorKind::NotFound.into()),
            StatusCode::FORBIDDEN | StatusCode::UNAUTHORIZED => {
                Err(io::Error::new(io::ErrorKind::PermissionDenied, format!("the store refuses ({status})")))
            }
            _ if status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS || status == StatusCode::REQUEST_TIMEOUT => {
                Ok(Tried::Again(io::Error::other(format!("the store answers {status}"))))
            }
            _ => Err(io::Error::other(format!("the store answers {status}"))),
        }
    }

    /// One page of a listing.
    fn page(&self, prefix: &str, after: Option<&str>) -> io::Result<ListObjectsV2Response> {
        self.retried(|| {
            let mut list = ListObjectsV2::new(&self.bucket, Some(&self.credentials));
            list.with_prefix(prefix);
            after.into_iter().for_each(|token| list.with_continuation_token(token));
            let answer = match self.ask("GET", &list.sign(SIGNED_FOR), 0, None)? {
                Tried::Done(answer) => answer,
                Tried::Again(error) => return Ok(Tried::Again(error)),
            };
            let mut text = String::new();
            let read = answer.into_body().into_reader().take(ANSWER_BYTES_MAX).read_to_string(&mut text);
            if let Err(error) = read {
                return Ok(Tried::Again(error));
            }
            // The parser takes the end of the text for the end of the list, and who prunes by half a list removes what the rest stands on.
            let is_whole = text.trim_end().ends_with("</ListBucketResult>");
            let parsed = ListObjectsV2::parse_response(&text).ok().filter(|_| is_whole);
            Ok(parsed.map_or_else(|| Tried::Again(io::Error::other("the store's listing is cut short")), Tried::Done))
        })
    }

    /// Every object below a prefix of the place's own.
    fn objects(&self, below: &str) -> io::Result<Vec<Object>> {
        let prefix = format!("{}{below}", self.prefix);
        let (mut objects, mut after) = (Vec::new(), None);
        loop {
            let page = self.page(&prefix, after.as_deref())?;
            for one in page.contents {
                let Some((backup, file)) = one.key.strip_prefix(&self.prefix).and_then(|rest| rest.split_once('/')) else { continue };
                // What is no name is not ours.
                if larder::backup::check_backup_name(backup).is_ok() {
                    let changed_at = one.last_modified.and_then(|text| text.parse().ok());
                    objects.push(Object { backup: backup.to_owned(), file: file.to_owned(), changed_at });
                }
            }
            match page.next_continuation_token {
                Some(token) => after = Some(token),
                None => return Ok(objects),
            }
        }
    }

    /// Reads on from where `bytes` end.
    fn read_on(&self, url: &Url, bytes: &mut Vec<u8>, bytes_max: u64) -> io::Result<Tried<()>> {
        let answer = match self.ask("GET", url, bytes.len(), None)? {
            Tried::Done(answer) => answer,
            Tried::Again(error) => return Ok(Tried::Again(error)),
        };
        if answer.status() == StatusCode::RANGE_NOT_SATISFIABLE {
            // All that there is was here, or it is another file by now: from the beginning.
            bytes.clear();
            return Ok(Tried::Again(io::Error::other("the store has less than it said")));
        }
        if answer.status() != StatusCode::PARTIAL_CONTENT {
            // It sends all of it, whatever it was asked.
            bytes.clear();
        } else if begins_at(&answer) != Some(bytes.len()) {
            bytes.clear();
            return Ok(Tried::Again(io::Error::other("the store sends another part than it was asked for")));
        }
        let room = bytes_max.saturating_add(1).saturating_sub(bytes.len() as u64);
        // What came before it broke off stays.
        match answer.into_body().into_reader().take(room).read_to_end(bytes) {
            #[cfg(test)]
            Err(_) if self.patience.believes_what_was_cut => Ok(Tried::Done(())),
            Err(error) => Ok(Tried::Again(error)),
            Ok(_) if bytes.len() as u64 > bytes_max => {
                Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("it has more than the {bytes_max} bytes that it may have")))
            }
            Ok(_) => Ok(Tried::Done(())),
        }
    }
}

/// Where the part of a file begins that an answer has.
fn begins_at(answer: &ureq::http::Response<ureq::Body>) -> Option<usize> {
    let range = answer.headers().get("content-range")?.to_str().ok()?;
    range.strip_prefix("bytes ")?.split_once('-')?.0.parse().ok()
}

/// A failure without the address, which is signed.
fn told(error: &ureq::Error) -> &'static str {
    match error {
        ureq::Error::Timeout(_) => "the store did not answer in time",
        ureq::Error::HostNotFound => "the store's host is not known",
        ureq::Error::ConnectionFailed => "the store cannot be connected to",
        ureq::Error::Rustls(_) | ureq::Error::Tls(_) => "the store's certificate is not trusted",
        ureq::Error::Io(_) => "the connection to the store failed",
        _ => "the store cannot be asked",
    }
}

impl Place for S3Place {
    fn describe(&self) -> String {
        self.shown.clone()
    }

    fn begin(&self, backup: &str) -> io::Result<Box<dyn Send>> {
        match self.objects(&format!("{backup}/"))?.is_empty() {
            true => Ok(Box::new(())),
            false => Err(io::ErrorKind::AlreadyExists.into()),
        }
    }

    fn put(&self, backup: &str, file: &str, bytes: &[u8]) -> io::Result<()> {
        let object = self.object(backup, file);
        self.retried(|| {
            let put = self.bucket.put_object(Some(&self.credentials), &object);
            Ok(match self.ask("PUT", &put.sign(SIGNED_FOR), 0, Some(bytes))? {
                Tried::Done(_) => Tried::Done(()),
                Tried::Again(error) => Tried::Again(error),
            })
        })
    }

    fn get(&self, backup: &str, file: &str, bytes_max: u64) -> io::Result<Vec<u8>> {
        let (object, mut bytes) = (self.object(backup, file), Vec::new());
        self.retried(|| {
            let get = self.bucket.get_object(Some(&self.credentials), &object);
            self.read_on(&get.sign(SIGNED_FOR), &mut bytes, bytes_max)
        })?;
        Ok(bytes)
    }

    fn list(&self) -> io::Result<Vec<String>> {
        let mut names: Vec<String> =
            self.objects("")?.into_iter().filter(|object| object.file == MANIFEST).map(|object| object.backup).collect();
        names.sort_unstable();
        Ok(names)
    }

    /// A store has no locks: what is removed while it is read is missed, and said to be.
    fn hold(&self, _backup: &str) -> io::Result<Box<dyn Send + Sync>> {
        Ok(Box::new(()))
    }

    fn hold_still(&self) -> io::Result<Box<dyn Send>> {
        Ok(Box::new(()))
    }

    fn remove(&self, backup: &str) -> io::Result<()> {
        let mut files: Vec<String> = self.objects(&format!("{backup}/"))?.into_iter().map(|object| object.file).collect();
        // Somebody else may have put something beside.
        files.retain(|file| is_file_of_backup(file));
        // The manifest first.
        files.sort_unstable_by_key(|file| file != MANIFEST);
        files.iter().try_for_each(|file| {
            let object = self.object(backup, file);
            self.retried(|| {
                let delete = self.bucket.delete_object(Some(&self.credentials), &object);
                Ok(match self.ask("DELETE", &delete.sign(SIGNED_FOR), 0, None) {
                    Ok(Tried::Again(error)) => Tried::Again(error),
                    Ok(Tried::Done(_)) => Tried::Done(()),
                    Err(error) if error.kind() == io::ErrorKind::NotFound => Tried::Done(()),
                    Err(error) => return Err(error),
                })
            })
        })
    }

    fn unfinished(&self) -> io::Result<Vec<String>> {
        let young = Timestamp::now().checked_sub(LEFT_BEHIND_AFTER).map_err(io::Error::other)?;
        let mut all: BTreeMap<String, Rest> = BTreeMap::new();
        for Object { backup, file, changed_at } in self.objects("")? {
            let rest = all.entry(backup).or_default();
            rest.is_finished |= file == MANIFEST;
            rest.is_others |= !is_file_of_backup(&file);
            // One whose age is not told is not taken for old.
            rest.is_young |= changed_at.is_none_or(|at| at >= young);
        }
        all.retain(|_, rest| !rest.is_finished);
        let others: Vec<&str> = all.iter().filter(|(_, rest)| rest.is_others).map(|(name, _)| name.as_str()).collect();
        if !others.is_empty() {
            tracing::warn!(prefixes = ?others, place = self.shown, "objects that are of no backup are among them, and are left alone");
        }
        Ok(all.into_iter().filter(|(_, rest)| !rest.is_others && !rest.is_young).map(|(name, _)| name).collect())
    }
}
