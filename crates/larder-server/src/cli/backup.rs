//! `larder backup`: asked of a running server, which has the cache; or, with --at, of a place itself, which needs no server.

use std::io::IsTerminal;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::{Args, Subcommand};
use comfy_table::presets::UTF8_HORIZONTAL_ONLY;
use comfy_table::{Cell, CellAlignment, Table};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use larder::ErrorKind;
use larder::backup::{Place, Watch, diff, prune, read_manifest, verify};
use serde_json::{Value as Json, json};
use ureq::http::StatusCode;

use super::NO;
use super::client::{Client, ServerArgs};
use super::failure::Failure;
use super::output::{Output, plain, plural};
use crate::backup::places::PlaceAddress;
use crate::backup::runs::{Ask, AskRestore, Keep, OnPresent, OnTtl, Told};
use crate::backup::{BackupError, listing};
use crate::config::units::Size;
use crate::moment::date_and_time;
use keys::{KeyArgs, SealArgs};

mod keys;

/// How often a run is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// How often a line is printed where nobody sees a bar.
const LINE_EVERY: Duration = Duration::from_secs(5);

/// Take backups, look at them, and bring back what is still true
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  larder backup create                                what the cache has, while it serves
  larder backup create --parent 20261127T033000Z-3f9a only what changed since
  larder backup create --encrypt-to age1...           for whoever has the secret key
  larder backup list
  larder backup verify NAME --at /mnt/usb/larder      every byte, without a server
  larder backup restore NAME --dry-run
  larder backup restore NAME --identity file:KEY      of an encrypted one
  larder backup restore NAME --namespace features --rename features=trial
  larder backup restore NAME --log-of /mnt/old/larder of another machine, which is gone, and whose data folder is not
  larder backup prune --keep-last 3 --keep-daily 7
  larder backup diff OLDER NEWER

What was invalidated after a backup stays dead when it is restored. Where that cannot be known, because the log of that time is gone, a
restore is refused; --accept-unknown-invalidations goes on. Without a key, `verify` compares what is stored of an encrypted backup, and says
that it did not look into it. Exits with 1 where a backup is not there or not whole.")]
pub struct BackupCommand {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Take a backup
    Create(CreateArgs),
    /// List them, the oldest first
    List(Where),
    /// Show what one says of itself
    Show {
        /// Which
        name: String,
        #[command(flatten)]
        at: Where,
    },
    /// Read all of one, and say whether it is whole
    Verify {
        /// Which
        name: String,
        #[command(flatten)]
        keys: KeyArgs,
        #[command(flatten)]
        at: Where,
    },
    /// Bring back what is still true
    Restore(RestoreArgs),
    /// Remove those that need not stay
    Prune(PruneArgs),
    /// Compare two
    Diff {
        /// The first
        first: String,
        /// The second
        second: String,
        #[command(flatten)]
        keys: KeyArgs,
        #[command(flatten)]
        at: Where,
    },
}

/// A server, or a place.
#[derive(Debug, Args)]
struct Where {
    /// Look in this place, and ask no server
    #[arg(long, value_name = "URL")]
    at: Option<PlaceAddress>,
    #[command(flatten)]
    server: ServerArgs,
}

#[derive(Debug, Args)]
struct CreateArgs {
    /// What to call it [default: by the clock]
    #[arg(long)]
    name: Option<String>,
    /// Take only this namespace; may be given again
    #[arg(long, value_name = "NAMESPACE")]
    namespace: Vec<String>,
    /// Take only what changed since this backup
    #[arg(long, value_name = "NAME")]
    parent: Option<String>,
    /// Where to put it: the server's backup.place, or one of its backup.more_places
    #[arg(long, value_name = "URL")]
    to: Option<String>,
    #[command(flatten)]
    seal: SealArgs,
    #[command(flatten)]
    server: ServerArgs,
}

#[derive(Debug, Args)]
struct RestoreArgs {
    /// Which; those that it stands on come with it
    #[arg(required_unless_present = "abandon")]
    name: Option<String>,
    /// Where it is: the server's backup.place, or one of its backup.more_places
    #[arg(long, value_name = "URL")]
    from: Option<String>,
    /// Restore only this namespace, by its name in the backup; may be given again
    #[arg(long, value_name = "NAMESPACE")]
    namespace: Vec<String>,
    /// Restore only keys that match
    #[arg(long)]
    pattern: Option<String>,
    /// Restore a namespace under another name; may be given again
    #[arg(long, value_name = "FROM=TO", value_parser = renaming)]
    rename: Vec<(String, String)>,
    /// Keep what is there and reflects more (the default)
    #[arg(long, conflicts_with_all = ["replace", "missing_only"])]
    if_newer: bool,
    /// Put what is in the backup in the place of what is there
    #[arg(long, conflicts_with = "missing_only")]
    replace: bool,
    /// Keep whatever is there
    #[arg(long)]
    missing_only: bool,
    /// What the time since the backup counts for
    #[arg(long, value_name = "HOW", default_value = "keep")]
    ttl: OnTtl,
    /// Only count
    #[arg(long)]
    dry_run: bool,
    /// The data folder, on the server's machine, whose log is the one in which the backup was taken
    #[arg(long, value_name = "DIR")]
    log_of: Option<std::path::PathBuf>,
    /// Go on where it cannot be known what was invalidated after the backup
    #[arg(long)]
    accept_unknown_invalidations: bool,
    #[command(flatten)]
    keys: KeyArgs,
    /// Give up a restore that was interrupted, in the place of beginning one
    #[arg(long, conflicts_with = "name")]
    abandon: bool,
    #[command(flatten)]
    server: ServerArgs,
}

#[derive(Debug, Args)]
struct PruneArgs {
    /// Keep the last so many
    #[arg(long, value_name = "N")]
    keep_last: Option<u32>,
    /// Keep the newest of so many days
    #[arg(long, value_name = "N")]
    keep_daily: Option<u32>,
    /// Keep the newest of so many weeks
    #[arg(long, value_name = "N")]
    keep_weekly: Option<u32>,
    /// Keep the newest of so many months
    #[arg(long, value_name = "N")]
    keep_monthly: Option<u32>,
    /// Only count
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    at: Where,
}

impl PruneArgs {
    /// What is said here, or nothing, which leaves it to the configuration.
    fn keep(&self) -> Option<Keep> {
        let said = [self.keep_last, self.keep_daily, self.keep_weekly, self.keep_monthly];
        let [last, daily, weekly, monthly] = said.map(|count| count.unwrap_or(0));
        said.iter().any(Option::is_some).then_some(Keep { last, daily, weekly, monthly })
    }
}

fn renaming(text: &str) -> Result<(String, String), String> {
    let (from, to) = text.split_once('=').ok_or("expected FROM=TO, such as features=trial")?;
    Ok((from.to_owned(), to.to_owned()))
}

/// Carries out `larder backup`.
pub fn backup(command: &BackupCommand, out: Output) -> Result<ExitCode, Failure> {
    match &command.what {
        What::Create(CreateArgs { name, namespace, parent, to, seal, server }) => {
            let (encrypt_to, passphrase) = seal.read()?;
            let (name, namespaces, parent, place) = (name.clone(), namespace.clone(), parent.clone(), to.clone());
            let ask = Ask::Create { name, namespaces, parent, encrypt_to, passphrase, place };
            asked(server, &ask, out, created)
        }
        What::Restore(args) => {
            let name = args.name.clone().unwrap_or_default();
            let ask = if args.abandon { Ask::Abandon {} } else { Ask::Restore(Box::new(restore(args, name)?)) };
            asked(&args.server, &ask, out, if args.abandon { abandoned } else { restored })
        }
        What::List(at) => {
            let list = match &at.at {
                Some(place) => listing(&*open(place)?).map_err(failed)?,
                None => Client::new(&at.server)?.get_json("/v1/backups")?,
            };
            out.say(&list, || listed(&list))?;
            Ok(ExitCode::SUCCESS)
        }
        What::Show { name, at } => show(name, at, out),
        What::Verify { name, keys, at } => {
            let (identities, passphrase) = keys.read()?;
            let opener = keys::keys(&identities, passphrase.as_ref())?.opener();
            let ask = Ask::Verify { name: name.clone(), identities, passphrase, place: None };
            either(at, &ask, out, verified, |place, watch| Ok(json!(verify(place, name, opener.as_deref(), watch)?)))
        }
        What::Prune(args) => {
            let ask = Ask::Prune { keep: args.keep(), dry_run: args.dry_run, place: None };
            let keep = args.keep();
            either(&args.at, &ask, out, pruned, |place, watch| {
                // Without a server there is no configuration that says what stays.
                let keep = keep.ok_or_else(|| BackupError::Refused("say what stays: --keep-last 3, for example".into()))?;
                Ok(json!(prune(place, keep.into(), args.dry_run, watch)?))
            })
        }
        What::Diff { first, second, keys, at } => {
            let (identities, passphrase) = keys.read()?;
            let opener = keys::keys(&identities, passphrase.as_ref())?.opener();
            let ask = Ask::Diff { first: first.clone(), second: second.clone(), identities, passphrase, place: None };
            either(at, &ask, out, differing, |place, watch| Ok(json!(diff(place, first, second, opener.as_deref(), watch)?)))
        }
    }
}

fn restore(args: &RestoreArgs, name: String) -> Result<AskRestore, Failure> {
    let (identities, passphrase) = args.keys.read()?;
    Ok(AskRestore {
        name,
        place: args.from.clone(),
        namespaces: args.namespace.clone(),
        pattern: args.pattern.clone(),
        rename: args.rename.clone(),
        present: match (args.replace, args.missing_only) {
            (true, _) => OnPresent::Replace,
            (_, true) => OnPresent::MissingOnly,
            _ => OnPresent::IfNewer,
        },
        ttl: args.ttl,
        dry_run: args.dry_run,
        log_of_then: args.log_of.clone(),
        accept_unknown_invalidations: args.accept_unknown_invalidations,
        identities,
        passphrase,
    })
}

fn open(place: &PlaceAddress) -> Result<Arc<dyn Place>, Failure> {
    place.open().map_err(Failure::new)
}

fn failed(error: impl std::fmt::Display) -> Failure {
    Failure::new(plain(&error.to_string()))
}

/// Begins work on a server, and looks on until it ends.
fn asked(server: &ServerArgs, ask: &Ask, out: Output, told: fn(&Json) -> String) -> Result<ExitCode, Failure> {
    let client = Client::new(server)?;
    let begun = client.send_json("/v1/backup-runs", &json!(ask))?;
    let read = |json: Json| {
        let run = serde_json::from_value::<Told>(json);
        run.map_err(|error| {
            Failure::new(format!("the server's answer cannot be read: {error}")).hint("is it of the same version as this program?")
        })
    };
    let mut run = read(begun)?;
    let shown = Shown::new(out);
    while run.state == "running" {
        shown.at(&run.doing, run.done, run.of);
        std::thread::sleep(LOOK_EVERY);
        run = read(client.get_json(&format!("/v1/backup-runs/{}", run.run))?)?;
    }
    shown.end();
    match (run.result, run.error) {
        (Some(result), _) => {
            out.say(&result, || told(&result))?;
            Ok(ExitCode::SUCCESS)
        }
        (None, error) => ended_badly(run.error_kind.as_deref(), &error.unwrap_or_default(), out),
    }
}

/// The same in a place, or on a server.
fn either(
    at: &Where,
    ask: &Ask,
    out: Output,
    told: fn(&Json) -> String,
    work: impl FnOnce(&dyn Place, &dyn Watch) -> Result<Json, BackupError>,
) -> Result<ExitCode, Failure> {
    let Some(place) = &at.at else { return asked(&at.server, ask, out, told) };
    let shown = Shown::new(out);
    let worked = work(&*open(place)?, &shown);
    shown.end();
    match worked {
        Ok(result) => {
            out.say(&result, || told(&result))?;
            Ok(ExitCode::SUCCESS)
        }
        Err(BackupError::Failed(error)) => {
            let kind = match error.kind() {
                ErrorKind::BadArchive | ErrorKind::UnknownFormat => "bad-archive",
                ErrorKind::NotFound => "not-found",
                ErrorKind::Sealed => "sealed",
                _ => "failed",
            };
            ended_badly(Some(kind), &error.to_string(), out)
        }
        Err(error) => Err(failed(error)),
    }
}

/// What is an answer, and no, and what is none.
fn ended_badly(kind: Option<&str>, error: &str, out: Output) -> Result<ExitCode, Failure> {
    match kind {
        Some(kind @ ("bad-archive" | "not-found")) => {
            out.say(&json!({ "error": error, "error_kind": kind }), || plain(error))?;
            Ok(NO.into())
        }
        Some("unknown-invalidations") => Err(failed(error).hint(
            "--log-of DIR gives the log of that time; --accept-unknown-invalidations goes on, and what was invalidated since comes back",
        )),
        Some("sealed") => Err(failed(error).hint(
            "--identity file:PATH gives a file of secret keys as age-keygen writes it, --passphrase file:PATH or env:NAME a passphrase",
        )),
        _ => Err(failed(error)),
    }
}

fn show(name: &str, at: &Where, out: Output) -> Result<ExitCode, Failure> {
    let manifest = match &at.at {
        Some(place) => match read_manifest(&*open(place)?, name) {
            Ok(manifest) => json!(manifest),
            Err(error) if error.kind() == ErrorKind::NotFound => return ended_badly(Some("not-found"), &error.to_string(), out),
            Err(error) if error.kind() == ErrorKind::BadArchive => return ended_badly(Some("bad-archive"), &error.to_string(), out),
            Err(error) => return Err(failed(error)),
        },
        None => {
            let client = Client::new(&at.server)?;
            let answer = client.ask("GET", &format!("/v1/backups/{}", super::client::percent_encoded(name.as_bytes())))?;
            let kind = match answer.status {
                StatusCode::NOT_FOUND => Some("not-found"),
                StatusCode::UNPROCESSABLE_ENTITY => Some("bad-archive"),
                _ => None,
            };
            if let (Some(kind), Some(problem)) = (kind, answer.problem()) {
                return ended_badly(Some(kind), &problem.words(), out);
            }
            client.json(answer)?
        }
    };
    out.say(&manifest, || described(&manifest))?;
    Ok(ExitCode::SUCCESS)
}

fn number(json: &Json, name: &str) -> u64 {
    json[name].as_u64().unwrap_or(0)
}

fn text(json: &Json, name: &str) -> String {
    plain(json[name].as_str().unwrap_or("-"))
}

fn size(json: &Json, name: &str) -> String {
    Size(number(json, name)).to_string()
}

fn listed(list: &Json) -> String {
    let of = |name: &str| list[name].as_array().cloned().unwrap_or_default();
    let mut told = match of("backups") {
        none if none.is_empty() => format!("there are no backups in {}", text(list, "place")),
        all => {
            let mut table = Table::new();
            table.load_style(UTF8_HORIZONTAL_ONLY);
            table.set_header(["name", "taken", "entries", "size", "stands on"].map(Cell::new));
            for one in &all {
                let right = |text: String| Cell::new(text).set_alignment(CellAlignment::Right);
                table.add_row([
                    Cell::new(text(one, "name")),
                    Cell::new(date_and_time(number(one, "taken_at_ms"))),
                    right(number(one, "entries").to_string()),
                    right(size(one, "stored_bytes")),
                    Cell::new(text(one, "parent")),
                ]);
            }
            table.to_string()
        }
    };
    for one in of("unreadable") {
        told += &format!("\n{} cannot be read: {}", text(&one, "name"), text(&one, "error"));
    }
    told
}

fn described(manifest: &Json) -> String {
    let mut lines = vec![
        format!("{}, taken {}", text(manifest, "name"), date_and_time(number(manifest, "taken_at_ms"))),
        format!("a cut at position {}-{}", text(manifest, "epoch"), number(manifest, "position")),
        format!("{}, {} before compression", plural(number(manifest, "entries"), "entry"), size(manifest, "bytes")),
    ];
    if let Some(parent) = manifest["parent"]["name"].as_str() {
        lines.push(format!("only what changed since {}", plain(parent)));
    }
    lines.extend(encrypted(manifest).map(|by| format!("encrypted with {}, {by}", text(&manifest["encryption"], "scheme"))));
    if manifest["fuzzy"].as_bool() == Some(true) {
        lines.push("a scan of a tier that others wrote to meanwhile; its stamps make it exact when it is restored".into());
    }
    for one in manifest["namespaces"].as_array().into_iter().flatten() {
        lines.push(format!("  {:<24} {:>12}  {}", text(one, "name"), number(one, "entries"), size(one, "bytes")));
    }
    lines.join("\n")
}

/// To whom or by what a backup is encrypted, if it is.
fn encrypted(backup: &Json) -> Option<String> {
    let encryption = &backup["encryption"];
    let recipients = encryption["recipients"].as_array()?.iter().filter_map(Json::as_str);
    let to = || format!("to {}", plain(&recipients.collect::<Vec<_>>().join(", ")));
    Some(if encryption["key"].is_null() { to() } else { "by a passphrase".to_owned() })
}

fn created(backup: &Json) -> String {
    let on = backup["parent"].as_str().map(|parent| format!(", on top of {}", plain(parent))).unwrap_or_default();
    let by = encrypted(backup).map(|by| format!(", encrypted {by}")).unwrap_or_default();
    format!("{}: {}, {}{on}{by}", text(backup, "name"), plural(number(backup, "entries"), "entry"), size(backup, "stored_bytes"))
}

fn verified(found: &Json) -> String {
    let backups = found["backups"].as_array().map_or(0, Vec::len) as u64;
    let chain = if backups > 1 { format!(" in a chain of {backups} backups") } else { String::new() };
    let unopened: Vec<String> =
        found["unopened"].as_array().into_iter().flatten().map(|name| plain(name.as_str().unwrap_or("-"))).collect();
    let told = format!("whole: {}, {}{chain}", plural(number(found, "entries"), "entry"), size(found, "bytes"));
    match unopened.len() as u64 {
        0 => told,
        all if all == backups => format!(
            "as it was stored: {}{chain}; it is encrypted, and without a key (--identity, --passphrase) what is in it was not looked at",
            size(found, "bytes")
        ),
        _ => format!("{told}; without a key (--identity, --passphrase) what is in {} was not looked at", unopened.join(", ")),
    }
}

fn restored(found: &Json) -> String {
    let would = if found["dry_run"].as_bool() == Some(true) { "would be restored" } else { "restored" };
    let mut lines = vec![format!("{} {would}", plural(number(found, "restored"), "entry"))];
    let reasons = [
        ("dead_invalidated", "dead: invalidated since"),
        ("dead_expired", "dead: their time is over"),
        ("skipped_newer", "left alone: what is there reflects more"),
        ("skipped_present", "left alone: there is one"),
        ("skipped_too_large", "left alone: too large here"),
        ("skipped_superseded", "left alone: a newer backup of the chain has it"),
        ("skipped_unasked", "not asked for"),
    ];
    lines.extend(
        reasons.iter().filter(|(name, _)| number(found, name) > 0).map(|(name, why)| format!("{:>12}  {why}", number(found, name))),
    );
    lines.join("\n")
}

fn abandoned(found: &Json) -> String {
    match found["abandoned"].as_bool() {
        Some(true) => "the restore was given up: what it wrote is invalidated".into(),
        _ => "there was no restore to give up".into(),
    }
}

fn pruned(found: &Json) -> String {
    let would = if found["dry_run"].as_bool() == Some(true) { "would be removed" } else { "removed" };
    let names = |name: &str| found[name].as_array().cloned().unwrap_or_default();
    let mut lines: Vec<String> = names("removed").iter().map(|name| format!("{would}: {}", plain(name.as_str().unwrap_or("-")))).collect();
    lines.extend(
        names("unfinished").iter().map(|name| format!("{would}: {}, which was never finished", plain(name.as_str().unwrap_or("-")))),
    );
    lines.extend(names("unreadable").iter().map(|name| format!("left alone: {} cannot be read", plain(name.as_str().unwrap_or("-")))));
    lines.extend(names("in_use").iter().map(|name| format!("left alone: {} is being read", plain(name.as_str().unwrap_or("-")))));
    lines.push(format!("{} kept, {} {would}", plural(names("kept").len() as u64, "backup"), size(found, "bytes")));
    lines.join("\n")
}

fn differing(found: &Json) -> String {
    let count = |name: &str| format!("{:>12}  {name}", number(found, name));
    let mut lines: Vec<String> = ["same", "changed", "added", "removed"].map(count).into();
    for (name, sign) in [("changed_keys", '~'), ("added_keys", '+')] {
        let keys = found[name].as_array().cloned().unwrap_or_default();
        lines.extend(keys.iter().map(|key| format!("{sign} {}", plain(key.as_str().unwrap_or("-")))));
    }
    lines.join("\n")
}

/// How far it is: a bar with rate and time left on a terminal, now and then a line elsewhere, nothing for programs.
struct Shown {
    bar: Option<ProgressBar>,
    is_quiet: bool,
    told: parking_lot::Mutex<Instant>,
}

impl Shown {
    fn new(out: Output) -> Self {
        let bar = (!out.json && std::io::stderr().is_terminal()).then(|| {
            let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
            let style = ProgressStyle::with_template("{msg:<24} [{bar:30}] {human_pos}/{human_len}  {per_sec}  {eta} left");
            bar.set_style(style.expect("the template is one").progress_chars("=> "));
            bar
        });
        Shown { bar, is_quiet: out.json, told: parking_lot::Mutex::new(Instant::now()) }
    }

    fn end(&self) {
        self.bar.iter().for_each(ProgressBar::finish_and_clear);
    }
}

impl Watch for Shown {
    fn at(&self, doing: &str, done: u64, of: Option<u64>) {
        if let Some(bar) = &self.bar {
            if bar.message() != doing {
                bar.set_message(doing.to_owned());
                bar.reset_eta();
            }
            bar.set_length(of.unwrap_or(done).max(1));
            bar.set_position(done);
        } else if !self.is_quiet && self.told.lock().elapsed() >= LINE_EVERY {
            *self.told.lock() = Instant::now();
            let of = of.map(|of| format!(" of {of}")).unwrap_or_default();
            eprintln!("{doing}: {done}{of}");
        }
    }
}
