//! Routes: which of the four work queues a message goes through.

use std::fmt;

use assay_transaction::Lane;

/// The two kinds of work queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum QueueKind {
    /// Chunks of transactions, from the loader to the predictors.
    Transactions,
    /// Scored chunks, from the predictors to the writer.
    Scored,
}

/// One work queue: a kind and a lane. Its `Display` is the queue's name without the prefix, such as `transactions.batch`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Route {
    /// What the queue holds.
    pub kind: QueueKind,
    /// The lane, which is the routing key.
    pub lane: Lane,
}

impl Route {
    /// All work queues.
    pub const ALL: [Self; 4] = [
        Self { kind: QueueKind::Transactions, lane: Lane::Batch },
        Self { kind: QueueKind::Transactions, lane: Lane::Realtime },
        Self { kind: QueueKind::Scored, lane: Lane::Batch },
        Self { kind: QueueKind::Scored, lane: Lane::Realtime },
    ];

    /// The index of the route in [`Route::ALL`].
    pub(crate) fn index(self) -> usize {
        let work = match self.kind {
            QueueKind::Transactions => 0,
            QueueKind::Scored => 2,
        };
        let lane = match self.lane {
            Lane::Batch => 0,
            Lane::Realtime => 1,
        };
        work + lane
    }
}

impl fmt::Display for Route {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let queue = match self.kind {
            QueueKind::Transactions => "transactions",
            QueueKind::Scored => "predictions",
        };
        write!(formatter, "{queue}.{}", self.lane.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_route_has_its_own_index_and_name() {
        let names = ["transactions.batch", "transactions.realtime", "predictions.batch", "predictions.realtime"];
        for (index, (route, name)) in Route::ALL.into_iter().zip(names).enumerate() {
            assert_eq!(route.index(), index);
            assert_eq!(route.to_string(), name);
        }
    }
}
