//! Any bytes, in any dialect and with rows of any length: each row is read once and in place, however its bytes arrive
//! and wherever a reader begins, and the bytes held are bounded.

use proptest::test_runner::FileFailurePersistence;

use super::*;
use crate::decode::csv::testing::any_pieces;

fn any_text() -> impl Strategy<Value = CsvSyntax> {
    (any::<bool>(), any::<bool>(), any::<bool>()).prop_map(|(escapes, fill_short_rows, trailing_delimiter)| CsvSyntax {
        escape: escapes.then_some('\\'),
        fill_short_rows,
        trailing_delimiter,
        ..CsvSyntax::default()
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
        expect_rows_in_place(&bytes, &sizes, batch, &|bytes, from, sizes, batch| layout.rest(bytes, from, sizes, batch));
    }
}
