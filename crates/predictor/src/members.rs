//! Who shares `API_RATE_LIMIT`, by the signs of life. Clock-free.
//!
//! Guarantee: while the broker is away, nobody is taken for dead, and so no share grows. A predictor knows that by its own signs of life,
//! which the broker brings back.

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::time::Duration;

use assay_transaction::PredictorNotice;
use tokio::time::Instant;

/// Without a sign of life for so long, a predictor is gone: three are missing.
const GONE_AFTER: Duration = Duration::from_millis(3_500);
/// Without its own sign of life for so long, a predictor hears nothing at all.
const DEAF_AFTER: Duration = Duration::from_millis(2_500);
/// Most predictors known: more than an ML API serves.
const MAX_MEMBERS: usize = 1_000;
/// The share of a busy predictor, in those of an idle one, which needs some to become busy.
const BUSY_WEIGHT: f64 = 10.0;

/// The other predictors.
#[derive(Debug, Default)]
pub(crate) struct Members {
    heard: HashMap<String, Member>,
    /// When its own sign of life came back last.
    heard_itself: Option<Instant>,
    /// Whether this predictor has listened for the others.
    pub(crate) is_listening_over: bool,
    /// Whether it is busy, as it told the others last.
    pub(crate) is_busy: bool,
}

#[derive(Debug)]
struct Member {
    at: Instant,
    is_busy: bool,
}

impl Members {
    /// Takes a sign of life. Returns whether it is the first.
    pub(crate) fn hear(&mut self, notice: PredictorNotice, now: Instant) -> bool {
        if notice.is_leaving {
            self.heard.remove(&notice.predictor);
            return false;
        }
        self.forget_the_gone(now);
        if self.heard.len() >= MAX_MEMBERS && !self.heard.contains_key(&notice.predictor) {
            return false;
        }
        self.heard.insert(notice.predictor, Member { at: now, is_busy: notice.is_busy }).is_none()
    }

    /// Its own sign of life came back: the others are heard too, from now on.
    pub(crate) fn hear_itself(&mut self, now: Instant) {
        if self.is_deaf(now) {
            self.heard.values_mut().for_each(|member| member.at = now);
        }
        self.heard_itself = Some(now);
    }

    fn is_deaf(&self, now: Instant) -> bool {
        self.heard_itself.is_none_or(|heard| now.saturating_duration_since(heard) > DEAF_AFTER)
    }

    /// The share of this predictor in the limit, in transactions a second. Those of all predictors that hear each other add up to it.
    pub(crate) fn share(&mut self, limit: NonZeroU32, now: Instant) -> f64 {
        self.forget_the_gone(now);
        let own = weight(self.is_busy);
        let all = own + self.heard.values().map(|member| weight(member.is_busy)).sum::<f64>();
        f64::from(limit.get()) * own / all
    }

    fn forget_the_gone(&mut self, now: Instant) {
        if self.is_deaf(now) {
            return;
        }
        self.heard.retain(|_, member| now.saturating_duration_since(member.at) < GONE_AFTER);
    }
}

fn weight(is_busy: bool) -> f64 {
    if is_busy { BUSY_WEIGHT } else { 1.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: NonZeroU32 = NonZeroU32::new(1_000).unwrap();

    fn notice(name: usize, is_busy: bool, is_leaving: bool) -> PredictorNotice {
        PredictorNotice { predictor: name.to_string(), endpoint: String::new(), is_busy, is_leaving }
    }

    fn rounded(share: f64) -> String {
        format!("{share:.0}")
    }

    #[test]
    fn the_shares_of_all_add_up_to_the_limit() {
        for busy in [&[true][..], &[false], &[true, true, true], &[true, false, false, true], &[false; 50]] {
            let now = Instant::now();
            let shares = busy.iter().enumerate().map(|(own, is_busy)| {
                let mut members = Members { is_busy: *is_busy, ..Members::default() };
                for (other, is_busy) in busy.iter().enumerate().filter(|(other, _)| *other != own) {
                    assert!(members.hear(notice(other, *is_busy, false), now));
                    assert!(!members.hear(notice(other, *is_busy, false), now));
                }
                members.share(LIMIT, now)
            });
            let sum: f64 = shares.sum();
            assert!((sum - 1_000.0).abs() < 1e-6, "{busy:?}: {sum}");
        }
    }

    #[test]
    fn the_share_of_one_that_leaves_or_dies_goes_to_the_others() {
        let (mut members, start) = (Members { is_busy: true, ..Members::default() }, Instant::now());
        let share = |members: &mut Members, at| {
            members.hear_itself(at);
            rounded(members.share(LIMIT, at))
        };
        for name in 0..3 {
            members.hear(notice(name, true, false), start);
        }
        assert_eq!(share(&mut members, start), "250");
        members.hear(notice(0, true, true), start);
        assert_eq!(share(&mut members, start), "333");
        let later = start + Duration::from_secs(3);
        for seconds in 1..3 {
            members.hear_itself(start + Duration::from_secs(seconds));
        }
        members.hear(notice(1, true, false), later);
        assert_eq!(share(&mut members, later), "333");
        assert_eq!(share(&mut members, later + Duration::from_secs(1)), "500");
        assert_eq!(share(&mut members, later + GONE_AFTER), "1000", "alone, it takes all");
    }

    #[test]
    fn a_broker_that_is_away_makes_no_share_grow() {
        let (mut members, start) = (Members { is_busy: true, ..Members::default() }, Instant::now());
        members.hear_itself(start);
        members.hear(notice(0, true, false), start);
        let hour = start + Duration::from_hours(1);
        assert_eq!(rounded(members.share(LIMIT, hour)), "500");
        // Then its own sign of life may be the first to come.
        members.hear_itself(hour);
        assert_eq!(rounded(members.share(LIMIT, hour)), "500");
        for seconds in 1..4 {
            members.hear_itself(hour + Duration::from_secs(seconds));
        }
        assert_eq!(rounded(members.share(LIMIT, hour + GONE_AFTER)), "1000", "the other did not come back");
    }

    #[test]
    fn the_number_of_members_is_bounded() {
        let (mut members, now) = (Members::default(), Instant::now());
        for name in 0..2 * MAX_MEMBERS {
            assert_eq!(members.hear(notice(name, true, false), now), name < MAX_MEMBERS);
        }
        assert_eq!(members.heard.len(), MAX_MEMBERS);
        members.hear_itself(now);
        members.hear_itself(now + GONE_AFTER / 2);
        members.hear_itself(now + GONE_AFTER);
        assert!(members.hear(notice(MAX_MEMBERS, true, false), now + GONE_AFTER), "those that are gone make room");
    }
}
