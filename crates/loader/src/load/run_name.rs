//! The default name of a run.

use assay_transaction::RunId;
use chrono::{DateTime, Utc};
use uuid::Uuid;

/// Digits and letters that are not easily taken for one another.
const ALPHABET: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";
/// 50 random bits: of a thousand runs that begin within one second, two have the same name once in two thousand million times.
const CHARACTERS: u32 = 10;

/// `batch_20260111_100000_3f9a1c7km2`: the time in UTC, as in the logs of the earlier job, and ten characters, as many loads
/// may begin in the same second.
pub(crate) fn run_name(now: DateTime<Utc>, random: Uuid) -> RunId {
    // The last 62 bits of a random UUID are random.
    let digit = |place| ALPHABET[(random.as_u128() >> (5 * place)) as usize % ALPHABET.len()];
    let random: String = (0..CHARACTERS).rev().map(|place| char::from(digit(place))).collect();
    let name = format!("batch_{}_{random}", now.format("%Y%m%d_%H%M%S"));
    name.parse().expect("letters, digits and underscores make a run id")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn names_the_second_and_tells_many_loads_apart() {
        let now = "2026-01-11T10:00:00Z".parse().unwrap();
        let name = run_name(now, Uuid::from_u128(0x3_1f));
        assert_eq!(name.as_str(), "batch_20260111_100000_00000000rz");
        let names: HashSet<_> = (0..100_000).map(|_| run_name(now, Uuid::new_v4())).collect();
        assert_eq!(names.len(), 100_000);
    }
}
