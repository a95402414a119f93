//! The owner of a lease: a name unique to one process, by which other processes of the same machine can see that it is dead.

use std::fmt;
use std::path::Path;

use assay_connect::{host_name, random_suffix};
use assay_store::{Store, StoreError};
use assay_transaction::RunId;

/// `host/boot/processes/pid/unique`: host name, boot id of the kernel, PID namespace, process id, and random characters.
///
/// A process id is comparable only within one PID namespace of one boot. The host name does not identify a machine (two may be
/// called `localhost`), nor does the namespace (the first one of every kernel has the same number): only all three together do,
/// if the system provides them. Earlier versions wrote no boot id: such an owner never counts as one of this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeaseOwner {
    host: String,
    boot: String,
    processes: String,
    pid: u32,
    unique: String,
}

impl LeaseOwner {
    /// A new name for this process: create it once.
    pub fn new() -> Self {
        let one_part = |text: &str| text.trim().chars().filter(|character| *character != '/').collect();
        let processes = std::fs::read_link("/proc/self/ns/pid").unwrap_or_default();
        Self {
            host: one_part(&host_name()),
            boot: one_part(&std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default()),
            processes: processes.to_string_lossy().chars().filter(char::is_ascii_digit).collect(),
            pid: std::process::id(),
            unique: random_suffix(),
        }
    }

    /// Whether another owner is known to be dead. That of another machine is not: its lease has to expire.
    pub fn outlives(&self, other: &str) -> bool {
        let Some(other) = Self::read(other) else { return false };
        if !self.shares_processes_with(&other) || self.unique == other.unique {
            return false;
        }
        // The previous process with our own id has ended.
        other.pid == self.pid || is_gone(other.pid)
    }

    /// Whether both are known to share a PID namespace.
    fn shares_processes_with(&self, other: &Self) -> bool {
        let Self { host, boot, processes, pid: _, unique: _ } = self;
        !boot.is_empty()
            && !processes.is_empty()
            && (host, boot, processes) == (&other.host, &other.boot, &other.processes)
    }

    fn read(text: &str) -> Option<Self> {
        let mut parts = text.split('/').map(str::to_owned);
        let (host, boot, processes) = (parts.next()?, parts.next()?, parts.next()?);
        let (pid, unique) = (parts.next()?.parse().ok()?, parts.next()?);
        parts.next().is_none().then_some(Self { host, boot, processes, pid, unique })
    }
}

impl Default for LeaseOwner {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Display for LeaseOwner {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { host, boot, processes, pid, unique } = self;
        write!(formatter, "{host}/{boot}/{processes}/{pid}/{unique}")
    }
}

/// Whether a process of this machine is known to have ended.
fn is_gone(pid: u32) -> bool {
    // The first process always exists: if it is hidden, others may be too (`hidepid`).
    if !Path::new("/proc/1/stat").exists() {
        return false;
    }
    // The state follows the name in parentheses. A zombie has ended, too.
    match std::fs::read_to_string(format!("/proc/{pid}/stat")) {
        Ok(stat) => stat.rsplit(") ").next().is_some_and(|rest| rest.starts_with(['Z', 'X'])),
        Err(error) => error.kind() == std::io::ErrorKind::NotFound,
    }
}

/// Evicts a dead lease owner of this machine, so that its lease need not expire first.
pub async fn evict_if_gone(store: &dyn Store, run_id: &RunId) -> Result<(), StoreError> {
    match held_by(store, run_id).await? {
        Some(by) if LeaseOwner::new().outlives(&by) => store.evict(run_id, &by).await,
        _ => Ok(()),
    }
}

pub(crate) async fn held_by(store: &dyn Store, run_id: &RunId) -> Result<Option<String>, StoreError> {
    let open = store.open_runs().await?;
    Ok(open.into_iter().find(|open| open.run.run_id == *run_id).and_then(|open| open.held_by))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An id above those of any process.
    const GONE: u32 = u32::MAX;

    fn owner(host: &str, boot: &str, processes: &str, pid: u32, unique: &str) -> LeaseOwner {
        LeaseOwner {
            host: host.to_owned(),
            boot: boot.to_owned(),
            processes: processes.to_owned(),
            pid,
            unique: unique.to_owned(),
        }
    }

    #[test]
    fn only_a_known_dead_owner_is_outlived() {
        let (here, alive) = (std::process::id(), 1);
        let this = owner("localhost", "b1", "4026531836", here, "this");
        for (other, expected, why) in [
            (owner("localhost", "b1", "4026531836", GONE, "other"), true, "it has ended"),
            (owner("localhost", "b1", "4026531836", here, "other"), true, "its process id is ours"),
            (owner("localhost", "b1", "4026531836", here, "this"), false, "it is this one"),
            (owner("localhost", "b1", "4026531836", alive, "other"), false, "the first process always lives"),
            (owner("localhost", "b2", "4026531836", GONE, "other"), false, "another machine of the same name"),
            (owner("localhost", "", "4026531836", GONE, "other"), false, "unknown machine"),
            (owner("other", "b1", "4026531836", GONE, "other"), false, "another name"),
            (owner("localhost", "b1", "4026532177", GONE, "other"), false, "another container"),
            (owner("localhost", "b1", "", GONE, "other"), false, "unknown container"),
        ] {
            assert_eq!(this.outlives(&other.to_string()), expected, "{why}: {other}");
        }
        // Without these facts, equal names prove nothing.
        for this in [owner("h", "", "1", here, "this"), owner("h", "b", "", here, "this")] {
            let other = LeaseOwner { pid: GONE, unique: "other".to_owned(), ..this.clone() };
            assert!(!this.outlives(&other.to_string()), "{this}");
        }
    }

    #[test]
    fn a_name_of_another_form_is_not_outlived() {
        let this = LeaseOwner::new();
        assert_eq!(LeaseOwner::read(&this.to_string()), Some(this.clone()));
        let LeaseOwner { host, boot, processes, .. } = &this;
        // The form of earlier versions.
        let former = format!("{host}/{processes}/{GONE}/other");
        for text in [&former, "", "host", "host/b/1/x/y", &format!("{host}/{boot}/{processes}/{GONE}/other/more")] {
            assert!(!this.outlives(text), "{text}");
        }
    }

    #[test]
    fn a_process_that_has_ended_is_gone() {
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let pid = child.id();
        // A zombie, or gone.
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(30);
        while !is_gone(pid) {
            assert!(std::time::Instant::now() < deadline, "it ends");
            std::thread::yield_now();
        }
        child.wait().unwrap();
        assert!(is_gone(pid) && !is_gone(std::process::id()));
    }
}
