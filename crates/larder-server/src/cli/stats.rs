//! `larder stats`: how a running server does, in two small tables.

use std::process::ExitCode;

use clap::Args;
use comfy_table::presets::UTF8_HORIZONTAL_ONLY;
use comfy_table::{Cell, CellAlignment, Table};
use serde_json::Value as Json;

use super::client::{Client, ServerArgs};
use super::failure::Failure;
use super::output::{Output, plural};
use crate::config::units::roughly;
use crate::demo::{count, percent};

/// Show what a server has counted, and how full it is
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  larder stats
  larder stats --json                every counter and latency

Misses are told apart: absent was never there, expired is past its time, invalidated was made stale by a change.")]
pub struct StatsArgs {
    #[command(flatten)]
    server: ServerArgs,
}

/// Carries out `larder stats`.
pub fn stats(args: &StatsArgs, out: Output) -> Result<ExitCode, Failure> {
    let stats = Client::new(&args.server)?.get_json("/v1/stats")?;
    out.say(&stats, || format!("{}\n\n{}", whole(&stats), namespaces(&stats)))?;
    Ok(ExitCode::SUCCESS)
}

/// The tiers, the log and the index: a line for each.
fn whole(stats: &Json) -> String {
    let mut lines = vec![line("memory", &memory(&stats["memory"]))];
    lines.push(line(stats["backing"]["name"].as_str().unwrap_or("backing"), &backing(&stats["backing"])));
    lines.push(line("log", &log(&stats["log"])));
    let unverified = number(&stats["total"]["counts"]["unverified"]);
    lines.extend(shared(&stats["log"]["shared"], unverified).map(|text| line("shared", &text)));
    lines.push(line("index", &index(&stats["index"])));
    lines.push(line("events", &events(&stats["events"])));
    lines.extend(needless(stats).map(|text| line("needless", &text)));
    lines.join("\n")
}

fn line(name: &str, text: &str) -> String {
    format!("{name:<8}{text}")
}

fn memory(memory: &Json) -> String {
    let (used, capacity) = (number(&memory["bytes"]), number(&memory["capacity_bytes"]));
    format!("{} entries, {} of {}", count(number(&memory["entries"])), roughly(used), roughly(capacity))
}

fn backing(backing: &Json) -> String {
    if backing.is_null() {
        return "none: entries are in memory only".to_owned();
    }
    let mut state = match backing["degraded"].as_str() {
        Some(reason) => format!("; DEGRADED: {reason}"),
        None => String::new(),
    };
    match backing["breaker"].as_str() {
        Some("open") => state += "; not asked for now, as it failed too often",
        Some("half_open") => state += "; being tried again",
        _ => {}
    }
    let queued = number(&backing["queued_bytes"]);
    if queued > 0 {
        state += &format!("; {} wait to be written", roughly(queued));
    }
    if backing["name"] != "disk" {
        // What others keep there too is not this server's to count.
        return format!("{} errors{state}", count(number(&backing["errors"])));
    }
    let (bytes, on_disk) = (roughly(number(&backing["bytes"])), roughly(number(&backing["bytes_on_disk"])));
    format!("{} entries, {bytes} ({on_disk} on disk){state}", count(number(&backing["entries"])))
}

fn log(log: &Json) -> String {
    let state = log["failed"].as_str().map(|reason| format!("; TAKES NO CHANGES: {reason}")).unwrap_or_default();
    format!("{} appends, position {}{state}", count(number(&log["appends"])), log["position"].as_str().unwrap_or("unknown"))
}

/// How it stands with the log that other servers share; nothing where there is none.
fn shared(shared: &Json, unverified: u64) -> Option<String> {
    let instance = shared["instance"].as_str()?;
    let mut text = format!("as {instance}, heard {} ms ago", count(number(&shared["unheard_for_ms"])));
    if shared["connected"] != true {
        let trouble = shared["trouble"].as_str().unwrap_or("not tried yet");
        text += &format!("; NOT CONNECTED ({trouble}): changes made elsewhere are not known here");
    }
    let (behind, queued) = (number(&shared["behind"]), number(&shared["queued"]));
    if behind > 0 {
        text += &format!("; {} behind", plural(behind, "position"));
    }
    if queued > 0 {
        text += &format!("; {} ({}) to be told to the others", plural(queued, "name"), roughly(number(&shared["queued_bytes"])));
    }
    if unverified > 0 {
        text += &format!("; {} could not be verified", plural(unverified, "answer"));
    }
    let rejected = number(&shared["inbox_rejected"]);
    if rejected > 0 {
        text += &format!("; {} of the inbox could not be understood", plural(rejected, "record"));
    }
    Some(text)
}

fn index(index: &Json) -> String {
    let rate = index["false_miss_rate"].as_f64().unwrap_or(0.0);
    let advice = if rate > 0.01 { "; a larger one pays for itself (setting: index)" } else { "" };
    format!("{}, about {} of entries miss for no reason{advice}", roughly(number(&index["bytes"])), percent(rate))
}

/// What was killed for nothing, and what kills most of it.
fn needless(stats: &Json) -> Option<String> {
    let killed = number(&stats["total"]["counts"]["invalidated_needlessly"]);
    let most = |by: &str| {
        let all = stats["needless"][by].as_object().into_iter().flatten();
        all.map(|(name, killed)| (number(killed), name)).max().map(|(killed, name)| format!("{name} ({})", count(killed)))
    };
    let worst: Vec<String> =
        [("tag", most("tags")), ("rule", most("rules"))].into_iter().filter_map(|(what, most)| Some(format!("{what} {}", most?))).collect();
    let worst = if worst.is_empty() { String::new() } else { format!("; most by {}", worst.join(", ")) };
    (killed > 0).then(|| format!("{} invalidated, and loaded again with the same content{worst}", plural(killed, "entry")))
}

/// What was counted of events, and what deserves a look.
fn events(events: &Json) -> String {
    let of = |name: &str| number(&events[name]);
    let mut text = format!("{} received, {} invalidated", count(of("received")), plural(of("names"), "name"));
    for (name, words) in [
        ("conflated", "conflated"),
        ("duplicates", "duplicates"),
        ("unmatched", "that no rule was for"),
        ("refused", "REFUSED"),
        ("failed", "FAILED"),
        ("unsigned", "refused for want of a signature"),
    ] {
        if of(name) > 0 {
            text += &format!(", {} {words}", count(of(name)));
        }
    }
    if of("dead") + of("dead_dropped") > 0 {
        text += &format!("; {} (see `larder dlq list`)", plural(of("dead"), "dead letter"));
    }
    if of("dead_dropped") > 0 {
        text += &format!(", and {} more that were dropped", count(of("dead_dropped")));
    }
    text
}

fn namespaces(stats: &Json) -> Table {
    let mut table = Table::new();
    table.load_style(UTF8_HORIZONTAL_ONLY);
    let headings =
        ["namespace", "entries", "in memory", "reads", "hit rate", "memory", "disk", "absent", "expired", "invalidated", "p50 hit"];
    table.set_header(headings.into_iter().map(Cell::new));
    let named = stats["namespaces"].as_array().into_iter().flatten();
    let used = named.filter(|one| number(&one["requests"]) + number(&one["entries"]) + number(&one["counts"]["puts"]) > 0);
    for one in used.chain([&stats["total"]]) {
        let mut cells = row(one).into_iter().map(Cell::new);
        let name = cells.next();
        table.add_row(name.into_iter().chain(cells.map(|cell| cell.set_alignment(CellAlignment::Right))));
    }
    table
}

fn row(namespace: &Json) -> [String; 11] {
    let counted = |name: &str| count(number(&namespace["counts"][name]));
    [
        namespace["name"].as_str().unwrap_or("?").to_owned(),
        count(number(&namespace["entries"])),
        roughly(number(&namespace["bytes"])),
        count(number(&namespace["requests"])),
        namespace["hit_rate"].as_f64().map_or_else(|| "-".to_owned(), percent),
        counted("hits_memory"),
        counted("hits_backing"),
        counted("misses_absent"),
        counted("misses_expired"),
        counted("misses_invalidated"),
        namespace["latencies"]["hit_memory"]["p50_us"].as_f64().map_or_else(|| "-".to_owned(), |us| format!("{us:.1} µs")),
    ]
}

fn number(json: &Json) -> u64 {
    json.as_u64().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn namespace(name: &str, requests: u64) -> Json {
        json!({
            "name": name, "requests": requests, "hits": requests, "hit_rate": 0.5, "entries": 1_234, "bytes": 1_536,
            "counts": { "hits_memory": 7, "misses_invalidated": 3 },
            "latencies": { "hit_memory": { "p50_us": 0.21 } },
        })
    }

    #[test]
    fn what_was_killed_for_nothing_is_told_with_what_did_it() {
        let of = |killed: u64, by: Json| needless(&json!({ "total": { "counts": { "invalidated_needlessly": killed } }, "needless": by }));
        assert_eq!(of(0, json!({ "tags": {}, "rules": {} })), None);
        let words = "3 entries invalidated, and loaded again with the same content; most by tag symbol:A (2), rule bars (1)";
        assert_eq!(of(3, json!({ "tags": { "symbol:A": 2, "symbol:B": 1 }, "rules": { "bars": 1 } })).as_deref(), Some(words));
    }

    #[test]
    fn events_tell_what_deserves_a_look() {
        let calm = json!({ "received": 1_234, "names": 1, "refused": 0, "dead": 0, "dead_dropped": 0 });
        assert_eq!(events(&calm), "1,234 received, 1 name invalidated");
        let rough = json!({ "received": 9, "names": 2, "duplicates": 3, "refused": 4, "unsigned": 5, "dead": 1, "dead_dropped": 2 });
        let words = "9 received, 2 names invalidated, 3 duplicates, 4 REFUSED, 5 refused for want of a signature; \
            1 dead letter (see `larder dlq list`), and 2 more that were dropped";
        assert_eq!(events(&rough), words);
    }

    #[test]
    fn what_is_wrong_stands_out() {
        let mut stats = json!({
            "total": namespace("total", 10),
            "namespaces": [namespace("features", 10), { "name": "other", "requests": 0, "entries": 0, "counts": {} }],
            "memory": { "capacity_bytes": 256 << 20, "bytes": 1_536, "entries": 1_234 },
            "backing": { "name": "disk", "entries": 2, "bytes": 10, "bytes_on_disk": 2_048, "degraded": null, "breaker": "closed" },
            "log": { "position": "abc-7", "appends": 7, "failed": null },
            "index": { "bytes": 16 << 20, "false_miss_rate": 0.0 },
        });
        let text = format!("{}\n{}", whole(&stats), namespaces(&stats));
        for part in
            ["1,234 entries, 1.5 KiB of 256.0 MiB", "2 entries, 10 B (2.0 KiB on disk)", "7 appends, position abc-7", "features", "50.00 %"]
        {
            assert!(text.contains(part), "{part:?} in {text}");
        }
        assert!(!text.contains("other") && !text.contains("DEGRADED"), "{text}");
        stats["backing"]["degraded"] = "the disk is full".into();
        stats["log"]["failed"] = "no room".into();
        stats["index"]["false_miss_rate"] = 0.02.into();
        let text = whole(&stats);
        for part in ["DEGRADED: the disk is full", "TAKES NO CHANGES: no room", "larger one"] {
            assert!(text.contains(part), "{part:?} in {text}");
        }
        assert!(!text.contains("shared"), "{text}");
        stats["backing"] = json!({ "name": "redis", "errors": 3, "queued_bytes": 2_048, "degraded": "no answer", "breaker": "open" });
        stats["log"]["shared"] = json!({
            "instance": "a", "connected": false, "trouble": "refused", "unheard_for_ms": 1_234, "behind": 1, "queued": 2, "queued_bytes": 2_048,
        });
        stats["total"]["counts"]["unverified"] = 4.into();
        let text = whole(&stats);
        for part in [
            "redis   3 errors; DEGRADED: no answer; not asked for now, as it failed too often; 2.0 KiB wait to be written",
            "shared  as a, heard 1,234 ms ago; NOT CONNECTED (refused)",
            "1 position behind; 2 names (2.0 KiB) to be told to the others; 4 answers could not be verified",
        ] {
            assert!(text.contains(part), "{part:?} in {text}");
        }
        stats["backing"] = Json::Null;
        assert!(whole(&stats).contains("in memory only"));
    }
}
