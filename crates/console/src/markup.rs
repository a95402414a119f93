//! What every page has, and how it writes numbers and times.
//!
//! Numbers and times are written for a reader of English, with the value beside the text; the script writes them again as the reader's
//! browser is set.

use assay_report::{FieldList, ShownState, Tone, human_duration, moment, with_separators};
use assay_transaction::Timestamp;
use maud::{DOCTYPE, Markup, PreEscaped, html};

use crate::access::User;
use crate::assets::STYLE;

/// The frame of a page.
pub(crate) struct Shell<'a> {
    title: &'a str,
    user: Option<&'a User>,
    /// Where its changes come from.
    live: Option<String>,
    /// Whether it draws with uPlot.
    has_chart: bool,
}

impl<'a> Shell<'a> {
    pub(crate) fn new(title: &'a str, user: &'a User) -> Self {
        Self { title, user: Some(user), live: None, has_chart: false }
    }

    /// Of a page that says why another one cannot be shown.
    pub(crate) fn of_error(title: &'a str) -> Self {
        Self { title, user: None, live: None, has_chart: false }
    }

    /// Takes changes from this address.
    pub(crate) fn live(self, address: String) -> Self {
        Self { live: Some(address), ..self }
    }

    /// Draws with uPlot.
    pub(crate) fn with_chart(self, has_chart: bool) -> Self {
        Self { has_chart, ..self }
    }

    pub(crate) fn page(&self, content: &Markup) -> Markup {
        html! {
            (DOCTYPE)
            html lang="en" {
                head {
                    meta charset="utf-8";
                    meta name="viewport" content="width=device-width, initial-scale=1";
                    meta name="color-scheme" content="light dark";
                    title { (self.title) " · Assay" }
                    link rel="stylesheet" href="/assets/console.css";
                    link rel="icon" href="data:,";
                    @if self.has_chart {
                        link rel="stylesheet" href="/assets/uPlot.css";
                        script src="/assets/uPlot.js" defer {}
                    }
                    script src="/assets/console.js" defer {}
                }
                body data-live=[self.live.as_deref()] {
                    a.skip href="#content" { "Skip to the content" }
                    header.top {
                        a.brand href="/" { "Assay" }
                        nav aria-label="Pages" {
                            a href="/" { "Runs" }
                            a href="/operations" { "Operations" }
                        }
                        form.search action="/search" role="search" {
                            label.hidden for="search" { "Run, transaction id or external id" }
                            input #search type="search" name="q" placeholder="Run, transaction id or external id" required;
                            button { "Search" }
                        }
                        @if let Some(user) = self.user {
                            p.user { (user.name.as_deref().unwrap_or("no token")) ", " (user.role) }
                        }
                    }
                    p #connection role="status" hidden { "The connection is lost; what is shown is old. Trying again…" }
                    main #content tabindex="-1" { (content) }
                }
            }
        }
    }
}

/// One page that needs nothing else: to keep, or to print.
pub(crate) fn standalone(title: &str, content: &Markup) -> Markup {
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'";
                title { (title) }
                style { (PreEscaped(STYLE)) }
            }
            body.standalone { main { (content) } }
        }
    }
}

/// `12,345`.
pub(crate) fn number(number: u64) -> Markup {
    html! { data.number value=(number) { (with_separators(number)) } }
}

/// `2026-01-11 10:00:00 UTC`.
pub(crate) fn time(at: Timestamp) -> Markup {
    html! { time datetime=(at) { (moment(at)) " UTC" } }
}

/// `3 min 2 s`.
pub(crate) fn duration(seconds: u64) -> Markup {
    html! { (human_duration(seconds)) }
}

/// `12.3 %`, of a whole that may be nothing.
#[expect(clippy::cast_precision_loss, reason = "shown with one decimal")]
pub(crate) fn percent(part: u64, whole: u64) -> String {
    if whole == 0 { "–".to_owned() } else { format!("{:.1} %", part as f64 * 100.0 / whole as f64) }
}

/// The state of a run, told by its word and not only by its colour.
pub(crate) fn state(state: ShownState) -> Markup {
    let tone = match state.tone() {
        Tone::Good => "good",
        Tone::Bad => "bad",
        Tone::Head | Tone::Open => "open",
    };
    html! { span class=(format!("state {tone}")) { (state) } }
}

/// Named values.
pub(crate) fn fields(fields: &FieldList) -> Markup {
    html! {
        dl.fields {
            @for (name, value) in fields.pairs() {
                div { dt { (name) } dd { (value) } }
            }
        }
    }
}

/// A part of a page under a heading. What has its id may be drawn again while somebody looks.
pub(crate) fn section(id: &str, title: &str, content: &Markup) -> Markup {
    section_after(id, title, &html! {}, content)
}

/// As [`section`], after something that is not drawn again.
pub(crate) fn section_after(id: &str, title: &str, before: &Markup, content: &Markup) -> Markup {
    html! {
        section aria-labelledby=(format!("{id}-title")) {
            h2 id=(format!("{id}-title")) { (title) }
            (before)
            div id=(id) { (content) }
        }
    }
}

/// A command to copy.
pub(crate) fn command(command: &str) -> Markup {
    html! { span.command { code { (command) } button.copy type="button" data-copy=(command) hidden { "Copy" } } }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_from_outside_is_escaped() {
        let mut list = FieldList::default();
        list.add("<b>", "\"><script>alert(1)</script>");
        let shown = fields(&list).into_string();
        assert!(shown.contains("&lt;b&gt;") && !shown.contains("<script>"), "{shown}");
    }

    #[test]
    fn a_share_of_nothing_has_no_number() {
        assert_eq!((percent(0, 0).as_str(), percent(1, 8).as_str()), ("–", "12.5 %"));
    }

    #[test]
    fn a_page_for_itself_loads_nothing() {
        let page = standalone("a", &html! { p { "b" } }).into_string();
        assert!(!page.contains("<script") && !page.contains("href") && !page.contains("src="), "{page}");
    }
}
