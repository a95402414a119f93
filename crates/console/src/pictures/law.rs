//! The law as a picture: what was read, and what became of it. The bands are as thick as the counts, and add up.

use assay_report::with_separators;
use assay_transaction::Tally;
use maud::{Markup, html};

use super::{figure, px};
use crate::markup::{number, percent};

/// What was read, and the outcomes so far.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Law {
    pub(crate) rows_read: u64,
    pub(crate) tally: Tally,
}

/// Its width.
const WIDTH: u32 = 720;
/// Height of all bands together.
const BANDS: f64 = 200.0;
/// Height that the smallest band has, so that one row in a million is seen.
const LEAST: f64 = 3.0;
/// Height of a line of text.
const LABEL: f64 = 16.0;
/// Distance between outcomes.
const GAP: f64 = 10.0;

impl Law {
    /// Name, class and count of each outcome; rows without one last.
    pub(crate) fn parts(self) -> [(&'static str, &'static str, u64); 5] {
        let Tally { predicted, invalid, failed, duplicate } = self.tally;
        [
            ("predicted", "predicted", predicted),
            ("invalid", "invalid", invalid),
            ("failed", "failed", failed),
            ("duplicate", "duplicate", duplicate),
            ("on their way", "underway", self.rows_read.saturating_sub(self.tally.total())),
        ]
    }

    /// `1,000 read = 980 predicted + 15 invalid + 3 failed + 2 duplicate`.
    pub(crate) fn sentence(self) -> String {
        let parts = self.parts().into_iter().filter(|(_, class, count)| *count > 0 || *class != "underway");
        let sum: Vec<String> = parts.map(|(name, _, count)| format!("{} {name}", with_separators(count))).collect();
        format!("{} read = {}", with_separators(self.rows_read.max(self.tally.total())), sum.join(" + "))
    }
}

/// Draws the law.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a small length")]
pub(crate) fn law(law: Law) -> Markup {
    let all = law.rows_read.max(law.tally.total());
    let parts: Vec<_> = law.parts().into_iter().filter(|(.., count)| *count > 0).collect();
    let table = html! {
        table {
            thead { tr { th scope="col" { "Outcome" } th.right scope="col" { "Rows" } th.right scope="col" { "Share" } } }
            tbody {
                @for (name, _, count) in law.parts() {
                    tr { th scope="row" { (name) } td.right { (number(count)) } td.right { (percent(count, all)) } }
                }
                tr { th scope="row" { "read" } td.right { (number(all)) } td.right { (percent(all, all)) } }
            }
        }
    };
    if all == 0 {
        return html! { p.empty { "No row is read yet." } };
    }
    let bands = bands(&parts, all);
    let lowest = bands.iter().map(|(.., right, height)| right + height.max(LABEL)).fold(20.0 + BANDS, f64::max);
    let drawing = html! {
        rect.read x="0" y="20" width="14" height=(px(BANDS)) rx="2" {}
        text.label x="22" y="36" { "read" }
        text.value x="22" y="54" { (with_separators(all)) }
        @for (name, class, count, left, right, height) in bands {
            path class=(format!("band {class}")) d=(band(left, right, height)) {}
            rect class=(class) x="450" y=(px(right)) width="14" height=(px(height)) rx="2" {}
            text.label x="474" y=(px(right + height / 2.0 + 4.0)) {
                (with_separators(count)) " " (name) " · " (percent(count, all))
            }
        }
    };
    html! {
        p.law { (law.sentence()) }
        (figure("law-picture", "What became of the rows", &law.sentence(), (WIDTH, lowest as u32 + 10), &drawing, &table))
    }
}

type Band = (&'static str, &'static str, u64, f64, f64, f64);

/// Each part with its upper edge at the left and at the right, and its height.
#[expect(clippy::cast_precision_loss, reason = "a share of a picture")]
fn bands(parts: &[(&'static str, &'static str, u64)], all: u64) -> Vec<Band> {
    let heights: Vec<f64> = parts.iter().map(|(.., count)| (*count as f64 / all as f64 * BANDS).max(LEAST)).collect();
    // What small bands have too much, the others lack.
    let scale = BANDS / heights.iter().sum::<f64>();
    // Labels need room, too.
    let step = |height: f64| height.max(LABEL) + GAP;
    let (mut left, mut right) = (20.0, 10.0);
    let mut bands = Vec::new();
    for ((name, class, count), height) in parts.iter().zip(heights) {
        let height = height * scale;
        bands.push((*name, *class, *count, left, right, height));
        left += height;
        right += step(height);
    }
    bands
}

fn band(left: f64, right: f64, height: f64) -> String {
    let (left, right) = ((px(left), px(left + height)), (px(right), px(right + height)));
    format!(
        "M14,{} C220,{} 240,{} 450,{} L450,{} C240,{} 220,{} 14,{} Z",
        left.0, left.0, right.0, right.0, right.1, right.1, left.1, left.1
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const TALLY: Tally = Tally { predicted: 980, invalid: 15, failed: 3, duplicate: 2 };

    #[test]
    fn the_numbers_add_up() {
        let sealed = Law { rows_read: 1_000, tally: TALLY };
        assert_eq!(sealed.sentence(), "1,000 read = 980 predicted + 15 invalid + 3 failed + 2 duplicate");
        let underway = Law { rows_read: 1_500, tally: TALLY };
        assert!(underway.sentence().ends_with("+ 2 duplicate + 500 on their way"), "{}", underway.sentence());
        for law in [sealed, underway] {
            assert_eq!(law.parts().iter().map(|(.., count)| count).sum::<u64>(), law.rows_read);
        }
    }

    #[test]
    fn bands_fill_what_was_read() {
        let parts = [("predicted", "predicted", 999_999), ("failed", "failed", 1)];
        let bands = bands(&parts, 1_000_000);
        let heights: f64 = bands.iter().map(|band| band.5).sum();
        assert!((heights - BANDS).abs() < 0.1 && bands[1].5 > 2.0, "{bands:?}");
    }

    #[test]
    fn nothing_is_drawn_of_nothing() {
        let empty = Law { rows_read: 0, tally: Tally::default() };
        assert!(super::law(empty).into_string().contains("No row is read yet"));
    }
}
