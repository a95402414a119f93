//! Trains the demonstration model of the reference ML API, and measures it.
//!
//! ```text
//! cargo run --release -p assay-training
//! ```
//!
//! generates labelled transactions, learns the look-up tables of the features, grows boosted trees, converts them into
//! the flat arrays of `assay-ml-api`, measures them on transactions of another seed, and writes
//! `crates/ml-api/model/demo.json`. No crate depends on this one, so that only training compiles the library that grows
//! the trees.

mod convert;
mod measure;
mod tables;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, ensure};
use assay_ml_api::{FEATURES, FeatureEncoder, Features, MAX_DEPTH, Model, ModelFile, Training};
use clap::Parser;
use forust_ml::{GradientBooster, Matrix};

use crate::measure::{Quality, auc};
use crate::tables::{Labelled, labelled_transactions};

/// The note in the model file.
const NOTE: &str = "A demonstration model. It is trained on made-up transactions with planted fraud patterns, and must not \
                    decide about real money.";

/// Trains the demonstration model on generated transactions, and writes its file.
#[derive(Debug, Parser)]
#[command(name = "train")]
struct Arguments {
    /// Transactions to train on.
    #[arg(long, default_value_t = 600_000)]
    rows: usize,
    /// Generator seed of the training transactions.
    #[arg(long, default_value_t = 1_001)]
    seed: u64,
    /// Transactions to measure on.
    #[arg(long, default_value_t = 200_000)]
    test_rows: usize,
    /// Generator seed of the measured transactions; must differ.
    #[arg(long, default_value_t = 2_002)]
    test_seed: u64,
    /// Trees to grow.
    #[arg(long, default_value_t = 60)]
    trees: usize,
    /// Splits on the way to a leaf.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=i64::from(MAX_DEPTH)))]
    depth: u32,
    /// Share of the error each tree may correct.
    #[arg(long, default_value_t = 0.15)]
    learning_rate: f32,
    /// Least weight of a leaf, counted in rows whose label is still uncertain.
    #[arg(long, default_value_t = 20.0)]
    leaf_weight: f32,
    /// The `model_version` of its predictions.
    #[arg(long, default_value = "demo-1")]
    model_version: String,
    /// Output file.
    #[arg(long, default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/../ml-api/model/demo.json"))]
    output: PathBuf,
}

#[expect(clippy::print_stdout, clippy::print_stderr, reason = "a command line tool for people")]
fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match train(&arguments).and_then(|trained| trained.write(&arguments).map(|bytes| (trained, bytes))) {
        Ok((Trained { quality, .. }, bytes)) => {
            println!("{quality}");
            println!("wrote {bytes} bytes to {}", arguments.output.display());
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

/// A model and its quality.
struct Trained {
    file: ModelFile,
    quality: Quality,
}

impl Trained {
    fn write(&self, arguments: &Arguments) -> anyhow::Result<usize> {
        let mut json = serde_json::to_string(&self.file)?;
        json.push('\n');
        let path = &arguments.output;
        std::fs::write(path, &json).with_context(|| format!("cannot write {}", path.display()))?;
        Ok(json.len())
    }
}

fn train(arguments: &Arguments) -> anyhow::Result<Trained> {
    ensure!(
        arguments.seed != arguments.test_seed,
        "--seed and --test-seed are the same: the test rows would not be unseen"
    );
    let known = labelled_transactions(arguments.seed, arguments.rows);
    let tables = tables::learn(&known);
    let encoder = FeatureEncoder::new(&tables);
    let (features, labels) = encode(&encoder, &known);
    let booster = grow(arguments, &features, &labels)?;

    let training = Training {
        rows: arguments.rows,
        seed: arguments.seed,
        test_rows: arguments.test_rows,
        test_seed: arguments.test_seed,
        auc: 0.0,
    };
    let base = convert::log_odds(booster.base_score);
    let mut file = ModelFile::new(&arguments.model_version, NOTE, training, tables, arguments.depth, base);
    file.trees =
        booster.trees.iter().map(|tree| convert::tree(tree, arguments.depth)).collect::<anyhow::Result<_>>()?;
    let model = Model::from_file(&file)?;

    let unseen = labelled_transactions(arguments.test_seed, arguments.test_rows);
    let scored: Vec<(f32, bool)> = unseen.iter().map(|row| (model.score(&row.transaction()), row.is_fraud())).collect();
    file.training.auc = (auc(&scored) * 1e4).round() / 1e4;
    let quality = Quality::of(&scored, |score| model.is_fraud(score));
    Ok(Trained { file, quality })
}

/// Features and labels of all rows, as served.
fn encode(encoder: &FeatureEncoder, rows: &[Labelled]) -> (Vec<Features>, Vec<f64>) {
    rows.iter().map(|row| (encoder.encode(&row.transaction()), f64::from(u8::from(row.is_fraud())))).unzip()
}

fn grow(arguments: &Arguments, features: &[Features], labels: &[f64]) -> anyhow::Result<GradientBooster> {
    // Column by column.
    let columns: Vec<f64> =
        (0..FEATURES.len()).flat_map(|column| features.iter().map(move |row| f64::from(row[column]))).collect();
    let mut booster = GradientBooster::default()
        .set_iterations(arguments.trees)
        .set_max_depth(arguments.depth as usize)
        .set_learning_rate(arguments.learning_rate)
        .set_min_leaf_weight(arguments.leaf_weight)
        .set_allow_missing_splits(false)
        // One thread sums in a fixed order, so that the same seed grows the same trees.
        .set_parallel(false);
    booster.fit_unweighted(&Matrix::new(&columns, features.len(), FEATURES.len()), labels, None)?;
    Ok(booster)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arguments(line: &str) -> Arguments {
        Arguments::parse_from(format!("train --rows 30000 --test-rows 20000 --trees 8 {line}").split_whitespace())
    }

    #[test]
    fn our_scores_equal_those_of_the_library() {
        for depth in [1, 3, 6] {
            let arguments = arguments(&format!("--depth {depth} --leaf-weight 1"));
            let Trained { file, .. } = train(&arguments).unwrap();
            let known = labelled_transactions(arguments.seed, arguments.rows);
            let encoder = FeatureEncoder::new(&file.tables);
            let (features, labels) = encode(&encoder, &known);
            let booster = grow(&arguments, &features, &labels).unwrap();
            let columns: Vec<f64> =
                (0..FEATURES.len()).flat_map(|column| features.iter().map(move |row| f64::from(row[column]))).collect();
            let expected = booster.predict(&Matrix::new(&columns, features.len(), FEATURES.len()), false);
            let model = Model::from_file(&file).unwrap();
            for (features, log_odds) in features.iter().zip(expected) {
                let expected = 1.0 / (1.0 + (-log_odds).exp());
                let score = f64::from(model.score_features(features));
                assert!((score - expected).abs() < 1e-5, "depth {depth}: {score}, not {expected}");
            }
        }
    }

    #[test]
    fn a_short_training_learns_and_is_reproducible() {
        let trained = train(&arguments("")).unwrap();
        assert!(trained.file.training.auc > 0.85, "{}", trained.quality);
        assert_eq!(train(&arguments("")).unwrap().file, trained.file);
    }

    #[test]
    fn training_rows_are_not_measured() {
        let error = train(&arguments("--seed 3 --test-seed 3")).err().unwrap();
        assert!(error.to_string().contains("--test-seed"), "{error}");
    }
}
