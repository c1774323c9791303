//! `larder explain` and `larder moved`: why an entry is served or not, and that something it was computed from has changed.

use std::process::ExitCode;

use clap::Args;
use serde_json::json;

use super::NO;
use super::client::{Client, ServerArgs, entry_path, percent_encoded};
use super::failure::Failure;
use super::output::Output;

/// Say why an entry is served, or why it is not
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  larder explain prediction:AAPL:1h
  larder explain prediction:AAPL:1h --json

It looks at what every tier has of the key, names what made it stale, by way of what it was computed from, and changes
nothing. Exits with 1 if no tier has a fresh entry.")]
pub struct ExplainArgs {
    /// The whole key, namespace first
    key: String,
    #[command(flatten)]
    server: ServerArgs,
}

/// Say that something is at another version, and have invalidated what was computed from older ones
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  larder put features:AAPL:5m @f.json --from bars:AAPL=17
  larder moved bars:AAPL 18             the entry above is stale, and all that was computed from it
  larder moved bars:AAPL 18             known already: nothing is done

Change the source first, then say that it moved.")]
pub struct MovedArgs {
    /// What moved
    source: String,
    /// The version it is at: a number that grows, or the 32 hexadecimal digits of a fingerprint
    version: larder::Version,
    #[command(flatten)]
    server: ServerArgs,
}

/// Carries out `larder explain`.
pub fn explain(args: &ExplainArgs, out: Output) -> Result<ExitCode, Failure> {
    let client = Client::new(&args.server)?;
    let answer = client.ask("GET", &format!("{}/explanation", entry_path(&args.key)))?;
    let explained = client.json(answer)?;
    out.say(&explained, || explained["text"].as_str().unwrap_or_default().trim_end().to_owned())?;
    let fresh = explained["found"].as_array().into_iter().flatten().any(|found| found["verdict"] == "fresh");
    Ok(if fresh { ExitCode::SUCCESS } else { NO.into() })
}

/// Carries out `larder moved`.
pub fn moved(args: &MovedArgs, out: Output) -> Result<ExitCode, Failure> {
    let client = Client::new(&args.server)?;
    let body = json!({ "version": args.version.to_string() }).to_string().into_bytes();
    let headers = [("content-type", "application/json".to_owned())];
    let path = format!("/v1/sources/{}", percent_encoded(args.source.as_bytes()));
    let answer = client.send("PUT", &path, &headers, body)?;
    let moved = client.json(answer)?;
    out.say(&moved, || match (moved["position"].as_str(), moved["queued"] == json!(true)) {
        (None, _) => format!("{} is known to be at version {} already; nothing was done", args.source, shown(&moved["version"])),
        (Some(_), true) => {
            format!("{} is at version {} on this server; the others are told when Redis can be reached again", args.source, args.version)
        }
        (Some(position), false) => format!("{} is at version {}, at position {position}", args.source, args.version),
    })?;
    Ok(ExitCode::SUCCESS)
}

/// A version as it is written.
fn shown(version: &serde_json::Value) -> String {
    version.as_str().map_or_else(|| version.to_string(), str::to_owned)
}
