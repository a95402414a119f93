//! How well scores separate fraud from the rest.

use std::fmt;

/// The area under the ROC curve: the probability that a random fraud scores higher than a random other row, half for a
/// tie. One half if there is only one kind.
pub(crate) fn auc(scored: &[(f32, bool)]) -> f64 {
    let mut sorted = scored.to_vec();
    sorted.sort_by(|one, other| one.0.total_cmp(&other.0));
    // Won pairs, counted twice so that ties are integers.
    let (mut won, mut lower, mut fraud) = (0_u64, 0_u64, 0_u64);
    for tied in sorted.chunk_by(|one, other| one.0.total_cmp(&other.0).is_eq()) {
        let fraud_here = tied.iter().filter(|(_, is_fraud)| *is_fraud).count() as u64;
        let others_here = tied.len() as u64 - fraud_here;
        won += fraud_here * (2 * lower + others_here);
        lower += others_here;
        fraud += fraud_here;
    }
    if fraud == 0 || lower == 0 {
        return 0.5;
    }
    float(won) / 2.0 / float(fraud) / float(lower)
}

#[expect(clippy::cast_precision_loss, reason = "counts of rows, and of pairs of them, for a few decimals")]
fn float(count: u64) -> f64 {
    count as f64
}

/// The printed measures of a model.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Quality {
    rows: u64,
    fraud: u64,
    auc: f64,
    found: u64,
    called: u64,
}

impl Quality {
    pub(crate) fn of(scored: &[(f32, bool)], is_called: impl Fn(f32) -> bool) -> Self {
        let called = scored.iter().filter(|(score, _)| is_called(*score));
        Self {
            rows: scored.len() as u64,
            fraud: scored.iter().filter(|(_, is_fraud)| *is_fraud).count() as u64,
            auc: auc(scored),
            found: called.clone().filter(|(_, is_fraud)| *is_fraud).count() as u64,
            called: called.count() as u64,
        }
    }
}

impl fmt::Display for Quality {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { rows, fraud, auc, found, called } = *self;
        let percent = |part: u64, whole: u64| float(part) * 100.0 / float(whole.max(1));
        write!(
            formatter,
            "AUC {auc:.4} on {rows} unseen transactions, {fraud} of them fraud; {called} are called fraud: {found} \
             ({:.1} %) rightly, which is {:.1} % of all fraud",
            percent(found, called),
            percent(found, fraud)
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_area_is_the_share_of_pairs_in_the_right_order() {
        let cases: [(&[(f32, bool)], f64); 6] = [
            (&[(0.9, true), (0.1, false)], 1.0),
            (&[(0.1, true), (0.9, false)], 0.0),
            (&[(0.5, true), (0.5, false)], 0.5),
            (&[(0.9, true), (0.2, true), (0.5, false), (0.1, false)], 0.75),
            (&[(0.9, true), (0.5, true), (0.5, false), (0.1, false)], 0.875),
            (&[(0.9, true)], 0.5),
        ];
        for (scored, expected) in cases {
            assert!((auc(scored) - expected).abs() < 1e-12, "{scored:?}");
        }
    }

    #[test]
    fn quality_is_printed_in_words() {
        let scored = [(0.9, true), (0.8, false), (0.4, true), (0.1, false)];
        let text = Quality::of(&scored, |score| score >= 0.5).to_string();
        let expected = "AUC 0.7500 on 4 unseen transactions, 2 of them fraud; 2 are called fraud: 1 (50.0 %) rightly, \
                        which is 50.0 % of all fraud";
        assert_eq!(text, expected);
    }
}
