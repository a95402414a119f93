//! What this machine, or this container, gives a program: open files, memory and disk.

use std::path::{Path, PathBuf};

use assay_connect::Finding;
use rustix::process::Resource;

/// The name of this machine among the dependencies.
pub(super) const MACHINE: &str = "machine";

/// Open files of a program besides its connections: logs, sources, libraries, the runtime.
const BASE_FILES: u64 = 100;
/// The memory limit that every program is tested with (`scripts/memory-check`).
const TESTED_BYTES: u64 = 256 << 20;
/// Free space below which a disk is as good as full.
const LITTLE_SPACE: u64 = 100 << 20;
/// Free space below which a disk may be full soon.
const SOME_SPACE: u64 = 1 << 30;

/// The settings that matter here.
#[derive(Debug, Clone)]
pub(super) struct Needs {
    /// Most connections that a program opens: to the ML API, to the database.
    pub(super) connections: u64,
    /// Folders that are written to, with the reason.
    pub(super) folders: Vec<(PathBuf, &'static str)>,
}

/// Checks this machine.
pub(super) fn check(needs: &Needs) -> Vec<Finding> {
    let files = rustix::process::getrlimit(Resource::Nofile).current;
    let mut findings = vec![judge_files(files, needs.connections), judge_memory(&Memory::read())];
    findings.extend(needs.folders.iter().map(|(folder, what)| judge_disk(folder, what, free_bytes(folder))));
    findings
}

fn judge_files(limit: Option<u64>, connections: u64) -> Finding {
    const CHECK: &str = "open files";
    let needed = BASE_FILES + connections;
    let Some(limit) = limit else { return Finding::ok(CHECK, "no limit") };
    let found = format!("at most {limit}, and a program with these settings needs about {needed}");
    let remedy = "raise `ulimit -n` (LimitNOFILE of a systemd unit, `ulimits` of a container), or lower API_MAX_WORKERS and \
                  DB_CONNECTIONS";
    if limit < needed {
        Finding::failed(CHECK, found, remedy)
    } else if limit < 2 * needed {
        Finding::warning(CHECK, found, remedy)
    } else {
        Finding::ok(CHECK, found)
    }
}

/// The memory of this container, or of the machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Memory {
    /// The limit of the control group, if it has one.
    limit: Option<u64>,
    /// What is free on the machine.
    available: Option<u64>,
    /// How often the kernel has ended a process of the group for lack of memory.
    killed: u64,
}

impl Memory {
    fn read() -> Self {
        let read = |path: &Path| std::fs::read_to_string(path).ok();
        let group = read(Path::new("/proc/self/cgroup")).and_then(|text| group_folder(&text));
        // Within a container, the group is the root of what is shown.
        let folders = group.into_iter().chain([PathBuf::from("/sys/fs/cgroup")]);
        let (mut limit, mut killed) = (None, 0);
        for folder in folders {
            limit = limit.or_else(|| read(&folder.join("memory.max"))?.trim().parse().ok());
            killed = killed.max(read(&folder.join("memory.events")).map_or(0, |text| counter(&text, "oom_kill ")));
        }
        let available = read(Path::new("/proc/meminfo")).map(|text| counter(&text, "MemAvailable:"));
        Self { limit, available: available.map(|kib| kib << 10), killed }
    }
}

/// The folder of the control group that `/proc/self/cgroup` names (version 2).
fn group_folder(text: &str) -> Option<PathBuf> {
    let path = text.lines().find_map(|line| line.strip_prefix("0::/"))?;
    Some(Path::new("/sys/fs/cgroup").join(path))
}

/// The number behind a name.
fn counter(text: &str, name: &str) -> u64 {
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    line.and_then(|rest| rest.split_whitespace().next()?.parse().ok()).unwrap_or_default()
}

fn judge_memory(memory: &Memory) -> Finding {
    const CHECK: &str = "memory";
    let mib = |bytes: u64| format!("{} MiB", bytes >> 20);
    let (usable, found) = match (memory.limit, memory.available) {
        (Some(limit), _) => (limit, format!("a limit of {}", mib(limit))),
        (None, Some(available)) => (available, format!("no limit, and {} free on the machine", mib(available))),
        (None, None) => return Finding::not_checked(CHECK, "this system does not tell"),
    };
    let remedy = "raise the memory limit, or lower API_MAX_WORKERS, PUBLISH_WINDOW and ROW_BATCH_SIZE";
    if memory.killed > 0 {
        let found = format!("the kernel has ended {} processes here for lack of memory, with {found}", memory.killed);
        return Finding::warning(CHECK, found, remedy);
    }
    if usable < TESTED_BYTES {
        let found = format!("{found}, which is below the {} that each program is tested with", mib(TESTED_BYTES));
        return Finding::warning(CHECK, found, remedy);
    }
    Finding::ok(CHECK, found)
}

fn free_bytes(folder: &Path) -> Option<u64> {
    let space = rustix::fs::statvfs(folder).ok()?;
    Some(space.f_bavail.saturating_mul(space.f_frsize))
}

fn judge_disk(folder: &Path, what: &str, free: Option<u64>) -> Finding {
    const CHECK: &str = "disk";
    let place = format!("{} ({what})", folder.display());
    let Some(free) = free else {
        return Finding::failed(CHECK, format!("{place} cannot be looked at"), "create the folder");
    };
    let found = format!("{} MiB free in {place}", free >> 20);
    let remedy = "free space there, or use another folder";
    match free {
        ..LITTLE_SPACE => Finding::failed(CHECK, found, remedy),
        LITTLE_SPACE..SOME_SPACE => Finding::warning(CHECK, found, remedy),
        _ => Finding::ok(CHECK, found),
    }
}

#[cfg(test)]
mod tests {
    use assay_connect::Verdict;

    use super::*;

    #[test]
    fn open_files_are_judged_by_what_connections_need() {
        let of = |limit, connections| judge_files(limit, connections).verdict;
        assert_eq!(of(None, 1_000_000), Verdict::Ok);
        assert_eq!(of(Some(1024), 30), Verdict::Ok);
        assert_eq!(of(Some(256), 50), Verdict::Warning);
        assert_eq!(of(Some(1024), 1000), Verdict::Failed);
    }

    #[test]
    fn memory_is_judged_by_limit_and_past() {
        let mib = |mib: u64| Some(mib << 20);
        let cases = [
            (Memory { limit: mib(512), ..Memory::default() }, Verdict::Ok, "a limit of 512 MiB"),
            (Memory { limit: mib(128), ..Memory::default() }, Verdict::Warning, "below the 256 MiB"),
            (Memory { available: mib(4096), ..Memory::default() }, Verdict::Ok, "no limit, and 4096 MiB free"),
            (Memory { available: mib(100), ..Memory::default() }, Verdict::Warning, "below the 256 MiB"),
            (Memory { limit: mib(512), killed: 2, ..Memory::default() }, Verdict::Warning, "has ended 2 processes"),
            (Memory::default(), Verdict::NotChecked, "does not tell"),
        ];
        for (memory, verdict, words) in cases {
            let finding = judge_memory(&memory);
            assert!(finding.verdict == verdict && finding.found.contains(words), "{finding:?}");
        }
    }

    #[test]
    fn a_control_group_is_found_and_read() {
        let folder = |text: &str| group_folder(text).map(|folder| folder.display().to_string());
        assert_eq!(
            folder("0::/system.slice/writer.service\n").as_deref(),
            Some("/sys/fs/cgroup/system.slice/writer.service")
        );
        assert_eq!(folder("1:name=systemd:/x\n"), None);
        assert_eq!(counter("low 0\noom 3\noom_kill 2\n", "oom_kill "), 2);
        assert_eq!(counter("MemAvailable:   1024 kB\n", "MemAvailable:"), 1024);
        assert_eq!(counter("", "oom_kill "), 0);
    }

    #[test]
    fn a_disk_is_judged_by_its_free_space() {
        let of = |free| judge_disk(Path::new("/data"), "SQLite", free).verdict;
        assert_eq!(of(Some(10 << 30)), Verdict::Ok);
        assert_eq!(of(Some(500 << 20)), Verdict::Warning);
        assert_eq!(of(Some(50 << 20)), Verdict::Failed);
        assert_eq!(of(None), Verdict::Failed);
        assert!(free_bytes(&std::env::temp_dir()).is_some());
    }
}
