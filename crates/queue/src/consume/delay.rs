//! The steps by which a message can be delayed. There are few and they are fixed, as RabbitMQ expires messages at the head
//! of a queue only: each step needs a queue of its own, in which all messages wait equally long.

use std::time::Duration;

/// How long a delayed message waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Delay {
    OneSecond,
    TenSeconds,
    OneMinute,
}

impl Delay {
    pub(crate) const ALL: [Self; 3] = [Self::OneSecond, Self::TenSeconds, Self::OneMinute];
    pub(crate) const LONGEST: Self = Self::OneMinute;

    /// The shortest step that is not shorter than `wanted`, else the longest.
    pub(crate) fn at_least(wanted: Duration) -> Self {
        Self::ALL.into_iter().find(|step| step.duration() >= wanted).unwrap_or(Self::LONGEST)
    }

    pub(crate) fn duration(self) -> Duration {
        Duration::from_secs(match self {
            Self::OneSecond => 1,
            Self::TenSeconds => 10,
            Self::OneMinute => 60,
        })
    }

    /// How the names of its queues end.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::OneSecond => "1s",
            Self::TenSeconds => "10s",
            Self::OneMinute => "60s",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_the_next_step_that_is_not_shorter() {
        let cases = [
            (0, Delay::OneSecond),
            (1_000, Delay::OneSecond),
            (1_001, Delay::TenSeconds),
            (10_000, Delay::TenSeconds),
            (10_001, Delay::OneMinute),
            (60_000, Delay::OneMinute),
            (3_600_000, Delay::OneMinute),
        ];
        for (millis, step) in cases {
            assert_eq!(Delay::at_least(Duration::from_millis(millis)), step, "{millis} ms");
        }
    }
}
