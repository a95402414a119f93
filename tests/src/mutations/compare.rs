//! What a mutation may cost: the rows that have a mutated line, and no other.
//!
//! A row may be missing for one reason alone: the mutation has made a well-formed row of several lines that holds its lines and
//! one of the mutated row's. Whether it is well-formed is decided here, by a plain reading of the rules, and not by the reader
//! that is tested: every quote opens behind a delimiter or at the start of the line, and closes before a delimiter or the end of the
//! row, blanks aside; a quote within is doubled, or escaped; and the row has as many fields as the header has names.

use std::collections::HashMap;

use super::files::File;
use super::mutate::Difference;
use super::reading::Row;

/// What a mutation came to.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Compared {
    /// Lines that the mutation does not touch.
    pub(super) untouched: u64,
    /// Rows that a well-formed row of several lines has swallowed.
    pub(super) swallowed: u64,
    /// Untouched rows that did not end as before: what they were.
    pub(super) wrong: Vec<String>,
}

/// Compares what became of the rows of a file before and after a mutation.
pub(super) fn compare(
    file: &File,
    original: &[Row],
    mutated: &[Row],
    lines: &[&[u8]],
    touched: Difference,
) -> Compared {
    let is_touched = |row: &Row| row.first < touched.end.max(touched.first + 1) && row.last >= touched.first;
    // A line that was only inserted is in no row of the original, unless a row continues after it.
    let is_inserted = touched.first == touched.end;
    let is_hit = |row: &Row| {
        if is_inserted { row.first < touched.first && row.last >= touched.first } else { is_touched(row) }
    };
    // All lines of the rows that the mutation is in, as they stand in the mutated file.
    let hit = original.iter().filter(|row| is_hit(row));
    let (first, last) = hit.fold((touched.first, touched.mutated_end), |(first, last), row| {
        let end = if row.last == u64::MAX { u64::MAX } else { touched.map(row.last.max(touched.first)) };
        (first.min(row.first), last.max(end))
    });
    let mut there: HashMap<&str, u64> = HashMap::new();
    for row in mutated {
        *there.entry(&row.outcome).or_default() += 1;
    }
    let mut compared = Compared::default();
    for row in original.iter().filter(|row| !is_hit(row)) {
        compared.untouched += row.last.min(lines.len() as u64 + 1).saturating_sub(row.first) + 1;
        if let Some(left) = there.get_mut(row.outcome.as_str()).filter(|left| **left > 0) {
            *left -= 1;
            continue;
        }
        let from = touched.map(row.first);
        let to = if row.last == u64::MAX { from } else { touched.map(row.last) };
        let swallows = |other: &&Row| other.first <= from && other.last >= to && other.last > other.first;
        let is_fair = |other: &Row| {
            let holds_hit = other.first <= last && other.last >= first;
            holds_hit && is_well_formed(file, &text(lines, other))
        };
        if mutated.iter().find(swallows).is_some_and(is_fair) {
            compared.swallowed += 1;
        } else {
            compared.wrong.push(row.outcome.clone());
        }
    }
    compared
}

/// The bytes of a row, without its line end.
fn text(lines: &[&[u8]], row: &Row) -> Vec<u8> {
    let from = usize::try_from(row.first - 1).unwrap_or(usize::MAX).min(lines.len());
    let to = usize::try_from(row.last).unwrap_or(usize::MAX).min(lines.len());
    let mut text = lines[from..to.max(from)].concat();
    while text.last().is_some_and(|byte| matches!(byte, b'\n' | b'\r')) {
        text.pop();
    }
    text
}

/// Whether a row's quotes are all where they may be, and its fields as many as the header's.
fn is_well_formed(file: &File, row: &[u8]) -> bool {
    let (mut rest, mut fields) = (row, 0);
    loop {
        fields += 1;
        let (field_is_good, behind) = field(file, rest);
        let is_empty = rest.first() == Some(&file.delimiter) || rest.is_empty();
        match (field_is_good, behind) {
            (false, _) => return false,
            (true, Some(behind)) => rest = behind,
            // A delimiter too many at the end is no field.
            (true, None) => return fields == file.columns || fields == file.columns + 1 && is_empty,
        }
    }
}

/// Whether a field is well-formed, and what is behind its delimiter.
fn field<'a>(file: &File, text: &'a [u8]) -> (bool, Option<&'a [u8]>) {
    let is_blank = |byte: &u8| *byte == b' ' || *byte == b'\t' && file.delimiter != b'\t';
    let blanks = text.iter().take_while(|byte| is_blank(byte)).count();
    let mut at = blanks;
    let escapes = |byte: u8| file.escape == Some(byte);
    if text.get(at) != Some(&b'"') {
        while let Some(byte) = text.get(at) {
            match *byte {
                byte if escapes(byte) => at += 1,
                byte if byte == file.delimiter => return (true, Some(&text[at + 1..])),
                b'\n' | b'\r' => return (false, None),
                _ => {}
            }
            at += 1;
        }
        return (true, None);
    }
    at += 1;
    loop {
        match (text.get(at), text.get(at + 1)) {
            (None, _) => return (false, None),
            (Some(byte), _) if escapes(*byte) => at += 2,
            (Some(b'"'), Some(b'"')) => at += 2,
            (Some(b'"'), _) => break,
            _ => at += 1,
        }
    }
    at += 1;
    at += text[at..].iter().take_while(|byte| is_blank(byte)).count();
    match text.get(at) {
        None => (true, None),
        Some(byte) if *byte == file.delimiter => (true, Some(&text[at + 1..])),
        Some(_) => (false, None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mutations::mutate::lines;

    fn file() -> File {
        let (bytes, flags) = (Vec::new(), Vec::new());
        File { bytes, data: 0, is_json: false, delimiter: b',', escape: None, columns: 3, flags }
    }

    #[test]
    fn a_row_is_well_formed_by_the_rules_alone() {
        let good =
            ["a,b,c", "a,\"b\nc\",d", "a, \"b\n\"\"c\"\"\" ,d", "\"a\n\",b,", "a,\"x\ny\",c,", "a\",\"b\n\",c\"d"];
        for row in good {
            assert!(is_well_formed(&file(), row.as_bytes()), "{row:?}");
        }
        let bad = ["a,b", "a,\"b\nc\"d,e", "a,\"b\nc,d", "a,\"b\nc\",d,e,f", "a\nb,c,d", "a,\"x\ny\",c,d"];
        for row in bad {
            assert!(!is_well_formed(&file(), row.as_bytes()), "{row:?}");
        }
        let escaping = File { escape: Some(b'\\'), ..file() };
        assert!(is_well_formed(&escaping, b"a,\"b\\\"\nc\",d"));
        assert!(!is_well_formed(&file(), b"a,\"b\\\"\nc\",d"));
    }

    fn rows(rows: &[(u64, u64, &str)]) -> Vec<Row> {
        rows.iter()
            .map(|(first, last, outcome)| Row { first: *first, last: *last, outcome: (*outcome).into() })
            .collect()
    }

    #[test]
    fn only_a_well_formed_row_may_swallow_others() {
        // A quote at the start of a value, and another one at the end of a value two lines on.
        let (before, fair) = ("a,b,1\na,c,2\na,d\",3\n", "a,\"b,1\na,c,2\na,d\",3\n");
        let original = rows(&[(1, 1, "1"), (2, 2, "2"), (3, 3, "3")]);
        let (before, after) = (lines(before.as_bytes(), false), lines(fair.as_bytes(), false));
        let touched = Difference::of(&before, &after);
        let swallowed = rows(&[(1, 3, "all")]);
        let compared = compare(&file(), &original, &swallowed, &after, touched);
        assert_eq!((compared.swallowed, compared.wrong.len(), compared.untouched), (2, 0, 2));
        // The same outcome of a row that is not well-formed is wrong.
        let unfair = lines(b"a,\"b,1\na,c,2\na,d\"x,3\n", false);
        assert_eq!(compare(&file(), &original, &swallowed, &unfair, touched).wrong, ["2", "3"]);
        // So is a row that is simply gone, or has other content.
        let other = rows(&[(1, 1, "x"), (2, 2, "2"), (3, 3, "4")]);
        assert_eq!(compare(&file(), &original, &other, &after, touched).wrong, ["3"]);
        let good = rows(&[(1, 1, "x"), (2, 2, "2"), (3, 3, "3")]);
        assert_eq!(
            compare(&file(), &original, &good, &after, touched),
            Compared { untouched: 2, ..Compared::default() }
        );
    }
}
