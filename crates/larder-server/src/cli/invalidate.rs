//! `larder invalidate`: tell a running server what the world has changed.

use std::process::ExitCode;

use clap::Args;
use serde_json::{Value as Json, json};

use super::client::{Client, ServerArgs};
use super::failure::Failure;
use super::output::{Output, plural};

/// Make everything stale that depends on what is named
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  larder invalidate --tag symbol:AAPL               whatever was made from AAPL's data
  larder invalidate --pattern 'prediction:*:*:v17'  * is one segment of a key, ** at the end any number
  larder invalidate --namespace features --key model:gbm
  larder invalidate --everything

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
    let receipt = Client::new(&args.server)?.send_json("/v1/invalidations", &request)?;
    out.say(&receipt, || {
        let names = plural(receipt["names"].as_u64().unwrap_or(0), "name");
        format!("invalidated {names} at position {}", receipt["position"].as_str().unwrap_or("unknown"))
    })?;
    match receipt["widened"].as_u64() {
        None | Some(0) => {}
        Some(widened) => {
            let what = plural(widened, "name");
            out.remark(&format!(
                "{what} had to be widened, since too many kinds of patterns are in use: more became stale than was asked for"
            ));
        }
    }
    Ok(ExitCode::SUCCESS)
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
    fn nothing_is_not_everything() {
        assert!(parse(&[]).request().expect_err("nothing").to_string().contains("--everything"));
        assert_eq!(parse(&["--everything"]).request().expect("everything")["everything"], true);
    }
}
