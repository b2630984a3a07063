//! CPU time and memory of a process, from procfs.

use std::path::Path;

/// The resources that a process has used so far.
pub struct Usage {
    pub cpu_seconds: f64,
    pub peak_mb: u64,
}

/// The resources that a process has used so far.
pub fn usage_of(pid: u32) -> anyhow::Result<Usage> {
    let proc = Path::new("/proc").join(pid.to_string());
    let stat = std::fs::read_to_string(proc.join("stat"))?;
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split(' ').collect();
    let ticks = |n: usize| fields.get(n).and_then(|t| t.parse::<f64>().ok()).unwrap_or(0.0);
    let status = std::fs::read_to_string(proc.join("status"))?;
    let peak = status.lines().find_map(|l| l.strip_prefix("VmHWM:")).unwrap_or_default();
    let kb: u64 = peak.split_whitespace().next().and_then(|n| n.parse().ok()).unwrap_or(0);
    // utime and stime are fields 14 and 15 of stat, in ticks of 1/100 s.
    Ok(Usage { cpu_seconds: (ticks(12) + ticks(13)) / 100.0, peak_mb: kb / 1024 })
}
