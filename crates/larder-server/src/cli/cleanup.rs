//! `larder cleanup`: gives back what nobody needs any more, and says what that was.

use std::io::{IsTerminal, Write};
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use comfy_table::presets::UTF8_HORIZONTAL_ONLY;
use comfy_table::{Cell, CellAlignment, Row, Table};
use larder::{GivenBack, SweptTier};
use serde_json::Value as Json;

use super::NO;
use super::client::{Client, ServerArgs};
use super::failure::Failure;
use super::output::{Output, plain};
use crate::cleanup::cleaner::Standing;
use crate::cleanup::{Report, Room};
use crate::config::units::roughly;
use crate::demo::count;
use crate::progress::Step;

const ROUTE: &str = "/v1/cleanup";

/// How often it is looked how far it is.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// Give back what is expired, stale or kept no longer, and say what that was
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  larder cleanup                 begin one, or join the one under way, and wait for its end
  larder cleanup --no-wait       begin one, and look later with --status
  larder cleanup --status        how far it is, or what the last one gave back
  larder cleanup --cancel        stop it after its next step; what was given back stays so

It goes through memory and the backing tier in small steps with a pause after each, so that nobody waits for it; has the disk tier
compacted; forgets old history, dead letters and audit files. Ctrl-c ends the waiting, not the clean-up. Exits with 1 where a part of
it failed.")]
pub struct CleanupArgs {
    /// Do not wait for its end
    #[arg(long, conflicts_with_all = ["status", "cancel"])]
    no_wait: bool,
    /// Only look how it stands
    #[arg(long, conflicts_with = "cancel")]
    status: bool,
    /// Stop the one that is under way
    #[arg(long)]
    cancel: bool,
    #[command(flatten)]
    server: ServerArgs,
}

/// Carries out `larder cleanup`.
pub fn cleanup(args: &CleanupArgs, out: Output) -> Result<ExitCode, Failure> {
    let client = Client::new(&args.server)?;
    let method = match (args.status, args.cancel) {
        (true, _) => "GET",
        (_, true) => "DELETE",
        _ => "POST",
    };
    let mut json = client.json(client.ask(method, ROUTE)?)?;
    let mut standing = read(&json)?;
    if method == "POST" && !args.no_wait {
        while let Some(step) = &standing.running {
            show_progress(step, out)?;
            std::thread::sleep(LOOK_EVERY);
            json = client.get_json(ROUTE)?;
            standing = read(&json)?;
        }
        clear_progress(out)?;
    }
    out.say(&json, || told(&standing))?;
    // One that is under way says nothing yet, whatever became of the one before.
    let failed = standing.running.is_none() && standing.last.is_some_and(|last| !last.failed.is_empty());
    Ok(if failed { NO.into() } else { ExitCode::SUCCESS })
}

fn read(json: &Json) -> Result<Standing, Failure> {
    serde_json::from_value(json.clone()).map_err(|error| {
        Failure::new(format!("the server's answer cannot be read: {error}")).hint("is it of the same version as this program?")
    })
}

/// A line that is written over, for who looks on.
fn show_progress(step: &Step, out: Output) -> Result<(), Failure> {
    let mut stderr = std::io::stderr();
    if out.json || !stderr.is_terminal() {
        return Ok(());
    }
    write!(stderr, "\r\u{1b}[K{}", progress(step)).and_then(|()| stderr.flush()).map_err(Failure::output)
}

fn clear_progress(out: Output) -> Result<(), Failure> {
    let mut stderr = std::io::stderr();
    if out.json || !stderr.is_terminal() {
        return Ok(());
    }
    write!(stderr, "\r\u{1b}[K").and_then(|()| stderr.flush()).map_err(Failure::output)
}

fn progress(step: &Step) -> String {
    let of = step.of.filter(|of| *of > 0).map(|of| format!(" of {}", count(of))).unwrap_or_default();
    format!("{}: {}{of}", plain(&step.doing), count(step.done))
}

fn told(standing: &Standing) -> String {
    match standing {
        Standing { running: Some(step), .. } => format!("under way: {}", progress(step)),
        Standing { last: Some(report), .. } => table(report),
        _ => "nothing was cleaned up since the server began".to_owned(),
    }
}

/// What the reasons are called, in the order of the columns.
const CAUSES: [&str; 4] = ["expired", "stale", "orphaned", "unreadable"];

fn table(report: &Report) -> String {
    let mut table = Table::new();
    table.load_style(UTF8_HORIZONTAL_ONLY);
    let heads = ["where", "namespace"].into_iter().chain(CAUSES).chain(["entries", "bytes"]);
    table.set_header(heads.map(Cell::new));
    for one in &report.swept.namespaces {
        for (place, tier) in [("memory", &one.memory), ("backing tier", &one.backing)] {
            if tier.total().entries > 0 {
                table.add_row(of_tier(place, &one.name, tier));
            }
        }
    }
    if report.swept.compacted_bytes > 0 {
        table.add_row(of_room("disk, compacted", None, Some(report.swept.compacted_bytes)));
    }
    let parts = [("history", report.history), ("dead letters", Some(report.dead_letters)), ("audit files", report.audit)];
    for (part, room) in parts {
        if let Some(room) = room.filter(|room| *room != Room::default()) {
            table.add_row(of_room(part, Some(room.entries), Some(room.bytes)));
        }
    }
    table.add_row(of_room("together", Some(report.total.entries), Some(report.total.bytes)));
    let looked = report.swept.examined + report.swept.backing_examined;
    let ended = if report.cancelled { "stopped" } else { "done" };
    let mut text = format!("{table}\n{ended} after {:.1} s; {} entries looked at", report.took_ms as f64 / 1e3, count(looked));
    for failed in &report.failed {
        text += &format!("\nfailed: {}: {}", plain(&failed.part), plain(&failed.why));
    }
    text
}

fn of_tier(place: &str, namespace: &str, tier: &SweptTier) -> Row {
    let number = |back: GivenBack| if back.entries == 0 { "-".to_owned() } else { count(back.entries) };
    let causes = [tier.expired, tier.invalidated, tier.orphaned, tier.unreadable].map(number);
    let total = tier.total();
    row([place.to_owned(), plain(namespace)], causes.into_iter().chain([count(total.entries), roughly(total.bytes)]))
}

fn of_room(part: &str, entries: Option<u64>, bytes: Option<u64>) -> Row {
    let blank = CAUSES.map(|_| String::new());
    let told = [entries.map_or_else(String::new, count), bytes.map_or_else(String::new, roughly)];
    row([part.to_owned(), String::new()], blank.into_iter().chain(told))
}

fn row(names: [String; 2], numbers: impl Iterator<Item = String>) -> Row {
    let numbers = numbers.map(|text| Cell::new(text).set_alignment(CellAlignment::Right));
    names.into_iter().map(Cell::new).chain(numbers).collect::<Vec<_>>().into()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn report() -> Report {
        let back = |entries: u64, bytes: u64| json!({ "entries": entries, "bytes": bytes });
        let tier = |expired: u64| json!({ "expired": back(expired, 2_048), "invalidated": back(1, 1), "orphaned": back(0, 0), "unreadable": back(0, 0) });
        let none = json!({ "expired": back(0, 0), "invalidated": back(0, 0), "orphaned": back(0, 0), "unreadable": back(0, 0) });
        serde_json::from_value(json!({
            "swept": {
                "examined": 20_000, "expired": 12_345, "invalidated": 1, "memory_removed_bytes": 2_049,
                "backing_examined": 5, "backing_removed": 0, "backing_removed_bytes": 0, "compacted_bytes": 1 << 20,
                "namespaces": [{ "name": "bars\u{1b}[31m", "memory": tier(12_345), "backing": none }],
            },
            "history": back(0, 0), "dead_letters": back(3, 99), "audit": null,
            "total": back(12_349, 1 << 21), "took_ms": 1_500, "cancelled": false,
            "failed": [{ "part": "audit", "why": "the disk says no" }],
        }))
        .expect("it is one")
    }

    #[test]
    fn the_table_says_where_what_and_why() {
        let text = told(&Standing { running: None, last: Some(report()) });
        for part in
            ["memory", "12,345", "stale", "12,346", "disk, compacted", "1.0 MiB", "dead letters", "together", "failed: audit: the disk"]
        {
            assert!(text.contains(part), "{part:?} in\n{text}");
        }
        assert!(text.contains("done after 1.5 s; 20,005 entries looked at"), "{text}");
        assert!(!text.contains("backing tier") && !text.contains("history") && !text.contains('\u{1b}'), "{text}");
    }

    #[test]
    fn one_that_is_under_way_says_how_far_it_is() {
        let running = Some(Step { doing: "sweeping memory".into(), done: 2_000, of: Some(1_000_000) });
        assert_eq!(told(&Standing { running, last: Some(report()) }), "under way: sweeping memory: 2,000 of 1,000,000");
        assert_eq!(told(&Standing::default()), "nothing was cleaned up since the server began");
    }
}
