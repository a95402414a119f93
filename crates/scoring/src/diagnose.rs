//! What `assay doctor` asks of the ML API: with the client of the predictors, one transaction that is made up and marked as such.
//!
//! It is the transaction by which a predictor checks a model (`canary`): no row waits for it, and nothing of its answer is stored.

use std::time::{Duration, Instant};

use assay_connect::{Diagnosis, ExposeSecret as _, Finding};
use assay_transaction::{EncodedTransaction, Lane, Prediction};
use tokio_util::sync::CancellationToken;

use crate::api::health::HealthStatus;
use crate::api::http::RequestError;
use crate::attempt::symptom_of_rows;
use crate::canary::Canary;
use crate::failure::SymptomClass;
use crate::model_version::shown;
use crate::request::RequestExecutor;
use crate::{ApiOptions, Scorer};

/// The name of the ML API as a dependency, in `/health/ready` and in `assay doctor`.
pub const DEPENDENCY: &str = "ml_api";
/// The checks, in their order.
const CHECKS: &[&str] = &["protocol", "connection", "health", "probe", "version", "latency"];

/// Checks the ML API of the settings; without `probe`, no transaction is sent. Each step takes at most `limit`.
pub async fn diagnose(options: &ApiOptions, probe: bool, limit: Duration) -> Vec<Finding> {
    let mut diagnosis = Diagnosis::new(CHECKS, limit);
    // An attempt ends within the step, and says why.
    let options = ApiOptions { api_timeout: options.api_timeout.min(limit), ..options.clone() };
    match Scorer::from_options(&options) {
        Err(error) => diagnosis.add(Finding::refused("protocol", &error)),
        Ok(scorer) => {
            diagnosis.add(protocol(&scorer, &options));
            check(&mut diagnosis, &scorer, &options, probe, limit).await;
        }
    }
    diagnosis.finish()
}

/// A transaction that is marked as a check of Assay's, with an id of its own.
pub fn made_up_transaction() -> Option<EncodedTransaction> {
    Canary::made_up().map(|canary| canary.transaction)
}

async fn check(diagnosis: &mut Diagnosis, scorer: &Scorer, options: &ApiOptions, probe: bool, limit: Duration) {
    let time = limit.min(scorer.shared.policy.health_timeout);
    let asking = async {
        let response = scorer.first_response(|| time).await;
        response.map_err(|symptom| scorer.no_response(symptom, time))
    };
    let Some(health) = diagnosis.step("connection", asking).await else { return };
    let encrypted = options.address().is_ok_and(|address| address.expose_secret().starts_with("https:"));
    let encrypted = if encrypted { "by TLS" } else { "without TLS" };
    diagnosis.add(Finding::ok("connection", format!("{} answers, {encrypted}", scorer.shared.http.address())));
    diagnosis.add(judge_health(health, scorer.shared.http.health_path().unwrap_or("none")));
    if let Err(RequestError { symptom, .. }) = scorer.shared.learn_model().await {
        let found = format!("it does not describe its model as needed ({symptom})");
        diagnosis.add(Finding::failed("probe", found, symptom.remedy(scorer.shared.http.predict_path())));
        return;
    }
    if !probe {
        for check in ["probe", "version", "latency"] {
            diagnosis.add(Finding::not_checked(check, "--no-probe: no transaction was sent"));
        }
        return;
    }
    check_probe(diagnosis, scorer, options.api_timeout).await;
}

fn protocol(scorer: &Scorer, options: &ApiOptions) -> Finding {
    let features = scorer.features_digest().map(|digest| format!(", features file {digest}")).unwrap_or_default();
    let path = scorer.shared.http.predict_path();
    Finding::ok("protocol", format!("{} by POST {path}{features}", options.ml_api_protocol))
}

fn judge_health(health: HealthStatus, path: &str) -> Finding {
    const CHECK: &str = "health";
    match health {
        HealthStatus::Healthy => Finding::ok(CHECK, format!("GET {path} says that it is healthy")),
        HealthStatus::NoCheck(RequestError { symptom, .. }) => {
            Finding::ok(CHECK, format!("it has no health check at {path} ({symptom}), and needs none"))
        }
        HealthStatus::Unhealthy(RequestError { symptom, .. }) => Finding::failed(
            CHECK,
            format!("GET {path} says that it does not work ({symptom})"),
            "look into the log of the ML API; rows wait until it scores, and none fails",
        ),
        HealthStatus::NoAnswer(RequestError { symptom, .. })
        | HealthStatus::Unreachable(RequestError { symptom, .. }) => Finding::warning(
            CHECK,
            format!("GET {path} has no answer ({symptom}), though the API answers elsewhere"),
            "set ML_API_HEALTH_PATH to its health check, or to none",
        ),
    }
}

async fn check_probe(diagnosis: &mut Diagnosis, scorer: &Scorer, time_out: Duration) {
    let Some(canary) = Canary::made_up() else { return };
    if let Err(reason) = scorer.shared.protocol.check(&canary.transaction) {
        let found = format!("the made-up transaction cannot be written as ML_API_FEATURES says ({reason})");
        diagnosis.add(Finding::not_checked("probe", found));
        for check in ["version", "latency"] {
            diagnosis.add(Finding::not_checked(check, "no transaction was sent"));
        }
        return;
    }
    let stop = CancellationToken::new();
    let reserved_permit = std::sync::Mutex::new(None);
    let executor = RequestExecutor {
        shared: &scorer.shared,
        transactions: &[],
        lane: Lane::Batch,
        reserved_permit: &reserved_permit,
        stop: &stop,
    };
    let Ok(permit) = executor.acquire_permit().await else { return };
    let began = Instant::now();
    let row = std::iter::once((canary.id, &canary.transaction));
    let answer = executor.send(row, scorer.shared.successes.tick(), permit).await;
    let took = began.elapsed();
    let answer = answer.and_then(|rows| {
        let symptom = symptom_of_rows(&rows);
        rows.into_iter().find_map(Result::ok).ok_or_else(|| RequestError::from(symptom))
    });
    match answer {
        Ok(prediction) => {
            diagnosis.add(Finding::ok("probe", "a made-up transaction (`Assay connection check`) was scored"));
            diagnosis.add(version(&prediction));
            diagnosis.add(judge_latency(took, time_out));
        }
        Err(error) => diagnosis.add(judge_refusal(&error, scorer.shared.http.predict_path())),
    }
}

fn version(prediction: &Prediction) -> Finding {
    match &prediction.model_version {
        Some(version) => Finding::ok("version", format!("it scores with model version {}", shown(version))),
        None => Finding::not_checked("version", "its answers name none"),
    }
}

fn judge_latency(took: Duration, time_out: Duration) -> Finding {
    const CHECK: &str = "latency";
    let found = format!("{} ms for one transaction", took.as_millis());
    if took >= time_out / 2 {
        let found = format!("{found}, of at most {} s", time_out.as_secs_f64());
        return Finding::warning(CHECK, found, "find out what slows the ML API down, or raise API_TIMEOUT");
    }
    Finding::ok(CHECK, found)
}

/// What the refusal of a made-up transaction means.
fn judge_refusal(error: &RequestError, path: &str) -> Finding {
    const CHECK: &str = "probe";
    let RequestError { symptom, retry_after } = error;
    if symptom.is_too_often() {
        let pause = retry_after.map(|pause| format!(", for {} s", pause.as_secs())).unwrap_or_default();
        return Finding::warning(
            CHECK,
            format!("it asks for a pause{pause} ({symptom})"),
            "wait, or set API_RATE_LIMIT to what it allows; predictors keep to the pace by themselves",
        );
    }
    match symptom.class() {
        SymptomClass::Misconfigured => {
            Finding::failed(CHECK, format!("it {} ({symptom})", symptom.verdict()), symptom.remedy(path))
        }
        SymptomClass::Rejected => Finding::warning(
            CHECK,
            format!("it refuses a made-up transaction ({symptom})"),
            "if it scores real rows, which may have what this one lacks, all is well; else check ML_API_URL and what serves it",
        ),
        SymptomClass::Unavailable => Finding::failed(
            CHECK,
            format!("it is not available ({symptom})"),
            "check that it runs at ML_API_URL, and look into its log",
        ),
        SymptomClass::Suspect => {
            let remedy = if symptom.is_timeout() {
                "find out what slows the ML API down, or raise API_TIMEOUT"
            } else {
                "look into the log of the ML API"
            };
            Finding::failed(CHECK, format!("it fails on a plain transaction ({symptom})"), remedy)
        }
    }
}

#[cfg(test)]
mod tests {
    use assay_connect::Verdict;

    use super::*;
    use crate::failure::Symptom;

    #[test]
    fn a_refusal_is_judged_by_what_helps() {
        let cases = [
            (Symptom::status(401), Verdict::Failed, "ML_API_TOKEN"),
            (Symptom::status(404), Verdict::Failed, "ML_API_PATH"),
            (Symptom::status(422), Verdict::Warning, "real rows"),
            (Symptom::status(429), Verdict::Warning, "API_RATE_LIMIT"),
            (Symptom::status(500), Verdict::Failed, "log of the ML API"),
            (Symptom::status(503), Verdict::Failed, "check that it runs"),
            (Symptom::TimedOutHealthy, Verdict::Failed, "API_TIMEOUT"),
        ];
        for (symptom, verdict, words) in cases {
            let finding = judge_refusal(&symptom.into(), "/predict");
            assert!(finding.verdict == verdict, "{finding:?}");
            assert!(finding.remedy.as_ref().is_some_and(|remedy| remedy.contains(words)), "{finding:?}");
        }
        let paused = RequestError { symptom: Symptom::status(429), retry_after: Some(Duration::from_secs(7)) };
        assert!(judge_refusal(&paused, "/predict").found.contains("for 7 s"));
    }

    #[test]
    fn latency_is_judged_by_the_time_out() {
        let of = |millis| judge_latency(Duration::from_millis(millis), Duration::from_secs(10)).verdict;
        assert_eq!((of(12), of(4_999), of(5_000)), (Verdict::Ok, Verdict::Ok, Verdict::Warning));
    }

    #[test]
    fn a_made_up_transaction_is_marked() {
        let transaction = made_up_transaction().unwrap();
        assert!(transaction.as_json().contains("Assay connection check"));
        assert_ne!(transaction.id().unwrap(), made_up_transaction().unwrap().id().unwrap());
    }
}
