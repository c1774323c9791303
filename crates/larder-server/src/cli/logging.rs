//! What the program says while it works, on stderr.

use std::io::IsTerminal;

use clap::ValueEnum;
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer};

use super::failure::Failure;
use crate::otlp::Spans;

/// How log lines look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// Lines for people
    #[default]
    Human,
    /// One JSON object a line
    Json,
}

/// The variable that says what is logged.
const VARIABLE: &str = "LARDER_LOG";

/// Starts logging for the rest of the process.
///
/// # Errors
/// For a filter that cannot be understood.
pub fn start(format: LogFormat, spans: Option<Spans>) -> Result<(), Failure> {
    let wanted = std::env::var(VARIABLE).unwrap_or_else(|_| "info".to_owned());
    let filter = EnvFilter::try_new(&wanted).map_err(|error| {
        Failure::new(format!("{VARIABLE} is \"{}\": {error}", wanted.escape_debug()))
            .hint("it is a level such as warn, info or debug, or one for a part: info,larder=debug")
    })?;
    // What is exported is chosen apart from what is logged.
    let exported = spans.map(|spans| spans.with_filter(filter_fn(Spans::wants)));
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    let registry = tracing_subscriber::registry().with(exported);
    let started = match format {
        LogFormat::Human => registry.with(lines.with_ansi(std::io::stderr().is_terminal()).with_filter(filter)).try_init(),
        LogFormat::Json => registry.with(lines.json().with_filter(filter)).try_init(),
    };
    started.map_err(|error| Failure::new(format!("logging cannot be started: {error}")))
}
