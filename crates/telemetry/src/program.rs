//! How a program runs and ends: one runtime, one shutdown token, one exit code, and at most one line that says why.

use std::fmt::Display;
use std::process::ExitCode;

use assay_transaction::Exit;
use tokio_util::sync::CancellationToken;

use crate::{LogOptions, init_logs, shutdown_signal};

/// Why a program ends early: one clear line, and an exit code that a scheduler can act on.
pub trait Failure: Display {
    /// The exit code.
    fn exit(&self) -> Exit;
}

/// Runs a program's work to its end, with logs, signals and an exit code.
pub fn run<E: Failure>(log: &LogOptions, work: impl AsyncFnOnce(CancellationToken) -> Result<Exit, E>) -> ExitCode {
    init_logs(log);
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            tracing::error!("cannot start the runtime: {error}");
            return Exit::DependencyAway.into();
        }
    };
    let ended = runtime.block_on(async { work(shutdown_signal()).await });
    // Not to be held up by a thread that waits for a name server or a disk.
    runtime.shutdown_background();
    match ended {
        Ok(exit) => exit.into(),
        Err(failure) => {
            tracing::error!("{failure}");
            failure.exit().into()
        }
    }
}
