//! `larder audit`: what was done, from the files where it is recorded. No server is asked: whoever may read the files may read this.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, SystemTime};

use clap::{Args, Subcommand};
use jiff::Timestamp;
use serde_json::json;

use super::NO;
use super::config::{ConfigArgs, unusable};
use super::failure::Failure;
use super::output::{self, Output, plain, plural};
use crate::audit::record::Entry;
use crate::audit::search::{Wanted, last, search};
use crate::audit::verify::verify;
use crate::audit::{Class, Decision, Outcome};
use crate::config::units::parse_time;
use crate::moment;

/// How often files are looked at for records that come.
const FOLLOW_EVERY: Duration = Duration::from_millis(500);

/// Check, follow and search the audit log
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  larder audit verify --data ./larder            whether it is as it was written; exits with 1 if not
  larder audit tail --data ./larder -n 50
  larder audit tail --config larder.toml --follow
  larder audit search --data ./larder --since 1h --class admin
  larder audit search --folder /var/log/larder --name 'key:features:*' --who 'feed*' --json
  larder audit search --data ./larder --denied --from '10.0.0.*'

It reads the files of [audit] and asks no server. Keep the head that verify prints somewhere else: with it a log that was made anew as a
whole shows as well.")]
pub struct AuditCommand {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Say whether the log is as it was written
    Verify(Place),
    /// Print the last records
    Tail {
        #[command(flatten)]
        place: Place,
        /// How many
        #[arg(long, short = 'n', value_name = "N", default_value = "20")]
        lines: usize,
        /// Go on with those that come
        #[arg(long, short)]
        follow: bool,
    },
    /// Print the records that are asked for, the oldest first
    Search(SearchArgs),
}

/// Where the log is.
#[derive(Debug, Args)]
struct Place {
    /// The folder of the log; without it, where the configuration has it
    #[arg(long, value_name = "DIR")]
    folder: Option<PathBuf>,
    #[command(flatten)]
    config: ConfigArgs,
}

/// Which records. Patterns have * and ?.
#[derive(Debug, Args)]
struct SearchArgs {
    #[command(flatten)]
    place: Place,
    /// Whose
    #[arg(long, value_name = "PATTERN")]
    who: Option<String>,
    /// From which address
    #[arg(long, value_name = "PATTERN")]
    from: Option<String>,
    /// What was done, as `DELETE *` or `flushall`
    #[arg(long, value_name = "PATTERN")]
    what: Option<String>,
    /// About which name, as `key:features:*` or `tag:symbol:AAPL`; where names are hashed, one without a pattern in it
    #[arg(long, value_name = "PATTERN")]
    name: Option<String>,
    /// Of which kind
    #[arg(long, value_name = "KIND")]
    class: Option<Class>,
    /// What was refused since it was not allowed
    #[arg(long)]
    denied: bool,
    /// What failed
    #[arg(long)]
    failed: bool,
    /// Not before: a time ago (1h), or a moment (2026-11-26T09:30:00Z)
    #[arg(long, value_name = "WHEN", value_parser = moment_of)]
    since: Option<String>,
    /// Before
    #[arg(long, value_name = "WHEN", value_parser = moment_of)]
    until: Option<String>,
    /// How many at most
    #[arg(long, value_name = "N")]
    limit: Option<usize>,
}

/// As records have it.
fn moment_of(text: &str) -> Result<String, String> {
    let since_1970 = match parse_time(text) {
        Some(ago) => SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().saturating_sub(ago),
        None => {
            let at: Timestamp = text.parse().map_err(|_| "expected a time ago such as 1h, or a moment such as 2026-11-26T09:30:00Z")?;
            Duration::from_millis(u64::try_from(at.as_millisecond()).unwrap_or(0))
        }
    };
    Ok(moment::timestamp(u64::try_from(since_1970.as_millis()).unwrap_or(u64::MAX)))
}

/// Where the log is, and the secret of its names.
type Found = (PathBuf, Option<Vec<u8>>);

impl Place {
    fn find(&self) -> Result<Found, Failure> {
        let config = self.config.read()?.map_err(|faults| unusable(&faults))?;
        let secret = config.audit.and_then(|audit| audit.name_secret);
        match self.folder.clone().or(config.audit_folder) {
            Some(folder) => Ok((folder, secret)),
            None => Err(Failure::new("it is not known where the audit log is").hint("--folder DIR, --data DIR or --config FILE says so")),
        }
    }
}

/// Carries out `larder audit`.
pub fn audit(command: &AuditCommand, out: Output) -> Result<ExitCode, Failure> {
    match &command.what {
        What::Verify(place) => check(&place.find()?.0, out),
        What::Tail { place, lines, follow } => tail(&place.find()?.0, *lines, *follow, out),
        What::Search(args) => find(args, out),
    }
}

fn unreadable(folder: &std::path::Path) -> impl Fn(std::io::Error) -> Failure + '_ {
    move |error| Failure::new(format!("the audit log at {} cannot be read: {error}", folder.display()))
}

fn check(folder: &std::path::Path, out: Output) -> Result<ExitCode, Failure> {
    let report = verify(folder).map_err(unreadable(folder))?;
    let findings: Vec<_> = report.findings.iter().map(|one| json!({ "file": one.file, "line": one.line, "what": one.what })).collect();
    let head = report.head.as_ref().map(|(seq, hash)| json!({ "line": seq, "hash": hash }));
    let told = json!({
        "ok": report.is_sound(), "files": report.files, "lines": report.lines, "head": head, "findings": findings,
        "findings_more": report.findings_more, "notes": report.notes,
    });
    out.say(&told, || {
        let mut lines: Vec<String> = report.findings.iter().map(|finding| plain(&finding.to_string())).collect();
        if report.findings_more > 0 {
            lines.push(format!("and {} more", report.findings_more));
        }
        lines.extend(report.notes.iter().map(|note| format!("note: {}", plain(note))));
        let count = format!("{} in {}", plural(report.lines, "record"), plural(report.files as u64, "file"));
        let span = report.span.as_ref().map(|(from, to)| format!(", from {} to {}", plain(from), plain(to))).unwrap_or_default();
        lines.push(match report.is_sound() {
            true => format!("the audit log is as it was written: {count}{span}"),
            false => format!("the audit log is not as it was written: {count}{span}"),
        });
        lines.extend(report.head.as_ref().map(|(seq, hash)| format!("head: line {seq}, {hash}")));
        lines.join("\n")
    })?;
    Ok(if report.is_sound() { ExitCode::SUCCESS } else { NO.into() })
}

fn tail(folder: &std::path::Path, lines: usize, follow: bool, out: Output) -> Result<ExitCode, Failure> {
    let mut seen = 0;
    for entry in last(folder, &Wanted::default(), lines).map_err(unreadable(folder))? {
        seen = seen.max(entry.seq);
        print(&entry, out)?;
    }
    if !follow {
        return Ok(ExitCode::SUCCESS);
    }
    loop {
        std::thread::sleep(FOLLOW_EVERY);
        // The newest files alone: what came is at their end.
        for entry in last(folder, &Wanted { after: seen, ..Wanted::default() }, usize::MAX).map_err(unreadable(folder))? {
            seen = seen.max(entry.seq);
            print(&entry, out)?;
        }
    }
}

fn find(args: &SearchArgs, out: Output) -> Result<ExitCode, Failure> {
    let (folder, secret) = args.place.find()?;
    let wanted = Wanted {
        after: 0,
        who: args.who.clone(),
        from: args.from.clone(),
        what: args.what.clone(),
        name: args.name.clone(),
        class: args.class,
        decision: args.denied.then_some(Decision::Denied),
        result: args.failed.then_some(Outcome::Failed),
        since: args.since.clone(),
        until: args.until.clone(),
    };
    let wanted = secret.iter().fold(wanted, |wanted, secret| wanted.hashed(secret));
    let (mut found, most) = (0, args.limit.unwrap_or(usize::MAX));
    search(&folder, &wanted, |entry| {
        if found < most {
            found += 1;
            print(entry, out)?;
        }
        Ok(found < most)
    })
    .map_err(|stopped: Stopped| match stopped {
        Stopped::Files(error) => unreadable(&folder)(error),
        Stopped::Output(failure) => failure,
    })?;
    if found == 0 {
        out.remark("larder: there is no such record");
        return Ok(NO.into());
    }
    Ok(ExitCode::SUCCESS)
}

/// Why a search ended early.
enum Stopped {
    Files(std::io::Error),
    Output(Failure),
}

impl From<std::io::Error> for Stopped {
    fn from(error: std::io::Error) -> Self {
        Stopped::Files(error)
    }
}

impl From<Failure> for Stopped {
    fn from(failure: Failure) -> Self {
        Stopped::Output(failure)
    }
}

fn print(entry: &Entry, out: Output) -> Result<(), Failure> {
    if out.json {
        return output::line(&json!(entry).to_string());
    }
    let names = match (entry.names.as_slice(), entry.names_more) {
        ([], _) => String::new(),
        (names, 0) => format!("  {}", names.join(" ")),
        (names, more) => format!("  {} and {more} more", names.join(" ")),
    };
    let denied = if entry.decision == Decision::Denied { "denied" } else { "" };
    let ended = match entry.result {
        Outcome::Done => String::new(),
        Outcome::Failed => format!("  {}", if denied.is_empty() { "failed" } else { denied }),
        Outcome::Unknown => "  unknown".to_owned(),
    };
    let detail = if entry.detail.is_empty() { String::new() } else { format!("  ({})", entry.detail) };
    let position = if entry.position.is_empty() { String::new() } else { format!("  at {}", entry.position) };
    let Entry { at, who, from, what, .. } = entry;
    output::line(&plain(&format!("{at}  {who}  {from}  {what}{names}{position}{ended}{detail}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_times_ago_or_times() {
        assert_eq!(moment_of("2026-11-26T09:30:00Z").as_deref(), Ok("2026-11-26T09:30:00.000Z"));
        assert_eq!(moment_of("2026-11-26T10:30:00+01:00").as_deref(), Ok("2026-11-26T09:30:00.000Z"));
        assert!(moment_of("1h").expect("an hour ago").as_str() > "2024");
        assert!(moment_of("yesterday").is_err());
    }
}
