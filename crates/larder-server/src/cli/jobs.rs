//! `larder jobs`: what the server does by itself, how that went, and doing it now.

use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Subcommand};
use comfy_table::presets::UTF8_HORIZONTAL_ONLY;
use comfy_table::{Cell, Table};
use serde_json::{Value as Json, json};
use ureq::http::StatusCode;

use super::NO;
use super::client::{Client, ServerArgs, percent_encoded};
use super::failure::Failure;
use super::output::{Output, coloured, has_colours, plain, plural};
use crate::config::units::show_time;
use crate::http::jobs::{All, Begun, Job, Summary, Told};
use crate::jobs::{Outcome, Run};
use crate::moment::date_and_time;

/// How often a run that is waited for is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// Look at what the server does by itself, and have it done now
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  larder jobs list
  larder jobs show cleanup           its rules, its last runs, when it runs next
  larder jobs show cleanup 1764295200123    one run: its result and the last lines of its log
  larder jobs run optimize --wait    now, and what came of it
  larder jobs pause backup           not by schedule any more, on any server that shares the cache
  larder jobs resume backup          what was due meanwhile is not made up for
  larder jobs cancel cleanup         the run that is under way stops at its next step

Servers that share a Redis do each job once, whichever is there; all of them tell the same. Times are universal time. Exits with
1 where there is no such job or run, or the run that was waited for did not go well.")]
pub struct JobsCommand {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// List them
    List {
        #[command(flatten)]
        server: ServerArgs,
    },
    /// Show one, or one of its runs
    Show {
        /// Which
        job: String,
        /// Its run of this number
        run: Option<u64>,
        #[command(flatten)]
        server: ServerArgs,
    },
    /// Run one now
    Run {
        /// Which
        job: String,
        /// Wait for its end, and show what came of it
        #[arg(long)]
        wait: bool,
        #[command(flatten)]
        server: ServerArgs,
    },
    /// Begin it no more by schedule
    Pause {
        /// Which
        job: String,
        #[command(flatten)]
        server: ServerArgs,
    },
    /// Begin it by schedule again
    Resume {
        /// Which
        job: String,
        #[command(flatten)]
        server: ServerArgs,
    },
    /// Stop a run
    Cancel {
        /// Of which job
        job: String,
        /// Which run; without it, the one that is under way
        run: Option<u64>,
        #[command(flatten)]
        server: ServerArgs,
    },
}

/// Carries out `larder jobs`.
pub fn jobs(command: &JobsCommand, out: Output) -> Result<ExitCode, Failure> {
    match &command.what {
        What::List { server } => list(&Client::new(server)?, out),
        What::Show { job, run: None, server } => show(&Client::new(server)?, job, out),
        What::Show { job, run: Some(run), server } => show_run(&Client::new(server)?, job, *run, out),
        What::Run { job, wait, server } => run(&Client::new(server)?, job, *wait, out),
        What::Pause { job, server } => set_paused(&Client::new(server)?, job, "pause", out),
        What::Resume { job, server } => set_paused(&Client::new(server)?, job, "resume", out),
        What::Cancel { job, run, server } => cancel(&Client::new(server)?, job, *run, out),
    }
}

fn path(job: &str) -> String {
    format!("/v1/jobs/{}", percent_encoded(job.as_bytes()))
}

fn run_path(job: &str, run: u64) -> String {
    format!("{}/runs/{run}", path(job))
}

fn read<T: serde::de::DeserializeOwned>(json: &Json) -> Result<T, Failure> {
    let wrong =
        |error| Failure::new(format!("the server's answer cannot be read: {error}")).hint("is it of the same version as this program?");
    serde_json::from_value(json.clone()).map_err(wrong)
}

/// Asks, and reads the answer; `None` where there is no such thing, which is said.
fn ask(client: &Client, (method, path): (&str, &str), out: Output) -> Result<Option<Json>, Failure> {
    let answer = client.ask(method, path)?;
    if answer.status == StatusCode::NOT_FOUND
        && let Some(problem) = answer.problem()
    {
        let words = plain(&problem.words());
        out.say(&json!({ "found": false, "problem": words }), || words.clone())?;
        return Ok(None);
    }
    client.json(answer).map(Some)
}

fn list(client: &Client, out: Output) -> Result<ExitCode, Failure> {
    let json = client.get_json("/v1/jobs")?;
    let all: All = read(&json)?;
    out.say(&json, || match all.jobs.is_empty() {
        true => "there are no jobs: all of them are off".to_owned(),
        false => {
            let mut table = Table::new();
            table.load_style(UTF8_HORIZONTAL_ONLY);
            table.set_header(["job", "schedule", "state", "last run", "outcome", "next"].map(Cell::new));
            for job in &all.jobs {
                let last = job.last.as_ref();
                let cells = [
                    plain(&job.name),
                    schedule(job),
                    state(job),
                    last.map_or_else(|| "-".to_owned(), |run| date_and_time(run.started_ms)),
                    last.map_or_else(|| "-".to_owned(), |run| outcome(run.outcome)),
                    job.next_ms.first().map_or_else(|| "-".to_owned(), |next| date_and_time(*next)),
                ];
                table.add_row(cells.map(Cell::new));
            }
            let troubles = all.jobs.iter().filter_map(|job| Some(format!("\n{}: {}", plain(&job.name), plain(job.trouble.as_deref()?))));
            troubles.fold(table.to_string(), |text, trouble| text + &trouble)
        }
    })?;
    Ok(ExitCode::SUCCESS)
}

fn schedule(job: &Summary) -> String {
    if job.zone == "UTC" { plain(&job.schedule) } else { format!("{} {}", plain(&job.schedule), plain(&job.zone)) }
}

fn state(job: &Summary) -> String {
    match (&job.running, job.paused) {
        (Some(under), _) => format!("running on {}", plain(&under.instance)),
        (None, true) => "paused".to_owned(),
        (None, false) => "waiting".to_owned(),
    }
}

fn outcome(outcome: Outcome) -> String {
    let colour = match outcome {
        Outcome::Ok => Some("32"),
        Outcome::Failed | Outcome::TimedOut | Outcome::Missed => Some("31"),
        Outcome::Running => Some("36"),
        _ => Some("33"),
    };
    coloured(&outcome.name().replace('_', " "), colour.filter(|_| has_colours()))
}

fn show(client: &Client, job: &str, out: Output) -> Result<ExitCode, Failure> {
    let Some(json) = ask(client, ("GET", &path(job)), out)? else { return Ok(NO.into()) };
    let job: Job = read(&json)?;
    out.say(&json, || told(&job))?;
    Ok(ExitCode::SUCCESS)
}

fn told(job: &Job) -> String {
    let time = |ms: u64| show_time(Duration::from_millis(ms));
    let summary = &job.summary;
    let mut lines = vec![
        format!("{}: {} ({}), {}", plain(&summary.name), plain(&summary.schedule), plain(&summary.zone), state(summary)),
        format!("  while it runs, what is due: {}; what nobody began in time: {}", plain(&job.overlap), plain(&job.missed)),
        format!(
            "  in time for {}, put off by {} at most; an attempt takes {} at most, and is tried again {}",
            time(job.start_deadline_ms),
            time(job.jitter_ms),
            time(job.timeout_ms),
            plural(job.retries.into(), "time")
        ),
    ];
    if let Some(under) = &summary.running {
        let progress = under.progress.as_ref().map(|step| format!(": {}", progress(step))).unwrap_or_default();
        lines.push(format!("  under way as run {} since {}{progress}", under.id, date_and_time(under.since_ms)));
    }
    if !summary.next_ms.is_empty() {
        let next: Vec<String> = summary.next_ms.iter().map(|next| date_and_time(*next)).collect();
        lines.push(format!("  next: {}", next.join(", ")));
    }
    if let Some(trouble) = &summary.trouble {
        lines.push(format!("  this may be old: {}", plain(trouble)));
    }
    if job.runs.is_empty() {
        lines.push("  it has not run yet".to_owned());
        return lines.join("\n");
    }
    let mut table = Table::new();
    table.load_style(UTF8_HORIZONTAL_ONLY);
    table.set_header(["run", "due", "by", "on", "took", "outcome", "why"].map(Cell::new));
    for run in &job.runs {
        let took = run.ended_ms.map_or_else(|| "-".to_owned(), |ended| time(ended.saturating_sub(run.started_ms)));
        let cells = [
            run.id.to_string(),
            date_and_time(run.due_ms),
            by(run),
            plain(&run.instance),
            took,
            outcome(run.outcome),
            plain(run.error.as_deref().unwrap_or_default()),
        ];
        table.add_row(cells.map(Cell::new));
    }
    lines.push(table.to_string());
    lines.join("\n")
}

fn by(run: &Run) -> String {
    match &run.by {
        Some(by) => plain(by),
        None if run.scheduled => "schedule".to_owned(),
        None => "request".to_owned(),
    }
}

fn progress(step: &crate::progress::Step) -> String {
    let doing = if step.doing.is_empty() { "it begins".to_owned() } else { plain(&step.doing) };
    match step.of {
        Some(of) => format!("{doing}, {} of {of}", step.done),
        None if step.done > 0 => format!("{doing}, {} so far", step.done),
        None => doing,
    }
}

fn show_run(client: &Client, job: &str, run: u64, out: Output) -> Result<ExitCode, Failure> {
    let Some(json) = ask(client, ("GET", &run_path(job, run)), out)? else { return Ok(NO.into()) };
    let told: Told = read(&json)?;
    out.say(&json, || whole(&told))?;
    Ok(ExitCode::SUCCESS)
}

fn whole(told: &Told) -> String {
    let run = &told.run;
    let mut lines = vec![
        format!("run {} of {}: {}", run.id, plain(&run.job), outcome(run.outcome)),
        format!("  due {}, by {}, on {}", date_and_time(run.due_ms), by(run), plain(&run.instance)),
    ];
    let ended = run.ended_ms.map(|ended| {
        let took = show_time(Duration::from_millis(ended.saturating_sub(run.started_ms)));
        format!("  began {}, took {took}, in {}", date_and_time(run.started_ms), plural(run.attempts.into(), "attempt"))
    });
    lines.push(ended.unwrap_or_else(|| format!("  began {}", date_and_time(run.started_ms))));
    lines.extend(told.progress.as_ref().map(|step| format!("  {}", progress(step))));
    lines.extend(run.error.as_ref().map(|error| format!("  {}", plain(error))));
    if !run.result.is_null() {
        let result = serde_json::to_string_pretty(&run.result).unwrap_or_default();
        lines.extend(result.lines().map(|line| format!("  {}", plain(line))));
    }
    lines.extend(run.log.iter().map(|line| format!("  | {}", plain(line))));
    lines.join("\n")
}

fn run(client: &Client, job: &str, wait: bool, out: Output) -> Result<ExitCode, Failure> {
    let Some(json) = ask(client, ("POST", &format!("{}/run", path(job))), out)? else { return Ok(NO.into()) };
    let begun: Begun = read(&json)?;
    if !wait {
        out.say(&json, || format!("{} runs as {}; larder jobs show {} {} says how far it is", begun.job, begun.run, begun.job, begun.run))?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut said = String::new();
    loop {
        let json = client.get_json(&run_path(job, begun.run))?;
        let told: Told = read(&json)?;
        if told.run.outcome != Outcome::Running {
            out.say(&json, || whole(&told))?;
            return Ok(if told.run.outcome == Outcome::Ok { ExitCode::SUCCESS } else { NO.into() });
        }
        let now = told.progress.as_ref().map(progress).unwrap_or_default();
        if now != said && !now.is_empty() {
            out.remark(&format!("larder: {now}"));
            said = now;
        }
        std::thread::sleep(LOOK_EVERY);
    }
}

fn set_paused(client: &Client, job: &str, action: &str, out: Output) -> Result<ExitCode, Failure> {
    let Some(json) = ask(client, ("POST", &format!("{}/{action}", path(job))), out)? else { return Ok(NO.into()) };
    let job: Job = read(&json)?;
    out.say(&json, || {
        let name = plain(&job.summary.name);
        match (job.summary.paused, job.summary.next_ms.first()) {
            (true, _) => format!("{name} is paused; larder jobs resume {name} has it go on"),
            (false, Some(next)) => format!("{name} goes on; it runs next at {}", date_and_time(*next)),
            (false, None) => format!("{name} goes on"),
        }
    })?;
    Ok(ExitCode::SUCCESS)
}

fn cancel(client: &Client, job: &str, run: Option<u64>, out: Output) -> Result<ExitCode, Failure> {
    let run = match run {
        Some(run) => run,
        None => {
            let Some(json) = ask(client, ("GET", &path(job)), out)? else { return Ok(NO.into()) };
            let Some(under) = read::<Job>(&json)?.summary.running else {
                out.say(&json!({ "found": false }), || format!("no run of {} is under way", plain(job)))?;
                return Ok(NO.into());
            };
            under.id
        }
    };
    let Some(json) = ask(client, ("POST", &format!("{}/cancel", run_path(job, run))), out)? else { return Ok(NO.into()) };
    out.say(&json, || format!("run {run} of {} stops at its next step", plain(job)))?;
    Ok(ExitCode::SUCCESS)
}
