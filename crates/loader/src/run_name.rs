//! The default name of a run.

use assay_transaction::RunId;
use chrono::{DateTime, Utc};
use uuid::Uuid;

/// `batch_20260111_100000_3f9a1c`: the time in UTC, as in the logs of the earlier job, and six characters, as two loads may
/// begin in the same second.
pub(crate) fn run_name(now: DateTime<Utc>, random: Uuid) -> RunId {
    let random = &random.simple().to_string()[..6];
    let name = format!("batch_{}_{random}", now.format("%Y%m%d_%H%M%S"));
    name.parse().expect("letters, digits and underscores make a run id")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_the_second_and_tells_two_loads_apart() {
        let now = "2026-01-11T10:00:00Z".parse().unwrap();
        let name = run_name(now, Uuid::from_u128(0x3f9a_1c00 << 96));
        assert_eq!(name.as_str(), "batch_20260111_100000_3f9a1c");
    }
}
