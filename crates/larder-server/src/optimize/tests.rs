//! What a trace predicts, beside what the cache itself does with it.

use std::fmt::Write;

use bytes::Bytes;
use larder::sizing::{Access, ENTRY_OVERHEAD, Point};
use larder::{Clock, Item, Larder, Policy, SizingMode};
use larder_testkit::trace::find;

use super::trace::Form;
use super::*;

/// How far a prediction from a twentieth of the keys may be off, in the mean over ten sizes.
const ERROR_MAX: f64 = 0.02;

const TRACES: [(&str, Option<Form>); 8] = [
    ("OLTP.lis.zst", None),
    ("cloudPhysicsIO.oracleGeneral.bin", None),
    ("scarab-recs.trace.xz", None),
    ("trace_vaultservice.gz", None),
    ("web12.trace.xz", None),
    ("loop.trace.gz", None),
    ("multi3.trace.gz", None),
    ("2_pools.trace.gz", None),
];

/// The hit ratio of a cache of this size, asked through the library's own door.
async fn measured(accesses: &[Access], value: &Bytes, bytes: u64) -> larder::Result<f64> {
    let larder = Larder::builder().memory(bytes).build().await?;
    let raw = larder.raw();
    let mut hits = 0u64;
    for access in accesses {
        let key = format!("t:{:016x}", access.key_hash());
        if raw.quick(&key).is_some() {
            hits += 1;
            continue;
        }
        let len = access.bytes.saturating_sub(ENTRY_OVERHEAD + 18) as usize;
        raw.put(&key, Item::new(value.slice(..len.min(value.len())))).await?;
    }
    larder.close().await?;
    Ok(hits as f64 / accesses.len() as f64)
}

fn error(curve: &Curve, measured: &[f64]) -> f64 {
    let errors = curve.points.iter().zip(measured).map(|(point, measured)| (point.hit_ratio - measured).abs());
    errors.sum::<f64>() / measured.len() as f64
}

/// Prints the table of the documentation: `cargo test -p larder-server --lib every_trace -- --ignored --nocapture`.
#[tokio::test]
#[ignore = "it replays millions of reads ten times: minutes"]
async fn of_every_trace_a_twentieth_predicts_what_the_cache_does() {
    let value = Bytes::from(vec![0; 1 << 20]);
    let mut table = String::new();
    for (name, form) in TRACES {
        let Some(path) = find(name) else { continue };
        let trace = Trace::open(&path, form, 1_024).expect("it is told what it is");
        let run = |sizes, sample| curve_of(&trace, &Run { sizes, sample }).expect("it can be read");
        let curve = run(Err(10), 0.05);
        let mut accesses = Vec::new();
        trace.each(|access| accesses.push(access)).expect("it can be read");
        let mut reached = Vec::new();
        for point in &curve.points {
            reached.push(measured(&accesses, &value, point.bytes.max(64 << 10)).await.expect("a cache in memory"));
        }
        let predicted: Vec<String> = curve.points.iter().map(|point: &Point| format!("{:.3}", point.hit_ratio)).collect();
        let found: Vec<String> = reached.iter().map(|ratio| format!("{ratio:.3}")).collect();
        let mean = error(&curve, &reached);
        writeln!(
            table,
            "{name:34} {:>9} reads {:>7} keys  error {mean:.4}\n  predicted {}\n  measured  {}",
            curve.reads,
            curve.keys,
            predicted.join(" "),
            found.join(" ")
        )
        .expect("into a text");
        println!("{table}");
        assert!(mean <= ERROR_MAX, "{table}");
    }
}

/// Reads of several traces in turns, each in a namespace of its own, through a cache of this size.
async fn mixed(mode: SizingMode, traces: &[Vec<Access>], memory: u64) -> larder::Result<(f64, Vec<larder::Decision>)> {
    let names = ["a", "b", "c", "d"];
    let builder =
        names[..traces.len()].iter().fold(Larder::builder().memory(memory), |builder, name| builder.namespace(*name, Policy::default()));
    let larder = builder.sizing(mode).clock(Clock::manual()).build().await?;
    let (raw, value) = (larder.raw(), Bytes::from(vec![0; 1 << 20]));
    let (longest, mut hits, mut reads) = (traces.iter().map(Vec::len).max().unwrap_or(0), 0u64, 0u64);
    for n in 0..longest {
        for (name, trace) in names.iter().zip(traces).filter(|(_, trace)| n * trace.len() / longest != (n + 1) * trace.len() / longest) {
            let access = trace[n * trace.len() / longest];
            larder.clock().advance(larder::TICK);
            let key = format!("{name}:{:016x}", access.key_hash());
            reads += 1;
            if raw.lookup(&key).await?.fresh().is_some() {
                hits += 1;
            } else {
                let len = access.bytes.saturating_sub(ENTRY_OVERHEAD + 18) as usize;
                raw.put(&key, Item::new(value.slice(..len.min(value.len())))).await?;
            }
            if reads.is_multiple_of(2_000) {
                larder.sizing();
            }
            if reads.is_multiple_of(20_000) && mode != SizingMode::Off {
                larder.optimize()?;
            }
        }
    }
    Ok((hits as f64 / reads as f64, larder.sizing().map_or_else(Vec::new, |sizing| sizing.decisions)))
}

/// Prints what giving memory out does beside sharing it: `cargo test -p larder-server --lib mixes_of_traces -- --ignored --nocapture`.
#[tokio::test]
#[ignore = "it replays hundreds of thousands of reads many times: minutes"]
async fn of_mixes_of_traces_none_is_much_worse_than_sharing() {
    let mixes: [(&[&str], u64); 10] = [
        (&["loop.trace.gz", "web12.trace.xz"], 3 << 20),
        (&["trace_vaultservice.gz", "web12.trace.xz", "multi3.trace.gz"], 4 << 20),
        (&["2_pools.trace.gz", "web12.trace.xz", "multi3.trace.gz"], 4 << 20),
        (&["cloudPhysicsIO.oracleGeneral.bin", "web12.trace.xz"], 32 << 20),
        (&["trace_vaultservice.gz", "2_pools.trace.gz"], 2 << 20),
        (&["trace_vaultservice.gz", "2_pools.trace.gz"], 8 << 20),
        (&["OLTP.lis.zst", "scarab-recs.trace.xz"], 32 << 20),
        (&["OLTP.lis.zst", "web12.trace.xz", "loop.trace.gz"], 16 << 20),
        (&["scarab-recs.trace.xz", "2_pools.trace.gz", "multi3.trace.gz"], 8 << 20),
        (&["OLTP.lis.zst", "trace_vaultservice.gz", "scarab-recs.trace.xz", "web12.trace.xz"], 32 << 20),
    ];
    for (names, memory) in mixes {
        let paths: Vec<_> = names.iter().filter_map(|name| find(name)).collect();
        if paths.len() < names.len() {
            continue;
        }
        let read = |path: &std::path::PathBuf| {
            let mut accesses = Vec::new();
            let trace = Trace::open(path, None, 1_024).expect("it is told what it is");
            trace.each(|access| accesses.push(access)).expect("it can be read");
            accesses.truncate(150_000);
            accesses
        };
        let traces: Vec<Vec<Access>> = paths.iter().map(read).collect();
        let (shared, _) = mixed(SizingMode::Off, &traces, memory).await.expect("a cache in memory");
        let (given_out, decisions) = mixed(SizingMode::Auto, &traces, memory).await.expect("a cache in memory");
        println!("{names:?}, {} MiB: shared {shared:.4}, given out {given_out:.4}", memory >> 20);
        decisions.iter().for_each(|one| println!("    {:.3} {:?} {} {:?}", one.predicted, one.measured, one.what, one.undone));
        assert!(given_out >= shared - 0.005, "{names:?}");
    }
}
