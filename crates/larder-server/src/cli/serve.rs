//! `larder serve`: the configuration becomes a cache, and the cache a server.

use std::process::ExitCode;

use clap::Args;
use larder::ErrorKind;
use serde_json::json;

use super::config::{ConfigArgs, unusable};
use super::failure::Failure;
use super::logging::{self, LogFormat};
use super::output::Output;
use crate::config::Config;
use crate::config::units::Size;
use crate::serve::{Serve, shutdown_signal};

/// Serve a cache over HTTP
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  larder serve                                   in memory only, on http://127.0.0.1:7070
  larder serve --data ./larder --memory 1GiB     kept on disk in ./larder
  larder serve --config larder.toml
  larder serve --http 127.0.0.1:0 --json         on a free port, told as one JSON object on stdout

A first entry:
  curl -X PUT http://127.0.0.1:7070/v1/entries/features:AAPL:5m -H 'Cache-Tag: symbol:AAPL' -d '{\"rsi\": 61.2}'
  curl -i http://127.0.0.1:7070/v1/entries/features:AAPL:5m
  curl http://127.0.0.1:7070/openapi.json        everything it answers

SIGTERM and ctrl-c end it in order: requests under way are answered, entries written, the log closed. LARDER_LOG says
what is logged (info,larder=debug).")]
pub struct ServeArgs {
    #[command(flatten)]
    config: ConfigArgs,
    /// How log lines look
    #[arg(long, value_name = "FORMAT", default_value = "human")]
    log_format: LogFormat,
}

/// Carries out `larder serve`.
pub fn serve(args: &ServeArgs, out: Output) -> Result<ExitCode, Failure> {
    logging::start(args.log_format)?;
    let config = args.config.read()?.map_err(|faults| unusable(&faults))?;
    super::runtime()?.block_on(run(&config, out))?;
    Ok(ExitCode::SUCCESS)
}

async fn run(config: &Config, out: Output) -> Result<(), Failure> {
    // From here on a signal ends the server in order, however early it comes.
    let shutdown = shutdown_signal();
    let larder = config.builder().build().await.map_err(|error| not_opened(&error))?;
    let http = &config.http;
    let serve = Serve { larder: larder.clone(), http: http.listen, limits: http.limits.clone(), drain: http.drain };
    let bound = match serve.bind().await {
        Ok(bound) => bound,
        Err(error) => {
            larder.close().await.map_err(|error| Failure::new(format!("the cache cannot be closed: {error}")))?;
            let what = format!("{} cannot be listened on: {error}", http.listen);
            return Err(Failure::new(what).hint("--http takes another address; port 0 takes a free one"));
        }
    };
    let url = format!("http://{}", bound.http_addr());
    let data = config.data.as_ref().map(|data| data.display().to_string());
    out.say(&json!({ "serving": url, "data": data, "memory_bytes": config.memory_bytes }), || {
        let memory = Size(config.memory_bytes);
        match &data {
            Some(data) => format!("larder serves {url} ({memory} of memory, data in {data})"),
            None => format!("larder serves {url} ({memory} of memory only: a restart forgets everything; --data DIR keeps it)"),
        }
    })?;
    bound.run_until(shutdown).await.map_err(Failure::new)
}

fn not_opened(error: &larder::Error) -> Failure {
    let failure = Failure::new(format!("the cache cannot be opened: {error}"));
    match error.kind() {
        ErrorKind::Locked => failure.hint("another larder has this folder; stop it, or give another with --data"),
        ErrorKind::UnknownFormat => failure.hint("nothing was changed; use the version that wrote it, or another folder"),
        _ => failure,
    }
}
