//! Any bytes, in any dialect and with rows of any length: each row is read once and in place, however its bytes arrive
//! and wherever a reader begins, and the bytes held are bounded.

use assay_transaction::{Columns, DecimalMark, Dialect, Encoding, Rules, RunSettings};
use proptest::test_runner::FileFailurePersistence;

use super::*;
use crate::decode::csv::testing::any_pieces;

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 4096,
        failure_persistence: Some(Box::new(FileFailurePersistence::WithSource("regressions"))),
        ..ProptestConfig::default()
    })]

    #[test]
    fn any_bytes_are_rows(
        bytes in any_pieces(),
        delimiter in prop::sample::select(&Delimiter::ALL[..]),
        reach in 1_usize..80,
        sizes in prop::collection::vec(0_usize..9, 0..5),
        batch in 1_usize..5,
    ) {
        expect_rows_in_place(&bytes, &sizes, batch, &|bytes, from, sizes, batch| {
            rest(bytes, delimiter, from, reach, sizes, batch)
        });
    }

    /// A row is a transaction, or is rejected with a readable reason.
    #[test]
    fn any_row_is_judged(bytes in any_pieces(), delimiter in prop::sample::select(&Delimiter::ALL[..]), windows: bool) {
        let encoding = if windows { Encoding::WINDOWS_1252 } else { Encoding::UTF_8 };
        let dialect = Dialect { delimiter, decimal_mark: DecimalMark::Comma, encoding };
        let settings = RunSettings { dialect, ..RunSettings::example() };
        let rules = Rules::new(Columns::from_names(settings.header.clone(), None).unwrap(), &settings);
        let good = ["1", "Card", "1", "2026-01-01 10:00:00", "x", "debit"];
        for row in rest(&bytes, delimiter, Position::START, QUOTE_REACH, &[], 100) {
            // Also each field among valid ones, so that every rule sees it.
            let fields: Vec<&[u8]> = row.fields.iter().map(Vec::as_slice).collect();
            let among_good = fields.iter().flat_map(|field| {
                (0..good.len()).map(move |at| (0..good.len()).map(|i| if i == at { *field } else { good[i].as_bytes() }).collect())
            });
            for fields in std::iter::once(fields.clone()).chain(among_good) {
                let fields: Vec<&[u8]> = fields;
                match rules.check(row.number, &fields[..], row.raw_bytes) {
                    Ok(valid) => prop_assert!(!valid.transaction.description.contains('\0')),
                    Err(rejection) => {
                        prop_assert!(RejectReason::ALL.contains(&rejection.reason));
                        prop_assert!((1..400).contains(&rejection.message.len()), "{}", rejection.message);
                    }
                }
            }
        }
    }
}
