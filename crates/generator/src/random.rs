//! The only source of randomness: fixed streams of random bits, and the few distributions that the rows need.
//!
//! The same seed must give the same bytes on every machine and in every later version, so nothing depends on what may
//! change: the generator is ChaCha8 by name (`SmallRng` and `StdRng` of `rand` may become another one), the
//! distributions are our own (those of `rand` may change), in integer arithmetic (`exp` and `ln` differ in their last
//! bits between C libraries).

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore as _, SeedableRng as _};

/// Independent streams of one seed: drawing from one never changes another.
#[derive(Debug, Clone, Copy)]
pub(crate) enum RandomStream {
    Transactions = 1,
    /// UUIDs, so that `--uuid-ids` changes nothing but the ids.
    Ids = 2,
    /// Which rows are invalid or repeated, and how, so that the others stay unchanged.
    FaultSource = 3,
    /// The extra columns of other layouts.
    DatasetLayout = 4,
}

/// A stream of random bits, with distributions over it.
#[derive(Debug, Clone)]
pub(crate) struct Random(ChaCha8Rng);

impl Random {
    pub(crate) fn new(seed: u64, stream: RandomStream) -> Self {
        let mut key = [0; 32];
        key[..8].copy_from_slice(&seed.to_le_bytes());
        let mut bits = ChaCha8Rng::from_seed(key);
        bits.set_stream(stream as u64);
        Self(bits)
    }

    /// All 32 bits.
    pub(crate) fn bits(&mut self) -> u32 {
        self.0.next_u32()
    }

    pub(crate) fn bytes(&mut self) -> [u8; 16] {
        let mut bytes = [0; 16];
        self.0.fill_bytes(&mut bytes);
        bytes
    }

    /// Uniform in `0..bound`. The bias of the multiplication is below `bound / 2^32`, too small to show.
    pub(crate) fn below(&mut self, bound: u32) -> u32 {
        let product = u64::from(self.bits()) * u64::from(bound);
        (product >> 32) as u32
    }

    /// Uniform in `low..=high`.
    pub(crate) fn between(&mut self, low: u32, high: u32) -> u32 {
        low + self.below(high - low + 1)
    }

    /// True in this many cases of a hundred.
    pub(crate) fn percent(&mut self, percent: u32) -> bool {
        self.below(100) < percent
    }

    /// One of the choices, each equally likely; there must be at least one.
    pub(crate) fn pick<T: Copy>(&mut self, choices: &[T]) -> T {
        #[expect(clippy::cast_possible_truncation, reason = "no list of this crate has 2^32 entries")]
        let count = choices.len() as u32;
        choices[self.below(count) as usize]
    }

    /// The index of a weight, chosen in proportion to it.
    pub(crate) fn weighted(&mut self, weights: &[u8]) -> usize {
        let total = weights.iter().map(|weight| u32::from(*weight)).sum();
        let mut left = self.below(total);
        for (index, weight) in weights.iter().enumerate() {
            if left < u32::from(*weight) {
                return index;
            }
            left -= u32::from(*weight);
        }
        weights.len() - 1
    }

    /// Close to log-normal: `median` times a power of two whose exponent is close to normal, with a standard deviation
    /// of `spread / 256`. Never further out than 3.46 standard deviations.
    pub(crate) fn log_normal(&mut self, median: u32, spread: u16) -> u32 {
        // The sum of four uniform 16-bit numbers: mean 131,070, standard deviation 37,837.
        let four = self.0.next_u64();
        let sum: i64 = (0..4).map(|part| (four >> (part * 16) & 0xFFFF).cast_signed()).sum();
        // The exponent with 16 binary places, split into a whole part and a fraction of 0..1.
        let exponent = (sum - 131_070) * i64::from(spread) * 256 / 37_837;
        let (whole, fraction) = (exponent >> 16, (exponent & 0xFFFF).cast_unsigned());
        // 2^f by the parabola 1 + f (0.6565 + 0.3435 f), within 0.3 % of it.
        let power = 65_536 + ((fraction * (43_024 + ((fraction * 22_512) >> 16))) >> 16);
        let scaled = u64::from(median) * power;
        // The spreads used keep the exponent within ±10.
        let shifted = if whole >= 0 { (scaled << whole) >> 16 } else { scaled >> (16 - whole) };
        u32::try_from(shifted).unwrap_or(u32::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_of_a_seed_are_fixed_and_distinct() {
        let first = |seed, stream| Random::new(seed, stream).bits();
        assert_eq!(first(1, RandomStream::Transactions), first(1, RandomStream::Transactions));
        assert_ne!(first(1, RandomStream::Transactions), first(1, RandomStream::FaultSource));
        assert_ne!(first(1, RandomStream::Transactions), first(2, RandomStream::Transactions));
    }

    #[test]
    fn bounds_are_kept_and_reached() {
        let mut random = Random::new(7, RandomStream::Transactions);
        let mut seen = [false; 5];
        for _ in 0..1_000 {
            seen[(random.between(3, 7) - 3) as usize] = true;
        }
        assert_eq!(seen, [true; 5]);
    }

    #[test]
    fn weights_are_met() {
        let mut random = Random::new(7, RandomStream::Transactions);
        let mut counts = [0_i32; 3];
        for _ in 0..10_000 {
            counts[random.weighted(&[1, 0, 3])] += 1;
        }
        assert_eq!(counts[1], 0);
        assert!((counts[0] - 2_500).abs() < 200, "{counts:?}");
    }

    #[test]
    fn log_normal_has_its_median_and_its_spread() {
        let mut random = Random::new(7, RandomStream::Transactions);
        let mut values: Vec<u32> = (0..20_001).map(|_| random.log_normal(10_000, 256)).collect();
        values.sort_unstable();
        let near = |value: u32, expected: u32| value.abs_diff(expected) < expected / 20;
        assert!(near(values[10_000], 10_000), "median {}", values[10_000]);
        // One standard deviation, 84.1 %, is one doubling.
        assert!(near(values[16_827], 20_000), "84th percentile {}", values[16_827]);
        assert!(near(values[3_173], 5_000), "16th percentile {}", values[3_173]);
    }
}
