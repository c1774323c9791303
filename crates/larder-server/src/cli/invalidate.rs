//! `larder invalidate`: tell a running server what the world has changed.

use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use serde_json::{Value as Json, json};

use super::NO;
use super::client::{Client, ServerArgs, percent_encoded, time};
use super::failure::Failure;
use super::output::{Output, plural};
use crate::config::units::show_time;

/// Make everything stale that depends on what is named
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  larder invalidate --tag symbol:AAPL               whatever was made from AAPL's data
  larder invalidate --pattern 'prediction:*:*:v17'  * is one segment of a key, ** at the end any number
  larder invalidate --namespace features --key model:gbm
  larder invalidate --everything
  larder invalidate --tag symbol:AAPL --applied-everywhere 1s     exits with 1 if a server does not obey by then

Change the source first, then invalidate. When this returns, no read that begins afterwards sees anything older, and a
computation that began before cannot put its old result back.")]
pub struct InvalidateArgs {
    /// A whole key
    #[arg(long = "key", short, value_name = "KEY")]
    keys: Vec<String>,
    /// A tag: every entry that carries it
    #[arg(long = "tag", short, value_name = "TAG")]
    tags: Vec<String>,
    /// A pattern over whole keys
    #[arg(long = "pattern", short, value_name = "PATTERN")]
    patterns: Vec<String>,
    /// A namespace: every key whose first segment it is
    #[arg(long = "namespace", short, value_name = "NAME")]
    namespaces: Vec<String>,
    /// All there is
    #[arg(long)]
    everything: bool,
    /// Also wait until every server over the same Redis obeys, and say who does not by then
    #[arg(long, value_name = "TIME", value_parser = time)]
    applied_everywhere: Option<Duration>,
    #[command(flatten)]
    server: ServerArgs,
}

impl InvalidateArgs {
    fn request(&self) -> Result<Json, Failure> {
        let named = self.keys.len() + self.tags.len() + self.patterns.len() + self.namespaces.len();
        if named == 0 && !self.everything {
            return Err(Failure::new("nothing was named to invalidate").hint("give --key, --tag, --pattern, --namespace or --everything"));
        }
        Ok(json!({
            "keys": self.keys,
            "tags": self.tags,
            "patterns": self.patterns,
            "namespaces": self.namespaces,
            "everything": self.everything,
        }))
    }
}

/// Carries out `larder invalidate`.
pub fn invalidate(args: &InvalidateArgs, out: Output) -> Result<ExitCode, Failure> {
    let request = args.request()?;
    let receipt = Client::new(&args.server)?.send_json(&path(args.applied_everywhere), &request)?;
    out.say(&receipt, || told(&receipt))?;
    match receipt["widened"].as_u64() {
        None | Some(0) => {}
        Some(widened) => {
            let what = plural(widened, "name");
            out.remark(&format!(
                "{what} had to be widened, since too many kinds of patterns are in use: more became stale than was asked for"
            ));
        }
    }
    let everywhere = args.applied_everywhere.is_none() || is_everywhere(&receipt["spread"]);
    Ok(if everywhere { ExitCode::SUCCESS } else { NO.into() })
}

fn path(applied_everywhere: Option<Duration>) -> String {
    let query = applied_everywhere.map(|time| format!("?applied_everywhere={}", percent_encoded(show_time(time).as_bytes())));
    format!("/v1/invalidations{}", query.unwrap_or_default())
}

fn is_everywhere(spread: &Json) -> bool {
    spread["instances"].is_u64() && spread["lagging"].as_array().is_some_and(Vec::is_empty)
}

/// The receipt in words.
fn told(receipt: &Json) -> String {
    let names = plural(receipt["names"].as_u64().unwrap_or(0), "name");
    let mut text = match receipt["queued"].as_bool() {
        Some(true) => format!("invalidated {names} on this server; the others are told when Redis can be reached again"),
        _ => format!("invalidated {names} at position {}", receipt["position"].as_str().unwrap_or("unknown")),
    };
    let spread = &receipt["spread"];
    if is_everywhere(spread) {
        text += &format!("; all of {} obey", plural(spread["instances"].as_u64().unwrap_or(0), "server"));
    } else if let Some(detail) = spread["problem"]["detail"].as_str() {
        text += &format!("; who obeys is not known: {detail}");
    }
    for lagging in spread["lagging"].as_array().into_iter().flatten() {
        let behind = lagging["behind"].as_u64().map(|behind| format!(", {} behind", plural(behind, "position"))).unwrap_or_default();
        let unseen = lagging["unseen_for_ms"].as_u64().unwrap_or(0);
        text +=
            &format!("\n{} does not obey yet: last heard of {unseen} ms ago{behind}", lagging["instance"].as_str().unwrap_or("a server"));
    }
    text
}

#[cfg(test)]
mod tests {
    use clap::{Command, FromArgMatches};

    use super::*;

    fn parse(line: &[&str]) -> InvalidateArgs {
        let command = InvalidateArgs::augment_args(Command::new("invalidate").no_binary_name(true));
        InvalidateArgs::from_arg_matches(&command.get_matches_from(line)).expect("it was parsed")
    }

    #[test]
    fn names_are_collected() {
        let request = parse(&["--key", "a:b", "-t", "x", "--tag", "y", "-p", "a:**", "-n", "features"]).request().expect("names");
        let expected =
            json!({ "keys": ["a:b"], "tags": ["x", "y"], "patterns": ["a:**"], "namespaces": ["features"], "everything": false });
        assert_eq!(request, expected);
    }

    #[test]
    fn who_does_not_obey_is_told() {
        assert_eq!(path(Some(Duration::from_millis(1_500))), "/v1/invalidations?applied_everywhere=1s%20500ms");
        let mut receipt = json!({ "position": "ab-7", "names": 2, "widened": 0, "queued": false });
        assert_eq!(told(&receipt), "invalidated 2 names at position ab-7");
        receipt["spread"] = json!({ "instances": 3, "lagging": [] });
        assert_eq!(told(&receipt), "invalidated 2 names at position ab-7; all of 3 servers obey");
        receipt["spread"]["lagging"] = json!([{ "instance": "b", "behind": 1, "unseen_for_ms": 40 }]);
        assert!(!is_everywhere(&receipt["spread"]));
        assert!(told(&receipt).ends_with("\nb does not obey yet: last heard of 40 ms ago, 1 position behind"), "{}", told(&receipt));
        receipt["queued"] = true.into();
        receipt["spread"] = json!({ "instances": null, "lagging": [], "problem": { "detail": "it is gone" } });
        let told = told(&receipt);
        assert!(told.contains("on this server; the others are told when") && told.ends_with("not known: it is gone"), "{told}");
    }

    #[test]
    fn nothing_is_not_everything() {
        assert!(parse(&[]).request().expect_err("nothing").to_string().contains("--everything"));
        assert_eq!(parse(&["--everything"]).request().expect("everything")["everything"], true);
    }
}
