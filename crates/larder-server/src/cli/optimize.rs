//! `larder optimize`: how large a cache should be.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, ValueEnum};
use serde_json::json;

use super::client::{Client, ServerArgs};
use super::failure::Failure;
use super::output::{Output, has_colours, plain};
use crate::config::units::{SIZE_EXPECTED, parse_size, roughly};
use crate::demo::{count, percent};
use crate::http::optimize::Document;
use crate::optimize::plot::{Marks, Style, plot};
use crate::optimize::svg::{Panel, svg};
use crate::optimize::trace::{Form, Trace};
use crate::optimize::{Advice, Run, TARGET, curve_of};

/// Sizes that are run where none are given: enough for a line without corners.
const SIZES: usize = 16;

/// How many columns there are where nobody says: a file or a pipe.
const WIDTH: usize = 80;

mod running;

const ROUTE: &str = "/v1/optimize";

/// How it is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    /// A plot and what it means
    Text,
    /// For programs
    Json,
}

/// Show how many reads a cache would answer at other sizes, and which size is worth having
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  larder optimize                                  what a running server has found, and what it would change
  larder optimize --explain --svg curves.svg       with the curve of each namespace
  larder optimize --now                            from the reads up to now; with sizing = \"auto\" it is acted on
  larder optimize --trace reads.csv.gz             for a cache that is yet to be
  larder optimize --trace cloudPhysicsIO.oracleGeneral.zst --memory '64 MiB' --target 0.4
  larder optimize --trace OLTP.lis --sizes '1 MiB,4 MiB,16 MiB' --svg curve.svg
  larder optimize --trace reads.csv --format json | jq .advice

A server looks at this with the setting sizing = \"observe\" or \"auto\".

A trace is what a program asked a cache for: libCacheSim's oracleGeneral, CSV (a first line that names the columns key, size and cost in
microseconds, or a key alone), ARC's and LIRS' text, or keys of 8 or 4 bytes; as it is or compressed by gzip, Zstandard or xz. The cache
itself is run over it in small, with a sample of the keys; --sample 1 follows all of them.")]
pub struct OptimizeArgs {
    /// Run this trace, and ask no server
    #[arg(long, value_name = "FILE", conflicts_with_all = ["explain", "now"])]
    trace: Option<PathBuf>,
    /// Show the curve of each namespace
    #[arg(long)]
    explain: bool,
    /// Have the server end the window that it looks at, and act on it where it is told to
    #[arg(long)]
    now: bool,
    /// Its form, where that cannot be told from its name or its first bytes
    #[arg(long, value_enum, value_name = "FORM", requires = "trace")]
    trace_format: Option<Form>,
    /// What an entry takes in memory where the trace does not say it
    #[arg(long, value_name = "SIZE", default_value = "1 KiB", value_parser = size, requires = "trace")]
    entry_bytes: u64,
    /// The sizes to run, with commas between them
    #[arg(long, value_name = "SIZES", value_delimiter = ',', value_parser = size, requires = "trace")]
    sizes: Vec<u64>,
    /// The memory that there is or might be: what a tenth more or less of it would do
    #[arg(long, value_name = "SIZE", value_parser = size, requires = "trace")]
    memory: Option<u64>,
    /// The hit rate to look for, from 0 to 1
    #[arg(long, value_name = "SHARE", default_value_t = TARGET, value_parser = share)]
    target: f64,
    /// The share of keys that is followed, from 0 to 1
    #[arg(long, value_name = "SHARE", default_value_t = 0.05, value_parser = share, requires = "trace")]
    sample: f64,
    /// How it is printed
    #[arg(long, value_enum, default_value = "text")]
    format: Format,
    /// Draw it into this file
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
    #[command(flatten)]
    server: ServerArgs,
}

fn size(text: &str) -> Result<u64, String> {
    parse_size(text).filter(|bytes| *bytes > 0).ok_or_else(|| format!("expected {SIZE_EXPECTED}"))
}

fn share(text: &str) -> Result<f64, String> {
    text.parse().ok().filter(|share| *share > 0.0 && *share <= 1.0).ok_or_else(|| "expected a share above 0 and up to 1".to_owned())
}

/// Carries out `larder optimize`.
pub fn optimize(args: &OptimizeArgs, out: Output) -> Result<ExitCode, Failure> {
    let out = Output { json: out.json || args.format == Format::Json };
    match &args.trace {
        Some(path) => of_trace(args, path, out),
        None => of_server(args, out),
    }
}

fn of_trace(args: &OptimizeArgs, path: &Path, out: Output) -> Result<ExitCode, Failure> {
    let entry_bytes = u32::try_from(args.entry_bytes).map_err(|_| Failure::new("an entry has at most 4 GiB"))?;
    let trace = Trace::open(path, args.trace_format, entry_bytes).map_err(wrong)?;
    let sizes = if args.sizes.is_empty() { Err(SIZES) } else { Ok(args.sizes.clone()) };
    let curve = curve_of(&trace, &Run { sizes, sample: args.sample }).map_err(wrong)?;
    if curve.reads == 0 {
        return Err(Failure::new(format!("{} has no reads", plain(&path.display().to_string()))));
    }
    let advice = Advice::of(&curve, args.memory, args.target);
    let title = path.file_name().map_or_else(String::new, |name| plain(&name.to_string_lossy()));
    let marks = Marks { bytes: Some(advice.bytes), hit_ratio: Some(args.target) };
    if let Some(path) = &args.svg {
        draw(path, &[Panel { title: &title, curve: &curve, marks }], out)?;
    }
    let document = json!({ "trace": path.display().to_string(), "curve": &curve, "advice": &advice });
    out.say(&document, || {
        let about = format!(
            "{title}: {} reads of {} keys, {} together; {} of the keys followed",
            count(curve.reads),
            count(curve.keys),
            roughly(curve.bytes),
            percent(curve.sampled)
        );
        let points = curve.points.iter().map(|point| format!("  {:>10}  {:>8}", roughly(point.bytes), percent(point.hit_ratio)));
        let table = points.collect::<Vec<_>>().join("\n");
        let plot = plot(&about, &curve, marks, style());
        format!("{plot}\n{}\n\n        size  hit rate\n{table}", told(&advice, curve.load_seconds > 0.0))
    })?;
    Ok(ExitCode::SUCCESS)
}

fn of_server(args: &OptimizeArgs, out: Output) -> Result<ExitCode, Failure> {
    let client = Client::new(&args.server)?;
    let json = if args.now { client.json(client.ask("POST", ROUTE)?)? } else { client.get_json(ROUTE)? };
    let found: Document = serde_json::from_value(json.clone()).map_err(|error| {
        Failure::new(format!("the server's answer cannot be read: {error}")).hint("is it of the same version as this program?")
    })?;
    let Some(sizing) = found.sizing else {
        out.say(&json, || "The server does not look at this: set sizing = \"observe\", or \"auto\" to have it acted on.".to_owned())?;
        return Ok(ExitCode::SUCCESS);
    };
    if let Some(path) = &args.svg {
        let panels = running::panels(&sizing, args.target);
        let panels: Vec<Panel<'_>> = panels.iter().map(|(title, curve, marks)| Panel { title, curve, marks: *marks }).collect();
        draw(path, &panels, out)?;
    }
    out.say(&json, || running::told(&sizing, args.target, args.explain.then(style)))?;
    Ok(ExitCode::SUCCESS)
}

fn wrong(error: impl std::fmt::Display) -> Failure {
    Failure::new(plain(&error.to_string()))
}

/// Draws curves into a file.
fn draw(path: &Path, panels: &[Panel<'_>], out: Output) -> Result<(), Failure> {
    let text = svg(panels).map_err(wrong)?;
    fs::write(path, text).map_err(|error| Failure::new(format!("{} cannot be written: {error}", path.display())))?;
    out.remark(&format!("larder: the curve is drawn in {}", path.display()));
    Ok(())
}

/// What a curve says, in sentences.
fn told(advice: &Advice, timed: bool) -> String {
    let target = percent(advice.target);
    let first = match advice.size_for_target {
        Some(bytes) => format!("{target} of reads hit with {}.", roughly(bytes)),
        None => format!("No size reaches {target}: too many reads are of keys that were not read before."),
    };
    let step = |step: &larder::sizing::Step| {
        let time = if timed { format!(" and {:+.1} s of loading saved", step.load_seconds) } else { String::new() };
        format!("{:+.2} points{time}", step.hit_ratio * 100.0)
    };
    format!(
        "{first}\n{} hits {}. A tenth more of it: {}; a tenth less: {}.",
        roughly(advice.bytes),
        percent(advice.hit_ratio),
        step(&advice.gain),
        step(&advice.loss)
    )
}

/// As the terminal has it; where there is none, plain characters and a width that fits a page.
fn style() -> Style {
    let stdout = std::io::stdout();
    let Ok(window) = rustix::termios::tcgetwinsize(&stdout) else {
        return Style { width: WIDTH, unicode: false, colours: false };
    };
    let width = if window.ws_col == 0 { WIDTH } else { window.ws_col.into() };
    Style { width, unicode: speaks_unicode(), colours: has_colours() }
}

/// What the locale says, in the order in which it is asked.
fn speaks_unicode() -> bool {
    let set = ["LC_ALL", "LC_CTYPE", "LANG"].into_iter().find_map(|name| std::env::var(name).ok().filter(|value| !value.is_empty()));
    set.is_some_and(|locale| locale.to_ascii_lowercase().replace('-', "").contains("utf8"))
}
