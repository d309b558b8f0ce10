//! With which instructions and on how many threads this machine computes: chosen here, once, for every program.

use crate::{SimdLevel, TensorError, ThreadTeam};

/// The most threads that can be asked for.
const MOST_THREADS: usize = 1024;

/// Instructions and threads that this machine has, or that were asked for and exist.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ComputeOptions {
    /// The instruction set of all kernels.
    pub simd: SimdLevel,
    /// Threads that work together, the caller among them.
    pub threads: usize,
}

impl ComputeOptions {
    /// The fastest instructions of this processor, and a thread for each processor that this process may use.
    pub fn detect() -> ComputeOptions {
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        ComputeOptions { simd: SimdLevel::detect(), threads }
    }

    /// What was asked for, where something was; else as [`ComputeOptions::detect`].
    ///
    /// # Errors
    /// [`TensorError::UnknownSimd`] and [`TensorError::UnsupportedSimd`] for instructions that do not exist, or not here;
    /// [`TensorError::ThreadCount`] for no threads, or more than 1,024.
    pub fn resolve(simd: Option<&str>, threads: Option<usize>) -> Result<ComputeOptions, TensorError> {
        let detected = ComputeOptions::detect();
        let simd = simd.map_or(Ok(detected.simd), |name| name.parse().and_then(SimdLevel::require))?;
        let threads = threads.unwrap_or(detected.threads);
        if !(1..=MOST_THREADS).contains(&threads) {
            return Err(TensorError::ThreadCount { asked: threads, most: MOST_THREADS });
        }
        Ok(ComputeOptions { simd, threads })
    }

    /// Starts the threads.
    ///
    /// # Errors
    /// As for [`ThreadTeam::new`].
    pub fn start_team(&self) -> Result<ThreadTeam, TensorError> {
        ThreadTeam::new(self.threads)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_for_is_taken_and_the_rest_is_detected() {
        let detected = ComputeOptions::detect();
        assert_eq!(ComputeOptions::resolve(None, None), Ok(detected));
        assert!(detected.threads >= 1 && detected.simd.is_supported());
        let asked = ComputeOptions { simd: SimdLevel::Scalar, threads: 3 };
        assert_eq!(ComputeOptions::resolve(Some("SCALAR"), Some(3)), Ok(asked));
        assert_eq!(asked.start_team().map(|team| team.threads()), Ok(3));
    }

    #[test]
    fn what_does_not_exist_is_refused() {
        let unknown = ComputeOptions::resolve(Some("sse9"), None).unwrap_err();
        assert!(unknown.to_string().contains("known are scalar, avx2"), "{unknown}");
        for level in SimdLevel::ALL.into_iter().filter(|level| !level.is_supported()) {
            let error = ComputeOptions::resolve(Some(level.name()), None).unwrap_err();
            assert!(error.to_string().contains("it supports scalar"), "{error}");
        }
        for asked in [0, 1025] {
            let error = ComputeOptions::resolve(None, Some(asked)).unwrap_err();
            assert!(error.to_string().contains("between 1 and 1024"), "{error}");
        }
    }
}
