//! The demo's results for people: one table, a column for each cache that was run, and a sentence that says what it
//! means.

use std::net::SocketAddr;

use comfy_table::presets::UTF8_FULL_CONDENSED;
use comfy_table::{Cell, CellAlignment, Table};

use super::horizon::Horizon;
use super::market::Market;
use super::model::LINES;
use super::report::{DemoOutcome, DemoReport, FleetReport};
use super::run::Settings;

/// A row: its label, and what it shows of a run.
type Row = (&'static str, fn(&DemoReport) -> String);

const ROWS: &[Row] = &[
    ("reads checked", |r| count(r.reads_checked)),
    ("STALE READS", stale),
    ("  from a superseded bar", |r| count(r.stale_by_bar)),
    ("  by a superseded model", |r| count(r.stale_by_release)),
    ("  furthest behind", furthest),
    ("values recomputed / wrong", |r| format!("{} / {}", count(r.values_verified), count(r.wrong_values))),
    ("bars replayed", |r| count(r.bars)),
    ("model releases", |r| count(r.model_releases)),
    ("invalidations", |r| count(r.invalidations)),
    ("entries made stale", entries_made_stale),
    ("hit rate", |r| percent(r.hit_rate)),
    ("  from memory", |r| count(r.hits.memory)),
    (OF_DISK, |r| count(r.hits.disk)),
    (OF_REDIS, |r| count(r.hits.redis)),
    ("joined another's load", |r| count(r.joined)),
    ("loads from the source", |r| count(r.loads)),
    ("loads avoided", |r| count(r.loads_avoided)),
    ("latency p50 / p99", |r| format!("{} / {}", latency(r.p50_us), latency(r.p99_us))),
    ("reads a second", |r| count(r.reads_per_second as u64)),
];

/// A row of a run over several servers.
type FleetRow = (&'static str, fn(&FleetReport) -> String);

const FLEET_ROWS: &[FleetRow] = &[
    ("servers", |f| count(f.instances)),
    ("  reads of another than was told", |f| count(f.cross_instance_reads_checked)),
    ("  changes seen to be obeyed by all", |f| count(f.changes_settled)),
    ("  obeyed elsewhere after, p50 / p99", |f| format!("{} / {}", latency(f.propagation_p50_us), latency(f.propagation_p99_us))),
];

/// Rows that say nothing where this is not the tier behind memory.
const OF_DISK: &str = "  from disk";
const OF_REDIS: &str = "  from Redis";

/// What a newcomer needs to know before the figures: what is run, and what it is held to.
pub fn opening(settings: &Settings, market: &Market, memory_bytes: u64, addr: SocketAddr) -> String {
    format!(
        "\
larder demo: does a cache ever serve what the world has made wrong?

{world}
  The cache    larder with {memory} KiB of memory, too little for all of them, over its store on disk. Entries live until
               they are invalidated: a bar takes out what was made from its stock, a release its model's predictions.
  The readers  {readers} tasks ask for popular keys as fast as they can.
  The promise  A read that begins after an invalidation returned never gets what was made before. Every single read is
               checked against it, and one of 256 values is computed again and compared bit by bit.

Look inside while it runs:
  curl -i http://{addr}/v1/entries/features:AAPL:1d
  larder stats --server http://{addr}
",
        world = world(settings, market),
        memory = memory_bytes >> 10,
        readers = count(settings.readers),
    )
}

/// The same for a run over several servers.
pub fn opening_of_fleet(settings: &Settings, market: &Market, memory_bytes: u64, addrs: &[SocketAddr], redis: &str) -> String {
    let curls: Vec<String> = addrs.iter().map(|addr| format!("  curl -i http://{addr}/v1/entries/features:AAPL:1d\n")).collect();
    format!(
        "\
larder demo: do several servers ever serve what the world has made wrong?

{world}
  The cache    {instances} larder servers, each with {memory} KiB of memory, over {redis}.
               Entries live until they are invalidated. Every change is told to the first server alone.
  The readers  {readers} tasks ask all of them over HTTP, and fill what they miss.
  The promise  A read at any server that names the position of an invalidation (Larder-At-Least) never gets what was made
               before it; nor does one that names none, once all servers are known to obey. Every single read is checked
               against one of the two, and one of 256 values is computed again and compared bit by bit.

Look inside while it runs:
{curls}  larder stats --server http://{first}
",
        world = world(settings, market),
        instances = addrs.len(),
        memory = memory_bytes >> 10,
        readers = count(settings.readers),
        curls = curls.concat(),
        first = addrs[0],
    )
}

/// The world and its values.
fn world(settings: &Settings, market: &Market) -> String {
    let (symbols, lines) = (market.symbols().len(), LINES.len());
    let keys = symbols * Horizon::ALL.len() * (1 + lines);
    let latency = &settings.source_latency;
    format!(
        "  The world    daily bars of {symbols} real stocks arrive, {bars:.0} a second; {lines} models are retrained, {releases:.0} a second.
  The values   {keys} keys: features of each stock over {horizons} horizons (returns, averages, RSI, volatility), and each
               model's prediction from them. Computing one takes the source {shortest} to {longest}.",
        bars = settings.bars_per_second,
        releases = settings.releases_per_second,
        horizons = Horizon::ALL.len(),
        shortest = self::latency(latency.start().as_secs_f64() * 1e6),
        longest = self::latency(latency.end().as_secs_f64() * 1e6),
    )
}

/// The whole of what `larder demo` prints at its end.
pub fn outcome(outcome: &DemoOutcome) -> String {
    let (heading, next) = (heading(&outcome.main), next(outcome));
    format!("{heading}\n{}\n\n{}\n\n{next}", table(outcome), closing(outcome))
}

/// What to try after this.
fn next(outcome: &DemoOutcome) -> &'static str {
    if outcome.main.fleet.is_some() {
        "\
Next:
  larder serve --redis URL              one cache of your own on many machines; give each the same URL
  larder demo --compare                 in one process: the same workload on a TTL alone, and on deleting what was updated"
    } else if outcome.compared.is_empty() {
        "\
Next:
  larder demo --compare                 the same workload on a TTL alone, and on deleting what was updated
  larder demo --bars-per-second 2000    ten times the updates
  larder demo --redis spawn             over three servers that share a Redis (needs redis-server)
  larder serve                          a cache of your own, over HTTP"
    } else {
        "\
Why the others serve stale reads: a time to live does not know that the data changed; a delete does not know of the load
that began before it, and that load stores the old value right behind it. larder stamps every value with the log's
position before its load begins, so an invalidation that comes later always wins.

Next:
  larder serve                          a cache of your own, over HTTP"
    }
}

fn heading(report: &DemoReport) -> String {
    let days = match (&report.replayed_from, &report.replayed_to) {
        (Some(from), Some(to)) => format!("market days {from} to {to}"),
        _ => "no bar arrived".to_owned(),
    };
    format!(
        "{:.1} s · {} symbols · {} keys · {} readers · {days} · seed {}",
        report.seconds,
        count(report.symbols),
        count(report.keys),
        count(report.readers),
        report.seed,
    )
}

fn table(outcome: &DemoOutcome) -> Table {
    let mut table = Table::new();
    table.load_style(UTF8_FULL_CONDENSED);
    let header = outcome.reports().map(|report| Cell::new(&report.mode).set_alignment(CellAlignment::Right));
    table.set_header(std::iter::once(Cell::new("")).chain(header));
    let over_redis = outcome.main.fleet.is_some();
    for (label, show) in ROWS.iter().filter(|(label, _)| *label != if over_redis { OF_DISK } else { OF_REDIS }) {
        let figures = outcome.reports().map(|report| Cell::new(show(report)).set_alignment(CellAlignment::Right));
        table.add_row(std::iter::once(Cell::new(label)).chain(figures));
    }
    for (fleet, (label, show)) in outcome.main.fleet.iter().flat_map(|fleet| FLEET_ROWS.iter().map(move |row| (fleet, row))) {
        table.add_row([Cell::new(label), Cell::new(show(fleet)).set_alignment(CellAlignment::Right)]);
    }
    table
}

/// What the table means, in plain words.
fn closing(outcome: &DemoOutcome) -> String {
    let mut sentences = vec![of_main(&outcome.main)];
    sentences.extend(outcome.compared.iter().map(of_baseline));
    sentences.join("\n")
}

fn of_main(report: &DemoReport) -> String {
    let (mode, reads) = (&report.mode, count(report.reads_checked));
    let fleet = report.fleet.as_ref().map(|fleet| {
        let elsewhere = count(fleet.cross_instance_reads_checked);
        (format!("'s {} servers", fleet.instances), format!(", {elsewhere} of them at a server that was not told itself"))
    });
    let (servers, elsewhere) = fleet.unwrap_or_default();
    if report.wrong_values > 0 {
        let wrong = count(report.wrong_values);
        return format!("{mode} returned {wrong} values that are not what their bar and model make of their key.");
    }
    match report.stale_reads {
        _ if report.reads_checked == 0 => format!("{mode} was not read: nothing was checked."),
        0 if report.fleet.as_ref().is_some_and(|fleet| fleet.cross_instance_reads_checked == 0) => {
            format!("{mode} was not read elsewhere than where it was told: nothing was checked.")
        }
        0 => format!(
            "Zero of {reads} reads from {mode}{servers} were stale{elsewhere}: none served a feature of a superseded bar or a prediction \
             of a superseded model."
        ),
        _ => format!("{mode} served {} stale reads among {reads}; at worst {}.", stale(report), furthest(report)),
    }
}

fn of_baseline(report: &DemoReport) -> String {
    let (mode, reads) = (&report.mode, count(report.reads_checked));
    match report.stale_reads {
        0 => format!("The same workload on {mode}: no stale read among {reads}."),
        _ => format!("The same workload on {mode}: {} of {reads} reads were stale; at worst {}.", stale(report), furthest(report)),
    }
}

fn stale(report: &DemoReport) -> String {
    match report.stale_reads {
        0 => "0".to_owned(),
        reads => format!("{} ({})", count(reads), percent(report.stale_share())),
    }
}

fn furthest(report: &DemoReport) -> String {
    if report.stale_reads == 0 {
        return "-".to_owned();
    }
    let behind = [(report.worst_lag_bars, "bar"), (report.worst_lag_releases, "release")];
    let behind: Vec<String> = behind.into_iter().filter(|&(lag, _)| lag > 0).map(|(lag, unit)| plural(lag, unit)).collect();
    format!("{}, {}", behind.join(", "), latency(report.worst_superseded_ms * 1e3))
}

fn entries_made_stale(report: &DemoReport) -> String {
    let changes = report.bars + report.model_releases;
    if changes == 0 {
        return count(report.entries_made_stale);
    }
    let each = report.entries_made_stale as f64 / changes as f64;
    format!("{} ({each:.1} a change)", count(report.entries_made_stale))
}

/// `1 reader`, `2 readers`.
pub fn plural(number: u64, unit: &str) -> String {
    let ending = if number == 1 { "" } else { "s" };
    format!("{} {unit}{ending}", count(number))
}

/// A number with its thousands apart: `1,234,567`.
pub fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut apart = String::with_capacity(digits.len() + digits.len() / 3);
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            apart.push(',');
        }
        apart.push(digit);
    }
    apart
}

/// A share in hundredths, never rounded up to all or down to nothing: a single stale read in a million shows.
pub fn percent(share: f64) -> String {
    let hundredths = share * 100.0;
    if hundredths > 0.0 && hundredths < 0.01 {
        "< 0.01 %".to_owned()
    } else if hundredths > 99.99 && hundredths < 100.0 {
        "> 99.99 %".to_owned()
    } else {
        format!("{hundredths:.2} %")
    }
}

/// A time in the unit that suits it.
fn latency(micros: f64) -> String {
    match micros {
        ..1.0 => format!("{:.0} ns", micros * 1e3),
        ..1e3 => format!("{micros:.1} µs"),
        ..1e6 => format!("{:.1} ms", micros / 1e3),
        _ => format!("{:.1} s", micros / 1e6),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::demo::report::HitsByTier;

    fn report(mode: &str, stale_reads: u64) -> DemoReport {
        DemoReport {
            mode: mode.to_owned(),
            seconds: 10.0,
            seed: 42,
            symbols: 22,
            keys: 770,
            readers: 32,
            replayed_from: Some("2009-10-29".to_owned()),
            replayed_to: Some("2011-08-24".to_owned()),
            bars: 10_000,
            model_releases: 40,
            invalidations: 10_040,
            entries_made_stale: 251_000,
            reads_checked: 12_345_678,
            stale_reads,
            stale_by_bar: stale_reads,
            stale_by_release: 0,
            worst_lag_bars: stale_reads.min(3),
            worst_lag_releases: 0,
            worst_superseded_ms: 41.5,
            values_verified: 49_000,
            wrong_values: 0,
            hits: HitsByTier { memory: 12_000_000, disk: 0, redis: 0 },
            hit_rate: 0.972,
            joined: 95_678,
            loads: 250_000,
            loads_avoided: 12_095_678,
            reads_per_second: 1_234_567.8,
            p50_us: 0.612,
            p99_us: 4_321.0,
            fleet: None,
        }
    }

    fn fleet(reads_elsewhere: u64) -> FleetReport {
        FleetReport {
            instances: 3,
            cross_instance_reads_checked: reads_elsewhere,
            changes_settled: 9_000,
            propagation_p50_us: 812.5,
            propagation_p99_us: 4_321.0,
        }
    }

    #[test]
    fn several_servers_have_their_own_rows() {
        let report = DemoReport { hits: HitsByTier { memory: 5, disk: 7, redis: 0 }, ..report("larder", 0) };
        let fleet_run = DemoOutcome { main: report.over(fleet(8_230_452)), compared: Vec::new() };
        let printed = outcome(&fleet_run);
        for part in [
            "from Redis",
            "8,230,452",
            "812.5 µs / 4.3 ms",
            "Zero of 12,345,678 reads from larder's 3 servers were stale, 8,230,452 of them at",
        ] {
            assert!(printed.contains(part), "{part} in {printed}");
        }
        assert!(!printed.contains("from disk"), "{printed}");
        let json = serde_json::to_value(&fleet_run).expect("finite numbers serialise");
        assert_eq!((&json["instances"], &json["hits"]["redis"]), (&3.into(), &7.into()));
        for field in ["cross_instance_reads_checked", "propagation_p50_us", "propagation_p99_us"] {
            assert!(json[field].is_number(), "{field} in {json}");
        }
        assert_eq!(serde_json::from_value::<DemoOutcome>(json).expect("what was written can be read"), fleet_run);
        assert!(fleet_run.holds());
        let one_alone = DemoOutcome { main: report_of_fleet(0), compared: Vec::new() };
        assert!(!one_alone.holds() && outcome(&one_alone).contains("nothing was checked"));
    }

    fn report_of_fleet(reads_elsewhere: u64) -> DemoReport {
        report("larder", 0).over(fleet(reads_elsewhere))
    }

    #[test]
    fn the_three_modes_stand_side_by_side() {
        let all =
            DemoOutcome { main: report("larder", 0), compared: vec![report("TTL only", 3_000_000), report("delete on update", 1_234)] };
        let printed = outcome(&all);
        let stale_row = printed.lines().find(|line| line.contains("STALE READS")).expect("the row is there");
        let cells: Vec<&str> = stale_row.split(['│', '┆']).map(str::trim).filter(|cell| !cell.is_empty()).collect();
        assert_eq!(cells, ["STALE READS", "0", "3,000,000 (24.30 %)", "1,234 (< 0.01 %)"]);
        assert!(printed.contains("Zero of 12,345,678 reads from larder were stale"), "{printed}");
        assert!(printed.contains("delete on update: 1,234 (< 0.01 %) of 12,345,678"), "{printed}");
        assert!(printed.contains("at worst 3 bars, 41.5 ms"), "{printed}");
    }

    #[test]
    fn the_closing_sentence_hides_nothing() {
        let of = |main| closing(&DemoOutcome { main, compared: Vec::new() });
        assert!(of(report("larder", 1)).contains("larder served 1 (< 0.01 %) stale reads"));
        assert!(of(DemoReport { wrong_values: 2, ..report("larder", 0) }).contains("returned 2 values that are not"));
        assert!(of(DemoReport { reads_checked: 0, ..report("larder", 0) }).contains("nothing was checked"));
    }

    #[test]
    fn json_is_one_flat_object() {
        let alone = DemoOutcome { main: report("larder", 0), compared: Vec::new() };
        let json = serde_json::to_value(&alone).expect("finite numbers serialise");
        let promised = [
            "reads_checked",
            "stale_reads",
            "hit_rate",
            "invalidations",
            "entries_made_stale",
            "loads",
            "loads_avoided",
            "p50_us",
            "p99_us",
        ];
        for field in promised {
            assert!(json[field].is_number(), "{field} in {json}");
        }
        assert!(json.get("compared").is_none());
        let back: DemoOutcome = serde_json::from_value(json).expect("what was written can be read");
        assert_eq!(back, alone);
        assert!(back.holds());
        let compared = DemoOutcome { compared: vec![report("TTL only", 5)], ..alone };
        let json = serde_json::to_value(&compared).expect("finite numbers serialise");
        assert_eq!(json["compared"][0]["stale_reads"], 5);
    }

    #[test]
    fn numbers_are_readable_and_never_rounded_to_a_lie() {
        assert_eq!([0, 999, 1_000, 1_234_567].map(count), ["0", "999", "1,000", "1,234,567"]);
        assert_eq!([0.0, 1e-9, 0.5, 0.999_999, 1.0].map(percent), ["0.00 %", "< 0.01 %", "50.00 %", "> 99.99 %", "100.00 %"]);
        assert_eq!([0.5, 12.34, 4_321.0, 2.5e6].map(latency), ["500 ns", "12.3 µs", "4.3 ms", "2.5 s"]);
    }
}
