//! Taking what a demo put into somebody's Redis out again. A demo ends with servers that have told Redis that they leave, so
//! nobody writes under the prefix any more.

use std::collections::BTreeMap;
use std::error::Error;
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use tokio::time::timeout;

use crate::config::RedisAddress;

/// How long it may take: the demo has a few thousand keys, and a Redis may have many more to look through.
const PATIENCE: Duration = Duration::from_secs(30);
/// Keys looked at in one step; Redis answers others between two.
const STEP: usize = 1_000;

/// Removes all keys of a prefix. Where it cannot, it says which are left, and goes on: the demo has done what it was for.
pub async fn sweep(address: &str, prefix: &str) {
    let swept = match timeout(PATIENCE, swept(address, prefix)).await {
        Ok(swept) => swept.map_err(|error| error.to_string()),
        Err(_) => Err(format!("not all were found within {PATIENCE:?}")),
    };
    if let Err(why) = swept {
        eprintln!("larder: keys with {prefix} in their name are left in Redis, most for an hour and those of the log for good: {why}");
    }
}

async fn swept(address: &str, prefix: &str) -> Result<(), Box<dyn Error + Send + Sync>> {
    let environment: BTreeMap<String, String> =
        std::env::vars_os().filter_map(|(name, text)| Some((name.into_string().ok()?, text.into_string().ok()?))).collect();
    let url = RedisAddress::parse(address).map(|address| address.resolve(&environment)).transpose()?.unwrap_or_default();
    let one_server = ["redis://", "unix://"].into_iter().any(|scheme| url.starts_with(scheme));
    if !one_server {
        return Err("the demo removes them only where it talks to one server without TLS".into());
    }
    let mut connection = redis::Client::open(url)?.get_multiplexed_async_connection().await?;
    let mut cursor = 0;
    loop {
        let (next, keys) = page(&mut connection, cursor, prefix).await?;
        if !keys.is_empty() {
            redis::cmd("UNLINK").arg(&keys).query_async::<()>(&mut connection).await?;
        }
        cursor = next;
        if cursor == 0 {
            return Ok(());
        }
    }
}

/// Both the log's keys, which have braces around it, and the entries' have the prefix in their names. It is random, so that
/// nobody else's have.
async fn page(connection: &mut MultiplexedConnection, cursor: u64, prefix: &str) -> redis::RedisResult<(u64, Vec<Vec<u8>>)> {
    redis::cmd("SCAN").arg(cursor).arg("MATCH").arg(format!("*{prefix}*")).arg("COUNT").arg(STEP).query_async(connection).await
}
