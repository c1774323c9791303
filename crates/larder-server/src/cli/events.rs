//! `larder events`: what becomes of events, one legible line for each.

use std::io::{BufRead, BufReader, Read};
use std::process::ExitCode;
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::time::Duration;

use clap::{Args, Subcommand};
use serde_json::Value as Json;

use super::client::{Client, ServerArgs, percent_encoded};
use super::failure::Failure;
use super::output::{Output, coloured, has_colours, plain, plural};
use crate::http::traces::HEARTBEAT;
use crate::moment::time_of_day;

/// How long to wait before a server that is away is asked again.
const RETRY: Duration = Duration::from_secs(1);

/// A stream that has said nothing for so long is dead: the server would have sent its heartbeat.
const SILENCE: Duration = HEARTBEAT.saturating_mul(3);

/// Messages read ahead of what is printed. Behind them the server waits, and says in the end how many were missed.
const AHEAD: usize = 64;

/// See what becomes of events
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  larder events tail                               each event as it comes, and the ten before
  larder events tail --type market_data_update --entries
  larder events tail --json | jq .names            one JSON object a line
  larder events list --limit 20                    what became of the last ones

A line says when an event came (universal time), how it ended, its type, what it invalidates, where that stands in the log, how
long it took to take effect, and where the event comes from. tail goes on when the server is started again; a server keeps the
last thousand events, and begins anew when it starts.")]
pub struct EventsCommand {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// List what became of the last events
    List(ListArgs),
    /// Watch events as they come, until interrupted
    Tail(TailArgs),
}

#[derive(Debug, Args)]
struct ListArgs {
    /// The most events to list
    #[arg(long, value_name = "N", default_value = "100", value_parser = clap::value_parser!(u64).range(1..=1_000))]
    limit: u64,
    /// Only events of this type
    #[arg(long = "type", value_name = "TYPE")]
    kind: Option<String>,
    #[command(flatten)]
    server: ServerArgs,
}

#[derive(Debug, Args)]
struct TailArgs {
    /// Only events of this type
    #[arg(long = "type", value_name = "TYPE")]
    kind: Option<String>,
    /// Begin with so many of the events that were before
    #[arg(long, value_name = "N", default_value = "10", value_parser = clap::value_parser!(u64).range(..=1_000))]
    last: u64,
    /// Also count the live entries in memory that events make stale: the server looks at all of them, in a tenth of the time at most
    #[arg(long)]
    entries: bool,
    /// End after so many events
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    limit: Option<u64>,
    #[command(flatten)]
    server: ServerArgs,
}

/// Carries out `larder events`.
pub fn events(command: &EventsCommand, out: Output) -> Result<ExitCode, Failure> {
    match &command.what {
        What::List(args) => list(args, out),
        What::Tail(args) => tail(args, out),
    }
}

fn list(args: &ListArgs, out: Output) -> Result<ExitCode, Failure> {
    let mut path = format!("/v1/events?limit={}", args.limit);
    path += &of_type(args.kind.as_deref());
    let traces = Client::new(&args.server)?.get_json(&path)?;
    let colours = has_colours();
    out.say(&traces, || match traces["events"].as_array().map_or(&[][..], Vec::as_slice) {
        [] => "no events came since the server was started".to_owned(),
        all => all.iter().map(|trace| told(trace, colours)).collect::<Vec<_>>().join("\n"),
    })?;
    Ok(ExitCode::SUCCESS)
}

fn of_type(kind: Option<&str>) -> String {
    kind.map(|kind| format!("&type={}", percent_encoded(kind.as_bytes()))).unwrap_or_default()
}

fn tail(args: &TailArgs, out: Output) -> Result<ExitCode, Failure> {
    let client = Client::new(&args.server)?;
    let path = format!("/v1/events/tail?last={}&entries={}{}", args.last, args.entries, of_type(args.kind.as_deref()));
    let mut tail = Tail { out, colours: has_colours(), left: args.limit.unwrap_or(u64::MAX), seen: None };
    // A server that was never there is another matter than one that went away.
    let mut stream = Some(client.stream(&path, &[])?);
    loop {
        if let Some(stream) = stream.take() {
            tail.follow(&read_in_thread(stream))?;
            if tail.left == 0 {
                return Ok(ExitCode::SUCCESS);
            }
            out.remark("larder: the server ended the stream; waiting for it to come back");
        }
        std::thread::sleep(RETRY);
        let headers: Vec<_> = tail.seen.iter().map(|seen| ("last-event-id", seen.clone())).collect();
        stream = client.stream(&path, &headers).ok();
    }
}

/// Somebody who watches, over as many streams as it takes.
struct Tail {
    out: Output,
    colours: bool,
    /// How many events are still to be shown.
    left: u64,
    /// What to go on from.
    seen: Option<String>,
}

impl Tail {
    /// Shows what comes until the stream ends, or enough was shown.
    fn follow(&mut self, messages: &Receiver<Message>) -> Result<(), Failure> {
        while self.left > 0 {
            let message = match messages.recv_timeout(SILENCE) {
                Ok(message) => message,
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => return Ok(()),
            };
            if message.id.is_some() {
                self.seen = message.id;
            }
            let Some(told) = message.data.and_then(|data| serde_json::from_str::<Json>(&data).ok()) else { continue };
            let is_event = told["missed"].is_null();
            self.out.say(&told, || match told["missed"].as_u64() {
                Some(missed) => format!("... {} came faster than they could be shown", plural(missed, "event")),
                None => self::told(&told, self.colours),
            })?;
            self.left -= u64::from(is_event);
        }
        Ok(())
    }
}

/// What a stream says at once.
#[derive(Debug, Default, PartialEq, Eq)]
struct Message {
    id: Option<String>,
    data: Option<String>,
}

/// Reads a stream in a thread of its own, since a read cannot be given up when nothing comes. The thread ends with the stream, or
/// at the first message that nobody wants any more.
fn read_in_thread(stream: impl Read + Send + 'static) -> Receiver<Message> {
    let (sender, messages) = sync_channel(AHEAD);
    std::thread::spawn(move || read(BufReader::new(stream), |message| sender.send(message).is_ok()));
    messages
}

/// Takes server-sent events apart. A heartbeat is a message without anything in it.
fn read(stream: impl BufRead, mut tell: impl FnMut(Message) -> bool) {
    let mut message = Message::default();
    // A line that cannot be read is the end of the stream.
    for line in stream.lines().map_while(Result::ok) {
        if line.is_empty() {
            if !tell(std::mem::take(&mut message)) {
                return;
            }
        } else if let Some(id) = line.strip_prefix("id: ") {
            message.id = Some(id.to_owned());
        } else if let Some(data) = line.strip_prefix("data: ") {
            message.data = Some(data.to_owned());
        }
    }
}

/// One event in one line. Whatever of it came from outside is text and nothing else.
fn told(trace: &Json, colours: bool) -> String {
    let text = |name: &str| plain(trace[name].as_str().unwrap_or_default());
    let number = |name: &str| trace[name].as_u64();
    let outcome = text("outcome");
    let mut parts = vec![match outcome.as_str() {
        "refused" | "failed" => text("reason"),
        "duplicate" => "carried out before".to_owned(),
        "unmatched" => "no rule is for it".to_owned(),
        _ => names(trace),
    }];
    parts.extend(number("entries").map(|entries| plural(entries, "entry")));
    // The life of the log is the same in every line.
    parts.extend(trace["position"].as_str().and_then(|position| position.rsplit_once('-')).map(|(_, number)| format!("at {number}")));
    parts.extend(number("applied_after_us").map(|us| format!("after {:.2} ms", us as f64 / 1e3)));
    parts.extend(number("handled").filter(|handled| *handled > 0).map(|handled| plural(handled, "handler")));
    let dead = trace["dead"].as_array().into_iter().flatten();
    parts.extend(dead.map(|id| format!("dead letter {id}")));
    let outcome = coloured(&format!("{outcome:<9}"), outcome_colour(&outcome).filter(|_| colours));
    let time = time_of_day(number("received_ms").unwrap_or(0));
    let from = format!("{}#{} by {}", text("source"), text("id"), text("through"));
    format!("{time}  {outcome}  {}  {}  {}", text("type"), parts.join(", "), coloured(&from, Some(DIM).filter(|_| colours)))
}

/// The first name, and how many there are.
fn names(trace: &Json) -> String {
    let first = trace["names"][0].as_str().map(plain);
    match (first, trace["names_count"].as_u64().unwrap_or(0)) {
        (None, _) => "invalidates nothing".to_owned(),
        (Some(name), 0 | 1) => name,
        (Some(name), count) => format!("{name} and {} more", crate::demo::count(count - 1)),
    }
}

const DIM: &str = "2";

fn outcome_colour(outcome: &str) -> Option<&'static str> {
    match outcome {
        "applied" | "conflated" => Some("32"),
        "queued" => Some("33"),
        "refused" => Some("31"),
        "failed" => Some("1;31"),
        _ => Some(DIM),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn trace() -> Json {
        json!({
            "number": 7, "received_ms": 34_200_123, "through": "http", "id": "4711", "source": "feed", "type": "market_data_update",
            "subject": null, "outcome": "applied", "reason": null, "rules": ["market_data_update"],
            "names": ["tag:symbol:AAPL", "features:AAPL:**"], "names_count": 7, "conflated": 0, "position": "6f1c0a52b7d3e984-1742",
            "entries": 2, "handled": 0, "dead": [], "applied_after_us": 31, "took_us": 40,
        })
    }

    #[test]
    fn an_event_is_one_legible_line() {
        let line = "09:30:00.123  applied    market_data_update  tag:symbol:AAPL and 6 more, 2 entries, at 1742, after 0.03 ms  \
            feed#4711 by http";
        assert_eq!(told(&trace(), false), line);
        let mut refused = trace();
        refused["outcome"] = json!("refused");
        refused["reason"] = json!("the rule \"x\": \u{1b}[2J\nneeds the field symbol");
        refused["dead"] = json!([3]);
        for name in ["position", "entries", "applied_after_us"] {
            refused[name] = Json::Null;
        }
        let words = told(&refused, false);
        assert!(
            words.contains(r#"refused    market_data_update  the rule "x": \u{1b}[2J\nneeds the field symbol, dead letter 3"#),
            "{words}"
        );
        assert!(!words.contains('\u{1b}') && told(&refused, true).contains("\u{1b}[31mrefused  \u{1b}[0m"));
    }

    #[test]
    fn a_stream_is_taken_apart() {
        let text = "id: ab-3\n:\n\nid: ab-4\ndata: {\"number\":4}\n\nevent: missed\ndata: {\"missed\":2}\n\n:\n\nid: ab-9\ndata: cut";
        let mut messages = Vec::new();
        read(text.as_bytes(), |message| {
            messages.push((message.id, message.data));
            true
        });
        let some = |text: &str| Some(text.to_owned());
        let expected = [(some("ab-3"), None), (some("ab-4"), some("{\"number\":4}")), (None, some("{\"missed\":2}")), (None, None)];
        assert_eq!(messages, expected, "what was cut off was not said");
        let mut told = 0;
        read(text.as_bytes(), |_| {
            told += 1;
            false
        });
        assert_eq!(told, 1, "nobody listens any more");
    }
}
