//! `larder keys`: what a running server holds.

use std::process::ExitCode;

use clap::Args;
use serde_json::{Value as Json, json};

use super::client::{Client, ServerArgs, percent_encoded};
use super::failure::Failure;
use super::output::{self, Output, plural};

/// Keys asked for at once.
const PAGE: u64 = 1_000;

/// List the keys of fresh entries
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  larder keys                        all of them
  larder keys 'features:*:5m'        * is one segment
  larder keys 'prediction:AAPL:**'   ** at the end is any number of segments
  larder keys --limit 20 --json

One key a line, in the order of their bytes; a key that is no text is shown as JSON.")]
pub struct KeysArgs {
    /// Which keys
    #[arg(default_value = "**")]
    pattern: String,
    /// The most keys to list [default: all]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    limit: Option<u64>,
    #[command(flatten)]
    server: ServerArgs,
}

/// Carries out `larder keys`.
pub fn keys(args: &KeysArgs, out: Output) -> Result<ExitCode, Failure> {
    let client = Client::new(&args.server)?;
    let mut left = args.limit.unwrap_or(u64::MAX);
    let (mut listed, mut all) = (0, Vec::new());
    let mut cursor = String::new();
    let more = loop {
        let page = client.get_json(&path(&args.pattern, &cursor, left.min(PAGE)))?;
        let keys = page["keys"].as_array().map_or(&[][..], Vec::as_slice);
        listed += keys.len() as u64;
        left = left.saturating_sub(keys.len() as u64);
        if out.json {
            all.extend_from_slice(keys);
        } else {
            keys.iter().try_for_each(|key| output::line(&shown(key)))?;
        }
        match page["next"].as_str() {
            None => break false,
            Some(_) if left == 0 => break true,
            Some(next) => next.clone_into(&mut cursor),
        }
    };
    if out.json {
        output::line(&json!({ "keys": all, "more": more }).to_string())?;
    } else if std::io::IsTerminal::is_terminal(&std::io::stderr()) {
        out.remark(&format!("{}{}", plural(listed, "key"), if more { ", and there are more" } else { "" }));
    }
    Ok(ExitCode::SUCCESS)
}

fn path(pattern: &str, cursor: &str, limit: u64) -> String {
    format!("/v1/keys?pattern={}&cursor={}&limit={limit}", percent_encoded(pattern.as_bytes()), percent_encoded(cursor.as_bytes()))
}

fn shown(key: &Json) -> String {
    key.as_str().map_or_else(|| key.to_string(), str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_are_encoded() {
        assert_eq!(path("a:*&b:**", "0f", 10), "/v1/keys?pattern=a:%2A%26b:%2A%2A&cursor=0f&limit=10");
    }

    #[test]
    fn keys_that_are_no_text_are_json() {
        assert_eq!(shown(&json!("a:b")), "a:b");
        assert_eq!(shown(&json!({ "base64": "/wA=" })), "{\"base64\":\"/wA=\"}");
    }
}
