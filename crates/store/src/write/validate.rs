//! Which chunks reach the database: those that account for each of their rows once. Their scored rows are read here, before a
//! transaction is open.

use std::borrow::Cow;
use std::collections::HashMap;

use assay_transaction::{ChunkId, FailedRow, Lane, Predicted, RunId, ScoredChunk, Timestamp};
use uuid::Uuid;

use crate::values::storable;
use crate::write::erased::ErasedIds;
use crate::write::transaction::{InvalidRow, StagedRow};
use crate::{ChunkOutcome, WriteReport};

/// Most characters of a label and of a model version. The predictor holds the ML API to the same limit.
const MAX_LABEL: usize = 255;
/// Most characters of a code: the class of a failure, the rule that a row broke.
const MAX_CODE: usize = 100;
/// Most characters of a reason: a million rows may have one each.
const MAX_REASON: usize = 2_000;

/// What is decided about a chunk without the database.
enum Validation {
    /// Contradicts itself.
    Refused(String),
    /// Repeats this candidate of the same call.
    Repeats(usize),
    /// The database decides about this candidate.
    Candidate(usize),
}

/// The chunks of one call, validated.
pub(crate) struct ValidatedChunks<'a> {
    validations: Vec<Validation>,
    /// In (run, chunk) order.
    pub(crate) chunks: Vec<&'a ScoredChunk>,
    /// Their scored rows, in (run, chunk, row) order.
    pub(crate) rows: Vec<StagedRow<'a>>,
}

impl<'a> ValidatedChunks<'a> {
    pub(crate) fn new(given: &'a [ScoredChunk]) -> Self {
        let mut order: Vec<usize> = (0..given.len()).collect();
        // Stable: of equal identities, the first given comes first.
        order.sort_by(|left, right| given[*left].id.cmp(&given[*right].id));
        let mut validations: Vec<_> = given.iter().map(|_| Validation::Repeats(0)).collect();
        let mut chunks: Vec<&ScoredChunk> = Vec::with_capacity(given.len());
        let mut rows = Vec::with_capacity(given.iter().map(|chunk| chunk.predicted.len()).sum());
        let mut seen: HashMap<&ChunkId, usize> = HashMap::with_capacity(given.len());
        for index in order {
            let chunk = &given[index];
            validations[index] = if let Err(reason) = check_rows(chunk) {
                Validation::Refused(reason)
            } else if let Some(before) = seen.get(&chunk.id) {
                if chunks[*before].range == chunk.range {
                    Validation::Repeats(*before)
                } else {
                    Validation::Refused(range_mismatch(chunk, chunks[*before].range))
                }
            } else {
                match stage(chunk, chunks.len(), &mut rows) {
                    Ok(()) => {
                        seen.insert(&chunk.id, chunks.len());
                        chunks.push(chunk);
                        Validation::Candidate(chunks.len() - 1)
                    }
                    Err(reason) => Validation::Refused(reason),
                }
            };
        }
        Self { validations, chunks, rows }
    }

    /// The result of the whole call.
    pub(crate) fn report(self, candidates: WriteReport, is_bisected: bool) -> WriteReport {
        let mut indices = vec![0; self.chunks.len()];
        for (index, validation) in self.validations.iter().enumerate() {
            if let Validation::Candidate(candidate) = validation {
                indices[*candidate] = index;
            }
        }
        let unstored = candidates.unstored.iter().map(|(candidate, row)| (indices[*candidate], *row)).collect();
        let outcome = |validation| match validation {
            Validation::Refused(reason) => ChunkOutcome::Refused { reason },
            Validation::Candidate(candidate) => candidates.outcomes[candidate].clone(),
            Validation::Repeats(candidate) => match &candidates.outcomes[candidate] {
                ChunkOutcome::Recorded => ChunkOutcome::AlreadyRecorded,
                other => other.clone(),
            },
        };
        let outcomes = self.validations.into_iter().map(outcome).collect();
        WriteReport { outcomes, unstored, is_bisected, ..candidates }
    }
}

/// Why a chunk cannot be recorded with this range.
pub(crate) fn range_mismatch(chunk: &ScoredChunk, recorded: assay_transaction::RowRange) -> String {
    format!(
        "chunk {} has {} rows from row {} on, but is known with {} rows from row {} on",
        chunk.id, chunk.range.rows, chunk.range.first_row, recorded.rows, recorded.first_row
    )
}

/// Checks that each row of the chunk's range has exactly one outcome.
fn check_rows(chunk: &ScoredChunk) -> Result<(), String> {
    let range = chunk.range;
    let end = range.first_row.checked_add(range.rows).filter(|end| i64::try_from(*end).is_ok());
    let (Some(end), Ok(_)) = (end, i64::try_from(chunk.id.chunk)) else {
        return Err(format!("chunk {} has numbers that no database takes", chunk.id));
    };
    if !chunk.accounts_for_its_rows() {
        let found = chunk.predicted.len() + chunk.failed.len() + chunk.rejected.len();
        return Err(format!("chunk {} covers {} rows and has {found}", chunk.id, range.rows));
    }
    let predicted = chunk.predicted.iter().map(|predicted| predicted.entry.row);
    let failed = chunk.failed.iter().map(|failed| failed.entry.row);
    let rejected = chunk.rejected.iter().map(|rejected| rejected.row);
    let mut found = vec![false; chunk.predicted.len() + chunk.failed.len() + chunk.rejected.len()];
    for row in predicted.chain(failed).chain(rejected) {
        let place = row.checked_sub(range.first_row).filter(|_| row < end).and_then(|at| usize::try_from(at).ok());
        match place.and_then(|at| found.get_mut(at)) {
            None => return Err(format!("chunk {} has row {row}, which is not in its range", chunk.id)),
            Some(true) => return Err(format!("chunk {} has row {row} twice", chunk.id)),
            Some(place) => *place = true,
        }
    }
    Ok(())
}

fn stage<'a>(chunk: &'a ScoredChunk, candidate: usize, rows: &mut Vec<StagedRow<'a>>) -> Result<(), String> {
    let before = rows.len();
    for predicted in &chunk.predicted {
        let row = predicted.entry.row;
        match stage_row(&chunk.id.run_id, chunk.lane, chunk.predicted_at, candidate, predicted) {
            Ok(staged) => rows.push(staged),
            Err(error) => {
                rows.truncate(before);
                return Err(format!("row {row} of chunk {}: {error}", chunk.id));
            }
        }
    }
    // Within the chunk only: the chunks are in order already.
    rows[before..].sort_by_key(|staged| staged.entry.row);
    Ok(())
}

/// Reads a scored row.
pub(crate) fn stage_row<'a>(
    run_id: &'a RunId,
    lane: Lane,
    predicted_at: Timestamp,
    candidate: usize,
    predicted: &'a Predicted,
) -> Result<StagedRow<'a>, String> {
    let Predicted { entry, prediction } = predicted;
    let texts = [("label", Some(&prediction.prediction)), ("model_version", prediction.model_version.as_ref())];
    for (name, text) in texts {
        if text.is_some_and(|text| is_longer(text, MAX_LABEL)) {
            return Err(format!("its {name} has more than {MAX_LABEL} characters"));
        }
    }
    let endpoint = prediction.endpoint.as_deref();
    if endpoint.is_some_and(|endpoint| is_longer(endpoint.url(), MAX_REASON)) {
        return Err(format!("the URL of its endpoint has more than {MAX_REASON} characters"));
    }
    let transaction = entry.transaction.view().map_err(|error| error.to_string())?;
    Ok(StagedRow { run_id, lane, predicted_at, candidate, entry, prediction, transaction })
}

/// The invalid rows of a chunk.
pub(crate) fn invalid_rows(chunk: &ScoredChunk) -> impl Iterator<Item = InvalidRow<'_>> {
    chunk.rejected.iter().map(|rejected| InvalidRow {
        run_id: &chunk.id.run_id,
        rejected,
        reason: shortened(storable(rejected.reason.code().into()), MAX_CODE),
        message: shortened(storable(rejected.message.as_str().into()), MAX_REASON),
    })
}

/// The class and the reason of a failed row, as every database takes them.
pub(crate) fn failure_texts(failed: &FailedRow) -> (Cow<'_, str>, Cow<'_, str>) {
    (
        shortened(storable(failed.class.code().into()), MAX_CODE),
        shortened(storable(failed.reason.as_str().into()), MAX_REASON),
    )
}

/// Whether a text has more than `most` characters.
fn is_longer(text: &str, most: usize) -> bool {
    text.len() > most && text.chars().nth(most).is_some()
}

/// A text of at most `most` characters.
fn shortened(text: Cow<'_, str>, most: usize) -> Cow<'_, str> {
    if !is_longer(&text, most) {
        return text;
    }
    let mut start: String = text.chars().take(most - 1).collect();
    start.push('…');
    start.into()
}

/// The ids of the transactions of each chunk: 16 bytes for each of its rows, zeros where a row has none, or an erased one.
pub(crate) fn row_ids(validated: &ValidatedChunks<'_>, erased: &ErasedIds) -> Vec<Vec<u8>> {
    let mut ids: Vec<Vec<u8>> = Vec::with_capacity(validated.chunks.len());
    // As many as the message has rows, which its validation has made sure of.
    ids.extend(validated.chunks.iter().map(|chunk| {
        let rows = chunk.predicted.len() + chunk.failed.len() + chunk.rejected.len();
        vec![0; rows * size_of::<Uuid>()]
    }));
    let mut put = |candidate: usize, row: u64, id: &Uuid| {
        if erased.contains(id) {
            return;
        }
        let place = usize::try_from(row - validated.chunks[candidate].range.first_row).unwrap_or(usize::MAX);
        let at = place.saturating_mul(size_of::<Uuid>());
        if let Some(bytes) = ids[candidate].get_mut(at..).and_then(|rest| rest.first_chunk_mut()) {
            *bytes = *id.as_bytes();
        }
    };
    for (candidate, chunk) in validated.chunks.iter().enumerate() {
        for failed in &chunk.failed {
            put(candidate, failed.entry.row, &failed.transaction_id);
        }
    }
    for row in &validated.rows {
        put(row.candidate, row.entry.row, &row.transaction.id);
    }
    ids
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_text_is_cut() {
        let cases = [("", 3, ""), ("abc", 3, "abc"), ("abcd", 3, "ab…"), ("äöü", 3, "äöü"), ("äöüß", 3, "äö…")];
        for (text, most, expected) in cases {
            assert_eq!(shortened(text.into(), most), expected, "{text}");
        }
        assert!(is_longer(&"é".repeat(MAX_LABEL + 1), MAX_LABEL) && !is_longer(&"é".repeat(MAX_LABEL), MAX_LABEL));
    }
}
