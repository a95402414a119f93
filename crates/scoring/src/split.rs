//! Which rows share a request: at first, and after the API failed on them.

use std::collections::{HashSet, VecDeque};
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicUsize, Ordering};

use assay_transaction::{EncodedTransaction, FailureClass, Prediction, ScoreFailure, ScoreOutcome};
use tracing::info;
use uuid::Uuid;

use crate::request::RequestExecutor;

/// A transaction whose outcome is still open. Each has one owner at a time, and so gets exactly one outcome.
#[derive(Debug)]
pub(crate) struct PendingRow {
    /// Its position in the call.
    pub(crate) position: usize,
    /// Its id, as the API will name it.
    pub(crate) id: Uuid,
}

/// A row with its outcome.
#[derive(Debug)]
pub(crate) struct FinishedRow {
    pub(crate) position: usize,
    pub(crate) outcome: ScoreOutcome,
}

impl PendingRow {
    pub(crate) fn predicted(self, prediction: Prediction) -> FinishedRow {
        FinishedRow { position: self.position, outcome: Ok(prediction) }
    }

    pub(crate) fn failed(self, class: FailureClass, reason: String, attempts: u32) -> FinishedRow {
        FinishedRow { position: self.position, outcome: Err(ScoreFailure { class, reason, attempts }) }
    }
}

/// The rows of one request; never empty, and no id twice.
#[derive(Debug)]
pub(crate) struct RowGroup {
    pub(crate) rows: Vec<PendingRow>,
    /// Requests with these rows that the API failed on; outages do not count.
    pub(crate) attempts: u32,
    /// Whether it is half of a group that the API failed on. A half is not retried but halved further, as its halves are a
    /// retry too; only a single row is retried.
    pub(crate) is_half: bool,
}

impl RowGroup {
    /// Whether a single row is left, so that the API's response is about that row.
    pub(crate) fn is_single(&self) -> bool {
        self.rows.len() == 1
    }

    /// Counts one more attempt.
    pub(crate) fn count_attempt(&mut self) {
        self.attempts = self.attempts.saturating_add(1);
    }

    /// Both halves, after the API failed on the whole. Repeated halving of `n` rows reaches every single row in `ceil(log2 n)`
    /// steps.
    pub(crate) fn halve(self) -> [Self; 2] {
        Self { is_half: true, ..self }.split()
    }

    /// Two requests in place of one that was not sent.
    pub(crate) fn split(mut self) -> [Self; 2] {
        let upper = self.rows.split_off(self.rows.len() / 2);
        let part = |rows| Self { rows, ..self };
        [part(self.rows), part(upper)]
    }
}

/// The largest request body, for all requests of a process. It starts as set, or unbounded, and falls with every request that the
/// API finds too large.
#[derive(Debug)]
pub(crate) struct SizeLimit(AtomicUsize);

impl SizeLimit {
    /// `API_MAX_BYTES`; `None` is no limit.
    pub(crate) fn new(max_bytes: Option<u32>) -> Self {
        Self(AtomicUsize::new(max_bytes.map_or(usize::MAX, |bytes| usize::try_from(bytes).unwrap_or(usize::MAX))))
    }

    /// Whether there is a limit, and this is beyond it. The body is only made if there is one.
    pub(crate) fn is_exceeded_by(&self, body_bytes: impl FnOnce() -> usize) -> bool {
        let limit = self.get();
        limit < usize::MAX && body_bytes() > limit
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

impl RequestExecutor<'_> {
    /// Whether a group has rows to spare and its body is too large: the limit may have fallen while it waited, or the protocol
    /// writes more than the transactions' own bytes, by which rows are cut. A row alone is left to the API, and so
    /// are halves of what it refused, as the response to them shows its limit.
    pub(crate) fn is_too_large(self, group: &RowGroup) -> bool {
        !group.is_single() && !group.is_half && self.shared.size_limit.is_exceeded_by(|| self.body_bytes(group))
    }

    fn body_bytes(self, group: &RowGroup) -> usize {
        self.shared.protocol.request_bytes(group.rows.iter().map(|row| self.transaction(row)))
    }

    /// Makes later requests smaller than one that was too large.
    pub(crate) fn shrink_later_requests(self, group: &RowGroup) {
        let too_large = self.body_bytes(group);
        if let Some(limit) = self.shared.size_limit.lower_below(too_large) {
            info!(
                "ML API rejects a request of {too_large} bytes as too large: sending at most {limit} bytes from now on"
            );
        }
    }
}

/// Cuts rows into requests of at most `max_rows`, so that none has an id twice and each body is within the limit. A row larger
/// than the limit goes alone.
pub(crate) fn split_into_requests(
    rows: Vec<PendingRow>,
    transactions: &[EncodedTransaction],
    max_rows: NonZeroUsize,
    limit: &SizeLimit,
) -> Vec<RowGroup> {
    let bytes = |row: &PendingRow| transactions.get(row.position).map_or(0, |transaction| transaction.as_bytes().len());
    let (limit, are_distinct) = (limit.get(), rows.is_sorted_by(|one, next| one.id < next.id));
    let mut requests = Vec::with_capacity(rows.len().div_ceil(max_rows.get()));
    let mut waiting = VecDeque::from(rows);
    while !waiting.is_empty() {
        let mut request = Vec::with_capacity(waiting.len().min(max_rows.get()));
        let (mut size, mut put_off) = (0_usize, Vec::new());
        let mut ids = HashSet::with_capacity(if are_distinct { 0 } else { request.capacity() });
        // As many with an id that the request has are put off at most, so that a chunk of a single id takes no longer.
        while request.len() < max_rows.get() && put_off.len() < max_rows.get() {
            let next = waiting.pop_front_if(|row| request.is_empty() || size + bytes(row) + 1 < limit);
            let Some(row) = next else { break };
            if are_distinct || ids.insert(row.id) {
                size += bytes(&row) + 1;
                request.push(row);
            } else {
                put_off.push(row);
            }
        }
        put_off.into_iter().rev().for_each(|row| waiting.push_front(row));
        requests.push(RowGroup { rows: request, attempts: 0, is_half: false });
    }
    requests
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn transaction(id: u128) -> EncodedTransaction {
        serde_json::from_str(&format!(r#"{{"id":"{}"}}"#, Uuid::from_u128(id))).unwrap()
    }

    fn split(ids: &[u128], max_rows: usize, limit: &SizeLimit) -> Vec<RowGroup> {
        let row = |(position, id): (usize, &u128)| PendingRow { position, id: Uuid::from_u128(*id) };
        let transactions: Vec<_> = ids.iter().copied().map(transaction).collect();
        let max_rows = NonZeroUsize::new(max_rows).unwrap();
        split_into_requests(ids.iter().enumerate().map(row).collect(), &transactions, max_rows, limit)
    }

    fn positions(groups: &[RowGroup]) -> Vec<Vec<usize>> {
        groups.iter().map(|group| group.rows.iter().map(|row| row.position).collect()).collect()
    }

    #[test]
    fn no_request_has_an_id_twice() {
        /// Ids, rows of a request, positions in requests.
        type Case<'a> = (&'a [u128], usize, &'a [&'a [usize]]);
        let cases: [Case<'_>; 7] = [
            (&[], 9, &[]),
            (&[1, 2, 3], 9, &[&[0, 1, 2]]),
            (&[3, 2, 1], 9, &[&[0, 1, 2]]),
            (&[1, 2, 1, 3, 2], 9, &[&[0, 1, 3], &[2, 4]]),
            (&[1, 1, 1], 9, &[&[0], &[1], &[2]]),
            // What is put off joins the next request.
            (&[1, 2, 1, 3, 4], 3, &[&[0, 1, 3], &[2, 4]]),
            (&[1, 2, 3, 1, 2, 3], 3, &[&[0, 1, 2], &[3, 4, 5]]),
        ];
        for (ids, max_rows, expected) in cases {
            assert_eq!(positions(&split(ids, max_rows, &SizeLimit::new(None))), expected, "{ids:?}");
        }
    }

    #[test]
    fn no_request_has_more_rows_than_allowed() {
        let ids: Vec<u128> = (0..10).collect();
        let lengths = |max_rows| -> Vec<usize> {
            split(&ids, max_rows, &SizeLimit::new(None)).iter().map(|group| group.rows.len()).collect()
        };
        assert_eq!(lengths(4), [4, 4, 2]);
        assert_eq!((lengths(5), lengths(10), lengths(100)), (vec![5, 5], vec![10], vec![10]));
        assert_eq!(lengths(1), [1; 10]);
    }

    #[test]
    fn the_limit_holds_for_bodies_of_more_than_one_row() {
        let limit = SizeLimit::new(None);
        let one = transaction(1).as_json().len();
        // The brackets and commas of the body count too.
        assert_eq!(limit.lower_below(2 * (3 * one + 4)), Some(3 * one + 4));
        assert_eq!(limit.lower_below(10 * one * 2), None);
        assert_eq!(positions(&split(&[1, 2, 3, 4], 9, &limit)), [vec![0, 1, 2], vec![3]]);
        assert_eq!(limit.lower_below(2), Some(1));
        assert_eq!(positions(&split(&[1, 2], 9, &limit)), [vec![0], vec![1]]);
    }

    proptest! {
        #[test]
        fn every_row_is_in_one_request(
            ids in proptest::collection::vec(0_u128..30, 0..120),
            max_rows in 1_usize..40,
            limit in 1_usize..3_000,
        ) {
            let size = SizeLimit::new(None);
            size.lower_below(2 * limit);
            let groups = split(&ids, max_rows, &size);
            let mut all: Vec<usize> = groups.iter().flat_map(|group| &group.rows).map(|row| row.position).collect();
            all.sort_unstable();
            prop_assert_eq!(all, (0..ids.len()).collect::<Vec<_>>());
            for RowGroup { rows, .. } in &groups {
                let distinct: HashSet<Uuid> = rows.iter().map(|row| row.id).collect();
                prop_assert!((1..=max_rows).contains(&rows.len()) && distinct.len() == rows.len());
                let body = 1 + rows.iter().map(|row| transaction(row.id.as_u128()).as_bytes().len() + 1).sum::<usize>();
                prop_assert!(rows.len() == 1 || body <= limit, "{body} bytes of {limit}");
            }
        }

        #[test]
        fn halving_reaches_every_row_in_log2_steps(n in 1_usize..300) {
            let ids: Vec<u128> = (0..n as u128).collect();
            let mut groups = split(&ids, n, &SizeLimit::new(None));
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
