//! Who is compared, and what each of them does not do.

use clap::ValueEnum;

/// Versions of everything that the scripts use.
const REQUIREMENTS: &str = include_str!("../../peers/requirements.txt");
/// Those that a reader of the figures wants to know.
const NAMED: [&str; 6] = ["polars", "celery", "dramatiq", "pydantic", "psycopg", "pyreqwest"];

/// Somebody who does the job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Peer {
    /// A script of one process.
    Polars,
    /// Tasks of Celery over RabbitMQ.
    Celery,
    /// Messages of Dramatiq over RabbitMQ.
    Dramatiq,
    /// `writer`, predictors and `loader --wait` over RabbitMQ.
    AssayFleet,
    /// `assay run` into the same PostgreSQL.
    AssayRun,
}

impl Peer {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Polars => "Polars script",
            Self::Celery => "Celery",
            Self::Dramatiq => "Dramatiq",
            Self::AssayFleet => "Assay's fleet",
            Self::AssayRun => "`assay run`",
        }
    }

    pub(crate) fn lacks(self) -> &'static str {
        match self {
            Self::Polars => {
                "resume: killed, it reads and scores everything again, and by a slower path, as it meets stored ids; record which rows were \
                 invalid or failed (it counts them); isolate rows that the ML API refuses: 100 rows are lost with one; score live \
                 transactions; use a second machine; read other formats or headers"
            }
            Self::Celery | Self::Dramatiq => {
                "resume a producer: killed, it sends all tasks again; record which rows were invalid or failed (it counts them); isolate rows that \
                 the ML API refuses: the task is tried again, then given up with its 1,000 rows, and its producer waits for ever; wait out an \
                 outage of the ML API without using up attempts; bound its queue; read other formats or headers"
            }
            Self::AssayFleet => "run without RabbitMQ; run code of yours between the stages",
            Self::AssayRun => "use a second machine; run code of yours between the stages",
        }
    }

    /// Whether it is a program of `benches/peers`.
    pub(crate) fn is_script(self) -> bool {
        matches!(self, Self::Polars | Self::Celery | Self::Dramatiq)
    }
}

/// The versions of what the scripts are made of.
pub(crate) fn versions() -> String {
    let version = |name: &&str| {
        let pinned = REQUIREMENTS.lines().find_map(|line| line.strip_prefix(*name)?.strip_prefix("=="));
        format!("{name} {}", pinned.unwrap_or("unknown"))
    };
    NAMED.iter().map(version).collect::<Vec<_>>().join(", ")
}
