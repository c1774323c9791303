//! 128-bit fingerprints of small values, fast enough to take one for every step of a search.
//!
//! Two states with the same fingerprint are taken for the same state. With 2^128 of them, a search of a hundred million
//! states confuses two with a probability of about 10^-23; what it does not need is safety against an adversary.

use std::hash::{BuildHasherDefault, Hash, Hasher};

/// The fingerprint of one value.
pub fn digest<T: Hash>(value: &T) -> u128 {
    let mut mixer = Mixer::default();
    value.hash(&mut mixer);
    mixer.digest()
}

/// Set of fingerprints: they are mixed already, so the table takes their low half as it is.
pub type Seen = std::collections::HashSet<u128, BuildHasherDefault<LowHalf>>;

/// Gathers the narrow writes of derived `Hash` into words of 64 bits, and folds each word into two lanes.
struct Mixer {
    lanes: [u64; 2],
    pending: u64,
    bits: u32,
}

impl Default for Mixer {
    fn default() -> Self {
        // The first digits of pi: any numbers would do that nobody chose.
        Mixer { lanes: [0x243f_6a88_85a3_08d3, 0x1319_8a2e_0370_7344], pending: 0, bits: 0 }
    }
}

impl Mixer {
    fn push(&mut self, value: u64, bits: u32) {
        if self.bits + bits > 64 {
            self.fold();
        }
        self.pending |= value << self.bits;
        self.bits += bits;
    }

    fn fold(&mut self) {
        let word = self.pending;
        self.lanes[0] = multiply_fold(self.lanes[0] ^ word, 0x9e37_79b9_7f4a_7c15);
        self.lanes[1] = multiply_fold(self.lanes[1].rotate_left(23) ^ word, 0xd1b5_4a32_d192_ed03);
        self.pending = 0;
        self.bits = 0;
    }

    fn digest(mut self) -> u128 {
        self.fold();
        let [low, high] = self.lanes;
        let low_out = multiply_fold(low ^ high.rotate_left(32), 0xa076_1d64_78bd_642f);
        let high_out = multiply_fold(high ^ low.rotate_left(17), 0xe703_7ed1_a0b4_28db);
        (u128::from(high_out) << 64) | u128::from(low_out)
    }
}

/// A 64 by 64 bit product, both halves kept. The added word keeps a zero from swallowing everything after it.
fn multiply_fold(a: u64, b: u64) -> u64 {
    let product = u128::from(a) * u128::from(b);
    ((product >> 64) as u64 ^ product as u64).wrapping_add(a.rotate_left(32))
}

impl Hasher for Mixer {
    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.push(u64::from(*byte), 8));
    }

    fn write_u8(&mut self, value: u8) {
        self.push(u64::from(value), 8);
    }

    fn write_u32(&mut self, value: u32) {
        self.push(u64::from(value), 32);
    }

    fn write_usize(&mut self, value: usize) {
        // Only lengths of the state's short arrays and places in them come here.
        self.push(value as u64 & 0xffff, 16);
    }

    fn write_isize(&mut self, value: isize) {
        // Only discriminants of the state's enums come here: a byte holds them.
        self.push(value as u64 & 0xff, 8);
    }

    fn finish(&self) -> u64 {
        self.lanes[0] ^ self.lanes[1] ^ self.pending
    }
}

/// A hasher that hands on the low half of a fingerprint.
#[derive(Default)]
pub struct LowHalf(u64);

impl Hasher for LowHalf {
    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.0 = self.0.rotate_left(8) ^ u64::from(*byte));
    }

    fn write_u128(&mut self, fingerprint: u128) {
        self.0 = fingerprint as u64;
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn neighbours_differ_in_both_halves() {
        let (mut low, mut high) = (HashSet::new(), HashSet::new());
        for value in 0..200_000u32 {
            let fingerprint = digest(&(value, [value as u8; 3]));
            assert!(low.insert(fingerprint as u64), "low halves collide at {value}");
            assert!(high.insert((fingerprint >> 64) as u64), "high halves collide at {value}");
        }
    }

    #[test]
    fn an_order_of_narrow_writes_is_not_lost() {
        assert_ne!(digest(&(1u8, 2u8)), digest(&(2u8, 1u8)));
        assert_ne!(digest(&(Some(0u8), None::<u8>)), digest(&(None::<u8>, Some(0u8))));
        assert_ne!(digest(&[0u8; 9]), digest(&[0u8; 10]));
    }
}
