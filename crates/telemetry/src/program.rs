//! How a program runs and ends: one runtime, one shutdown token, one exit code, and at most one line that says why.

use std::fmt::Display;
use std::future::poll_fn;
use std::io::Write as _;
use std::process::ExitCode;
use std::task::Poll;

use assay_transaction::{Exit, escaped_json};
use serde::Serialize;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::logs::{end_panic_log, init_logs};
use crate::metrics_server::serve_metrics;
use crate::{Health, LogOptions, MetricsOptions, ProcessArgs};

/// Exit code after a second signal: 128 + SIGINT.
const INTERRUPTED: i32 = 130;

/// Why a program ends early: one clear line, and an exit code that a scheduler can act on.
pub trait Failure: Display {
    /// The exit code.
    fn exit(&self) -> Exit;
}

/// Runs a command to its end, with logs, signals and an exit code.
pub fn run_command<E: Failure>(
    log: &LogOptions,
    work: impl AsyncFnOnce(CancellationToken) -> Result<Exit, E>,
) -> ExitCode {
    let process = ProcessArgs { metrics: MetricsOptions::default(), log: log.clone() };
    run_program("", &process, async |shutdown, _| work(shutdown).await)
}

/// As [`run_command`], and serves health and metrics of the `program` if an address is set.
pub fn run_program<E: Failure>(
    program: &'static str,
    process: &ProcessArgs,
    work: impl AsyncFnOnce(CancellationToken, Health) -> Result<Exit, E>,
) -> ExitCode {
    init_logs(&process.log);
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            tracing::error!("cannot start the runtime: {error}");
            return Exit::DependencyUnavailable.into();
        }
    };
    let exit = runtime.block_on(async {
        let (shutdown, health) = (shutdown_signal(), Health::default());
        if let Some(address) = process.metrics.metrics_addr
            && let Err(error) = serve_metrics(address, program, health.clone()).await
        {
            tracing::error!("cannot serve health and metrics at {address} ({error}): check METRICS_ADDR");
            return Exit::Usage;
        }
        tokio::spawn({
            let (shutdown, health) = (shutdown.clone(), health.clone());
            async move {
                shutdown.cancelled().await;
                health.end();
            }
        });
        match work(shutdown, health).await {
            Ok(exit) => exit,
            Err(failure) => {
                tracing::error!("{failure}");
                failure.exit()
            }
        }
    });
    end_panic_log();
    // Without waiting for threads that are blocked by a name server or a disk.
    runtime.shutdown_background();
    exit.into()
}

/// Prints a result to stdout as indented JSON.
///
/// # Errors
///
/// As stdout fails. `BrokenPipe` means that the reader has read enough.
pub fn print_json(result: &(impl Serialize + ?Sized)) -> std::io::Result<()> {
    let json = serde_json::to_string_pretty(result)?;
    writeln!(std::io::stdout().lock(), "{}", escaped_json(&json))
}

/// A token that the first SIGTERM or Ctrl-C cancels: its holders stop taking work, drain and return. The second signal ends
/// the process at once; what it held is delivered again, or read again from the last checkpoint.
fn shutdown_signal() -> CancellationToken {
    let token = CancellationToken::new();
    let shutdown = token.clone();
    // Before the task is spawned, so that no signal is missed. One that cannot be listened for ends the process, as by default.
    let kinds = [SignalKind::terminate(), SignalKind::interrupt()];
    let mut signals: Vec<_> = kinds.into_iter().filter_map(|kind| signal(kind).ok()).collect();
    tokio::spawn(async move {
        next_signal(&mut signals).await;
        tracing::info!("shutting down; a second signal ends at once");
        shutdown.cancel();
        next_signal(&mut signals).await;
        std::process::exit(INTERRUPTED);
    });
    token
}

async fn next_signal(signals: &mut [Signal]) {
    poll_fn(|context| {
        let is_received = signals.iter_mut().any(|signal| signal.poll_recv(context).is_ready());
        if is_received { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
}
