//! Energy: from the processor's own counters where the system lets us read them, otherwise watts times seconds, which is then said.
//!
//! Linux shows Intel's and AMD's counters (Running Average Power Limit) as `/sys/class/powercap/intel-rapl:N/energy_uj`, one zone a processor package.
//! They count microjoules up to `max_energy_range_uj` and begin anew. Newer kernels let only root read them.

use crate::metrics::Energy;
use std::path::{Path, PathBuf};
use std::time::Instant;

/// Where Linux shows the counters.
pub const POWER_CAPPING_FOLDER: &str = "/sys/class/powercap";

/// Counts the energy that was used.
#[derive(Debug)]
pub struct EnergyMeter {
    zones: Vec<Zone>,
    watts: f64,
    last: Instant,
}

/// A package's counter.
#[derive(Debug)]
struct Zone {
    counter: PathBuf,
    /// Microjoules at which it begins anew.
    range: u64,
    last: u64,
}

impl EnergyMeter {
    /// Reads the counters of all packages in `folder` (see [`POWER_CAPPING_FOLDER`]); where there are none that can be read, assumes `watts`.
    pub fn new(folder: &Path, watts: f64) -> Self {
        let mut zones: Vec<Zone> = std::fs::read_dir(folder)
            .into_iter()
            .flatten()
            .filter_map(|entry| {
                let entry = entry.ok()?;
                let name = entry.file_name();
                let number = name.to_str()?.strip_prefix("intel-rapl:")?;
                // `intel-rapl:0:0` is a part of package 0.
                number.parse::<u32>().ok()?;
                let counter = entry.path().join("energy_uj");
                let range = read_number(&entry.path().join("max_energy_range_uj"))?;
                let last = read_number(&counter)?;
                Some(Zone { counter, range, last })
            })
            .collect();
        zones.sort_by(|one, other| one.counter.cmp(&other.counter));
        Self { zones, watts, last: Instant::now() }
    }

    /// Whether counters are read.
    pub fn is_measured(&self) -> bool {
        !self.zones.is_empty()
    }

    /// The energy since the last call, or since the meter was made. Counters count everything that runs on the machine.
    pub fn since_last(&mut self) -> Energy {
        let seconds = self.last.elapsed().as_secs_f64();
        self.last = Instant::now();
        let mut microjoules = 0;
        for zone in &mut self.zones {
            let Some(now) = read_number(&zone.counter) else {
                // A counter that vanished: from here on, an estimate.
                self.zones.clear();
                break;
            };
            microjoules += match now >= zone.last {
                true => now - zone.last,
                false => now + zone.range.saturating_sub(zone.last),
            };
            zone.last = now;
        }
        match self.is_measured() {
            true => Energy { joules: microjoules as f64 / 1e6, measured: true },
            false => Energy { joules: self.watts * seconds, measured: false },
        }
    }
}

fn read_number(path: &Path) -> Option<u64> {
    std::fs::read_to_string(path).ok()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn zone(folder: &Path, name: &str, microjoules: u64) {
        let zone = folder.join(name);
        std::fs::create_dir_all(&zone).unwrap();
        std::fs::write(zone.join("energy_uj"), format!("{microjoules}\n")).unwrap();
        std::fs::write(zone.join("max_energy_range_uj"), "1000000000\n").unwrap();
    }

    #[test]
    fn packages_are_summed_and_counters_begin_anew() {
        let folder = tempfile::tempdir().unwrap();
        zone(folder.path(), "intel-rapl:0", 5_000_000);
        zone(folder.path(), "intel-rapl:1", 999_000_000);
        zone(folder.path(), "intel-rapl:0:0", 7);
        zone(folder.path(), "dtpm", 7);
        let mut meter = EnergyMeter::new(folder.path(), 99.0);
        assert!(meter.is_measured());
        zone(folder.path(), "intel-rapl:0", 7_500_000);
        zone(folder.path(), "intel-rapl:1", 2_000_000);
        zone(folder.path(), "intel-rapl:0:0", 900_000);
        // 2.5 J, and 1 J to the end of the range with 2 J after it.
        assert_eq!(meter.since_last(), Energy { joules: 5.5, measured: true });
        assert_eq!(meter.since_last(), Energy { joules: 0.0, measured: true });
        std::fs::remove_dir_all(folder.path().join("intel-rapl:1")).unwrap();
        assert!(!meter.since_last().measured, "a counter that vanished");
    }

    #[test]
    fn without_counters_watts_are_assumed_and_it_is_said() {
        let folder = tempfile::tempdir().unwrap();
        let mut meter = EnergyMeter::new(&folder.path().join("nothing"), 1000.0);
        std::thread::sleep(std::time::Duration::from_millis(2));
        let energy = meter.since_last();
        assert!(!energy.measured && energy.joules >= 2.0, "{energy:?}");
    }
}
