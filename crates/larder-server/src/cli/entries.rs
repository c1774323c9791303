//! `larder get`, `put` and `rm`: one entry of a running server.

use std::fs;
use std::io::{self, Read};
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use serde_json::json;
use ureq::http::StatusCode;

use super::NO;
use super::client::{Answer, Client, ServerArgs, entry_path, percent_encoded, time};
use super::failure::Failure;
use super::output::{self, Output};
use crate::config::units::{roughly, show_time};

/// What the type of a problem that is a miss ends with.
const MISSES: [&str; 2] = ["problem:miss", "problem:not-found"];

/// Read an entry
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  larder get features:AAPL:5m
  larder get model:gbm > model.bin      the bytes as they are
  larder get features:AAPL:5m --json    with age, tags and position
  larder get -v features:AAPL:5m        the same for people, on stderr

Exits with 1 if it is not cached, has expired or was invalidated.")]
pub struct GetArgs {
    /// The whole key, namespace first
    key: String,
    /// Also say where the value came from, how old it is, and what it depends on
    #[arg(long, short)]
    verbose: bool,
    #[command(flatten)]
    server: ServerArgs,
}

/// Store an entry
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  larder put features:AAPL:5m '{\"rsi\": 61.2}' --ttl 5m --tag symbol:AAPL
  larder put model:gbm @model.bin       from a file
  larder put features:AAPL:5m @f.json --from bars:AAPL=17 --if-changed
  compute | larder put report:daily -   from standard input

Everyone who reads after this returned sees the new value or a newer one.")]
pub struct PutArgs {
    /// The whole key, namespace first
    key: String,
    /// The value; - reads standard input, @FILE a file
    #[arg(allow_hyphen_values = true)]
    value: String,
    /// How long it lives, in whole seconds [default: as its namespace says]
    #[arg(long, value_name = "TIME", value_parser = whole_seconds)]
    ttl: Option<Duration>,
    /// What it depends on: invalidating the tag takes it out. Can be given more than once
    #[arg(long = "tag", value_name = "TAG")]
    tags: Vec<String>,
    /// What it was computed from, as NAME=VERSION: when that moves (`larder moved`), it is stale. Can be given more than once
    #[arg(long = "from", value_name = "NAME=VERSION", value_parser = computed_from)]
    sources: Vec<String>,
    /// If the same is there already, let it live on, and keep all copies of it
    #[arg(long)]
    if_changed: bool,
    /// Its media type [default: JSON, text or bytes, as it looks]
    #[arg(long = "type", value_name = "MEDIA")]
    media_type: Option<String>,
    #[command(flatten)]
    server: ServerArgs,
}

/// Remove an entry
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  larder rm features:AAPL:5m

It is no error if there is none: whatever is being computed for the key right now will not be kept either.")]
pub struct RmArgs {
    /// The whole key, namespace first
    key: String,
    #[command(flatten)]
    server: ServerArgs,
}

/// `NAME=VERSION`, as the header takes it.
fn computed_from(text: &str) -> Result<String, String> {
    let (name, version) = text.rsplit_once('=').ok_or("give it as NAME=VERSION, such as bars:AAPL=17")?;
    version.parse::<larder::Version>().map_err(|error| error.message().to_owned())?;
    Ok(format!("{}={version}", percent_encoded(name.as_bytes())))
}

fn whole_seconds(text: &str) -> Result<Duration, String> {
    let whole = time(text)?;
    if whole.subsec_nanos() > 0 { Err("it is told in whole seconds".to_owned()) } else { Ok(whole) }
}

/// Carries out `larder get`.
pub fn get(args: &GetArgs, out: Output) -> Result<ExitCode, Failure> {
    let client = Client::new(&args.server)?;
    if out.json {
        return get_json(&client, &args.key);
    }
    let answer = client.ask("GET", &entry_path(&args.key))?;
    if answer.status.is_success() {
        if args.verbose {
            let told = ["cache-status", "larder-freshness", "age", "cache-control", "cache-tag", "etag", "content-type", "larder-position"];
            let told = told.iter().filter_map(|name| Some((name, answer.header(name)?)));
            told.for_each(|(name, value)| eprintln!("{name:>16}  {value}"));
        }
        output::value(&answer.body)?;
        return Ok(ExitCode::SUCCESS);
    }
    let missed = answer.problem().filter(|problem| MISSES.iter().any(|miss| problem.kind.ends_with(miss)));
    if missed.is_none() {
        return Err(client.refused(&answer));
    }
    out.remark(&format!("larder: {} is not cached: {}", args.key, why_missed(answer.header("cache-status"))));
    Ok(NO.into())
}

/// Why a read missed, from what the server said of it (RFC 9211).
fn why_missed(cache_status: Option<&str>) -> &'static str {
    match cache_status.and_then(|status| status.rsplit_once("detail=")).map(|(_, detail)| detail) {
        Some("invalidated") => "what was there has been invalidated",
        Some("expired") => "what was there is past its time",
        Some("negative") => "it is known that there is no such thing",
        _ => "it is not there",
    }
}

fn get_json(client: &Client, key: &str) -> Result<ExitCode, Failure> {
    let mut answer = client.send_json("/v1/entries/get", &json!({ "keys": [key] }))?;
    let entry = answer["entries"][0].take();
    output::line(&entry.to_string())?;
    let found = matches!(entry["outcome"].as_str(), Some("hit" | "stale"));
    Ok(if found { ExitCode::SUCCESS } else { NO.into() })
}

/// Carries out `larder put`.
pub fn put(args: &PutArgs, out: Output) -> Result<ExitCode, Failure> {
    let client = Client::new(&args.server)?;
    let value = value(&args.value)?;
    let bytes = value.len() as u64;
    let media_type = args.media_type.clone().unwrap_or_else(|| looks_like(&value).to_owned());
    let mut headers = vec![("content-type", media_type)];
    headers.extend(args.ttl.map(|ttl| ("cache-control", format!("max-age={}", ttl.as_secs()))));
    headers.extend(args.sources.iter().map(|source| ("larder-depends-on", source.clone())));
    headers.extend(args.if_changed.then(|| ("larder-if-changed", "true".to_owned())));
    headers.extend(args.tags.iter().map(|tag| ("cache-tag", percent_encoded(tag.as_bytes()))));
    let answer = client.send("PUT", &entry_path(&args.key), &headers, value)?;
    if !answer.status.is_success() {
        return Err(client.refused(&answer));
    }
    let position = answer.header("larder-position");
    let changed = answer.header("larder-changed") != Some("false");
    let told = json!({ "key": args.key, "bytes": bytes, "position": position, "queued": is_queued(&answer), "changed": changed });
    out.say(&told, || {
        let ttl = args.ttl.map(|ttl| format!(" for {}", show_time(ttl))).unwrap_or_default();
        if !changed {
            return format!("{} is unchanged, and lives on{ttl}", args.key);
        }
        format!("stored {} ({}){ttl}", args.key, roughly(bytes))
    })?;
    remark_if_queued(&answer, out);
    Ok(ExitCode::SUCCESS)
}

/// Whether a change took effect on that server alone so far.
fn is_queued(answer: &Answer) -> bool {
    answer.status == StatusCode::ACCEPTED
}

fn remark_if_queued(answer: &Answer, out: Output) {
    if is_queued(answer) {
        out.remark("larder: Redis cannot be reached; other servers are told when it can be again");
    }
}

/// The value that an argument names.
fn value(argument: &str) -> Result<Vec<u8>, Failure> {
    match argument.strip_prefix('@') {
        Some(path) => fs::read(path).map_err(|error| Failure::new(format!("{path} cannot be read: {error}"))),
        None if argument == "-" => {
            let mut bytes = Vec::new();
            let read = io::stdin().lock().read_to_end(&mut bytes);
            read.map_err(|error| Failure::new(format!("standard input cannot be read: {error}")))?;
            Ok(bytes)
        }
        None => Ok(argument.as_bytes().to_vec()),
    }
}

/// The media type of a value that was given none.
fn looks_like(value: &[u8]) -> &'static str {
    if serde_json::from_slice::<serde::de::IgnoredAny>(value).is_ok() {
        "application/json"
    } else if std::str::from_utf8(value).is_ok() {
        "text/plain; charset=utf-8"
    } else {
        "application/octet-stream"
    }
}

/// Carries out `larder rm`.
pub fn rm(args: &RmArgs, out: Output) -> Result<ExitCode, Failure> {
    let client = Client::new(&args.server)?;
    let answer = client.ask("DELETE", &entry_path(&args.key))?;
    if !answer.status.is_success() {
        return Err(client.refused(&answer));
    }
    let told = json!({ "key": args.key, "position": answer.header("larder-position"), "queued": is_queued(&answer) });
    out.say(&told, || format!("removed {}", args.key))?;
    remark_if_queued(&answer, out);
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_come_from_the_argument_or_a_file() {
        let file = tempfile::NamedTempFile::new().expect("temporary files can be written");
        fs::write(file.path(), b"\xff\x00").expect("it can be written");
        assert_eq!(value(&format!("@{}", file.path().display())), Ok(vec![0xff, 0]));
        assert_eq!(value("hello"), Ok(b"hello".to_vec()));
        assert!(value("@/no/such/file").expect_err("it is not there").to_string().contains("/no/such/file cannot be read"));
    }

    #[test]
    fn media_types_follow_the_looks() {
        assert_eq!(looks_like(b"{\"a\": 1}"), "application/json");
        assert_eq!(looks_like(b"hello"), "text/plain; charset=utf-8");
        assert_eq!(looks_like(b"\xff"), "application/octet-stream");
    }

    #[test]
    fn a_miss_says_why() {
        assert_eq!(why_missed(Some("larder; fwd=stale; detail=invalidated")), "what was there has been invalidated");
        assert_eq!(why_missed(Some("larder; fwd=miss; detail=absent")), "it is not there");
        assert_eq!(why_missed(None), "it is not there");
    }

    #[test]
    fn times_to_live_are_whole_seconds() {
        assert_eq!(whole_seconds("5m"), Ok(Duration::from_secs(300)));
        assert!(whole_seconds("1500ms").is_err() && whole_seconds("0s").is_err() && whole_seconds("5").is_err());
    }
}
