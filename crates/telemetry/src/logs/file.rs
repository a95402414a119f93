//! The log file: lines are appended at once, and none waits in memory, so that a crash loses none.
//!
//! Guarantees:
//! - A full file is renamed to `PATH.1`, which becomes `PATH.2` before, and so on; the oldest is deleted. Processes may share the file:
//!   one of them renames it, and the others follow.
//! - A file that another program moved or deleted is created again, within a second or at the next line after [`look_again`]; one
//!   that was cut off is appended to.
//! - What cannot be written does not stop the program. The caller gets the line back, and the file tells how many are missing.

use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde_json::json;

use super::{LogFormat, LogOptions};

/// Between two looks at the path: whether it is still this file, and how large.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// Whether the path is to be looked at before the next line.
static LOOK_AGAIN: AtomicBool = AtomicBool::new(false);

/// Lets the next line look whether the file was moved.
pub(crate) fn look_again() {
    LOOK_AGAIN.store(true, Ordering::Relaxed);
}

/// The log file.
#[derive(Debug)]
pub(super) struct LogFile {
    path: PathBuf,
    format: LogFormat,
    /// None if another program renames the file.
    max_bytes: Option<u64>,
    keep: u32,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    file: File,
    /// Bytes of the file, as far as this process knows.
    bytes: u64,
    looked_at: Instant,
    /// Whether the last look failed, such as renaming without the permission to.
    is_stuck: bool,
    /// Why there is no file at the path. The open one is not written to then, as nobody can read it.
    gone: Option<String>,
    /// Lines that were not written since the last that was.
    lost: u64,
    /// Whether the file may end within a line.
    is_torn: bool,
}

/// A line that was not written.
#[derive(Debug)]
pub(super) struct Refusal {
    /// What is to be said about it; only of the first one.
    pub(super) notice: Option<String>,
}

impl LogFile {
    /// Opens the file, or creates it.
    pub(super) fn open(path: &Path, options: &LogOptions) -> Result<Self, String> {
        let failed = |error: io::Error| format!("cannot write {} ({error}): check LOG_FILE", path.display());
        let file = append_to(path).map_err(failed)?;
        let metadata = file.metadata().map_err(failed)?;
        // A device or a pipe cannot be renamed.
        let max_bytes = Some(options.log_file_max_bytes).filter(|bytes| *bytes > 0 && metadata.is_file());
        let state = State {
            file,
            bytes: metadata.len(),
            looked_at: Instant::now(),
            is_stuck: false,
            gone: None,
            lost: 0,
            is_torn: false,
        };
        Ok(Self {
            path: path.to_owned(),
            format: options.log_format,
            max_bytes,
            keep: options.log_file_keep,
            state: Mutex::new(state),
        })
    }

    /// Appends a line, which ends with a line break.
    pub(super) fn append(&self, line: &[u8]) -> Result<(), Refusal> {
        // A panic within leaves a file that can be appended to.
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        self.prepare(&mut state, line.len() as u64);
        let missing = if state.lost > 0 { self.missing(state.lost) } else { String::new() };
        let start = if state.is_torn { "\n" } else { "" };
        let written = match &state.gone {
            None => state.write(&[start.as_bytes(), missing.as_bytes(), line].concat()),
            Some(cause) => Err(io::Error::other(cause.clone())),
        };
        match written {
            Ok(()) => {
                (state.lost, state.is_torn) = (0, false);
                Ok(())
            }
            Err(error) => {
                state.lost += 1;
                let notice = (state.lost == 1).then(|| self.refused(&error));
                Err(Refusal { notice })
            }
        }
    }

    /// Looks at the path now and then, and renames the file if it is full.
    fn prepare(&self, state: &mut State, more: u64) {
        let is_due = LOOK_AGAIN.swap(false, Ordering::Relaxed) || state.looked_at.elapsed() >= LOOK_INTERVAL;
        let is_full = self.is_full(state, more);
        if is_due || (is_full && !state.is_stuck) {
            state.looked_at = Instant::now();
            // If that fails, the file at hand is appended to.
            state.is_stuck = self.look(state, more).is_err();
        }
    }

    fn is_full(&self, state: &State, more: u64) -> bool {
        self.max_bytes.is_some_and(|max| state.bytes > 0 && state.bytes + more > max)
    }

    fn look(&self, state: &mut State, more: u64) -> io::Result<()> {
        // Another process may have renamed the file while this one waited.
        state.file.lock()?;
        let looked = self.look_locked(state, more);
        // Closing it unlocks it, too.
        let _ = state.file.unlock();
        if let Some(file) = looked? {
            (state.bytes, state.is_torn) = (file.metadata()?.len(), false);
            state.file = file;
        }
        Ok(())
    }

    /// The file to continue with, if it is another.
    fn look_locked(&self, state: &mut State, more: u64) -> io::Result<Option<File>> {
        let own = state.file.metadata()?;
        state.bytes = own.len();
        if !fs::metadata(&self.path).is_ok_and(|there| is_same(&there, &own)) {
            let created = append_to(&self.path);
            state.gone = created.as_ref().err().map(ToString::to_string);
            return created.map(Some);
        }
        state.gone = None;
        if !self.is_full(state, more) {
            return Ok(None);
        }
        self.rename()?;
        append_to(&self.path).map(Some)
    }

    /// Makes room at the path.
    fn rename(&self) -> io::Result<()> {
        if self.keep == 0 {
            return fs::remove_file(&self.path);
        }
        for number in (1..self.keep).rev() {
            match fs::rename(self.numbered(number), self.numbered(number + 1)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        fs::rename(&self.path, self.numbered(1))
    }

    fn numbered(&self, number: u32) -> PathBuf {
        let mut name = self.path.clone().into_os_string();
        name.push(format!(".{number}"));
        name.into()
    }

    fn missing(&self, lost: u64) -> String {
        let lines = if lost == 1 { "1 line is".to_owned() } else { format!("{lost} lines are") };
        self.notice(&format!("{lines} missing here, as LOG_FILE could not be written: stderr has them"))
    }

    fn refused(&self, error: &io::Error) -> String {
        let path = self.path.display();
        self.notice(&format!("cannot write {path} ({error}): log lines go to stderr until it can be; check LOG_FILE"))
    }

    /// A line of this module's own, which cannot log.
    fn notice(&self, message: &str) -> String {
        let now = chrono::Utc::now();
        match self.format {
            LogFormat::Text => format!("{} - WARN - {message}\n", now.format("%Y-%m-%d %H:%M:%SZ")),
            LogFormat::Json => {
                let now = now.format("%Y-%m-%dT%H:%M:%S%.6fZ").to_string();
                format!(
                    "{}\n",
                    json!({ "timestamp": now, "level": "WARN", "message": message, "target": module_path!() })
                )
            }
        }
    }
}

impl State {
    fn write(&mut self, line: &[u8]) -> io::Result<()> {
        let mut rest = line;
        while !rest.is_empty() {
            match self.file.write(rest) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => {
                    rest = &rest[written..];
                    self.bytes += written as u64;
                    self.is_torn = !rest.is_empty();
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

fn append_to(path: &Path) -> io::Result<File> {
    OpenOptions::new().append(true).create(true).open(path)
}

fn is_same(one: &Metadata, other: &Metadata) -> bool {
    (one.dev(), one.ino()) == (other.dev(), other.ino())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(max_bytes: u64, keep: u32) -> LogOptions {
        LogOptions { log_file_max_bytes: max_bytes, log_file_keep: keep, ..LogOptions::default() }
    }

    fn read(path: &Path, suffix: &str) -> Option<String> {
        fs::read_to_string(format!("{}{suffix}", path.display())).ok()
    }

    #[test]
    fn a_full_file_is_renamed_and_the_oldest_deleted() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("assay.log");
        let log = LogFile::open(&path, &options(10, 2)).unwrap();
        for number in 1..=7 {
            log.append(format!("line{number}\n").as_bytes()).unwrap();
        }
        let found = ["", ".1", ".2", ".3"].map(|suffix| read(&path, suffix));
        assert_eq!(found, [Some("line7\n".into()), Some("line6\n".into()), Some("line5\n".into()), None]);
    }

    #[test]
    fn processes_that_share_the_file_rename_it_once() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("assay.log");
        let logs = [0, 1].map(|_| LogFile::open(&path, &options(1_000, 50)).unwrap());
        std::thread::scope(|scope| {
            for (index, log) in logs.iter().enumerate() {
                scope.spawn(move || {
                    for number in 0..500 {
                        log.append(format!("{index} {number:05}\n").as_bytes()).unwrap();
                    }
                });
            }
        });
        let all: Vec<String> = fs::read_dir(folder.path())
            .unwrap()
            .map(|entry| fs::read_to_string(entry.unwrap().path()).unwrap())
            .collect();
        let mut lines: Vec<&str> = all.iter().flat_map(|text| text.lines()).collect();
        lines.sort_unstable();
        let expected: Vec<String> =
            [0, 1].iter().flat_map(|index| (0..500).map(move |number| format!("{index} {number:05}"))).collect();
        assert_eq!(lines, expected, "each line is there once");
    }

    #[test]
    fn a_file_that_was_moved_is_created_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("assay.log");
        let log = LogFile::open(&path, &options(0, 5)).unwrap();
        log.append(b"first\n").unwrap();
        fs::rename(&path, folder.path().join("assay.log.old")).unwrap();
        log.state.lock().unwrap().looked_at -= LOOK_INTERVAL;
        log.append(b"second\n").unwrap();
        assert_eq!((read(&path, ".old").unwrap(), read(&path, "").unwrap()), ("first\n".into(), "second\n".into()));
        // As `copytruncate` does.
        fs::write(&path, "").unwrap();
        log.append(b"third\n").unwrap();
        assert_eq!(read(&path, "").unwrap(), "third\n");
    }

    #[test]
    fn a_file_that_cannot_be_created_again_returns_the_lines() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("logs/assay.log");
        fs::create_dir(path.parent().unwrap()).unwrap();
        let log = LogFile::open(&path, &options(0, 5)).unwrap();
        fs::remove_dir_all(path.parent().unwrap()).unwrap();
        let look = || log.state.lock().unwrap().looked_at -= LOOK_INTERVAL;
        look();
        assert!(log.append(b"first\n").unwrap_err().notice.unwrap().contains("No such file"));
        fs::create_dir(path.parent().unwrap()).unwrap();
        look();
        log.append(b"second\n").unwrap();
        let text = read(&path, "").unwrap();
        assert!(text.contains("1 line is missing here") && text.ends_with("\nsecond\n"), "{text}");
    }

    #[test]
    fn a_full_disk_returns_the_lines_and_is_told_once() {
        let log = LogFile::open(Path::new("/dev/full"), &options(10, 5)).unwrap();
        let said = log.append(b"a line that is longer than the limit\n").unwrap_err().notice.unwrap();
        assert!(
            said.contains("- WARN - cannot write /dev/full (No space left on device") && said.ends_with('\n'),
            "{said}"
        );
        assert!(log.append(b"another\n").unwrap_err().notice.is_none());
        assert!(Path::new("/dev/full").exists(), "a device is not renamed");

        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("assay.log");
        let log = LogFile { format: LogFormat::Json, ..LogFile::open(&path, &options(0, 5)).unwrap() };
        *log.state.lock().unwrap() = State {
            lost: 2,
            is_torn: true,
            ..LogFile::open(&path, &options(0, 5)).unwrap().state.into_inner().unwrap()
        };
        log.append(b"{}\n").unwrap();
        let text = read(&path, "").unwrap();
        let lines: Vec<&str> = text.lines().collect();
        let notice: serde_json::Value = serde_json::from_str(lines[1]).unwrap();
        assert!(notice["message"].as_str().unwrap().starts_with("2 lines are missing here"), "{text}");
        assert_eq!((lines[0], lines[2]), ("", "{}"));
    }

    #[test]
    fn a_path_that_cannot_be_written_is_refused() {
        let error = LogFile::open(Path::new("/"), &options(10, 5)).unwrap_err();
        assert!(error.starts_with("cannot write / (") && error.ends_with("check LOG_FILE"), "{error}");
    }
}
