//! Measures rows per second for more and more predictors, each with one request at a time, with a slow ML API.

use assay_tests::Database;

use crate::fleet::{Fleet, ModelServer};
use crate::load::load;
use crate::options::Options;
use crate::report::{Figure, Report, count, table, thousands};
use crate::source::SourceFiles;

/// The share of rows that counts: not all predictors work at the beginning and at the end.
const MIDDLE: (f64, f64) = (0.1, 0.9);
/// Goal for sixteen predictors, relative to one.
const GOAL: f64 = 15.0;
const GOAL_FLEET: usize = 16;

/// Measures each number of predictors.
pub(crate) async fn measure(options: &Options, sources: &mut SourceFiles, report: &mut Report) {
    let mut rates: Vec<(usize, u64, f64)> = Vec::new();
    for predictors in &options.fleets {
        let rows = options.rows_each * u64::try_from(*predictors).expect("few predictors");
        let file = sources.of(rows).await;
        let model_server = ModelServer::reference(options.latency()).await;
        let fleet = Fleet::new(options, &model_server, &[("API_MAX_WORKERS", "1".to_owned())]).await;
        let object = fleet.stack.s3.put_file("transactions", "rows.csv", &file);
        let stages = fleet.start_stages(*predictors).await;
        load(&fleet, &stages, &object, rows).await;
        let rate = steady_rate(&fleet.stack.database).await;
        stages.end().await;
        rates.push((*predictors, rows, rate));
    }
    let Some((least, _, alone)) = rates.first().copied() else { return };
    let line = |(predictors, rows, rate): &(usize, u64, f64)| {
        vec![predictors.to_string(), count(*rows), thousands(*rate), format!("{:.2}", rate / alone)]
    };
    let header = ["predictors", "rows", "rows/s", "of the first"];
    report.section(
        &format!("Scale-out: API_MAX_WORKERS=1, an ML API of {} ms", options.latency),
        &table(&header, rates.iter().map(line).collect()),
    );
    let Some((most, _, together)) = rates.last().filter(|_| rates.len() > 1).copied() else { return };
    let has_goal = (least, most) == (1, GOAL_FLEET);
    report.figure(Figure {
        measurement: format!("scale-out, {most} predictors, {} ms", options.latency),
        value: format!("{} rows/s", thousands(together)),
        baseline: format!("{} rows/s ({least})", thousands(alone)),
        ratio: format!("{:.2}", together / alone),
        goal: if has_goal { format!("≥ {GOAL:.0}") } else { String::new() },
        met: has_goal.then_some(together / alone >= GOAL),
    });
}

/// Returns rows per second in the middle of a run, from the times at which its chunks were recorded.
async fn steady_rate(database: &Database) -> f64 {
    let recorded: Vec<(f64, f64)> = sqlx::query_as(
        "SELECT extract(epoch FROM recorded_at)::double precision, sum(rows)::double precision
         FROM chunks GROUP BY 1 ORDER BY 1",
    )
    .fetch_all(database.pool())
    .await
    .expect("chunks are recorded");
    let total: f64 = recorded.iter().map(|(_, rows)| rows).sum();
    let mut so_far = 0.0;
    let (mut first, mut last) = (None, None);
    for (at, rows) in recorded {
        so_far += rows;
        if so_far >= MIDDLE.0 * total && so_far <= MIDDLE.1 * total {
            first = first.or(Some((at, so_far)));
            last = Some((at, so_far));
        }
    }
    let (first, last) = first.zip(last).expect("a run has a middle");
    (last.1 - first.1) / (last.0 - first.0)
}
