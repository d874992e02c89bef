//! What the process itself uses, as the kernel tells it (`proc(5)`). Nothing is read from a disk.

use rustix::param::{clock_ticks_per_second, page_size};

/// Bytes of memory the process holds (resident set); `None` when the kernel does not tell.
pub fn resident_bytes() -> Option<f64> {
    let text = std::fs::read_to_string("/proc/self/statm").ok()?;
    let pages: u64 = text.split_ascii_whitespace().nth(1)?.parse().ok()?;
    Some(pages.saturating_mul(page_size() as u64) as f64)
}

/// Seconds of processor time the process has used so far, of all threads together.
pub fn cpu_seconds() -> Option<f64> {
    ticks(&std::fs::read_to_string("/proc/self/stat").ok()?).map(|ticks| ticks as f64 / clock_ticks_per_second() as f64)
}

/// Bytes of memory of the machine: in all, and what programs could still get.
pub fn machine_memory() -> Option<(u64, u64)> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let kilobytes = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name))?;
        line.trim_start_matches(':').split_ascii_whitespace().next()?.parse::<u64>().ok()
    };
    Some((kilobytes("MemTotal")?.saturating_mul(1024), kilobytes("MemAvailable")?.saturating_mul(1024)))
}

/// Bytes of memory this process may use at most: the machine's, or less where its control group says so
/// (cgroup-v2, `memory.max`).
pub fn memory_limit() -> Option<u64> {
    let machine = machine_memory().map(|(total, _)| total);
    let group = std::fs::read_to_string("/proc/self/cgroup").ok().and_then(|text| {
        let path = text.lines().find_map(|line| line.strip_prefix("0::"))?;
        let file = format!("/sys/fs/cgroup{}/memory.max", path.trim_end_matches('/'));
        std::fs::read_to_string(file).ok()?.trim().parse::<u64>().ok()
    });
    match (machine, group) {
        (Some(machine), Some(group)) => Some(machine.min(group)),
        (machine, group) => machine.or(group),
    }
}

/// User and system time in a line of `/proc/<pid>/stat`. The name before them is in brackets and may hold anything.
fn ticks(stat: &str) -> Option<u64> {
    let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace();
    let user: u64 = fields.nth(11)?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    Some(user.saturating_add(system))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_found_behind_any_name() {
        let stat = "42 (a) b) R 1 2 3 4 5 6 7 8 9 10 250 50 0 0 20";
        assert_eq!(ticks(stat), Some(300));
        assert_eq!(ticks("42 (short) R 1"), None);
        assert_eq!(ticks(""), None);
    }

    #[test]
    fn this_process_uses_memory() {
        assert!(resident_bytes().is_some_and(|bytes| bytes > 100_000.0));
        assert!(cpu_seconds().is_some());
        assert!(machine_memory().is_some_and(|(total, available)| available <= total));
        assert!(memory_limit() <= machine_memory().map(|(total, _)| total));
    }
}
