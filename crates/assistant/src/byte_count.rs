//! Numbers of bytes in words.

use std::fmt;

/// A number of bytes, as people read it: `170 B`, `162.1 MiB`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ByteCount(pub u64);

impl fmt::Display for ByteCount {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes = self.0 as f64;
        match self.0 {
            0..1_024 => write!(formatter, "{} B", self.0),
            1_024..1_048_576 => write!(formatter, "{:.1} KiB", bytes / 1_024.0),
            1_048_576..1_073_741_824 => write!(formatter, "{:.1} MiB", bytes / 1_048_576.0),
            _ => write!(formatter, "{:.2} GiB", bytes / 1_073_741_824.0),
        }
    }
}
