//! Logs: to stderr, as text that users of the earlier Python job can go on grepping, or as JSON for machines.
//!
//! Guarantees, whatever names and messages of servers an event holds:
//! - It is one line. What would break it, or turn the direction of what is around it, is escaped here, once for all.
//! - It shows no card number and no IBAN: others name files and messages as they like.

use std::any::Any;
use std::borrow::Cow;
use std::fmt;

use assay_transaction::{RunId, escaped, is_unseen, mask_card_numbers};
use clap::{Args, ValueEnum};
use tracing::{Event, Span, Subscriber};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::fmt::format::{self, Format, JsonFields, Writer};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields, FormattedFields};
use tracing_subscriber::registry::LookupSpan;

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum LogFormat {
    /// `2026-01-11 10:00:00Z - INFO - Starting batch pipeline`
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
    // To the filter, a word that is no level is a module.
    let is_level = |part: &str| part.is_empty() || part.contains('=') || part.parse::<LevelFilter>().is_ok();
    let is_directive = |part: &str| is_level(part) && EnvFilter::builder().parse(part).is_ok();
    if text.split(',').map(str::trim).all(is_directive) {
        Ok(text.to_owned())
    } else {
        Err("allowed are error, warn, info, debug, trace, and MODULE=LEVEL behind a comma".to_owned())
    }
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
        LogFormat::Json => builder.fmt_fields(JsonFields::new()).event_format(Json::default()).try_init(),
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
        // By the clock of everything else that is shown: names of runs, results, JSON.
        let now = chrono::Utc::now().format("%Y-%m-%d %H:%M:%SZ");
        write!(writer, "{now} - {} - ", event.metadata().level())?;
        let mut fields = String::new();
        context.format_fields(Writer::new(&mut fields), event)?;
        write!(writer, "{}", escaped(&mask_card_numbers(&fields)))?;
        if let Some(Run { fields, is_one_of_several: true }) = run_of(context) {
            write!(writer, " {fields}")?;
        }
        writeln!(writer)
    }
}

/// The form for machines: that of `tracing`, with the run that a line is about. Escapes stand for all that nobody sees: JSON itself
/// asks for that of control characters below 32 alone.
struct Json(Format<format::Json>);

impl Default for Json {
    fn default() -> Self {
        Self(Format::default().json().flatten_event(true).with_current_span(false).with_span_list(false))
    }
}

impl<S, N> FormatEvent<S, N> for Json
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, context: &FmtContext<'_, S, N>, mut writer: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let mut line = String::new();
        self.0.format_event(context, Writer::new(&mut line), event)?;
        line = with_masked_strings(&line);
        let run = run_of(context).filter(|_| !line.contains("\"run_id\":"));
        let fields = run.as_ref().and_then(|run| run.fields.strip_prefix('{')?.strip_suffix('}'));
        if let (Some(event), Some(fields)) = (line.trim_end().strip_suffix('}'), fields) {
            line = format!("{event},{fields}}}");
        }
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

/// The JSON with what is masked in its strings. What stands outside of them are numbers of ours.
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

/// The work on one run, whose name is in its log lines: always where they are JSON, and in text where several runs are worked on
/// at a time ([`one_of_several`]). The name is recorded once it is known ([`name_run`]).
pub fn run_span() -> Span {
    // Of the level that is never left out.
    tracing::error_span!("run", run_id = tracing::field::Empty)
}

/// Logs what is said of a run by a program that works on many.
pub fn about_run<T>(run_id: &RunId, say: impl FnOnce() -> T) -> T {
    run_span().in_scope(|| {
        name_run(run_id);
        say()
    })
}

/// Work on one of several runs at a time.
pub fn one_of_several() -> Span {
    tracing::error_span!("one_of_several")
}

/// Says in which run the work is that goes on in a [`run_span`].
pub fn name_run(run_id: &RunId) {
    Span::current().record("run_id", tracing::field::display(run_id));
}

/// The run that a line is about.
struct Run {
    /// Its name, as the format has fields.
    fields: String,
    is_one_of_several: bool,
}

fn run_of<S, N>(context: &FmtContext<'_, S, N>) -> Option<Run>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    let (mut fields, mut is_one_of_several) = (None, false);
    for span in context.event_scope()? {
        match span.name() {
            "run" => fields = span.extensions().get::<FormattedFields<N>>().map(|fields| fields.fields.clone()),
            "one_of_several" => is_one_of_several = true,
            _ => {}
        }
    }
    let fields = fields.filter(|fields| fields.contains("run_id"))?;
    Some(Run { fields, is_one_of_several })
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
        let tails: Vec<&str> = text.lines().map(|line| &line["2026-01-11 10:00:00Z".len()..]).collect();
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
                let builder = builder.json().fmt_fields(JsonFields::new()).event_format(Json::default());
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

    fn say_about_a_run() {
        let run_id: RunId = "january".parse().unwrap();
        run_span().in_scope(|| {
            tracing::info!("Starting batch pipeline");
            name_run(&run_id);
            tracing::info!("Batch 0: processed 3000 transactions");
            one_of_several().in_scope(|| tracing::info!("Batch 1: processed 3000 transactions"));
        });
    }

    #[test]
    fn json_names_the_run() {
        let lines = Lines::default();
        let writer = lines.clone();
        let subscriber = tracing_subscriber::fmt()
            .json()
            .with_writer(move || writer.clone())
            .fmt_fields(JsonFields::new())
            .event_format(Json::default())
            .finish();
        tracing::subscriber::with_default(subscriber, || {
            say_about_a_run();
            tracing::info!(run_id = "february", "a field of its own");
        });
        let text = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
        let runs: Vec<Option<String>> = text
            .lines()
            .map(|line| {
                let line: serde_json::Value = serde_json::from_str(line).unwrap();
                assert!(line["timestamp"].as_str().unwrap().ends_with('Z') && line["message"].is_string(), "{line}");
                line["run_id"].as_str().map(str::to_owned)
            })
            .collect();
        assert_eq!(runs, [None, Some("january".into()), Some("january".into()), Some("february".into())]);
    }

    #[test]
    fn text_names_the_run_where_it_is_one_of_several() {
        let lines = Lines::default();
        let writer = lines.clone();
        let subscriber =
            tracing_subscriber::fmt().with_ansi(false).with_writer(move || writer.clone()).event_format(Text).finish();
        tracing::subscriber::with_default(subscriber, say_about_a_run);
        let text = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
        let ends = ["pipeline", "processed 3000 transactions", "processed 3000 transactions run_id=january"];
        for (line, end) in text.lines().zip(ends) {
            assert!(line.ends_with(end), "{line}");
        }
        assert_eq!(text.lines().count(), ends.len());
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
        for level in ["info", "WARN", "off", "warn,assay_queue=debug", "info, hyper=trace"] {
            assert!(parse_level(level).is_ok(), "{level}");
        }
        for level in ["foo", "warning", "info,assay_queue", "assay_queue=loud", "info warn"] {
            assert!(parse_level(level).unwrap_err().starts_with("allowed are error"), "{level}");
        }
    }
}
