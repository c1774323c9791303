//! `larder report`: what the cache did in an hour, a day, a week or a month.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use jiff::ZonedDateTime;

use super::client::{Client, ServerArgs, percent_encoded};
use super::failure::Failure;
use super::output::Output;
use crate::history::History;
use crate::report::{self, Asked, Format, Kind, Report};

/// Show what the cache did in an hour, a day, a week or a month, and what would make it better
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  larder report                                     the last 24 hours, against the 24 before
  larder report hourly
  larder report weekly --whole                      the last week of the calendar, from Monday to Monday
  larder report monthly --namespace features --format html --output report.html
  larder report --from 2026-11-01 --to 2026-11-08 --zone Europe/Berlin
  larder report daily --history ./larder/history.db without a server, from its file
  larder report daily --json | jq .findings

A trend is called one only where chance would not explain it: the parts of the period are compared with the same parts of the one
before, and a change counts at one chance in a hundred. Findings say what to change, and what it would bring.")]
pub struct ReportArgs {
    /// How long a period
    #[arg(value_enum, default_value = "daily")]
    kind: Kind,
    /// Where it begins: 2026-11-26, 2026-11-26T14:30, or with an offset
    #[arg(long, value_name = "MOMENT")]
    from: Option<String>,
    /// Where it ends; now, if it is left out
    #[arg(long, value_name = "MOMENT")]
    to: Option<String>,
    /// The last whole hour, day, week or month of the calendar
    #[arg(long, conflicts_with_all = ["from", "to"])]
    whole: bool,
    /// The time zone of all times, such as Europe/Berlin; the one of this machine, if it is left out
    #[arg(long, value_name = "ZONE")]
    zone: Option<String>,
    /// Only this namespace
    #[arg(long, value_name = "NAME")]
    namespace: Option<String>,
    /// How it is printed
    #[arg(long, value_enum, default_value = "text")]
    format: Format,
    /// Write it to this file
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Read this history, and ask no server
    #[arg(long, value_name = "FILE")]
    history: Option<PathBuf>,
    #[command(flatten)]
    server: ServerArgs,
}

/// Carries out `larder report`.
pub fn report(args: &ReportArgs, out: Output) -> Result<ExitCode, Failure> {
    let format = if out.json { Format::Json } else { args.format };
    let report = match &args.history {
        Some(path) => from_file(args, path)?,
        None => from_server(args)?,
    };
    let text = report.render(format).map_err(|error| Failure::new(format!("the report cannot be written: {error}")))?;
    match &args.output {
        Some(path) => {
            fs::write(path, text).map_err(|error| Failure::new(format!("{} cannot be written: {error}", path.display())))?;
            out.remark(&format!("larder: the report is in {}", path.display()));
        }
        None => {
            let mut stdout = std::io::stdout().lock();
            stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()).map_err(|error| Failure::new(error.to_string()))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn from_file(args: &ReportArgs, path: &Path) -> Result<Report, Failure> {
    let failure = |error: &dyn std::fmt::Display| Failure::new(error.to_string());
    let history = History::read_only(path).map_err(|error| failure(&error))?;
    let zone = report::zone(args.zone.as_deref()).map_err(|error| failure(&error))?;
    let asked = Asked { kind: Some(args.kind), from: args.from.clone(), to: args.to.clone(), whole: args.whole };
    report::of_history(&history, &asked, &ZonedDateTime::now().with_time_zone(zone), args.namespace.as_deref())
        .map_err(|error| failure(&error))
}

fn from_server(args: &ReportArgs) -> Result<Report, Failure> {
    // The zone of this machine and not the server's: whoever asks reads it here.
    let here = report::zone(None).ok().and_then(|zone| zone.iana_name().map(str::to_owned));
    let mut path = format!("/v1/reports/{}?format=json", args.kind.name());
    for (name, value) in [("from", &args.from), ("to", &args.to), ("zone", &args.zone.clone().or(here)), ("namespace", &args.namespace)] {
        if let Some(value) = value {
            path += &format!("&{name}={}", percent_encoded(value.as_bytes()));
        }
    }
    if args.whole {
        path += "&whole=true";
    }
    let json = Client::new(&args.server)?.get_json(&path)?;
    serde_json::from_value(json).map_err(|error| {
        Failure::new(format!("the server's report cannot be read: {error}")).hint("is it of the same version as this program?")
    })
}
