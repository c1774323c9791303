//! From the sections `[jobs.NAME]` to what the server does by itself.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use super::Typed;
use super::catalog::JOBS;
use super::document::Givens;
use super::fault::Fault;
use super::value::Value;
use crate::jobs::schedule::{NoSchedule, Schedule};
use crate::jobs::{Definition, JobSettings, Missed, Overlap};

/// When each is due unless told otherwise.
const SCHEDULES: [(&str, &str); 4] =
    [("cleanup", "0 2 * * *"), ("optimize", "0 3 * * 0"), ("analyze", "0 4 1 * *"), ("backup", "0 1 * * *")];

/// What the runs are called in the folder of the entries, and the folder of reports there.
const FILE: &str = "jobs.db";
const REPORTS: &str = "reports";

/// Runs of each job that are kept, and reports: three years of months.
const RUNS_KEPT: usize = 200;
const REPORTS_KEPT: usize = 36;

const DAY: Duration = Duration::from_secs(24 * 3_600);

/// Times that are limited: each with the least and the most.
const LIMITS: [(&str, Duration, Duration); 4] = [
    ("start_deadline", Duration::from_secs(1), Duration::from_secs(366 * 24 * 3_600)),
    ("jitter", Duration::ZERO, DAY),
    ("timeout", Duration::from_secs(1), Duration::from_secs(7 * 24 * 3_600)),
    ("backoff", Duration::from_millis(1), Duration::from_secs(3_600)),
];

/// What the sections say, and what is wrong with them. Runs are kept in the folder of the entries, and reports there or beside the history.
pub fn of(sections: &BTreeMap<String, Givens>, (data, beside): (Option<&Path>, Option<&Path>), faults: &mut Vec<Fault>) -> JobSettings {
    let mut jobs = Vec::new();
    for (name, expression) in SCHEDULES {
        let givens = sections.get(name).expect("all jobs are there");
        let job = definition(name, expression, givens, faults);
        jobs.extend(job.filter(|_| Typed(givens).flag("enabled")));
    }
    JobSettings {
        jobs,
        file: data.map(|data| data.join(FILE)),
        reports: beside.map(|folder| folder.join(REPORTS)),
        runs_kept: RUNS_KEPT,
        reports_kept: REPORTS_KEPT,
    }
}

fn definition(name: &str, expression: &str, givens: &Givens, faults: &mut Vec<Fault>) -> Option<Definition> {
    for (setting, least, most) in LIMITS {
        let given = &givens[setting];
        if let Value::Time(time) = given.value
            && !(least..=most).contains(&time)
        {
            let (least, most) = (super::units::show_time(least), super::units::show_time(most));
            faults.push(Fault::new(
                &given.place,
                format!("{}.{name}.{setting}: found {}; it is from {least} to {most}", JOBS.name, given.value),
            ));
        }
    }
    let text = |setting: &str| match givens.get(setting).map(|given| &given.value) {
        Some(Value::Text(text)) => Some(text.as_str()),
        _ => None,
    };
    let typed = Typed(givens);
    match Schedule::parse(text("schedule").unwrap_or(expression), text("zone").unwrap_or("UTC")) {
        Ok(schedule) => Some(Definition {
            overlap: if *typed.get("overlap") == Value::Choice("queue") { Overlap::Queue } else { Overlap::Skip },
            missed: match typed.get("missed") {
                Value::Choice("skip") => Missed::Skip,
                Value::Choice("all") => Missed::All,
                _ => Missed::Once,
            },
            start_deadline: typed.time("start_deadline"),
            jitter: typed.time("jitter"),
            timeout: typed.time("timeout"),
            retries: u32::try_from(typed.number("retries")).unwrap_or(u32::MAX),
            backoff: typed.time("backoff"),
            ..Definition::new(name, schedule)
        }),
        Err(wrong) => {
            let setting = if wrong == NoSchedule::Zone { "zone" } else { "schedule" };
            if let Some(given) = givens.get(setting) {
                faults.push(Fault::new(&given.place, format!("{}.{name}.{setting}: found {}; {wrong}", JOBS.name, given.value)));
            }
            None
        }
    }
}
