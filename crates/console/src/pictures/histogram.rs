//! The fraud scores of a run. Most scores are near 0 as a rule, so the heights are logarithmic.

use assay_report::with_separators;
use assay_store::{SCORE_BINS, ScoreHistogram};
use maud::{Markup, html};

use super::{figure, px, short};
use crate::markup::number;

/// Width and height.
const VIEW: (u32, u32) = (720, 220);
/// The area of the bars: left, top, right and bottom.
const AREA: (f64, f64, f64, f64) = (64.0, 10.0, 712.0, 186.0);
/// Bars that are drawn; each has so many of the stored ones.
const BARS: usize = 50;
const JOINED: usize = SCORE_BINS / BARS;

/// Draws the scores.
#[expect(clippy::cast_precision_loss, reason = "a share of a picture")]
pub(crate) fn histogram(scores: &ScoreHistogram) -> Markup {
    let bars: Vec<u64> = scores.bins.chunks(JOINED).map(|bins| bins.iter().sum()).collect();
    let all: u64 = bars.iter().sum::<u64>() + scores.below + scores.above;
    if all == 0 {
        let why = if scores.missing > 0 { "The model gives no scores." } else { "Nothing is scored yet." };
        return html! { p.empty { (why) } };
    }
    let decades = bars.iter().max().map_or(1, |most| most.max(&1).ilog10() + 1);
    let (left, top, right, bottom) = AREA;
    let height = |count: u64| {
        // A single row is seen, too.
        if count == 0 { 0.0 } else { (bottom - top) * ((count as f64).log10() + 0.2) / (f64::from(decades) + 0.2) }
    };
    let width = (right - left) / BARS as f64;
    let high: u64 = scores.bins[SCORE_BINS / 2..].iter().sum::<u64>() + scores.above;
    let description = format!(
        "{} scores, {} of them from 0.5 on. The heights are logarithmic.",
        with_separators(all),
        with_separators(high)
    );
    let edge = |bar: usize| format!("{:.2}", bar as f64 / BARS as f64);
    let table = html! {
        table {
            thead { tr { th scope="col" { "Score" } th.right scope="col" { "Transactions" } } }
            tbody {
                @if scores.below > 0 { tr { th scope="row" { "below 0" } td.right { (number(scores.below)) } } }
                @for (bar, count) in bars.iter().enumerate() {
                    tr { th scope="row" { (edge(bar)) " to " (edge(bar + 1)) } td.right { (number(*count)) } }
                }
                @if scores.above > 0 { tr { th scope="row" { "above 1" } td.right { (number(scores.above)) } } }
                @if scores.missing > 0 { tr { th scope="row" { "no score" } td.right { (number(scores.missing)) } } }
            }
        }
    };
    let drawing = html! {
        @for decade in 0..=decades {
            @let count = 10_u64.pow(decade);
            @let y = bottom - height(count).min(bottom - top);
            line.grid x1=(px(left)) x2=(px(right)) y1=(px(y)) y2=(px(y)) {}
            text.axis x=(px(left - 6.0)) y=(px(y + 4.0)) text-anchor="end" { (short(count)) }
        }
        @for (bar, count) in bars.iter().enumerate().filter(|(_, count)| **count > 0) {
            rect.score x=(px(left + width * bar as f64)) y=(px(bottom - height(*count))) width=(px(width - 1.0)) height=(px(height(*count))) {}
        }
        @for tenth in [0_u32, 2, 4, 6, 8, 10] {
            @let x = left + (right - left) * f64::from(tenth) / 10.0;
            text.axis x=(px(x)) y="204" text-anchor="middle" { (format!("{:.1}", f64::from(tenth) / 10.0)) }
        }
    };
    html! {
        p.legend { (description) }
        (figure("scores-picture", "Fraud scores", &description, VIEW, &drawing, &table))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_score_is_in_the_table() {
        let mut scores = ScoreHistogram { below: 1, above: 2, missing: 7, ..ScoreHistogram::default() };
        scores.bins[0] = 1_000;
        scores.bins[SCORE_BINS - 1] = 5;
        let drawn = histogram(&scores).into_string();
        for part in ["1,008 scores, 7 of them from 0.5 on", "below 0", "above 1", "no score", "0.98 to 1.00"] {
            assert!(drawn.contains(part), "{part}: {drawn}");
        }
    }

    #[test]
    fn without_scores_it_says_why() {
        let none = ScoreHistogram { missing: 3, ..ScoreHistogram::default() };
        assert!(histogram(&none).into_string().contains("The model gives no scores"));
        assert!(histogram(&ScoreHistogram::default()).into_string().contains("Nothing is scored yet"));
    }
}
