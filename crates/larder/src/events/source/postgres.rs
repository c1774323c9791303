//! Events from a table in PostgreSQL that is written in the transaction of the change itself: an *outbox*. Either both are there
//! or neither, so that no crash comes between the change and its event.
//!
//! # Reading
//!
//! Rows are read in the order of their numbers and deleted once they took effect. `NOTIFY` only wakes the reader: it is lost with a
//! connection, so the table is looked at every second anyway.
//!
//! Numbers are drawn before a transaction commits, and transactions do not commit in that order. Whoever reads on from the highest
//! number that he has seen loses a row that comes late. Nothing is read *on* from anywhere here: what is there and was not deleted
//! is read. And whatever order matters is kept: two changes of one row wait for each other, so the second draws its number, in the
//! trigger, after the first has committed. Refused: reading only below the oldest transaction that is still open
//! (`pg_snapshot_xmin`), which is an order for all rows, that nobody needs, and has every event wait for the longest transaction of
//! the database; and `FOR UPDATE SKIP LOCKED`, by which several readers share a table, and have rows of one partition side by side.
//!
//! # One instance at a time
//!
//! Instances that share a log may follow one table: one has an advisory lock, for as long as its session lives, and the others
//! wait for it. Instances whose logs are their own need tables of their own.
//!
//! # Gaps
//!
//! Rows wait for as long as it takes. What can be lost is the table, or the end of a database's history when a replica takes over
//! or a backup is restored; then readers may have loaded what is not there any more. So a second table (`TABLE_follower`) says of
//! which history the rows were read last; if it is another one, or nothing is there, all that is covered is invalidated.

use std::collections::HashSet;
use std::future::{Future, poll_fn};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::task::AbortHandle;
use tokio_postgres::config::SslMode;
use tokio_postgres::{AsyncMessage, Client, Config, NoTls};
use xxhash_rust::xxh3::xxh3_64;

use super::{Delivery, Fetched, Source};
use crate::error::{Error, ErrorKind, Result};

/// How often the table is looked at, however quiet it is.
const POLL: Duration = Duration::from_secs(1);

/// How long connecting, and a query, may take.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Rows of one read.
const READ_MAX: usize = 512;

/// The longest name that PostgreSQL knows, less what is added to it here.
const NAME_LEN_MAX: usize = 50;

/// An outbox in PostgreSQL: see [`new`](Self::new).
pub struct PostgresOutbox {
    config: Config,
    table: String,
    open: Option<Open>,
}

/// What lasts as long as a connection.
struct Open {
    client: Client,
    /// Woken by a notification, and when the connection has ended.
    woken: Arc<Notify>,
    listening: AbortHandle,
    /// Whether this session has the lock.
    leads: bool,
    /// Whether the rows are of the history that was read last.
    same_history: bool,
    /// Delivered and not deleted yet.
    outstanding: HashSet<i64>,
}

impl Drop for Open {
    fn drop(&mut self) {
        self.listening.abort();
    }
}

impl PostgresOutbox {
    /// Follows the table of this name, perhaps with its schema in front, in a database given as `postgres://user@host/database` or
    /// in the other form that libpq reads. [`install_sql`](Self::install_sql) makes it. The user needs `SELECT` and `DELETE` on it, and
    /// `SELECT`, `INSERT` and `UPDATE` on the table beside it.
    ///
    /// There is no TLS yet: an address that demands it is refused.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidConfig`] for an address or a name that is none. The message does not repeat a password.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> larder::Result<()> {
    /// use larder::events::source::PostgresOutbox;
    /// let larder = larder::Larder::builder().build().await?;
    /// let following = larder.follow(PostgresOutbox::new("postgres://larder@127.0.0.1/shop", "larder_outbox")?);
    /// println!("{:?}", following.stats());
    /// # Ok(()) }
    /// ```
    pub fn new(address: &str, table: impl Into<String>) -> Result<Self> {
        let bad = |why: &str| Error::new(ErrorKind::InvalidConfig, why.to_owned());
        let table = table.into();
        check_table(&table)?;
        // What the parser says may repeat the address.
        let mut config: Config = address.parse().map_err(|_| bad("not an address of PostgreSQL, as postgres://user@host:5432/database"))?;
        if config.get_hosts().is_empty() {
            return Err(bad("an address of PostgreSQL names a host"));
        }
        if config.get_ssl_mode() == SslMode::Require {
            return Err(bad("larder does not speak TLS with PostgreSQL yet: reach it through a tunnel, or without sslmode=require"));
        }
        config.connect_timeout(TIMEOUT).keepalives_idle(Duration::from_secs(30)).application_name("larder");
        Ok(PostgresOutbox { config, table, open: None })
    }

    /// What makes the table, to be run once by its owner. A trigger of your own then adds a row for every change, in the same
    /// transaction: README has one to copy.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidConfig`] for a name that is none.
    pub fn install_sql(table: &str) -> Result<String> {
        check_table(table)?;
        let channel = channel_of(table);
        Ok(format!(
            "CREATE TABLE {table} (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, event jsonb NOT NULL);\n\
             CREATE TABLE {table}_follower (id boolean PRIMARY KEY DEFAULT true CHECK (id), history text NOT NULL);\n\
             CREATE FUNCTION {table}_notify() RETURNS trigger LANGUAGE plpgsql AS\n\
             $$BEGIN PERFORM pg_notify('{channel}', ''); RETURN NULL; END$$;\n\
             CREATE TRIGGER {channel}_notify AFTER INSERT ON {table} FOR EACH STATEMENT EXECUTE FUNCTION {table}_notify();\n"
        ))
    }

    fn opened(&mut self) -> Result<(&mut Open, &str)> {
        let open = self.open.as_mut().ok_or_else(|| Error::of_tier("the outbox is not open"))?;
        Ok((open, &self.table))
    }
}

fn check_table(table: &str) -> Result<()> {
    let is_name = |name: &str| {
        let mut letters = name.bytes();
        let begins = letters.next().is_some_and(|letter| letter.is_ascii_lowercase() || letter == b'_');
        begins
            && name.len() <= NAME_LEN_MAX
            && letters.all(|letter| letter.is_ascii_lowercase() || letter.is_ascii_digit() || letter == b'_')
    };
    if table.split('.').count() <= 2 && table.split('.').all(is_name) {
        return Ok(());
    }
    let message =
        format!("an outbox has a name of small letters, digits and _, at most {NAME_LEN_MAX}, perhaps with the schema and a dot in front");
    Err(Error::new(ErrorKind::InvalidConfig, message))
}

/// What a row that is added is notified as: the table's name without its schema.
fn channel_of(table: &str) -> &str {
    table.rsplit('.').next().unwrap_or(table)
}

fn failed(error: tokio_postgres::Error) -> Error {
    let said = error.as_db_error().map(|said| said.message().to_owned());
    Error::new(ErrorKind::Tier, format!("PostgreSQL failed: {}", said.unwrap_or_else(|| error.to_string()))).with_source(error)
}

/// A server that does not answer must not be waited for: the machine may be gone.
async fn in_time<T>(query: impl Future<Output = std::result::Result<T, tokio_postgres::Error>>) -> Result<T> {
    match tokio::time::timeout(TIMEOUT, query).await {
        Ok(answer) => answer.map_err(failed),
        Err(_) => Err(Error::of_tier("PostgreSQL did not answer in time")),
    }
}

impl Source for PostgresOutbox {
    type Token = i64;

    fn name(&self) -> String {
        format!("postgres {}", self.table)
    }

    async fn open(&mut self) -> Result<()> {
        // The lock goes with the session.
        self.open = None;
        let (client, mut connection) = in_time(self.config.connect(NoTls)).await?;
        let woken = Arc::new(Notify::new());
        let wakes = woken.clone();
        let listening = tokio::spawn(async move {
            loop {
                match poll_fn(|context| connection.poll_message(context)).await {
                    Some(Ok(AsyncMessage::Notification(_))) => wakes.notify_one(),
                    Some(Ok(_)) => {}
                    // Whoever asks next is told.
                    Some(Err(_)) | None => return wakes.notify_one(),
                }
            }
        });
        let listening = listening.abort_handle();
        let open = Open { client, woken, listening, leads: false, same_history: false, outstanding: HashSet::new() };
        let standby: bool = in_time(open.client.query_one("SELECT pg_is_in_recovery()", &[])).await?.get(0);
        if standby {
            return Err(Error::of_tier("this PostgreSQL server is a replica: rows cannot be deleted there"));
        }
        // Before the first look, so that nothing that is added later is overlooked until the next one.
        in_time(open.client.batch_execute(&format!("LISTEN {}", channel_of(&self.table)))).await?;
        self.open = Some(open);
        Ok(())
    }

    async fn fetch(&mut self, max: usize) -> Result<Fetched<i64>> {
        let (open, table) = self.opened()?;
        if !open.leads {
            let lock = xxh3_64(format!("larder:{table}").as_bytes()).cast_signed();
            open.leads = in_time(open.client.query_one("SELECT pg_try_advisory_lock($1)", &[&lock])).await?.get(0);
            if !open.leads {
                return Ok(Fetched::Standby);
            }
        }
        if !open.same_history {
            let ask = format!("SELECT history FROM {table}_follower");
            let known: Option<String> = in_time(open.client.query_opt(&ask, &[])).await?.map(|row| row.get(0));
            let history = history(&open.client, table).await?;
            if known.as_deref() != Some(history.as_str()) {
                let why = match known {
                    None => "the table is followed for the first time, or was made anew",
                    Some(_) => "the database is another one, or was restored, or a replica of it took over",
                };
                return Ok(Fetched::Gap(why.to_owned()));
            }
            open.same_history = true;
        }
        let known: Vec<i64> = open.outstanding.iter().copied().collect();
        let ask = format!("SELECT id, event::text FROM {table} WHERE id <> ALL($1) ORDER BY id LIMIT $2");
        let rows = in_time(open.client.query(&ask, &[&known, &(max.min(READ_MAX) as i64)])).await?;
        let delivery =
            |row: tokio_postgres::Row| Delivery { token: row.get(0), text: row.get::<_, String>(1).into_bytes(), partition: None };
        let deliveries: Vec<_> = rows.into_iter().map(delivery).collect();
        open.outstanding.extend(deliveries.iter().map(|delivery| delivery.token));
        Ok(Fetched::Deliveries(deliveries))
    }

    async fn resume(&mut self) -> Result<()> {
        let (open, table) = self.opened()?;
        let history = history(&open.client, table).await?;
        let note = format!("INSERT INTO {table}_follower (history) VALUES ($1) ON CONFLICT (id) DO UPDATE SET history = excluded.history");
        in_time(open.client.execute(&note, &[&history])).await.map(drop)
    }

    async fn wait(&mut self) -> Result<()> {
        let (open, _) = self.opened()?;
        // Out of time is a look at the table, too.
        drop(tokio::time::timeout(POLL, open.woken.notified()).await);
        Ok(())
    }

    async fn acknowledge(&mut self, done: &[i64]) -> Result<()> {
        let (open, table) = self.opened()?;
        in_time(open.client.execute(&format!("DELETE FROM {table} WHERE id = ANY($1)"), &[&done])).await?;
        done.iter().for_each(|id| {
            open.outstanding.remove(id);
        });
        Ok(())
    }
}

/// Which life of which table in which database this is: the time line is another one after a replica has taken over, or a backup
/// was restored.
async fn history(client: &Client, table: &str) -> Result<String> {
    // The name of the file that is being written begins with the time line. What the control file says of it is the old one until the
    // first checkpoint after a replica took over.
    let ask = "SELECT system_identifier::text || ':' || left(pg_walfile_name(pg_current_wal_lsn()), 8) || ':' \
               || $1::text::regclass::oid::text FROM pg_control_system()";
    Ok(in_time(client.query_one(ask, &[&table])).await?.get(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_table_and_no_address_is_refused_and_passwords_are_not_repeated() {
        for table in ["", "A", "a b", "a;drop", "a.b.c", "1a", ".a", &"a".repeat(51)] {
            assert_eq!(PostgresOutbox::install_sql(table).unwrap_err().kind(), ErrorKind::InvalidConfig, "{table}");
        }
        assert!(PostgresOutbox::install_sql("shop.larder_outbox").unwrap().contains("pg_notify('larder_outbox', '')"));
        for address in ["postgres://u:hunter2@h:port/d", "host=h password=hunter2 port=x", "", "postgres://u:hunter2@h/d?sslmode=require"] {
            let error = PostgresOutbox::new(address, "larder_outbox").err().unwrap();
            assert!(error.kind() == ErrorKind::InvalidConfig && !error.to_string().contains("hunter2"), "{error}");
        }
    }
}
