//! Logs: to stderr, as text that users of the earlier Python job can go on grepping, or as JSON for machines.
//!
//! Guarantee: an event is one line, whatever names and messages of servers it holds. What would break it, or turn the direction of
//! what is around it, is escaped here, once for all.

use std::any::Any;
use std::fmt;

use assay_transaction::{escaped, is_unseen};
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
    init_logs_to(options, std::io::stderr);
}

/// Starts logging to `writer`, once in a process: for a program that draws on its terminal too. Panics are logged like any other
/// error.
pub fn init_logs_to<W: std::io::Write + 'static>(options: &LogOptions, writer: impl Fn() -> W + Send + Sync + 'static) {
    let filter = EnvFilter::new(directives(&options.log_level));
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(writer).with_ansi(false);
    log_panics();
    // Only a second call can fail.
    let _ = match options.log_format {
        LogFormat::Text => builder.event_format(Text).try_init(),
        LogFormat::Json => {
            let builder = builder.json().flatten_event(true).with_current_span(false).with_span_list(false);
            builder.map_event_format(Json).try_init()
        }
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
        let mut fields = String::new();
        context.format_fields(Writer::new(&mut fields), event)?;
        writeln!(writer, "{}", escaped(&fields))
    }
}

/// JSON in which escapes stand for all that nobody sees: JSON itself asks for that of control characters below 32 alone.
struct Json<F>(F);

impl<S, N, F> FormatEvent<S, N> for Json<F>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
    F: FormatEvent<S, N>,
{
    fn format_event(&self, context: &FmtContext<'_, S, N>, mut writer: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let mut line = String::new();
        self.0.format_event(context, Writer::new(&mut line), event)?;
        // Outside of strings, JSON has no such character but its line end.
        for character in line.trim_end().chars() {
            if is_unseen(character) {
                for unit in character.encode_utf16(&mut [0; 2]) {
                    write!(writer, "\\u{unit:04x}")?;
                }
            } else {
                writer.write_char(character)?;
            }
        }
        writeln!(writer)
    }
}

/// Has panics logged as one line, without what may be content of rows.
fn log_panics() {
    std::panic::set_hook(Box::new(|panic| {
        let place = panic.location().map(ToString::to_string).unwrap_or_default();
        tracing::error!("a fault in this program at {place}: {}", said_by(panic.payload()));
    }));
}

/// How messages begin that hold nothing but numbers.
const OF_NUMBERS: [&str; 4] =
    ["index out of bounds: ", "range start index ", "range end index ", "slice index starts at "];

/// What a panic says, where it can hold no value: words of the source code, or numbers.
fn said_by(payload: &(dyn Any + Send)) -> &str {
    let words = payload.downcast_ref::<&'static str>().copied();
    let said = payload.downcast_ref::<String>().map(String::as_str);
    let said = said.filter(|said| OF_NUMBERS.iter().any(|start| said.starts_with(start)));
    words.or(said).unwrap_or("its message is left out, as it may hold content of rows")
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

    /// The lines of an event whose message and field hold this.
    fn lines_of(text: &str, format: LogFormat) -> String {
        let lines = Lines::default();
        let writer = lines.clone();
        let builder = tracing_subscriber::fmt().with_ansi(false).with_writer(move || writer.clone());
        let log = || tracing::warn!(name = text, "{text} is not loaded");
        match format {
            LogFormat::Text => tracing::subscriber::with_default(builder.event_format(Text).finish(), log),
            LogFormat::Json => {
                let builder = builder.json().flatten_event(true).map_event_format(Json);
                tracing::subscriber::with_default(builder.finish(), log);
            }
        }
        String::from_utf8(lines.0.lock().unwrap().clone()).unwrap()
    }

    #[test]
    fn a_name_neither_breaks_a_line_nor_turns_it() {
        for text in
            ["a\nERROR b", "a\r\nb", "\u{1b}[31mred", "\u{9b}31m", "a\u{85}b\u{2028}c", "\u{202e}txt.exe", "\u{e0041}"]
        {
            for format in [LogFormat::Text, LogFormat::Json] {
                let lines = lines_of(text, format);
                let line = lines.strip_suffix('\n').unwrap();
                assert!(!line.chars().any(is_unseen), "{line:?}");
            }
            let json: serde_json::Value = serde_json::from_str(&lines_of(text, LogFormat::Json)).unwrap();
            assert_eq!(json["name"], text);
        }
        assert!(lines_of("a\nb", LogFormat::Text).contains("WARN - a\\nb is not loaded name="));
        assert!(lines_of("Café 李明", LogFormat::Text).contains("Café 李明 is not loaded"));
    }

    #[test]
    fn a_panic_tells_numbers_and_words_of_ours() {
        let said = |panicking: fn()| {
            let payload = std::panic::catch_unwind(panicking).unwrap_err();
            said_by(&*payload).to_owned()
        };
        assert_eq!(said(|| panic!("no such stage")), "no such stage");
        let index = std::hint::black_box(3);
        let payload = std::panic::catch_unwind(|| [0, 1][index]).unwrap_err();
        assert_eq!(said_by(&*payload), "index out of bounds: the len is 2 but the index is 3");
        for panicking in [
            || panic!("row {}", std::hint::black_box("4111111111111111")),
            || drop("Jéan"[..2].to_owned()),
            || drop("Jean".parse::<u8>().map(|_| String::new()).expect("4111111111111111")),
        ] {
            assert_eq!(said(panicking), "its message is left out, as it may hold content of rows");
        }
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
