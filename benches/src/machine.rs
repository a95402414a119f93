//! Where figures come from: they are of one machine, and worth little where others use it too.

use std::thread::available_parallelism;

/// The processor, how many cores of it, and how busy they were before anything began.
pub(crate) fn described() -> String {
    let cores = available_parallelism().map_or(0, usize::from);
    let cpus = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpus.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let model = model.map_or("a processor without a name", |(_, model)| model);
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let load = load.split(' ').next().unwrap_or_default();
    format!(
        "{cores} cores of {model}; before the first measurement, {load} processes wanted one (the average of a minute)."
    )
}
