//! `larder dlq`: dead letters, to be looked at, tried again and forgotten.

use std::process::ExitCode;

use clap::{Args, Subcommand};
use comfy_table::presets::UTF8_HORIZONTAL_ONLY;
use comfy_table::{Cell, CellAlignment, Table};
use serde_json::{Value as Json, json};
use ureq::http::StatusCode;

use super::client::{Client, ServerArgs};
use super::failure::Failure;
use super::output::{Output, plain, plural};
use super::{NO, emit};
use crate::moment::date_and_time;

/// Columns of a reason on the list; `dlq show` has all of it.
const REASON_SHOWN: usize = 60;

/// Look at events that nobody managed, try them again, forget them
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  larder dlq list
  larder dlq show 7            the event as it came, and what failed
  larder dlq replay 7 8        once what failed was mended
  larder dlq replay --all
  larder dlq drop 7

A dead letter is an event that a source delivered and that could not be carried out (a rule needs a field that it lacks), or one
that a handler of a program that embeds larder did not manage. An event that was sent over HTTP and refused is none: its sender
was told. Exits with 1 where one of them failed again, or is not there.")]
pub struct DlqCommand {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// List them, the oldest first
    List {
        #[command(flatten)]
        server: ServerArgs,
    },
    /// Show one, with its event
    Show {
        /// Which
        id: u64,
        #[command(flatten)]
        server: ServerArgs,
    },
    /// Try them once more; what goes well is forgotten
    Replay(Chosen),
    /// Forget them
    Drop(Chosen),
}

/// Some dead letters, or all.
#[derive(Debug, Args)]
struct Chosen {
    /// Which
    #[arg(value_name = "ID", required_unless_present = "all", conflicts_with = "all")]
    ids: Vec<u64>,
    /// All there are
    #[arg(long)]
    all: bool,
    #[command(flatten)]
    server: ServerArgs,
}

/// Carries out `larder dlq`.
pub fn dlq(command: &DlqCommand, out: Output) -> Result<ExitCode, Failure> {
    match &command.what {
        What::List { server } => list(&Client::new(server)?, out),
        What::Show { id, server } => show(&Client::new(server)?, *id, out),
        What::Replay(chosen) => each(chosen, out, "POST", "/replay", replayed),
        What::Drop(chosen) => each(chosen, out, "DELETE", "", |id, _| format!("dropped dead letter {id}")),
    }
}

fn list(client: &Client, out: Output) -> Result<ExitCode, Failure> {
    let letters = client.get_json("/v1/dead-letters")?;
    out.say(&letters, || told(&letters))?;
    Ok(ExitCode::SUCCESS)
}

fn told(letters: &Json) -> String {
    let all = letters["dead_letters"].as_array().map_or(&[][..], Vec::as_slice);
    let dropped = letters["dropped"].as_u64().filter(|dropped| *dropped > 0);
    let dropped = dropped.map(|dropped| format!("\n{} were dropped because there were too many", plural(dropped, "older one")));
    let text = if all.is_empty() { "there are no dead letters".to_owned() } else { table(all).to_string() };
    text + &dropped.unwrap_or_default()
}

fn table(letters: &[Json]) -> Table {
    let mut table = Table::new();
    table.load_style(UTF8_HORIZONTAL_ONLY);
    table.set_header(["id", "since", "failed", "type", "source", "reason"].map(Cell::new));
    for letter in letters {
        let text = |name: &str| plain(letter[name].as_str().unwrap_or("-"));
        let reason = text("reason");
        let reason = match reason.char_indices().nth(REASON_SHOWN) {
            Some((end, _)) => format!("{}...", reason[..end].trim_end()),
            None => reason,
        };
        let since = date_and_time(letter["at_ms"].as_u64().unwrap_or(0));
        let cells = [since, text("failed"), text("type"), text("source"), reason].map(Cell::new);
        table.add_row([Cell::new(&letter["id"]).set_alignment(CellAlignment::Right)].into_iter().chain(cells));
    }
    table
}

fn show(client: &Client, id: u64, out: Output) -> Result<ExitCode, Failure> {
    let answer = client.ask("GET", &path(id))?;
    if answer.status == StatusCode::NOT_FOUND {
        out.say(&json!({ "dead_letter": id, "found": false }), || format!("there is no dead letter {id}"))?;
        return Ok(NO.into());
    }
    let letter = client.json(answer)?;
    out.say(&letter, || whole(&letter))?;
    Ok(ExitCode::SUCCESS)
}

fn whole(letter: &Json) -> String {
    let what = match letter["failed"].as_str() {
        Some("handler") => "a handler did not manage it; what the rules say of it has taken effect",
        _ => "it could not be carried out; nothing of it took effect",
    };
    let event = serde_json::to_string_pretty(&letter["event"]).unwrap_or_default();
    // The lines of the event are its own; what is within them was escaped as JSON wants it, but for what turns lines round.
    let event: Vec<String> = event.lines().map(plain).collect();
    format!(
        "dead letter {}, since {} (universal time)\n  {what}\n  {}\n{}",
        letter["id"],
        date_and_time(letter["at_ms"].as_u64().unwrap_or(0)),
        plain(letter["reason"].as_str().unwrap_or_default()),
        event.join("\n")
    )
}

fn path(id: u64) -> String {
    format!("/v1/dead-letters/{id}")
}

/// Does something with each, and tells all that went wrong: one that fails keeps no other from it.
fn each(chosen: &Chosen, out: Output, method: &str, action: &str, done: fn(u64, &Json) -> String) -> Result<ExitCode, Failure> {
    let client = Client::new(&chosen.server)?;
    let ids = if chosen.all { all(&client)? } else { chosen.ids.clone() };
    let (mut results, mut words, mut failed) = (Vec::new(), Vec::new(), false);
    for id in ids {
        let answer = client.ask(method, &format!("{}{action}", path(id)))?;
        if let Some(problem) = answer.problem() {
            failed = true;
            words.push(plain(&problem.words()));
            results.push(json!({ "dead_letter": id, "done": false, "problem": problem.words() }));
            continue;
        }
        let told = if answer.status == StatusCode::NO_CONTENT { Json::Null } else { client.json(answer)? };
        words.push(done(id, &told));
        results.push(json!({ "dead_letter": id, "done": true, "outcome": told["outcome"] }));
    }
    if words.is_empty() {
        words.push("there are no dead letters".to_owned());
    }
    out.say(&json!({ "dead_letters": results }), || words.join("\n"))?;
    Ok(if failed { NO.into() } else { ExitCode::SUCCESS })
}

fn all(client: &Client) -> Result<Vec<u64>, Failure> {
    let letters = client.get_json("/v1/dead-letters")?;
    Ok(letters["dead_letters"].as_array().into_iter().flatten().filter_map(|letter| letter["id"].as_u64()).collect())
}

fn replayed(id: u64, told: &Json) -> String {
    match told["outcome"].is_null() {
        true => format!("dead letter {id}: {} managed it", plural(told["handled"].as_u64().unwrap_or(0), "handler")),
        false => format!("dead letter {id}: {}", emit::told(&told["outcome"], false)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn letter() -> Json {
        json!({
            "id": 7, "failed": "event", "reason": format!("the rule \"bar\": needs the field symbol {}", "x".repeat(80)),
            "at_ms": 1_764_149_400_123_u64, "type": "bar", "source": "stream\u{1b}[2J", "event_id": "1",
            "event": { "type": "bar", "data": "\u{202e}" },
        })
    }

    #[test]
    fn letters_are_a_table_and_one_is_told_whole() {
        let text = told(&json!({ "dead_letters": [letter()], "dropped": 2 }));
        for part in [
            "7",
            "2025-11-26 09:30:00",
            "event",
            "bar",
            "stream\\u{1b}[2J",
            "needs the field symbol xxx",
            "...",
            "2 older ones were dropped",
        ] {
            assert!(text.contains(part), "{part:?} in {text}");
        }
        assert!(!text.contains('\u{1b}'), "{text}");
        assert_eq!(told(&json!({ "dead_letters": [], "dropped": 0 })), "there are no dead letters");
        let text = whole(&letter());
        assert!(text.contains("nothing of it took effect") && text.contains(&"x".repeat(80)) && text.contains("\n  \"data\""), "{text}");
        assert!(!text.contains('\u{202e}'), "{text}");
    }
}
