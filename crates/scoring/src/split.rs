//! Which rows go into a request together: at first, and after the API failed on them.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::row::PendingRow;

/// Rows that are asked for in one request; never none, and no id twice.
#[derive(Debug)]
pub(crate) struct RowGroup {
    pub(crate) rows: Vec<PendingRow>,
    /// Whether it is half of one that the API failed on. Such a part is not repeated but halved further, as its halves are
    /// a repetition too; only a row that stands alone is.
    pub(crate) is_half: bool,
}

impl RowGroup {
    /// Whether a single row is left, so that the API's verdict is about that row.
    pub(crate) fn is_single(&self) -> bool {
        self.rows.len() == 1
    }

    /// Both halves. With `n` rows, halving again and again reaches every single row in `ceil(log2 n)` steps.
    pub(crate) fn halve(mut self) -> [Self; 2] {
        let upper = self.rows.split_off(self.rows.len() / 2);
        [Self { rows: self.rows, is_half: true }, Self { rows: upper, is_half: true }]
    }
}

/// How large the bodies of requests may be, for all requests of a process. Begins without a bound, and falls with every
/// request that is too large.
#[derive(Debug)]
pub(crate) struct SizeLimit(AtomicUsize);

impl SizeLimit {
    pub(crate) fn none() -> Self {
        Self(AtomicUsize::new(usize::MAX))
    }

    /// Half of what was too large is tried next. Tells whether that is news.
    pub(crate) fn lower_below(&self, too_large: usize) -> Option<usize> {
        let limit = (too_large / 2).max(1);
        (self.0.fetch_min(limit, Ordering::Relaxed) > limit).then_some(limit)
    }

    fn get(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

/// Parts the rows so that each id is in a request once, and each body is within the limit. A row that is larger than the
/// limit goes alone.
pub(crate) fn part(rows: Vec<PendingRow>, limit: &SizeLimit) -> Vec<RowGroup> {
    let limit = limit.get();
    let mut seen: HashMap<_, usize> = HashMap::with_capacity(rows.len());
    let mut rounds: Vec<Vec<PendingRow>> = Vec::new();
    for row in rows {
        let before = seen.entry(row.id).or_default();
        if *before == rounds.len() {
            rounds.push(Vec::new());
        }
        rounds[*before].push(row);
        *before += 1;
    }
    rounds.into_iter().flat_map(|round| within(round, limit)).map(|rows| RowGroup { rows, is_half: false }).collect()
}

fn within(rows: Vec<PendingRow>, limit: usize) -> Vec<Vec<PendingRow>> {
    let mut parts: Vec<Vec<PendingRow>> = Vec::new();
    let mut size = 0;
    for row in rows {
        let more = row.entry.transaction.as_json().len() + 1;
        match parts.last_mut() {
            Some(part) if size + more < limit => {
                size += more;
                part.push(row);
            }
            _ => {
                size = more;
                parts.push(vec![row]);
            }
        }
    }
    parts
}

#[cfg(test)]
mod tests {
    use assay_transaction::Entry;
    use proptest::prelude::*;
    use uuid::Uuid;

    use super::*;

    fn rows(ids: &[u128]) -> Vec<PendingRow> {
        let row = |(position, id): (usize, &u128)| {
            let id = Uuid::from_u128(*id);
            let transaction = serde_json::from_str(&format!(r#"{{"id":"{id}"}}"#)).unwrap();
            PendingRow { position, id, entry: Entry { row: 1, external_id: None, transaction }, attempts: 0 }
        };
        ids.iter().enumerate().map(row).collect()
    }

    fn positions(parts: &[RowGroup]) -> Vec<Vec<usize>> {
        parts.iter().map(|part| part.rows.iter().map(|row| row.position).collect()).collect()
    }

    #[test]
    fn an_id_is_in_a_request_once() {
        let none = SizeLimit::none();
        let cases: [(&[u128], &[&[usize]]); 4] = [
            (&[], &[]),
            (&[1, 2, 3], &[&[0, 1, 2]]),
            (&[1, 2, 1, 3, 2], &[&[0, 1, 3], &[2, 4]]),
            (&[1, 1, 1], &[&[0], &[1], &[2]]),
        ];
        for (ids, expected) in cases {
            assert_eq!(positions(&part(rows(ids), &none)), expected, "{ids:?}");
        }
    }

    #[test]
    fn a_limit_holds_for_bodies_of_more_than_one_row() {
        let limit = SizeLimit::none();
        let one = rows(&[1])[0].entry.transaction.as_json().len();
        // The brackets and commas of the body count too.
        assert_eq!(limit.lower_below(2 * (3 * one + 4)), Some(3 * one + 4));
        assert_eq!(limit.lower_below(10 * one * 2), None);
        assert_eq!(positions(&part(rows(&[1, 2, 3, 4]), &limit)), [vec![0, 1, 2], vec![3]]);
        assert_eq!(limit.lower_below(2), Some(1));
        assert_eq!(positions(&part(rows(&[1, 2]), &limit)), [vec![0], vec![1]]);
    }

    proptest! {
        #[test]
        fn halving_reaches_every_row_in_log2_steps(n in 1_usize..300) {
            let ids: Vec<u128> = (0..n as u128).collect();
            let mut parts = part(rows(&ids), &SizeLimit::none());
            let mut steps = 0;
            while parts.iter().any(|part| !part.is_single()) {
                steps += 1;
                parts = parts.into_iter().flat_map(|part| if part.is_single() { vec![part] } else { part.halve().into() }).collect();
            }
            prop_assert_eq!(steps, n.next_power_of_two().ilog2());
            prop_assert_eq!(positions(&parts), (0..n).map(|position| vec![position]).collect::<Vec<_>>());
        }
    }
}
