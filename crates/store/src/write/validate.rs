//! Which chunks get as far as the database: those that account for their rows, once each. Their scored rows are decoded
//! here, before a transaction is open.

use std::borrow::Cow;
use std::collections::HashMap;

use assay_transaction::{ChunkId, FailedRow, Lane, Predicted, RunId, ScoredChunk, Timestamp};

use crate::write::chunks::Booked;
use crate::write::transaction::{InvalidRow, StagedRow};
use crate::{ChunkOutcome, Written};

/// Most characters of a label and of the version of a model: what the ML API is held to. Nothing longer comes from a predictor.
const MAX_LABEL: usize = 255;
/// Most characters of a code: the class of a failure, the rule that a row broke.
const MAX_CODE: usize = 100;
/// Most characters of a reason. The rest is of no use to a person, and a million rows may have one each.
const MAX_REASON: usize = 2_000;

/// What is known of each chunk before the database is asked.
enum Verdict {
    /// It contradicts itself.
    Refused(String),
    /// It came before in the same call, as this candidate.
    Repeats(usize),
    /// The database decides.
    Candidate(usize),
}

/// The chunks of one call, screened.
pub(crate) struct Screened<'a> {
    verdicts: Vec<Verdict>,
    /// In (run, chunk) order.
    pub(crate) chunks: Vec<&'a ScoredChunk>,
    /// Their scored rows, in (run, chunk, row) order.
    pub(crate) rows: Vec<StagedRow<'a>>,
}

impl<'a> Screened<'a> {
    pub(crate) fn new(given: &'a [ScoredChunk]) -> Self {
        let mut order: Vec<usize> = (0..given.len()).collect();
        // Stable: of equal identities the one that was given first comes first.
        order.sort_by(|left, right| given[*left].id.cmp(&given[*right].id));
        let mut verdicts: Vec<_> = given.iter().map(|_| Verdict::Repeats(0)).collect();
        let mut chunks: Vec<&ScoredChunk> = Vec::with_capacity(given.len());
        let mut rows = Vec::with_capacity(given.iter().map(|chunk| chunk.predicted.len()).sum());
        let mut seen: HashMap<&ChunkId, usize> = HashMap::with_capacity(given.len());
        for index in order {
            let chunk = &given[index];
            verdicts[index] = if let Err(reason) = account(chunk) {
                Verdict::Refused(reason)
            } else if let Some(before) = seen.get(&chunk.id) {
                if chunks[*before].range == chunk.range {
                    Verdict::Repeats(*before)
                } else {
                    Verdict::Refused(other_range(chunk, chunks[*before].range))
                }
            } else {
                match decode(chunk, chunks.len(), &mut rows) {
                    Ok(()) => {
                        seen.insert(&chunk.id, chunks.len());
                        chunks.push(chunk);
                        Verdict::Candidate(chunks.len() - 1)
                    }
                    Err(reason) => Verdict::Refused(reason),
                }
            };
        }
        Self { verdicts, chunks, rows }
    }

    /// The answer to the whole call, from the database's answers for the candidates.
    pub(crate) fn written(self, booked: Booked, is_bisected: bool) -> Written {
        let Booked { outcomes, transactions, passed_over, tally, failed } = booked;
        let mut places = vec![0; self.chunks.len()];
        for (place, verdict) in self.verdicts.iter().enumerate() {
            if let Verdict::Candidate(candidate) = verdict {
                places[*candidate] = place;
            }
        }
        let passed_over = passed_over.iter().map(|(candidate, row)| (places[*candidate], *row)).collect();
        let outcome = |verdict| match verdict {
            Verdict::Refused(reason) => ChunkOutcome::Refused { reason },
            Verdict::Candidate(candidate) => outcomes[candidate].clone(),
            Verdict::Repeats(candidate) => match &outcomes[candidate] {
                ChunkOutcome::Recorded => ChunkOutcome::Known,
                other => other.clone(),
            },
        };
        let outcomes = self.verdicts.into_iter().map(outcome).collect();
        Written { outcomes, transactions, passed_over, tally, failed, is_bisected }
    }
}

/// Why an identity cannot be recorded with the rows it came with.
pub(crate) fn other_range(chunk: &ScoredChunk, recorded: assay_transaction::RowRange) -> String {
    format!(
        "chunk {} has {} rows from row {} on, but is known with {} rows from row {} on",
        chunk.id, chunk.range.rows, chunk.range.first_row, recorded.rows, recorded.first_row
    )
}

/// Whether each row of the chunk's range has exactly one outcome.
fn account(chunk: &ScoredChunk) -> Result<(), String> {
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

fn decode<'a>(chunk: &'a ScoredChunk, candidate: usize, rows: &mut Vec<StagedRow<'a>>) -> Result<(), String> {
    let before = rows.len();
    for predicted in &chunk.predicted {
        let row = predicted.entry.row;
        match stage(&chunk.id.run_id, chunk.lane, chunk.predicted_at, candidate, predicted) {
            Ok(staged) => rows.push(staged),
            Err(error) => {
                rows.truncate(before);
                return Err(format!("row {row} of chunk {}: {error}", chunk.id));
            }
        }
    }
    // Only the order of rows within the chunk; the chunks come in theirs.
    rows[before..].sort_by_key(|staged| staged.entry.row);
    Ok(())
}

/// Decodes a scored row.
pub(crate) fn stage<'a>(
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
    let (transaction, attributes) = entry.transaction.decode_in_part().map_err(|error| error.to_string())?;
    Ok(StagedRow { run_id, lane, predicted_at, candidate, entry, prediction, transaction, attributes })
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

/// The class and the reason of a failed row, as texts that every database takes.
pub(crate) fn texts(failed: &FailedRow) -> (Cow<'_, str>, Cow<'_, str>) {
    (
        shortened(storable(failed.class.code().into()), MAX_CODE),
        shortened(storable(failed.reason.as_str().into()), MAX_REASON),
    )
}

/// Whether a text has more characters than that.
fn is_longer(text: &str, most: usize) -> bool {
    text.len() > most && text.chars().nth(most).is_some()
}

/// The start of a text that is longer than it should be.
fn shortened(text: Cow<'_, str>, most: usize) -> Cow<'_, str> {
    if !is_longer(&text, most) {
        return text;
    }
    let mut start: String = text.chars().take(most - 1).collect();
    start.push('…');
    start.into()
}

/// PostgreSQL's text takes no NUL. What broke a row must not break its record.
pub(crate) fn storable(text: Cow<'_, str>) -> Cow<'_, str> {
    if text.contains('\0') { text.replace('\0', "\u{fffd}").into() } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_cut_where_it_is_too_long() {
        let cases = [("", 3, ""), ("abc", 3, "abc"), ("abcd", 3, "ab…"), ("äöü", 3, "äöü"), ("äöüß", 3, "äö…")];
        for (text, most, expected) in cases {
            assert_eq!(shortened(text.into(), most), expected, "{text}");
        }
        assert!(is_longer(&"é".repeat(MAX_LABEL + 1), MAX_LABEL) && !is_longer(&"é".repeat(MAX_LABEL), MAX_LABEL));
    }
}
