//! Element types of weights and how many bytes their blocks take. Does not know how files number them.

use std::fmt;

/// Element type of a weight tensor. The quantised ones are those of the GGUF format: blocks of 32 or 256
/// elements that share scales.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Dtype {
    /// IEEE 754 binary32.
    F32,
    /// IEEE 754 binary16.
    F16,
    /// The upper half of a binary32.
    Bf16,
    /// 4 bits around 8 and an f16 scale per 32: `d·(q − 8)`.
    Q4_0,
    /// 4 bits, an f16 scale and an f16 minimum per 32: `d·q + m`.
    Q4_1,
    /// 5 bits around 16 and an f16 scale per 32: `d·(q − 16)`.
    Q5_0,
    /// 5 bits, an f16 scale and an f16 minimum per 32: `d·q + m`.
    Q5_1,
    /// 8 signed bits and an f16 scale per 32: `d·q`.
    Q8_0,
    /// 4 bits; per 32 a 6-bit scale and a 6-bit minimum, per 256 their two f16 scales: `(d·s)·q − (e·m)`.
    Q4K,
    /// 5 bits, scales as in [`Dtype::Q4K`].
    Q5K,
    /// 6 bits around 32; per 16 an 8-bit scale, per 256 its f16 scale: `(d·s)·(q − 32)`.
    Q6K,
    /// 4 bits that number the values of a table, and an f16 scale per 32: `d·t[q]`.
    Iq4Nl,
    /// The table of [`Dtype::Iq4Nl`]; per 32 a 6-bit scale, per 256 its f16 scale: `(d·(s − 32))·t[q]`.
    Iq4Xs,
    /// 4-bit floats (E2M1, here doubled: 0 to 12) and an 8-bit exponent per 32: `2^(e − 128)·t[q]`.
    Mxfp4,
}

impl Dtype {
    /// Every type, in the order of declaration.
    pub const ALL: [Dtype; 14] = [
        Dtype::F32,
        Dtype::F16,
        Dtype::Bf16,
        Dtype::Q4_0,
        Dtype::Q4_1,
        Dtype::Q5_0,
        Dtype::Q5_1,
        Dtype::Q8_0,
        Dtype::Q4K,
        Dtype::Q5K,
        Dtype::Q6K,
        Dtype::Iq4Nl,
        Dtype::Iq4Xs,
        Dtype::Mxfp4,
    ];

    /// Elements that share one block (1 for the float types).
    pub const fn block_elements(self) -> usize {
        match self {
            Dtype::F32 | Dtype::F16 | Dtype::Bf16 => 1,
            Dtype::Q4_0 | Dtype::Q4_1 | Dtype::Q5_0 | Dtype::Q5_1 | Dtype::Q8_0 => 32,
            Dtype::Iq4Nl | Dtype::Mxfp4 => 32,
            Dtype::Q4K | Dtype::Q5K | Dtype::Q6K | Dtype::Iq4Xs => 256,
        }
    }

    /// Bytes of one block in a file.
    pub const fn block_bytes(self) -> usize {
        match self {
            Dtype::F32 => 4,
            Dtype::F16 | Dtype::Bf16 => 2,
            Dtype::Q4_0 => 2 + 16,
            Dtype::Q4_1 => 2 + 2 + 16,
            Dtype::Q5_0 => 2 + 4 + 16,
            Dtype::Q5_1 => 2 + 2 + 4 + 16,
            Dtype::Q8_0 => 2 + 32,
            Dtype::Q4K => 2 + 2 + 12 + 128,
            Dtype::Q5K => 2 + 2 + 12 + 32 + 128,
            Dtype::Q6K => 128 + 64 + 16 + 2,
            Dtype::Iq4Nl => 2 + 16,
            Dtype::Iq4Xs => 2 + 2 + 4 + 128,
            Dtype::Mxfp4 => 1 + 16,
        }
    }

    /// Bytes of `elements` elements in a file; `None` when they are not whole blocks or do not fit in `usize`.
    pub const fn bytes(self, elements: usize) -> Option<usize> {
        if !elements.is_multiple_of(self.block_elements()) {
            return None;
        }
        (elements / self.block_elements()).checked_mul(self.block_bytes())
    }

    /// Whether elements share scales, so that the matrix product computes with 8-bit activations.
    pub const fn is_quantised(self) -> bool {
        self.block_elements() > 1
    }

    /// The name that model files and tools use, e.g. `Q4_K`.
    pub const fn name(self) -> &'static str {
        match self {
            Dtype::F32 => "F32",
            Dtype::F16 => "F16",
            Dtype::Bf16 => "BF16",
            Dtype::Q4_0 => "Q4_0",
            Dtype::Q4_1 => "Q4_1",
            Dtype::Q5_0 => "Q5_0",
            Dtype::Q5_1 => "Q5_1",
            Dtype::Q8_0 => "Q8_0",
            Dtype::Q4K => "Q4_K",
            Dtype::Q5K => "Q5_K",
            Dtype::Q6K => "Q6_K",
            Dtype::Iq4Nl => "IQ4_NL",
            Dtype::Iq4Xs => "IQ4_XS",
            Dtype::Mxfp4 => "MXFP4",
        }
    }
}

impl fmt::Display for Dtype {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}
