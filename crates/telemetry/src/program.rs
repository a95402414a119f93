//! How a program runs and ends: one runtime, one shutdown token, one exit code, and at most one line that says why.

use std::future::poll_fn;
use std::io::Write as _;
use std::process::ExitCode;
use std::task::Poll;

use assay_transaction::{Exit, escaped_json};
use serde::Serialize;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::arguments::warning;
use crate::failure::{PRINTED, is_json, print_failure};
use crate::logs::{end_panic_log, init_logs, look_again};
use crate::metrics_server::serve_metrics;
use crate::{Failure, Health, LogOptions, ProcessArgs, traces};

/// Exit code after a second signal: 128 + SIGINT.
const INTERRUPTED: i32 = 130;

/// Runs a program to its end, with logs, signals and an exit code; it serves health and metrics if an address is set.
pub fn run_program<E: Failure>(
    program: &'static str,
    process: &ProcessArgs,
    work: impl AsyncFnOnce(CancellationToken, Health) -> Result<Exit, E>,
) -> ExitCode {
    if let Err(message) = init_logs(&process.log) {
        let to_stderr = LogOptions { log_file: None, ..process.log.clone() };
        // Without a file, nothing can fail.
        let _ = init_logs(&to_stderr);
        return report(&message, Exit::Usage).into();
    }
    if let Some(warning) = warning() {
        tracing::warn!("{warning}");
    }
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            return report(&format!("cannot start the runtime: {error}"), Exit::DependencyUnavailable).into();
        }
    };
    let exit = runtime.block_on(async {
        let (shutdown, health) = (shutdown_signal(), Health::default());
        if process.log.log_file.is_some() {
            reopen_log_on_hangup();
        }
        if let Some(address) = process.metrics.metrics_addr
            && let Err(error) = serve_metrics(address, program, health.clone()).await
        {
            let message = format!("cannot serve health and metrics at {address} ({error}): check METRICS_ADDR");
            return report(&message, Exit::Usage);
        }
        let traces = match traces::start(&process.traces, program) {
            Ok(traces) => traces,
            Err(message) => return report(&message, Exit::Usage),
        };
        tokio::spawn({
            let (shutdown, health) = (shutdown.clone(), health.clone());
            async move {
                shutdown.cancelled().await;
                health.end();
            }
        });
        let exit = match work(shutdown, health).await {
            Ok(exit) => exit,
            Err(failure) => report(&failure.to_string(), failure.exit()),
        };
        traces.finish().await;
        exit
    });
    end_panic_log();
    // Without waiting for threads that are blocked by a name server or a disk.
    runtime.shutdown_background();
    exit.into()
}

/// Says why the program ends: in the log or, under `--json`, as an object.
fn report(message: &str, exit: Exit) -> Exit {
    if is_json() {
        tracing::error!(target: PRINTED, "{message}");
        print_failure(message, exit);
    } else {
        tracing::error!("{message}");
    }
    exit
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

/// Lets SIGHUP reopen the log file, as programs that rotate logs send it. Without a file it ends the process, as by default.
fn reopen_log_on_hangup() {
    let Ok(mut hangup) = signal(SignalKind::hangup()) else { return };
    tokio::spawn(async move {
        while hangup.recv().await.is_some() {
            look_again();
            tracing::info!("the log file is reopened if it was moved");
        }
    });
}

async fn next_signal(signals: &mut [Signal]) {
    poll_fn(|context| {
        let is_received = signals.iter_mut().any(|signal| signal.poll_recv(context).is_ready());
        if is_received { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
}
