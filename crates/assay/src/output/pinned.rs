//! The JSON of each command, pinned by its example in docs/json.md: a name that changes fails a test, and the documents are true.

use std::sync::{Mutex, PoisonError};

use serde::Serialize;

const DOCUMENT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/json.md");

/// Tests run in threads, and each rewrites its own example.
static UPDATES: Mutex<()> = Mutex::new(());

/// Compares the JSON of an example with the one that docs/json.md shows of `assay COMMAND`; with UPDATE_DOCS, writes it there.
pub(crate) fn pin_json(command: &str, example: &impl Serialize) {
    let json = serde_json::to_string_pretty(example).unwrap();
    let (begin, end) = (format!("<!-- json of {command} -->\n```json\n"), "\n```\n");
    let _one_at_a_time = UPDATES.lock().unwrap_or_else(PoisonError::into_inner);
    let document = std::fs::read_to_string(DOCUMENT).unwrap();
    let (before, rest) = document.split_once(&begin).unwrap_or_else(|| panic!("docs/json.md lacks {begin:?}"));
    let (found, after) = rest.split_once(end).expect("the example ends");
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(DOCUMENT, [before, &begin, &json, end, after].concat()).unwrap();
        return;
    }
    assert_eq!(
        found, json,
        "the JSON of `assay {command}` changed, which breaks its readers: run `UPDATE_DOCS=1 cargo test -p assay --bins pinned` \
         if a field was added, and say so in the changelog"
    );
}
