//! Which rows share a request: at first, and after the API failed on them.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};

use assay_transaction::{Entry, FailedRow, FailureClass, Predicted, Prediction};
use uuid::Uuid;

/// A transaction whose outcome is still open. Each has one owner at a time, and so gets exactly one outcome.
#[derive(Debug)]
pub(crate) struct PendingRow {
    /// Its position in the call.
    pub(crate) position: usize,
    /// Its id, as the API will name it.
    pub(crate) id: Uuid,
    pub(crate) entry: Entry,
    /// Requests with this row that the API failed on; outages do not count.
    pub(crate) attempts: u32,
}

/// A row with its outcome.
#[derive(Debug)]
pub(crate) struct FinishedRow {
    pub(crate) position: usize,
    pub(crate) result: Result<Predicted, FailedRow>,
}

impl PendingRow {
    pub(crate) fn predicted(self, prediction: Prediction) -> FinishedRow {
        FinishedRow { position: self.position, result: Ok(Predicted { entry: self.entry, prediction }) }
    }

    pub(crate) fn failed(self, class: FailureClass, reason: String) -> FinishedRow {
        let Self { position, id, entry, attempts } = self;
        FinishedRow { position, result: Err(FailedRow { entry, transaction_id: id, class, reason, attempts }) }
    }
}

/// The rows of one request; never empty, and no id twice.
#[derive(Debug)]
pub(crate) struct RowGroup {
    pub(crate) rows: Vec<PendingRow>,
    /// Whether it is half of a group that the API failed on. A half is not retried but halved further, as its halves are a
    /// retry too; only a single row is retried.
    pub(crate) is_half: bool,
}

impl RowGroup {
    /// Whether a single row is left, so that the API's response is about that row.
    pub(crate) fn is_single(&self) -> bool {
        self.rows.len() == 1
    }

    /// Counts one more attempt for each row.
    pub(crate) fn count_attempt(&mut self) {
        for row in &mut self.rows {
            row.attempts = row.attempts.saturating_add(1);
        }
    }

    /// Both halves. Repeated halving of `n` rows reaches every single row in `ceil(log2 n)` steps.
    pub(crate) fn halve(mut self) -> [Self; 2] {
        let upper = self.rows.split_off(self.rows.len() / 2);
        [Self { rows: self.rows, is_half: true }, Self { rows: upper, is_half: true }]
    }
}

/// The largest request body, for all requests of a process. It starts unbounded and falls with every request that the API
/// finds too large.
#[derive(Debug)]
pub(crate) struct SizeLimit(AtomicUsize);

impl SizeLimit {
    pub(crate) fn none() -> Self {
        Self(AtomicUsize::new(usize::MAX))
    }

    /// Lowers the limit to half of what was too large; returns it if it is new.
    pub(crate) fn lower_below(&self, too_large: usize) -> Option<usize> {
        let limit = (too_large / 2).max(1);
        (self.0.fetch_min(limit, Ordering::Relaxed) > limit).then_some(limit)
    }

    fn get(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

/// Groups rows so that no request has an id twice, and each body is within the limit. A row larger than the limit goes
/// alone.
pub(crate) fn split_into_requests(rows: Vec<PendingRow>, limit: &SizeLimit) -> Vec<RowGroup> {
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
    rounds
        .into_iter()
        .flat_map(|round| split_by_size(round, limit))
        .map(|rows| RowGroup { rows, is_half: false })
        .collect()
}

fn split_by_size(rows: Vec<PendingRow>, limit: usize) -> Vec<Vec<PendingRow>> {
    let mut groups: Vec<Vec<PendingRow>> = Vec::new();
    let mut size = 0;
    for row in rows {
        let more = row.entry.transaction.as_json().len() + 1;
        match groups.last_mut() {
            Some(group) if size + more < limit => {
                size += more;
                group.push(row);
            }
            _ => {
                size = more;
                groups.push(vec![row]);
            }
        }
    }
    groups
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn rows(ids: &[u128]) -> Vec<PendingRow> {
        let row = |(position, id): (usize, &u128)| {
            let id = Uuid::from_u128(*id);
            let transaction = serde_json::from_str(&format!(r#"{{"id":"{id}"}}"#)).unwrap();
            PendingRow { position, id, entry: Entry { row: 1, external_id: None, transaction }, attempts: 0 }
        };
        ids.iter().enumerate().map(row).collect()
    }

    fn positions(groups: &[RowGroup]) -> Vec<Vec<usize>> {
        groups.iter().map(|group| group.rows.iter().map(|row| row.position).collect()).collect()
    }

    #[test]
    fn no_request_has_an_id_twice() {
        let none = SizeLimit::none();
        let cases: [(&[u128], &[&[usize]]); 4] = [
            (&[], &[]),
            (&[1, 2, 3], &[&[0, 1, 2]]),
            (&[1, 2, 1, 3, 2], &[&[0, 1, 3], &[2, 4]]),
            (&[1, 1, 1], &[&[0], &[1], &[2]]),
        ];
        for (ids, expected) in cases {
            assert_eq!(positions(&split_into_requests(rows(ids), &none)), expected, "{ids:?}");
        }
    }

    #[test]
    fn the_limit_holds_for_bodies_of_more_than_one_row() {
        let limit = SizeLimit::none();
        let one = rows(&[1])[0].entry.transaction.as_json().len();
        // The brackets and commas of the body count too.
        assert_eq!(limit.lower_below(2 * (3 * one + 4)), Some(3 * one + 4));
        assert_eq!(limit.lower_below(10 * one * 2), None);
        assert_eq!(positions(&split_into_requests(rows(&[1, 2, 3, 4]), &limit)), [vec![0, 1, 2], vec![3]]);
        assert_eq!(limit.lower_below(2), Some(1));
        assert_eq!(positions(&split_into_requests(rows(&[1, 2]), &limit)), [vec![0], vec![1]]);
    }

    proptest! {
        #[test]
        fn halving_reaches_every_row_in_log2_steps(n in 1_usize..300) {
            let ids: Vec<u128> = (0..n as u128).collect();
            let mut groups = split_into_requests(rows(&ids), &SizeLimit::none());
            let mut steps = 0;
            while groups.iter().any(|group| !group.is_single()) {
                steps += 1;
                groups = groups.into_iter().flat_map(|group| if group.is_single() { vec![group] } else { group.halve().into() }).collect();
            }
            prop_assert_eq!(steps, n.next_power_of_two().ilog2());
            prop_assert_eq!(positions(&groups), (0..n).map(|position| vec![position]).collect::<Vec<_>>());
        }
    }
}
