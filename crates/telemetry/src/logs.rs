//! Logs to stderr and to a file: as text that scripts for the earlier Python job can grep, or as JSON for machines.
//!
//! [`sink`] writes each line to both, and [`file`] keeps the file: it renames a full one, and outlives a full disk.
//!
//! Guarantees for every event, whatever names and messages it holds:
//! - It is one line. Line breaks, control characters and changes of the text direction are escaped here.
//! - It shows no card number and no IBAN, as names of files and messages may contain some.

mod file;
mod options;
mod sink;

use std::any::Any;
use std::borrow::Cow;
use std::fmt;

use assay_trace::TARGET;
use assay_transaction::{RunId, escaped, escaped_json, mask_card_numbers};
use tracing::level_filters::LevelFilter;
use tracing::{Event, Span, Subscriber};
use tracing_subscriber::fmt::format::{self, Format, JsonFields, Writer};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields, FormattedFields};
use tracing_subscriber::registry::{LookupSpan, Scope};
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Layer as _};

pub(crate) use self::file::look_again;
pub use self::options::{LogFormat, LogOptions};
use self::sink::LogSink;
use crate::traces::subscriber;

/// Starts logging to stderr and to the file that is set. Only the first call in a process has an effect.
///
/// # Errors
///
/// The file cannot be opened; nothing is logged then.
pub(crate) fn init_logs(options: &LogOptions) -> Result<(), String> {
    init_logs_to(options, LevelFilter::TRACE, std::io::stderr)
}

/// Starts logging to `console` in place of stderr, for a program that also draws on its terminal: lines down to a level there, and
/// all lines in the file that is set. Only the first call in a process has an effect. Panics are logged as errors.
///
/// # Errors
///
/// The file cannot be opened; nothing is logged then.
pub fn init_logs_to<W: std::io::Write + 'static>(
    options: &LogOptions,
    least: LevelFilter,
    console: impl Fn() -> W + Send + Sync + 'static,
) -> Result<(), String> {
    let sink = LogSink::new(options, least, console)?;
    let filter = EnvFilter::new(directives(&options.log_level));
    let layer = tracing_subscriber::fmt::layer().with_writer(sink).with_ansi(false);
    log_panics();
    // Only a second call can fail.
    let _ = match options.log_format {
        LogFormat::Text => subscriber(layer.event_format(TextFormat).with_filter(filter)).try_init(),
        LogFormat::Json => {
            let layer = layer.fmt_fields(JsonFields::new()).event_format(JsonFormat::default());
            subscriber(layer.with_filter(filter)).try_init()
        }
    };
    Ok(())
}

/// Libraries that log errors that they also return.
const QUIET: &str = "lapin=off,sqlx=error,aws_config=error,aws_smithy_runtime=error";
/// Libraries that log passwords, access keys and transactions below `info`.
const LEAKY: [&str; 3] = ["lapin", "amq_protocol", "aws_"];
/// Prefixes of our own modules.
const OWN_MODULES: [&str; 7] = ["assay", "loader", "predictor", "writer", "streamer", "ml_api", "train"];

/// The filter directives of a level. A level without a module applies to Assay alone: libraries log from `warn`, unless they
/// are named.
fn directives(level: &str) -> String {
    let mut directives = vec!["warn".to_owned(), QUIET.to_owned()];
    for asked in level.split(',').map(str::trim).filter(|asked| !asked.is_empty()) {
        match asked.parse::<LevelFilter>() {
            // Also for libraries, which would log more than that.
            Ok(all) if all <= LevelFilter::WARN => directives.push(asked.to_owned()),
            Ok(_) => directives.extend(OWN_MODULES.map(|module| format!("{module}={asked}"))),
            Err(_) if LEAKY.iter().any(|module| asked.starts_with(module)) => directives.push(at_most_info(asked)),
            Err(_) => directives.push(asked.to_owned()),
        }
    }
    directives.join(",")
}

/// A directive with a level of `info` at most.
fn at_most_info(directive: &str) -> String {
    match directive.rsplit_once('=') {
        Some((module, level)) if level.parse::<LevelFilter>().is_ok_and(|level| level <= LevelFilter::INFO) => {
            format!("{module}={level}")
        }
        Some((module, _)) => format!("{module}=info"),
        None => format!("{directive}=info"),
    }
}

/// `2026-01-11 10:00:00Z - INFO - Starting batch pipeline`.
struct TextFormat;

impl<S, N> FormatEvent<S, N> for TextFormat
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, context: &FmtContext<'_, S, N>, mut writer: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        // UTC, as in names of runs, results and JSON.
        let now = chrono::Utc::now().format("%Y-%m-%d %H:%M:%SZ");
        write!(writer, "{now} - {} - ", event.metadata().level())?;
        let mut fields = String::new();
        context.format_fields(Writer::new(&mut fields), event)?;
        write!(writer, "{}", escaped(&mask_card_numbers(&fields)))?;
        if let Some(LoggedRun { fields, is_one_of_several: true }) = run_of(context) {
            write!(writer, " {fields}")?;
        }
        writeln!(writer)
    }
}

/// The JSON of `tracing`, with [`SPAN_FIELDS`]. All unseen characters are escaped, not only those below 32 as JSON demands.
struct JsonFormat(Format<format::Json>);

impl Default for JsonFormat {
    fn default() -> Self {
        Self(Format::default().json().flatten_event(true).with_current_span(false).with_span_list(false))
    }
}

impl<S, N> FormatEvent<S, N> for JsonFormat
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, context: &FmtContext<'_, S, N>, mut writer: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let mut line = String::new();
        self.0.format_event(context, Writer::new(&mut line), event)?;
        line = with_masked_strings(&line);
        for (name, value) in span_fields(context).into_iter().chain(trace_fields()) {
            if let Some(event) = line.trim_end().strip_suffix('}').filter(|_| !line.contains(&format!("\"{name}\":"))) {
                line = format!("{event},\"{name}\":{value}}}");
            }
        }
        // Outside of strings, only the line end is unseen.
        writeln!(writer, "{}", escaped_json(line.trim_end()))
    }
}

/// Masks the strings of a line of JSON. Numbers are our own, and stay.
fn with_masked_strings(line: &str) -> String {
    let (mut masked, mut rest) = (String::with_capacity(line.len()), line);
    while let Some(start) = rest.find('"') {
        let mut strings = serde_json::Deserializer::from_str(&rest[start..]).into_iter::<String>();
        let Some(Ok(text)) = strings.next() else { break };
        let end = start + strings.byte_offset();
        match mask_card_numbers(&text) {
            Cow::Borrowed(_) => masked.push_str(&rest[..end]),
            Cow::Owned(text) => {
                masked.push_str(&rest[..start]);
                masked.push_str(&serde_json::Value::from(text).to_string());
            }
        }
        rest = &rest[end..];
    }
    masked.push_str(rest);
    masked
}

/// The work on one run. JSON log lines in it have the `run_id`; text lines have it if several runs are worked on at a time
/// ([`several_runs_span`]). The name is recorded once it is known ([`record_run_id`]).
pub fn run_span() -> Span {
    // `error` is enabled at every level.
    tracing::error_span!("run", run_id = tracing::field::Empty)
}

/// Logs in the span of one run, for a program that works on many.
pub fn in_run_span<T>(run_id: &RunId, log: impl FnOnce() -> T) -> T {
    run_span().in_scope(|| {
        record_run_id(run_id);
        log()
    })
}

/// The work on one of several runs at a time.
pub fn several_runs_span() -> Span {
    tracing::error_span!("several_runs_span")
}

/// Records the run of the current [`run_span`], and of the trace that it is in.
pub fn record_run_id(run_id: &RunId) {
    Span::current().record("run_id", tracing::field::display(run_id));
    tracing::event!(target: TARGET, tracing::Level::TRACE, { assay.run_id = %run_id });
}

/// The run of a log line.
struct LoggedRun {
    /// Its name, as the format shows fields.
    fields: String,
    is_one_of_several: bool,
}

/// Fields of spans that JSON lines have, so that the lines of one run, chunk or lane can be found.
const SPAN_FIELDS: [&str; 3] = ["run_id", "chunk", "lane"];

/// The [`SPAN_FIELDS`] of the spans around an event, as JSON. An inner span overrides an outer one.
fn span_fields<S, N>(context: &FmtContext<'_, S, N>) -> Vec<(&'static str, serde_json::Value)>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    let mut merged = serde_json::Map::new();
    for span in context.event_scope().into_iter().flat_map(Scope::from_root) {
        let extensions = span.extensions();
        let fields = extensions.get::<FormattedFields<N>>().map(|fields| serde_json::from_str(&fields.fields));
        if let Some(Ok(serde_json::Value::Object(fields))) = fields {
            merged.extend(fields);
        }
    }
    SPAN_FIELDS.into_iter().filter_map(|name| Some((name, merged.remove(name)?))).collect()
}

/// Where the line is in a trace that is recorded, so that logs and traces meet.
fn trace_fields() -> impl Iterator<Item = (&'static str, serde_json::Value)> {
    let recorded = assay_trace::current().filter(|context| context.is_sampled);
    recorded.into_iter().flat_map(|context| {
        [
            ("trace_id", format!("{:032x}", context.trace_id).into()),
            ("span_id", format!("{:016x}", context.span_id).into()),
        ]
    })
}

fn run_of<S, N>(context: &FmtContext<'_, S, N>) -> Option<LoggedRun>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    let (mut fields, mut is_one_of_several) = (None, false);
    for span in context.event_scope()? {
        match span.name() {
            "run" => fields = span.extensions().get::<FormattedFields<N>>().map(|fields| fields.fields.clone()),
            "several_runs_span" => is_one_of_several = true,
            _ => {}
        }
    }
    let fields = fields.filter(|fields| fields.contains("run_id"))?;
    Some(LoggedRun { fields, is_one_of_several })
}

/// Logs panics as one line, without messages that may hold content of rows.
fn log_panics() {
    std::panic::set_hook(Box::new(|panic| {
        let location = panic.location().map(ToString::to_string).unwrap_or_default();
        tracing::error!("a fault in this program at {location}: {}", panic_message(panic.payload()));
    }));
}

/// Logs no further panics, once the work is done: what libraries left running is cut off with the runtime, and the client of
/// RabbitMQ panics over that now and then.
pub(crate) fn end_panic_log() {
    std::panic::set_hook(Box::new(|_| {}));
}

/// Starts of messages that hold nothing but numbers.
const NUMERIC_MESSAGES: [&str; 4] =
    ["index out of bounds: ", "range start index ", "range end index ", "slice index starts at "];

/// The message of a panic, if it is a literal of the source code or holds only numbers.
fn panic_message(payload: &(dyn Any + Send)) -> &str {
    let words = payload.downcast_ref::<&'static str>().copied();
    let said = payload.downcast_ref::<String>().map(String::as_str);
    let said = said.filter(|said| NUMERIC_MESSAGES.iter().any(|start| said.starts_with(start)));
    words.or(said).unwrap_or("its message is left out, as it may hold content of rows")
}

#[cfg(test)]
mod tests {
    use assay_transaction::is_unprintable;

    use super::*;
    use std::io::Write;
    use std::sync::{Arc, Mutex};

    #[derive(Clone, Default)]
    struct CapturedLines(Arc<Mutex<Vec<u8>>>);

    impl Write for CapturedLines {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    /// The lines that are logged in a format.
    fn captured(format: LogFormat, log: impl FnOnce()) -> String {
        let lines = CapturedLines::default();
        let writer = lines.clone();
        let builder = tracing_subscriber::fmt().with_ansi(false).with_writer(move || writer.clone());
        match format {
            LogFormat::Text => tracing::subscriber::with_default(builder.event_format(TextFormat).finish(), log),
            LogFormat::Json => {
                let builder = builder.fmt_fields(JsonFields::new()).event_format(JsonFormat::default());
                tracing::subscriber::with_default(builder.finish(), log);
            }
        }
        String::from_utf8(lines.0.lock().unwrap().clone()).unwrap()
    }

    #[test]
    fn text_reads_as_the_earlier_job_wrote_it() {
        let text = captured(LogFormat::Text, || {
            tracing::info!("Starting batch pipeline");
            tracing::warn!(retry = 3, "the broker is unreachable");
        });
        let tails: Vec<&str> = text.lines().map(|line| &line["2026-01-11 10:00:00Z".len()..]).collect();
        assert_eq!(tails, [" - INFO - Starting batch pipeline", " - WARN - the broker is unreachable retry=3"]);
    }

    /// The lines of an event whose message and field hold this.
    fn lines_of(text: &str, format: LogFormat) -> String {
        captured(format, || tracing::warn!(name = text, "{text} is not loaded"))
    }

    #[test]
    fn a_name_neither_breaks_a_line_nor_turns_it() {
        for text in
            ["a\nERROR b", "a\r\nb", "\u{1b}[31mred", "\u{9b}31m", "a\u{85}b\u{2028}c", "\u{202e}txt.exe", "\u{e0041}"]
        {
            for format in [LogFormat::Text, LogFormat::Json] {
                let lines = lines_of(text, format);
                let line = lines.strip_suffix('\n').unwrap();
                assert!(!line.chars().any(is_unprintable), "{line:?}");
            }
            let json: serde_json::Value = serde_json::from_str(&lines_of(text, LogFormat::Json)).unwrap();
            assert_eq!(json["name"], text);
        }
        assert!(lines_of("a\nb", LogFormat::Text).contains("WARN - a\\nb is not loaded name="));
        assert!(lines_of("Café 李明", LogFormat::Text).contains("Café 李明 is not loaded"));
    }

    #[test]
    fn a_name_shows_no_card_number() {
        for text in [
            "4111111111111111",
            "in/\n4012 8888 8888 1881 \"a\"\\.csv",
            "DE89370400440532013000",
            "€ 5555-5555-5555-4444",
        ] {
            for format in [LogFormat::Text, LogFormat::Json] {
                let line = lines_of(text, format);
                for digits in ["11111111", "8888 8888", "04400", "5555-5555-5555"] {
                    assert!(!line.contains(digits), "{line}");
                }
            }
            let json: serde_json::Value = serde_json::from_str(&lines_of(text, LogFormat::Json)).unwrap();
            assert_eq!(json["name"], *mask_card_numbers(text));
        }
        let numbers = r#"{"at":"2026-01-11T10:00:00.000000Z","bytes":4111111111111111,"text":"a\"b","empty":""}"#;
        assert_eq!(with_masked_strings(numbers), numbers);
    }

    #[test]
    fn a_panic_shows_literals_and_numbers_only() {
        let said = |panicking: fn()| {
            let payload = std::panic::catch_unwind(panicking).unwrap_err();
            panic_message(&*payload).to_owned()
        };
        assert_eq!(said(|| panic!("no such stage")), "no such stage");
        let index = std::hint::black_box(3);
        let payload = std::panic::catch_unwind(|| [0, 1][index]).unwrap_err();
        assert_eq!(panic_message(&*payload), "index out of bounds: the len is 2 but the index is 3");
        for panicking in [
            || panic!("row {}", std::hint::black_box("4111111111111111")),
            || drop("Jéan"[..2].to_owned()),
            || drop("Jean".parse::<u8>().map(|_| String::new()).expect("4111111111111111")),
        ] {
            assert_eq!(said(panicking), "its message is left out, as it may hold content of rows");
        }
    }

    fn log_about_a_run() {
        let run_id: RunId = "january".parse().unwrap();
        run_span().in_scope(|| {
            tracing::info!("Starting batch pipeline");
            record_run_id(&run_id);
            tracing::info!("Batch 0: processed 3000 transactions");
            several_runs_span().in_scope(|| tracing::info!("Batch 1: processed 3000 transactions"));
        });
    }

    #[test]
    fn json_has_the_run_chunk_and_lane_of_its_spans() {
        let text = captured(LogFormat::Json, || {
            log_about_a_run();
            tracing::info!(run_id = "february", "a field of its own");
            let chunk = tracing::info_span!("chunk", run_id = "march", chunk = 7_u64, lane = "batch", rows = 100);
            chunk.in_scope(|| tracing::warn!(lane = "realtime", "scored"));
        });
        let runs: Vec<Option<String>> = text
            .lines()
            .map(|line| {
                let line: serde_json::Value = serde_json::from_str(line).unwrap();
                assert!(line["timestamp"].as_str().unwrap().ends_with('Z') && line["message"].is_string(), "{line}");
                line["run_id"].as_str().map(str::to_owned)
            })
            .collect();
        let expected = [None, Some("january"), Some("january"), Some("february"), Some("march")];
        assert_eq!(runs, expected.map(|run| run.map(str::to_owned)));
        let last: serde_json::Value = serde_json::from_str(text.lines().last().unwrap()).unwrap();
        assert_eq!((&last["chunk"], &last["lane"], last.get("rows")), (&7.into(), &"realtime".into(), None), "{last}");
    }

    #[test]
    fn text_names_the_run_if_several_are_worked_on() {
        let text = captured(LogFormat::Text, log_about_a_run);
        let ends = ["pipeline", "processed 3000 transactions", "processed 3000 transactions run_id=january"];
        for (line, end) in text.lines().zip(ends) {
            assert!(line.ends_with(end), "{line}");
        }
        assert_eq!(text.lines().count(), ends.len());
    }

    #[test]
    fn a_level_applies_to_assay_alone() {
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
}
