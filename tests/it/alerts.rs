//! Alerts, their tests, the runbook and the dashboard belong together. What needs Prometheus is in `scripts/alerts-check`.

use std::collections::{BTreeMap, BTreeSet};

const ALERTS: &str = include_str!("../../deploy/prometheus/alerts.yml");
const ALERT_TESTS: &str = include_str!("../../deploy/prometheus/alerts.test.yml");
const RULE: &str = include_str!("../../deploy/kubernetes/components/pod-monitor/prometheus-rule.yaml");
const RUNBOOK: &str = include_str!("../../docs/runbook.md");
const METRICS: &str = include_str!("../../docs/observability.md");
const DASHBOARD: &str = include_str!("../../deploy/grafana/dashboards/assay.json");

/// The alerts by name, each with its lines.
fn alerts() -> BTreeMap<&'static str, &'static str> {
    let rules = ALERTS.split("- alert: ").skip(1);
    rules.map(|rule| (rule.lines().next().unwrap(), rule)).collect()
}

#[test]
fn every_alert_has_a_section_of_the_runbook_a_severity_and_a_first_step() {
    for (name, rule) in alerts() {
        let anchor = format!("runbook_url: docs/runbook.md#{}\n", name.to_lowercase());
        assert!(rule.contains(&anchor), "{name} links to its section");
        let severities = ["page", "ticket"].map(|severity| rule.contains(&format!("severity: {severity} }}")));
        assert_eq!(severities.iter().filter(|has| **has).count(), 1, "{name} is a page or a ticket");
        let summary = rule.split("summary: \"").nth(1).and_then(|rest| rest.split("\"\n").next());
        assert!(summary.is_some_and(|summary| summary.contains(": ")), "{name} says what to do first: {summary:?}");
    }
    let sections: BTreeSet<_> = RUNBOOK.lines().filter_map(|line| line.strip_prefix("## ")).collect();
    assert_eq!(sections, alerts().into_keys().collect(), "the runbook has a section for each alert, and no other");
    for section in RUNBOOK.split("\n## ").skip(1) {
        let name = section.lines().next().unwrap();
        for part in ["**Look:**\n\n```sh\n", "**Put right.**", "**Over when:**"] {
            assert!(section.contains(part), "{name} has no `{part}`");
        }
    }
}

#[test]
fn every_alert_is_tested_where_it_fires_and_where_it_does_not() {
    let mut fires: BTreeMap<&str, [bool; 2]> = alerts().into_keys().map(|name| (name, [false, false])).collect();
    for line in ALERT_TESTS.lines().filter(|line| line.contains("expr: ")) {
        let name = line.split("alertname=\"").nth(1).and_then(|rest| rest.split('"').next()).expect("an alert's name");
        let seen = fires.get_mut(name).unwrap_or_else(|| panic!("{name} is tested, and is no alert"));
        seen[usize::from(line.contains("exp_samples: []"))] = true;
    }
    for (name, seen) in fires {
        assert_eq!(seen, [true, true], "{name} is tested where it fires, and where it does not");
    }
}

#[test]
fn alerts_and_dashboard_ask_for_documented_metrics() {
    let named = |text: &'static str| {
        let words = text.split(|char: char| !char.is_ascii_alphanumeric() && char != '_');
        let metrics = words.filter(|word| word.starts_with("assay_") || word.starts_with("process_"));
        // Parts of a histogram are documented under its name.
        metrics.map(|word| word.strip_suffix("_bucket").unwrap_or(word))
    };
    let expressions = |name: &&str| !["process_start_time_seconds", "process_max_fds"].contains(name);
    let metrics: BTreeSet<_> = named(ALERTS).chain(named(DASHBOARD)).filter(expressions).collect();
    assert!(metrics.len() > 30, "{metrics:?}");
    for metric in metrics {
        assert!(METRICS.contains(&format!("`{metric}`")), "{metric} is not in docs/observability.md");
    }
}

#[test]
fn the_prometheus_operator_gets_the_same_alerts() {
    let rules = ALERTS.split_once("groups:\n").unwrap().1;
    let nested = |line: &str| format!("{}{line}", if line.is_empty() { "" } else { "  " });
    let nested: Vec<_> = rules.lines().map(nested).collect();
    let rendered = RULE.split_once("  groups:\n").unwrap().1;
    assert!(rendered.lines().eq(nested.iter()), "run scripts/alerts-check --write");
}

#[test]
fn the_dashboard_can_be_imported() {
    let dashboard: serde_json::Value = serde_json::from_str(DASHBOARD).unwrap();
    assert_eq!(dashboard["uid"], "assay");
    assert_eq!(dashboard["templating"]["list"][0]["name"], "datasource");
    let panels = dashboard["panels"].as_array().unwrap();
    let ids: BTreeSet<_> = panels.iter().map(|panel| panel["id"].as_u64().unwrap()).collect();
    assert_eq!(ids.len(), panels.len(), "each panel has an id of its own");
    let mut taken = BTreeSet::new();
    for panel in panels {
        let [x, y, width, height] = ["x", "y", "w", "h"].map(|name| panel["gridPos"][name].as_u64().unwrap());
        assert!(x + width <= 24, "{} is within the grid", panel["title"]);
        for cell in (x..x + width).flat_map(|x| (y..y + height).map(move |y| (x, y))) {
            assert!(taken.insert(cell), "{} covers another panel", panel["title"]);
        }
        assert!(panel["type"] == "row" || panel["description"].is_string(), "{} says what it shows", panel["title"]);
        for target in panel["targets"].as_array().into_iter().flatten() {
            assert_eq!(target["datasource"]["uid"], "${datasource}", "{}", panel["title"]);
        }
    }
}
