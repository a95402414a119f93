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
        let rows = block_on(rest(&bytes, delimiter, Position::START, reach, &[], 1000));
        let numbers: Vec<u64> = rows.iter().map(|row| row.number).collect();
        prop_assert_eq!(numbers, (1..=rows.len() as u64).collect::<Vec<_>>());
        prop_assert_eq!(&block_on(rest(&bytes, delimiter, Position::START, reach, &sizes, batch)), &rows);
        prop_assert_eq!(&block_on(rest(&bytes, delimiter, Position::START, reach, &[1], 1)), &rows);

        let is_end = |byte: &u8| matches!(byte, b'\r' | b'\n');
        let (mut at, mut line) = (0, 1);
        for (index, row) in rows.iter().enumerate() {
            let end = usize::try_from(row.end.offset).unwrap();
            let span = &bytes[at..end];
            let blank = span.iter().take_while(|byte| is_end(byte)).count();
            prop_assert_eq!(&span[blank..blank + row.raw_bytes], &row.raw[..], "a row's own bytes");
            prop_assert!(span[blank + row.raw_bytes..].iter().all(is_end));
            prop_assert!(row.line >= line && row.end.line >= row.line);
            prop_assert_eq!(row.malformed.is_none(), !row.fields.is_empty());
            (at, line) = (end, row.end.line);
            let resumed = block_on(rest(&bytes, delimiter, after(row), reach, &sizes, batch));
            prop_assert_eq!(&resumed[..], &rows[index + 1..], "from row {} on", row.number + 1);
        }
        prop_assert!(bytes[at..].iter().all(is_end), "no byte is lost at the end");
    }

    /// A row is a transaction, or is rejected with a readable reason.
    #[test]
    fn any_row_is_judged(bytes in any_pieces(), delimiter in prop::sample::select(&Delimiter::ALL[..]), windows: bool) {
        let encoding = if windows { Encoding::WINDOWS_1252 } else { Encoding::UTF_8 };
        let dialect = Dialect { delimiter, decimal_mark: DecimalMark::Comma, encoding };
        let settings = RunSettings { dialect, ..RunSettings::example() };
        let rules = Rules::new(Columns::from_names(settings.header.clone(), None).unwrap(), &settings);
        let good = ["1", "Card", "1", "2026-01-01 10:00:00", "x", "debit"];
        for row in block_on(rest(&bytes, delimiter, Position::START, QUOTE_REACH, &[], 100)) {
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
