//! Logs: to stderr, as text that users of the earlier Python job can go on grepping, or as JSON for machines.

use std::fmt;
use std::io::IsTerminal as _;

use clap::{Args, ValueEnum};
use tracing::{Event, Subscriber};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum LogFormat {
    /// `2026-01-11 10:00:00 - INFO - Starting batch pipeline`
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// What is logged, and how.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Logs")]
pub struct LogOptions {
    /// How log lines look, on stderr
    #[arg(long, env = "LOG_FORMAT", value_enum, default_value_t, value_name = "FORMAT")]
    pub log_format: LogFormat,
    /// What is logged: error, warn, info, debug or trace; also by module, such as `warn,assay_queue=debug`. Libraries are heard
    /// from warn on, unless they are named
    #[arg(long, env = "LOG_LEVEL", default_value = "info", value_name = "LEVEL", value_parser = parse_level)]
    pub log_level: String,
}

fn parse_level(text: &str) -> Result<String, String> {
    let parsed = EnvFilter::builder().parse(text);
    parsed.map(|_| text.to_owned()).map_err(|_| "allowed are error, warn, info, debug, trace".to_owned())
}

/// Starts logging to stderr, once in a process; a second call changes nothing.
pub fn init_logs(options: &LogOptions) {
    init_logs_to(options, std::io::stderr().is_terminal(), std::io::stderr);
}

/// Starts logging to `writer`, in colours or without, once in a process: for a program that draws on its terminal too.
pub fn init_logs_to<W: std::io::Write + 'static>(
    options: &LogOptions,
    colours: bool,
    writer: impl Fn() -> W + Send + Sync + 'static,
) {
    let filter = EnvFilter::new(directives(&options.log_level));
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(writer);
    // Only a second call can fail.
    let _ = match options.log_format {
        LogFormat::Text => builder.with_ansi(colours).event_format(Text).try_init(),
        LogFormat::Json => builder.json().flatten_event(true).with_current_span(false).with_span_list(false).try_init(),
    };
}

/// Libraries that log errors that they also return.
const QUIET: &str = "lapin=off,sqlx=error,aws_config=error,aws_smithy_runtime=error";
/// Libraries that write what they send, passwords, access keys and transactions with it, where they are asked for more than
/// `info`.
const TALKATIVE: [&str; 3] = ["lapin", "amq_protocol", "aws_"];
/// What the modules of our own begin with.
const OWN: [&str; 7] = ["assay", "loader", "predictor", "writer", "streamer", "ml_api", "train"];

/// The level that people ask for, as directives: a level without a module is one for Assay itself. Libraries are heard from
/// `warn` on, unless they are named: at `debug` and `trace` they write what nobody means who asks for Assay's own.
fn directives(level: &str) -> String {
    let mut directives = vec!["warn".to_owned(), QUIET.to_owned()];
    for asked in level.split(',').map(str::trim).filter(|asked| !asked.is_empty()) {
        match asked.parse::<LevelFilter>() {
            // So are libraries where less is asked for than they are heard from.
            Ok(all) if all <= LevelFilter::WARN => directives.push(asked.to_owned()),
            Ok(_) => directives.extend(OWN.map(|module| format!("{module}={asked}"))),
            Err(_) if TALKATIVE.iter().any(|module| asked.starts_with(module)) => directives.push(tamed(asked)),
            Err(_) => directives.push(asked.to_owned()),
        }
    }
    directives.join(",")
}

/// A directive for a module, with no more than `info`.
fn tamed(directive: &str) -> String {
    match directive.rsplit_once('=') {
        Some((module, level)) if level.parse::<LevelFilter>().is_ok_and(|level| level <= LevelFilter::INFO) => {
            format!("{module}={level}")
        }
        Some((module, _)) => format!("{module}=info"),
        None => format!("{directive}=info"),
    }
}

/// The text form.
struct Text;

impl<S, N> FormatEvent<S, N> for Text
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, context: &FmtContext<'_, S, N>, mut writer: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let now = chrono::Local::now().format("%Y-%m-%d %H:%M:%S");
        write!(writer, "{now} - {} - ", event.metadata().level())?;
        context.format_fields(writer.by_ref(), event)?;
        writeln!(writer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::sync::{Arc, Mutex};

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn text_reads_as_the_earlier_job_wrote_it() {
        let lines = Lines::default();
        let writer = lines.clone();
        let subscriber =
            tracing_subscriber::fmt().with_ansi(false).with_writer(move || writer.clone()).event_format(Text).finish();
        tracing::subscriber::with_default(subscriber, || {
            tracing::info!("Starting batch pipeline");
            tracing::warn!(retry = 3, "the broker is away");
        });
        let text = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
        let tails: Vec<&str> = text.lines().map(|line| &line["2026-01-11 10:00:00".len()..]).collect();
        assert_eq!(tails, [" - INFO - Starting batch pipeline", " - WARN - the broker is away retry=3"]);
    }

    #[test]
    fn a_level_is_one_for_assay_itself() {
        let says = |level: &str, words: &str| directives(level).split(',').any(|directive| directive == words);
        assert!(says("trace", "assay=trace") && says("trace", "writer=trace") && says("trace", "warn"));
        assert!(!says("trace", "trace") && says("trace", "lapin=off"));
        assert!(says("error", "error"));
        assert!(says("info,hyper=trace", "hyper=trace"));
        assert!(says("debug,lapin=trace", "lapin=info") && says("lapin=warn", "lapin=warn"));
        assert!(
            says("amq_protocol_tcp", "amq_protocol_tcp=info") && says("lapin::channel=debug", "lapin::channel=info")
        );
    }

    #[test]
    fn a_level_must_be_one() {
        assert!(parse_level("warn,assay_queue=debug").is_ok());
        assert!(parse_level("assay_queue=loud").is_err());
    }
}
