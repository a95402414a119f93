//! Why the console could not start, or a page could not be shown; each says what to do.

use std::io;
use std::net::SocketAddr;

use assay_store::StoreError;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use maud::html;
use tracing::warn;

use crate::markup::Shell;

/// Why the console could not start.
#[derive(Debug, thiserror::Error)]
pub enum ConsoleError {
    /// A setting is wrong.
    #[error("{0}")]
    Setting(String),
    /// The address cannot be used.
    #[error("cannot listen at CONSOLE_ADDR {address}: {error}; choose another address")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Why.
        error: io::Error,
    },
}

/// Why a page could not be shown.
#[derive(Debug)]
pub(crate) enum PageError {
    /// There is nothing at this address.
    Missing(String),
    /// The request is wrong.
    Invalid(String),
    /// This user may not do that.
    Forbidden(String),
    /// Too much is going on.
    Busy(String),
    /// The database cannot be read.
    Store(StoreError),
    /// A command could not be run.
    Command(io::Error),
}

impl From<StoreError> for PageError {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl IntoResponse for PageError {
    fn into_response(self) -> Response {
        let (status, title, why, hint) = match self {
            Self::Missing(what) => {
                (StatusCode::NOT_FOUND, "Not found", what, "Look for it in the list of runs, or search for an id.")
            }
            Self::Invalid(why) => (StatusCode::BAD_REQUEST, "Not understood", why, "Go back, and correct it."),
            Self::Forbidden(why) => {
                (StatusCode::FORBIDDEN, "Not allowed", why, "CONSOLE_USERS_FILE gives each user a role.")
            }
            Self::Busy(why) => (StatusCode::SERVICE_UNAVAILABLE, "Busy", why, "Try again in a moment."),
            Self::Store(error) => {
                warn!("a page could not be shown: {error}");
                let hint = "Loads go on meanwhile, if only the console has lost it. `assay doctor` says what is wrong.";
                (StatusCode::SERVICE_UNAVAILABLE, "The database cannot be read", error.to_string(), hint)
            }
            Self::Command(error) => {
                warn!("a command could not be run: {error}");
                let hint = "Run the command that the page shows on a terminal.";
                (StatusCode::INTERNAL_SERVER_ERROR, "The command could not be run", error.to_string(), hint)
            }
        };
        let page = Shell::of_error(title).page(&html! {
            h1 { (title) }
            p.problem role="alert" { (why) }
            p { (hint) " " a href="/" { "All runs" } }
        });
        (status, page).into_response()
    }
}
