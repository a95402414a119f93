//! Cases from the field: files as people, banks and programs write them, with their expected outcomes. Every case goes through
//! `assay run` on SQLite, and through `loader`, `predictor` and `writer` on PostgreSQL and RabbitMQ.
//!
//! `book` reads the cases of `tests/field/cases.toml`; `outcome` compares an outcome with the expected one.

mod book;
mod columns;
mod outcome;
mod real_world;
mod settings;

use std::path::Path;

use assay_tests::{HEADER, Program, Script, Stack, law};
use futures_util::{StreamExt as _, stream};
use sqlx::SqlitePool;

use self::book::{Case, Step, cases};
use self::outcome::{Outcome, Told, stored};

/// Cases that are played at the same time.
const AT_ONCE: usize = 4;
/// What is asked of both databases, each with its own words for a list of runs and for the texts of an amount and a timestamp.
macro_rules! questions {
    ($runs:literal, $amount:literal, $timestamp:literal, $attributes:literal) => {
        [
            concat!(
                "SELECT count(*) FROM predictions JOIN transactions t ON t.id = transaction_id WHERE t.run_id ",
                $runs
            ),
            concat!("SELECT count(*) FROM invalid_transactions WHERE run_id ", $runs),
            concat!("SELECT count(*) FROM failed_transactions WHERE run_id ", $runs),
            concat!("SELECT CAST(coalesce(sum(rows_read), 0) AS BIGINT) FROM runs WHERE run_id ", $runs),
            concat!(
                "SELECT external_id, description, ",
                $amount,
                ", ",
                $timestamp,
                ", merchant, operation_type, side, ",
                $attributes,
                " FROM transactions WHERE run_id ",
                $runs
            ),
            concat!(
                "SELECT message FROM invalid_transactions WHERE run_id ",
                $runs,
                " UNION ALL SELECT class || ' ' || reason FROM failed_transactions WHERE run_id ",
                $runs
            ),
        ]
    };
}

/// Asks a database what came of the runs of a case.
macro_rules! ask {
    ($pool:expr, $questions:expr, $runs:expr, $outcome:expr) => {{
        let [predicted, invalid, failed, rows, values, messages] = $questions;
        let (pool, runs) = ($pool, $runs);
        let count = async |question: &'static str| -> i64 {
            sqlx::query_scalar(question).bind(runs.clone()).fetch_one(pool).await.unwrap()
        };
        $outcome.predicted = count(predicted).await;
        $outcome.invalid = count(invalid).await;
        $outcome.failed = count(failed).await;
        $outcome.duplicate = count(rows).await - $outcome.predicted - $outcome.invalid - $outcome.failed;
        let told: Vec<Told> = sqlx::query_as(values).bind(runs.clone()).fetch_all(pool).await.unwrap();
        $outcome.stored = told.into_iter().map(stored).collect();
        let messages: Vec<String> = sqlx::query_scalar(messages).bind(runs.clone()).fetch_all(pool).await.unwrap();
        $outcome.said.push_str(&messages.join("\n"));
    }};
}

/// Plays the steps of a case in its folder; what is wrong already, and what the last one said.
async fn play(
    number: usize,
    case: &Case,
    folder: &Path,
    load: &str,
    known: &(dyn Fn(Program) -> Program + Sync),
) -> (Vec<String>, Outcome) {
    case.place(number, folder);
    let (mut wrong, mut outcome) = (Vec::new(), Outcome::default());
    for (at, step) in case.steps(number).into_iter().enumerate() {
        let Step { load: files, shell, env, exit, says } = step;
        let mut program = if let Some(line) = &shell {
            // A pipe has no place by which its run could be found.
            Program::shell(line).env("LOAD", load).env("BATCH_RUN_ID", format!("case-{number}-{at}"))
        } else {
            let (name, argument) = load.split_once(' ').unwrap_or((load, ""));
            let program = Program::new(if name == "assay" { "assay" } else { "loader" }).arg(argument);
            files.iter().fold(program, Program::arg)
        };
        program = known(program).within(folder);
        program = env.iter().fold(program, |program, (name, value)| program.env(name, value));
        let ended = program.run().await;
        outcome = Outcome {
            exit: ended.code.map_or(-1, i64::from),
            said: format!("{}{}", ended.stdout, ended.stderr),
            ..Outcome::default()
        };
        let missing = outcome.unsaid(&says);
        wrong.extend(missing.into_iter().map(|missing| format!("step {}: {missing}", at + 1)));
        if exit.is_some_and(|exit| i64::from(exit) != outcome.exit) {
            wrong.push(format!("step {}: exit is {}, not {exit:?}", at + 1, outcome.exit));
        }
    }
    (wrong, outcome)
}

/// One line for a case that is wrong.
fn told(case: &Case, mut wrong: Vec<String>, outcome: &Outcome) -> Option<String> {
    wrong.extend(outcome.wrong(&case.expect));
    let errors: Vec<&str> = outcome.said.lines().filter(|line| line.contains("ERROR")).collect();
    (!wrong.is_empty()).then(|| format!("{}: {}\n    {}", case.name, wrong.join("; "), errors.join("\n    ")))
}

async fn in_one_process(number: usize, case: &Case) -> Option<String> {
    const QUESTIONS: [&str; 6] = questions!("IS NOT $1", "amount", "\"timestamp\"", "attributes");
    let folder = tempfile::tempdir().unwrap();
    let (wrong, mut outcome) = play(number, case, folder.path(), "assay run", &|program| program).await;
    let database = folder.path().join("assay.db");
    if database.exists() {
        law::holds_in_file(&database).await;
        let pool = SqlitePool::connect(&format!("sqlite://{}", database.display())).await.unwrap();
        ask!(&pool, QUESTIONS, String::new(), outcome);
        pool.close().await;
    }
    told(case, wrong, &outcome)
}

async fn in_a_fleet(stack: &Stack, number: usize, case: &Case) -> Option<String> {
    const QUESTIONS: [&str; 6] = questions!(
        "= ANY($1)",
        "amount::text",
        "to_char(\"timestamp\" AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US')",
        "attributes::text"
    );
    const RUNS: &str = "SELECT run_id FROM runs WHERE starts_with(source_location, $1) OR starts_with(run_id, $2)";
    let folder = tempfile::tempdir().unwrap();
    let known = |program| stack.known_to(program).env("WAIT_TIMEOUT", "60s");
    let (wrong, mut outcome) = play(number, case, folder.path(), "loader --wait", &known).await;
    let pool = stack.database.pool();
    let path = folder.path().canonicalize().unwrap().display().to_string();
    let runs: Vec<String> =
        sqlx::query_scalar(RUNS).bind(path).bind(format!("case-{number}-")).fetch_all(pool).await.unwrap();
    ask!(pool, QUESTIONS, runs, outcome);
    told(case, wrong, &outcome)
}

fn report(wrong: &[String], cases: usize) {
    assert!(wrong.is_empty(), "{} of {cases} cases are wrong:\n{}", wrong.len(), wrong.join("\n"));
}

#[tokio::test]
async fn every_field_case_has_its_outcome_in_one_process() {
    let cases = cases();
    let played = stream::iter(&cases).map(|(number, case)| in_one_process(*number, case)).buffered(AT_ONCE);
    let wrong: Vec<String> = played.filter_map(async |wrong| wrong).collect().await;
    report(&wrong, cases.len());
}

#[tokio::test]
async fn every_field_case_has_its_outcome_in_a_fleet() {
    let stack = Stack::new(Script::Categorise).await;
    let _stages = stack.start_stages();
    let cases = cases();
    let played = stream::iter(&cases).map(|(number, case)| in_a_fleet(&stack, *number, case)).buffered(AT_ONCE);
    let wrong: Vec<String> = played.filter_map(async |wrong| wrong).collect().await;
    report(&wrong, cases.len());
    law::holds(&stack.database).await;
}

/// Kind 53: two processes that find no database make one of it between them.
#[tokio::test]
async fn two_processes_start_on_one_database() {
    for round in 0..3 {
        let folder = tempfile::tempdir().unwrap();
        let running = ["one", "two"].map(|name| {
            let file = format!("{name}.csv");
            let rows = (1..=3).map(|number| format!("{number},{name},-{number}.00,2024-03-15 10:00:00,M,card,debit\n"));
            std::fs::write(folder.path().join(&file), format!("{HEADER}\n{}", rows.collect::<String>())).unwrap();
            Program::new("assay").args(["run", &file]).within(folder.path()).start()
        });
        for running in running {
            running.end().await.expect_exit(0);
        }
        let runs = law::holds_in_file(&folder.path().join("assay.db")).await;
        assert_eq!(runs.values().map(|tally| tally.predicted).collect::<Vec<_>>(), [3, 3], "round {round}");
    }
}

#[test]
fn every_kind_has_at_least_two_cases() {
    let cases = cases();
    let elsewhere = ["52", "53"];
    let kinds = (0..=29).chain(42..=50).chain(52..=54).map(|kind| format!("{kind:02}"));
    for kind in kinds.filter(|kind| !elsewhere.contains(&kind.as_str())) {
        let of_kind = cases.iter().filter(|(_, case)| case.name.starts_with(&format!("{kind}-"))).count();
        assert!(of_kind >= 2, "kind {kind} has {of_kind}");
    }
    let mut names: Vec<&str> = cases.iter().map(|(_, case)| case.name.as_str()).collect();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), cases.len(), "each case has a name of its own");
}
