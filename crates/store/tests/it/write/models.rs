//! Which model a prediction comes from, and its reasons: by every way of writing, and through the history.

use std::sync::Arc;

use assay_store::{IdConflict, RowOutcome, RunModel, TallySource};
use assay_transaction::{ModelEndpoint, Prediction, ReasonCode, ScoredChunk};

use crate::chunks::{Row, begin, chunk, chunk_of_ids, finish, part, run_id, scored, transaction};
use crate::database::Database;
use crate::operations::removals::remove;

on_both! {
    reasons_and_endpoint_are_stored_and_told,
    each_model_of_a_run_is_noted_once,
    rows_that_were_not_scored_name_no_model,
    a_replay_notes_its_model,
    an_earlier_prediction_returns_with_its_reasons,
    an_api_of_countless_versions_is_noted_in_part,
}

fn endpoint(url: &str, features: Option<&str>) -> Arc<ModelEndpoint> {
    ModelEndpoint::new(url.into(), features.map(Into::into)).into()
}

fn reasons() -> Vec<ReasonCode> {
    vec![
        ReasonCode::Contribution { feature: "amount".into(), contribution: -0.125 },
        ReasonCode::Code("R07 \"é\"".into()),
    ]
}

/// A chunk whose rows a model scored.
fn scored_by(mut chunk: ScoredChunk, version: Option<&str>, endpoint: Option<&Arc<ModelEndpoint>>) -> ScoredChunk {
    for predicted in &mut chunk.predicted {
        predicted.prediction.model_version = version.map(Into::into);
        predicted.prediction.endpoint = endpoint.cloned();
    }
    chunk
}

async fn models(database: &Database, run: &str) -> Vec<RunModel> {
    let overview = database.store.overview(&run_id(run), 60, TallySource::Chunks).await.unwrap();
    overview.unwrap().models
}

async fn reasons_and_endpoint_are_stored_and_told(database: &Database) {
    let endpoint = endpoint("http://ml-api:8000/predict", Some("0123456789abcdef"));
    // One way for a few rows, another for many.
    for (run, rows) in [("few", 1..=3), ("many", 1_001..=1_300)] {
        let ids: Vec<u128> = rows.collect();
        let mut chunk = scored_by(chunk_of_ids(run, 0, 1, &ids), Some("7"), Some(&endpoint));
        chunk.predicted[1].prediction.reasons = reasons();
        database.write(&[chunk], IdConflict::Fail).await.unwrap();
        for (row, expected) in [(1, Vec::new()), (2, reasons())] {
            let found = database.store.row(&run_id(run), row).await.unwrap();
            let RowOutcome::Predicted(stored) = found else { panic!("{run} {row}") };
            let prediction = stored.prediction.unwrap();
            assert_eq!(prediction.reasons, expected, "{run} {row}");
            assert_eq!(prediction.endpoint.as_ref(), Some(&*endpoint), "{run} {row}");
        }
    }
    assert_eq!(database.count("SELECT count(*) FROM model_endpoints").await, 1);
}

async fn each_model_of_a_run_is_noted_once(database: &Database) {
    let (a, b) = (endpoint("http://a", None), endpoint("http://b", Some("0a")));
    for chunk in [
        scored_by(chunk_of_ids("a", 0, 1, &[1, 2]), Some("1"), Some(&a)),
        scored_by(chunk_of_ids("a", 1, 3, &[3, 4]), Some("1"), Some(&a)),
        scored_by(chunk_of_ids("a", 2, 5, &[5, 6]), Some("2"), Some(&b)),
        scored_by(chunk_of_ids("b", 0, 1, &[7]), None, None),
    ] {
        // The second time changes nothing.
        for _ in 0..2 {
            database.write(std::slice::from_ref(&chunk), IdConflict::Fail).await.unwrap();
        }
    }
    let found = models(database, "a").await;
    let names: Vec<_> = found.iter().map(|model| (model.model_version.as_deref(), model.endpoint.as_ref())).collect();
    assert_eq!(names, [(Some("1"), Some(&*a)), (Some("2"), Some(&*b))]);
    assert!(found[0].first_at <= found[1].first_at);
    let found = models(database, "b").await;
    assert_eq!((found.len(), &found[0].model_version, &found[0].endpoint), (1, &None, &None));
}

async fn rows_that_were_not_scored_name_no_model(database: &Database) {
    let stored = scored_by(chunk_of_ids("a", 0, 1, &[1, 2]), Some("1"), None);
    database.write(&[stored], IdConflict::Fail).await.unwrap();
    let mut again = scored_by(chunk_of_ids("b", 0, 1, &[1, 2]), Some("1"), None);
    again.known = vec![1, 2];
    database.write(&[again], IdConflict::Fail).await.unwrap();
    assert_eq!(models(database, "b").await, []);
}

async fn a_replay_notes_its_model(database: &Database) {
    let rows = [scored(1, "1"), Row::Failed(transaction(2, "1"))];
    database.write(&[chunk("a", 0, 1, &rows)], IdConflict::Fail).await.unwrap();
    let mut part = part("a", 1, 0, &[(2, scored(2, "1"))]);
    part.predicted[0].prediction.model_version = Some("fixed".into());
    database.store.write_replay(&part, IdConflict::Fail).await.unwrap();
    let versions: Vec<_> = models(database, "a").await.into_iter().map(|model| model.model_version).collect();
    assert_eq!(versions, [Some("demo-1".to_owned()), Some("fixed".to_owned())]);
}

async fn an_earlier_prediction_returns_with_its_reasons(database: &Database) {
    let store = &*database.store;
    let (a, b) = (endpoint("http://a", None), endpoint("http://b", None));
    begin(store, "a").await;
    let mut first = scored_by(chunk("a", 0, 1, &[scored(1, "1")]), Some("1"), Some(&a));
    first.predicted[0].prediction.reasons = reasons();
    store.write(&[first], IdConflict::Fail).await.unwrap();
    finish(store, "a", 1, 1).await;
    begin(store, "b").await;
    let second = scored_by(chunk("b", 0, 1, &[scored(1, "2")]), Some("2"), Some(&b));
    store.write(&[second], IdConflict::Update).await.unwrap();
    finish(store, "b", 1, 1).await;
    let prediction = async || {
        let RowOutcome::Predicted(stored) = store.row(&run_id("a"), 1).await.unwrap() else { panic!("it is stored") };
        stored.prediction.unwrap()
    };
    let replaced = prediction().await;
    assert_eq!((replaced.reasons, replaced.endpoint.as_ref()), (Vec::new(), Some(&*b)));
    remove(store, "b", &["a", "b"]).await;
    let restored = prediction().await;
    assert_eq!((restored.reasons, restored.endpoint.as_ref()), (reasons(), Some(&*a)));
    assert_eq!(restored.model_version.as_deref(), Some("1"));
}

async fn an_api_of_countless_versions_is_noted_in_part(database: &Database) {
    let ids: Vec<u128> = (1..=100).collect();
    let mut chunk = chunk_of_ids("a", 0, 1, &ids);
    for predicted in &mut chunk.predicted {
        let version = format!("answer-{}\0", predicted.entry.row).into();
        let endpoint = Some(endpoint("http://a/\0", None));
        predicted.prediction = Prediction { model_version: Some(version), endpoint, ..predicted.prediction.clone() };
    }
    database.write(&[chunk], IdConflict::Fail).await.unwrap();
    assert_eq!(database.count("SELECT count(*) FROM run_models").await, 16);
}
