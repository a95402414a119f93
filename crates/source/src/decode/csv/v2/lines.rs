//! What the physical lines of a row say of it when the row goes over several.

use crate::decode::buffer::is_line_end;

/// From how many columns on lines are counted: text may well hold a delimiter on each of its lines.
const FEWEST_COLUMNS: usize = 3;

/// Whether the first and the last physical line would each be a row of the header's by itself, if the quotes were no more than
/// characters. Two quotes that do not belong together then have met: what is between them is rows, and whatever else the source has
/// between those, and no text of a field.
pub(super) fn are_rows(row: &[u8], delimiter: u8, columns: usize, with_trailing: bool) -> bool {
    let is_row = |line: &[u8]| {
        let fields = memchr::memchr_iter(delimiter, line).count() + 1;
        fields == columns || with_trailing && fields == columns + 1 && line.ends_with(&[delimiter])
    };
    let mut lines = row.split(|byte| is_line_end(*byte)).filter(|line| !line.is_empty());
    columns >= FEWEST_COLUMNS && lines.next().is_some_and(is_row) && lines.next_back().is_some_and(is_row)
}

#[cfg(test)]
mod tests {
    use super::are_rows;

    #[test]
    fn lines_are_rows_where_the_outer_ones_have_as_many_fields() {
        for (row, with_trailing, expected) in [
            ("5;\"CAFE;1\r\n6;TV 42\";2", false, true),
            ("5;\"CAFE;1\n\n7;x;1\n6;TV 42\";2", false, true),
            ("5;\"CAFE;1\nSubtotal\n7;x;1;;\n6;TV 42\";2", false, true),
            ("5;\"two\nlines; one\";2", false, false),
            ("5;\"two;1\nlines\";2", false, false),
            ("5;\"two\n6;7;8\nlines\";2", false, false),
            ("5;6;\"two\nlines\"", false, false),
            ("5;\"CAFE;1;\n6;TV 42\";2;", true, true),
            ("5;\"CAFE;1;\n6;TV 42\";2;", false, false),
        ] {
            assert_eq!(are_rows(row.as_bytes(), b';', 3, with_trailing), expected, "{row:?}");
        }
        assert!(!are_rows(b"5;\"Dear\nJohn; hi\"", b';', 2, false));
    }
}
