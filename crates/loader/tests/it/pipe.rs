//! Loads from a pipe.

use std::io::{PipeReader, Write as _};
use std::os::fd::AsRawFd as _;
use std::sync::Arc;

use assay_loader::{LoadError, RepairOptions, repair};
use assay_transaction::{Exit, Namespace, RunState};
use tokio_util::sync::CancellationToken;

use crate::fixture::{LoaderFixture, LoaderProcess};

/// A process that loads the file of a fixture through a pipe, which stays open as long as the reader.
async fn piped(fixture: &LoaderFixture, arguments: &[&str]) -> (LoaderProcess, PipeReader) {
    let mut process = fixture.process(arguments, 4, true).await;
    let content = std::fs::read(fixture.file()).unwrap();
    let (reader, mut writer) = std::io::pipe().unwrap();
    std::thread::spawn(move || writer.write_all(&content));
    process.url = format!("/dev/fd/{}", reader.as_raw_fd()).parse().unwrap();
    (process, reader)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_load_resumes_when_the_same_content_is_piped_again() {
    let fixture = LoaderFixture::new(3_000);
    let arguments = ["--row-batch-size", "1"];
    let (process, _open) = piped(&fixture, &arguments).await;
    let error = process.stopped_after(700).await;
    assert!(matches!(error, LoadError::Stopped { .. }), "{error}");
    // Other content of a pipe replaces nothing.
    fixture.write("second");
    let (other, _open) = piped(&fixture, &["--id-namespace", "another"]).await;
    assert_eq!(other.load().await.unwrap().run.state, RunState::Complete);
    fixture.write("first");
    let (again, _open) = piped(&fixture, &arguments).await;
    let ended = again.load().await.unwrap();
    assert_eq!((ended.run.state, ended.already_loaded), (RunState::Complete, false));
    assert_eq!((ended.run.source.location.as_str(), ended.run.settings.namespace), ("pipe", Namespace::new("stdin")));
    assert!(ended.tally.unwrap().accounts_for(3_000), "{:?}", ended.tally);
    assert_eq!(again.dependencies.store.runs(None, 10).await.unwrap().len(), 2);

    let (once_more, _open) = piped(&fixture, &arguments).await;
    assert!(once_more.load().await.unwrap().already_loaded);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_piped_source_cannot_be_repaired() {
    let fixture = LoaderFixture::new(10);
    let (process, _open) = piped(&fixture, &[]).await;
    let run = process.load().await.unwrap().run;
    let options = RepairOptions { row_batch_size: process.options.load.row_batch_size, dry_run: true };
    let never = CancellationToken::new();
    let error = repair(&process.dependencies, &run, &options, &Arc::default(), &never).await.unwrap_err();
    assert!(error.to_string().contains("pipe cannot be read again"), "{error}");
    assert_eq!(assay_telemetry::Failure::exit(&error), Exit::SourceUnreadable);
}
