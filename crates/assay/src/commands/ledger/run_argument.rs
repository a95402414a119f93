//! The argument RUN of commands that only read: the name of a run, a source that it loaded, or `latest`.

use std::path::{Path, PathBuf};

use assay_source::SourceUrl;
use assay_store::Store;
use assay_transaction::{Run, RunId, SourceIdentity};

use crate::error::CommandError;

/// The latest run, unless one has this name.
const LATEST: &str = "latest";

/// Finds the run, and whether it was named by its source.
pub(crate) async fn resolve_run(store: &dyn Store, text: &str) -> Result<(Run, bool), CommandError> {
    if let Ok(run_id) = text.parse::<RunId>()
        && let Some(run) = store.run(&run_id).await?
    {
        return Ok((run, false));
    }
    if text == LATEST {
        return match store.runs(None, 1).await?.pop() {
            Some(run) => Ok((run, false)),
            None => Err(CommandError::NoRun(text.to_owned())),
        };
    }
    for location in source_locations(text) {
        if let Some(run) = store.runs(Some(&location), 1).await?.pop() {
            return Ok((run, true));
        }
    }
    Err(CommandError::NoRun(text.to_owned()))
}

/// The locations under which the ledger may know a source.
fn source_locations(text: &str) -> Vec<String> {
    if (SourceIdentity { location: text.to_owned(), version: String::new() }).is_live() {
        return vec![text.to_owned()];
    }
    match text.parse() {
        Ok(SourceUrl::File(path)) => {
            // As the loader does. A file that was deleted since has no canonical path, but its folder may have one.
            let candidates = [path.canonicalize().ok(), under_canonical_parent(&path), std::path::absolute(&path).ok()];
            let mut source_locations: Vec<String> =
                candidates.into_iter().flatten().filter_map(|path| path.to_str().map(str::to_owned)).collect();
            source_locations.dedup();
            source_locations
        }
        Ok(url) => vec![url.to_string()],
        Err(_) => Vec::new(),
    }
}

fn under_canonical_parent(path: &Path) -> Option<PathBuf> {
    let path = std::path::absolute(path).ok()?;
    Some(path.parent()?.canonicalize().ok()?.join(path.file_name()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_has_the_location_that_the_loader_records() {
        assert_eq!(source_locations("s3://drops/a.csv"), ["s3://drops/a.csv"]);
        assert_eq!(source_locations("gs://drops/a.csv"), [""; 0]);
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("sub/../a.csv");
        std::fs::create_dir(folder.path().join("sub")).unwrap();
        std::fs::write(folder.path().join("a.csv"), "").unwrap();
        let expected = folder.path().canonicalize().unwrap().join("a.csv");
        assert_eq!(source_locations(path.to_str().unwrap())[0], expected.to_str().unwrap());
        std::fs::remove_file(&expected).unwrap();
        assert!(source_locations(path.to_str().unwrap()).contains(&expected.to_str().unwrap().to_owned()));
    }
}
