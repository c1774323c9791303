//! The command line: what can be asked of the program, and who answers.
//!
//! Exit codes are a part of what it says: 0 when all is well; 1 for a well-formed question with a negative answer (a key
//! that is not there, a configuration with errors, a demo that found a stale read); 2 when the question could not be
//! asked or answered (usage, no server, a refused request).

mod failure;

use std::io::{self, Write};
use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};

use crate::demo::{self, DemoArgs, Verdict};
use failure::Failure;

/// A negative answer.
const NO: u8 = 1;
/// Ended by a signal, as shells report it.
const INTERRUPTED: u8 = 130;

/// A cache whose reads can say how fresh they are.
#[derive(Debug, Parser)]
#[command(name = "larder", version, max_term_width = 110)]
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
    Demo(DemoArgs),
}

/// Runs the command that the process was started with.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    answer(cli).unwrap_or_else(|failure| failure.report())
}

fn answer(cli: Cli) -> Result<ExitCode, Failure> {
    match cli.command {
        None => {
            write!(io::stdout(), "{}", Cli::command().render_long_help()).map_err(Failure::output)?;
            Ok(ExitCode::SUCCESS)
        }
        Some(Command::Demo(mut args)) => {
            args.json = cli.json;
            run_demo(&args)
        }
    }
}

fn runtime() -> Result<tokio::runtime::Runtime, Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    runtime.map_err(|error| Failure::new(format!("the program's threads cannot be started: {error}")))
}

fn run_demo(args: &DemoArgs) -> Result<ExitCode, Failure> {
    let verdict = runtime()?.block_on(async {
        let stopped = stop_signal()?;
        demo::demonstrate(args, stopped).await.map_err(Failure::new)
    })?;
    match verdict {
        Verdict::Held => Ok(ExitCode::SUCCESS),
        Verdict::Broken => Ok(NO.into()),
        Verdict::Interrupted => {
            eprintln!("larder: the demo was stopped before its end, so it found nothing; its folder is removed");
            Ok(INTERRUPTED.into())
        }
    }
}

/// Ready at the first ctrl-c or SIGTERM.
fn stop_signal() -> Result<impl Future<Output = ()>, Failure> {
    use tokio::signal::unix::{SignalKind, signal};
    let listen = |kind| signal(kind).map_err(|error| Failure::new(format!("signals cannot be listened for: {error}")));
    let (mut interrupt, mut terminate) = (listen(SignalKind::interrupt())?, listen(SignalKind::terminate())?);
    Ok(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
    })
}
