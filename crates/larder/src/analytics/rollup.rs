//! What happened within a stretch of time, in a form that merges.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use super::{Cardinality, Ranking};
use crate::metrics::{Counts, Latencies};

/// What happened within a stretch of time.
///
/// Stretches that follow each other merge by [`then`](Self::then), the same stretch of several instances by
/// [`beside`](Self::beside); in whichever order, the outcome is what one that saw everything would have.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Rollup {
    /// When it began, in milliseconds since 1970.
    pub start_ms: u64,
    /// When it ended.
    pub end_ms: u64,
    /// How many cuts of a recorder went into it: what the sums of sizes are divided by.
    pub samples: u64,
    /// Each namespace in which anything happened or was held, by name.
    pub namespaces: BTreeMap<String, Window>,
    /// What happened in the cache as a whole, by name: see [`Recorder`](super::Recorder) for the names.
    pub measures: BTreeMap<String, u64>,
}

/// What happened in one namespace.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Window {
    /// What was counted.
    pub counts: Counts,
    /// Entries in memory at the end.
    pub entries: u64,
    /// Bytes in memory at the end.
    pub bytes: u64,
    /// The sum of the entries over all [samples](Rollup::samples): divided by those, their mean.
    pub entries_sum: u64,
    /// The sum of the bytes over all samples.
    pub bytes_sum: u64,
    /// Reads answered from memory, of which one in 64 is timed.
    pub hit_memory: Latencies,
    /// All other hits: reads answered from the backing tier, by an entry past its time, or by "there is no such thing".
    pub hit_backing: Latencies,
    /// Reads that had to load, or found nothing.
    pub miss: Latencies,
    /// Reads that ended with an error.
    pub error: Latencies,
    /// The loaders alone.
    pub load: Latencies,
    /// Which keys there were, and what became of them.
    pub sketches: Sketches,
}

/// Which keys a namespace had, and what became of them.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Sketches {
    /// Different keys that came into memory, were found there by a sweep, or were asked for in vain.
    pub keys: Cardinality,
    /// The keys that were read most, by reads: one memory hit in 64 and one slower read in 16 is counted for all, at most one in a
    /// millisecond. What is said of a key is never too much but by chance, and too little where there are very many.
    pub hot_reads: Ranking,
    /// Those of which most bytes were read: reads times the length of the encoded value.
    pub hot_bytes: Ranking,
    /// Those whose loads took longest in sum, in microseconds. Of a load of many keys each has an equal part.
    pub hot_cost: Ranking,
    /// The largest entries that came into memory, by encoded bytes.
    pub largest: Ranking,
    /// How old entries were when they left memory because their time was over: for as long as they had been loaded or put.
    pub age_expired: Latencies,
    /// How old they were when they were evicted.
    pub age_evicted: Latencies,
    /// How old they were when they were found or swept as invalidated.
    pub age_invalidated: Latencies,
    /// How long entries that left memory for one of these three reasons had not been read: those that were never read count with their
    /// whole age.
    pub age_unread: Latencies,
    /// How many bytes of other entries of the namespace, as memory counts them, were read between two reads of the same key; in a
    /// [`Latencies`], whose nanoseconds stand for bytes here. Estimated from keys chosen by hash, of which each counts for many: the sum
    /// of all is about the number of reads, but for those that were a key's first, so that the share of reads which a memory of some size
    /// would have answered is what is counted up to it over [`requests`](Window::requests). What is read again within a tick of the clock
    /// is counted as zero bytes. Nothing, where fewer than about 500 keys were read.
    pub reuse_bytes: Latencies,
}

impl Rollup {
    /// Takes in the stretch that follows, of the same instance.
    pub fn then(&mut self, later: &Rollup) {
        self.samples += later.samples;
        // What is not in the later one is empty by now.
        self.namespaces.values_mut().for_each(|window| (window.entries, window.bytes) = (0, 0));
        self.merge(later, |own, later| (own.entries, own.bytes) = (later.entries, later.bytes));
    }

    /// Takes in the same stretch of another instance.
    pub fn beside(&mut self, other: &Rollup) {
        self.samples = self.samples.max(other.samples);
        self.merge(other, |own, other| {
            own.entries += other.entries;
            own.bytes += other.bytes;
        });
    }

    fn merge(&mut self, other: &Rollup, sizes: impl Fn(&mut Window, &Window)) {
        self.start_ms = if self.end_ms == 0 { other.start_ms } else { self.start_ms.min(other.start_ms) };
        self.end_ms = self.end_ms.max(other.end_ms);
        for (name, window) in &other.namespaces {
            let own = self.namespaces.entry(name.clone()).or_default();
            sizes(own, window);
            own.add(window);
        }
        for (name, value) in &other.measures {
            *self.measures.entry(name.clone()).or_default() += value;
        }
    }

    /// All namespaces together.
    pub fn total(&self) -> Window {
        let mut total = Window::default();
        for window in self.namespaces.values() {
            total.entries += window.entries;
            total.bytes += window.bytes;
            total.add(window);
        }
        total
    }

    /// For keeping or sending; [`decode`](Self::decode) reads it, in this version and later ones.
    pub fn encode(&self) -> Vec<u8> {
        let body = postcard::to_stdvec(self).expect("plain values in memory are always written");
        [&[FORMAT], body.as_slice()].concat()
    }

    /// What [`encode`](Self::encode) made.
    ///
    /// # Errors
    /// When it is something else, or of a later version.
    pub fn decode(bytes: &[u8]) -> Result<Rollup, Undecodable> {
        match bytes.split_first() {
            Some((&FORMAT, body)) => postcard::from_bytes(body).map_err(|_| Undecodable::Damaged),
            Some((&format, _)) => Err(Undecodable::Format(format)),
            None => Err(Undecodable::Damaged),
        }
    }
}

/// The format's version.
const FORMAT: u8 = 1;

/// Why bytes are no rollup.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Undecodable {
    /// They were made by another version.
    Format(u8),
    /// They are cut short, or something else.
    Damaged,
}

impl fmt::Display for Undecodable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Undecodable::Format(format) => write!(f, "a rollup of format {format}; this version reads format {FORMAT}"),
            Undecodable::Damaged => f.write_str("no rollup, or a damaged one"),
        }
    }
}

impl std::error::Error for Undecodable {}

impl Window {
    /// Adds everything but the sizes at the end, which are different things in time and across instances.
    fn add(&mut self, other: &Window) {
        self.counts.add(&other.counts);
        self.entries_sum += other.entries_sum;
        self.bytes_sum += other.bytes_sum;
        self.hit_memory.add(&other.hit_memory);
        self.hit_backing.add(&other.hit_backing);
        self.miss.add(&other.miss);
        self.error.add(&other.error);
        self.load.add(&other.load);
        self.sketches.add(&other.sketches);
    }

    /// All reads.
    pub fn requests(&self) -> u64 {
        self.counts.requests()
    }

    /// Reads that were answered without a load.
    pub fn hits(&self) -> u64 {
        self.counts.hits()
    }

    /// How long hits took: see [`NamespaceStats::hit_latencies`](crate::NamespaceStats::hit_latencies).
    pub fn hit_latencies(&self) -> Latencies {
        self.hit_memory.scaled_to(self.counts.hits_memory).and([&self.hit_backing])
    }

    /// How long all reads took: hits, as [`hit_latencies`](Self::hit_latencies) has them, misses, and errors.
    pub fn total_latencies(&self) -> Latencies {
        self.hit_latencies().and([&self.miss, &self.error])
    }
}

impl Sketches {
    /// Takes in what another has seen.
    pub fn add(&mut self, other: &Sketches) {
        self.keys.add(&other.keys);
        self.hot_reads.add(&other.hot_reads);
        self.hot_bytes.add(&other.hot_bytes);
        self.hot_cost.add(&other.hot_cost);
        self.largest.add_largest(&other.largest);
        self.age_expired.add(&other.age_expired);
        self.age_evicted.add(&other.age_evicted);
        self.age_invalidated.add(&other.age_invalidated);
        self.age_unread.add(&other.age_unread);
        self.reuse_bytes.add(&other.reuse_bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rollup(start_ms: u64, hits: u64, bytes: u64) -> Rollup {
        let counts = Counts { hits_memory: hits, ..Counts::default() };
        let window = Window { counts, bytes, bytes_sum: bytes, ..Window::default() };
        Rollup {
            start_ms,
            end_ms: start_ms + 60_000,
            samples: 1,
            namespaces: BTreeMap::from([("n".into(), window)]),
            measures: BTreeMap::from([("appends".into(), hits)]),
        }
    }

    #[test]
    fn time_takes_the_last_size_and_instances_add_theirs() {
        let mut hour = Rollup::default();
        hour.then(&rollup(60_000, 3, 100));
        hour.then(&rollup(120_000, 4, 50));
        assert_eq!((hour.start_ms, hour.end_ms, hour.samples), (60_000, 180_000, 2));
        assert_eq!((hour.namespaces["n"].counts.hits_memory, hour.namespaces["n"].bytes, hour.namespaces["n"].bytes_sum), (7, 50, 150));
        assert_eq!(hour.measures["appends"], 7);
        let mut fleet = hour.clone();
        fleet.beside(&hour);
        assert_eq!((fleet.samples, fleet.namespaces["n"].bytes, fleet.namespaces["n"].bytes_sum), (2, 100, 300));
        let mut emptied = hour.clone();
        emptied.then(&Rollup { start_ms: 180_000, end_ms: 240_000, samples: 1, ..Rollup::default() });
        assert_eq!(emptied.namespaces["n"].bytes, 0, "what is not in the later stretch is empty by then");
    }

    #[test]
    fn it_is_read_as_it_was_written_and_nothing_else_is() {
        let written = rollup(60_000, 3, 100);
        let bytes = written.encode();
        assert_eq!(Rollup::decode(&bytes), Ok(written));
        assert_eq!(Rollup::decode(&bytes[..bytes.len() - 1]), Err(Undecodable::Damaged));
        assert_eq!(Rollup::decode(&[]), Err(Undecodable::Damaged));
        assert_eq!(Rollup::decode(&[9, 1, 2]), Err(Undecodable::Format(9)));
    }
}
