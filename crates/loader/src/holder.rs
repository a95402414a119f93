//! Who holds the lease of a run: a name that no other loader has, and from which this machine can tell that its bearer is
//! gone.

use std::fmt;
use std::path::Path;

use assay_store::{Store, StoreError};
use assay_transaction::RunId;
use uuid::Uuid;

/// `host/processes/pid/unique`. The second part tells apart containers that share the name of their host: a process number
/// says something only among those that are numbered together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holder {
    host: String,
    processes: String,
    pid: u32,
    unique: String,
}

impl Holder {
    /// This process; another one each time, so make it once.
    pub fn new() -> Self {
        let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        let host: String = host.trim().chars().filter(|character| *character != '/').collect();
        let processes = std::fs::read_link("/proc/self/ns/pid").unwrap_or_default();
        let processes: String = processes.to_string_lossy().chars().filter(char::is_ascii_digit).collect();
        let unique = Uuid::new_v4().simple().to_string()[..8].to_owned();
        Self { host, processes, pid: std::process::id(), unique }
    }

    /// Whether another holder is known to be gone. One of another machine is not known to be: its lease has to run out.
    pub fn outlives(&self, other: &str) -> bool {
        let Some(other) = Self::read(other) else { return false };
        let is_here = !self.processes.is_empty() && (&self.host, &self.processes) == (&other.host, &other.processes);
        if !is_here || self.unique == other.unique {
            return false;
        }
        // Who had our own process number before us has ended.
        other.pid == self.pid || is_gone(other.pid)
    }

    fn read(text: &str) -> Option<Self> {
        let mut parts = text.split('/').map(str::to_owned);
        let (host, processes) = (parts.next()?, parts.next()?);
        let (pid, unique) = (parts.next()?.parse().ok()?, parts.next()?);
        parts.next().is_none().then_some(Self { host, processes, pid, unique })
    }
}

impl Default for Holder {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Display for Holder {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { host, processes, pid, unique } = self;
        write!(formatter, "{host}/{processes}/{pid}/{unique}")
    }
}

/// Whether a process of this machine has ended. Where the system does not tell, it has not.
fn is_gone(pid: u32) -> bool {
    if !Path::new("/proc/self/stat").exists() {
        return false;
    }
    // The state follows the name, which stands in parentheses. Who is dead and not yet buried does nothing any more either.
    match std::fs::read_to_string(format!("/proc/{pid}/stat")) {
        Ok(stat) => stat.rsplit(") ").next().is_some_and(|rest| rest.starts_with(['Z', 'X'])),
        Err(error) => error.kind() == std::io::ErrorKind::NotFound,
    }
}

/// Frees a run that is held by a loader of this machine which is gone, so that nobody has to wait until its lease has run
/// out.
pub async fn evict_if_gone(store: &dyn Store, run_id: &RunId) -> Result<(), StoreError> {
    match held_by(store, run_id).await? {
        Some(by) if Holder::new().outlives(&by) => store.evict(run_id, &by).await,
        _ => Ok(()),
    }
}

/// Who holds a run.
pub(crate) async fn held_by(store: &dyn Store, run_id: &RunId) -> Result<Option<String>, StoreError> {
    let open = store.open_runs().await?;
    Ok(open.into_iter().find(|open| open.run.run_id == *run_id).and_then(|open| open.held_by))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_who_is_known_to_be_gone_is_outlived() {
        let this = Holder::new();
        let other = |change: &dyn Fn(&mut Holder)| {
            let mut other = Holder { unique: "other".to_owned(), ..this.clone() };
            change(&mut other);
            other.to_string()
        };
        assert_eq!(Holder::read(&this.to_string()), Some(this.clone()));
        assert!(!this.outlives(&this.to_string()), "it lives");
        assert!(this.outlives(&other(&|_| {})), "nobody else has this process number");
        assert!(!this.outlives(&other(&|other| other.pid = 1)), "the first process always lives");
        // No system counts as far.
        let gone = |other: &mut Holder| other.pid = u32::MAX;
        assert!(this.outlives(&other(&gone)));
        let elsewhere: [&dyn Fn(&mut Holder); 2] = [&|other| other.host.push('x'), &|other| other.processes.push('0')];
        for elsewhere in elsewhere {
            assert!(!this.outlives(&other(&|other| {
                gone(other);
                elsewhere(other);
            })));
        }
        for text in ["", "host", "host/1/x/y", "host/1/2/x/y"] {
            assert!(!this.outlives(text), "{text}");
        }
    }

    #[test]
    fn a_process_that_has_ended_is_gone() {
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let pid = child.id();
        // Dead, whether or not anybody has asked for its status.
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(30);
        while !is_gone(pid) {
            assert!(std::time::Instant::now() < deadline, "it ends");
            std::thread::yield_now();
        }
        child.wait().unwrap();
        assert!(is_gone(pid) && !is_gone(std::process::id()));
    }
}
