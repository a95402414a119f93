//! The decimal mark of amounts. It is proven by amounts that only one mark reads: `12,50` and `1.234,56` have a comma;
//! `1,234,567` has a point, as repeated commas separate thousands. `3.000` proves nothing, nor does the delimiter.

use assay_transaction::{Amount, DecidedBy, DecimalMark, amount_readings, shape};

use super::{Detected, SampleText, UndecidedFormat, format_count, is_more_than_slips};

/// The decimal mark; none if no amount has a possible one.
pub(crate) fn detect(
    texts: &[SampleText],
    currencies: &[String],
) -> Result<Detected<Option<DecimalMark>>, UndecidedFormat> {
    let (mut point, mut comma, mut ambiguous, mut undecided) =
        (MarkEvidence::default(), MarkEvidence::default(), None, 0);
    for text in texts {
        let read = amount_readings(&text.text, currencies);
        match (read.point, read.comma) {
            (Some(_), None) => point.add(text),
            (None, Some(_)) => comma.add(text),
            (Some(one), Some(two)) if one != two => {
                undecided += 1;
                ambiguous = ambiguous.or(Some((text, one, two)));
            }
            _ => {}
        }
    }
    // Amounts without a mark and texts that are not amounts count for nothing.
    let marked = point.count + comma.count + undecided;
    if is_more_than_slips(point.count, marked) && is_more_than_slips(comma.count, marked) {
        let seen = Box::new([point, comma].map(|seen| (seen.share(texts.len()), seen.example())));
        return Err(UndecidedFormat::MixedAmounts { seen });
    }
    let (mark, seen) =
        if comma.count > point.count { (DecimalMark::Comma, comma) } else { (DecimalMark::Point, point) };
    if is_more_than_slips(seen.count, marked) {
        let evidence = format!("{} amounts have it, such as {}", seen.share(texts.len()), seen.example());
        return Ok(Detected { value: Some(mark), by: DecidedBy::Recognised, evidence });
    }
    if let Some((text, point, comma)) = ambiguous {
        let [point, comma] = [point, comma].map(|amount| shape(&without_zeros(amount)));
        return Err(UndecidedFormat::AmbiguousAmounts { example: text.to_string(), point, comma });
    }
    let evidence = "no amount of the sample has a mark; ambiguous ones are rejected".to_owned();
    Ok(Detected { value: None, by: DecidedBy::Default, evidence })
}

/// An amount without trailing zeros, which would look like thousands again.
fn without_zeros(amount: Amount) -> String {
    let text = amount.to_string();
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
}

/// Amounts that only one mark reads.
#[derive(Default)]
struct MarkEvidence<'a> {
    count: usize,
    first: Option<&'a SampleText>,
}

impl<'a> MarkEvidence<'a> {
    fn add(&mut self, text: &'a SampleText) {
        self.count += 1;
        self.first = self.first.or(Some(text));
    }

    fn share(&self, of: usize) -> String {
        format!("{} of {}", format_count(self.count), format_count(of))
    }

    fn example(&self) -> String {
        self.first.map(SampleText::to_string).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn detected(texts: &[&str], currencies: &[&str]) -> Result<&'static str, String> {
        let currencies: Vec<_> = currencies.iter().map(ToString::to_string).collect();
        match detect(&SampleText::rows(texts), &currencies) {
            Ok(Detected { value: Some(DecimalMark::Point), by: DecidedBy::Recognised, .. }) => Ok("point"),
            Ok(Detected { value: Some(DecimalMark::Comma), by: DecidedBy::Recognised, .. }) => Ok("comma"),
            Ok(Detected { value: None, by: DecidedBy::Default, .. }) => Ok("unknown"),
            Ok(other) => panic!("{other:?}"),
            Err(error) => Err(error.to_string()),
        }
    }

    #[test]
    fn a_decimal_mark_is_proven_by_amounts_that_only_it_reads() {
        let cases: [(&[&str], &str); 17] = [
            (&[], "unknown"),
            (&["1", "-20", "x", ""], "unknown"),
            (&["1 234", "5'000", "7"], "unknown"),
            (&["12.50"], "point"),
            (&["12,50", "7"], "comma"),
            (&["12.5", "1.500", "3.000"], "point"),
            (&["3.000", "-19,99"], "comma"),
            (&["1.234,56", "5.000"], "comma"),
            (&["1,234.56", "5,000"], "point"),
            (&["1,234,567", "12,000"], "point"),
            (&["-1.500", "450", "-2.000.000"], "comma"),
            (&["0.500", "1.000"], "point"),
            (&["1234.567"], "point"),
            (&["1 234,50"], "comma"),
            (&["(12,50)", "12,50-", "\u{2212}3,1"], "comma"),
            (&["1.23E7", "3.000"], "point"),
            (&["rubbish", "n/a", "12.50"], "point"),
        ];
        for (texts, expected) in cases {
            assert_eq!(detected(texts, &[]).as_deref(), Ok(expected), "{texts:?}");
        }
        assert_eq!(detected(&["3.000 €", "€ 1,5"], &["€"]).as_deref(), Ok("comma"));
    }

    #[test]
    fn an_ambiguous_amount_is_rejected_with_both_readings() {
        let shown = detected(&["450", "-3.000", "-1.250"], &[]).unwrap_err();
        let expected = "amounts such as `-N.NNN` in row 2 are ambiguous: `-N` if the decimal mark is a point, or `-NNNN` if it is a comma";
        assert!(
            shown.starts_with(expected) && shown.ends_with("set DECIMAL_MARK=point or DECIMAL_MARK=comma"),
            "{shown}"
        );
        for texts in [&["1,500"][..], &["12,000", "75"], &["$3.000"]] {
            let shown = detected(texts, &["$"]).unwrap_err();
            assert!(shown.contains("are ambiguous"), "{shown}");
        }
    }

    #[test]
    fn a_slip_decides_nothing() {
        for (proofs, expected) in [(1, Err(())), (2, Err(())), (3, Ok("comma"))] {
            let mut texts = vec!["3.000"; 2_000];
            texts.extend(vec!["12,50"; proofs]);
            assert_eq!(detected(&texts, &[]).map_err(|_| ()), expected, "{proofs}");
        }
        let mut texts = vec!["300"; 2_000];
        texts.push("12,50");
        assert_eq!(detected(&texts, &[]).as_deref(), Ok("comma"), "amounts without a mark weigh nothing");
        texts.push("9.25");
        assert!(detected(&texts, &[]).unwrap_err().contains("two decimal marks"));
    }

    #[test]
    fn two_decimal_marks_are_rejected_unless_one_is_a_slip() {
        let shown = detected(&["1,50", "2,50", "9.50"], &[]).unwrap_err();
        assert_eq!(
            shown,
            "amounts have two decimal marks: 1 of 3 as `N.NN` in row 3, and 2 of 3 as `N,NN` in row 1; set DECIMAL_MARK to the right one; amounts with the other are rejected"
        );
        for (slips, expected) in [(1, Ok("comma")), (2, Err(()))] {
            let mut texts = vec!["1,50"; 1_000];
            texts[10..10 + slips].fill("2.25");
            assert_eq!(detected(&texts, &[]).map_err(|_| ()), expected, "{slips}");
        }
    }
}
