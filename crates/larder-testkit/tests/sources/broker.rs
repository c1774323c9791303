//! The servers that events come from, as the proof needs them: to be filled, asked and killed.

use std::time::Duration;

use larder::Larder;
use larder::RedisOptions;
use larder::events::source::{PostgresOutbox, RedisStream};
use larder::events::{FollowOptions, Following};
use larder_testkit::postgres::Postgres;
use larder_testkit::redis::{AppendOnly, Server, ServerOptions, or_skip};
use tokio_postgres::{Client, NoTls};

const TABLE: &str = "larder_outbox";
const STREAM: &str = "proof";
const GROUP: &str = "cache";

/// How long the broker may take to answer who fills it.
const LIMIT: Duration = Duration::from_secs(5);

pub enum Broker {
    Redis(Box<Server>),
    Postgres(Box<Postgres>),
}

/// Which one a child has to follow.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Kind {
    Redis,
    Postgres,
}

/// A connection to fill it by.
pub enum Filler {
    Redis(redis::aio::MultiplexedConnection),
    Postgres(Client),
}

impl Broker {
    pub async fn start(kind: Kind) -> Option<Self> {
        match kind {
            Kind::Redis => {
                let options = ServerOptions { append_only: AppendOnly::Always, ..ServerOptions::default() };
                Some(Broker::Redis(Box::new(or_skip(Server::start(options))?)))
            }
            Kind::Postgres => {
                let server = or_skip(tokio::task::block_in_place(Postgres::start))?;
                let client = connect(&server.url()).await.expect("it answers");
                client.batch_execute(&PostgresOutbox::install_sql(TABLE).expect("a name")).await.expect("it can be installed");
                Some(Broker::Postgres(Box::new(server)))
            }
        }
    }

    pub fn url(&self) -> String {
        match self {
            Broker::Redis(server) => server.url(),
            Broker::Postgres(server) => server.url(),
        }
    }

    pub fn kill(&self) {
        match self {
            Broker::Redis(server) => server.kill(),
            Broker::Postgres(server) => server.kill(),
        }
    }

    pub fn restart(&self) {
        match self {
            Broker::Redis(server) => server.restart(true),
            Broker::Postgres(server) => server.restart(),
        }
    }

    /// Whether everything that is in it was read and acknowledged.
    pub async fn is_drained(&self) -> bool {
        match self {
            Broker::Redis(server) => {
                let ask = |words: &[&str]| server.command(words).ok();
                let pending = ask(&["XPENDING", STREAM, GROUP]).and_then(|reply| reply.items().first()?.number());
                let groups = ask(&["XINFO", "GROUPS", STREAM]);
                let read_to = groups.as_ref().and_then(|groups| groups.items().first()?.field("last-delivered-id"));
                let last = ask(&["XINFO", "STREAM", STREAM]).and_then(|stream| stream.field("last-generated-id"));
                pending == Some(0) && last.is_some() && last == read_to
            }
            Broker::Postgres(_) => match self.filler().await {
                Some(Filler::Postgres(client)) => {
                    let count = client.query_one(&format!("SELECT count(*) FROM {TABLE}"), &[]).await;
                    count.is_ok_and(|row| row.get::<_, i64>(0) == 0)
                }
                _ => false,
            },
        }
    }

    /// A connection, if it answers.
    pub async fn filler(&self) -> Option<Filler> {
        match self {
            Broker::Redis(server) => {
                let client = redis::Client::open(server.url()).ok()?;
                let config = redis::AsyncConnectionConfig::new().set_connection_timeout(Some(LIMIT)).set_response_timeout(Some(LIMIT));
                client.get_multiplexed_async_connection_with_config(&config).await.ok().map(Filler::Redis)
            }
            Broker::Postgres(server) => connect(&server.url()).await.map(Filler::Postgres),
        }
    }
}

impl Filler {
    /// Adds events in this order. False: nobody knows which were added.
    pub async fn add(&mut self, events: &[String]) -> bool {
        match self {
            Filler::Redis(connection) => {
                let mut all = redis::pipe();
                for event in events {
                    all.cmd("XADD").arg(STREAM).arg("*").arg("event").arg(event).ignore();
                }
                let added: redis::RedisResult<()> = all.query_async(connection).await;
                added.is_ok()
            }
            Filler::Postgres(client) => {
                let add = format!(
                    "INSERT INTO {TABLE} (event) SELECT event::jsonb FROM unnest($1::text[]) WITH ORDINALITY AS e (event, n) ORDER BY n"
                );
                matches!(tokio::time::timeout(LIMIT, client.execute(&add, &[&events])).await, Ok(Ok(_)))
            }
        }
    }
}

/// Follows a broker, in the child.
pub fn follow(larder: &Larder, kind: Kind, url: &str) -> Following {
    let options = FollowOptions::default();
    let following = match kind {
        Kind::Redis => {
            // By its name it is the same one after it was killed, and has its lease at once.
            let redis = RedisOptions::parse(url).expect("it is one").instance("the child");
            larder.follow_with(RedisStream::new(redis, STREAM, GROUP).expect("names"), options)
        }
        Kind::Postgres => larder.follow_with(PostgresOutbox::new(url, TABLE).expect("an address"), options),
    };
    following.expect("options that make sense")
}

/// A connection of its own, whose task ends with it.
pub async fn connect(url: &str) -> Option<Client> {
    let (client, connection) = tokio::time::timeout(LIMIT, tokio_postgres::connect(url, NoTls)).await.ok()?.ok()?;
    // That it has ended whoever uses the client is told.
    tokio::spawn(async move { drop(connection.await) });
    Some(client)
}
