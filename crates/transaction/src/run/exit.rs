//! How every program of Assay ends: the exit codes that a scheduler can act on.

/// What a program's exit code says. The numbers are part of the contract with cron, Airflow and the like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// Everything asked for is done, or had been done before.
    Done = 0,
    /// The work ended, but rows failed, or the law does not hold.
    FailedRows = 1,
    /// The command line or the configuration is wrong; trying again changes nothing.
    Usage = 2,
    /// A dependency (broker, database, ML API) is away; try again later.
    DependencyAway = 3,
    /// The source cannot be read: it is missing, forbidden, or not what it should be.
    SourceUnreadable = 4,
}

impl From<Exit> for std::process::ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}
