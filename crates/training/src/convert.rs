//! Converts the library's trees into the full trees of `assay-ml-api`.

use anyhow::ensure;
use assay_ml_api::Tree;
use forust_ml::tree::Tree as Grown;

/// The tree, padded to `depth` splits on every path: splits below a leaf lead to that leaf either way.
pub(crate) fn tree(grown: &Grown, depth: u32) -> anyhow::Result<Tree> {
    let splits = (1 << depth) - 1;
    let mut full = Tree { feature: vec![0; splits], threshold: vec![0.0; splits], leaf: vec![0.0; splits + 1] };
    // The grown node of each position in the full tree; children come after their parents.
    let mut stands_for = vec![0; 2 * splits + 1];
    for at in 0..splits {
        let node = &grown.nodes[stands_for[at]];
        let (left, right) =
            if node.is_leaf { (stands_for[at], stands_for[at]) } else { (node.left_child, node.right_child) };
        (stands_for[2 * at + 1], stands_for[2 * at + 2]) = (left, right);
        if !node.is_leaf {
            full.feature[at] = u8::try_from(node.split_feature)?;
            full.threshold[at] = not_below(node.split_value);
        }
    }
    for (leaf, stands_for) in full.leaf.iter_mut().zip(&stands_for[splits..]) {
        let node = &grown.nodes[*stands_for];
        ensure!(node.is_leaf, "a tree is deeper than {depth} splits");
        *leaf = node.weight_value;
    }
    Ok(full)
}

/// The smallest `f32` not below the threshold: the same `f32` values are below either.
fn not_below(threshold: f64) -> f32 {
    #[expect(clippy::cast_possible_truncation, reason = "what is cut off is put right in the next line")]
    let nearest = threshold as f32;
    if f64::from(nearest) < threshold { nearest.next_up() } else { nearest }
}

/// The library's base score.
#[expect(clippy::cast_possible_truncation, reason = "the score is a single float")]
pub(crate) fn log_odds(base_score: f64) -> f32 {
    base_score as f32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_numbers_are_below_a_threshold_before_and_after() {
        for threshold in [0.1, 0.5, -0.3, 1.0 / 3.0, 1e-30, 12_345.678_9] {
            let single = not_below(threshold);
            assert!(f64::from(single) >= threshold);
            assert!(f64::from(single.next_down()) < threshold);
        }
    }
}
