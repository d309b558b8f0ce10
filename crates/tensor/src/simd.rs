//! Instruction sets that the kernels are written for. Does not read the environment: callers pass the level.

use crate::TensorError;
use std::fmt;
use std::str::FromStr;

/// Instruction set of the kernels, from the slowest to the fastest. Answers may differ between levels in the
/// last bits of float sums; within one level they never do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum SimdLevel {
    /// Portable code without intrinsics.
    Scalar,
    /// AVX2, FMA and F16C: 256-bit vectors, integer products by `vpmaddwd`.
    Avx2,
    /// [`SimdLevel::Avx2`] plus AVX-VNNI: integer dot product `vpdpbusd` on 256 bits.
    AvxVnni,
    /// AVX-512 F, BW, VL, DQ and VNNI: `vpdpbusd` on 512 bits.
    Avx512Vnni,
    /// [`SimdLevel::Avx512Vnni`] plus AMX with bf16 and int8: backward products of floats as sums of products of
    /// three bf16 parts, in f32, and exact integer sums of quantised ones.
    Amx,
    /// AArch64's NEON: 128-bit vectors, integer products by widening multiplications.
    Neon,
    /// [`SimdLevel::Neon`] plus the dot product of signed bytes `sdot`.
    DotProd,
    /// [`SimdLevel::DotProd`] plus products of unsigned with signed bytes: `usdot`, and `usmmla` for matrices of 2 · 8.
    I8mm,
}

impl SimdLevel {
    /// Every level of every processor; those of one kind of processor slowest first.
    pub const ALL: [SimdLevel; 8] = [
        SimdLevel::Scalar,
        SimdLevel::Avx2,
        SimdLevel::AvxVnni,
        SimdLevel::Avx512Vnni,
        SimdLevel::Amx,
        SimdLevel::Neon,
        SimdLevel::DotProd,
        SimdLevel::I8mm,
    ];

    /// The fastest level that this processor supports.
    pub fn detect() -> SimdLevel {
        SimdLevel::ALL.into_iter().rev().find(|level| level.is_supported()).unwrap_or(SimdLevel::Scalar)
    }

    /// The levels that this processor supports, slowest first.
    pub fn available() -> Vec<SimdLevel> {
        SimdLevel::ALL.into_iter().filter(|level| level.is_supported()).collect()
    }

    /// This level if the processor supports it.
    ///
    /// # Errors
    /// [`TensorError::UnsupportedSimd`] otherwise.
    pub fn require(self) -> Result<SimdLevel, TensorError> {
        if self.is_supported() {
            Ok(self)
        } else {
            Err(TensorError::UnsupportedSimd { asked: self, available: SimdLevel::available() })
        }
    }

    /// Whether this processor (and operating system) supports the level.
    #[cfg(target_arch = "x86_64")]
    pub fn is_supported(self) -> bool {
        let avx2 = || {
            is_x86_feature_detected!("avx2")
                && is_x86_feature_detected!("fma")
                && is_x86_feature_detected!("f16c")
        };
        match self {
            SimdLevel::Scalar => true,
            SimdLevel::Avx2 => avx2(),
            SimdLevel::AvxVnni => avx2() && is_x86_feature_detected!("avxvnni"),
            SimdLevel::Avx512Vnni => {
                avx2()
                    && is_x86_feature_detected!("avx512f")
                    && is_x86_feature_detected!("avx512bw")
                    && is_x86_feature_detected!("avx512vl")
                    && is_x86_feature_detected!("avx512dq")
                    && is_x86_feature_detected!("avx512vnni")
            }
            SimdLevel::Amx => SimdLevel::Avx512Vnni.is_supported() && amx::is_usable(),
            SimdLevel::Neon | SimdLevel::DotProd | SimdLevel::I8mm => false,
        }
    }

    /// Whether this processor (and operating system) supports the level.
    #[cfg(target_arch = "aarch64")]
    pub fn is_supported(self) -> bool {
        use std::arch::is_aarch64_feature_detected;
        let neon = || is_aarch64_feature_detected!("neon");
        let dot_products = || neon() && is_aarch64_feature_detected!("dotprod");
        match self {
            SimdLevel::Scalar => true,
            SimdLevel::Neon => neon(),
            SimdLevel::DotProd => dot_products(),
            SimdLevel::I8mm => dot_products() && is_aarch64_feature_detected!("i8mm"),
            SimdLevel::Avx2 | SimdLevel::AvxVnni | SimdLevel::Avx512Vnni | SimdLevel::Amx => false,
        }
    }

    /// Whether this processor (and operating system) supports the level.
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    pub fn is_supported(self) -> bool {
        self == SimdLevel::Scalar
    }

    /// The name that [`FromStr`] reads, e.g. `avx512vnni`.
    pub const fn name(self) -> &'static str {
        match self {
            SimdLevel::Scalar => "scalar",
            SimdLevel::Avx2 => "avx2",
            SimdLevel::AvxVnni => "avxvnni",
            SimdLevel::Avx512Vnni => "avx512vnni",
            SimdLevel::Amx => "amx",
            SimdLevel::Neon => "neon",
            SimdLevel::DotProd => "dotprod",
            SimdLevel::I8mm => "i8mm",
        }
    }
}

/// Whether tile registers can be used.
#[cfg(target_arch = "x86_64")]
mod amx {
    use std::arch::x86_64::{__cpuid, __cpuid_count, _xgetbv};
    use std::sync::OnceLock;

    /// Bits of leaf 7, EDX: AMX-BF16, AMX-TILE and AMX-INT8 (Intel SDM, volume 2, CPUID).
    const FEATURES: u32 = 1 << 22 | 1 << 24 | 1 << 25;
    /// Bits of the extended control register: the system saves the tiles' configuration and data.
    const SAVED: u64 = 1 << 17 | 1 << 18;
    /// Of `arch_prctl`: asks for the tiles' data, which a process has only then (Linux, `x86/xstate.rst`).
    #[cfg(target_os = "linux")]
    const PERMISSION: (libc::c_long, libc::c_long) = (0x1023, 18);

    pub(super) fn is_usable() -> bool {
        static IS_USABLE: OnceLock<bool> = OnceLock::new();
        *IS_USABLE.get_or_init(|| has_features() && is_permitted())
    }

    /// The caller has found AVX-512, so that the extended control register can be read.
    fn has_features() -> bool {
        let leaves = __cpuid(0).eax;
        // SAFETY: see above.
        leaves >= 7 && __cpuid_count(7, 0).edx & FEATURES == FEATURES && unsafe { saved() } & SAVED == SAVED
    }

    #[target_feature(enable = "xsave")]
    fn saved() -> u64 {
        // SAFETY: register 0 is there wherever the instruction is.
        unsafe { _xgetbv(0) }
    }

    /// For all threads of the process, from now on.
    #[cfg(target_os = "linux")]
    fn is_permitted() -> bool {
        // SAFETY: the call changes nothing but what the process may use.
        unsafe { libc::syscall(libc::SYS_arch_prctl, PERMISSION.0, PERMISSION.1) == 0 }
    }

    #[cfg(not(target_os = "linux"))]
    fn is_permitted() -> bool {
        false
    }
}

impl FromStr for SimdLevel {
    type Err = TensorError;

    fn from_str(name: &str) -> Result<SimdLevel, TensorError> {
        SimdLevel::ALL
            .into_iter()
            .find(|level| level.name().eq_ignore_ascii_case(name))
            .ok_or_else(|| TensorError::UnknownSimd { name: name.to_owned() })
    }
}

impl fmt::Display for SimdLevel {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_back_and_unknown_ones_are_refused() {
        for level in SimdLevel::ALL {
            assert_eq!(level.name().parse(), Ok(level));
            assert_eq!(level.name().to_uppercase().parse(), Ok(level));
        }
        assert!("sse9".parse::<SimdLevel>().is_err());
    }

    #[test]
    fn the_detected_level_is_available() {
        assert!(SimdLevel::available().contains(&SimdLevel::detect()));
        assert!(SimdLevel::available().contains(&SimdLevel::Scalar));
    }
}
