//! The command line: what can be asked of the program, and who answers.
//!
//! Exit codes are a part of what it says: 0 when all is well; 1 for a well-formed question with a negative answer (a key
//! that is not cached, a configuration with errors, a demo that found a stale read); 2 when the question could not be
//! asked or answered (usage, no server, a refused request).

mod access;
mod audit;
mod backup;
mod cleanup;
mod client;
mod config;
mod dlq;
mod emit;
mod entries;
mod events;
mod explain;
mod failure;
mod health;
mod invalidate;
mod jobs;
mod keys;
mod logging;
mod maintenance;
mod optimize;
mod output;
mod report;
mod serve;
mod stats;
mod trust;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::demo::{self, DemoArgs, Verdict};
use crate::serve::shutdown_signal;
use access::{AccessCommand, InitArgs, TokenCommand};
use audit::AuditCommand;
use backup::BackupCommand;
use cleanup::CleanupArgs;
use config::ConfigCommand;
use dlq::DlqCommand;
use emit::EmitArgs;
use entries::{GetArgs, PutArgs, RmArgs};
use events::EventsCommand;
use explain::{ExplainArgs, MovedArgs};
use failure::Failure;
use health::HealthArgs;
use invalidate::InvalidateArgs;
use jobs::JobsCommand;
use keys::KeysArgs;
use maintenance::MaintenanceCommand;
use optimize::OptimizeArgs;
use output::Output;
use report::ReportArgs;
use serve::ServeArgs;
use stats::StatsArgs;

/// A negative answer.
const NO: u8 = 1;
/// Ended by a signal, as shells report it.
const INTERRUPTED: u8 = 130;

const OVERVIEW: &str = "\
larder: a cache whose reads can say how fresh they are

See it work:
  larder demo                    real market data, every read checked for staleness

Run it:
  larder serve                   a cache in memory, on http://127.0.0.1:7070
  larder serve --data ./larder   the same, kept on disk
  larder serve --redis URL       one cache on many machines, over Redis or Valkey
  larder config schema           every setting, with its default and what it is for

Use it, from here or from any language over HTTP:
  larder put features:AAPL:5m '{\"rsi\": 61.2}' --ttl 5m --tag symbol:AAPL
  larder get features:AAPL:5m
  larder invalidate --tag symbol:AAPL
  larder emit market_data_update --data '{\"symbol\": \"AAPL\"}'
  larder explain features:AAPL:5m
  larder events tail             what becomes of events, as they come
  larder dlq list                events that nobody managed
  larder keys 'features:**'
  larder stats
  larder report daily            what it did, against the day before, and what would make it better
  larder optimize                what more or less memory would do; --trace FILE does it for a cache that is yet to be
  larder cleanup                 gives back what nobody needs any more
  larder maintenance on --for 30m    takes no writes for a while, and comes back by itself
  larder jobs list               what it does by itself, and how that went; larder jobs run does it now
  larder audit tail              who did what, where that is recorded
  larder backup create           keep what it has; what is invalidated after stays dead when it is restored
  larder health                  how the server is; exits with 0, 1 or 2

Say who may do what:
  larder init --data ./larder    the first token, told once
  larder token create ingest     a token for a program
  larder access explain ingest write features:AAPL:5m

larder help COMMAND explains a command, with examples. --json makes any of them print JSON.";

const EXIT_CODES: &str = "\
Exit codes:
  0  all is well
  1  the answer is no: not cached, errors in the configuration, a stale read in the demo, a degraded server
  2  it could not be asked or answered: wrong usage, no server, a refused request; an unhealthy server";

/// A cache whose reads can say how fresh they are
#[derive(Debug, Parser)]
#[command(name = "larder", version, max_term_width = 110, after_help = EXIT_CODES)]
struct Cli {
    /// Print JSON, for programs
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Watch the cache keep its promise on real market data
    #[command(after_help = "\
Examples:
  larder demo                           ten seconds; exits with 1 if any read was stale
  larder demo --compare                 the same workload on a TTL alone, and on deleting what was updated
  larder demo --seconds 60 --bars-per-second 2000
  larder demo --reads 1000000 --json
  larder demo --redis spawn             three servers that are one cache, over a Redis that it starts (needs redis-server)
  larder demo --redis redis://127.0.0.1:6379 --instances 5

Nothing is needed for it and nothing is left behind: the data are in the program, the cache in a temporary folder. Over
Redis, all keys have a prefix of their own and are removed in the end.")]
    Demo(DemoArgs),
    Serve(ServeArgs),
    Get(GetArgs),
    Put(PutArgs),
    Rm(RmArgs),
    Invalidate(InvalidateArgs),
    Emit(EmitArgs),
    Moved(MovedArgs),
    Explain(ExplainArgs),
    Events(EventsCommand),
    Dlq(DlqCommand),
    Keys(KeysArgs),
    Stats(StatsArgs),
    Report(ReportArgs),
    Optimize(OptimizeArgs),
    Cleanup(CleanupArgs),
    Maintenance(MaintenanceCommand),
    Jobs(JobsCommand),
    Health(HealthArgs),
    Audit(AuditCommand),
    Backup(BackupCommand),
    Config(ConfigCommand),
    Init(InitArgs),
    Token(TokenCommand),
    Access(AccessCommand),
}

/// Runs the command that the process was started with.
pub fn main() -> ExitCode {
    answer(Cli::parse()).unwrap_or_else(|failure| failure.report())
}

fn answer(cli: Cli) -> Result<ExitCode, Failure> {
    let out = Output { json: cli.json };
    match cli.command {
        None => {
            output::line(OVERVIEW)?;
            Ok(ExitCode::SUCCESS)
        }
        Some(Command::Demo(mut args)) => {
            args.json = cli.json;
            run_demo(&args)
        }
        Some(Command::Serve(args)) => serve::serve(&args, out),
        Some(Command::Get(args)) => entries::get(&args, out),
        Some(Command::Put(args)) => entries::put(&args, out),
        Some(Command::Rm(args)) => entries::rm(&args, out),
        Some(Command::Invalidate(args)) => invalidate::invalidate(&args, out),
        Some(Command::Emit(args)) => emit::emit(&args, out),
        Some(Command::Moved(args)) => explain::moved(&args, out),
        Some(Command::Explain(args)) => explain::explain(&args, out),
        Some(Command::Events(command)) => events::events(&command, out),
        Some(Command::Dlq(command)) => dlq::dlq(&command, out),
        Some(Command::Keys(args)) => keys::keys(&args, out),
        Some(Command::Stats(args)) => stats::stats(&args, out),
        Some(Command::Report(args)) => report::report(&args, out),
        Some(Command::Optimize(args)) => optimize::optimize(&args, out),
        Some(Command::Cleanup(args)) => cleanup::cleanup(&args, out),
        Some(Command::Maintenance(command)) => maintenance::maintenance(&command, out),
        Some(Command::Jobs(command)) => jobs::jobs(&command, out),
        Some(Command::Health(args)) => health::health(&args, out),
        Some(Command::Audit(command)) => audit::audit(&command, out),
        Some(Command::Backup(command)) => backup::backup(&command, out),
        Some(Command::Config(command)) => config::config(&command, out),
        Some(Command::Init(args)) => access::init(&args, out),
        Some(Command::Token(command)) => access::token(&command, out),
        Some(Command::Access(command)) => access::access(&command, out),
    }
}

fn runtime() -> Result<tokio::runtime::Runtime, Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    runtime.map_err(|error| Failure::new(format!("the program's threads cannot be started: {error}")))
}

fn run_demo(args: &DemoArgs) -> Result<ExitCode, Failure> {
    let verdict = runtime()?.block_on(async { demo::demonstrate(args, shutdown_signal()).await });
    let verdict = verdict.map_err(Failure::new)?;
    match verdict {
        Verdict::Held => Ok(ExitCode::SUCCESS),
        Verdict::Broken => Ok(NO.into()),
        Verdict::Interrupted => {
            eprintln!("larder: the demo was stopped before its end, so it found nothing; what it made is removed");
            Ok(INTERRUPTED.into())
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_well_formed_and_every_command_has_examples() {
        let mut command = Cli::command();
        command.clone().debug_assert();
        command.build();
        for sub in command.get_subcommands_mut().filter(|sub| sub.get_name() != "help") {
            let help = sub.render_long_help().to_string();
            assert!(help.contains("Examples:\n  larder "), "{help}");
            assert!(sub.get_about().is_some(), "{}", sub.get_name());
        }
    }

    #[test]
    fn json_can_be_asked_for_anywhere() {
        for line in [["larder", "--json", "stats"], ["larder", "stats", "--json"]] {
            assert!(Cli::try_parse_from(line).expect("it parses").json);
        }
        assert!(Cli::try_parse_from(["larder", "config", "schema", "--json"]).expect("it parses").json);
    }

    #[test]
    fn the_overview_names_only_what_there_is() {
        let command = Cli::command();
        let named = OVERVIEW.lines().filter_map(|line| line.strip_prefix("  larder ")?.split(' ').next());
        let named: Vec<&str> = named.collect();
        assert!(named.len() > 6);
        for name in named {
            assert!(command.find_subcommand(name).is_some(), "{name}");
        }
    }

    #[test]
    fn values_may_begin_with_a_dash() {
        for value in ["-1", "-"] {
            assert!(Cli::try_parse_from(["larder", "put", "k", value, "--ttl", "5m"]).is_ok(), "{value}");
        }
        assert!(Cli::try_parse_from(["larder", "put", "k", "v", "--ttl", "5"]).is_err());
    }
}
