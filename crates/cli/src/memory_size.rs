//! Sizes as people write them: `4GiB`, `500MB`, `1073741824`.

use std::fmt;
use std::str::FromStr;

use zhenjin_assistant::ByteCount;

/// A number of bytes given on the command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct MemorySize(pub(crate) u64);

const UNITS: &[(&str, u64)] = &[
    ("kib", 1 << 10),
    ("mib", 1 << 20),
    ("gib", 1 << 30),
    ("tib", 1 << 40),
    ("kb", 1_000),
    ("mb", 1_000_000),
    ("gb", 1_000_000_000),
    ("tb", 1_000_000_000_000),
    ("k", 1 << 10),
    ("m", 1 << 20),
    ("g", 1 << 30),
    ("t", 1 << 40),
    ("b", 1),
];

impl FromStr for MemorySize {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let lower = text.trim().to_ascii_lowercase();
        let (number, unit) = UNITS
            .iter()
            .find_map(|(unit, bytes)| Some((lower.strip_suffix(unit)?, *bytes)))
            .unwrap_or((&lower, 1));
        let number: f64 = number
            .trim()
            .parse()
            .map_err(|_| format!("`{text}` is not a size; write it like 4GiB, 500MB or 1073741824"))?;
        let bytes = number * unit as f64;
        if !(0.0..=9.0e18).contains(&bytes) {
            return Err(format!("`{text}` is outside what a size can be"));
        }
        Ok(Self(bytes as u64))
    }
}

impl fmt::Display for MemorySize {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        ByteCount(self.0).fmt(formatter)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_in_both_kinds_of_units() {
        for (text, bytes) in [
            ("4GiB", 4 << 30),
            ("1.5 MiB", 3 << 19),
            ("500MB", 500_000_000),
            ("2g", 2 << 30),
            ("77", 77),
            ("77b", 77),
        ] {
            assert_eq!(text.parse::<MemorySize>(), Ok(MemorySize(bytes)), "{text}");
        }
    }

    #[test]
    fn what_is_no_size_is_refused() {
        for text in ["", "GiB", "-1GiB", "1e300TiB", "nan", "four"] {
            assert!(text.parse::<MemorySize>().is_err(), "{text}");
        }
    }
}
