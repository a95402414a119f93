//! One run: how far it is, what became of its rows, what the model said, and how it was read.
//!
//! `facts` reads it, `show` draws its parts. A finished run is drawn once; of another one, the parts that change are sent while somebody looks.

mod facts;
mod show;

use axum::extract::{Path, State};
use axum::http::Uri;
use axum::{Extension, Json};
use maud::{Markup, html};

pub(crate) use self::facts::Facts;
pub(crate) use self::show::{report_content, timeline_of};
use crate::access::User;
use crate::actions;
use crate::error::PageError;
use crate::live;
use crate::markup::{Shell, section, section_after};
use crate::pages::find_run;
use crate::server::Shared;

/// The page.
pub(crate) async fn run(
    State(console): State<Shared>,
    Extension(user): Extension<User>,
    Path(name): Path<String>,
    uri: Uri,
) -> Result<Markup, PageError> {
    let facts = Facts::read(&console, &name).await?;
    let title = facts.run().run_id.to_string();
    let is_live = !facts.is_finished();
    let content = html! {
        nav.crumbs aria-label="Where this is" { a href="/" { "Runs" } }
        h1 { (title) }
        div #head { (show::head(&facts)) }
        @for part in show::sections(&facts, true) {
            @if part.id == "speed" && is_live {
                // The script draws here, in place of the picture below.
                (section_after(part.id, part.title, &html! { div #chart data-series=(format!("/runs/{title}/series")) {} }, &part.content))
            } @else {
                (section(part.id, part.title, &part.content))
            }
        }
        (section("actions", "What you can do", &actions::offer(&console, &user, facts.run())))
    };
    let shell = Shell::new(&title, &user);
    let shell = if is_live { shell.live(live::address(&uri)).with_chart(true) } else { shell };
    Ok(shell.page(&content))
}

/// Rows stored by time, for the chart: seconds from 1970 on, then the rows a second of each outcome.
pub(crate) async fn series(
    State(console): State<Shared>,
    Path(name): Path<String>,
) -> Result<Json<serde_json::Value>, PageError> {
    let run = find_run(&console, &name).await?;
    let timeline = timeline_of(&console.store.statistics(&run.run_id).await?);
    let names: Vec<&str> = timeline.series.iter().map(|series| series.name.as_str()).collect();
    let seconds = timeline.seconds.max(1);
    let times: Vec<i64> = (0..timeline.bars.len() as u64)
        .map(|bar| timeline.first + i64::try_from(bar * seconds).unwrap_or_default())
        .collect();
    let rates: Vec<Vec<u64>> =
        (0..names.len()).map(|index| timeline.bars.iter().map(|bar| bar[index] / seconds).collect()).collect();
    Ok(Json(serde_json::json!({ "names": names, "seconds": seconds, "times": times, "rates": rates })))
}
