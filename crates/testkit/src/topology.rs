//! The names of what the programs declare in RabbitMQ, without the prefix, to be deleted after a test. Deleting what was never
//! declared is no error.

/// All exchanges.
pub const EXCHANGES: [&str; 10] = [
    "assay.chunks",
    "assay.transactions",
    "assay.scored",
    "assay.chunks.delay",
    "assay.transactions.delay",
    "assay.scored.delay",
    "assay.control",
    "assay.dead",
    "assay.events",
    "assay.predictions",
];

/// The queues of the stages.
pub const WORK_QUEUES: [&str; 4] =
    ["transactions.batch", "transactions.realtime", "predictions.batch", "predictions.realtime"];
/// The suffixes of a work queue and of its delay queues; those of chunks have names of their own.
pub const DELAYS: [&str; 7] =
    ["", ".delay.1s", ".delay.10s", ".delay.60s", ".delay.chunks.1s", ".delay.chunks.10s", ".delay.chunks.60s"];
