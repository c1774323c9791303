//! A store that speaks as much of S3's protocol as backups need, and fails as it is told to: by a seed, so that a failure can be repeated.

use std::collections::BTreeMap;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;

use jiff::Timestamp;
use parking_lot::Mutex;
use url::Url;

/// How a request fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// 500, and nothing is done.
    Failed,
    /// 503, and nothing is done.
    SlowDown,
    /// The connection ends in the middle of what is sent: of the body that is put, or of the answer.
    Cut,
    /// It is done, and the connection ends before that is said.
    AnswerLost,
    /// The answer says that it has more than comes.
    TooLong,
    /// Nothing comes until the client gives up.
    Silent,
    /// The answer is short, and says that it is all: nobody can know it by the answer alone.
    Lie,
}

/// What passes when it is tried again.
pub(super) const PASSING: [Fault; 6] = [Fault::Failed, Fault::SlowDown, Fault::Cut, Fault::AnswerLost, Fault::TooLong, Fault::Silent];

/// When requests fail.
pub(super) struct Plan {
    pub(super) seed: u64,
    pub(super) faults: Vec<Fault>,
    /// Of a hundred requests.
    pub(super) percent: u32,
    /// At most so many after one another.
    pub(super) in_a_row: u32,
}

/// Objects on a page of a listing: few, so that every listing goes on.
const PAGE: usize = 3;

#[derive(Default)]
struct Kept {
    /// When each was put, and what it has.
    objects: Mutex<BTreeMap<String, (Timestamp, Vec<u8>)>>,
    /// Whether what is put is put now, and not long ago.
    is_present: AtomicBool,
    /// Pages that were not the last.
    went_on: AtomicU64,
    /// Requests that failed as they were told to.
    failed: AtomicU64,
    is_over: AtomicBool,
}

/// See the head of this file.
pub(super) struct Store {
    address: SocketAddr,
    kept: Arc<Kept>,
    /// None: every request goes well.
    plan: Arc<Mutex<Option<(Plan, fastrand::Rng, u32)>>>,
    thread: Option<JoinHandle<()>>,
}

impl Store {
    pub(super) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
        let address = listener.local_addr().expect("it is bound");
        let (kept, plan) = (Arc::new(Kept::default()), Arc::new(Mutex::new(None)));
        let thread = {
            let (kept, plan) = (kept.clone(), plan.clone());
            std::thread::spawn(move || {
                let mut serving = Vec::new();
                for stream in listener.incoming() {
                    if kept.is_over.load(Ordering::SeqCst) {
                        break;
                    }
                    let Ok(stream) = stream else { continue };
                    let (kept, plan) = (kept.clone(), plan.clone());
                    // A client that goes away under way is one of the things that are tried.
                    serving.push(std::thread::spawn(move || drop(serve(stream, &kept, &plan))));
                }
                serving.into_iter().for_each(|one| one.join().expect("no request breaks the store"));
            })
        };
        Store { address, kept, plan, thread: Some(thread) }
    }

    pub(super) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Fails from now on, or no more.
    pub(super) fn fail(&self, plan: Option<Plan>) {
        *self.plan.lock() = plan.map(|plan| {
            let rng = fastrand::Rng::with_seed(plan.seed);
            (plan, rng, 0)
        });
    }

    /// Whether what is put from now on is put now, and not years ago.
    pub(super) fn put_now(&self, is_now: bool) {
        self.kept.is_present.store(is_now, Ordering::SeqCst);
    }

    /// Pages of listings that were not the last one.
    pub(super) fn went_on(&self) -> u64 {
        self.kept.went_on.load(Ordering::SeqCst)
    }

    pub(super) fn failed(&self) -> u64 {
        self.kept.failed.load(Ordering::SeqCst)
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        self.kept.is_over.store(true, Ordering::SeqCst);
        // So that it looks.
        drop(TcpStream::connect(self.address));
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

/// What the next request is to meet with.
fn next_fault(plan: &Mutex<Option<(Plan, fastrand::Rng, u32)>>, kept: &Kept) -> Option<Fault> {
    let mut plan = plan.lock();
    let (plan, rng, row) = plan.as_mut()?;
    if *row >= plan.in_a_row || rng.u32(..100) >= plan.percent {
        *row = 0;
        return None;
    }
    *row += 1;
    kept.failed.fetch_add(1, Ordering::SeqCst);
    Some(plan.faults[rng.usize(..plan.faults.len())])
}

fn serve(stream: TcpStream, kept: &Kept, plan: &Mutex<Option<(Plan, fastrand::Rng, u32)>>) -> io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut first = String::new();
    if reader.read_line(&mut first)? == 0 {
        return Ok(());
    }
    let (mut length, mut from) = (0, 0);
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let Some((name, value)) = line.trim_end().split_once(':') else { break };
        match name.to_ascii_lowercase().as_str() {
            "content-length" => length = value.trim().parse().unwrap_or(0),
            "range" => from = value.trim().trim_start_matches("bytes=").trim_end_matches('-').parse().unwrap_or(0),
            _ => {}
        }
    }
    let fault = next_fault(plan, kept);
    let mut body = vec![0; if fault == Some(Fault::Cut) { length / 2 } else { length }];
    reader.read_exact(&mut body)?;
    if fault == Some(Fault::Cut) && length > 0 {
        return Ok(());
    }
    let (status, range, bytes) = match fault {
        Some(Fault::Failed) => ("500 Internal Server Error", None, Vec::new()),
        Some(Fault::SlowDown) => ("503 Slow Down", None, Vec::new()),
        Some(Fault::Silent) => {
            // Until the client ends the connection.
            reader.read_to_end(&mut body)?;
            return Ok(());
        }
        _ => done(&first, body, from, kept),
    };
    if fault == Some(Fault::AnswerLost) {
        return Ok(());
    }
    let sent = match fault {
        Some(Fault::Cut | Fault::Lie) => &bytes[..bytes.len() / 2],
        _ => &bytes,
    };
    let said = match fault {
        Some(Fault::Lie) => sent.len(),
        Some(Fault::TooLong) => bytes.len() + 7,
        _ => bytes.len(),
    };
    let range = range.map_or(String::new(), |(from, of)| format!("Content-Range: bytes {from}-{}/{of}\r\n", of - 1));
    let mut stream = stream;
    write!(stream, "HTTP/1.1 {status}\r\nConnection: close\r\nContent-Length: {said}\r\n{range}\r\n")?;
    stream.write_all(sent)
}

type Answer = (&'static str, Option<(usize, usize)>, Vec<u8>);

/// Does what is asked.
fn done(first: &str, body: Vec<u8>, from: usize, kept: &Kept) -> Answer {
    let mut words = first.split_whitespace();
    let (method, target) = (words.next().unwrap_or(""), words.next().unwrap_or("/"));
    let url = Url::parse(&format!("http://store{target}")).expect("a client sends an address");
    let key = url.path().trim_start_matches('/').split_once('/').map_or("", |(_, key)| key).to_owned();
    let mut objects = kept.objects.lock();
    match method {
        "PUT" => {
            let at = if kept.is_present.load(Ordering::SeqCst) { Timestamp::now() } else { Timestamp::UNIX_EPOCH };
            objects.insert(key, (at, body));
            ("200 OK", None, Vec::new())
        }
        "DELETE" => {
            objects.remove(&key);
            ("204 No Content", None, Vec::new())
        }
        _ if key.is_empty() => {
            let of = |asked: &str| url.query_pairs().find(|(name, _)| name == asked).map(|(_, value)| value.into_owned());
            let (prefix, after) = (of("prefix").unwrap_or_default(), of("continuation-token"));
            let is_asked = |key: &str| key.starts_with(&prefix) && after.as_deref().is_none_or(|after| key > after);
            let mut page: Vec<(&String, Timestamp)> =
                objects.iter().filter(|(key, _)| is_asked(key)).map(|(key, (at, _))| (key, *at)).take(PAGE + 1).collect();
            let is_cut = page.len() > PAGE;
            page.truncate(PAGE);
            let next = page.last().filter(|_| is_cut).map(|(last, _)| {
                kept.went_on.fetch_add(1, Ordering::SeqCst);
                format!("<NextContinuationToken>{last}</NextContinuationToken>")
            });
            let next = next.unwrap_or_default();
            let listed: String = page
                .iter()
                .map(|(key, at)| {
                    format!(
                        "<Contents><ETag>\"x\"</ETag><Key>{key}</Key><LastModified>{at}</LastModified><Size>1</Size>\
                         <StorageClass>STANDARD</StorageClass></Contents>"
                    )
                })
                .collect();
            let xml = format!(
                "<?xml version=\"1.0\" encoding=\"UTF-8\"?><ListBucketResult xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">\
                 <Name>b</Name><MaxKeys>{PAGE}</MaxKeys><IsTruncated>{is_cut}</IsTruncated>{next}{listed}</ListBucketResult>"
            );
            ("200 OK", None, xml.into_bytes())
        }
        _ => match objects.get(&key) {
            None => ("404 Not Found", None, Vec::new()),
            Some((_, bytes)) if from > 0 && from >= bytes.len() => ("416 Range Not Satisfiable", None, Vec::new()),
            Some((_, bytes)) if from > 0 => ("206 Partial Content", Some((from, bytes.len())), bytes[from..].to_vec()),
            Some((_, bytes)) => ("200 OK", None, bytes.clone()),
        },
    }
}
