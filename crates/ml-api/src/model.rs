//! The model: boosted trees as flat arrays, read from JSON and walked by our own code.
//!
//! Every tree is full: `depth` levels of splits, then leaves. So a walk is `depth` steps of `2 i + 1` or `2 i + 2`, without a
//! branch to mispredict, and its cost does not depend on the data. The training pads smaller trees.

use assay_transaction::Exit;
use serde::{Deserialize, Serialize};

use crate::features::{FEATURES, FeatureEncoder, Features, Tables};
use crate::fields::TransactionFields;

/// The format of the file; any other is rejected.
const FORMAT: &str = "assay-model-1";

/// Depth of the deepest tree: a deeper full tree would be mostly padding.
pub const MAX_DEPTH: u32 = 8;

/// The content of a model file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelFile {
    /// The format of the file, set by [`ModelFile::new`].
    format: String,
    /// What the model is good for, in plain words.
    pub note: String,
    /// The `model_version` of predictions.
    pub version: String,
    /// How it was trained.
    pub training: Training,
    /// The lowest score that is called fraud.
    pub threshold: f32,
    /// The names of the features, in order.
    features: Vec<String>,
    /// The tables that the features look up.
    pub tables: Tables,
    /// Splits above each leaf, in every tree.
    pub depth: u32,
    /// Log-odds before the first tree.
    pub base: f32,
    /// The trees; their leaves are summed.
    pub trees: Vec<Tree>,
}

/// How a model was trained, and how good it is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Training {
    /// Generated transactions for training.
    pub rows: usize,
    /// The generator's seed for training.
    pub seed: u64,
    /// Generated transactions for the test.
    pub test_rows: usize,
    /// The generator's seed for the test.
    pub test_seed: u64,
    /// Area under the ROC curve in the test.
    pub auc: f64,
}

/// A full binary tree. Split `i` leads to `2 i + 1` if the feature is below the threshold, else to `2 i + 2`; after the last
/// split come the leaves.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tree {
    /// The feature of each split.
    pub feature: Vec<u8>,
    /// The threshold of each split.
    pub threshold: Vec<f32>,
    /// Log-odds to add, leaf by leaf.
    pub leaf: Vec<f32>,
}

impl ModelFile {
    /// A file of this format, with the features of this crate.
    pub fn new(version: &str, note: &str, training: Training, tables: Tables, depth: u32, base: f32) -> Self {
        Self {
            format: FORMAT.to_owned(),
            note: note.to_owned(),
            version: version.to_owned(),
            training,
            threshold: 0.5,
            features: FEATURES.map(str::to_owned).to_vec(),
            tables,
            depth,
            base,
            trees: Vec::new(),
        }
    }
}

/// Why a file is not a model.
#[derive(Debug, thiserror::Error)]
pub enum ModelError {
    /// Not JSON, or not with the fields of a model.
    #[error("not a model file of this version: {0}")]
    Json(serde_json::Error),
    /// JSON that contradicts itself or this program.
    #[error("{0}")]
    Unusable(String),
}

impl ModelError {
    /// The exit code.
    pub fn exit(&self) -> Exit {
        Exit::Usage
    }
}

/// A model, ready to score.
#[derive(Debug)]
pub struct Model {
    version: String,
    threshold: f32,
    encoder: FeatureEncoder,
    base: f32,
    depth: u32,
    /// All splits, tree by tree.
    splits: Vec<Split>,
    /// All leaves, tree by tree.
    leaves: Vec<f32>,
}

#[derive(Debug, Clone, Copy)]
struct Split {
    feature: u32,
    threshold: f32,
}

impl Model {
    /// The demonstration model, part of the program.
    pub fn bundled() -> Self {
        Self::from_json(Self::BUNDLED).expect("the file is part of the program, and tested")
    }

    /// The file of the demonstration model.
    pub const BUNDLED: &str = include_str!("../model/demo.json");

    /// Reads a model file.
    pub fn from_json(json: &str) -> Result<Self, ModelError> {
        Self::from_file(&serde_json::from_str(json).map_err(ModelError::Json)?)
    }

    /// Checks and prepares a model.
    pub fn from_file(file: &ModelFile) -> Result<Self, ModelError> {
        check(file).map_err(ModelError::Unusable)?;
        let splits = file.trees.iter().flat_map(|tree| {
            let splits = tree.feature.iter().zip(&tree.threshold);
            splits.map(|(feature, threshold)| Split { feature: u32::from(*feature), threshold: *threshold })
        });
        Ok(Self {
            version: file.version.clone(),
            threshold: file.threshold,
            encoder: FeatureEncoder::new(&file.tables),
            base: file.base,
            depth: file.depth,
            splits: splits.collect(),
            leaves: file.trees.iter().flat_map(|tree| tree.leaf.iter().copied()).collect(),
        })
    }

    /// The `model_version` of predictions.
    pub fn version(&self) -> &str {
        &self.version
    }

    /// The fraud score of a transaction, from 0 to 1.
    pub fn score(&self, transaction: &TransactionFields<'_>) -> f32 {
        self.score_features(&self.encoder.encode(transaction))
    }

    /// The score of features that [`FeatureEncoder::encode`] computed from this model's tables.
    pub fn score_features(&self, features: &Features) -> f32 {
        1.0 / (1.0 + (-self.log_odds(features)).exp())
    }

    /// Whether a score is called fraud.
    pub fn is_fraud(&self, score: f32) -> bool {
        score >= self.threshold
    }

    fn log_odds(&self, features: &Features) -> f32 {
        let leaves_each = 1_usize << self.depth;
        let splits_each = leaves_each - 1;
        let trees = self.splits.chunks_exact(splits_each).zip(self.leaves.chunks_exact(leaves_each));
        let sum: f32 = trees
            .map(|(splits, leaves)| {
                let mut at = 0;
                for _ in 0..self.depth {
                    let split = splits[at];
                    at = 2 * at + 1 + usize::from(features[split.feature as usize] >= split.threshold);
                }
                leaves[at - splits_each]
            })
            .sum();
        self.base + sum
    }
}

/// What is wrong with a file, if anything.
fn check(file: &ModelFile) -> Result<(), String> {
    if file.format != FORMAT {
        return Err(format!("its format is `{}`, not `{FORMAT}`", file.format));
    }
    if file.features != FEATURES {
        return Err(format!(
            "it was trained on the features {}, not on {}",
            file.features.join(" "),
            FEATURES.join(" ")
        ));
    }
    if file.version.is_empty() || file.version.len() > 64 {
        return Err("its version must have 1 to 64 characters".to_owned());
    }
    if !(0.0..=1.0).contains(&file.threshold) {
        return Err(format!("its threshold {} is not from 0 to 1", file.threshold));
    }
    if !(1..=MAX_DEPTH).contains(&file.depth) {
        return Err(format!("its depth {} is not from 1 to {MAX_DEPTH}", file.depth));
    }
    if !file.base.is_finite() {
        return Err("its base is not a finite number".to_owned());
    }
    let leaves = 1_usize << file.depth;
    for (index, tree) in file.trees.iter().enumerate() {
        if (tree.feature.len(), tree.threshold.len(), tree.leaf.len()) != (leaves - 1, leaves - 1, leaves) {
            return Err(format!("tree {index} does not have {} splits and {leaves} leaves", leaves - 1));
        }
        if tree.feature.iter().any(|feature| usize::from(*feature) >= FEATURES.len()) {
            return Err(format!("tree {index} splits by a feature that does not exist"));
        }
        if tree.threshold.iter().chain(&tree.leaf).any(|number| !number.is_finite()) {
            return Err(format!("tree {index} holds a number that is not finite"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two splits of depth: negative or not, then by the hour.
    fn file() -> ModelFile {
        let training = Training { rows: 1, seed: 1, test_rows: 1, test_seed: 2, auc: 0.5 };
        let mut file = ModelFile::new("test-1", "a test", training, Tables::default(), 2, -1.0);
        let hour = 6;
        file.trees = vec![
            Tree { feature: vec![1, hour, hour], threshold: vec![0.5, 6.0, 22.0], leaf: vec![0.0, 1.0, 2.0, 3.0] },
            Tree { feature: vec![8, 8, 8], threshold: vec![0.75; 3], leaf: vec![-1.0, -1.0, 0.5, 0.5] },
        ];
        file
    }

    #[test]
    fn a_walk_ends_at_the_leaf_given_by_the_arrays() {
        let model = Model::from_file(&file()).unwrap();
        // Negative, hour, side; log-odds.
        let cases = [
            (0.0, 5.0, 0.0, -2.0),
            (0.0, 6.0, 0.0, -1.0),
            (1.0, 21.0, 0.0, 0.0),
            (1.0, 22.0, 0.0, 1.0),
            (1.0, 23.0, 1.0, 2.5),
        ];
        for (negative, hour, side, log_odds) in cases {
            let mut features = Features::default();
            (features[1], features[6], features[8]) = (negative, hour, side);
            let expected = 1.0 / (1.0 + f32::exp(-log_odds));
            let score = model.score_features(&features);
            assert!((score - expected).abs() < 1e-6, "{negative} {hour} {side}: {score}, not {expected}");
            assert_eq!(model.is_fraud(score), log_odds >= 0.0);
        }
    }

    #[test]
    fn an_inconsistent_file_is_rejected() {
        type Break = fn(&mut ModelFile);
        let cases: [(Break, &str); 9] = [
            (|file| file.format = "other".to_owned(), "format is `other`"),
            (|file| file.features.reverse(), "trained on the features word_odds_sum"),
            (|file| file.version.clear(), "version"),
            (|file| file.threshold = 1.5, "threshold 1.5"),
            (|file| file.depth = 9, "depth 9"),
            (|file| file.base = f32::NAN, "base"),
            (|file| file.depth = 3, "tree 0 does not have 7 splits and 8 leaves"),
            (|file| file.trees[1].feature[0] = 16, "tree 1 splits by a feature"),
            (|file| file.trees[1].leaf[0] = f32::INFINITY, "tree 1 holds a number"),
        ];
        for (break_it, expected) in cases {
            let mut broken = file();
            break_it(&mut broken);
            let error = Model::from_file(&broken).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
        assert!(Model::from_json("[]").unwrap_err().to_string().contains("not a model file"));
    }

    #[test]
    fn json_preserves_every_bit() {
        let bundled: ModelFile = serde_json::from_str(Model::BUNDLED).unwrap();
        for file in [file(), bundled] {
            let again: ModelFile = serde_json::from_str(&serde_json::to_string(&file).unwrap()).unwrap();
            assert_eq!(again, file);
        }
    }
}
