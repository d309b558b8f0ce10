//! Whether memory stays flat: the process's resident bytes over time, their greatest distance from the median and the
//! slope of the line through them.

use std::time::Duration;

/// Resident memory of this process in bytes.
///
/// # Errors
/// Text, when the system does not tell (only Linux does).
pub(crate) fn resident_bytes() -> Result<u64, String> {
    const FILE: &str = "/proc/self/status";
    let status =
        std::fs::read_to_string(FILE).map_err(|error| format!("{FILE}: {error}; the soak needs Linux"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kilobytes = line.and_then(|line| line.trim().trim_end_matches("kB").trim().parse::<u64>().ok());
    kilobytes.map(|kilobytes| kilobytes * 1024).ok_or_else(|| format!("{FILE}: it has no line VmRSS"))
}

/// Resident bytes at moments after the start.
#[derive(Debug, Default)]
pub(crate) struct Samples(Vec<(Duration, u64)>);

/// What samples say.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Flatness {
    pub(crate) samples: usize,
    pub(crate) median: u64,
    /// Greatest distance from the median, as a share of it.
    pub(crate) deviation: f64,
    /// How much the line through the samples rises from the first to the last, as a share of the median.
    pub(crate) rise: f64,
}

impl Flatness {
    /// The greatest share that may be called flat.
    const FLAT: f64 = 0.01;

    pub(crate) fn is_flat(&self) -> bool {
        self.samples > 2 && self.deviation <= Self::FLAT && self.rise.abs() <= Self::FLAT
    }
}

impl Samples {
    pub(crate) fn push(&mut self, at: Duration, bytes: u64) {
        self.0.push((at, bytes));
    }

    /// What the samples from `warm_up` on say.
    pub(crate) fn flatness(&self, warm_up: Duration) -> Flatness {
        let warm: Vec<(f64, f64)> = self
            .0
            .iter()
            .filter(|(at, _)| *at >= warm_up)
            .map(|(at, bytes)| (at.as_secs_f64(), *bytes as f64))
            .collect();
        let (Some(first), Some(last)) = (warm.first(), warm.last()) else { return Flatness::default() };
        let mut sorted: Vec<f64> = warm.iter().map(|(_, bytes)| *bytes).collect();
        sorted.sort_by(f64::total_cmp);
        let median = sorted[sorted.len() / 2];
        let farthest = warm.iter().map(|(_, bytes)| (bytes - median).abs()).fold(0.0, f64::max);
        let count = warm.len() as f64;
        let mean = |of: fn(&(f64, f64)) -> f64| warm.iter().map(of).sum::<f64>() / count;
        let (mean_time, mean_bytes) = (mean(|sample| sample.0), mean(|sample| sample.1));
        let spread: f64 = warm.iter().map(|(time, _)| (time - mean_time).powi(2)).sum();
        let together: f64 = warm.iter().map(|(time, bytes)| (time - mean_time) * (bytes - mean_bytes)).sum();
        let slope = if spread > 0.0 { together / spread } else { 0.0 };
        Flatness {
            samples: warm.len(),
            median: median as u64,
            deviation: farthest / median,
            rise: slope * (last.0 - first.0) / median,
        }
    }
}
