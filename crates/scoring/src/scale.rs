//! The scale of the API's scores. One score that does not fit shows that all scores of the API are of another scale than declared: no
//! row fails for it, nothing of its response is used, and nothing else is accepted until the same transaction has a score that fits.
//!
//! Probing with any transaction would not do: most scores are small, and fit every scale. See
//! `docs/decisions/0038-an-api-that-differs-in-form.md`.

use std::sync::{Mutex, MutexGuard, PoisonError};

use assay_transaction::EncodedTransaction;
use uuid::Uuid;

use crate::ScoreError;
use crate::api::http::RequestError;
use crate::api::protocol::RowResult;
use crate::breaker::OpenReason;
use crate::canary::{Canary, CanaryResult, Tick};
use crate::failure::{Symptom, SymptomClass};
use crate::request::RequestExecutor;

/// How far a score may be outside of its scale: what rounding to single precision does.
const ROUNDING: f64 = 1e-6;
/// Why a response is not used that may be of the other scale.
const BEFORE_REPAIR: &str = "response is from before the scores fitted their scale";
/// The largest raw score, as the database has it.
const LARGEST_RAW: f64 = 1e12;
/// From here on, a score is shown with an exponent.
const LONG: f64 = 1e6;

/// What the scores of an ML API are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum ScoreScale {
    /// Numbers from 0 to 1.
    #[default]
    Probability,
    /// Numbers from 0 to 100.
    Percent,
    /// Log-odds: any number, 0 for a probability of 0.5.
    Logit,
    /// Any numbers, such as points from 0 to 999. They are stored as they are.
    Raw,
}

impl ScoreScale {
    /// The score as it is stored: a number from 0 to 1, unless scores are raw. None if it is not of this scale.
    fn to_stored(self, score: f64) -> Option<f64> {
        let probability = match self {
            Self::Raw => return (-LARGEST_RAW..=LARGEST_RAW).contains(&score).then_some(score + 0.0),
            Self::Probability => score,
            Self::Percent => score / 100.0,
            Self::Logit => 1.0 / (1.0 + (-score).exp()),
        };
        let fits = (-ROUNDING..=1.0 + ROUNDING).contains(&probability);
        // `+ 0.0` makes a negative zero a plain one.
        fits.then(|| probability.clamp(0.0, 1.0) + 0.0)
    }

    /// Brings all scores of a response to this scale. `Err` if one does not fit: the position of that which fits least, and why.
    fn apply(self, rows: &mut [RowResult]) -> Result<(), (usize, Symptom)> {
        let mut misfits: Vec<(usize, f64)> = Vec::new();
        for (position, row) in rows.iter_mut().enumerate() {
            let Ok(Some(score)) = row.as_mut().map(|prediction| prediction.fraud_score.as_mut()) else { continue };
            match self.to_stored(*score) {
                Some(stored) => *score = stored,
                None => misfits.push((position, *score)),
            }
        }
        let farthest = misfits.iter().max_by(|(_, one), (_, other)| one.abs().total_cmp(&other.abs()));
        let Some((position, score)) = farthest else { return Ok(()) };
        let is_any_negative = misfits.iter().any(|(_, score)| *score < 0.0);
        Err((*position, self.misfit(*score, is_any_negative)))
    }

    fn misfit(self, score: f64, is_any_negative: bool) -> Symptom {
        let direction = if score < 0.0 { "down" } else { "up" };
        let scale = match self {
            Self::Probability | Self::Logit => "no numbers from 0 to 1",
            Self::Raw => "beyond what is stored, even raw",
            Self::Percent => "no percentages, which SCORE_SCALE declares",
        };
        let may_be_percent = self == Self::Probability && !is_any_negative && score <= 100.0 * (1.0 + ROUNDING);
        let remedy = match (self, may_be_percent) {
            (_, true) => "if they are percentages, set SCORE_SCALE=percent (if log-odds, logit; if points, raw)",
            (Self::Raw, false) => "let the API return numbers whose size is at most 1e12",
            (Self::Percent, false) => {
                "set SCORE_SCALE=logit if they are log-odds, raw if they are points, or let the API return numbers from 0 to 1"
            }
            _ => {
                "if they are log-odds, set SCORE_SCALE=logit, if points, raw; else let the API return numbers from 0 to 1"
            }
        };
        Symptom::Undeclared {
            what: format!("scores {direction} to {} are {scale}", Shown(score)).into(),
            remedy: remedy.into(),
        }
    }
}

/// A score as a message shows it: short, whatever it is.
struct Shown(f64);

impl std::fmt::Display for Shown {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.0.abs() < LONG {
            write!(formatter, "{}", (self.0 * LONG).round() / LONG)
        } else {
            write!(formatter, "{:.1e}", self.0)
        }
    }
}

/// The declared scale, and what shows that it is another.
#[derive(Debug)]
pub(crate) struct ScaleCheck {
    scale: ScoreScale,
    evidence: Mutex<Evidence>,
}

/// What is known against the declared scale.
#[derive(Debug, Default)]
struct Evidence {
    misfit: Option<Misfit>,
    /// When the request was sent whose response took back the last misfit: responses to earlier ones may be of the other scale.
    repaired: Option<Tick>,
}

/// A transaction with a score that does not fit.
#[derive(Debug)]
struct Misfit {
    transaction: Canary,
    symptom: Symptom,
}

impl ScaleCheck {
    pub(crate) fn new(scale: ScoreScale) -> Self {
        Self { scale, evidence: Mutex::default() }
    }

    /// Whether a score was seen that does not fit, and has not been replaced by one that does.
    pub(crate) fn is_refuted(&self) -> bool {
        self.evidence().misfit.is_some()
    }

    /// Brings the scores of the response to a request about these rows to the scale on which they are stored. `Err` if they are of another
    /// than declared.
    pub(crate) fn apply<'a>(
        &self,
        results: &mut [RowResult],
        mut rows: impl Iterator<Item = (Uuid, &'a EncodedTransaction)>,
        sent: Tick,
    ) -> Result<(), Symptom> {
        let applied = self.scale.apply(results);
        let mut evidence = self.evidence();
        let Evidence { misfit, repaired } = &mut *evidence;
        match applied {
            Ok(()) if repaired.is_some_and(|repaired| sent < repaired) => {
                Err(Symptom::Unreadable(BEFORE_REPAIR.into()))
            }
            Ok(()) => {
                let Some(Misfit { transaction, symptom }) = misfit else { return Ok(()) };
                let fits_now = rows.zip(results).any(|((id, _), result)| id == transaction.id && result.is_ok());
                if !fits_now {
                    return Err(symptom.clone());
                }
                (*misfit, *repaired) = (None, Some(sent));
                Ok(())
            }
            Err((position, symptom)) => {
                if let (None, Some((id, transaction))) = (&misfit, rows.nth(position)) {
                    let transaction = Canary { id, transaction: transaction.detached() };
                    *misfit = Some(Misfit { transaction, symptom: symptom.clone() });
                }
                Err(symptom)
            }
        }
    }

    fn transaction(&self) -> Option<Canary> {
        self.evidence().misfit.as_ref().map(|misfit| misfit.transaction.clone())
    }

    fn evidence(&self) -> MutexGuard<'_, Evidence> {
        // Each change is a single assignment.
        self.evidence.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl RequestExecutor<'_> {
    /// As a probe: whether the transaction whose score did not fit has one that does. If not, the breaker stays open.
    pub(crate) async fn does_scale_fit(self, reason: OpenReason) -> Result<bool, ScoreError> {
        let Some(transaction) = self.shared.scale.transaction() else { return Ok(true) };
        let (reason, error) = match self.send_canary(transaction).await? {
            CanaryResult::Scored => return Ok(true),
            // It shows nothing of the scale.
            CanaryResult::Refused(symptom) if symptom.class() == SymptomClass::Rejected => {
                (OpenReason::Misconfiguration, RequestError::from(cannot_tell(&symptom)))
            }
            CanaryResult::Refused(symptom) => (reason, RequestError::from(symptom)),
            CanaryResult::Unavailable(reason, error) => (reason, error),
        };
        self.shared.breaker.keep_open(reason, &error);
        Ok(false)
    }
}

/// The transaction that showed another scale is refused, so that nothing can show a repair any more.
fn cannot_tell(symptom: &Symptom) -> Symptom {
    Symptom::Undeclared {
        what: format!("the transaction whose score did not fit the scale has none any more: {symptom}").into(),
        remedy: "restart this program once the scores are of the scale that SCORE_SCALE declares".into(),
    }
}

#[cfg(test)]
mod tests {
    use assay_transaction::Prediction;

    use super::ScoreScale::{Logit, Percent, Probability, Raw};
    use super::*;
    use crate::canary::SuccessTracker;

    fn rows(scores: &[f64]) -> Vec<RowResult> {
        let row =
            |score: &f64| Ok(Prediction { prediction: "x".into(), fraud_score: Some(*score), ..Prediction::default() });
        scores.iter().map(row).chain([Err("no entry".into())]).collect()
    }

    #[test]
    fn scores_become_what_is_stored() {
        let cases: [(ScoreScale, &[f64], &[f64]); 5] = [
            (Probability, &[0.0, 0.97, 1.0, -0.0], &[0.0, 0.97, 1.0, 0.0]),
            (Probability, &[1.000_000_1, 1.000_001, -1e-9, -0.000_001], &[1.0, 1.0, 0.0, 0.0]),
            (Percent, &[0.0, 97.0, 100.0, 100.000_01, -0.000_01], &[0.0, 0.97, 1.0, 1.0, 0.0]),
            (Logit, &[0.0, f64::MAX, f64::MIN, 3.0_f64.ln()], &[0.5, 1.0, 0.0, 0.75]),
            (Raw, &[0.0, -0.0, 850.5, 1e12], &[0.0, 0.0, 850.5, 1e12]),
        ];
        for (scale, scores, expected) in cases {
            let mut rows = rows(scores);
            assert_eq!(scale.apply(&mut rows), Ok(()), "{scale:?} of {scores:?}");
            for (row, expected) in rows.iter().zip(expected) {
                let score = row.as_ref().unwrap().fraud_score.unwrap();
                assert!(
                    (score - expected).abs() < 1e-12 && score.is_sign_positive(),
                    "{scale:?}: {score} of {scores:?}"
                );
            }
        }
    }

    #[test]
    fn a_score_of_another_scale_names_what_to_set() {
        let cases: [(ScoreScale, &[f64], usize, &str, &str); 10] = [
            (Raw, &[850.0, -2e12], 1, "down to -2.0e12 are beyond", "at most 1e12"),
            (Probability, &[0.6, 97.0, 3.0], 1, "scores up to 97 are no numbers from 0 to 1", "SCORE_SCALE=percent"),
            (Probability, &[1.000_002], 0, "up to 1.000002 are", "SCORE_SCALE=percent"),
            (Probability, &[0.1, -0.1], 1, "down to -0.1 are", "SCORE_SCALE=logit"),
            (Probability, &[50.0, -3.5], 0, "up to 50 are", "SCORE_SCALE=logit"),
            (Probability, &[850.0], 0, "up to 850 are", "SCORE_SCALE=logit"),
            (Probability, &[f64::MAX], 0, "up to 1.8e308 are", "SCORE_SCALE=logit"),
            (Percent, &[0.6, 100.1], 1, "up to 100.1 are no percentages", "SCORE_SCALE=logit"),
            (Percent, &[-1.0], 0, "down to -1 are no percentages", "SCORE_SCALE=logit"),
            (Percent, &[1.0 / 3.0 - 700.0], 0, "down to -699.666667 are", "SCORE_SCALE=logit"),
        ];
        for (scale, scores, expected_position, what_has, remedy_has) in cases {
            let (position, symptom) = scale.apply(&mut rows(scores)).unwrap_err();
            let Symptom::Undeclared { what, remedy } = symptom else { panic!("{symptom:?}") };
            assert_eq!(position, expected_position, "{scores:?}");
            assert!(what.as_str().contains(what_has) && remedy.as_str().contains(remedy_has), "{what}: {remedy}");
        }
    }

    #[test]
    fn only_the_transaction_that_did_not_fit_shows_that_all_fit_now() {
        let canary = |at: u128| Canary { id: Uuid::from_u128(at), ..Canary::made_up().unwrap() };
        let canaries = [canary(1), canary(2)];
        let asked = || canaries.iter().map(|canary| (canary.id, &canary.transaction));
        let ticks = SuccessTracker::new();
        let check = ScaleCheck::new(Probability);
        let apply = |scores: &[f64], skipped: usize| {
            check.apply(&mut rows(scores)[..scores.len()], asked().skip(skipped), ticks.tick()).is_ok()
        };
        assert!(apply(&[0.1, 0.2], 0) && !check.is_refuted());
        assert!(!apply(&[97.0, 0.6], 0) && check.is_refuted());
        assert!(!apply(&[0.6], 1), "it fits every scale");
        assert!(!apply(&[97.0], 0) && check.transaction().unwrap().id == canaries[0].id);
        assert!(apply(&[0.97], 0) && !check.is_refuted() && apply(&[0.6], 1));
    }

    #[test]
    fn responses_to_requests_from_before_the_repair_are_not_used() {
        let ticks = SuccessTracker::new();
        let (before, seen, repaired, after) = (ticks.tick(), ticks.tick(), ticks.tick(), ticks.tick());
        let (check, misfitting) = (ScaleCheck::new(Probability), Canary::made_up().unwrap());
        let apply = |score: f64, canary: &Canary, sent| {
            let mut results = rows(&[score]);
            results.truncate(1);
            check.apply(&mut results, std::iter::once((canary.id, &canary.transaction)), sent)
        };
        let other = Canary::made_up().unwrap();
        assert!(apply(97.0, &misfitting, seen).is_err());
        assert!(apply(0.6, &other, after).is_err(), "only the same transaction shows a repair");
        assert_eq!(apply(0.97, &misfitting, repaired), Ok(()));
        assert!(apply(0.6, &other, before).is_err(), "it may be a percentage");
        assert_eq!(apply(0.6, &other, after), Ok(()));
    }
}
