//! One mutation of a file's rows: a byte is lost, doubled, inserted or replaced.

use assay_testkit::Dice;

use super::files::File;

/// What was done to a file.
#[derive(Debug)]
pub(super) struct Mutation {
    at: usize,
    removed: usize,
    inserted: Vec<u8>,
}

/// Throws a mutation of one of the bytes behind the header.
pub(super) fn throw(dice: &mut Dice, file: &File) -> Mutation {
    let at = dice.between(file.data, file.bytes.len() - 1);
    let byte = file.bytes[at];
    let (removed, inserted) = match dice.below(8) {
        0 => (1, Vec::new()),
        1 => (0, vec![byte]),
        2 => (0, vec![b'"']),
        3 => (0, vec![file.delimiter]),
        4 => (0, dice.pick(&["\n", "\r\n", "\r"]).as_bytes().to_vec()),
        5 => (0, vec![b'\\']),
        6 => (1, vec![dice.pick(b"\"',;\t|\\ \n\r0aZ{}[]:")]),
        _ => (1, vec![u8::try_from(dice.below(256)).expect("less than 256")]),
    };
    Mutation { at, removed, inserted }
}

impl Mutation {
    /// The file with it.
    pub(super) fn apply(&self, bytes: &[u8]) -> Vec<u8> {
        let Self { at, removed, inserted } = self;
        [&bytes[..*at], inserted, &bytes[at + removed..]].concat()
    }
}

/// The physical lines of a file, each with its end. CSV has lines that end with `\r` alone as well.
pub(super) fn lines(bytes: &[u8], is_json: bool) -> Vec<&[u8]> {
    let (mut lines, mut start) = (Vec::new(), 0);
    for (at, byte) in bytes.iter().enumerate() {
        let is_end = *byte == b'\n' || *byte == b'\r' && !is_json && bytes.get(at + 1) != Some(&b'\n');
        if is_end {
            lines.push(&bytes[start..=at]);
            start = at + 1;
        }
    }
    if start < bytes.len() {
        lines.push(&bytes[start..]);
    }
    lines
}

/// Which lines of two files differ: those from `first` on, before so many of each that are the same again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Difference {
    /// Counted from 1, as lines are.
    pub(super) first: u64,
    /// The first line of the original that is the same again.
    pub(super) end: u64,
    /// The same line in the mutated file.
    pub(super) mutated_end: u64,
}

impl Difference {
    pub(super) fn of(original: &[&[u8]], mutated: &[&[u8]]) -> Self {
        let shorter = original.len().min(mutated.len());
        let same = |(one, other): &(&&[u8], &&[u8])| one == other;
        let before = original.iter().zip(mutated).take_while(same).count();
        let behind = original.iter().rev().zip(mutated.iter().rev()).take(shorter - before).take_while(same).count();
        let number = |lines: usize| lines as u64 + 1;
        Self {
            first: number(before),
            end: number(original.len() - behind),
            mutated_end: number(mutated.len() - behind),
        }
    }

    /// Where an untouched line of the original is in the mutated file.
    pub(super) fn map(self, line: u64) -> u64 {
        if line < self.first { line } else { line + self.mutated_end - self.end }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mutation_changes_one_place() {
        let mutation =
            |removed, inserted: &[u8]| Mutation { at: 2, removed, inserted: inserted.to_vec() }.apply(b"abcd");
        assert_eq!(mutation(1, b""), b"abd");
        assert_eq!(mutation(0, b"x"), b"abxcd");
        assert_eq!(mutation(1, b"x"), b"abxd");
    }

    #[test]
    fn lines_end_as_the_reader_ends_them() {
        assert_eq!(lines(b"a\r\nb\rc\n\nd", false), [&b"a\r\n"[..], b"b\r", b"c\n", b"\n", b"d"]);
        assert_eq!(lines(b"a\r\nb\rc\n", true), [&b"a\r\n"[..], b"b\rc\n"]);
    }

    #[test]
    fn the_lines_that_differ_are_found() {
        let cases: [(&str, &str, (u64, u64, u64)); 5] = [
            ("a\nb\nc\n", "a\nx\nc\n", (2, 3, 3)),
            ("a\nb\nc\n", "a\nbc\n", (2, 4, 3)),
            ("a\nb\nc\n", "a\nb\nc", (3, 4, 4)),
            ("a\nb\nc\n", "a\n\nb\nc\n", (2, 2, 3)),
            ("a\na\na\n", "a\na\n", (3, 4, 3)),
        ];
        for (original, mutated, (first, end, mutated_end)) in cases {
            let found = Difference::of(&lines(original.as_bytes(), false), &lines(mutated.as_bytes(), false));
            assert_eq!(found, Difference { first, end, mutated_end }, "{original:?} {mutated:?}");
        }
    }
}
