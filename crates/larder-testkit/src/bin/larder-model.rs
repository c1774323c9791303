//! larder-model: searches the model of the freshness protocol and prints what it found.
//!
//! Two tables: the scenarios that the protocol must survive, and the mutations of it that the search must catch. The exit
//! status is 1 if it did not, or they were not.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use larder_testkit::model::{Bounds, Mutation, Outcome, ROWS, Row, Scenario, Size, broken_by, check, scenarios, story_of};

const USAGE: &str = "\
Searches the model of larder's freshness protocol.

usage: larder-model [--quick] [--mutations]
       larder-model --trace MUTATION

  --quick            the small size of each scenario: seconds instead of minutes
  --mutations        only the mutations, which the search must catch
  --trace MUTATION   tell the shortest violation of one mutation, step by step
  --help             this text

The exit status is 1 if the protocol is violated or not searched to the end, or if a mutation is not caught.";

/// What the command line asks for.
enum Task {
    Help,
    Search { size: Size, scenarios_too: bool },
    Trace(Mutation),
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let task = match parse(&arguments) {
        Ok(task) => task,
        Err(complaint) => {
            eprintln!("larder-model: {complaint}\n\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    let all_well = match task {
        Task::Help => {
            println!("{USAGE}");
            true
        }
        Task::Search { size, scenarios_too } => {
            let protocol_holds = !scenarios_too || search_scenarios(size);
            let mutations_caught = search_mutations();
            protocol_holds && mutations_caught
        }
        Task::Trace(mutation) => trace(mutation),
    };
    if all_well { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn parse(arguments: &[String]) -> Result<Task, String> {
    let mut size = Size::Large;
    let mut scenarios_too = true;
    let mut rest = arguments.iter().map(String::as_str);
    while let Some(argument) = rest.next() {
        match argument {
            "--quick" => size = Size::Quick,
            "--mutations" => scenarios_too = false,
            "--help" | "-h" => return Ok(Task::Help),
            "--trace" => {
                let name = rest.next().ok_or("--trace needs the name of a mutation")?;
                return Mutation::named(name).map(Task::Trace).ok_or_else(|| unknown(name));
            }
            other => return Err(format!("`{other}` is not an option")),
        }
    }
    Ok(Task::Search { size, scenarios_too })
}

fn unknown(name: &str) -> String {
    let names: Vec<&str> = ROWS.iter().map(|row| row.name).collect();
    format!("there is no mutation `{name}`; there are:\n  {}", names.join("\n  "))
}

fn search_scenarios(size: Size) -> bool {
    println!("{:<28} {:>9} {:>10} {:>6} {:>8}  result", "scenario", "instances", "states", "depth", "seconds");
    let mut all_well = true;
    for scenario in scenarios(size) {
        let (outcome, took) = timed(&scenario, None);
        println!(
            "{:<28} {:>9} {:>10} {:>6} {:>8.1}  {}",
            scenario.name(),
            scenario.instance_count(),
            outcome.states,
            outcome.depth,
            took.as_secs_f64(),
            result_of(&outcome)
        );
        if let Some(violation) = &outcome.violation {
            println!("{}", story_of(&scenario, None, violation));
        }
        all_well &= outcome.violation.is_none() && outcome.exhausted;
    }
    println!();
    all_well
}

fn result_of(outcome: &Outcome) -> String {
    match &outcome.violation {
        Some(violation) => format!("{} BROKEN in {} steps", violation.broken.promise, violation.steps.len()),
        None if outcome.exhausted => "no violation".to_owned(),
        None => "NOT EXHAUSTED: a bound was hit".to_owned(),
    }
}

fn search_mutations() -> bool {
    println!("{:<28} {:>8} {:>10} {:>6} {:>8}  result", "taken away", "designed", "states", "steps", "seconds");
    let mut all_caught = true;
    for Row { mutation, name, designed, .. } in &ROWS {
        let (outcome, took) = timed(&broken_by(*mutation), Some(*mutation));
        let designed = designed.map_or("-".to_owned(), |steps| steps.to_string());
        let (steps, result) = match &outcome.violation {
            Some(violation) => (violation.steps.len().to_string(), format!("caught: {} broken", violation.broken.promise)),
            None => ("-".to_owned(), "NOT CAUGHT".to_owned()),
        };
        println!("{name:<28} {designed:>8} {:>10} {steps:>6} {:>8.1}  {result}", outcome.states, took.as_secs_f64());
        all_caught &= outcome.violation.is_some();
    }
    println!("\nHow one of them goes wrong: larder-model --trace NAME");
    all_caught
}

fn trace(mutation: Mutation) -> bool {
    let scenario = broken_by(mutation);
    let (outcome, _) = timed(&scenario, Some(mutation));
    println!("Taken away: {}.", mutation.row().taken_away);
    match &outcome.violation {
        Some(violation) => print!("{}", story_of(&scenario, Some(mutation), violation)),
        None => println!("No violation found."),
    }
    outcome.violation.is_some()
}

fn timed(scenario: &Scenario, mutation: Option<Mutation>) -> (Outcome, Duration) {
    let start = Instant::now();
    let outcome = check(scenario, mutation, Bounds::default());
    (outcome, start.elapsed())
}
