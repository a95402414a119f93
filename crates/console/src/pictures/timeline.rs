//! Counts over time, stacked: outcomes that were stored, or labels.

use assay_report::{moment, with_separators};
use assay_transaction::Timestamp;
use chrono::{DateTime, Utc};
use maud::{Markup, html};

use super::{figure, px, short};
use crate::markup::{number, time};

/// Width and height.
const VIEW: (u32, u32) = (720, 220);
/// The area of the bars: left, top, right and bottom.
const AREA: (f64, f64, f64, f64) = (64.0, 10.0, 712.0, 186.0);
/// Most bars.
const MOST: u64 = 120;
/// Lengths of a bar, in seconds.
const LENGTHS: [u64; 15] = [1, 2, 5, 10, 30, 60, 120, 300, 600, 1_800, 3_600, 7_200, 21_600, 43_200, 86_400];

/// What is counted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Series {
    pub(crate) name: String,
    /// The class that gives it its colour.
    pub(crate) class: &'static str,
}

/// Counts by time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Timeline {
    pub(crate) series: Vec<Series>,
    /// Seconds of a bar.
    pub(crate) seconds: u64,
    /// Second at which the first bar begins, from 1970 on.
    pub(crate) first: i64,
    /// Of each bar, the counts of each series. Bars without counts are there.
    pub(crate) bars: Vec<Vec<u64>>,
}

impl Timeline {
    /// Sums counts up into at most 120 bars. `counts` are in order of time: begin, length in seconds, and a count for each series.
    pub(crate) fn new(series: Vec<Series>, counts: &[(i64, u32, Vec<u64>)]) -> Self {
        let (Some(first), Some(last)) = (counts.first(), counts.last()) else {
            return Self { series, seconds: 1, first: 0, bars: Vec::new() };
        };
        let span = u64::try_from(last.0 - first.0).unwrap_or_default() + u64::from(last.1);
        let coarsest = counts.iter().map(|(_, seconds, _)| u64::from(*seconds)).max().unwrap_or(1);
        let fits = |length: &u64| *length >= coarsest && span / length < MOST;
        let seconds = LENGTHS.into_iter().find(fits).unwrap_or_else(|| span.div_ceil(MOST).max(1));
        let length = i64::try_from(seconds).unwrap_or(i64::MAX);
        let start = first.0 - first.0.rem_euclid(length);
        let bar = |at: i64| usize::try_from((at - start) / length).unwrap_or_default();
        let mut bars = vec![vec![0; series.len()]; bar(last.0) + 1];
        for (at, _, values) in counts {
            for (sum, value) in bars[bar(*at)].iter_mut().zip(values) {
                *sum += value;
            }
        }
        Self { series, seconds, first: start, bars }
    }

    /// When a bar begins.
    fn begin(&self, bar: usize) -> Option<Timestamp> {
        let after = i64::try_from(bar as u64 * self.seconds).ok()?;
        DateTime::<Utc>::from_timestamp(self.first + after, 0).map(Timestamp::from)
    }

    fn most(&self) -> u64 {
        self.bars.iter().map(|bar| bar.iter().sum()).max().unwrap_or_default()
    }

    /// Whether the series has any count.
    fn occurs(&self, series: usize) -> bool {
        self.bars.iter().any(|bar| bar[series] > 0)
    }
}

/// Draws counts over time, as rows a second.
pub(crate) fn timeline(id: &str, title: &str, timeline: &Timeline) -> Markup {
    let Timeline { series, seconds, bars, .. } = timeline;
    let most = timeline.most();
    if most == 0 {
        return html! { p.empty { "Nothing is stored yet." } };
    }
    let peak = most / seconds.max(&1);
    let (Some(begin), Some(end)) = (timeline.begin(0), timeline.begin(bars.len() - 1)) else { return html! {} };
    let description =
        format!("From {} to {} UTC, at most {} rows a second.", moment(begin), moment(end), with_separators(peak));
    let shown: Vec<usize> = (0..series.len()).filter(|index| timeline.occurs(*index)).collect();
    let table = html! {
        table {
            thead { tr { th scope="col" { "From" } @for index in &shown { th.right scope="col" { (series[*index].name) } } } }
            tbody {
                @for (bar, counts) in bars.iter().enumerate() {
                    @if let Some(at) = timeline.begin(bar) {
                        tr { th scope="row" { (time(at)) } @for index in &shown { td.right { (number(counts[*index])) } } }
                    }
                }
            }
        }
    };
    let (left, top, right, bottom) = AREA;
    let drawing = html! {
        @for share in [0_u32, 1, 2] {
            @let y = bottom - (bottom - top) * f64::from(share) / 2.0;
            line.grid x1=(px(left)) x2=(px(right)) y1=(px(y)) y2=(px(y)) {}
            text.axis x=(px(left - 6.0)) y=(px(y + 4.0)) text-anchor="end" { (short(peak * u64::from(share) / 2)) }
        }
        @for (index, counts) in bars.iter().enumerate() { (stack(timeline, index, counts, most)) }
        text.axis x=(px(left)) y="204" { (moment(begin)) " UTC" }
        text.axis x=(px(right)) y="204" text-anchor="end" { (moment(end)) " UTC" }
    };
    html! {
        p.legend {
            "Rows a second; a bar is " (assay_report::human_duration(*seconds)) ". "
            @for index in &shown { span class=(format!("key {}", series[*index].class)) { (series[*index].name) } " " }
        }
        (figure(id, title, &description, VIEW, &drawing, &table))
    }
}

/// The parts of a bar, one on the other.
#[expect(clippy::cast_precision_loss, reason = "a share of a picture")]
fn stack(timeline: &Timeline, index: usize, counts: &[u64], most: u64) -> Markup {
    let (left, top, right, bottom) = AREA;
    let width = (right - left) / timeline.bars.len() as f64;
    let mut y = bottom;
    html! {
        @for (series, count) in timeline.series.iter().zip(counts).filter(|(_, count)| **count > 0) {
            @let height = (bottom - top) * *count as f64 / most as f64;
            @let upper = { y -= height; y };
            rect class=(series.class) x=(px(left + width * index as f64)) y=(px(upper)) width=(px((width - 0.6).max(0.5))) height=(px(height)) {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn series(name: &str) -> Series {
        Series { name: name.into(), class: "predicted" }
    }

    #[test]
    fn counts_are_summed_up_into_bars() {
        let seconds = Timeline::new(vec![series("a"), series("b")], &[(100, 1, vec![1, 2]), (102, 1, vec![3, 0])]);
        assert_eq!((seconds.seconds, seconds.first), (1, 100));
        assert_eq!(seconds.bars, [vec![1, 2], vec![0, 0], vec![3, 0]]);
        // A minute is not split, and what came within it is added to it.
        let mixed = Timeline::new(vec![series("a")], &[(60, 60, vec![600]), (125, 1, vec![5]), (130, 1, vec![6])]);
        assert_eq!((mixed.seconds, mixed.bars), (60, vec![vec![600], vec![11]]));
    }

    #[test]
    fn no_row_is_left_out_however_long_it_takes() {
        for step in [1, 7, 61, 3_600, 90_000, 2_000_000] {
            let counts: Vec<_> = (0..500_i64).map(|index| (1_000 + index * step, 1, vec![1])).collect();
            let timeline = Timeline::new(vec![series("a")], &counts);
            assert_eq!(timeline.bars.iter().flatten().sum::<u64>(), 500);
            assert!(timeline.bars.len() <= 121, "{step}: {}", timeline.bars.len());
        }
    }

    #[test]
    fn it_says_when_and_how_much() {
        let counts = [(1_768_125_600, 1, vec![50]), (1_768_125_601, 1, vec![100])];
        let drawn = timeline("t", "Speed", &Timeline::new(vec![series("predicted")], &counts)).into_string();
        assert!(
            drawn.contains("From 2026-01-11 10:00:00 to 2026-01-11 10:00:01 UTC, at most 100 rows a second."),
            "{drawn}"
        );
        assert!(
            timeline("t", "Speed", &Timeline::new(Vec::new(), &[])).into_string().contains("Nothing is stored yet")
        );
    }
}
