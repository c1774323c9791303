//! `larder emit`: tell a running server what happened in the world.

use std::process::ExitCode;

use clap::Args;
use serde_json::{Value as Json, json};

use super::client::{Client, ServerArgs};
use super::failure::Failure;
use super::output::{Output, plural};
use crate::config::{REFERENCE_EXPECTED, Reference};
use crate::webhook::{ID, SIGNATURE, Secret, TIMESTAMP};

/// Say that something happened, and have invalidated what the rules for it say
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  larder emit market_data_update --data '{\"symbol\": \"AAPL\"}'      that symbol's features and predictions
  larder emit model_update --data '{\"model_version\": \"v17\"}'      all predictions of that version
  larder emit system_maintenance --data '{\"scope\": \"features\"}'   a namespace; without a scope, everything
  larder emit bar_closed --data @bar.json --dry-run               what it would drop, and nothing more

The three above are built in. [[on]] in the configuration adds rules and takes their place: see `larder config schema`.")]
pub struct EmitArgs {
    /// What kind of thing happened
    #[arg(value_name = "TYPE")]
    kind: String,
    /// What happened, as JSON; @FILE reads it from a file, @- from the input
    #[arg(long, value_name = "JSON")]
    data: Option<String>,
    /// What it is about
    #[arg(long)]
    subject: Option<String>,
    /// Where it comes from
    #[arg(long, default_value = "larder-cli")]
    source: String,
    /// What its source calls it: the same one twice is carried out once. Without it, a new one
    #[arg(long)]
    id: Option<String>,
    /// Sign it with a secret that the server knows (events.webhook_secrets), which is found there: env:NAME or file:PATH
    #[arg(long, value_name = "WHERE", env = "LARDER_SIGN_WITH", value_parser = reference)]
    sign_with: Option<Reference>,
    /// Only say what would be invalidated, and how much of the cache that would drop
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    server: ServerArgs,
}

impl EmitArgs {
    fn event(&self) -> Result<Json, Failure> {
        let event = larder::events::Event::new(&self.kind, self.read_data()?).from(&self.source);
        let event = self.id.iter().fold(event, larder::events::Event::with_id);
        Ok(self.subject.iter().fold(event, larder::events::Event::about).to_json())
    }

    fn read_data(&self) -> Result<Json, Failure> {
        let text = match self.data.as_deref().map(|data| data.strip_prefix('@').ok_or(data)) {
            None => return Ok(Json::Null),
            Some(Err(text)) => text.to_owned(),
            Some(Ok("-")) => {
                std::io::read_to_string(std::io::stdin()).map_err(|e| Failure::new(format!("the input cannot be read: {e}")))?
            }
            Some(Ok(path)) => std::fs::read_to_string(path).map_err(|e| Failure::new(format!("{path} cannot be read: {e}")))?,
        };
        let hint = "it looks like --data '{\"symbol\": \"AAPL\"}'";
        serde_json::from_str(&text).map_err(|e| Failure::new(format!("what happened is given as JSON: {e}")).hint(hint))
    }
}

fn reference(text: &str) -> Result<Reference, String> {
    Reference::parse(text).ok_or_else(|| format!("expected {REFERENCE_EXPECTED}; a secret itself does not stand on a command line"))
}

/// The headers of a message that is signed now.
fn signed(reference: &Reference, id: &str, body: &[u8]) -> Result<[(&'static str, String); 3], Failure> {
    let secret = reference.resolve(&std::env::vars().collect()).and_then(|text| Secret::parse(&text));
    let secret = secret.map_err(|why| Failure::new(format!("{reference} has no secret to sign with: {why}")))?;
    let now_s = std::time::SystemTime::now().duration_since(std::time::SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
    Ok([(ID, id.to_owned()), (TIMESTAMP, now_s.to_string()), (SIGNATURE, secret.sign(id, now_s, body))])
}

/// Carries out `larder emit`.
pub fn emit(args: &EmitArgs, out: Output) -> Result<ExitCode, Failure> {
    let path = if args.dry_run { "/v1/events?dry_run=true" } else { "/v1/events" };
    let client = Client::new(&args.server)?;
    let (event, mut headers) = (args.event()?, vec![("content-type", "application/cloudevents+json".to_owned())]);
    let body = event.to_string().into_bytes();
    if let Some(reference) = &args.sign_with {
        headers.extend(signed(reference, event["id"].as_str().unwrap_or_default(), &body)?);
    }
    let answer = client.send("POST", path, &headers, body)?;
    let outcome = client.json(answer)?;
    out.say(&outcome, || told(&outcome, args.dry_run))?;
    Ok(ExitCode::SUCCESS)
}

/// What became of it, in words.
pub fn told(outcome: &Json, rehearsed: bool) -> String {
    let names: Vec<&str> = outcome["names"].as_array().into_iter().flatten().filter_map(Json::as_str).collect();
    let count = plural(names.len() as u64, "name");
    let mut text = match (outcome["duplicate"] == json!(true), names.is_empty(), rehearsed) {
        (true, _, false) => return "this event was carried out before; nothing was done".to_owned(),
        (_, true, _) => return "no rule is for this event; nothing is invalidated by it".to_owned(),
        (duplicate, false, true) => {
            let before = if duplicate { " (it was carried out before, and would not be again)" } else { "" };
            format!("would invalidate {count}{before}")
        }
        (false, false, false) => match outcome["position"].as_str().filter(|_| outcome["queued"] != json!(true)) {
            Some(position) => format!("invalidated {count} at position {position}"),
            None => format!("invalidated {count} on this server; the others are told when Redis can be reached again"),
        },
    };
    let conflated = outcome["conflated"].as_u64().filter(|conflated| *conflated > 0);
    text += &conflated.map_or(String::new(), |conflated| format!("; {} waited for the end of a window", plural(conflated, "name")));
    names.iter().for_each(|name| text += &format!("\n  {name}"));
    if let Some(impact) = outcome["impact"].as_object() {
        if impact.is_empty() {
            text += "\nnothing in the cache depends on any of them";
        }
        for (namespace, dropped) in impact {
            let entries = |place: &str| plural(dropped[format!("{place}_entries")].as_u64().unwrap_or(0), "entry");
            let bytes = |place: &str| crate::config::units::Size(dropped[format!("{place}_bytes")].as_u64().unwrap_or(0)).to_string();
            text += &format!(
                "\n{namespace}: {} in memory ({}), {} in the backing tier ({})",
                entries("memory"),
                bytes("memory"),
                entries("backing"),
                bytes("backing")
            );
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_became_of_it_is_told_in_words() {
        let done = json!({ "duplicate": false, "names": ["tag:a", "b:**"], "position": "00-7", "queued": false, "conflated": 1 });
        let words = "invalidated 2 names at position 00-7; 1 name waited for the end of a window\n  tag:a\n  b:**";
        assert_eq!(told(&done, false), words);
        let impact = json!({ "n": { "memory_entries": 2, "memory_bytes": 2048, "backing_entries": 1, "backing_bytes": 1024 } });
        let planned = json!({ "duplicate": false, "names": ["tag:a"], "position": null, "impact": impact });
        let words = "would invalidate 1 name\n  tag:a\nn: 2 entries in memory (2 KiB), 1 entry in the backing tier (1 KiB)";
        assert_eq!(told(&planned, true), words);
        assert!(told(&json!({ "duplicate": false, "names": [] }), false).starts_with("no rule"));
        assert!(told(&json!({ "duplicate": true, "names": [] }), false).contains("before"));
    }
}
