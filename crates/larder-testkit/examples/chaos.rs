//! chaos: several instances of larder over a Redis that breaks, for as long as one likes, and a table of it at the end.
//!
//! An example and no program of the test kit's: the kit itself knows no cache. `cargo xtask chaos` runs it.

#[path = "../tests/chaos/run.rs"]
mod run;

use std::process::ExitCode;
use std::time::{Duration, Instant};

use larder_testkit::chaos::Fault;
use larder_testkit::chaos::report::Report;
use larder_testkit::chaos::site::Topology;
use run::{INSTANCES, Plan, play};

const USAGE: &str = "\
Runs several instances of larder over a Redis that breaks, and checks every promise.

usage: chaos --minutes N [--seed S] [--only single|sentinel|cluster]

  --minutes N   how long; half of it over a single server, a quarter each over Sentinel and Cluster
  --seed S      the seed of the schedule; by default a random one, which is printed
  --only KIND   one kind of Redis alone
  --help        this text

The exit status is 1 if a promise was broken.";

/// Clients of each instance, and how long each rests between two operations: enough for some thousands a second.
const CLIENTS: usize = 48;
const PAUSE: Duration = Duration::from_millis(16);

struct Task {
    length: Duration,
    seed: u64,
    only: Option<Topology>,
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments.iter().any(|argument| matches!(argument.as_str(), "-h" | "--help")) {
        println!("{USAGE}");
        return ExitCode::SUCCESS;
    }
    let task = match parse(&arguments) {
        Ok(task) => task,
        Err(complaint) => {
            eprintln!("chaos: {complaint}\n\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    match run(&task) {
        Ok(report) => {
            for (topology, violation) in report.violations() {
                println!("VIOLATION ({topology}) {violation}\n");
            }
            println!("{report}");
            if report.violations().next().is_none() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Err(complaint) => {
            eprintln!("chaos: {complaint}");
            ExitCode::from(2)
        }
    }
}

fn run(task: &Task) -> Result<Report, String> {
    let began = Instant::now();
    eprintln!("seed {}", task.seed);
    let mut parts = Vec::new();
    for topology in Topology::ALL.into_iter().filter(|topology| task.only.is_none_or(|only| only == *topology)) {
        let share = match (task.only, topology) {
            (Some(_), _) => 1,
            (None, Topology::Single) => 2,
            (None, _) => 4,
        };
        let plan = Plan {
            topology,
            seed: task.seed,
            clients: CLIENTS,
            pause: PAUSE,
            length: task.length / share,
            faults: Fault::ALL.to_vec(),
            mutation: None,
            tells: true,
        };
        parts.push((topology, play(&plan).map_err(|error| error.to_string())?));
    }
    let of = format!("{INSTANCES} instances (the wall clock of one is a day off)");
    Ok(Report { seed: task.seed, of, took: began.elapsed(), parts })
}

fn parse(arguments: &[String]) -> Result<Task, String> {
    let mut task = Task { length: Duration::ZERO, seed: fastrand::u64(..1 << 32), only: None };
    let mut rest = arguments.iter();
    while let Some(argument) = rest.next() {
        let value = rest.next().ok_or_else(|| format!("{argument} needs a value"))?;
        match argument.as_str() {
            "--minutes" => {
                let minutes: f64 = value.parse().map_err(|_| format!("`{value}` is not a number of minutes"))?;
                task.length = Duration::try_from_secs_f64(minutes * 60.0).map_err(|error| format!("{minutes} minutes: {error}"))?;
            }
            "--seed" => task.seed = value.parse().map_err(|_| format!("`{value}` is not a seed"))?,
            "--only" => {
                let named = Topology::ALL.into_iter().find(|topology| topology.to_string() == *value);
                task.only = Some(named.ok_or_else(|| format!("`{value}` is no kind of Redis that it knows"))?);
            }
            other => return Err(format!("`{other}` is not an option")),
        }
    }
    if task.length.is_zero() {
        return Err("for how many minutes? --minutes says".to_owned());
    }
    Ok(task)
}
