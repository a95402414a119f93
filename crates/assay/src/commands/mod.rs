//! The commands of `assay`, one file or folder each, grouped by what they do.

pub(crate) mod ledger;

/// Commands that bring rows in.
pub(crate) mod load {
    pub(crate) mod generate;
    pub(crate) mod inspect;
    pub(crate) mod put;
    pub(crate) mod run;
}

/// Commands that show what became of runs and rows. They only read.
pub(crate) mod query {
    pub(crate) mod audit;
    pub(crate) mod failures;
    pub(crate) mod invalid;
    pub(crate) mod operations;
    pub(crate) mod report;
    pub(crate) mod row;
    pub(crate) mod runs;
    pub(crate) mod status;
    pub(crate) mod transaction;
}

/// Commands that change runs, and record who did so.
pub(crate) mod change {
    pub(crate) mod cancel;
    pub(crate) mod erase;
    pub(crate) mod purge;
    pub(crate) mod remove;
    pub(crate) mod repair;
    pub(crate) mod replay;
    mod stages;
    mod steps;
}

/// Commands that prepare an installation, and check it.
pub(crate) mod setup {
    pub(crate) mod completions;
    pub(crate) mod config;
    pub(crate) mod console;
    pub(crate) mod declare;
    pub(crate) mod doctor;
    pub(crate) mod health;
    pub(crate) mod man;
    pub(crate) mod migrate;
    pub(crate) mod watch_setup;
}
