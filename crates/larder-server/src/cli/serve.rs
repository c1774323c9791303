//! `larder serve`: the configuration becomes a cache, and the cache a server.

use std::process::ExitCode;

use clap::Args;
use larder::{ErrorKind, Larder};
use serde_json::json;

use super::config::{ConfigArgs, unusable};
use super::failure::Failure;
use super::logging::{self, LogFormat};
use super::output::Output;
use crate::access::Door;
use crate::audit::Audit;
use crate::backup::runs::Backups;
use crate::cleanup::{Cleaner, Places};
use crate::config::units::Size;
use crate::config::{Config, Redis};
use crate::history::{HistoryError, Running};
use crate::jobs::{self, Pace, Works};
use crate::otlp::{self, Exporter};
use crate::serve::{Bound, Serve, shutdown_signal};

/// Serve a cache over HTTP, and to clients of Redis
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  larder serve                                   in memory only, on http://127.0.0.1:7070
  larder serve --data ./larder --memory 1GiB     kept on disk in ./larder
  larder serve --redis redis://127.0.0.1:6379    one cache with all servers that share this Redis
  larder serve --resp 127.0.0.1:7379             for clients of Redis as well: redis-cli -p 7379
  larder serve --tls-certificate server.pem --tls-key server.key    by TLS: larder get KEY --server https://127.0.0.1:7070
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
    /// Also end, in order, when standard input ends: for programs that start a server and may be killed
    #[arg(long, hide = true)]
    until_stdin_ends: bool,
}

/// Carries out `larder serve`.
pub fn serve(args: &ServeArgs, out: Output) -> Result<ExitCode, Failure> {
    let config = args.config.read()?.map_err(|faults| unusable(&faults))?;
    let exporting = config.otlp.as_ref().map(otlp::start).transpose();
    let exporting = exporting.map_err(|error| Failure::new(format!("the thread that exports cannot be started: {error}")))?;
    let (spans, exporter) = exporting.unzip();
    logging::start(args.log_format, spans)?;
    super::runtime()?.block_on(run(&config, exporter, args.until_stdin_ends, out))?;
    Ok(ExitCode::SUCCESS)
}

async fn run(config: &Config, exporter: Option<Exporter>, until_stdin_ends: bool, out: Output) -> Result<(), Failure> {
    // From here on a signal ends the server in order, however early it comes.
    let signalled = shutdown_signal();
    let abandoned = until_stdin_ends.then(stdin_ended);
    let shutdown = async {
        let abandoned = async {
            match abandoned {
                Some(ended) => ended.await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = signalled => {}
            () = abandoned => {}
        }
    };
    let larder = config.builder().build().await.map_err(|error| not_opened(&error))?;
    exporter.iter().for_each(|exporter| exporter.count(&larder));
    let door = match Door::of(config.access.clone(), larder.clock().clone()) {
        Ok(door) => door,
        Err(error) => {
            larder.close().await.map_err(|error| Failure::new(format!("the cache cannot be closed: {error}")))?;
            return Err(Failure::new(format!("who may do what is not known: {error}")));
        }
    };
    let http = &config.http;
    let history = match &config.history {
        Some(settings) => match Running::start(&larder, settings).await {
            Ok(history) => Some(history),
            Err(error) => {
                larder.close().await.map_err(|error| Failure::new(format!("the cache cannot be closed: {error}")))?;
                return Err(no_history(&error));
            }
        },
        None => None,
    };
    let audit = config.audit.clone().map(|settings| Audit::open(settings, larder.clock().clone())).transpose();
    let audit = match audit {
        Ok(audit) => audit,
        Err(error) => {
            larder.close().await.map_err(|error| Failure::new(format!("the cache cannot be closed: {error}")))?;
            return Err(Failure::new(error).hint("audit.folder takes another folder; audit.level = \"off\" does without"));
        }
    };
    let cleaner = Cleaner::new(Places {
        larder: larder.clone(),
        history: history.as_ref().map(Running::pruner),
        audit: audit.clone(),
        letters: config.upkeep.letters,
    });
    let backups = config.backup.clone().map(|settings| Backups::new(larder.clone(), settings));
    let kept = history.as_ref().map(|history| history.history().clone());
    let works = Works::built_in(&cleaner, backups.as_ref().filter(|backups| backups.settings().scheduled));
    let jobs = match jobs::Running::begin(&larder, kept, &config.jobs, works, Pace::default()).await {
        Ok(jobs) => jobs,
        Err(error) => {
            larder.close().await.map_err(|error| Failure::new(format!("the cache cannot be closed: {error}")))?;
            return Err(Failure::new(error).hint("move the file away, or stop whoever has it open; it has what ran last, and nothing else"));
        }
    };
    let serve = Serve {
        larder: larder.clone(),
        http: http.listen,
        limits: http.limits.clone(),
        resp: config.resp.clone(),
        webhooks: config.webhooks.clone(),
        guards: config.guards.clone(),
        audit,
        door,
        is_strict: config.redis.as_ref().is_some_and(Redis::is_strict),
        watched: config.watched(),
        drain: http.drain,
        history,
        upkeep: config.upkeep.clone(),
        cleaner,
        jobs: Some(jobs),
        backups,
    };
    let bound = match serve.bind().await {
        Ok(bound) => bound,
        Err(error) => {
            larder.close().await.map_err(|error| Failure::new(format!("the cache cannot be closed: {error}")))?;
            return Err(Failure::new(error).hint("--http and --resp take other addresses; port 0 takes a free one"));
        }
    };
    for source in &config.sources {
        source.follow(&larder).map_err(Failure::new)?;
    }
    say(config, &larder, &bound, out)?;
    let ended = bound.run_until(shutdown).await.map_err(Failure::new);
    // What is left is sent when all else has ended; its thread may be waited for here, where nothing else runs.
    drop(exporter);
    ended
}

/// Says what is served where.
fn say(config: &Config, larder: &Larder, bound: &Bound, out: Output) -> Result<(), Failure> {
    let guards = &config.guards;
    let url = format!("{}://{}", if guards.of_http().is_some() { "https" } else { "http" }, bound.http_addr());
    let scheme = if guards.of_resp().is_some() { "rediss" } else { "redis" };
    let (resp, unix) =
        (bound.resp_addr().map(|addr| format!("{scheme}://{addr}")), config.resp.unix.as_ref().map(|path| path.display().to_string()));
    let doors = [Some(url.clone()), resp.clone(), unix.clone()].into_iter().flatten().collect::<Vec<_>>().join(" and ");
    let data = config.data.as_ref().map(|data| data.display().to_string());
    let redis = config.redis.as_ref().map(Redis::shown);
    let shared = larder.stats().log.shared;
    let (instance, connected) = (shared.as_ref().map(|log| log.instance.as_str()), shared.as_ref().map(|log| log.connected));
    let told = json!({
        "serving": url, "resp": resp, "unix": unix, "data": data, "redis": redis, "instance": instance, "connected": connected,
        "memory_bytes": config.memory_bytes,
    });
    out.say(&told, || {
        let memory = Size(config.memory_bytes);
        match (&data, redis) {
            (_, Some(redis)) => {
                let name = instance.map(|instance| format!(" as {instance}")).unwrap_or_default();
                let yet = if connected == Some(false) { ", which cannot be reached yet" } else { "" };
                format!("larder serves {doors} ({memory} of memory, shared{name} over {redis}{yet})")
            }
            (Some(data), None) => format!("larder serves {doors} ({memory} of memory, data in {data})"),
            (None, None) => format!("larder serves {doors} ({memory} of memory only: a restart forgets everything; --data DIR keeps it)"),
        }
    })
}

/// Ends when standard input does. A thread of its own reads it, which the end of the process does not wait for: a read that
/// the runtime knows of would have to return first.
fn stdin_ended() -> impl Future<Output = ()> + Send {
    let (ended, told) = tokio::sync::oneshot::channel::<()>();
    std::thread::spawn(move || {
        let read = std::io::copy(&mut std::io::stdin().lock(), &mut std::io::sink());
        tracing::info!(?read, "standard input has ended");
        drop(ended);
    });
    async {
        // Nothing is ever sent: the sender is dropped, which is an error, and the news.
        told.await.unwrap_or_default();
    }
}

fn no_history(error: &HistoryError) -> Failure {
    let failure = Failure::new(error.to_string());
    match error {
        HistoryError::Newer { .. } => failure.hint("use the version that wrote it, or give another file with history.file"),
        HistoryError::Foreign(_) => failure.hint("give another file with history.file"),
        HistoryError::Locked(_) => failure.hint("each server has a file of its own; over one Redis they tell each other"),
        _ => failure.hint("history.file takes another file; history.enabled = false does without"),
    }
}

fn not_opened(error: &larder::Error) -> Failure {
    let failure = Failure::new(format!("the cache cannot be opened: {error}"));
    match error.kind() {
        ErrorKind::Locked => failure.hint("another larder has this folder; stop it, or give another with --data"),
        ErrorKind::UnknownFormat => failure.hint("nothing was changed; use the version that wrote it, or another folder"),
        _ => failure,
    }
}
