//! The queries of the dashboard, as Grafana sends them.

use std::time::Duration;

use tokio::time::interval;

use super::prometheus::Prometheus;

const DASHBOARD: &str = include_str!("../../../../deploy/grafana/dashboards/assay.json");

/// Variables of Grafana, and what stands for them: four scrapes, and the time that the fleet runs.
const VARIABLES: [(&str, &str); 2] = [("$__rate_interval", "8s"), ("$__range", "2m")];

/// Between two looks at all queries.
const LOOK: Duration = Duration::from_secs(2);

/// The queries with the titles of their panels.
pub(super) fn queries() -> Vec<(String, String)> {
    let dashboard: serde_json::Value = serde_json::from_str(DASHBOARD).expect("the dashboard is JSON");
    let panels = dashboard["panels"].as_array().expect("it has panels");
    let queries = panels.iter().flat_map(|panel| {
        let title = panel["title"].as_str().expect("a panel has a title");
        let targets = panel["targets"].as_array().into_iter().flatten();
        targets.map(move |target| (title.to_owned(), target["expr"].as_str().expect("a query").to_owned()))
    });
    let queries: Vec<_> = queries.map(|(title, query)| (title, substituted(query))).collect();
    assert!(queries.len() > 20, "{} queries were found", queries.len());
    queries
}

fn substituted(query: String) -> String {
    let query = VARIABLES.iter().fold(query, |query, (name, value)| query.replace(name, value));
    assert!(!query.contains('$'), "a variable has no value: {query}");
    query
}

/// Ends once each query has returned data at some time.
pub(super) async fn until_all_have_data(prometheus: &Prometheus, queries: &[(String, String)]) {
    let mut looks = interval(LOOK);
    loop {
        looks.tick().await;
        if without_data(prometheus, queries).await.is_empty() {
            return;
        }
    }
}

/// The queries that have not returned a number yet.
pub(super) async fn without_data(prometheus: &Prometheus, queries: &[(String, String)]) -> Vec<String> {
    let mut without = Vec::new();
    for (title, query) in queries {
        // Nothing that is no number exceeds -Inf.
        let with_numbers = format!("count(max_over_time(({query})[2m:1s]) > -Inf)");
        if prometheus.value(&with_numbers).await.is_none() {
            without.push(format!("{title}: {query}"));
        }
    }
    without
}
