//! What has a process used? From the kernel's own accounting, which is there on Linux only.

use std::fs;
use std::path::Path;
use std::time::Duration;

/// What [`cpu`] reads, for the report to say.
pub(crate) const CPU_SOURCE: &str = "/proc/PID/task/*/schedstat";

/// How Envoy calls its worker threads.
const WORKER: &str = "wrk:";

/// CPU time that a process has used since it started.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cpu {
    /// By all its threads.
    pub(crate) all: Duration,
    /// By Envoy's worker threads alone: where requests are handled.
    pub(crate) workers: Duration,
}

/// Whether this machine tells at all.
pub(crate) fn is_accounted() -> bool {
    Path::new("/proc/self/schedstat").exists()
}

/// The CPU time of all threads that a process has now; Envoy's live as long as it does. `None` where nobody tells.
pub(crate) fn cpu(pid: u32) -> Option<Cpu> {
    let mut cpu = Cpu { all: Duration::ZERO, workers: Duration::ZERO };
    for thread in fs::read_dir(format!("/proc/{pid}/task")).ok()? {
        let thread = thread.ok()?.path();
        // Nanoseconds on a CPU, nanoseconds waiting for one, and how often.
        let schedstat = fs::read_to_string(thread.join("schedstat")).ok()?;
        let time = Duration::from_nanos(schedstat.split(' ').next()?.parse().ok()?);
        cpu.all += time;
        if fs::read_to_string(thread.join("comm")).ok()?.starts_with(WORKER) {
            cpu.workers += time;
        }
    }
    Some(cpu)
}

/// The thread in which requests are handled: of several workers, one.
pub(crate) fn worker(pid: u32) -> Option<u32> {
    let mut threads = fs::read_dir(format!("/proc/{pid}/task")).ok()?.flatten();
    let is_worker = |thread: &fs::DirEntry| {
        fs::read_to_string(thread.path().join("comm")).is_ok_and(|name| name.starts_with(WORKER))
    };
    threads.find(is_worker)?.file_name().to_str()?.parse().ok()
}

/// Resident memory in KiB. `None` where nobody tells.
pub(crate) fn resident_kib(pid: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.split_whitespace().next()?.parse().ok()
}
