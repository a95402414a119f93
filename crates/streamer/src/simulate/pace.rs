//! The pace: the time and the size of the next message.

use std::time::Duration;

use rand::Rng as _;
use tokio::time::{Instant, sleep_until};

use crate::SimulateOptions;

pub(super) struct SendPace {
    schedule: Schedule,
    fewest: u16,
    most: u16,
}

enum Schedule {
    /// At this interval.
    Interval { time: Duration, due: Instant },
    /// This many per second, by a schedule that does not drift: a delayed simulation catches up.
    Rate { per_second: u32, began: Option<Instant>, sent: u64 },
}

impl SendPace {
    pub(super) fn new(options: &SimulateOptions) -> Self {
        match options.rate {
            Some(rate) => {
                Self { schedule: Schedule::Rate { per_second: rate.get(), began: None, sent: 0 }, fewest: 1, most: 1 }
            }
            None => Self {
                schedule: Schedule::Interval { time: options.produce_interval, due: Instant::now() },
                fewest: options.min_records_per_batch,
                most: options.max_records_per_batch,
            },
        }
    }

    pub(super) fn size(&self) -> usize {
        rand::rng().random_range(self.fewest..=self.most).into()
    }

    /// Waits until the next message is due.
    pub(super) async fn wait_turn(&mut self) {
        match &mut self.schedule {
            Schedule::Interval { time, due } => {
                sleep_until(*due).await;
                *due = Instant::now() + *time;
            }
            Schedule::Rate { per_second, began, sent } => {
                let began = *began.get_or_insert_with(Instant::now);
                let due = began + after(*sent, *per_second);
                *sent += 1;
                // The timer has steps of a millisecond; several messages may be due in one.
                if due > Instant::now() {
                    sleep_until(due).await;
                }
            }
        }
    }
}

/// Time from the start until this many are sent.
fn after(sent: u64, per_second: u32) -> Duration {
    let nanos = u128::from(sent) * 1_000_000_000 / u128::from(per_second);
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Program {
        #[command(flatten)]
        options: SimulateOptions,
    }

    fn pace(arguments: &[&str]) -> SendPace {
        SendPace::new(&Program::parse_from(["program"].iter().chain(arguments)).options)
    }

    #[test]
    fn a_schedule_does_not_drift() {
        for (sent, per_second, millis) in [(0, 3, 0), (3, 3, 1_000), (1_000_000, 500, 2_000_000)] {
            assert_eq!(after(sent, per_second), Duration::from_millis(millis));
        }
    }

    #[test]
    fn sizes_are_within_their_bounds() {
        let pace = pace(&["--min-records-per-batch", "2", "--max-records-per-batch", "4"]);
        let mut seen = [0; 6];
        (0..300).for_each(|_| seen[pace.size()] += 1);
        assert!(seen[..2] == [0, 0] && seen[2..5].iter().all(|count| *count > 0) && seen[5] == 0, "{seen:?}");
    }

    #[tokio::test]
    async fn messages_keep_the_pace() {
        for (arguments, turns, fastest) in
            [(&["--rate", "1000"][..], 51, 50), (&["--produce-interval", "20ms"][..], 4, 60)]
        {
            let (mut pace, began) = (pace(arguments), Instant::now());
            for _ in 0..turns {
                pace.wait_turn().await;
            }
            assert!(began.elapsed() >= Duration::from_millis(fastest), "{arguments:?}: {:?}", began.elapsed());
        }
    }
}
