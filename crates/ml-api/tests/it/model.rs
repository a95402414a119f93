//! The bundled model file: it fits the features, and is as good as its README says.

use assay_ml_api::{Model, ModelFile, TransactionFields};

use crate::generated::transactions;

/// The share of pairs of a fraud and a legitimate transaction in which the fraud scores higher; a tie counts half.
fn auc(scored: &[(f32, bool)]) -> f64 {
    let of = |wanted: bool| scored.iter().filter(move |(_, is_fraud)| *is_fraud == wanted).map(|(score, _)| *score);
    let won = |fraud: f32| {
        of(false).map(move |other| f64::from(u8::from(fraud > other)) + f64::from(u8::from(fraud >= other)))
    };
    let (pairs, twice) = of(true).flat_map(won).fold((0.0, 0.0), |(pairs, twice), won| (pairs + 1.0, twice + won));
    twice / 2.0 / pairs
}

#[test]
fn the_bundled_model_detects_unseen_fraud() {
    let model = Model::bundled();
    let scored: Vec<_> =
        transactions(4_242, 20_000).map(|(transaction, is_fraud)| (model.score(&transaction), is_fraud)).collect();
    let auc = auc(&scored);
    // A twentieth of the labels is noise, so a higher value would be suspicious.
    assert!((0.955..0.985).contains(&auc), "AUC {auc}");
    let called = scored.iter().filter(|(score, _)| model.is_fraud(*score)).count();
    assert!((200..800).contains(&called), "{called} of 20000 are called fraud, about 500 are");
}

#[test]
fn the_readme_states_the_auc_of_the_file() {
    let file: ModelFile = serde_json::from_str(Model::BUNDLED).unwrap();
    let stated = format!("AUC {:.4} on {} unseen transactions", file.training.auc, file.training.test_rows);
    assert!(include_str!("../../README.md").contains(&stated), "the README does not say: {stated}");
    assert_ne!(file.training.seed, file.training.test_seed);
    assert!(file.note.contains("made-up"), "{}", file.note);
    assert!(Model::BUNDLED.len() < 300_000);
}

#[test]
fn planted_fraud_scores_higher_than_a_harmless_counterpart() {
    let model = Model::bundled();
    let score = |json: &str| model.score(&serde_json::from_str::<TransactionFields<'_>>(json).unwrap());
    let cases = [
        (
            "a refund on the debit side",
            r#"{"id":"1","description":"Refund from Darty","amount":-420.00,"timestamp":"2024-05-14T15:10:00Z","merchant":"Darty","operation_type":"refund","side":"debit"}"#,
            r#"{"id":"1","description":"Refund from Darty","amount":42.00,"timestamp":"2024-05-14T15:10:00Z","merchant":"Darty","operation_type":"refund","side":"credit"}"#,
        ),
        (
            "large purchases online at night",
            r#"{"id":"1","description":"Online payment","amount":-1250.00,"timestamp":"2024-05-14T03:10:00Z","merchant":"Steam","operation_type":"payment","side":"debit"}"#,
            r#"{"id":"1","description":"Online payment","amount":-24.99,"timestamp":"2024-05-14T20:10:00Z","merchant":"Steam","operation_type":"payment","side":"debit"}"#,
        ),
        (
            "an urgent transfer",
            r#"{"id":"1","description":"Urgent: safe account","amount":-2400,"timestamp":"2024-05-14T15:10:00Z","operation_type":"transfer","side":"debit"}"#,
            r#"{"id":"1","description":"Rent; thank you","amount":-800,"timestamp":"2024-05-14T15:10:00Z","operation_type":"transfer","side":"debit"}"#,
        ),
    ];
    for (what, planted, harmless) in cases {
        let (planted, harmless) = (score(planted), score(harmless));
        assert!(planted > 0.25 && harmless < 0.05, "{what}: {planted} and {harmless}");
    }
}
