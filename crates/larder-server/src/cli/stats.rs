//! `larder stats`: how a running server does, in a few small tables.

use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Subcommand};
use comfy_table::presets::NOTHING;
use comfy_table::{Cell, CellAlignment, LineStyle, Table};
use serde_json::Value as Json;

use super::client::{Client, ServerArgs};
use super::failure::Failure;
use super::output::{Output, plural};
use crate::config::units::roughly;
use crate::demo::{count, percent};
use crate::moment::date_and_time;

/// Show what a server has counted, and how full it is
#[derive(Debug, Args)]
#[command(
    args_conflicts_with_subcommands = true,
    after_help = "\
Examples:
  larder stats
  larder stats --all                 since the server began, whatever was reset
  larder stats --json                every counter and latency
  larder stats reset                 from here on, count anew

A reset begins a new window for this command alone: what Prometheus reads at /metrics goes on. Misses are told apart: absent
was never there, expired is past its time, invalidated was made stale by a change."
)]
pub struct StatsArgs {
    #[command(flatten)]
    server: ServerArgs,
    /// What was counted since the server began, not only since the last reset
    #[arg(long)]
    all: bool,
    #[command(subcommand)]
    what: Option<What>,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Begin a new window
    Reset {
        #[command(flatten)]
        server: ServerArgs,
    },
}

/// Carries out `larder stats`.
pub fn stats(args: &StatsArgs, out: Output) -> Result<ExitCode, Failure> {
    if let Some(What::Reset { server }) = &args.what {
        let client = Client::new(server)?;
        let answer = client.json(client.send("POST", "/v1/stats/reset", &[], Vec::new())?)?;
        out.say(&answer, || format!("a new window begins; the last one was {}", stretch(&answer["ended"])))?;
        return Ok(ExitCode::SUCCESS);
    }
    let since = if args.all { "start" } else { "reset" };
    let stats = Client::new(&args.server)?.get_json(&format!("/v1/stats?since={since}"))?;
    out.say(&stats, || told(&stats))?;
    Ok(ExitCode::SUCCESS)
}

fn told(stats: &Json) -> String {
    let all = if stats["window"]["reset"] == true { "; --all has what came before" } else { "" };
    let window = line("window", &format!("{}{all}", stretch(&stats["window"])));
    format!("{window}\n{}\n\n{}\n\n{}\n\n{}", whole(stats), summary(stats), times(&stats["total"]["latencies"]), namespaces(stats))
}

/// `2 h 5 min, since a reset at 2026-11-26 09:30:00 UTC`.
fn stretch(window: &Json) -> String {
    let length = Duration::from_millis(number(&window["length_ms"]));
    let event = if window["reset"] == true { "a reset" } else { "the server began" };
    format!("{}, since {event} at {} UTC", long_time(length), date_and_time(number(&window["began_ms"])))
}

/// A time in the two largest units that it has.
fn long_time(time: Duration) -> String {
    let seconds = time.as_secs();
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3_600 % 24, seconds / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds} s"),
        (0, 0, _) => format!("{minutes} min {} s", seconds % 60),
        (0, ..) => format!("{hours} h {minutes} min"),
        _ => format!("{} {hours} h", plural(days, "day")),
    }
}

/// What came of all reads, and what each tier did for them.
fn summary(stats: &Json) -> Table {
    let total = &stats["total"];
    let mut table = table(&["", "reads", "hits", "misses", "errors", "sets"]);
    let counted = |json: &Json| count(number(json));
    let rate = |name: &str| total[name].as_f64().map_or_else(|| "-".to_owned(), percent);
    table.add_row(cells([
        "all".into(),
        counted(&total["requests"]),
        counted(&total["hits"]),
        counted(&total["misses"]),
        counted(&total["errors"]),
        String::new(),
    ]));
    table.add_row(cells(["share".into(), String::new(), rate("hit_rate"), rate("miss_rate"), rate("error_rate"), String::new()]));
    let backing = stats["backing"]["name"].as_str();
    for (tier, name) in [("memory", Some("memory")), ("backing", backing)] {
        let (Some(name), tier) = (name, &total["tiers"][tier]) else { continue };
        let [hits, misses, sets] = ["hits", "misses", "sets"].map(|name| counted(&tier[name]));
        table.add_row(cells([name.into(), String::new(), hits, misses, String::new(), sets]));
    }
    table
}

/// How long reads and loads took.
fn times(latencies: &Json) -> Table {
    let mut table = table(&["time", "mean", "p50", "p90", "p99", "p99.9"]);
    for (what, name) in [("all reads", "total"), ("hits", "hit"), ("misses", "miss"), ("errors", "error"), ("loads", "load")] {
        let one = &latencies[name];
        if number(&one["count"]) > 0 || what == "all reads" {
            let [mean, p50, p90, p99, p99_9] = ["mean_us", "p50_us", "p90_us", "p99_us", "p99_9_us"].map(|name| short_time(&one[name]));
            table.add_row(cells([what.into(), mean, p50, p90, p99, p99_9]));
        }
    }
    table
}

/// Microseconds, in the unit that suits them.
fn short_time(us: &Json) -> String {
    match us.as_f64() {
        None => "-".to_owned(),
        Some(us) if us < 1.0 => format!("{:.0} ns", us * 1e3),
        Some(us) if us < 1e3 => format!("{us:.1} µs"),
        Some(us) if us < 1e6 => format!("{:.1} ms", us / 1e3),
        Some(us) => format!("{:.1} s", us / 1e6),
    }
}

fn table(headings: &[&str]) -> Table {
    let mut table = Table::new();
    // Numbers under each other need no lines between them.
    table.load_style(NOTHING.header_separator(LineStyle::none().fill('─').junction('─')));
    let mut headings = headings.iter().map(Cell::new);
    let first = headings.next();
    table.set_header(first.into_iter().chain(headings.map(|cell| cell.set_alignment(CellAlignment::Right))));
    table
}

/// A name, and numbers under each other.
fn cells<const N: usize>(texts: [String; N]) -> Vec<Cell> {
    let place = |(at, text): (usize, String)| {
        let cell = Cell::new(text);
        if at == 0 { cell } else { cell.set_alignment(CellAlignment::Right) }
    };
    texts.into_iter().enumerate().map(place).collect()
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
    lines.extend(process(&stats["server"]["process"]).map(|text| line("process", &text)));
    lines.join("\n")
}

fn line(name: &str, text: &str) -> String {
    format!("{name:<8}{text}")
}

fn memory(memory: &Json) -> String {
    let (used, capacity) = (number(&memory["bytes"]), number(&memory["capacity_bytes"]));
    format!("{}, {} of {}", plural(number(&memory["entries"]), "entry"), roughly(used), roughly(capacity))
}

/// The memory of the process, where something bounds it.
fn process(process: &Json) -> Option<String> {
    let budget = process["budget"].as_u64()?;
    let share = process["share"].as_f64().unwrap_or(1.0);
    let squeezed = if share < 1.0 { format!("; pools use {} of their size", percent(share)) } else { String::new() };
    Some(format!("{} of {}{squeezed}", roughly(number(&process["resident"])), roughly(budget)))
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
        return format!("{}{state}", plural(number(&backing["errors"]), "error"));
    }
    let (bytes, on_disk) = (roughly(number(&backing["bytes"])), roughly(number(&backing["bytes_on_disk"])));
    format!("{}, {bytes} ({on_disk} on disk){state}", plural(number(&backing["entries"]), "entry"))
}

fn log(log: &Json) -> String {
    let state = log["failed"].as_str().map(|reason| format!("; TAKES NO CHANGES: {reason}")).unwrap_or_default();
    format!("{}, position {}{state}", plural(number(&log["appends"]), "append"), log["position"].as_str().unwrap_or("unknown"))
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
    let headings =
        ["namespace", "entries", "bytes", "reads", "hit rate", "memory", "backing", "absent", "expired", "invalidated", "errors", "p99"];
    let mut table = table(&headings);
    let named = stats["namespaces"].as_array().into_iter().flatten();
    let used = named.filter(|one| number(&one["requests"]) + number(&one["entries"]) + number(&one["counts"]["puts"]) > 0);
    for one in used.chain([&stats["total"]]) {
        table.add_row(cells(row(one)));
    }
    table
}

fn row(namespace: &Json) -> [String; 12] {
    let counted = |name: &str| count(number(&namespace["counts"][name]));
    [
        namespace["name"].as_str().unwrap_or("?").to_owned(),
        count(number(&namespace["entries"])),
        roughly(number(&namespace["bytes"])),
        count(number(&namespace["requests"])),
        namespace["hit_rate"].as_f64().map_or_else(|| "-".to_owned(), percent),
        count(number(&namespace["tiers"]["memory"]["hits"])),
        count(number(&namespace["tiers"]["backing"]["hits"])),
        counted("misses_absent"),
        counted("misses_expired"),
        counted("misses_invalidated"),
        counted("errors"),
        short_time(&namespace["latencies"]["total"]["p99_us"]),
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
            "misses": 4, "errors": 1, "miss_rate": 0.4, "error_rate": 0.1,
            "counts": { "hits_memory": 7, "misses_invalidated": 3 },
            "tiers": { "memory": { "hits": 7, "misses": 3, "sets": 2 }, "backing": { "hits": 1, "misses": 2, "sets": 9 } },
            "latencies": { "total": { "count": 10, "mean_us": 1_500.0, "p50_us": 0.21, "p99_us": 2.5e6 }, "load": { "count": 0 } },
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
    fn times_are_told_in_the_unit_that_suits_them() {
        let times = [json!(0.2104), json!(12.34), json!(1_234.5), json!(2.5e6), Json::Null].map(|us| short_time(&us));
        assert_eq!(times, ["210 ns", "12.3 µs", "1.2 ms", "2.5 s", "-"]);
        let long = [0, 61, 3_660, 86_400 + 7_200, 3 * 86_400].map(|seconds| long_time(Duration::from_secs(seconds)));
        assert_eq!(long, ["0 s", "1 min 1 s", "1 h 1 min", "1 day 2 h", "3 days 0 h"]);
    }

    #[test]
    fn the_whole_is_told_with_its_window() {
        let stats = json!({
            "window": { "began_ms": 1_764_149_400_000u64, "length_ms": 3_660_000, "reset": true },
            "total": namespace("total", 10),
            "namespaces": [namespace("features", 10)],
            "memory": { "capacity_bytes": 1 << 20, "bytes": 10, "entries": 1 },
            "backing": { "name": "disk", "entries": 1, "bytes": 10, "bytes_on_disk": 10, "degraded": null, "breaker": "closed" },
            "log": { "position": "abc-7", "appends": 1, "failed": null },
            "index": { "bytes": 1, "false_miss_rate": 0.0 },
        });
        let text = told(&stats);
        for part in [
            "window  1 h 1 min, since a reset at 2025-11-26 09:30:00 UTC; --all",
            "1 entry, 10 B of",
            "1 append, position",
            "40.00 %",
            "1.5 ms",
            "2.5 s",
        ] {
            assert!(text.contains(part), "{part:?} in {text}");
        }
        assert!(!text.contains("loads  "), "what never happened has no line: {text}");
        assert!(text.lines().all(|line| line.chars().count() <= 120), "{text}");
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
