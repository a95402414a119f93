//! Who holds the lease of a run: a name that no other loader has, and from which this machine can tell that its bearer is
//! gone.

use std::fmt;
use std::path::Path;

use assay_store::{Store, StoreError};
use assay_transaction::RunId;
use uuid::Uuid;

/// `host/boot/processes/pid/unique`: the name of the host, the identity of the boot of its kernel, the space in which its processes
/// are numbered, the number of this one, and something random.
///
/// A process number says something only among processes that are numbered together. The name of a host does not tell: two machines
/// may be called `localhost`. Nor does the space: the first one of each kernel has the same number. Only all of them do, where the
/// system tells them. Versions before this one wrote no boot: whose holder is without one is never taken to be of this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holder {
    host: String,
    boot: String,
    processes: String,
    pid: u32,
    unique: String,
}

impl Holder {
    /// This process; another one each time, so make it once.
    pub fn new() -> Self {
        let read = |path| std::fs::read_to_string(path).unwrap_or_default();
        let one_part = |text: &str| text.trim().chars().filter(|character| *character != '/').collect();
        let processes = std::fs::read_link("/proc/self/ns/pid").unwrap_or_default();
        Self {
            host: one_part(&read("/proc/sys/kernel/hostname")),
            boot: one_part(&read("/proc/sys/kernel/random/boot_id")),
            processes: processes.to_string_lossy().chars().filter(char::is_ascii_digit).collect(),
            pid: std::process::id(),
            unique: Uuid::new_v4().simple().to_string()[..8].to_owned(),
        }
    }

    /// Whether another holder is known to be gone. One of another machine is not known to be: its lease has to run out.
    pub fn outlives(&self, other: &str) -> bool {
        let Some(other) = Self::read(other) else { return false };
        if !self.is_beside(&other) || self.unique == other.unique {
            return false;
        }
        // Who had our own process number before us has ended.
        other.pid == self.pid || is_gone(other.pid)
    }

    /// Whether the processes of both are numbered together, as far as the system tells.
    fn is_beside(&self, other: &Self) -> bool {
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

impl Default for Holder {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Display for Holder {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { host, boot, processes, pid, unique } = self;
        write!(formatter, "{host}/{boot}/{processes}/{pid}/{unique}")
    }
}

/// Whether a process of this machine has ended. Where the system does not tell, it has not.
fn is_gone(pid: u32) -> bool {
    // The first process always lives: where it is hidden, others may be, too (`hidepid`).
    if !Path::new("/proc/1/stat").exists() {
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

    /// A number that no process has: no system counts as far.
    const GONE: u32 = u32::MAX;

    fn holder(host: &str, boot: &str, processes: &str, pid: u32, unique: &str) -> Holder {
        Holder {
            host: host.to_owned(),
            boot: boot.to_owned(),
            processes: processes.to_owned(),
            pid,
            unique: unique.to_owned(),
        }
    }

    #[test]
    fn only_who_is_known_to_be_gone_is_outlived() {
        let (here, alive) = (std::process::id(), 1);
        let this = holder("localhost", "b1", "4026531836", here, "this");
        for (other, expected, why) in [
            (holder("localhost", "b1", "4026531836", GONE, "other"), true, "it has ended"),
            (holder("localhost", "b1", "4026531836", here, "other"), true, "nobody else has this process number"),
            (holder("localhost", "b1", "4026531836", here, "this"), false, "it is this one"),
            (holder("localhost", "b1", "4026531836", alive, "other"), false, "the first process always lives"),
            (holder("localhost", "b2", "4026531836", GONE, "other"), false, "another machine of the same name"),
            (holder("localhost", "", "4026531836", GONE, "other"), false, "nobody knows which machine"),
            (holder("other", "b1", "4026531836", GONE, "other"), false, "another name"),
            (holder("localhost", "b1", "4026532177", GONE, "other"), false, "another container"),
            (holder("localhost", "b1", "", GONE, "other"), false, "nobody knows which container"),
        ] {
            assert_eq!(this.outlives(&other.to_string()), expected, "{why}: {other}");
        }
        // Where this system does not tell, even what looks the same is not.
        for this in [holder("h", "", "1", here, "this"), holder("h", "b", "", here, "this")] {
            let other = Holder { pid: GONE, unique: "other".to_owned(), ..this.clone() };
            assert!(!this.outlives(&other.to_string()), "{this}");
        }
    }

    #[test]
    fn what_is_no_holder_of_this_form_is_not_outlived() {
        let this = Holder::new();
        assert_eq!(Holder::read(&this.to_string()), Some(this.clone()));
        let Holder { host, boot, processes, .. } = &this;
        // As versions before this one wrote it.
        let former = format!("{host}/{processes}/{GONE}/other");
        for text in [&former, "", "host", "host/b/1/x/y", &format!("{host}/{boot}/{processes}/{GONE}/other/more")] {
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
