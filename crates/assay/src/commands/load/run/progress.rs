//! Progress on a terminal: a bar for each stage. Elsewhere, the log shows it.

use std::convert::Infallible;
use std::io::{IsTerminal as _, Write};
use std::time::{Duration, Instant};

use assay_loader::RemainingTime;
use assay_telemetry::{ColorOption, LogFormat, LogOptions, init_logs_to};
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use tracing::level_filters::LevelFilter;

use crate::local::StageCounters;
use crate::output::{human_duration, with_separators};

/// Interval of redrawing.
const REDRAW_INTERVAL: Duration = Duration::from_millis(100);

/// The bars, or nothing.
#[derive(Debug, Clone)]
pub(crate) struct ProgressDisplay(Option<ProgressBars>);

#[derive(Debug, Clone)]
struct ProgressBars {
    all: MultiProgress,
    read: StageBar,
    scored: StageBar,
    stored: StageBar,
}

impl ProgressDisplay {
    /// Draws if stderr is a terminal and logs are text. The bars replace log lines of level `info`; other lines are written
    /// above them.
    pub(crate) fn new(log: &LogOptions, color: ColorOption) -> Self {
        if !std::io::stderr().is_terminal() || log.log_format != LogFormat::Text || log.log_level != "info" {
            return Self(None);
        }
        let bars = ProgressBars::new(color.is_on(true));
        let all = bars.all.clone();
        // The program says why, once it begins.
        if init_logs_to(log, LevelFilter::WARN, move || AboveBars(all.clone())).is_err() {
            return Self(None);
        }
        Self(Some(bars))
    }

    /// Redraws until it is dropped.
    pub(crate) async fn follow(mut self, progress: StageCounters) -> Infallible {
        loop {
            if let Some(bars) = &mut self.0 {
                bars.show(&progress, Instant::now());
            }
            tokio::time::sleep(REDRAW_INTERVAL).await;
        }
    }

    /// Removes the bars.
    pub(crate) fn clear(&self) {
        if let Some(bars) = &self.0 {
            // Without a terminal there is nothing to clear.
            let _ = bars.all.clear();
        }
    }
}

impl ProgressBars {
    fn new(is_colored: bool) -> Self {
        let bar = if is_colored { "{wide_bar:.cyan}" } else { "{wide_bar}" };
        let style = ProgressStyle::with_template(&format!("{{prefix:>9}} {bar} {{percent:>3}} %  {{msg}}"))
            .unwrap_or_else(|_| ProgressStyle::default_bar());
        let all = MultiProgress::new();
        let bar = |prefix| StageBar::new(all.add(ProgressBar::new(1).with_style(style.clone()).with_prefix(prefix)));
        Self { read: bar("read"), scored: bar("scored"), stored: bar("stored"), all }
    }

    /// Reading is measured in bytes, as the number of rows is not known before the end; the other bars in the estimated rows of
    /// the source. Rates are those of this process, so a resumed load does not count what an earlier one did.
    fn show(&mut self, StageCounters { load, predict, write }: &StageCounters, now: Instant) {
        let Some(rows) = load.estimated_rows().or_else(|| (load.bytes_read() > 0).then(|| load.rows_read())) else {
            return;
        };
        let before = load.rows_before();
        let read = Stage {
            rows: load.rows_read().saturating_sub(before),
            position: load.bytes_read(),
            length: load.source_bytes(),
        };
        self.read.show(&read, load.bytes_read().saturating_sub(load.bytes_before()), now);
        let stored_before = before + load.rows_skipped();
        let answered = predict.scored() + predict.failed();
        // Rows that are invalid are not sent on.
        let done = answered + load.rows_invalid();
        self.scored.show(&Stage { rows: answered, position: stored_before + done, length: rows }, done, now);
        let written = write.rows();
        self.stored.show(&Stage { rows: written, position: stored_before + written, length: rows }, written, now);
    }
}

/// What a stage has done of its work, in the unit of its bar.
struct Stage {
    /// Rows that this process did.
    rows: u64,
    position: u64,
    length: u64,
}

/// The bar of a stage.
#[derive(Debug, Clone)]
struct StageBar {
    bar: ProgressBar,
    rate: RemainingTime,
    remaining: RemainingTime,
}

impl StageBar {
    fn new(bar: ProgressBar) -> Self {
        Self { bar, rate: RemainingTime::default(), remaining: RemainingTime::default() }
    }

    /// Shows a stage, of which this process did so much.
    fn show(&mut self, Stage { rows, position, length }: &Stage, done: u64, now: Instant) {
        let rest = length.saturating_sub(*position);
        // The rate of a stage that is done stays as it was.
        if rest > 0 {
            self.rate.observe(now, *rows);
            self.remaining.observe(now, done);
        }
        self.bar.set_length(*length);
        self.bar.set_position(*position);
        let left = if rest == 0 { String::new() } else { left_text(self.remaining.left(now, rest)) };
        self.bar.set_message(format!("{}{left}", done_text(*rows, self.rate.per_second())));
    }
}

/// `365,000 rows, 30,878/s`.
fn done_text(count: u64, rate: Option<u64>) -> String {
    let rate = rate.map(|rate| format!(", {}/s", with_separators(rate))).unwrap_or_default();
    format!("{} {}{rate}", with_separators(count), if count == 1 { "row" } else { "rows" })
}

/// `, 36 s left`.
fn left_text(left: Option<Duration>) -> String {
    match left {
        Some(left) => format!(", {} left", human_duration(left.as_secs())),
        None => ", time left not known".to_owned(),
    }
}

/// Writes log lines without tearing the bars.
struct AboveBars(MultiProgress);

impl Write for AboveBars {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.suspend(|| std::io::stderr().write(bytes))
    }

    fn flush(&mut self) -> std::io::Result<()> {
        std::io::stderr().flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bar_shows_count_rate_and_time_left() {
        assert_eq!(done_text(365_000, Some(30_878)), "365,000 rows, 30,878/s");
        assert_eq!(done_text(1, None), "1 row");
        assert_eq!(left_text(Some(Duration::from_secs(36))), ", 36 s left");
        assert_eq!(left_text(None), ", time left not known");
    }
}
