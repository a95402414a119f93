//! CPU time and peak resident memory of processes, as Linux counts them.

use std::collections::BTreeSet;
use std::time::Duration;

use assay_tests::Running;

/// Clock tick of `/proc/*/stat`, on every supported architecture.
const TICK: Duration = Duration::from_millis(10);

/// Usage of one process.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Usage {
    /// User and system time.
    pub(crate) cpu: Duration,
    /// VmHWM.
    pub(crate) peak_kib: u64,
}

impl Usage {
    /// Reads the usage of a running process.
    pub(crate) fn of(id: u32) -> Option<Self> {
        Some(Self { cpu: cpu(id)?, peak_kib: peak_kib(id)? })
    }

    /// Waits for the end of a process and returns its last usage, read at this interval: it is gone afterwards.
    pub(crate) async fn until_ended(process: &Running, every: Duration) -> Self {
        let mut looks = tokio::time::interval(every);
        let mut last = Self::default();
        loop {
            tokio::select! {
                () = process.until_ended() => return last,
                _ = looks.tick() => last = Self::of(process.id()).unwrap_or(last),
            }
        }
    }
}

/// Returns the CPU time of a process so far. The threads' clocks are precise but lack ended threads; the process's clock
/// has them, in whole ticks. Neither overestimates, so the larger one counts.
pub(crate) fn cpu(id: u32) -> Option<Duration> {
    let stat = Stat::of(id)?;
    let threads = std::fs::read_dir(format!("/proc/{id}/task")).ok()?;
    let of_threads = threads.flatten().filter_map(|thread| {
        let clocks = std::fs::read_to_string(thread.path().join("schedstat")).ok()?;
        clocks.split(' ').next()?.parse().ok().map(Duration::from_nanos)
    });
    Some(of_threads.sum::<Duration>().max(stat.own))
}

/// Returns the CPU time so far of a process and all its descendants, ended ones included.
pub(crate) fn cpu_of_tree(root: u32) -> Duration {
    let all = Stat::of_all();
    let tree = tree(&all, root);
    all.iter().filter(|stat| tree.contains(&stat.id)).map(|stat| stat.own + stat.ended_children).sum()
}

/// Returns the CPU time so far of everything that this process started, ended processes included.
pub(crate) fn cpu_of_children() -> Duration {
    let this = std::process::id();
    let all = Stat::of_all();
    let tree = tree(&all, this);
    let of = |stat: &Stat| stat.ended_children + if stat.id == this { Duration::ZERO } else { stat.own };
    all.iter().filter(|stat| tree.contains(&stat.id)).map(of).sum()
}

/// Returns the processes that this one started and their descendants, without those of `except`.
pub(crate) fn children(except: u32) -> Vec<u32> {
    let this = std::process::id();
    let all = Stat::of_all();
    let spared = tree(&all, except);
    tree(&all, this).into_iter().filter(|id| *id != this && !spared.contains(id)).collect()
}

/// Memory of a process in RAM, in KiB: all of it, and with shared pages divided among those that share them. None once it has
/// ended.
pub(crate) fn memory_kib(id: u32) -> Option<[u64; 2]> {
    let rollup = std::fs::read_to_string(format!("/proc/{id}/smaps_rollup")).ok()?;
    let size = |field: &str| {
        let line = rollup.lines().find_map(|line| line.strip_prefix(field)?.trim().strip_suffix(" kB"));
        line?.parse().ok()
    };
    Some([size("Rss:")?, size("Pss:")?])
}

fn tree(all: &[Stat], root: u32) -> BTreeSet<u32> {
    let mut tree = BTreeSet::from([root]);
    loop {
        let children = all.iter().filter(|stat| tree.contains(&stat.parent)).map(|stat| stat.id);
        let next: BTreeSet<u32> = tree.iter().copied().chain(children).collect();
        if next.len() == tree.len() {
            return tree;
        }
        tree = next;
    }
}

/// Returns the CPU time so far of the service whose process id is in this variable; none if `scripts/bench` did not start it.
pub(crate) fn cpu_of_service(variable: &str) -> Option<Duration> {
    let id: u32 = std::env::var(variable).ok()?.parse().ok()?;
    Some(cpu_of_tree(id))
}

fn peak_kib(id: u32) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{id}/status")).ok()?;
    status.lines().find_map(|line| line.strip_prefix("VmHWM:")?.trim().strip_suffix(" kB"))?.parse().ok()
}

struct Stat {
    id: u32,
    parent: u32,
    own: Duration,
    ended_children: Duration,
}

impl Stat {
    fn of_all() -> Vec<Self> {
        std::fs::read_dir("/proc")
            .expect("/proc lists processes")
            .flatten()
            .filter_map(|entry| Self::of(entry.file_name().to_str()?.parse().ok()?))
            .collect()
    }

    fn of(id: u32) -> Option<Self> {
        let stat = std::fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
        // The name in parentheses may contain anything.
        let fields: Vec<&str> = stat.rsplit_once(") ")?.1.split(' ').collect();
        let ticks = |field: usize| fields.get(field)?.parse().ok().map(|ticks: u32| TICK * ticks);
        let parent = fields.get(1)?.parse().ok()?;
        Some(Self { id, parent, own: ticks(11)? + ticks(12)?, ended_children: ticks(13)? + ticks(14)? })
    }
}
