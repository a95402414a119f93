//! When transactions happen: days of 2023 to 2025, and the hours that people and banks keep.

use chrono::{DateTime, NaiveDateTime, TimeDelta};

use crate::random::Random;

/// 2023-01-01 00:00:00, in seconds since 1970.
const FIRST_SECOND: i64 = 1_672_531_200;
/// 2023, 2024 and 2025 without the last day, which is left for the rest of an incident.
const DAYS: u32 = 365 + 366 + 364;
/// Hours skipped by the clocks of Central Europe. No row falls in them, so that every valid row stays valid in the time
/// zone `Europe/Paris`.
const GAPS: [i64; 3] = [1_679_796_000, 1_711_850_400, 1_743_300_000];

/// The usual hours of a kind of transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Hours {
    /// Shops: daytime, mostly late afternoon.
    Shop,
    /// Online: mostly evenings, some nights.
    Online,
    /// Restaurants, games and bets: noon, evening, and some nights.
    Evening,
    /// A bank's batches: early in the morning.
    Banking,
    /// While the cardholder is asleep.
    Night,
    /// Any hour alike.
    Any,
}

impl Hours {
    fn weights(self) -> &'static [u8; 24] {
        match self {
            Self::Shop => &[1, 0, 0, 0, 0, 1, 2, 5, 9, 12, 14, 14, 14, 11, 12, 13, 14, 16, 15, 10, 5, 3, 2, 1],
            Self::Online => &[7, 4, 3, 2, 2, 2, 3, 5, 7, 9, 10, 11, 12, 12, 11, 11, 11, 11, 12, 13, 15, 16, 14, 11],
            Self::Evening => &[8, 5, 3, 2, 1, 1, 1, 2, 3, 4, 5, 9, 13, 10, 6, 5, 6, 8, 12, 16, 17, 16, 14, 12],
            Self::Banking => &[5, 8, 11, 12, 10, 9, 9, 9, 10, 10, 9, 8, 6, 5, 6, 6, 5, 4, 3, 2, 2, 2, 2, 3],
            Self::Night => &[13, 16, 17, 16, 14, 8, 3, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 2, 4, 9],
            Self::Any => &[1; 24],
        }
    }

    /// A random second of the three years, in these hours.
    pub(crate) fn moment(self, random: &mut Random) -> NaiveDateTime {
        let day = i64::from(random.below(DAYS));
        let hour = random.weighted(self.weights()).cast_signed() as i64;
        let second = i64::from(random.below(3_600));
        at(FIRST_SECOND + day * 86_400 + hour * 3_600 + second)
    }
}

/// Some seconds after an earlier moment.
pub(crate) fn later(moment: NaiveDateTime, seconds: u32) -> NaiveDateTime {
    at(moment.and_utc().timestamp() + i64::from(seconds))
}

/// The moment, or an hour later if the clocks skip it.
fn at(second: i64) -> NaiveDateTime {
    let skipped = GAPS.iter().any(|gap| (*gap..gap + 3_600).contains(&second));
    DateTime::UNIX_EPOCH.naive_utc() + TimeDelta::seconds(if skipped { second + 3_600 } else { second })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::RandomStream;
    use chrono::{Datelike as _, Timelike as _};

    #[test]
    fn the_hours_that_clocks_skip_are_left_out() {
        let texts: Vec<String> = GAPS.iter().map(|gap| at(gap + 60).to_string()).collect();
        assert_eq!(texts, ["2023-03-26 03:01:00", "2024-03-31 03:01:00", "2025-03-30 03:01:00"]);
        assert_eq!(at(GAPS[0] - 1).to_string(), "2023-03-26 01:59:59");
    }

    #[test]
    fn moments_keep_their_years_and_hours() {
        let mut random = Random::new(1, RandomStream::Transactions);
        for _ in 0..2_000 {
            let moment = Hours::Shop.moment(&mut random);
            assert!((2023..=2025).contains(&moment.year()), "{moment}");
            assert!(!(1..5).contains(&moment.hour()), "shops are closed at {moment}");
        }
    }
}
