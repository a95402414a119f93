//! The lists that name what to erase, from files or stdin. Errors name lines, and show nothing of them.

use std::io::{BufRead, BufReader, Read};
use std::path::Path;

use assay_transaction::RunId;

use crate::error::CommandError;

/// Most lines of a list: each id is held in memory, and looked up in each namespace.
const MAX_LINES: usize = 100_000;
/// Longest line, in bytes.
const MAX_LINE: u64 = 64 * 1024;

/// A line of a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ListLine<T> {
    /// From 1.
    pub(super) line: u64,
    pub(super) value: T,
}

/// Reads the ids of a list, one a line; blank lines are left out.
pub(super) fn read_ids(path: &Path) -> Result<Vec<ListLine<String>>, CommandError> {
    lines(open(path)?)
}

/// Reads the rows of a list, each `RUN:ROW`.
pub(super) fn read_rows(path: &Path) -> Result<Vec<ListLine<(RunId, u64)>>, CommandError> {
    lines(open(path)?)?.into_iter().map(|ListLine { line, value }| row(line, &value)).collect()
}

fn row(line: u64, text: &str) -> Result<ListLine<(RunId, u64)>, CommandError> {
    let read = || {
        let (run_id, row) = text.rsplit_once(':')?;
        Some((run_id.parse().ok()?, row.parse().ok().filter(|row| *row > 0)?))
    };
    let value = read().ok_or(CommandError::ListLine { line, what: "is no RUN:ROW, such as nightly:4711" })?;
    Ok(ListLine { line, value })
}

/// A file, or stdin for `-`. An error does not repeat the name, which may be an id by mistake.
fn open(path: &Path) -> Result<Box<dyn BufRead>, CommandError> {
    if path.as_os_str() == "-" {
        return Ok(Box::new(BufReader::new(std::io::stdin())));
    }
    Ok(Box::new(BufReader::new(std::fs::File::open(path).map_err(CommandError::List)?)))
}

fn lines(mut list: impl BufRead) -> Result<Vec<ListLine<String>>, CommandError> {
    let mut found = Vec::new();
    for line in 1.. {
        let mut bytes = Vec::new();
        list.by_ref().take(MAX_LINE).read_until(b'\n', &mut bytes).map_err(CommandError::List)?;
        if bytes.is_empty() {
            break;
        }
        if bytes.len() as u64 == MAX_LINE {
            return Err(CommandError::ListLine { line, what: "is longer than any id" });
        }
        let text = std::str::from_utf8(&bytes).map_err(|_| CommandError::ListLine { line, what: "is not UTF-8" })?;
        let text = text.trim_start_matches('\u{feff}').trim();
        if !text.is_empty() {
            found.push(ListLine { line, value: text.to_owned() });
        }
        if found.len() > MAX_LINES {
            return Err(CommandError::LongList(MAX_LINES));
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_has_an_id_on_each_line() {
        let read = lines("\u{feff}4711\r\n\n  a b \nlast".as_bytes()).unwrap();
        let expected = [(1, "4711"), (3, "a b"), (4, "last")];
        assert_eq!(read, expected.map(|(line, value)| ListLine { line, value: value.to_owned() }));
        assert_eq!(lines(&b""[..]).unwrap(), []);
    }

    #[test]
    fn an_error_names_the_line_and_not_its_content() {
        let long = format!("ok\n{}", "7".repeat(70_000));
        for (list, expected) in [
            (&b"ok\nSECRET\xff\n"[..], "line 2 of the list is not UTF-8"),
            (long.as_bytes(), "line 2 of the list is longer than any id"),
        ] {
            assert_eq!(lines(list).unwrap_err().to_string(), expected);
        }
        for text in ["SECRET", "SECRET:", "SECRET:0", "SEC RET:1", "SECRET:-1"] {
            assert_eq!(row(7, text).unwrap_err().to_string(), "line 7 of the list is no RUN:ROW, such as nightly:4711");
        }
        assert_eq!(row(7, "nightly:4711").unwrap().value, ("nightly".parse().unwrap(), 4_711));
        let error = open(Path::new("/nowhere/SECRET")).err().unwrap().to_string();
        assert!(error.starts_with("cannot read the list") && !error.contains("SECRET"), "{error}");
    }

    #[test]
    fn a_list_is_not_longer_than_memory_allows() {
        let list = "7\n".repeat(MAX_LINES + 1);
        assert!(lines(list.as_bytes()).unwrap_err().to_string().contains("100000"));
    }
}
