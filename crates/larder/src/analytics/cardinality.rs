//! How many different keys: a HyperLogLog sketch (Flajolet et al., "HyperLogLog: the analysis of a near-optimal cardinality
//! estimation algorithm", 2007), with linear counting where few registers are set.
//!
//! Merging takes the larger of each two registers, so that the sketch of a union is the union of the sketches.

use std::fmt;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU8, Ordering};

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use xxhash_rust::xxh3::xxh3_64;

/// Registers, as a power of two. 4,096 registers err by 1.04 / 64 = 1.6 % (one standard deviation).
const BITS: u32 = 12;
const REGISTERS: usize = 1 << BITS;
/// What a register can hold at most: the zeros of the bits that do not choose the register, and one.
const RANK_MAX: u8 = (64 - BITS + 1) as u8;

/// An estimate of how many different keys there were, to 1.6 % (one standard deviation). Empty, it takes no memory.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Cardinality {
    /// None or all of them.
    registers: Vec<u8>,
}

impl Cardinality {
    /// Takes a key in.
    pub fn insert(&mut self, key: &[u8]) {
        self.insert_hash(xxh3_64(key));
    }

    fn insert_hash(&mut self, hash: u64) {
        let (register, rank) = place_of(hash);
        let registers = self.filled();
        registers[register] = registers[register].max(rank);
    }

    /// Takes in what another has seen.
    pub fn add(&mut self, other: &Cardinality) {
        if other.registers.is_empty() {
            return;
        }
        self.filled().iter_mut().zip(&other.registers).for_each(|(own, other)| *own = (*own).max(*other));
    }

    /// About how many different keys were taken in.
    pub fn estimate(&self) -> u64 {
        if self.registers.is_empty() {
            return 0;
        }
        let m = REGISTERS as f64;
        let sum: f64 = self.registers.iter().map(|&rank| (-f64::from(rank)).exp2()).sum();
        let raw = 0.7213 / (1.0 + 1.079 / m) * m * m / sum;
        let empty = self.registers.iter().filter(|&&rank| rank == 0).count();
        let estimate = if raw <= 2.5 * m && empty > 0 { m * (m / empty as f64).ln() } else { raw };
        estimate.round() as u64
    }

    /// Whether no key was taken in.
    pub fn is_empty(&self) -> bool {
        self.registers.is_empty()
    }

    fn filled(&mut self) -> &mut [u8] {
        self.registers.resize(REGISTERS, 0);
        &mut self.registers
    }

    /// For keeping: nothing where it is empty; else a zero byte and all registers, or a one byte and, for each register that is
    /// set, its number (two bytes, big-endian) and its value, whichever is shorter.
    pub fn to_bytes(&self) -> Vec<u8> {
        if self.registers.is_empty() {
            return Vec::new();
        }
        let set = || self.registers.iter().enumerate().filter(|(_, rank)| **rank > 0);
        if set().count() * 3 >= REGISTERS {
            return [&[0], self.registers.as_slice()].concat();
        }
        let sparse = set().flat_map(|(at, rank)| [(at >> 8) as u8, at as u8, *rank]);
        std::iter::once(1).chain(sparse).collect()
    }

    /// What [`to_bytes`](Self::to_bytes) made; `None` where it is something else.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let mut registers = vec![0; REGISTERS];
        match bytes.split_first() {
            None => return Some(Cardinality::default()),
            Some((0, all)) if all.len() == REGISTERS => registers.copy_from_slice(all),
            Some((1, sparse)) if sparse.len().is_multiple_of(3) => {
                for register in sparse.chunks_exact(3) {
                    *registers.get_mut(usize::from(register[0]) << 8 | usize::from(register[1]))? = register[2];
                }
            }
            Some(_) => return None,
        }
        registers.iter().all(|rank| *rank <= RANK_MAX).then_some(Cardinality { registers })
    }
}

/// Which register a hash is counted in, and as what.
fn place_of(hash: u64) -> (usize, u8) {
    // The bit that is set ends the count where all others are zero.
    let rank = ((hash << BITS) | 1 << (BITS - 1)).leading_zeros() as u8 + 1;
    ((hash >> (64 - BITS)) as usize, rank)
}

/// A sketch that many threads take keys into at once.
#[derive(Default)]
pub(super) struct Registers(OnceLock<Box<[AtomicU8]>>);

impl Registers {
    /// Takes a key in of which the hash is known: XXH3, 64 bits, no seed.
    pub(super) fn insert_hash(&self, hash: u64) {
        let registers = self.0.get_or_init(|| (0..REGISTERS).map(|_| AtomicU8::new(0)).collect());
        let (register, rank) = place_of(hash);
        // Most ranks are there already, and then nothing is written.
        if registers[register].load(Ordering::Relaxed) < rank {
            registers[register].fetch_max(rank, Ordering::Relaxed);
        }
    }

    /// What was taken in since the last time; then it is empty.
    pub(super) fn drain(&self) -> Cardinality {
        let Some(registers) = self.0.get() else { return Cardinality::default() };
        let registers: Vec<u8> = registers.iter().map(|register| register.swap(0, Ordering::Relaxed)).collect();
        if registers.iter().all(|rank| *rank == 0) { Cardinality::default() } else { Cardinality { registers } }
    }
}

impl fmt::Debug for Cardinality {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Cardinality(about {})", self.estimate())
    }
}

impl Serialize for Cardinality {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.to_bytes().serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Cardinality {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let bytes = Vec::<u8>::deserialize(deserializer)?;
        Cardinality::from_bytes(&bytes).ok_or_else(|| D::Error::custom("no sketch of a cardinality"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(keys: std::ops::Range<u32>) -> Cardinality {
        let mut sketch = Cardinality::default();
        keys.for_each(|key| sketch.insert(format!("n:{key}").as_bytes()));
        sketch
    }

    #[test]
    fn it_errs_by_a_few_percent_at_any_size() {
        assert_eq!(Cardinality::default().estimate(), 0);
        for n in [1, 10, 100, 1_000, 5_000, 10_000, 12_000, 20_000, 100_000, 1_000_000] {
            let estimate = of(0..n).estimate() as f64;
            assert!((estimate - f64::from(n)).abs() <= 0.06 * f64::from(n), "{estimate} for {n}");
        }
    }

    #[test]
    fn the_sketch_of_a_union_is_the_union_of_sketches() {
        let mut union = of(0..6_000);
        union.add(&of(4_000..9_000));
        union.add(&Cardinality::default());
        assert!(union == of(0..9_000));
        let mut from_nothing = Cardinality::default();
        from_nothing.add(&union);
        assert!(from_nothing == union);
    }

    #[test]
    fn what_many_threads_take_in_is_drained_once() {
        let registers = Registers::default();
        assert!(registers.drain().is_empty());
        let take_in = |keys: std::ops::Range<u32>| keys.for_each(|key| registers.insert_hash(xxh3_64(format!("n:{key}").as_bytes())));
        std::thread::scope(|scope| {
            scope.spawn(|| take_in(0..3_000));
            scope.spawn(|| take_in(2_000..5_000));
        });
        assert!(registers.drain() == of(0..5_000));
        assert!(registers.drain().is_empty());
    }

    #[test]
    fn it_is_kept_in_few_bytes_and_read_again() {
        for n in [0, 1, 50, 1_000, 100_000] {
            let sketch = of(0..n);
            let bytes = sketch.to_bytes();
            assert!(bytes.len() <= (1 + 3 * n as usize).min(1 + REGISTERS));
            assert!(Cardinality::from_bytes(&bytes) == Some(sketch));
        }
        for bad in [&[0][..], &[1, 0], &[2], &[1, 255, 255, 1], &[1, 0, 0, RANK_MAX + 1]] {
            assert!(Cardinality::from_bytes(bad).is_none(), "{bad:?}");
        }
    }

    #[test]
    fn a_rank_never_exceeds_what_is_read_again() {
        let mut sketch = Cardinality::default();
        [0, u64::MAX, 1 << 52, 1].into_iter().for_each(|hash| sketch.insert_hash(hash));
        assert!(Cardinality::from_bytes(&sketch.to_bytes()) == Some(sketch));
    }
}
