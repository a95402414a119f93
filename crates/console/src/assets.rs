//! What the pages load, shipped inside.

use axum::extract::Path;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};

/// The looks of all pages, and of a report.
pub(crate) const STYLE: &str = include_str!("assets/console.css");

/// Name, type and content.
const FILES: [(&str, &str, &str); 4] = [
    ("console.css", "text/css; charset=utf-8", STYLE),
    ("console.js", "text/javascript; charset=utf-8", include_str!("assets/console.js")),
    // uPlot 1.6.32, https://github.com/leeoniya/uPlot, licence MIT: assets/uPlot.LICENSE.
    ("uPlot.js", "text/javascript; charset=utf-8", include_str!("assets/uPlot.iife.min.js")),
    ("uPlot.css", "text/css; charset=utf-8", include_str!("assets/uPlot.min.css")),
];

/// Serves a file, which a browser keeps for five minutes.
pub(crate) async fn asset(Path(name): Path<String>) -> Response {
    match FILES.iter().find(|(known, ..)| *known == name) {
        Some((_, kind, content)) => {
            ([(header::CONTENT_TYPE, *kind), (header::CACHE_CONTROL, "private, max-age=300")], *content).into_response()
        }
        None => StatusCode::NOT_FOUND.into_response(),
    }
}
