//! How a program runs and ends: one runtime, one shutdown token, one exit code, and at most one line that says why.

use std::fmt::Display;
use std::process::ExitCode;

use assay_transaction::Exit;
use tokio_util::sync::CancellationToken;

use crate::observe::observe;
use crate::{Health, LogOptions, MetricsOptions, init_logs, shutdown_signal};

/// Why a program ends early: one clear line, and an exit code that a scheduler can act on.
pub trait Failure: Display {
    /// The exit code.
    fn exit(&self) -> Exit;
}

/// Runs a program's work to its end, with logs, signals and an exit code.
pub fn run<E: Failure>(log: &LogOptions, work: impl AsyncFnOnce(CancellationToken) -> Result<Exit, E>) -> ExitCode {
    run_observed("", log, &MetricsOptions::default(), async |shutdown, _| work(shutdown).await)
}

/// As [`run`], for a `program` that shows its health and its metrics, where it is given an address for that.
pub fn run_observed<E: Failure>(
    program: &'static str,
    log: &LogOptions,
    metrics: &MetricsOptions,
    work: impl AsyncFnOnce(CancellationToken, Health) -> Result<Exit, E>,
) -> ExitCode {
    init_logs(log);
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            tracing::error!("cannot start the runtime: {error}");
            return Exit::DependencyAway.into();
        }
    };
    let exit = runtime.block_on(async {
        let (shutdown, health) = (shutdown_signal(), Health::default());
        if let Some(address) = metrics.metrics_addr
            && let Err(error) = observe(address, program, health.clone()).await
        {
            tracing::error!("cannot show health and metrics at {address} ({error}): check METRICS_ADDR");
            return Exit::Usage;
        }
        let ending = {
            let (shutdown, health) = (shutdown.clone(), health.clone());
            async move {
                shutdown.cancelled().await;
                health.end();
            }
        };
        tokio::spawn(ending);
        match work(shutdown, health).await {
            Ok(exit) => exit,
            Err(failure) => {
                tracing::error!("{failure}");
                failure.exit()
            }
        }
    });
    // Not to be held up by a thread that waits for a name server or a disk.
    runtime.shutdown_background();
    exit.into()
}
