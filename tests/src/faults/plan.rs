//! What a round is made of. All of it follows from its seed, so that a round can be repeated; what the seed does not decide
//! is the instant at which a victim is caught holding work.

use std::time::Duration;

use assay_testkit::Dice;

use super::kind::Kind;

/// How many predictors there are in every round.
pub(super) const PREDICTORS: usize = 2;
/// The most writers that there are.
pub(super) const MAX_WRITERS: usize = 2;
/// How long the ML API may take for a request.
pub(super) const API_TIMEOUT: Duration = Duration::from_millis(1500);
/// How often a request is repeated that the ML API failed on.
pub(super) const MAX_RETRIES: u32 = 2;
/// Requests that a predictor has under way.
const WORKERS: usize = 2;
/// How long all rows would take an ML API that does not hurry: more than the faults do, so that there is work for each.
const SLOW_RUN: Duration = Duration::from_secs(14);

/// A round.
#[derive(Debug, Clone)]
pub(super) struct Plan {
    pub(super) file: FilePlan,
    /// Whether the file lies in S3, or on the disk.
    pub(super) from_s3: bool,
    /// Whether the loader stays until every row is stored.
    pub(super) waits: bool,
    /// Whether the run is named beforehand.
    pub(super) is_named: bool,
    pub(super) writers: usize,
    /// How many messages a queue takes.
    pub(super) queue_length: u32,
    /// For every program.
    pub(super) settings: Vec<(&'static str, String)>,
    /// How long the ML API takes for a request until all faults are injected.
    pub(super) slowness: Duration,
    /// How many rows are wide.
    pub(super) wide: usize,
    /// How many rows, at least, the ML API answers 500 to.
    pub(super) broken: usize,
    /// And 422.
    pub(super) refused: usize,
    /// What happens, in this order.
    pub(super) faults: Vec<Kind>,
    /// For everything that is decided on the way.
    pub(super) dice: Dice,
}

/// How the file is written.
#[derive(Debug, Clone)]
pub(super) struct FilePlan {
    pub(super) rows: usize,
    /// Arguments of `assay generate`.
    pub(super) arguments: Vec<String>,
    pub(super) delimiter: u8,
    pub(super) decimal_mark: char,
    pub(super) is_windows_1252: bool,
    pub(super) has_uuids: bool,
}

impl Plan {
    /// The plan of a seed, where `only` one kind of fault is asked for or all are.
    pub(super) fn new(seed: u64, only: Option<Kind>) -> Self {
        let mut dice = Dice::new(seed);
        let faults = faults(seed, only, &mut dice);
        let at_fault = |kind, dice: &mut Dice| match only {
            None if dice.one_in(2) => dice.between(1, 3),
            Some(only) if only == kind => 3,
            _ => 0,
        };
        let broken = at_fault(Kind::ApiBrokenRows, &mut dice);
        let refused = at_fault(Kind::ApiRefusedRows, &mut dice);
        let wide = match only {
            None if dice.one_in(4) => dice.between(20, 40),
            Some(Kind::WideRows) => 60,
            _ => 0,
        };
        let file = FilePlan::new(seed, &mut dice);
        let chunk_rows = dice.between(20, 40);
        let is_small = faults.iter().any(|kind| kind.needs_loader()) || dice.one_in(2);
        let queue_length = if is_small { u32::try_from(dice.between(5, 12)).expect("it is small") } else { 2000 };
        let workers = PREDICTORS * WORKERS;
        let chunks = file.rows.div_ceil(chunk_rows);
        let slowness = SLOW_RUN * u32::try_from(workers).expect("few") / u32::try_from(chunks).expect("few");
        let settings = vec![
            ("CHUNK_ROWS", chunk_rows.to_string()),
            ("ROW_BATCH_SIZE", dice.pick(&[100, 250, 400]).to_string()),
            ("QUEUE_MAX_LENGTH", queue_length.to_string()),
            ("PUBLISH_WINDOW", dice.pick(&[2, 8, 64]).to_string()),
            ("PUBLISH_TIMEOUT", "5s".to_owned()),
            ("API_MAX_WORKERS", WORKERS.to_string()),
            ("API_TIMEOUT", format!("{}ms", API_TIMEOUT.as_millis())),
            ("MAX_RETRIES", MAX_RETRIES.to_string()),
            ("DB_ROW_BATCH_SIZE", dice.pick(&[50, 150, 400]).to_string()),
            ("FLUSH_INTERVAL", format!("{}ms", dice.between(20, 100))),
        ];
        Self {
            file,
            from_s3: !dice.one_in(3),
            waits: dice.one_in(2),
            is_named: dice.one_in(2),
            writers: dice.between(1, MAX_WRITERS),
            queue_length,
            settings,
            slowness,
            wide,
            broken,
            refused,
            faults,
            dice,
        }
    }
}

fn faults(seed: u64, only: Option<Kind>, dice: &mut Dice) -> Vec<Kind> {
    if let Some(kind) = only {
        let times = if kind.restarts_broker() { 2 } else { 4 };
        return if Kind::MOMENTARY.contains(&kind) { vec![kind; times] } else { Vec::new() };
    }
    // One after the other with each seed, so that a handful of rounds has seen every kind.
    let place = usize::try_from(seed % Kind::MOMENTARY.len() as u64).expect("less than a usize");
    let mut faults = vec![Kind::MOMENTARY[place]];
    let count = dice.between(3, 6);
    while faults.len() < count {
        let kind = dice.pick(&Kind::MOMENTARY);
        // Starting RabbitMQ takes seconds: once in a round, and not in each.
        if kind.restarts_broker() && (faults.iter().any(|fault| fault.restarts_broker()) || !dice.one_in(2)) {
            continue;
        }
        faults.push(kind);
    }
    dice.shuffle(&mut faults);
    faults
}

impl FilePlan {
    fn new(seed: u64, dice: &mut Dice) -> Self {
        const DIALECTS: [(u8, &str, char, &str); 5] = [
            (b';', "semicolon", ',', "comma"),
            (b',', "comma", '.', "point"),
            (b',', "comma", ',', "comma"),
            (b'\t', "tab", '.', "point"),
            (b'|', "pipe", ',', "comma"),
        ];
        let rows = dice.between(3_000, 5_000);
        let (delimiter, delimiter_name, decimal_mark, mark_name) = dice.pick(&DIALECTS);
        let is_windows_1252 = dice.one_in(4);
        let has_uuids = dice.one_in(3);
        let mut arguments = vec![
            format!("--rows={rows}"),
            format!("--seed={seed}"),
            format!("--delimiter={delimiter_name}"),
            format!("--decimal-mark={mark_name}"),
            format!("--quoting={}", dice.pick(&["text", "needed", "all"])),
            format!("--invalid={}", dice.pick(&["0", "0.02", "0.1"])),
            format!("--duplicates={}", dice.pick(&["0", "0.02", "0.1"])),
            format!("--invalid-kinds={}", dice.pick(&["usual", "usual", "all"])),
        ];
        let mut flag = |is_set: bool, flag: &str| arguments.extend(is_set.then(|| flag.to_owned()));
        flag(is_windows_1252, "--encoding=windows-1252");
        flag(!is_windows_1252 && dice.one_in(3), "--bom");
        flag(dice.one_in(3), "--crlf");
        flag(dice.one_in(3), "--labels");
        flag(dice.one_in(3), "--attributes");
        flag(has_uuids, "--uuid-ids");
        Self { rows, arguments, delimiter, decimal_mark, is_windows_1252, has_uuids }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_always_makes_the_same_round() {
        let shown = |seed| format!("{:?}", Plan::new(seed, None));
        assert_eq!(shown(5), shown(5));
        assert_ne!(shown(5), shown(6));
    }

    #[test]
    fn as_many_rounds_as_there_are_kinds_see_each() {
        let plans: Vec<Plan> = (100..100 + Kind::MOMENTARY.len() as u64).map(|seed| Plan::new(seed, None)).collect();
        for kind in Kind::MOMENTARY {
            assert!(plans.iter().any(|plan| plan.faults.contains(&kind)), "{kind}");
        }
        assert!(plans.iter().any(|plan| plan.broken > 0) && plans.iter().any(|plan| plan.refused > 0));
        assert!(plans.iter().any(|plan| plan.wide > 0));
    }

    #[test]
    fn every_round_is_within_its_bounds() {
        for seed in 0..500 {
            let plan = Plan::new(seed, None);
            assert!((3..=6).contains(&plan.faults.len()), "{seed}: {:?}", plan.faults);
            assert!(plan.faults.iter().filter(|kind| kind.restarts_broker()).count() <= 1, "{seed}");
            assert!(plan.queue_length < 20 || !plan.faults.iter().any(|kind| kind.needs_loader()), "{seed}");
            assert!(plan.slowness < API_TIMEOUT * 2 / 3, "{seed}: {:?}", plan.slowness);
        }
    }
}
