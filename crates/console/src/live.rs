//! What changes while somebody looks: parts of a page, drawn again every two seconds and sent if they differ, as server-sent events.

use std::collections::HashMap;
use std::convert::Infallible;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::Arc;
use std::time::Duration;

use axum::Extension;
use axum::extract::{Path, Query, State};
use axum::http::Uri;
use axum::response::sse::{Event, KeepAlive, KeepAliveStream, Sse};
use futures_util::future::{BoxFuture, FutureExt as _};
use futures_util::stream::{BoxStream, StreamExt as _};
use maud::Markup;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::sleep;
use tracing::debug;

use crate::access::User;
use crate::actions;
use crate::error::PageError;
use crate::pages::{run, runs};
use crate::server::Shared;

/// Time between two looks.
const INTERVAL: Duration = Duration::from_secs(2);
/// A browser without a connection tries again after this, in milliseconds.
const RETRY: Duration = Duration::from_secs(3);
/// A proxy keeps a connection open on which something comes this often.
const ALIVE: Duration = Duration::from_secs(15);

/// A part of a page.
pub(crate) struct Part {
    /// The id of its element.
    pub(crate) id: &'static str,
    pub(crate) content: Markup,
}

/// Where the changes of a page come from.
pub(crate) fn address(page: &Uri) -> String {
    let path = page.path().trim_end_matches('/');
    let query = page.query().map(|query| format!("?{query}")).unwrap_or_default();
    format!("/live{path}{query}")
}

/// Events of a page.
type Changes = Sse<KeepAliveStream<BoxStream<'static, Result<Event, Infallible>>>>;

/// Changes of the list of runs.
pub(crate) async fn of_runs(
    State(console): State<Shared>,
    Query(selection): Query<runs::Selection>,
) -> Result<Changes, PageError> {
    let shared = Arc::clone(&console);
    let drawing = move || {
        let (console, selection) = (Arc::clone(&shared), selection.clone());
        async move { Ok((runs::parts(&console, &selection).await?.into(), false)) }.boxed()
    };
    stream(&console, Box::new(drawing))
}

/// Changes of a run, until it is finished.
pub(crate) async fn of_run(
    State(console): State<Shared>,
    Extension(user): Extension<User>,
    Path(name): Path<String>,
) -> Result<Changes, PageError> {
    let shared = Arc::clone(&console);
    let drawing = move || {
        let (console, user, name) = (Arc::clone(&shared), user.clone(), name.clone());
        async move {
            let facts = run::Facts::read(&console, &name).await?;
            let mut parts = facts.parts();
            parts.push(Part { id: "actions", content: actions::offer(&console, &user, facts.run()) });
            Ok((parts, facts.is_finished()))
        }
        .boxed()
    };
    stream(&console, Box::new(drawing))
}

/// Draws the parts of a page, and says whether they are final.
type Drawing = Box<dyn Fn() -> BoxFuture<'static, Result<(Vec<Part>, bool), PageError>> + Send + Sync>;

/// Sends the parts that differ from those before, until they are final or the console ends.
fn stream(console: &Shared, drawing: Drawing) -> Result<Changes, PageError> {
    let Ok(permit) = Arc::clone(&console.streams).try_acquire_owned() else {
        return Err(PageError::Busy("Too many people look at once.".to_owned()));
    };
    let shutdown = console.shutdown.clone();
    let events = futures_util::stream::unfold(Sending::new(drawing, permit), move |mut sending| {
        let shutdown = shutdown.clone();
        async move {
            let event = shutdown.run_until_cancelled(sending.next()).await??;
            Some((Ok(event), sending))
        }
    });
    Ok(Sse::new(events.boxed()).keep_alive(KeepAlive::new().interval(ALIVE)))
}

struct Sending {
    drawing: Drawing,
    /// Counts this stream.
    _permit: OwnedSemaphorePermit,
    /// What was sent of each part.
    seen: HashMap<&'static str, u64>,
    waiting: Vec<Event>,
    is_final: bool,
    is_first: bool,
}

impl Sending {
    fn new(drawing: Drawing, permit: OwnedSemaphorePermit) -> Self {
        Self { drawing, _permit: permit, seen: HashMap::new(), waiting: Vec::new(), is_final: false, is_first: true }
    }

    /// The next event; none after the last.
    async fn next(&mut self) -> Option<Event> {
        loop {
            if let Some(event) = self.waiting.pop() {
                return Some(event);
            }
            if self.is_final {
                return None;
            }
            if !std::mem::take(&mut self.is_first) {
                sleep(INTERVAL).await;
            }
            match (self.drawing)().await {
                Ok((parts, is_final)) => self.take(parts, is_final),
                Err(error) => {
                    // The page shows that it is old; the browser comes again.
                    debug!("a stream of changes ends: {error:?}");
                    return None;
                }
            }
        }
    }

    fn take(&mut self, parts: Vec<Part>, is_final: bool) {
        self.is_final = is_final;
        if is_final {
            self.waiting.push(Event::default().event("final").data("the run is finished"));
        }
        for Part { id, content } in parts {
            let content = content.into_string();
            let mut hasher = DefaultHasher::new();
            content.hash(&mut hasher);
            if self.seen.insert(id, hasher.finish()) != Some(hasher.finish()) {
                self.waiting.push(Event::default().event("part").id(id).retry(RETRY).data(content));
            }
        }
        if self.waiting.is_empty() {
            // Tells that the numbers are of now.
            self.waiting.push(Event::default().event("same").data("nothing changed"));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use maud::html;
    use tokio::sync::Semaphore;

    use super::*;

    #[test]
    fn a_page_names_its_changes() {
        for (page, changes) in [("/", "/live"), ("/?state=open", "/live?state=open"), ("/runs/a", "/live/runs/a")] {
            assert_eq!(address(&page.parse().unwrap()), changes);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn only_what_differs_is_sent_and_a_finished_run_ends_it() {
        let rounds = Arc::new(AtomicU64::new(0));
        let counted = Arc::clone(&rounds);
        let drawing: Drawing = Box::new(move || {
            let round = counted.fetch_add(1, Ordering::Relaxed) + 1;
            let same = Part { id: "same", content: html! { "a" } };
            let other = Part { id: "other", content: html! { (round / 3) } };
            async move { Ok((vec![same, other], round == 4)) }.boxed()
        });
        let permit = Arc::new(Semaphore::new(1)).try_acquire_owned().unwrap();
        let mut sending = Sending::new(drawing, permit);
        let mut count = 0;
        while sending.next().await.is_some() {
            count += 1;
        }
        // Two parts at first, nothing new, one part, and the end.
        assert_eq!((count, rounds.load(Ordering::Relaxed)), (5, 4));
    }
}
