//! What the program says while it works, on stderr.

use std::io::IsTerminal;

use clap::ValueEnum;
use tracing_subscriber::EnvFilter;

use super::failure::Failure;

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
pub fn start(format: LogFormat) -> Result<(), Failure> {
    let wanted = std::env::var(VARIABLE).unwrap_or_else(|_| "info".to_owned());
    let filter = EnvFilter::try_new(&wanted).map_err(|error| {
        Failure::new(format!("{VARIABLE} is \"{}\": {error}", wanted.escape_debug()))
            .hint("it is a level such as warn, info or debug, or one for a part: info,larder=debug")
    })?;
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let started = match format {
        LogFormat::Human => builder.with_ansi(std::io::stderr().is_terminal()).try_init(),
        LogFormat::Json => builder.json().try_init(),
    };
    started.map_err(|error| Failure::new(format!("logging cannot be started: {error}")))
}
