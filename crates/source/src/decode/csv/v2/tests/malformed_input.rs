//! Any bytes, in any dialect and with rows of any length: each row is read once and in place, however its bytes arrive
//! and wherever a reader begins, and the bytes held are bounded.

use proptest::test_runner::FileFailurePersistence;

use super::*;
use crate::decode::csv::testing::any_pieces;

fn any_text() -> impl Strategy<Value = CsvText> {
    (any::<bool>(), any::<bool>(), any::<bool>()).prop_map(|(escapes, fill_short_rows, trailing_delimiter)| CsvText {
        escape: escapes.then_some('\\'),
        fill_short_rows,
        trailing_delimiter,
        ..CsvText::default()
    })
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 1024,
        failure_persistence: Some(Box::new(FileFailurePersistence::WithSource("regressions"))),
        ..ProptestConfig::default()
    })]

    #[test]
    fn any_bytes_are_rows(
        bytes in any_pieces(),
        delimiter in prop::sample::select(&[Delimiter::Comma, Delimiter::Semicolon, Delimiter::Tab, Delimiter::Other(1)][..]),
        columns in prop::option::of(1_usize..6),
        csv in any_text(),
        reach in 1_usize..80,
        sizes in prop::collection::vec(0_usize..9, 0..5),
        batch in 1_usize..5,
    ) {
        let layout = TestLayout { delimiter, columns, csv, encoding: Encoding::UTF_8, reach };
        let rows = layout.rest(&bytes, Position::START, &[], 1000);
        let numbers: Vec<u64> = rows.iter().map(|row| row.number).collect();
        prop_assert_eq!(numbers, (1..=rows.len() as u64).collect::<Vec<_>>());
        prop_assert_eq!(&layout.rest(&bytes, Position::START, &sizes, batch), &rows);
        prop_assert_eq!(&layout.rest(&bytes, Position::START, &[1], 1), &rows);

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
            let resumed = layout.rest(&bytes, row.end, &sizes, batch);
            prop_assert_eq!(&resumed[..], &rows[index + 1..], "from row {} on", row.number + 1);
        }
        prop_assert!(bytes[at..].iter().all(is_end), "no byte is lost at the end");
    }
}
