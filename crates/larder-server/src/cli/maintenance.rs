//! `larder maintenance`: a server that takes no writes for a while.

use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Subcommand};
use serde_json::Value as Json;

use super::client::{Client, ServerArgs, time};
use super::failure::Failure;
use super::output::{Output, plain, plural};
use crate::config::units::show_time;
use crate::http::MAINTENANCE;
use crate::http::maintenance::Request;
use crate::maintenance::Standing;
use crate::moment::date_and_time;

/// Have a server take no writes for a while
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  larder maintenance on --for 30m --reason 'a new disk'
  larder maintenance on --clear      and invalidate everything, once no write is under way any more
  larder maintenance status
  larder maintenance off

It is of the server that is asked, and of no other that shares its Redis. Writes are refused with an error that may be tried again
(HTTP 503 maintenance, -TRYAGAIN for clients of Redis); reads, loads and invalidations go on, and what is loaded is kept in memory
alone. It ends by itself when its time is over; a restart does not end it, where there is a data folder.")]
pub struct MaintenanceCommand {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Refuse writes from now on, or for longer than was asked before
    On {
        /// How long, 7d at most
        #[arg(long = "for", value_name = "TIME", default_value = "1h", value_parser = time)]
        length: Duration,
        /// Invalidate everything as well
        #[arg(long)]
        clear: bool,
        /// Why, for who sees it
        #[arg(long, value_name = "TEXT", default_value = "")]
        reason: String,
        #[command(flatten)]
        server: ServerArgs,
    },
    /// Take writes again
    Off {
        #[command(flatten)]
        server: ServerArgs,
    },
    /// Say how it stands
    Status {
        #[command(flatten)]
        server: ServerArgs,
    },
}

/// Carries out `larder maintenance`.
pub fn maintenance(command: &MaintenanceCommand, out: Output) -> Result<ExitCode, Failure> {
    let json = match &command.what {
        What::On { length, clear, reason, server } => {
            let asked = Request { length: Some(format!("{}ms", length.as_millis())), clear: *clear, reason: reason.clone() };
            let body = serde_json::to_value(asked).map_err(|error| Failure::new(format!("this cannot be asked: {error}")))?;
            Client::new(server)?.send_json(MAINTENANCE, &body)?
        }
        What::Off { server } => ask(server, "DELETE")?,
        What::Status { server } => ask(server, "GET")?,
    };
    let standing: Standing = serde_json::from_value(json.clone()).map_err(|error| {
        Failure::new(format!("the server's answer cannot be read: {error}")).hint("is it of the same version as this program?")
    })?;
    out.say(&json, || told(&standing))?;
    Ok(ExitCode::SUCCESS)
}

fn ask(server: &ServerArgs, method: &str) -> Result<Json, Failure> {
    let client = Client::new(server)?;
    client.json(client.ask(method, MAINTENANCE)?)
}

fn told(standing: &Standing) -> String {
    if !standing.on {
        return "the server takes writes".to_owned();
    }
    let left = show_time(Duration::from_secs((standing.left_ms.unwrap_or_default() / 1_000).max(1)));
    let mut text = format!("under maintenance since {}, for another {left}", date_and_time(standing.since_ms.unwrap_or_default()));
    let mut add = |label: &str, value: &Option<String>| {
        if let Some(value) = value.as_deref().filter(|value| !value.is_empty()) {
            text += &format!("\n{label}{}", plain(value));
        }
    };
    add("asked for by ", &standing.by);
    add("because: ", &standing.reason);
    if standing.cleared {
        text += "\neverything was invalidated";
    }
    if standing.writes_under_way > 0 {
        text += &format!("\n{} from before have not ended yet", plural(standing.writes_under_way, "write"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_on_is_told_with_why_and_how_long() {
        assert_eq!(told(&Standing::default()), "the server takes writes");
        let on = Standing {
            on: true,
            since_ms: Some(0),
            left_ms: Some(1_800_500),
            by: Some(String::new()),
            reason: Some("a new \u{1b}[31mdisk".into()),
            cleared: true,
            writes_under_way: 2,
            ..Standing::default()
        };
        let text = told(&on);
        for part in ["for another 30m", "because: a new", "everything was invalidated", "2 writes from before"] {
            assert!(text.contains(part), "{part:?} in {text}");
        }
        assert!(!text.contains("asked for by") && !text.contains('\u{1b}'), "{text}");
    }
}
