//! The parts of the page of a run, and of its report.

use std::collections::BTreeMap;

use assay_report::{
    ControlTotals, FieldList, LiveCounts, Models, human_duration, moment, one_line, rows_so_far, seconds_between,
    show_tombstones, unmasked_line,
};
use assay_store::RunStatistics;
use assay_transaction::{FailureClass, RejectReason, Tally};
use maud::{Markup, html};

use super::Facts;
use crate::markup::{command, fields, number, percent, section, state, time};
use crate::pages::runs::progress;
use crate::pages::{operations as operations_page, run_path};
use crate::pictures::{Law, Series, Timeline, histogram, law, timeline};

/// Longest text from outside that is shown.
const TEXT: usize = 300;
/// Labels with a colour of their own.
const LABELS: usize = 5;
/// The classes of their colours, and of all others.
const CLASSES: [&str; LABELS + 1] = ["label-0", "label-1", "label-2", "label-3", "label-4", "label-rest"];

/// State, source, progress, and what is in the way.
pub(super) fn head(facts: &Facts) -> Markup {
    let run = facts.run();
    let mut list = FieldList::default();
    list.add("source", one_line(&run.source.location, TEXT));
    list.add("version", unmasked_line(&run.source.version, TEXT));
    list.add_some("bytes", run.source_bytes.map(assay_report::with_separators));
    if let Some(end) = run.finished_at {
        list.add("took", human_duration(seconds_between(run.started_at, end)));
    }
    list.add_some("control totals", ControlTotals::of(run).map(|totals| totals.to_string()));
    list.add_some("live", facts.live.as_ref().map(LiveCounts::to_string));
    list.add_some(
        "stop order",
        run.stop
            .as_ref()
            .map(|stop| format!("{} at {} UTC: {}", stop.kind.as_str(), moment(stop.at), one_line(&stop.reason, TEXT))),
    );
    show_tombstones(&facts.tombstones, &mut list);
    html! {
        p.state-line {
            (state(facts.state())) " began " (time(run.started_at))
            @if let Some(end) = run.finished_at { ", finished " (time(end)) }
            @else { " · " (progress(&facts.overview, facts.overview.tally)) }
        }
        @if let Some(slowest) = &facts.slowest { p { "Slowest now: " (slowest) "." } }
        @if !facts.problems.is_empty() {
            div.problem role="status" { ul { @for problem in &facts.problems { li { (problem) } } } }
        }
        (fields(&list))
    }
}

/// What became of the rows.
fn law_part(facts: &Facts) -> Markup {
    let tally = facts.overview.tally;
    law(Law { rows_read: rows_so_far(facts.run(), tally, facts.live.as_ref()), tally })
}

/// Outcomes by time.
pub(crate) fn timeline_of(statistics: &RunStatistics) -> Timeline {
    let series = ["predicted", "invalid", "failed", "duplicate"].map(|name| Series { name: name.into(), class: name });
    let counts = statistics.moments.iter().map(|moment| {
        let Tally { predicted, invalid, failed, duplicate } = moment.tally;
        (moment.at.as_datetime().timestamp(), moment.seconds, vec![predicted, invalid, failed, duplicate])
    });
    Timeline::new(series.into(), &counts.collect::<Vec<_>>())
}

/// Said in place of a picture of a run whose commits noted nothing.
fn without_notes(facts: &Facts) -> Option<Markup> {
    let has_none = facts.statistics.moments.is_empty() && facts.overview.tally.total() > 0;
    has_none.then(|| html! { p.empty { "This run was recorded by an earlier version, which did not note this." } })
}

/// How fast rows were stored.
fn speed(facts: &Facts) -> Markup {
    if let Some(why) = without_notes(facts) {
        return why;
    }
    timeline("speed-picture", "Rows stored a second, by outcome", &timeline_of(&facts.statistics))
}

/// Labels by time: the most frequent ones, and all others together.
fn labels(facts: &Facts) -> Markup {
    if let Some(why) = without_notes(facts) {
        return why;
    }
    let mut frequent: Vec<_> = facts.statistics.labels.iter().collect();
    frequent.sort_by(|a, b| b.1.cmp(a.1).then_with(|| a.0.cmp(b.0)));
    let places: BTreeMap<&str, usize> =
        frequent.iter().take(LABELS).enumerate().map(|(place, (label, _))| (label.as_str(), place)).collect();
    let mut series: Vec<Series> = frequent
        .iter()
        .take(LABELS)
        .zip(CLASSES)
        .map(|((label, _), class)| Series { name: one_line(label, 40), class })
        .collect();
    if frequent.len() > LABELS {
        series.push(Series { name: format!("{} other labels", frequent.len() - LABELS), class: CLASSES[LABELS] });
    }
    let counts: Vec<_> = facts
        .statistics
        .moments
        .iter()
        .map(|moment| {
            let mut counts = vec![0; series.len()];
            for (label, count) in &moment.labels {
                counts[places.get(label.as_str()).copied().unwrap_or(LABELS)] += count;
            }
            (moment.at.as_datetime().timestamp(), moment.seconds, counts)
        })
        .collect();
    let predicted: u64 = frequent.iter().map(|(_, count)| **count).sum();
    if predicted == 0 {
        return html! { p.empty { "No row is predicted yet." } };
    }
    html! {
            table.small {
                thead { tr { th scope="col" { "Label" } th.right scope="col" { "Predictions" } th.right scope="col" { "Share" } } }
                tbody { @for (label, count) in frequent.iter().take(20) {
                    tr { th scope="row" { (one_line(label, 60)) } td.right { (number(**count)) } td.right { (percent(**count, predicted)) } }
                } }
            }
        (timeline("labels-picture", "Predictions a second, by label", &Timeline::new(series, &counts)))
    }
}

/// Invalid rows by reason and failed ones by class, each with the rows behind it.
fn reasons(facts: &Facts, has_links: bool) -> Markup {
    let path = run_path(&facts.run().run_id);
    let table = |title: &str, kind: &str, key: &str, counts: &[(String, u64)], meaning: &dyn Fn(&str) -> String| {
        let all: u64 = counts.iter().map(|(_, count)| count).sum();
        let parameter = key.to_lowercase();
        html! {
            h3 { (title) ": " (number(all)) }
            @if !counts.is_empty() {
                table.small.meanings {
                    thead { tr { th scope="col" { (key) } th.right scope="col" { "Rows" } th.right scope="col" { "Share" } th scope="col" { "What it means" } } }
                    tbody { @for (code, count) in counts {
                        tr {
                            th scope="row" {
                                @if has_links {
                                    a href=(format!("{path}/{kind}?{parameter}={}", escaped(code))) { (one_line(code, 60)) }
                                } @else { (one_line(code, 60)) }
                            }
                            td.right { (number(*count)) } td.right { (percent(*count, all)) } td { (meaning(code)) }
                        }
                    } }
                }
                @if has_links { p { a href=(format!("{path}/{kind}")) { "All " (kind) " rows" } } }
            }
        }
    };
    let invalid = &facts.overview.invalid;
    let failed = &facts.overview.failed;
    html! {
        @if invalid.is_empty() && failed.is_empty() { p.empty { "No row was rejected, and none failed." } }
        @else {
            (table("Invalid rows", "invalid", "Reason", invalid, &meaning_of_reason))
            (table("Failed transactions", "failed", "Class", failed, &|code| FailureClass::from(code).meaning().to_owned()))
        }
    }
}

/// What a reason means, and which setting may read such rows.
fn meaning_of_reason(code: &str) -> String {
    let reason = RejectReason::from(code);
    let setting = reason.setting().map(|setting| format!(" Setting: {setting}.")).unwrap_or_default();
    format!("{}{setting}", reason.meaning())
}

/// Text in the query of an address.
fn escaped(text: &str) -> String {
    url::form_urlencoded::byte_serialize(text.as_bytes()).collect()
}

/// How the scores are spread.
fn scores(facts: &Facts) -> Markup {
    if let Some(why) = without_notes(facts) {
        return why;
    }
    histogram(&facts.statistics.scores)
}

/// The rows with the highest scores.
fn highest(facts: &Facts, has_links: bool) -> Markup {
    if let Some(why) = without_notes(facts) {
        return why;
    }
    let path = run_path(&facts.run().run_id);
    let highest = &facts.statistics.highest;
    html! {
        @if highest.is_empty() { p.empty { "No row has a score." } }
        @else {
            table.small {
                thead { tr { th.right scope="col" { "Row" } th.right scope="col" { "Score" } } }
                tbody { @for found in highest {
                    tr {
                        th.right scope="row" {
                            @if has_links { a href=(format!("{path}/rows/{}", found.row)) { (number(found.row)) } }
                            @else { (number(found.row)) }
                        }
                        td.right { (format!("{:.4}", found.score)) }
                    }
                } }
            }
        }
    }
}

/// The models that scored it.
fn models(facts: &Facts) -> Markup {
    let models = Models::from(facts.overview.models.clone());
    html! {
        @if models.is_empty() { p.empty { "No model has scored a row yet." } }
        @else {
            @if models.has_changed() {
                p.problem { "The model changed while this run was scored: MODEL_VERSION takes one only." }
            }
            div.scroll tabindex="0" role="region" aria-label="The models in a table" {
                table {
                    thead { tr {
                        th scope="col" { "Model" } th scope="col" { "First stored" } th scope="col" { "Asked at" } th scope="col" { "Features file" }
                    } }
                    tbody { @for model in models.iter() {
                        tr {
                            th scope="row" { (one_line(model.model_version.as_deref().unwrap_or("not named"), 100)) }
                            td { (time(model.first_stored_at)) }
                            td { (one_line(model.url.as_deref().unwrap_or_default(), 100)) }
                            td { (one_line(model.features.as_deref().unwrap_or_default(), 100)) }
                        }
                    } }
                }
            }
        }
    }
}

/// The settings it ran with, and where they came from; what was recognised, and by what.
fn settings(facts: &Facts) -> Markup {
    let settings = &facts.run().settings;
    let mut list = FieldList::default();
    list.add("columns", one_line(&settings.header.join(", "), 1_000));
    list.add("rows of a chunk", assay_report::with_separators(settings.chunk_rows.get().into()));
    list.add("time zone", settings.time_zone.to_string());
    list.add("namespace of ids", settings.namespace.to_string());
    html! {
        @if !settings.decisions.is_empty() {
            div.scroll tabindex="0" role="region" aria-label="How the source was read, in a table" {
                table {
                    thead { tr {
                        th scope="col" { "What" } th scope="col" { "Value" } th scope="col" { "Decided by" } th scope="col" { "Evidence" }
                    } }
                    tbody { @for decision in &settings.decisions {
                        tr {
                            th scope="row" { (decision.what) }
                            td { (one_line(&decision.value, TEXT)) }
                            td { (decision.by) }
                            td { (one_line(&decision.evidence, TEXT)) }
                        }
                    } }
                }
            }
        }
        (fields(&list))
    }
}

/// A part of the page under a heading.
pub(crate) struct Section {
    pub(crate) id: &'static str,
    pub(crate) title: &'static str,
    pub(crate) content: Markup,
}

/// What the page and the report have below the head; a report has no links.
pub(crate) fn sections(facts: &Facts, has_links: bool) -> [Section; 9] {
    let section = |id, title, content| Section { id, title, content };
    [
        section("law", "What became of the rows", law_part(facts)),
        section("speed", "Stored over time", speed(facts)),
        section("reasons", "Rejected and failed rows", reasons(facts, has_links)),
        section("scores", "Fraud scores", scores(facts)),
        section("labels", "Predictions over time", labels(facts)),
        section("highest", "Highest scores", highest(facts, has_links)),
        section("models", "Models", models(facts)),
        section("settings", "Settings", settings(facts)),
        section("done", "Operations", operations_page::list(&facts.operations)),
    ]
}

/// The report of a run.
pub(crate) fn report_content(facts: &Facts) -> Markup {
    html! {
        h1 { "Run " (facts.run().run_id) }
        (head(facts))
        @for part in sections(facts, false) { (section(part.id, part.title, &part.content)) }
        p { "To count the rows again, and check that they add up: " (command(&format!("assay audit {}", facts.run().run_id))) }
    }
}
