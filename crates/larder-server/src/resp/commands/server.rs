//! The server: `INFO`, `CONFIG`, `DBSIZE`, `FLUSHALL`, `TIME`.

use std::sync::atomic::Ordering::Relaxed;

use larder::{Cursor, KEYS_PAGE_MAX, Names};

use super::clients::REDIS_VERSION;
use super::{Call, Done, Refusal, SYNTAX};
use crate::resp::glob;

/// Keys up to which they are counted one by one.
const COUNTED_MAX: u64 = 10_000;

/// `DBSIZE`: exact where there are not too many; then about, with what was invalidated and is not swept yet
pub async fn dbsize(call: &mut Call<'_>) -> Done {
    let mut keys = call.resp.raw.len();
    let reads_all = call.who().is_none_or(|who| who.reads_all());
    if keys <= COUNTED_MAX || !reads_all {
        keys = 0;
        let mut next = Some(Cursor::start());
        while let Some(cursor) = next {
            let page = call.resp.raw.keys("**", cursor, KEYS_PAGE_MAX).await?;
            keys += page.keys.iter().filter(|key| reads_all || call.may_read(key)).count() as u64;
            next = page.next;
        }
    }
    call.out.integer(keys as i64);
    Ok(())
}

/// `FLUSHALL [ASYNC | SYNC]`, `FLUSHDB`
pub async fn flush(call: &mut Call<'_>) -> Done {
    let is_sound = match call.args.len() {
        1 => true,
        2 => call.is(1, "ASYNC") || call.is(1, "SYNC"),
        _ => false,
    };
    if !is_sound {
        return Err(SYNTAX);
    }
    let receipt = call.resp.larder.invalidate(Names::new().everything()).await?;
    call.session.position = Some(receipt.position());
    call.out.ok();
    Ok(())
}

/// `TIME`
pub fn time(call: &mut Call<'_>) -> Done {
    let now = call.resp.now_ms();
    call.out.array(2);
    call.out.bulk((now / 1_000).to_string().as_bytes());
    call.out.bulk((now % 1_000 * 1_000).to_string().as_bytes());
    Ok(())
}

/// `INFO [section ...]`
pub fn info(call: &mut Call<'_>) -> Done {
    let asked: Vec<String> = call.args.skip(1).iter().map(|word| String::from_utf8_lossy(word).to_lowercase()).collect();
    let all = asked.is_empty() || asked.iter().any(|section| matches!(section.as_str(), "all" | "default" | "everything"));
    let mut text = String::new();
    for (name, lines) in sections(call) {
        if all || asked.iter().any(|section| *section == name.to_lowercase()) {
            let gap = if text.is_empty() { "" } else { "\r\n" };
            text += &format!("{gap}# {name}\r\n");
            lines.iter().for_each(|(name, value)| text += &format!("{name}:{value}\r\n"));
        }
    }
    call.out.verbatim(&text);
    Ok(())
}

type Lines = Vec<(&'static str, String)>;

fn sections(call: &Call<'_>) -> [(&'static str, Lines); 6] {
    let resp = call.resp;
    let stats = resp.larder.stats();
    let now = resp.now_ms();
    let uptime = now.saturating_sub(resp.started_at) / 1_000;
    let [open, opened, refused, _] = resp.clients.counts();
    let [leases, dropped, _] = resp.leases.counts();
    let (hits, misses) =
        stats.namespaces.iter().fold((0, 0), |(hits, misses), space| (hits + space.counts.hits(), misses + space.counts.misses()));
    let sum = |count: fn(&larder::Counts) -> u64| stats.namespaces.iter().map(|space| count(&space.counts)).sum::<u64>().to_string();
    let memory: u64 = stats.namespaces.iter().map(|space| space.bytes).sum();
    let calls: u64 = resp.calls.iter().map(|calls| calls.load(Relaxed)).sum();
    [
        (
            "Server",
            vec![
                ("redis_version", REDIS_VERSION.into()),
                ("larder_version", env!("CARGO_PKG_VERSION").into()),
                ("redis_mode", "standalone".into()),
                ("os", std::env::consts::OS.into()),
                ("process_id", std::process::id().to_string()),
                ("tcp_port", resp.port().to_string()),
                ("uptime_in_seconds", uptime.to_string()),
                ("uptime_in_days", (uptime / 86_400).to_string()),
            ],
        ),
        ("Clients", vec![("connected_clients", open.to_string()), ("maxclients", resp.limits().connections_max.to_string())]),
        ("Memory", vec![("used_memory", memory.to_string()), ("maxmemory_policy", "allkeys-lfu".into())]),
        (
            "Stats",
            vec![
                ("total_connections_received", opened.to_string()),
                ("total_commands_processed", calls.to_string()),
                ("rejected_connections", refused.to_string()),
                ("expired_keys", sum(|counts| counts.expired)),
                ("evicted_keys", sum(|counts| counts.evicted)),
                ("keyspace_hits", hits.to_string()),
                ("keyspace_misses", misses.to_string()),
                ("invalidated_keys", sum(|counts| counts.invalidated)),
                ("miss_leases", leases.to_string()),
                ("miss_leases_dropped", dropped.to_string()),
            ],
        ),
        ("Replication", vec![("role", "master".into()), ("connected_slaves", "0".into())]),
        ("Keyspace", {
            let keys = resp.raw.len();
            if keys == 0 { Vec::new() } else { vec![("db0", format!("keys={keys},expires=0,avg_ttl=0"))] }
        }),
    ]
}

/// What `CONFIG GET` tells.
fn settings(call: &Call<'_>) -> Vec<(&'static str, String)> {
    let limits = call.resp.limits();
    vec![
        ("appendonly", "no".into()),
        ("databases", "1".into()),
        ("maxclients", limits.connections_max.to_string()),
        ("maxmemory", call.resp.larder.stats().memory.capacity.to_string()),
        ("maxmemory-policy", "allkeys-lfu".into()),
        ("notify-keyspace-events", "gxeKEA".into()),
        ("proto-max-bulk-len", call.resp.limits.requests.arg_bytes_max.to_string()),
        ("save", String::new()),
        ("timeout", (limits.idle.as_secs()).to_string()),
        ("tracking-table-max-keys", call.resp.limits.tracked_keys_max.to_string()),
    ]
}

/// `CONFIG GET pattern [pattern ...]`
pub fn config_get(call: &mut Call<'_>) -> Done {
    let patterns: Vec<Vec<u8>> = call.args.skip(2).iter().map(<[u8]>::to_ascii_lowercase).collect();
    let mut told = settings(call);
    told.retain(|(name, _)| patterns.iter().any(|pattern| glob::matches(pattern, name.as_bytes())));
    call.out.map(told.len());
    for (name, value) in told {
        call.out.bulk(name.as_bytes());
        call.out.bulk(value.as_bytes());
    }
    Ok(())
}

/// `CONFIG SET parameter value [parameter value ...]`: all of them, or none
pub fn config_set(call: &mut Call<'_>) -> Done {
    let words: Vec<&[u8]> = call.args.skip(2).iter().collect();
    if !words.len().is_multiple_of(2) {
        return Err(SYNTAX);
    }
    let mut limits = call.resp.limits();
    let mut memory = None;
    for pair in words.chunks_exact(2) {
        let name = String::from_utf8_lossy(pair[0]).to_lowercase();
        let number = crate::resp::frame::integer(pair[1]).and_then(|number| u64::try_from(number).ok());
        let wrong = |why: &str| Refusal::of(format!("ERR CONFIG SET failed (possibly related to argument '{name}') - {why}"));
        let number = number.ok_or_else(|| wrong("argument couldn't be parsed into an integer"));
        match name.as_str() {
            "timeout" => limits.idle = std::time::Duration::from_secs(number?),
            "maxclients" => limits.connections_max = number?.clamp(1, u32::MAX.into()) as u32,
            "maxmemory" => memory = Some((number?, name.clone())),
            name if settings(call).iter().any(|(known, _)| *known == name) => return Err(wrong("can't set immutable config")),
            name => return Err(Refusal::of(format!("ERR Unknown option or number of arguments for CONFIG SET - '{name}'"))),
        }
    }
    if let Some((bytes, name)) = memory {
        let failed = |error| Refusal::of(format!("ERR CONFIG SET failed (possibly related to argument '{name}') - {error}"));
        call.resp.larder.resize_memory(bytes).map_err(failed)?;
    }
    call.resp.set_limits(limits);
    call.out.ok();
    Ok(())
}
