//! An outbox in PostgreSQL.

use larder::events::Following;
use larder::events::source::PostgresOutbox;
use larder::{Larder, RedisOptions};
use larder_testkit::postgres::Postgres;
use larder_testkit::redis::{Server, ServerOptions, or_skip};
use tokio_postgres::Client;

use crate::broker::connect;
use crate::support::*;

const TABLE: &str = "larder_outbox";

async fn server() -> Option<(Postgres, Client)> {
    let server = or_skip(tokio::task::block_in_place(Postgres::start))?;
    let client = connect(&server.url()).await.expect("it answers");
    client.batch_execute(&PostgresOutbox::install_sql(TABLE).unwrap()).await.expect("it can be installed");
    Some((server, client))
}

fn follow(larder: &Larder, server: &Postgres) -> Following {
    larder.follow(PostgresOutbox::new(&server.url(), TABLE).expect("it is one"))
}

async fn rows(client: &Client) -> i64 {
    client.query_one(&format!("SELECT count(*) FROM {TABLE}"), &[]).await.unwrap().get(0)
}

/// As README has it.
const TRIGGER: &str = r"
    CREATE TABLE prices (symbol text PRIMARY KEY, price numeric NOT NULL);
    CREATE FUNCTION prices_changed() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
      INSERT INTO larder_outbox (event) VALUES (jsonb_build_object(
        'specversion', '1.0', 'id', gen_random_uuid(), 'source', 'shop/prices', 'type', 'market_data_update',
        'subject', coalesce(NEW.symbol, OLD.symbol), 'data', jsonb_build_object('symbol', coalesce(NEW.symbol, OLD.symbol))));
      RETURN NULL;
    END $$;
    CREATE TRIGGER prices_changed AFTER INSERT OR UPDATE OR DELETE ON prices FOR EACH ROW EXECUTE FUNCTION prices_changed();
";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_takes_out_what_depends_on_it_when_it_commits() {
    let Some((server, mut client)) = server().await else { return };
    client.batch_execute(TRIGGER).await.unwrap();
    let larder = builder().build().await.unwrap();
    let following = follow(&larder, &server);
    until_stats(&following, "it is there", |stats| stats.gaps == 1).await;
    let features = larder.namespace::<f64>("features").unwrap();
    for symbol in ["AAPL:5m", "MSFT:5m"] {
        features.put(symbol, 1.0).await.unwrap();
    }
    let transaction = client.transaction().await.unwrap();
    transaction.execute("INSERT INTO prices VALUES ('AAPL', 1)", &[]).await.unwrap();
    assert!(features.get("AAPL:5m").await.unwrap().is_some());
    transaction.commit().await.unwrap();
    until_stats(&following, "the event", |stats| stats.acknowledged == 1).await;
    assert!(features.get("AAPL:5m").await.unwrap().is_none() && features.get("MSFT:5m").await.unwrap().is_some());
    let transaction = client.transaction().await.unwrap();
    transaction.execute("DELETE FROM prices", &[]).await.unwrap();
    transaction.rollback().await.unwrap();
    client.execute(&format!("INSERT INTO {TABLE} (event) VALUES ('[]')"), &[]).await.unwrap();
    until_stats(&following, "what is no event", |stats| stats.acknowledged == 2).await;
    assert_eq!((following.stats().dead, larder.dead_letters().len(), rows(&client).await), (1, 1, 0));
}

/// Numbers are drawn before a transaction commits: whoever reads on from the highest that he has seen loses the first of these.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_row_that_commits_after_one_with_a_higher_number_is_not_lost() {
    let Some((server, mut late)) = server().await else { return };
    let early = connect(&server.url()).await.unwrap();
    let larder = builder().build().await.unwrap();
    let following = follow(&larder, &server);
    until_stats(&following, "it is there", |stats| stats.gaps == 1).await;
    let add = format!("INSERT INTO {TABLE} (event) VALUES ($1::text::jsonb) RETURNING id");
    let transaction = late.transaction().await.unwrap();
    let first: i64 = transaction.query_one(&add, &[&event(1, 1)]).await.unwrap().get(0);
    let second: i64 = early.query_one(&add, &[&event(2, 2)]).await.unwrap().get(0);
    assert!(first < second);
    until_stats(&following, "the one that has committed", |stats| stats.acknowledged == 1).await;
    put(&larder, 1).await;
    transaction.commit().await.unwrap();
    until_stats(&following, "the other", |stats| stats.acknowledged == 2).await;
    assert!(!has(&larder, 1).await);
    assert_eq!(rows(&early).await, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_is_no_gap_and_a_replica_that_takes_over_is_one() {
    let Some((server, client)) = server().await else { return };
    let larder = builder().build().await.unwrap();
    let following = follow(&larder, &server);
    // Past the first gap, of which the database knows only when the source has gone on behind it.
    let add = format!("INSERT INTO {TABLE} (event) VALUES ($1::text::jsonb)");
    client.execute(&add, &[&event(0, 1)]).await.unwrap();
    until_stats(&following, "it is there", |stats| stats.acknowledged == 1).await;
    drop(client);
    tokio::task::block_in_place(|| server.restart());
    let client = connect(&server.url()).await.unwrap();
    client.execute(&add, &[&event(1, 1)]).await.unwrap();
    until_stats(&following, "it goes on", |stats| stats.acknowledged == 2).await;
    assert_eq!(following.stats().gaps, 1);
    put(&larder, 7).await;
    tokio::task::block_in_place(|| server.promote());
    until_stats(&following, "another history", |stats| stats.gaps == 2).await;
    assert!(!has(&larder, 7).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_of_several_follows_and_another_takes_over() {
    let Some((server, client)) = server().await else { return };
    let Some(log) = or_skip(Server::start(ServerOptions::default())) else { return };
    let shared = || builder().redis(RedisOptions::parse(&log.url()).unwrap());
    let (a, b) = (shared().build().await.unwrap(), shared().build().await.unwrap());
    let first = follow(&a, &server);
    until_stats(&first, "it is there", |stats| stats.gaps == 1).await;
    let second = follow(&b, &server);
    until_stats(&second, "it stands by", |stats| stats.standby).await;
    let add = format!("INSERT INTO {TABLE} (event) VALUES ($1::text::jsonb)");
    client.execute(&add, &[&event(1, 1)]).await.unwrap();
    until_stats(&first, "the first one has it", |stats| stats.acknowledged == 1).await;
    first.stop().await;
    client.execute(&add, &[&event(1, 1)]).await.unwrap();
    client.execute(&add, &[&event(2, 1)]).await.unwrap();
    until_stats(&second, "the second one has both", |stats| stats.acknowledged == 2).await;
    assert_eq!((second.stats().duplicates, second.stats().gaps, rows(&client).await), (1, 0, 0));
}
