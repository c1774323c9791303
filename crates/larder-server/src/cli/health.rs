//! `larder health`: how a server and what it stands on are, with what to do about it. The exit code tells programs.

use std::process::ExitCode;

use clap::Args;
use serde_json::Value as Json;

use super::client::{Client, ServerArgs};
use super::failure::Failure;
use super::output::{Output, coloured, has_colours, plain};
use crate::config::units::roughly;
use crate::demo::{count, percent};
use crate::http::health::{Document, Measurement};

/// Works worse than it should.
const DEGRADED: u8 = 1;
/// Somebody should come.
const UNHEALTHY: u8 = 2;

/// Say how a server is, and what it stands on
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  larder health
  larder health --verbose            every measurement, and since when
  larder health --json               as GET /health has it (application/health+json)
  larder health || page-somebody

Exits with 0 where all is well, 1 where something is degraded, 2 where something is unhealthy or no server answers. What
counts as how, the section [health] of the server's configuration says.")]
pub struct HealthArgs {
    /// Show every measurement
    #[arg(long, short)]
    verbose: bool,
    #[command(flatten)]
    server: ServerArgs,
}

/// Carries out `larder health`.
pub fn health(args: &HealthArgs, out: Output) -> Result<ExitCode, Failure> {
    let client = Client::new(&args.server)?;
    let answer = client.ask("GET", "/health")?;
    let told = answer.header("content-type") == Some("application/health+json");
    let document = told.then(|| serde_json::from_slice::<Json>(&answer.body).ok()).flatten();
    let Some(json) = document else { return Err(client.refused(&answer)) };
    let document: Document = serde_json::from_value(json.clone()).map_err(|_| client.refused(&answer))?;
    out.say(&json, || words(&document, args.verbose, has_colours()))?;
    Ok(match document.status.as_str() {
        "pass" => ExitCode::SUCCESS,
        "warn" => DEGRADED.into(),
        _ => UNHEALTHY.into(),
    })
}

/// A component's measurements, each with its name.
type Measured<'a> = Vec<(&'a str, &'a Measurement)>;

fn words(document: &Document, verbose: bool, colours: bool) -> String {
    let mut lines = vec![headline(document, colours), String::new()];
    for (name, measured) in components(document) {
        lines.extend(component(name, &measured, verbose, colours));
    }
    lines.join("\n")
}

fn headline(document: &Document, colours: bool) -> String {
    let (_, word, colour) = look_of(&document.status);
    let word = coloured(word, Some(colour).filter(|_| colours));
    match document.notes.len() {
        0 => format!("{word}  larder {}", plain(&document.release_id)),
        1 => format!("{word}  larder {}: one thing deserves a look", plain(&document.release_id)),
        n => format!("{word}  larder {}: {n} things deserve a look", plain(&document.release_id)),
    }
}

/// The sign, the word and the colour of a status.
fn look_of(status: &str) -> (char, &'static str, &'static str) {
    match status {
        "pass" => ('\u{2714}', "healthy", "32"),
        "warn" => ('!', "degraded", "33"),
        _ => ('\u{2718}', "unhealthy", "31"),
    }
}

/// In the order in which the server looks at them; what this version does not know comes last.
fn components(document: &Document) -> Vec<(&str, Measured<'_>)> {
    let mut all: Vec<(&str, Measured<'_>)> = Vec::new();
    for (key, measurements) in &document.checks {
        let (name, what) = key.split_once(':').unwrap_or((key, ""));
        let measured = measurements.iter().map(|one| (what, one));
        match all.iter_mut().find(|(known, _)| *known == name) {
            Some((_, there)) => there.extend(measured),
            None => all.push((name, measured.collect())),
        }
    }
    let place = |name: &str| crate::health::NAMES.iter().position(|known| *known == name).unwrap_or(usize::MAX);
    all.sort_by_key(|(name, _)| place(name));
    all
}

fn component(name: &str, measured: &Measured<'_>, verbose: bool, colours: bool) -> Vec<String> {
    let Some((_, first)) = measured.first() else { return Vec::new() };
    let (sign, _, colour) = look_of(&first.status);
    let sign = coloured(&sign.to_string(), Some(colour).filter(|_| colours));
    let told = first.output.as_ref().map_or_else(|| at_a_glance(name, measured), |what| plain(what));
    let mut lines = vec![format!("  {sign} {:<13}{told}", plain(name)).trim_end().to_owned()];
    // Under the words, behind the name.
    let under = |text: String| format!("{:17}{text}", "");
    lines.extend(first.advice.as_ref().map(|advice| under(format!("\u{2192} {}", plain(advice)))));
    if verbose {
        let line = |(what, one): &(&str, &Measurement)| {
            let value = one.observed_value.as_ref()?;
            let id = one.component_id.as_ref().map(|id| format!(" of {}", plain(id))).unwrap_or_default();
            Some(under(format!("{}{id}: {}", plain(what), shown(value, one.observed_unit.as_deref()))))
        };
        lines.extend(measured.iter().filter_map(line));
        lines.push(under(format!("since {}, looked at {}", plain(&first.since), plain(&first.time))));
    }
    lines
}

/// What is worth a glance of a component that is well.
fn at_a_glance(name: &str, measured: &Measured<'_>) -> String {
    let value = |what: &str| {
        let (_, one) = measured.iter().find(|(name, _)| *name == what)?;
        Some(shown(one.observed_value.as_ref()?, one.observed_unit.as_deref()))
    };
    let parts: Vec<String> = match name {
        "memory" | "backing" => value("responseTime").map(|took| format!("written, read and removed in {took}")).into_iter().collect(),
        "log" => {
            let confirmed = value("unconfirmedFor").map(|ago| format!("confirmed {ago} ago"));
            let behind = value("lag").filter(|lag| confirmed.is_some() && !lag.starts_with("0 ")).map(|lag| format!("{lag} behind"));
            let position = value("position").map(|position| format!("at {position}"));
            [confirmed, position, behind].into_iter().flatten().collect()
        }
        "disk" => value("free").map(|free| format!("{free} free")).into_iter().collect(),
        "sources" => match measured.iter().filter(|(what, _)| *what == "connected").count() {
            0 => vec!["none".to_owned()],
            n => vec![format!("{n} followed")],
        },
        "certificates" => value("timeLeft").map(|left| format!("{left} left")).into_iter().collect(),
        "performance" => match (value("hitRate"), value("meanLatency")) {
            (Some(hits), Some(mean)) => vec![format!("{hits} of reads hit"), format!("{mean} in the mean")],
            _ => vec!["too few reads to judge".to_owned()],
        },
        _ => Vec::new(),
    };
    parts.join(", ")
}

fn shown(value: &Json, unit: Option<&str>) -> String {
    let number = value.as_f64().unwrap_or(0.0);
    match (value, unit) {
        (Json::String(text), _) => plain(text),
        (_, Some("bytes")) => roughly(value.as_u64().unwrap_or(0)),
        (_, Some("ratio")) => percent(number),
        (_, Some("ms")) if number < 10.0 => format!("{number:.2} ms"),
        (_, Some("ms")) => format!("{number:.0} ms"),
        (_, Some("s")) if number >= 172_800.0 => format!("{:.0} days", number / 86_400.0),
        (_, Some("boolean")) => if number > 0.0 { "yes" } else { "no" }.to_owned(),
        (Json::Number(_), unit) => {
            let whole = value.as_u64().map_or_else(|| number.to_string(), count);
            unit.map_or_else(|| whole.clone(), |unit| format!("{whole} {}", plain(unit)))
        }
        (other, _) => plain(&other.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn document() -> Document {
        let of = |kind: &str, status: &str, value: Json, unit: &str| {
            json!({
                "componentType": kind, "status": status, "observedValue": value, "observedUnit": unit,
                "since": "2025-11-26T09:00:00.000Z", "time": "2025-11-26T09:30:00.000Z",
            })
        };
        let mut backing = of("datastore", "warn", json!(2_000.1), "ms");
        backing["output"] = "the backing did not answer within 2s\u{1b}[2J".into();
        backing["advice"] = "see to it".into();
        let document = json!({
            "status": "warn", "releaseId": "0.1.0", "description": "larder", "notes": ["backing: it did not"],
            "checks": {
                "backing:responseTime": [backing],
                "disk:free": [of("system", "pass", json!(3u64 << 30), "bytes")],
                "log:lag": [of("component", "pass", json!(2), "positions")],
                "log:unconfirmedFor": [of("component", "pass", json!(123.4), "ms")],
                "memory:responseTime": [of("component", "pass", json!(0.0523), "ms")],
                "performance:requests": [of("component", "pass", json!(3), "requests")],
                "tea": [{ "componentType": "component", "status": "fail", "since": "x", "time": "y" }],
            },
        });
        serde_json::from_value(document).expect("it is one")
    }

    #[test]
    fn what_is_wrong_stands_with_what_to_do_and_the_rest_at_a_glance() {
        let expected = "\
degraded  larder 0.1.0: one thing deserves a look

  \u{2714} memory       written, read and removed in 0.05 ms
  ! backing      the backing did not answer within 2s\\u{1b}[2J
                 \u{2192} see to it
  \u{2714} log          confirmed 123 ms ago, 2 positions behind
  \u{2714} disk         3.0 GiB free
  \u{2714} performance  too few reads to judge
  \u{2718} tea";
        assert_eq!(words(&document(), false, false), expected);
        let coloured = words(&document(), false, true);
        assert!(
            coloured.starts_with("\u{1b}[33mdegraded\u{1b}[0m") && coloured.contains("\u{1b}[32m\u{2714}\u{1b}[0m memory"),
            "{coloured}"
        );
    }

    #[test]
    fn verbose_tells_every_number_and_since_when() {
        let text = words(&document(), true, false);
        for part in
            ["responseTime: 2000 ms", "lag: 2 positions", "free: 3.0 GiB", "since 2025-11-26T09:00:00.000Z, looked at 2025-11-26T09:30"]
        {
            assert!(text.contains(part), "{part} in {text}");
        }
    }
}
