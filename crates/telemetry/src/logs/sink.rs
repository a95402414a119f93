//! Where a log line goes: to the console, to the file, or to both. A line that the file does not take goes to the console.

use std::io::Write;

use tracing::Metadata;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::fmt::MakeWriter;

use super::LogOptions;
use super::file::LogFile;
use crate::failure::PRINTED;

/// Makes a writer of the console.
type Console = Box<dyn Fn() -> Box<dyn Write> + Send + Sync>;

/// The console and the file.
pub(super) struct LogSink {
    console: Console,
    /// Which lines go to the console.
    least: LevelFilter,
    file: Option<LogFile>,
}

impl LogSink {
    /// Opens the file, if one is set.
    pub(super) fn new<W: Write + 'static>(
        options: &LogOptions,
        least: LevelFilter,
        console: impl Fn() -> W + Send + Sync + 'static,
    ) -> Result<Self, String> {
        let file = options.log_file.as_ref().map(|path| LogFile::open(path, options)).transpose()?;
        let least = if file.is_some() && !options.log_stderr { LevelFilter::OFF } else { least };
        Ok(Self { console: Box::new(move || Box::new(console())), least, file })
    }
}

impl<'a> MakeWriter<'a> for LogSink {
    type Writer = LineWriter<'a>;

    fn make_writer(&'a self) -> Self::Writer {
        LineWriter { sink: self, is_for_console: true }
    }

    fn make_writer_for(&'a self, metadata: &Metadata<'_>) -> Self::Writer {
        let is_for_console = *metadata.level() <= self.least && metadata.target() != PRINTED;
        LineWriter { sink: self, is_for_console }
    }
}

/// Writes one line, which comes in one piece.
pub(super) struct LineWriter<'a> {
    sink: &'a LogSink,
    is_for_console: bool,
}

impl Write for LineWriter<'_> {
    fn write(&mut self, line: &[u8]) -> std::io::Result<usize> {
        let LogSink { console, file, .. } = self.sink;
        let refusal = file.as_ref().and_then(|file| file.append(line).err());
        // A console that is gone is no reason to stop.
        if let Some(notice) = refusal.as_ref().and_then(|refusal| refusal.notice.as_ref()) {
            let _ = console().write_all(notice.as_bytes());
        }
        if self.is_for_console || refusal.is_some() {
            let _ = console().write_all(line);
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
