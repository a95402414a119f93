//! Counts rows with the same id columns, so that each gets an id of its own.
//!
//! A bank's export often has no ids, and two equal rows may be two payments. The n-th of them is the n-th in every export that
//! starts before them, so its id stays the same in a longer export of the same account. Rows are counted by their id columns,
//! whether valid or not: the count depends only on the file, and no other rule, setting or version gives a row another row's id.

use std::collections::HashMap;

use uuid::Uuid;

use crate::{FieldAccess, Rules};

/// Most distinct rows: some 180 MB.
const MOST: usize = 4_000_000;

/// A source has more distinct rows than can be counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "the mapping builds ids from columns, which takes memory for each distinct row, and the source has more than {0} of them: split it"
)]
pub struct TooManyRows(usize);

/// Counts the rows of a source by their id columns, from the first row on.
#[derive(Debug)]
pub struct IdOccurrences {
    seen: HashMap<Uuid, u32>,
    most: usize,
}

impl Default for IdOccurrences {
    fn default() -> Self {
        Self { seen: HashMap::new(), most: MOST }
    }
}

impl IdOccurrences {
    /// Counts the next row and returns its number among rows with the same id, from 1. Without such ids it is always 1.
    pub fn nth(
        &mut self,
        rules: &Rules,
        number: u64,
        fields: &(impl FieldAccess + ?Sized),
    ) -> Result<u64, TooManyRows> {
        let Some(id) = rules.counted_id(number, fields) else { return Ok(1) };
        if self.seen.len() == self.most && !self.seen.contains_key(&id) {
            return Err(TooManyRows(self.most));
        }
        let count = self.seen.entry(id).or_default();
        *count = count.saturating_add(1);
        Ok((*count).into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Columns, Namespace, RunSettings};

    const MAPPING: &str = r#"{"namespace":"account-1","id":{"columns":["Day","Payee"]},"description":"Payee","timestamp":"Day","amount":"Amt","operation_type":{"constant":"bank"},"side":{"from_sign":{"negative":"debit","positive":"credit"}}}"#;

    fn rules() -> Rules {
        let names = ["Day", "Payee", "Amt"].map(str::to_owned).to_vec();
        let columns = Columns::from_names(names, Some(&serde_json::from_str(MAPPING).unwrap())).unwrap();
        Rules::new(columns, &RunSettings { namespace: Namespace::new("account-1"), ..RunSettings::example() })
    }

    /// The ids of a file's rows; none for rejected rows.
    fn ids(rows: &[&str]) -> Vec<Option<String>> {
        let (rules, mut occurrences) = (rules(), IdOccurrences::default());
        let id = |(number, row): (u64, &&str)| {
            let fields: Vec<&[u8]> = row.split(',').map(str::as_bytes).collect();
            let nth = occurrences.nth(&rules, number, &fields[..]).unwrap();
            rules.check_nth(number, nth, &fields[..], row.len()).ok()?.external_id
        };
        (1..).zip(rows).map(id).collect()
    }

    #[test]
    fn equal_rows_are_distinguished_by_a_count() {
        let day = "2024-03-15 00:00:00";
        let row = |payee: &str, amount: &str| format!("{day},{payee},{amount}");
        let rows = [
            row("A", "1"),
            row(" A ", "2"),
            row("A|2", "3"),
            row("A\\", "4"),
            row("a", "5"),
            row("A", "x"),
            row("A", "6"),
            format!("{day},A"),
            " , ,1".to_owned(),
        ];
        let rows: Vec<&str> = rows.iter().map(String::as_str).collect();
        let expected = ["A", "A|2", "A\\|2", "A\\\\", "a", "", "A|4", "", ""];
        let expected: Vec<Option<String>> =
            expected.iter().map(|id| (!id.is_empty()).then(|| format!("{day}|{id}"))).collect();
        assert_eq!(ids(&rows), expected);
    }

    #[test]
    fn a_longer_export_keeps_ids_and_adds_new_ones() {
        let first = ["2024-03-15 00:00:00,A,1", "2024-03-15 00:00:00,A,1", "2024-03-16 00:00:00,B,2"];
        let longer = [&first[..], &["2024-03-16 00:00:00,B,2", "2024-03-17 00:00:00,A,1"]].concat();
        let (first, longer) = (ids(&first), ids(&longer));
        assert_eq!(longer[..3], first);
        let different: std::collections::BTreeSet<_> = longer.iter().collect();
        assert_eq!(different.len(), 5);
    }

    #[test]
    fn memory_is_bounded() {
        let (rules, mut occurrences) = (rules(), IdOccurrences { most: 2, ..IdOccurrences::default() });
        let mut nth = |payee: &str| {
            let fields = [b"2024-03-15 00:00:00".as_slice(), payee.as_bytes(), b"1"];
            occurrences.nth(&rules, 1, &fields[..])
        };
        assert_eq!(["A", "B", "A", "B"].map(&mut nth), [Ok(1), Ok(1), Ok(2), Ok(2)]);
        assert_eq!(nth("C"), Err(TooManyRows(2)));
    }
}
