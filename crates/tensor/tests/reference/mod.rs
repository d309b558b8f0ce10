//! The matrix product as its documentation states it, computed from file blocks one number at a time: no tiles,
//! no vectors, no threads. And random operands for it.

use half::f16;
use zhenjin_tensor::{Dtype, SimdLevel, dequantise};

/// A block of 32 columns: unsigned quants, what is subtracted from them, one scale per part, a signed minimum.
pub(crate) struct Block {
    pub(crate) quants: [u8; 32],
    pub(crate) centre: i32,
    pub(crate) scales: Vec<f32>,
    pub(crate) minimum: Option<f32>,
}

/// The quantised blocks of 32 columns in the file blocks of a row.
pub(crate) fn blocks(dtype: Dtype, bytes: &[u8]) -> Vec<Block> {
    bytes.chunks_exact(dtype.block_bytes()).flat_map(|bytes| split(dtype, bytes)).collect()
}

/// The tables of the types that have one, around 128 and 16.
const NON_LINEAR: [u8; 16] = [1, 24, 45, 63, 79, 93, 106, 118, 129, 141, 153, 166, 181, 197, 217, 241];
const FOUR_BIT_FLOATS: [u8; 16] = [16, 17, 18, 19, 20, 22, 24, 28, 16, 15, 14, 13, 12, 10, 8, 4];

fn split(dtype: Dtype, bytes: &[u8]) -> Vec<Block> {
    let half = |at: usize| f16::from_le_bytes([bytes[at], bytes[at + 1]]).to_f32();
    let nibble = |at: usize, i: usize| if i < 16 { bytes[at + i] & 15 } else { bytes[at + i - 16] >> 4 };
    let fifth = |at: usize, i: usize| (bytes[at + i / 8] >> (i % 8) & 1) << 4;
    let one =
        |quants: [u8; 32], centre, minimum| vec![Block { quants, centre, scales: vec![half(0)], minimum }];
    match dtype {
        Dtype::Q4_0 => one(std::array::from_fn(|i| nibble(2, i)), 8, None),
        Dtype::Q4_1 => one(std::array::from_fn(|i| nibble(4, i)), 0, Some(half(2))),
        Dtype::Q5_0 => one(std::array::from_fn(|i| nibble(6, i) | fifth(2, i)), 16, None),
        Dtype::Q5_1 => one(std::array::from_fn(|i| nibble(8, i) | fifth(4, i)), 0, Some(half(2))),
        Dtype::Q8_0 => one(std::array::from_fn(|i| bytes[2 + i].wrapping_add(128)), 128, None),
        Dtype::Q4K | Dtype::Q5K => {
            let five = dtype == Dtype::Q5K;
            (0..8)
                .map(|sub| {
                    let (scale, minimum) = small_scale(&bytes[4..16], sub);
                    let quant = |i: usize| {
                        let byte = bytes[if five { 48 } else { 16 } + sub / 2 * 32 + i];
                        let low = if sub % 2 == 0 { byte & 15 } else { byte >> 4 };
                        low | if five { (bytes[16 + i] >> sub & 1) << 4 } else { 0 }
                    };
                    Block {
                        quants: std::array::from_fn(quant),
                        centre: 0,
                        scales: vec![half(0) * f32::from(scale)],
                        minimum: Some(-(half(2) * f32::from(minimum))),
                    }
                })
                .collect()
        }
        Dtype::Q6K => (0..8)
            .map(|sub| {
                let quant = |i: usize| {
                    let byte = bytes[sub / 4 * 64 + sub % 2 * 32 + i];
                    let low = if sub % 4 < 2 { byte & 15 } else { byte >> 4 };
                    low | (bytes[128 + sub / 4 * 32 + i] >> (2 * (sub % 4)) & 3) << 4
                };
                let scale = |part: usize| half(208) * f32::from(bytes[192 + 2 * sub + part].cast_signed());
                Block {
                    quants: std::array::from_fn(quant),
                    centre: 32,
                    scales: vec![scale(0), scale(1)],
                    minimum: None,
                }
            })
            .collect(),
        Dtype::Iq4Nl => one(std::array::from_fn(|i| NON_LINEAR[usize::from(nibble(2, i))]), 128, None),
        Dtype::Iq4Xs => (0..8)
            .map(|sub| {
                let low = bytes[4 + sub / 2] >> (4 * (sub % 2)) & 15;
                let high = bytes[2 + sub / 4] >> (2 * (sub % 4)) & 3;
                Block {
                    quants: std::array::from_fn(|i| NON_LINEAR[usize::from(nibble(8 + 16 * sub, i))]),
                    centre: 128,
                    scales: vec![half(0) * (f32::from(low | high << 4) - 32.0)],
                    minimum: None,
                }
            })
            .collect(),
        Dtype::Mxfp4 => vec![Block {
            quants: std::array::from_fn(|i| FOUR_BIT_FLOATS[usize::from(nibble(1, i))]),
            centre: 16,
            scales: vec![2.0_f64.powi(i32::from(bytes[0]) - 128) as f32],
            minimum: None,
        }],
        Dtype::F32 | Dtype::F16 | Dtype::Bf16 => unreachable!("{dtype} has no blocks"),
    }
}

fn small_scale(packed: &[u8], sub: usize) -> (u8, u8) {
    if sub < 4 {
        (packed[sub] & 63, packed[sub + 4] & 63)
    } else {
        let both = packed[sub + 4];
        (both & 15 | packed[sub - 4] >> 6 << 4, both >> 4 | packed[sub] >> 6 << 4)
    }
}

/// One row of activations in 8 bits: values and one scale per block of 32.
pub(crate) fn quantise_activations(row: &[f32]) -> (Vec<i32>, Vec<f32>) {
    let mut values = Vec::new();
    let mut scales = Vec::new();
    for block in row.chunks_exact(32) {
        let largest =
            block.iter().fold(0.0_f32, |largest, x| if x.is_nan() { *x } else { largest.max(x.abs()) });
        let scale = largest / 127.0;
        let inverse = 1.0 / scale;
        if inverse.is_finite() {
            values.extend(block.iter().map(|x| (x * inverse).round_ties_even() as i32));
            scales.push(scale);
        } else {
            values.extend([0; 32]);
            scales.push(if scale.is_nan() { scale } else { 0.0 });
        }
    }
    (values, scales)
}

/// `rows` rows of activations × `outputs` rows of weights.
pub(crate) fn products(dtype: Dtype, weights: &[u8], outputs: usize, input: &[f32], rows: usize) -> Vec<f32> {
    let weights = weights.chunks_exact(weights.len() / outputs);
    let input = input.chunks_exact(input.len() / rows);
    if !dtype.is_quantised() {
        return input.flat_map(|row| weights.clone().map(|weights| product(dtype, weights, row))).collect();
    }
    let weights: Vec<Vec<Block>> = weights.map(|weights| blocks(dtype, weights)).collect();
    input
        .map(quantise_activations)
        .flat_map(|(values, scales)| {
            weights.iter().map(|blocks| integer_product(blocks, &values, &scales)).collect::<Vec<_>>()
        })
        .collect()
}

/// The product of one row of activations with one row of weights, in the order that `integer.rs` and `float.rs`
/// state.
pub(crate) fn product(dtype: Dtype, weights: &[u8], input: &[f32]) -> f32 {
    if !dtype.is_quantised() {
        let mut row = vec![0.0; input.len()];
        dequantise(dtype, weights, &mut row).unwrap();
        return row.iter().zip(input).fold(0.0, |sum, (w, a)| w.mul_add(*a, sum));
    }
    let (values, scales) = quantise_activations(input);
    integer_product(&blocks(dtype, weights), &values, &scales)
}

/// The chain of a product of the backward pass from `start` on, over pairs of numbers of the left and the right factor: of fused
/// multiply-adds, but for AMX as `panels/amx` states it.
pub(crate) fn backward_chain(simd: SimdLevel, start: f32, pairs: impl Iterator<Item = (f32, f32)>) -> f32 {
    if simd != SimdLevel::Amx {
        return pairs.fold(start, |sum, (left, right)| right.mul_add(left, sum));
    }
    let pairs: Vec<_> = pairs.map(|(left, right)| (parts(left), parts(right))).collect();
    let (high, middle, low) = (0, 1, 2);
    let steps = [(low, high), (middle, high), (middle, middle), (high, middle), (high, high), (high, low)];
    let mut sum = start;
    for block in pairs.chunks(32) {
        for (left, right) in steps {
            let mut halves = [0.0; 2];
            for (k, (a, b)) in block.iter().enumerate() {
                let half = &mut halves[k % 2];
                *half = flushed(flushed(a[left]).mul_add(flushed(b[right]), *half));
            }
            sum = flushed(flushed(sum) + flushed(halves[0] + halves[1]));
        }
    }
    sum
}

/// A number as the sum of three bf16.
fn parts(number: f32) -> [f32; 3] {
    let upper_half = |number: f32| f32::from_bits(number.to_bits() & 0xFFFF_0000);
    let rounded = |number: f32| upper_half(f32::from_bits(number.to_bits().wrapping_add(0x8000)));
    let high = rounded(number);
    let middle = rounded(number - high);
    [high, middle, upper_half(number - high - middle)]
}

/// Zero instead of a subnormal number.
fn flushed(number: f32) -> f32 {
    if number.is_subnormal() { 0.0_f32.copysign(number) } else { number }
}

fn integer_product(blocks: &[Block], values: &[i32], scales: &[f32]) -> f32 {
    let mut sum = 0.0_f32;
    for (b, block) in blocks.iter().enumerate() {
        let activations = &values[32 * b..32 * (b + 1)];
        let width = 32 / block.scales.len();
        for (part, weight_scale) in block.scales.iter().enumerate() {
            let dot: i32 = (part * width..(part + 1) * width)
                .map(|i| (i32::from(block.quants[i]) - block.centre) * activations[i])
                .sum();
            sum = (dot as f32).mul_add(weight_scale * scales[b], sum);
        }
        if let Some(minimum) = block.minimum {
            sum = minimum.mul_add(scales[b] * activations.iter().sum::<i32>() as f32, sum);
        }
    }
    sum
}

/// Numbers that are the same in every run.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Random {
        Random(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 8
    }

    pub(crate) fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }

    /// About normal, standard deviation 1.
    pub(crate) fn normal(&mut self) -> f32 {
        (0..6).map(|_| self.next() as f32 / (1_u64 << 56) as f32 - 0.5).sum::<f32>() * 1.414
    }
}

/// What the f16 scales of random weights may be.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum ScaleKind {
    /// About ±0.1.
    Usual,
    /// Also zero, subnormal, huge, infinite and no number; and blocks of nothing but the least or the greatest quants.
    Extreme,
}

/// Random file blocks for `elements` weights.
pub(crate) fn random_weights(random: &mut Random, dtype: Dtype, elements: usize, kind: ScaleKind) -> Vec<u8> {
    let number = |random: &mut Random| match (kind, random.below(8)) {
        (ScaleKind::Extreme, 0) => f16::ZERO,
        (ScaleKind::Extreme, 1) => f16::from_bits(1 + random.below(1000) as u16),
        (ScaleKind::Extreme, 2) => f16::MAX,
        (ScaleKind::Extreme, 3) if random.below(8) == 0 => f16::INFINITY,
        (ScaleKind::Extreme, 4) if random.below(8) == 0 => f16::NEG_INFINITY,
        (ScaleKind::Extreme, 5) if random.below(16) == 0 => f16::NAN,
        _ => f16::from_f32(0.1 * random.normal()),
    };
    let mut bytes = vec![0; dtype.bytes(elements).unwrap()];
    for block in bytes.chunks_exact_mut(dtype.block_bytes()) {
        let offsets: &[usize] = match dtype {
            Dtype::F32 => {
                block.copy_from_slice(&number(random).to_f32().to_le_bytes());
                continue;
            }
            Dtype::Bf16 => {
                block.copy_from_slice(&half::bf16::from_f32(number(random).to_f32()).to_le_bytes());
                continue;
            }
            Dtype::F16 | Dtype::Q4_0 | Dtype::Q5_0 | Dtype::Q8_0 | Dtype::Iq4Nl | Dtype::Iq4Xs => &[0],
            Dtype::Mxfp4 => &[],
            Dtype::Q4_1 | Dtype::Q5_1 | Dtype::Q4K | Dtype::Q5K => &[0, 2],
            Dtype::Q6K => &[208],
        };
        match (kind, random.below(6)) {
            (ScaleKind::Extreme, 0) => block.fill(0),
            (ScaleKind::Extreme, 1) => block.fill(0xFF),
            _ => block.iter_mut().for_each(|byte| *byte = random.next() as u8),
        }
        if dtype == Dtype::Mxfp4 && kind == ScaleKind::Usual {
            block[0] = 118 + random.below(8) as u8;
        }
        for &offset in offsets {
            block[offset..offset + 2].copy_from_slice(&number(random).to_le_bytes());
        }
    }
    bytes
}

/// Random activations; now and then a block is zero, subnormal, huge or of equal magnitudes (so that all of its 8 bits
/// are used) when `kind` is extreme.
pub(crate) fn random_activations(random: &mut Random, count: usize, kind: ScaleKind) -> Vec<f32> {
    let mut values = Vec::with_capacity(count);
    while values.len() < count {
        let factor = match (kind, random.below(6)) {
            (ScaleKind::Extreme, 0) => 0.0,
            (ScaleKind::Extreme, 1) => 1e-41,
            (ScaleKind::Extreme, 2) => 1e30,
            _ => 1.0,
        };
        let equal = kind == ScaleKind::Extreme && random.below(5) == 0;
        values.extend((0..32.min(count - values.len())).map(|_| {
            let value = random.normal();
            factor * if equal { value.signum() } else { value }
        }));
    }
    values
}
