//! The fleet under the demo: what readers and feed ask is asked over HTTP, as a program in any language would.
//!
//! Every change goes to the first server. By turns it is named by tag and by pattern, and by turns the demo learns that all
//! obey from `applied_everywhere`, and from reads at its position everywhere, which also tell how long it took.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use larder::Position;
use parking_lot::Mutex;
use serde::Deserialize;
use serde_json::{Value as Json, json};
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::super::cache::{Answer, DemoCache, HeldTo, Served, Told};
use super::super::features::Features;
use super::super::histogram::Histogram;
use super::super::keyspace::{Key, Kind};
use super::super::market::{Market, SymbolId};
use super::super::model::{ModelId, Prediction};
use super::super::report::FleetReport;
use super::super::source::{DemoValue, Source};
use super::client::{Client, NoAnswer, Reply};

/// The server that is told of changes.
const WRITER: usize = 0;

/// How long every server may take to obey before a change counts as not settled.
const SETTLE: Duration = Duration::from_secs(5);

/// The fleet, as a reader or a feed sees it.
pub struct FleetCache {
    fleet: Arc<Shared>,
    held_to: HeldTo,
    /// The server of the next read; each reader goes round.
    next: AtomicUsize,
}

/// What all views share.
struct Shared {
    clients: Vec<Client>,
    market: Arc<Market>,
    /// The last position that the log gave out to us.
    last: Mutex<Option<Position>>,
    updates: AtomicU64,
    settled: AtomicU64,
    reads_elsewhere: AtomicU64,
    propagation: Mutex<Histogram>,
}

/// Why the fleet did not do as it was asked.
#[derive(Debug)]
pub enum FleetCacheError {
    /// A server does not answer.
    NoAnswer(NoAnswer),
    /// A server refused.
    Refused(String),
    /// A server said what cannot be understood.
    Strange(String),
    /// Redis could not be reached, and the change waits.
    Queued,
}

impl fmt::Display for FleetCacheError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoAnswer(error) => error.fmt(f),
            Self::Refused(what) | Self::Strange(what) => f.write_str(what),
            Self::Queued => f.write_str("Redis cannot be reached, so the other servers are not told yet; the demo needs it"),
        }
    }
}

impl std::error::Error for FleetCacheError {}

impl From<NoAnswer> for FleetCacheError {
    fn from(error: NoAnswer) -> Self {
        Self::NoAnswer(error)
    }
}

/// The receipt of an invalidation, as far as it is of interest.
#[derive(Deserialize)]
struct Receipt {
    position: String,
    queued: bool,
    spread: Option<Spread>,
}

#[derive(Deserialize)]
struct Spread {
    instances: Option<usize>,
    lagging: Vec<Json>,
}

impl Spread {
    /// Whether every server of the fleet is known to obey.
    fn is_everywhere(&self, instances: usize) -> bool {
        self.lagging.is_empty() && self.instances.is_some_and(|known| known >= instances)
    }
}

impl FleetCache {
    /// The demo's view of the servers at these addresses.
    pub fn over(addrs: &[SocketAddr], market: &Arc<Market>) -> Self {
        let fleet = Shared {
            clients: addrs.iter().map(|addr| Client::new(*addr)).collect(),
            market: Arc::clone(market),
            last: Mutex::new(None),
            updates: AtomicU64::new(0),
            settled: AtomicU64::new(0),
            reads_elsewhere: AtomicU64::new(0),
            propagation: Mutex::default(),
        };
        Self { fleet: Arc::new(fleet), held_to: HeldTo::Acknowledged, next: AtomicUsize::new(0) }
    }

    /// What was found beside what readers and feeds count.
    pub fn report(&self) -> FleetReport {
        let propagation = self.fleet.propagation.lock();
        let micros = |share| propagation.quantile(share).map_or(0.0, |time| time.as_secs_f64() * 1e6);
        FleetReport {
            instances: self.fleet.clients.len() as u64,
            cross_instance_reads_checked: self.fleet.reads_elsewhere.load(Ordering::Relaxed),
            changes_settled: self.fleet.settled.load(Ordering::Relaxed),
            propagation_p50_us: micros(0.5),
            propagation_p99_us: micros(0.99),
        }
    }

    async fn read<V: DemoValue>(&self, key: &Key, source: &Arc<Source>) -> Result<Answer<Box<V>>, FleetCacheError> {
        let instance = self.next.fetch_add(1, Ordering::Relaxed) % self.fleet.clients.len();
        // Taken after what the read is held to, so that it covers it.
        let position =
            (self.held_to == HeldTo::Acknowledged).then(|| self.fleet.last.lock().map(|position| position.to_string())).flatten();
        let client = &self.fleet.clients[instance];
        let path = format!("/v1/entries/{}", key.name);
        let mut headers = Vec::new();
        headers.extend(position.as_deref().map(|position| ("larder-at-least", position)));
        let reply = client.ask("GET", &path, &headers, "").await?;
        let answer = match reply.status.as_u16() {
            200 => found(&reply)?,
            404 => {
                let token = reply.header("larder-fill").ok_or_else(|| strange("a miss without a token", &reply))?;
                fill(client, &path, self.fleet.tags(key), token, Arc::clone(source).load::<V>(key.id).await).await?
            }
            _ => return Err(refused(&reply)),
        };
        if instance != WRITER {
            self.fleet.reads_elsewhere.fetch_add(1, Ordering::Relaxed);
        }
        Ok(answer)
    }
}

/// The value of a hit, and the tier that had it.
fn found<V: DemoValue>(reply: &Reply) -> Result<Answer<Box<V>>, FleetCacheError> {
    let value = serde_json::from_slice(&reply.body).map_err(|error| strange(&error.to_string(), reply))?;
    let from_memory = reply.header("cache-status").is_some_and(|status| status.ends_with("memory"));
    Ok(Answer { value: Box::new(value), served: if from_memory { Served::Memory } else { Served::Backing } })
}

/// Fills a miss with what the source says. The value serves this read whether it is kept or not: the source was read after
/// the read began.
async fn fill<V: DemoValue>(client: &Client, path: &str, tags: String, token: &str, value: V) -> Result<Answer<Box<V>>, FleetCacheError> {
    let body = serde_json::to_vec(&value).expect("the demo's values are finite numbers and texts");
    let headers = [("content-type", "application/json"), ("cache-tag", tags.as_str()), ("larder-fill", token)];
    let filled = client.ask("PUT", path, &headers, body).await?;
    match filled.status.as_u16() {
        // Kept; or something that it depends on has changed meanwhile, or the log has begun anew.
        204 | 409 | 412 => Ok(Answer { value: Box::new(value), served: Served::Loaded }),
        _ => Err(refused(&filled)),
    }
}

impl Shared {
    /// What the value of a key is made from.
    fn tags(&self, key: &Key) -> String {
        let symbol = self.market.name(key.symbol);
        match key.kind {
            Kind::Features => format!("symbol:{symbol}"),
            Kind::Prediction(model) => format!("symbol:{symbol},model:{}", model.line()),
        }
    }

    /// Tells the writer of a change, by tag or by pattern, whichever it is the turn of.
    async fn update(&self, tag: String, patterns: Vec<String>) -> Result<Told, FleetCacheError> {
        let turn = self.updates.fetch_add(1, Ordering::Relaxed);
        let names = if turn.is_multiple_of(2) { json!({ "tags": [tag] }) } else { json!({ "patterns": patterns }) };
        // Every two turns, so that each way of naming meets each way of knowing.
        let asks_who_obeys = (turn / 2).is_multiple_of(2);
        let path = if asks_who_obeys {
            format!("/v1/invalidations?applied_everywhere={}ms", SETTLE.as_millis())
        } else {
            "/v1/invalidations".to_owned()
        };
        let reply = self.clients[WRITER].ask("POST", &path, &[("content-type", "application/json")], names.to_string()).await?;
        if !reply.status.is_success() {
            return Err(refused(&reply));
        }
        let receipt: Receipt = serde_json::from_slice(&reply.body).map_err(|error| strange(&error.to_string(), &reply))?;
        if receipt.queued {
            return Err(FleetCacheError::Queued);
        }
        let position: Position = receipt.position.parse().map_err(|_| strange("a receipt without a position", &reply))?;
        self.reached(position);
        let everywhere = receipt.spread.is_some_and(|spread| spread.is_everywhere(self.clients.len()));
        self.settled.fetch_add(u64::from(everywhere), Ordering::Relaxed);
        Ok(Told { invalidations: 1, unsettled: (!everywhere).then_some(position) })
    }

    /// Keeps the last position. One of another epoch takes the place of what was before the log began anew.
    fn reached(&self, position: Position) {
        let mut last = self.last.lock();
        if last.is_none_or(|last| position.partial_cmp(&last).is_none_or(|order| order.is_gt())) {
            *last = Some(position);
        }
    }

    /// Whether a server answers at a position; waits for it.
    async fn obeys(&self, instance: usize, position: &str) -> Result<bool, FleetCacheError> {
        let wait = SETTLE.as_millis().to_string();
        let headers = [("content-type", "application/json"), ("larder-at-least", position), ("larder-wait-ms", &wait)];
        let reply = self.clients[instance].ask("POST", "/v1/entries/get", &headers, r#"{"keys":[]}"#).await?;
        match reply.status.as_u16() {
            200 => Ok(true),
            504 | 412 => Ok(false),
            _ => Err(refused(&reply)),
        }
    }

    /// Whether all other servers answer at a position, asked at the same time.
    async fn all_obey(self: &Arc<Self>, position: Position) -> Result<bool, FleetCacheError> {
        let (began, position) = (Instant::now(), Arc::<str>::from(position.to_string()));
        let mut asked = JoinSet::new();
        for instance in (0..self.clients.len()).filter(|instance| *instance != WRITER) {
            let (fleet, position) = (Arc::clone(self), Arc::clone(&position));
            asked.spawn(async move {
                let obeys = fleet.obeys(instance, &position).await?;
                Ok::<_, FleetCacheError>((obeys, began.elapsed()))
            });
        }
        let mut all = true;
        while let Some(answered) = asked.join_next().await {
            let (obeys, took) = answered.map_err(|error| FleetCacheError::Strange(format!("a question broke: {error}")))??;
            all &= obeys;
            self.propagation.lock().record(took);
        }
        self.settled.fetch_add(u64::from(all), Ordering::Relaxed);
        Ok(all)
    }
}

fn refused(reply: &Reply) -> FleetCacheError {
    let problem: Json = serde_json::from_slice(&reply.body).unwrap_or_default();
    let detail = problem["detail"].as_str().map(|detail| format!(": {detail}")).unwrap_or_default();
    FleetCacheError::Refused(format!("a server of the fleet answered {}{detail}", reply.status))
}

fn strange(what: &str, reply: &Reply) -> FleetCacheError {
    FleetCacheError::Strange(format!("a server of the fleet answered {} with what makes no sense: {what}", reply.status))
}

impl DemoCache for FleetCache {
    type Held<V: DemoValue> = Box<V>;
    type Error = FleetCacheError;

    async fn features(&self, key: &Key, source: &Arc<Source>) -> Result<Answer<Box<Features>>, FleetCacheError> {
        self.read(key, source).await
    }

    async fn prediction(&self, key: &Key, source: &Arc<Source>) -> Result<Answer<Box<Prediction>>, FleetCacheError> {
        self.read(key, source).await
    }

    async fn on_bar(&self, symbol: SymbolId) -> Result<Told, FleetCacheError> {
        let ticker = self.fleet.market.name(symbol);
        let patterns = ["features", "prediction"].map(|namespace| format!("{namespace}:{ticker}:**"));
        self.fleet.update(format!("symbol:{ticker}"), patterns.into()).await
    }

    async fn on_model(&self, model: ModelId) -> Result<Told, FleetCacheError> {
        let line = model.line();
        self.fleet.update(format!("model:{line}"), vec![format!("prediction:*:*:{line}")]).await
    }

    async fn settle(&self, position: Position) -> Result<bool, FleetCacheError> {
        self.fleet.all_obey(position).await
    }

    /// Every other reader names the position of the last receipt; the others take what there is.
    fn for_reader(self: &Arc<Self>, number: u64) -> Arc<Self> {
        let held_to = if number.is_multiple_of(2) { HeldTo::Acknowledged } else { HeldTo::Settled };
        // Begun at different servers, so that they do not go round in step.
        let next = AtomicUsize::new(usize::try_from(number / 2).unwrap_or(0));
        Arc::new(Self { fleet: Arc::clone(&self.fleet), held_to, next })
    }

    fn held_to(&self) -> HeldTo {
        self.held_to
    }
}
