//! Progress on a terminal: a bar for each stage. Elsewhere, the log shows it.

use std::convert::Infallible;
use std::io::{IsTerminal as _, Write};
use std::time::Duration;

use assay_telemetry::{LogFormat, LogOptions, init_logs_to};
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

use crate::local::StageCounters;
use crate::output::{counted, grouped, human_duration, per_second};

/// Interval of redrawing.
const REDRAW_INTERVAL: Duration = Duration::from_millis(100);

/// The bars, or nothing.
#[derive(Debug, Clone)]
pub(crate) struct ProgressDisplay(Option<ProgressBars>);

#[derive(Debug, Clone)]
struct ProgressBars {
    all: MultiProgress,
    read: ProgressBar,
    scored: ProgressBar,
    stored: ProgressBar,
}

impl ProgressDisplay {
    /// Draws if stderr is a terminal and logs are text. The bars replace log lines of level `info`; other lines are written
    /// above them.
    pub(crate) fn new(log: &LogOptions) -> Self {
        if !std::io::stderr().is_terminal() || log.log_format != LogFormat::Text || log.log_level != "info" {
            return Self(None);
        }
        let bars = ProgressBars::new();
        let all = bars.all.clone();
        let log = LogOptions { log_level: "warn".to_owned(), ..log.clone() };
        init_logs_to(&log, move || AboveBars(all.clone()));
        Self(Some(bars))
    }

    /// Redraws until it is dropped.
    pub(crate) async fn follow(self, progress: StageCounters) -> Infallible {
        loop {
            if let Some(bars) = &self.0 {
                bars.show(&progress);
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
    fn new() -> Self {
        let style = ProgressStyle::with_template("{prefix:>9} {wide_bar:.cyan} {percent:>3} %  {msg}")
            .unwrap_or_else(|_| ProgressStyle::default_bar());
        let all = MultiProgress::new();
        let bar = |prefix| all.add(ProgressBar::new(1).with_style(style.clone()).with_prefix(prefix));
        Self { read: bar("read"), scored: bar("scored"), stored: bar("stored"), all }
    }

    /// Reading is measured in bytes, as the number of rows is not known before the end; the other bars in the estimated rows of
    /// the source.
    fn show(&self, StageCounters { load, predict, write }: &StageCounters) {
        let (bytes, bytes_read, rows_read) = (load.source_bytes(), load.bytes_read(), load.rows_read());
        if bytes_read == 0 {
            return;
        }
        let rows = u128::from(rows_read) * u128::from(bytes) / u128::from(bytes_read);
        let rows = u64::try_from(rows).unwrap_or(u64::MAX);
        let elapsed = self.read.elapsed();
        let show = |bar: &ProgressBar, length: u64, position: u64, count: u64| {
            bar.set_length(length);
            bar.set_position(position);
            bar.set_message(message(count, per_second(count, elapsed), left(elapsed, position, length)));
        };
        let scored = predict.scored() + predict.failed();
        show(&self.read, bytes, bytes_read, rows_read);
        show(&self.scored, rows, scored + load.rows_invalid(), scored);
        show(&self.stored, rows, write.rows(), write.rows());
    }
}

/// The text behind a bar.
fn message(count: u64, rate: u64, left: Option<u64>) -> String {
    let left = left.map(|seconds| format!(", {} left", human_duration(seconds))).unwrap_or_default();
    format!("{}, {}/s{left}", counted(count, "row", "rows"), grouped(rate))
}

/// Estimated seconds left; none before one per cent is done.
fn left(elapsed: Duration, position: u64, length: u64) -> Option<u64> {
    let (done, rest) = (u128::from(position), u128::from(length.saturating_sub(position)));
    if done == 0 || done * 100 < u128::from(length) || rest == 0 {
        return None;
    }
    u64::try_from((elapsed.as_millis() * rest / done).div_ceil(1_000)).ok()
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
        let elapsed = Duration::from_secs(12);
        assert_eq!(message(365_000, 30_878, left(elapsed, 25, 100)), "365,000 rows, 30,878/s, 36 s left");
        assert_eq!(message(1, 1, None), "1 row, 1/s");
        for (position, length) in [(0, 100), (1, 1_000), (100, 100), (0, 0)] {
            assert_eq!(left(elapsed, position, length), None, "{position} of {length}");
        }
    }
}
