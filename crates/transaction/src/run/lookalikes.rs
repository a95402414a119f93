//! Counts ids that differ only in letter case or Unicode composition.
//!
//! They stay different ids: `AB1` and `ab1` may be two transactions, or one that two systems write differently, and
//! merging the former would lose one. So they are counted, and the count is reported.
//!
//! Guarantee: memory is bounded. Ids that cannot have such siblings (digits, UUIDs) take none.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use unicode_normalization::UnicodeNormalization as _;

/// Most ids to remember: some 20 MB.
const MOST: usize = 500_000;
/// Most characters of an id that are compared.
const MAX_LENGTH: usize = 1_000;

/// Counts rows whose id differs from an earlier row's only in case or composition.
#[derive(Debug)]
pub struct SimilarIds {
    /// Hashes of first ids, by the hash of their folded form.
    first: HashMap<u64, u64>,
    most: usize,
    count: SimilarIdCount,
}

/// The number of rows with such ids.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SimilarIdCount {
    /// The rows, without the first of each group.
    pub rows: u64,
    /// The first of these rows.
    pub first_row: Option<u64>,
    /// Whether there may be more, as the source has more ids than are remembered.
    pub may_be_more: bool,
}

impl Default for SimilarIds {
    fn default() -> Self {
        Self::up_to(MOST)
    }
}

impl SimilarIds {
    fn up_to(most: usize) -> Self {
        Self { first: HashMap::new(), most, count: SimilarIdCount::default() }
    }

    /// Adds the id of the next row, as its source writes it.
    pub fn add(&mut self, row: u64, id: &str) {
        let Some(folded) = folded(id) else { return };
        let own = hash(id);
        let is_full = self.first.len() >= self.most;
        match self.first.get(&folded) {
            Some(first) if *first != own => {
                self.count.rows += 1;
                self.count.first_row.get_or_insert(row);
            }
            Some(_) => {}
            None if is_full => self.count.may_be_more = true,
            None => drop(self.first.insert(folded, own)),
        }
    }

    /// The count so far.
    pub fn count(&self) -> SimilarIdCount {
        self.count
    }
}

/// The hash of an id without case and composition; none if it cannot have siblings.
fn folded(id: &str) -> Option<u64> {
    let start = || id.chars().take(MAX_LENGTH);
    if id.is_ascii() {
        let has_letters = id.bytes().any(|byte| byte.is_ascii_alphabetic());
        return has_letters.then(|| hash(&start().map(|letter| letter.to_ascii_lowercase()).collect::<String>()));
    }
    // Lower case may compose differently than upper case.
    let lower: String = start().nfd().flat_map(char::to_lowercase).collect();
    Some(hash(&lower.nfd().collect::<String>()))
}

fn hash(text: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    text.hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn counted(ids: &[&str]) -> u64 {
        let mut lookalikes = SimilarIds::default();
        (1..).zip(ids).for_each(|(row, id)| lookalikes.add(row, id));
        lookalikes.count().rows
    }

    #[test]
    fn siblings_are_counted_and_equals_are_not() {
        let cases: [(&[&str], u64); 9] = [
            (&["AB1", "ab1"], 1),
            (&["AB1", "AB1"], 0),
            (&["AB1", "ab1", "Ab1", "AB1"], 2),
            (&["é1", "e\u{301}1"], 1),
            (&["É1", "e\u{301}1"], 1),
            (&["K1", "\u{212a}1"], 1),
            (&["1", "01", "1"], 0),
            (&["ab1", "ab2"], 0),
            (&["\u{1e69}", "s\u{307}\u{323}", "s\u{323}\u{307}"], 2),
        ];
        for (ids, expected) in cases {
            assert_eq!(counted(ids), expected, "{ids:?}");
        }
    }

    #[test]
    fn the_first_row_is_named() {
        let mut lookalikes = SimilarIds::default();
        for (row, id) in [(1, "a"), (2, "b"), (3, "B"), (4, "A")] {
            lookalikes.add(row, id);
        }
        assert_eq!(lookalikes.count(), SimilarIdCount { rows: 2, first_row: Some(3), may_be_more: false });
    }

    #[test]
    fn beyond_the_limit_the_count_is_a_minimum() {
        let mut lookalikes = SimilarIds::up_to(2);
        for (row, id) in [(1, "a"), (2, "b"), (3, "7"), (4, "A")] {
            lookalikes.add(row, id);
        }
        assert!(!lookalikes.count().may_be_more, "digits take no memory");
        lookalikes.add(5, "c");
        lookalikes.add(6, "C");
        assert_eq!(lookalikes.count(), SimilarIdCount { rows: 1, first_row: Some(4), may_be_more: true });
    }

    proptest! {
        #[test]
        fn an_id_is_never_its_own_sibling(ids in prop::collection::vec(".{0,20}", 0..20)) {
            let twice: Vec<&str> = ids.iter().flat_map(|id| [id.as_str(), id.as_str()]).collect();
            let once: Vec<&str> = ids.iter().map(String::as_str).collect();
            prop_assert_eq!(counted(&twice) % 2, 0);
            prop_assert_eq!(counted(&twice), 2 * counted(&once));
        }

        #[test]
        fn every_form_of_an_id_is_a_sibling(id in "\\PC{0,20}") {
            let (composed, decomposed) = (id.nfc().collect::<String>(), id.nfd().collect::<String>());
            prop_assert_eq!(counted(&[&composed, &decomposed]), u64::from(composed != decomposed));
        }
    }
}
