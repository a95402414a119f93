//! Latencies that can be compared: each as a multiple of what requests of its size take while the ML API is not busy.
//!
//! A request of one row and one of a hundred differ by a fixed cost and a cost per row, in shares that no one knows. So neither
//! their latencies nor their latencies per row are compared, but each with its own kind: there is a class for 1 row, for 2 to 3,
//! 4 to 7 and so on. The [`Baseline`] keeps the unloaded latency of each class, and what is compared between loads is the ratio.

/// Classes of sizes, by powers of two; the last one has all that are larger.
const CLASSES: usize = 16;
/// How far the baseline follows a round, which may be quick or slow by chance.
const STEADY_GAIN: f64 = 0.2;
/// No latency counts as less, so that ratios exist.
const SHORTEST: f64 = 1e-6;

fn class_of(rows: usize) -> usize {
    (rows.max(1).ilog2() as usize).min(CLASSES - 1)
}

/// The latency of each class of sizes, in seconds, while requests do not wait in the ML API.
#[derive(Debug, Default)]
pub(super) struct Baseline([Option<f64>; CLASSES]);

/// A latency beside that of its class.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sample {
    class: usize,
    seconds: f64,
    baseline: f64,
}

impl Baseline {
    /// A latency of a request with so many rows. The first of its class is the baseline until others are seen.
    pub(super) fn sample(&mut self, rows: usize, seconds: f64) -> Sample {
        let (class, seconds) = (class_of(rows), seconds.max(SHORTEST));
        Sample { class, seconds, baseline: *self.0[class].get_or_insert(seconds) }
    }

    /// Follows what a round took: down at any time, as far as that is no chance, but up only if its requests did not wait.
    pub(super) fn follow(&mut self, round: &Samples, is_settled: bool) {
        let (gain, may_rise) = if is_settled { (STEADY_GAIN, round.wait() <= 0.0) } else { (1.0, false) };
        let scatter = 1.0 + round.error().sqrt() / round.ratio().max(SHORTEST);
        for (baseline, mean) in self.0.iter_mut().zip(round.means()) {
            if let (Some(baseline), Some(mean)) = (baseline, mean) {
                let lower = (mean * scatter - *baseline).min(0.0);
                *baseline += gain * if may_rise && mean > *baseline { mean - *baseline } else { lower };
            }
        }
    }

    /// Moves a part of the way to what rounds took, whose requests may have waited.
    pub(super) fn approach(&mut self, round: &Samples) {
        for (baseline, mean) in self.0.iter_mut().zip(round.means()) {
            if let (Some(baseline), Some(mean)) = (baseline, mean) {
                *baseline += STEADY_GAIN * (mean - *baseline);
            }
        }
    }

    /// Learns the baseline anew from a round of few requests at a time: the model may be slower than it was. Classes that the
    /// round did not have change by as much as the others.
    pub(super) fn relearn(&mut self, round: &Samples) {
        for (baseline, mean) in self.0.iter_mut().zip(round.means()) {
            *baseline = mean.or_else(|| baseline.map(|seconds| seconds * round.ratio()));
        }
    }
}

/// The latencies of one round.
#[derive(Debug, Clone, Default)]
pub(super) struct Samples {
    count: usize,
    /// Mean of the ratios, and the sum of their squared distances from it.
    mean: f64,
    squares: f64,
    seconds: f64,
    baseline: f64,
    classes: [(u32, f64); CLASSES],
}

impl Samples {
    pub(super) fn add(&mut self, Sample { class, seconds, baseline }: Sample) {
        let ratio = seconds / baseline;
        let distance = ratio - self.mean;
        self.count += 1;
        self.mean += distance / as_f64(self.count);
        self.squares += distance * (ratio - self.mean);
        self.seconds += seconds;
        self.baseline += baseline;
        self.classes[class].0 += 1;
        self.classes[class].1 += seconds;
    }

    pub(super) fn len(&self) -> usize {
        self.count
    }

    /// Mean latency as a multiple of the baseline.
    pub(super) fn ratio(&self) -> f64 {
        self.mean
    }

    /// Mean latency in seconds.
    pub(super) fn seconds(&self) -> f64 {
        self.seconds / as_f64(self.count.max(1))
    }

    /// How long a request waited beyond the baseline at least, in seconds on average: less a standard error.
    pub(super) fn wait(&self) -> f64 {
        (self.seconds - self.baseline * (1.0 + self.error().sqrt())) / as_f64(self.count.max(1))
    }

    /// How much longer a request of this round waited than it would have in `other`, in seconds; 0 if that may be chance.
    pub(super) fn wait_beyond(&self, other: &Self) -> f64 {
        /// Standard errors that a difference must exceed.
        const SURE: f64 = 3.5;
        let (difference, error) = (self.mean - other.mean, (self.error() + other.error()).sqrt());
        if difference > SURE * error { difference * self.baseline / as_f64(self.count.max(1)) } else { 0.0 }
    }

    /// The squared standard error of the mean ratio.
    fn error(&self) -> f64 {
        match self.count {
            0 | 1 => 0.0,
            count => self.squares / as_f64(count - 1) / as_f64(count),
        }
    }

    /// Both rounds as one.
    pub(super) fn with(mut self, other: &Self) -> Self {
        let (count, others) = (as_f64(self.count), as_f64(other.count));
        let (all, distance) = ((count + others).max(1.0), other.mean - self.mean);
        self.count += other.count;
        self.mean += distance * others / all;
        self.squares += other.squares + distance * distance * count * others / all;
        self.seconds += other.seconds;
        self.baseline += other.baseline;
        for (class, (requests, seconds)) in self.classes.iter_mut().zip(other.classes) {
            class.0 += requests;
            class.1 += seconds;
        }
        self
    }

    fn means(&self) -> impl Iterator<Item = Option<f64>> {
        self.classes.iter().map(|(count, seconds)| (*count > 0).then(|| seconds / f64::from(*count)))
    }
}

/// Counts of requests are small.
#[allow(clippy::cast_precision_loss)]
pub(super) fn as_f64(count: usize) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn samples(baseline: &mut Baseline, all: &[(usize, f64)]) -> Samples {
        let mut samples = Samples::default();
        for (rows, seconds) in all {
            samples.add(baseline.sample(*rows, *seconds));
        }
        samples
    }

    #[test]
    fn a_size_is_compared_with_its_like() {
        for (rows, class) in [(0, 0), (1, 0), (2, 1), (3, 1), (4, 2), (100, 6), (127, 6), (128, 7), (usize::MAX, 15)] {
            assert_eq!(class_of(rows), class, "{rows} rows");
        }
        let mut baseline = Baseline::default();
        samples(&mut baseline, &[(1, 0.004), (100, 0.020)]);
        let mixed = samples(&mut baseline, &[(1, 0.004), (1, 0.004), (100, 0.020), (90, 0.020)]);
        assert!((mixed.ratio() - 1.0).abs() < 1e-9 && mixed.wait().abs() < 1e-9, "{mixed:?}");
        let busy = samples(&mut baseline, &[(1, 0.008), (100, 0.040)]);
        assert!((busy.ratio() - 2.0).abs() < 1e-9, "{busy:?}");
        assert!((busy.wait() - 0.012).abs() < 1e-9, "{busy:?}");
    }

    #[test]
    fn the_baseline_follows_what_is_not_a_wait() {
        let of = |baseline: &Baseline, rows| baseline.0[class_of(rows)].unwrap();
        let near = |seconds: f64, expected: f64| (seconds - expected).abs() < 1e-9;
        let mut baseline = Baseline::default();
        samples(&mut baseline, &[(1, 1.0), (100, 2.0)]);
        let quick = samples(&mut baseline, &[(100, 1.0)]);
        baseline.follow(&quick, true);
        assert!(near(of(&baseline, 100), 1.8), "a part of the way");
        baseline.follow(&quick, false);
        assert!(near(of(&baseline, 100), 1.0) && near(of(&baseline, 1), 1.0), "all of it during slow start");
        let waiting = samples(&mut baseline, &[(100, 3.0), (100, 3.1)]);
        baseline.follow(&waiting, true);
        assert!(near(of(&baseline, 100), 1.0), "requests that wait do not raise it");
        let scattered = samples(&mut baseline, &[(100, 0.9), (100, 1.2)]);
        baseline.follow(&scattered, true);
        assert!(near(of(&baseline, 100), 1.01), "scatter does, slowly");
        baseline.relearn(&waiting);
        assert!(near(of(&baseline, 100), 3.05));
        assert!(near(of(&baseline, 1), 3.05), "a size that was not seen rises alike");
    }

    #[test]
    fn a_difference_within_the_scatter_is_chance() {
        let mut baseline = Baseline::default();
        samples(&mut baseline, &[(1, 0.010)]);
        let scattered = samples(&mut baseline, &[(1, 0.010), (1, 0.040), (1, 0.012), (1, 0.030)]);
        let quick = samples(&mut baseline, &[(1, 0.010), (1, 0.035), (1, 0.012), (1, 0.011)]);
        assert!(scattered.wait_beyond(&quick).abs() < 1e-9);
        let waiting = samples(&mut baseline, &[(1, 0.090), (1, 0.100), (1, 0.110), (1, 0.100)]);
        assert!((waiting.wait_beyond(&quick) - 0.083).abs() < 1e-9);
        assert!(quick.wait_beyond(&waiting).abs() < 1e-9);
    }

    proptest! {
        #[test]
        fn ratios_are_numbers(all in proptest::collection::vec((0_usize..5_000, 0.0_f64..1e4), 1..50)) {
            let mut baseline = Baseline::default();
            let first = samples(&mut baseline, &all);
            baseline.follow(&first, true);
            baseline.relearn(&first);
            let again = samples(&mut baseline, &all);
            for number in [again.ratio(), again.seconds(), again.wait(), again.wait_beyond(&first)] {
                prop_assert!(number.is_finite(), "{again:?}");
            }
            prop_assert!(again.ratio() > 0.0 && again.error() >= 0.0);
            let (one, two) = all.split_at(all.len() / 2);
            let both = samples(&mut baseline, one).with(&samples(&mut baseline, two));
            prop_assert!((both.ratio() - again.ratio()).abs() <= 1e-6 * again.ratio());
            prop_assert!((both.error() - again.error()).abs() <= 1e-6 * again.error().max(1.0));
        }
    }
}
