//! All runs: filtered, in pages, with what stands out on top, and the queues beside them.

use assay_report::{
    LiveCounts, QueueSnapshot, QueueState, ShownState, blocking_count, obstacles, one_line, rate, read_progress,
    rows_so_far, seconds_between, time_left,
};
use assay_store::{RunFilter, RunOverview, TallySource};
use assay_transaction::{Run, RunState, Tally};
use axum::extract::{Query, State};
use axum::{Extension, http::Uri};
use maud::{Markup, html};
use serde::Deserialize;

use super::run_path;
use crate::access::User;
use crate::error::PageError;
use crate::live::{self, Part};
use crate::markup::{Shell, duration, number, state, time};
use crate::server::{Console, Shared};

/// Runs of a page.
const PAGE: u32 = 50;
/// Longest location that is shown.
const LOCATION: usize = 120;
/// Period of a rate, in seconds.
const WINDOW: u32 = 60;

/// The selection, as the address has it: a link keeps the filter.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Selection {
    /// Part of the source, or a pattern of all of it.
    source: String,
    state: StateChoice,
    since: Period,
    page: u32,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum StateChoice {
    #[default]
    Any,
    Open,
    Complete,
    Failed,
    Cancelled,
    /// With failed transactions.
    Failures,
}

impl StateChoice {
    const ALL: [(Self, &'static str, &'static str); 6] = [
        (Self::Any, "any", "any state"),
        (Self::Open, "open", "under way"),
        (Self::Complete, "complete", "complete"),
        (Self::Failed, "failed", "failed"),
        (Self::Cancelled, "cancelled", "cancelled"),
        (Self::Failures, "failures", "with failed transactions"),
    ];

    fn states(self) -> Vec<RunState> {
        match self {
            Self::Any | Self::Failures => Vec::new(),
            Self::Open => vec![RunState::Loading, RunState::Sealed],
            Self::Complete => vec![RunState::Complete],
            Self::Failed => vec![RunState::Failed],
            Self::Cancelled => vec![RunState::Cancelled],
        }
    }
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Period {
    #[default]
    All,
    Hour,
    Day,
    Week,
    Month,
}

impl Period {
    const ALL: [(Self, &'static str, &'static str); 5] = [
        (Self::All, "all", "at any time"),
        (Self::Hour, "hour", "in the last hour"),
        (Self::Day, "day", "in the last 24 hours"),
        (Self::Week, "week", "in the last 7 days"),
        (Self::Month, "month", "in the last 31 days"),
    ];

    fn seconds(self) -> Option<f64> {
        Some(match self {
            Self::All => return None,
            Self::Hour => 3_600.0,
            Self::Day => 86_400.0,
            Self::Week => 7.0 * 86_400.0,
            Self::Month => 31.0 * 86_400.0,
        })
    }
}

impl Selection {
    fn filter(&self) -> RunFilter {
        let source = self.source.trim();
        RunFilter {
            seconds: self.since.seconds(),
            source: (!source.is_empty()).then(|| source.to_owned()),
            has_failed: self.state == StateChoice::Failures,
            states: self.state.states(),
        }
    }

    /// The address of another page of the same selection.
    fn at(&self, page: u32) -> String {
        let name = |choices: &[(&'static str, bool)]| choices.iter().find(|it| it.1).map_or("", |it| it.0);
        let state = name(&StateChoice::ALL.map(|(choice, name, _)| (name, choice == self.state)));
        let since = name(&Period::ALL.map(|(choice, name, _)| (name, choice == self.since)));
        let query = url::form_urlencoded::Serializer::new(String::new())
            .append_pair("source", self.source.trim())
            .append_pair("state", state)
            .append_pair("since", since)
            .append_pair("page", &page.to_string())
            .finish();
        format!("/?{query}")
    }
}

/// A run of the list.
struct Line {
    run: Run,
    state: ShownState,
    tally: Tally,
    live: Option<LiveCounts>,
    /// Only of a run that is not finished.
    underway: Option<RunOverview>,
    /// Why it stands out.
    problems: Vec<String>,
}

/// The page.
pub(crate) async fn runs(
    State(console): State<Shared>,
    Extension(user): Extension<User>,
    Query(selection): Query<Selection>,
    uri: Uri,
) -> Result<Markup, PageError> {
    let [list, queues] = parts(&console, &selection).await?;
    let content = html! {
        h1 { "Runs" }
        (form(&selection))
        div #(list.id) { (list.content) }
        section aria-labelledby="queues-title" {
            h2 #queues-title { "Queues" }
            div #(queues.id) { (queues.content) }
        }
    };
    Ok(Shell::new("Runs", &user).live(live::address(&uri)).page(&content))
}

/// What changes on it.
pub(crate) async fn parts(console: &Console, selection: &Selection) -> Result<[Part; 2], PageError> {
    let queues = console.queues.snapshot().await;
    let filter = selection.filter();
    let skip = selection.page.saturating_mul(PAGE);
    let (all, found) = (console.store.count_runs(&filter).await?, console.store.list_runs(&filter, skip, PAGE).await?);
    let names: Vec<_> = found.iter().map(|run| run.run_id.clone()).collect();
    let tallies = console.store.tallies_by_chunk(&names).await?;
    let mut lines = Vec::new();
    for (run, tally) in found.into_iter().zip(tallies) {
        lines.push(line(console, run, tally, queues.as_ref()).await?);
    }
    Ok([
        Part { id: "runs", content: list(selection, all, &lines) },
        Part { id: "queues", content: show_queues(queues.as_ref()) },
    ])
}

async fn line(console: &Console, run: Run, tally: Tally, queues: Option<&QueueSnapshot>) -> Result<Line, PageError> {
    let store = &*console.store;
    let live = LiveCounts::of(store, &run).await?;
    let underway =
        if run.state.is_finished() { None } else { store.overview(&run.run_id, WINDOW, TallySource::Chunks).await? };
    let blocking = underway.as_ref().map_or(0, |overview| blocking_count(&run, overview.blocking));
    let state = ShownState::of(&run, blocking);
    let mut problems = problems(&run, tally, live.as_ref());
    if let Some(overview) = &underway {
        problems.extend(obstacles(overview, QueueState { queues, full_at: console.queues.full_at() }));
    }
    Ok(Line { run, state, tally, live, underway, problems })
}

/// Why a run stands out, by its own numbers.
pub(crate) fn problems(run: &Run, tally: Tally, live: Option<&LiveCounts>) -> Vec<String> {
    let mut found = Vec::new();
    if let Some(error) = &run.error {
        found.push(one_line(error, 300));
    }
    if let Some(sealed) = run.sealed
        && run.state.is_finished()
        && sealed.rows_read != tally.total()
    {
        found.push(format!(
            "breaks the law: {} rows were read, and {} have an outcome: `assay audit {}` says which are missing",
            assay_report::with_separators(sealed.rows_read),
            assay_report::with_separators(tally.total()),
            run.run_id
        ));
    }
    found.extend(live.filter(|live| live.is_breach()).map(ToString::to_string));
    found
}

fn form(selection: &Selection) -> Markup {
    html! {
        form.filter action="/" {
            label { "Source " input name="source" value=(selection.source) placeholder="text, or a pattern with *"; }
            label { "State "
                select name="state" {
                    @for (choice, name, label) in StateChoice::ALL {
                        option value=(name) selected[choice == selection.state] { (label) }
                    }
                }
            }
            label { "Began "
                select name="since" {
                    @for (choice, name, label) in Period::ALL {
                        option value=(name) selected[choice == selection.since] { (label) }
                    }
                }
            }
            button { "Filter" }
        }
    }
}

fn list(selection: &Selection, all: u64, lines: &[Line]) -> Markup {
    let first = u64::from(selection.page) * u64::from(PAGE);
    let is_filtered = selection.filter() != RunFilter::default();
    if lines.is_empty() {
        return html! {
            p.empty {
                @if is_filtered || selection.page > 0 { "No run is like this. " a href="/" { "Show all runs" } }
                @else { "There is no run yet. Load a file: " code { "loader s3://bucket/file.csv" } ", or " code { "assay run file.csv" } "." }
            }
        };
    }
    let last = first + lines.len() as u64;
    html! {
        @for line in lines.iter().filter(|line| !line.problems.is_empty()) {
            div.problem role="status" {
                a href=(run_path(&line.run.run_id)) { (line.run.run_id) } " " (state(line.state))
                ul { @for problem in &line.problems { li { (problem) } } }
            }
        }
        div.scroll tabindex="0" role="region" aria-label="Runs" {
            table.runs {
                thead { tr {
                    th scope="col" { "Run" } th scope="col" { "State" } th.right scope="col" { "Rows read" }
                    th.right scope="col" { "Predicted" } th.right scope="col" { "Invalid" } th.right scope="col" { "Failed" }
                    th.right scope="col" { "Duplicate" } th scope="col" { "Began" } th scope="col" { "Took" }
                } }
                tbody { @for line in lines { (row(line)) } }
            }
        }
        nav.pages aria-label="Pages of runs" {
            @if selection.page > 0 { a rel="prev" href=(selection.at(selection.page - 1)) { "Later runs" } }
            span { (number(first + 1)) " to " (number(last)) " of " (number(all)) }
            @if last < all { a rel="next" href=(selection.at(selection.page + 1)) { "Earlier runs" } }
        }
    }
}

fn row(line: &Line) -> Markup {
    let Line { run, state: shown, tally, live, underway, problems } = line;
    let rows = rows_so_far(run, *tally, live.as_ref());
    html! {
        tr class=[(!problems.is_empty()).then_some("stands-out")] {
            th scope="row" {
                a href=(run_path(&run.run_id)) { (run.run_id) }
                span.source {
                    (one_line(&run.source.location, LOCATION))
                    @if let Some(accepted) = live.as_ref().and_then(LiveCounts::rows_accepted) { ", " (number(accepted)) " accepted" }
                }
            }
            td { (state(*shown)) @if let Some(overview) = underway { br; (progress(overview, *tally)) } }
            td.right { (number(rows)) }
            td.right { (number(tally.predicted)) }
            td.right { (number(tally.invalid)) }
            td.right { (number(tally.failed)) }
            td.right { (number(tally.duplicate)) }
            td { (time(run.started_at)) }
            td { @if let Some(end) = run.finished_at { (duration(seconds_between(run.started_at, end))) } @else { "–" } }
        }
    }
}

/// How far a run is, how fast, and how long it will take.
pub(crate) fn progress(overview: &RunOverview, tally: Tally) -> Markup {
    let read = read_progress(&overview.run, overview.progress);
    let rate = rate(overview.pace);
    let left = time_left(&overview.run, overview.progress, overview.pace);
    let stored = overview.run.sealed.map(|sealed| (tally.total(), sealed.rows_read.max(1)));
    html! {
        @if let Some((stored, all)) = stored {
            progress max=(all) value=(stored) aria-label="stored" {}
            " " (crate::markup::percent(stored, all)) " stored"
        } @else if let Some(percent) = read.percent {
            progress max="100" value=(percent) aria-label="read" {}
            " " (percent) " % read"
        }
        " " (number(rate)) " rows/s"
        @if let Some(left) = left { ", " @if left.is_estimated { "about " } (duration(left.seconds)) " left" }
    }
}

/// The queues of all runs.
pub(crate) fn show_queues(queues: Option<&QueueSnapshot>) -> Markup {
    match queues {
        None => {
            html! { p.empty { "No broker is set (AMQP_URL): " code { "assay run" } " scores in its own process." } }
        }
        Some(QueueSnapshot::Unknown { error }) => html! {
            p.problem role="status" { "RabbitMQ does not answer: " (one_line(error, 300)) }
        },
        Some(QueueSnapshot::Known(queues)) => html! {
            table.small {
                thead { tr { th scope="col" { "Queue" } th.right scope="col" { "Waiting" } th.right scope="col" { "Consumers" } } }
                tbody { @for depth in queues {
                    tr { th scope="row" { (depth.queue) } td.right { (number(depth.waiting)) } td.right { (number(depth.consumers.into())) } }
                } }
            }
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use assay_report::fixture::{example, live_counts};

    const TALLY: Tally = Tally { predicted: 980, invalid: 15, failed: 3, duplicate: 2 };

    fn line(run: Run, tally: Tally) -> Line {
        let problems = problems(&run, tally, None);
        Line { state: ShownState::of(&run, 0), run, tally, live: None, underway: None, problems }
    }

    #[test]
    fn a_run_that_breaks_the_law_stands_out_and_says_why() {
        assert_eq!(problems(&example(), TALLY, None), [""; 0]);
        let broken = problems(&example(), Tally { failed: 2, ..TALLY }, None);
        assert!(broken[0].starts_with("breaks the law: 1,000 rows were read, and 999 have an outcome"), "{broken:?}");
        let failed = Run { error: Some("no <b>row</b> is valid".into()), ..example() };
        let shown = list(&Selection::default(), 1, &[line(failed, TALLY)]).into_string();
        assert!(shown.contains("stands-out") && shown.contains("no &lt;b&gt;row&lt;/b&gt; is valid"), "{shown}");
        assert!(!problems(&example(), TALLY, Some(&live_counts(5, 6))).is_empty());
    }

    #[test]
    fn a_link_keeps_the_filter() {
        let selection = Selection { source: " a&b".into(), state: StateChoice::Open, since: Period::Week, page: 1 };
        assert_eq!(selection.at(2), "/?source=a%26b&state=open&since=week&page=2");
        let lines: Vec<_> = (0..50).map(|_| line(example(), TALLY)).collect();
        let shown = list(&selection, 120, &lines).into_string();
        assert!(shown.contains("page=0\">Later runs") && shown.contains("page=2\">Earlier runs"), "{shown}");
    }

    #[test]
    fn an_empty_list_says_what_to_do() {
        assert!(list(&Selection::default(), 0, &[]).into_string().contains("Load a file"));
        let filtered = Selection { state: StateChoice::Failed, ..Selection::default() };
        assert!(list(&filtered, 0, &[]).into_string().contains("Show all runs"));
    }
}
