//! What is done to a fleet, and how often it was.

use std::collections::BTreeMap;
use std::fmt;

use clap::ValueEnum;

/// A kind of fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub enum Kind {
    /// `kill -9` of the loader, whose run is not sealed; it is started again.
    KillLoader,
    /// `kill -9` of a predictor that waits for an answer of the ML API; it is started again.
    KillPredictor,
    /// `kill -9` of a writer in the middle of a transaction; it is started again.
    KillWriter,
    /// `kill -9` of RabbitMQ, which has unacknowledged chunks with a predictor; it is started again.
    KillBroker,
    /// An orderly stop of RabbitMQ in the same state, and a start.
    RestartBroker,
    /// An immediate shutdown of PostgreSQL in the middle of a writer's transaction, and a start.
    CrashDatabase,
    /// The same with `synchronous_commit = off` as the server's default: what it loses must not have been acknowledged.
    CrashAsyncCommit,
    /// All connections to RabbitMQ end, while a predictor holds unacknowledged chunks.
    CutBroker,
    /// All connections to PostgreSQL end, in the middle of a writer's transaction.
    CutDatabase,
    /// The pooler between the programs and PostgreSQL is killed in the middle of a writer's transaction, and started again.
    DropPooler,
    /// All connections to PostgreSQL end, and there are no new ones for a while: SQLSTATE 53300.
    NoConnections,
    /// Messages that client libraries cannot read come to a lane, to the dead letters, or to all who listen, while a predictor
    /// holds work.
    Poison,
    /// Predictors, or writers, stop in order until the queue before them is full.
    FullQueue,
    /// The ML API breaks off its connections and refuses new ones for a while.
    ApiRefuses,
    /// The ML API does not answer some requests, or none at all for a while, not even after its health.
    ApiStalls,
    /// The ML API answers 429 with `Retry-After: 1`.
    #[value(name = "api-429")]
    ApiTooMany,
    /// The ML API answers for half of the transactions.
    ApiHalfAnswers,
    /// The ML API answers with something that is no answer.
    ApiGarbage,
    /// The ML API answers for ids that it was not asked for, or twice for each.
    ApiWrongIds,
    /// The ML API answers with scores that are none.
    ApiBadScores,
    /// The ML API answers 500 wherever certain rows are among those asked for.
    #[value(name = "api-500-rows")]
    ApiBrokenRows,
    /// The ML API answers 422 wherever certain rows are among those asked for.
    #[value(name = "api-422-rows")]
    ApiRefusedRows,
    /// Some rows are nearly as long as a row may be, a part of them made of what JSON writes six-fold; no program may use more
    /// than 256 MB.
    WideRows,
}

impl Kind {
    /// Those that happen at a moment; the others are there for a whole round.
    pub(super) const MOMENTARY: [Self; 20] = [
        Self::KillLoader,
        Self::KillPredictor,
        Self::KillWriter,
        Self::KillBroker,
        Self::RestartBroker,
        Self::CrashDatabase,
        Self::CrashAsyncCommit,
        Self::CutBroker,
        Self::CutDatabase,
        Self::DropPooler,
        Self::NoConnections,
        Self::Poison,
        Self::FullQueue,
        Self::ApiRefuses,
        Self::ApiStalls,
        Self::ApiTooMany,
        Self::ApiHalfAnswers,
        Self::ApiGarbage,
        Self::ApiWrongIds,
        Self::ApiBadScores,
    ];

    /// Whether RabbitMQ starts again, which takes longer than all else.
    pub(super) fn restarts_broker(self) -> bool {
        matches!(self, Self::KillBroker | Self::RestartBroker)
    }

    /// Whether it takes a loader that is still at work.
    pub(super) fn needs_loader(self) -> bool {
        matches!(self, Self::KillLoader | Self::FullQueue)
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let value = self.to_possible_value().expect("no kind is hidden");
        formatter.pad(value.get_name())
    }
}

/// How often which kind occurred.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Counts(BTreeMap<Kind, u64>);

impl Counts {
    pub(super) fn add(&mut self, kind: Kind) {
        *self.0.entry(kind).or_default() += 1;
    }

    pub(super) fn add_all(&mut self, others: &Self) {
        for (kind, count) in &others.0 {
            *self.0.entry(*kind).or_default() += count;
        }
    }

    /// All kinds together.
    pub fn total(&self) -> u64 {
        self.0.values().sum()
    }

    /// Each kind that occurred.
    pub fn iter(&self) -> impl Iterator<Item = (Kind, u64)> + '_ {
        self.0.iter().map(|(kind, count)| (*kind, *count))
    }
}

/// `kill-writer, api-garbage 2`
impl fmt::Display for Counts {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, (kind, count)) in self.iter().enumerate() {
            let separator = if at == 0 { "" } else { ", " };
            write!(formatter, "{separator}{kind}")?;
            if count > 1 {
                write!(formatter, " {count}")?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_has_its_moment_or_a_whole_round() {
        let whole = [Kind::ApiBrokenRows, Kind::ApiRefusedRows, Kind::WideRows];
        let listed: Vec<Kind> = Kind::MOMENTARY.into_iter().chain(whole).collect();
        assert_eq!(listed, Kind::value_variants());
    }

    #[test]
    fn counts_are_shown_by_kind() {
        let mut counts = Counts::default();
        counts.add(Kind::ApiTooMany);
        counts.add(Kind::KillLoader);
        counts.add_all(&counts.clone());
        assert_eq!((counts.to_string().as_str(), counts.total()), ("kill-loader 2, api-429 2", 4));
    }
}
