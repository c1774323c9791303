//! One client of one server: which requests it sends, in the order that its seed says, and what it writes down of them.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use axum::http::{Method, StatusCode};
use fastrand::Rng;
use larder_testkit::chaos::aim::{self, Aim, Name};
use larder_testkit::chaos::report::Tally;
use larder_testkit::chaos::{Change, History, Life, Moment, Place, Read, Standing};
use larder_testkit::history::{Found, Subject};
use larder_testkit::wait;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::OPERATION_MAX;
use super::double::Double;
use super::fleet::{NAMESPACES, SERVERS, Servers, was_paused};
use super::wire::{Asked, Connection, NoAnswer, Reply};

/// The value that is cached.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Seen {
    /// The put that wrote it, if one did.
    put: Option<u64>,
    /// The counts it was made of.
    counts: Vec<u64>,
    /// Weight, so that memory runs out.
    padding: String,
}

impl Seen {
    /// Of the body of an answer.
    pub fn of(body: &[u8]) -> Option<Self> {
        serde_json::from_slice(body).ok()
    }

    pub fn found(&self) -> Found {
        self.put.map_or_else(|| Found::Loaded(self.counts.clone()), Found::Put)
    }

    fn text(&self) -> String {
        serde_json::to_string(self).expect("numbers and text")
    }
}

/// Some subjects of one namespace.
struct Chosen {
    namespace: &'static str,
    numbers: Vec<usize>,
}

/// What a request may be answered with.
struct May<'a> {
    succeed: &'a [u16],
    fail: &'a [&'a str],
}

/// What a change may fail with while Redis does.
const OF_WRITES: [&str; 3] = ["log-unavailable", "tier-failed", "overloaded"];

/// A change: the log has it, or it is queued.
const CHANGED: May<'_> = May { succeed: &[200, 202, 204], fail: &OF_WRITES };

/// See the head of this file.
pub struct Client {
    servers: Arc<Servers>,
    server: usize,
    rng: Rng,
    pause: Duration,
    double: Option<Double>,
    connections: [Option<Connection>; SERVERS],
    /// The last value that was sent whole for a subject, and its entity tag.
    kept: HashMap<usize, (String, Seen)>,
    history: History,
    tally: Tally,
    violations: Vec<String>,
}

impl Client {
    pub fn new(servers: Arc<Servers>, server: usize, rng: Rng, pause: Duration, double: Option<Double>) -> Self {
        Client {
            servers,
            server,
            rng,
            pause,
            double,
            connections: Default::default(),
            kept: HashMap::new(),
            history: History::default(),
            tally: Tally::default(),
            violations: Vec::new(),
        }
    }

    pub async fn work(mut self) -> (History, Tally, Vec<String>) {
        while !self.servers.over.load(Ordering::Acquire) {
            match self.rng.u32(0..1_000) {
                0..380 => self.read("GET").await,
                380..500 => self.read("GET if-none-match").await,
                500..620 => self.read("GET at-least").await,
                620..720 => self.read_many().await,
                720..850 => self.invalidate().await,
                850..855 => self.ask_everywhere().await,
                855..925 => self.put().await,
                925..950 => self.put_many().await,
                _ => self.remove().await,
            }
            aim::rest(&mut self.rng, self.pause).await;
        }
        (self.history, self.tally, self.violations)
    }

    // -- what every request does

    /// A connection to a server, and when what is asked over it begins.
    async fn connect(&mut self, server: usize) -> Option<(Connection, Life, Moment)> {
        let there = self.connections[server].take();
        let connection = match self.servers.connected(server, there).await {
            Ok(connection) => connection?,
            Err(why) => {
                self.complain("connecting", self.servers.up(server)?.life, &format!("was refused: {why}"));
                return None;
            }
        };
        let life = connection.life;
        Some((connection, life, self.servers.now()))
    }

    /// Asks, waits no longer than any operation may take, and counts it. What has no answer may have been done or not.
    async fn ask(&mut self, kind: &'static str, mut connection: Connection, asked: Asked, may: May<'_>) -> Option<Reply> {
        let life = connection.life;
        let up = self.servers.up(life.instance).filter(|up| up.life == life);
        let pauses = up.as_ref().map(|up| up.pauses());
        let sent = self.double.as_ref().map_or_else(|| asked.clone(), |double| double.passes_on(asked.clone()));
        let began = Instant::now();
        let answer = connection.ask(sent, OPERATION_MAX).await;
        let took = began.elapsed();
        let reply = match answer {
            Ok(reply) => reply,
            Err(why) => {
                self.tally.count(kind, took, true);
                // Who was killed, or stands still, does not answer.
                let stood_still = up.zip(pauses).is_none_or(|(up, pauses)| was_paused(pauses, up.pauses()));
                match why {
                    NoAnswer::Broken(why) if self.servers.lives(life) => self.complain(kind, life, &format!("was not answered: {why}")),
                    NoAnswer::Late if self.servers.lives(life) && !stood_still => {
                        self.complain(kind, life, &format!("hung for {OPERATION_MAX:?}"));
                    }
                    _ => {}
                }
                return None;
            }
        };
        let reply = match self.double.as_mut() {
            Some(double) => double.answers(&asked, reply),
            None => reply,
        };
        let succeeded = may.succeed.contains(&reply.status.as_u16());
        self.tally.count(kind, took, !succeeded);
        if !succeeded && !reply.problem().is_some_and(|problem| may.fail.contains(&problem.as_str())) {
            let body = String::from_utf8_lossy(&reply.body);
            self.complain(kind, life, &format!("was answered {}, which need not be: {body}", reply.status));
        }
        self.connections[life.instance] = Some(connection);
        succeeded.then_some(reply)
    }

    fn complain(&mut self, kind: &str, life: Life, what: &str) {
        let ticket = self.servers.now().ticket;
        self.violations.push(format!("Liveness: [{ticket}] {kind} on {}/{} {what}", life.instance, life.number));
    }

    fn subject(&self, number: usize) -> &Subject {
        &self.servers.world.subjects()[number]
    }

    fn choose(&mut self, most: usize) -> Chosen {
        let (namespace, numbers) = aim::choose(&self.servers.world, &mut self.rng, &NAMESPACES, most);
        Chosen { namespace, numbers }
    }

    /// What a read in a namespace may fail with: nothing, unless it is strict or asks for a position.
    fn of_reads(&self, namespace: &str, at_least: bool) -> Vec<&'static str> {
        let strict = Servers::strict(self.server, namespace).map(|_| "unverified");
        let position = ["not-reached", "unknown-position"].into_iter().filter(|_| at_least);
        strict.into_iter().chain(position).collect()
    }

    // -- reads

    fn note(&mut self, life: Life, began: Moment, subject: usize, found: Found, places: [Option<Place>; 2], what: &'static str) {
        let strict = Servers::strict(self.server, self.subject(subject).namespace);
        let ([at_least, claims], ended) = (places, self.servers.now());
        self.history.reads.push(Read { life, began, ended, subject, at_least, claims, strict, quiet: false, found, what });
    }

    /// The latest position that another server gave.
    fn position(&self) -> Option<(String, Place)> {
        let board = self.servers.board.lock().expect("nobody panics with it");
        let text = board[(self.server + 1) % SERVERS].clone()?;
        let place = text.parse().expect("what a server gave as a position is one");
        Some((text, place))
    }

    /// A read that waits for a position, somewhat.
    fn at(&mut self, asked: Asked, position: &str) -> Asked {
        asked.header("larder-at-least", position).header("larder-wait-ms", self.rng.u64(1..400).to_string())
    }

    /// This server has applied a position.
    fn saw(&mut self, life: Life, place: Place) {
        let ticket = self.servers.now().ticket;
        self.history.applied.push((life, ticket, place));
    }

    async fn read(&mut self, kind: &'static str) {
        let (conditional, at_position) = (kind == "GET if-none-match", kind == "GET at-least");
        let chosen = self.choose(1);
        let subject = chosen.numbers[0];
        let position = if at_position { self.position() } else { None };
        let mut asked = Asked::entry(Method::GET, &self.subject(subject).whole_key());
        let kept = self.kept.get(&subject).filter(|_| conditional).cloned();
        if let Some((etag, _)) = &kept {
            asked = asked.header("if-none-match", etag);
        }
        if let Some((text, _)) = &position {
            asked = self.at(asked, text);
        }
        let may_fail = self.of_reads(chosen.namespace, position.is_some());
        let Some((connection, life, began)) = self.connect(self.server).await else { return };
        let Some(reply) = self.ask(kind, connection, asked, May { succeed: &[200, 304, 404], fail: &may_fail }).await else { return };
        let at_least = position.map(|(_, place)| place);
        at_least.into_iter().for_each(|place| self.saw(life, place));
        let seen = match (reply.status, kept) {
            (StatusCode::NOT_MODIFIED, Some((_, seen))) => Some(seen),
            (StatusCode::OK, _) => Seen::of(&reply.body),
            (StatusCode::NOT_FOUND, _) if reply.problem().as_deref() == Some("miss") => None,
            _ => return self.complain(kind, life, &format!("was answered {:?}", reply.status)),
        };
        if reply.status == StatusCode::OK && seen.is_none() {
            return self.complain(kind, life, &format!("gave what nobody put: {:?}", reply.body));
        }
        let claims = reply.header("larder-position").filter(|_| seen.is_some()).and_then(|text| text.parse().ok());
        let what = told(&reply).unwrap_or(kind);
        self.note(life, began, subject, seen.as_ref().map_or(Found::Nothing, Seen::found), [at_least, claims], what);
        if let Some((seen, etag)) = seen.zip(reply.header("etag")) {
            self.kept.insert(subject, (etag.to_owned(), seen));
        }
        if let Some(token) = reply.header("larder-fill").filter(|_| self.rng.u32(0..4) > 0) {
            self.fill(subject, token).await;
        }
    }

    /// Reads the source, item by item, and dawdles on the way and before it is done.
    async fn load(&mut self, subject: usize) -> Seen {
        let slow = match self.rng.u32(0..20) {
            0 => 40_000,
            1..4 => 4_000,
            4..8 => 1_000,
            _ => 0,
        };
        let (between, after) = (Duration::from_micros(self.rng.u64(0..=slow)), Duration::from_micros(self.rng.u64(0..=slow)));
        let mut counts = Vec::new();
        for item in self.subject(subject).items {
            counts.push(self.servers.world.counter(item));
            wait::dawdle(between).await;
        }
        wait::dawdle(after).await;
        Seen { put: None, counts, padding: aim::padding(&mut self.rng) }
    }

    /// Fills what was missed. Seldom at another server, as where a load balancer stands in between.
    async fn fill(&mut self, subject: usize, token: &str) {
        let seen = self.load(subject).await;
        let server = if self.rng.u32(0..10) == 0 { (self.server + 1) % SERVERS } else { self.server };
        let asked = with_tags(Asked::entry(Method::PUT, &self.subject(subject).whole_key()), self.subject(subject));
        let asked = asked.header("larder-fill", token).body(seen.text());
        let Some((connection, ..)) = self.connect(server).await else { return };
        let may_fail = ["stale-fill", "unknown-position", "tier-failed", "overloaded"];
        // Whether it is kept is no promise; what it is worth is for reads to show.
        drop(self.ask("PUT (fill)", connection, asked, May { succeed: &[204], fail: &may_fail }).await);
    }

    async fn read_many(&mut self) {
        let chosen = self.choose(5);
        let position = if self.rng.u32(0..4) == 0 { self.position() } else { None };
        let keys: Vec<String> = chosen.numbers.iter().map(|number| self.subject(*number).whole_key()).collect();
        let mut asked = Asked::post("/v1/entries/get", &json!({ "keys": keys }));
        if let Some((text, _)) = &position {
            asked = self.at(asked, text);
        }
        let may_fail = self.of_reads(chosen.namespace, position.is_some());
        let kind = "POST entries/get";
        let Some((connection, life, began)) = self.connect(self.server).await else { return };
        let Some(reply) = self.ask(kind, connection, asked, May { succeed: &[200], fail: &may_fail }).await else { return };
        let at_least = position.map(|(_, place)| place);
        at_least.into_iter().for_each(|place| self.saw(life, place));
        let answer = reply.json();
        let mut missed = Vec::new();
        for (subject, entry) in chosen.numbers.into_iter().zip(answer["entries"].as_array().into_iter().flatten()) {
            let found = match entry["value"].as_str() {
                None => Some(Found::Nothing),
                Some(value) => Seen::of(value.as_bytes()).map(|seen| seen.found()),
            };
            let Some(found) = found else {
                self.complain(kind, life, &format!("gave what nobody put: {entry}"));
                continue;
            };
            let claims = entry["position"].as_str().and_then(|text| text.parse().ok());
            self.note(life, began, subject, found, [at_least, claims], kind);
            missed.extend(entry["fill"].as_str().map(|token| (subject, token.to_owned())));
        }
        if !missed.is_empty() && self.rng.bool() {
            self.fill_many(missed).await;
        }
    }

    async fn fill_many(&mut self, missed: Vec<(usize, String)>) {
        let mut entries = Vec::new();
        for (subject, token) in missed {
            let seen = self.load(subject).await;
            let mut entry = entry(self.subject(subject), &seen);
            entry["fill"] = token.into();
            entries.push(entry);
        }
        let asked = Asked::post("/v1/entries/put", &json!({ "entries": entries }));
        let Some((connection, ..)) = self.connect(self.server).await else { return };
        drop(self.ask("POST entries/put (fills)", connection, asked, May { succeed: &[200], fail: &[] }).await);
    }

    // -- changes

    /// Writes down a change; what was not answered may still come to pass.
    fn wrote(&mut self, life: Life, began: Moment, reply: Option<&Reply>, subjects: Vec<usize>, floor: Vec<u64>, what: String) {
        let ended = self.servers.now();
        let answer = reply.map(Reply::json).unwrap_or_default();
        let position = reply.and_then(|reply| reply.header("larder-position").or(answer["position"].as_str()));
        let standing = match (reply.map(|reply| reply.status), position) {
            (None, _) => Standing::Failed,
            (Some(StatusCode::ACCEPTED), _) => Standing::Queued,
            (Some(_), position) => {
                let Some((text, place)) = position.and_then(|text| Some((text.to_owned(), text.parse().ok()?))) else {
                    return self.complain(&what, life, "has no position");
                };
                self.servers.board.lock().expect("nobody panics with it")[life.instance] = Some(text);
                Standing::Logged(place)
            }
        };
        self.history.changes.push(Change { life, began, ended, standing, durable: true, subjects, floor, what });
    }

    fn change_own(&self, subjects: &[usize]) -> Vec<u64> {
        subjects.iter().for_each(|subject| self.servers.world.change(self.subject(*subject).items[0]));
        self.servers.world.counters()
    }

    async fn invalidate(&mut self) {
        let Aim { name, subjects, item, what } = Aim::take(&self.servers.world, &mut self.rng);
        let Some((connection, life, _)) = self.connect(self.server).await else { return };
        self.servers.world.change(item);
        let (floor, began) = (self.servers.world.counters(), self.servers.now());
        let names = match name {
            Name::Key(key) => json!({ "keys": [key] }),
            Name::Tag(tag) => json!({ "tags": [tag] }),
            Name::Pattern(pattern) => json!({ "patterns": [pattern] }),
            Name::Namespace(namespace) => json!({ "namespaces": [namespace] }),
            Name::Everything => json!({ "everything": true }),
        };
        let reply = self.ask("POST invalidations", connection, Asked::post("/v1/invalidations", &names), CHANGED).await;
        if reply.is_some() {
            self.wrote(life, began, reply.as_ref(), subjects, floor, what);
        }
    }

    /// Invalidates something, and asks whether all have applied it. If all that live now are among those that have, each of them
    /// was seen to.
    async fn ask_everywhere(&mut self) {
        let lives = |servers: &Servers| (0..SERVERS).map(|server| servers.up(server).map(|up| up.life)).collect::<Option<Vec<Life>>>();
        let Some(before) = lives(&self.servers) else { return };
        let asked = Asked::post("/v1/invalidations?applied_everywhere=500ms", &json!({ "tags": ["nobody has it"] }));
        let Some((connection, ..)) = self.connect(self.server).await else { return };
        let Some(reply) = self.ask("POST invalidations, everywhere", connection, asked, CHANGED).await else { return };
        let receipt = reply.json();
        let instances = receipt["spread"]["instances"].as_u64().unwrap_or(0);
        let everywhere = instances >= SERVERS as u64 && receipt["spread"]["lagging"].as_array().is_some_and(Vec::is_empty);
        if everywhere && receipt["queued"] == false && lives(&self.servers).as_ref() == Some(&before) {
            let place = receipt["position"].as_str().and_then(|text| text.parse().ok());
            before
                .into_iter()
                .zip(std::iter::repeat(place))
                .for_each(|(life, place)| place.into_iter().for_each(|place| self.saw(life, place)));
        }
    }

    async fn put(&mut self) {
        let subject = self.choose(1).numbers[0];
        let Some((connection, life, _)) = self.connect(self.server).await else { return };
        let floor = self.change_own(&[subject]);
        let (padding, began) = (aim::padding(&mut self.rng), self.servers.now());
        let seen = Seen { put: Some(began.ticket), counts: Vec::new(), padding };
        let of = self.subject(subject);
        let asked = with_tags(Asked::entry(Method::PUT, &of.whole_key()), of).body(seen.text());
        let what = format!("put of {}", of.whole_key());
        let reply = self.ask("PUT", connection, asked, CHANGED).await;
        self.wrote(life, began, reply.as_ref(), vec![subject], floor, what);
    }

    async fn put_many(&mut self) {
        let numbers = self.choose(4).numbers;
        let Some((connection, life, _)) = self.connect(self.server).await else { return };
        let floor = self.change_own(&numbers);
        let (padding, began) = (aim::padding(&mut self.rng), self.servers.now());
        let seen = Seen { put: Some(began.ticket), counts: Vec::new(), padding };
        let entries: Vec<Value> = numbers.iter().map(|number| entry(self.subject(*number), &seen)).collect();
        let what = format!("put of several: {:?}", numbers.iter().map(|number| self.subject(*number).whole_key()).collect::<Vec<_>>());
        let asked = Asked::post("/v1/entries/put", &json!({ "entries": entries }));
        let reply = self.ask("POST entries/put", connection, asked, CHANGED).await;
        self.wrote(life, began, reply.as_ref(), numbers, floor, what);
    }

    async fn remove(&mut self) {
        let subject = self.choose(1).numbers[0];
        let Some((connection, life, _)) = self.connect(self.server).await else { return };
        let floor = self.change_own(&[subject]);
        let began = self.servers.now();
        let key = self.subject(subject).whole_key();
        let reply = self.ask("DELETE", connection, Asked::entry(Method::DELETE, &key), CHANGED).await;
        if reply.is_some() {
            self.wrote(life, began, reply.as_ref(), vec![subject], floor, format!("removal of {key}"));
        }
    }
}

/// The tags of a subject, where they come with the entry.
fn tags_of(subject: &Subject) -> Vec<String> {
    let come_along = subject.namespace == "plain";
    let tags = [format!("symbol:S{}", subject.symbol), format!("part:p{}", subject.part)];
    tags.into_iter().filter(|_| come_along).collect()
}

fn with_tags(asked: Asked, subject: &Subject) -> Asked {
    let tags = tags_of(subject);
    if tags.is_empty() { asked } else { asked.header("cache-tag", tags.join(", ")) }
}

fn entry(subject: &Subject, seen: &Seen) -> Value {
    json!({ "key": subject.whole_key(), "value": seen.text(), "tags": tags_of(subject) })
}

/// Where an answer came from, by what it says itself.
fn told(reply: &Reply) -> Option<&'static str> {
    let detail = reply.header("cache-status")?.split("detail=").nth(1)?;
    let names = ["memory", "redis", "unverified-memory", "unverified-redis", "stale-memory", "stale-redis"];
    names.into_iter().find(|name| *name == detail)
}
