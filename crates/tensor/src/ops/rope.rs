//! Rotary position embedding: each pair of dimensions of a head is turned by position × frequency.
//!
//! [`RotaryAngles`] holds the cosines and sines of the positions of one step, computed once and used by every layer; [`RotaryTables`] those
//! of each rotation, where a model's layers do not all have the same.
//! How frequencies are stretched for long contexts is not known here; they arrive as numbers.

use crate::TensorError;
use crate::lanes::{LANES, LaneKernel, Lanes};

/// Which two dimensions of a head form a pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RotaryLayout {
    /// (2i, 2i+1).
    Interleaved,
    /// (i, i + rotary_dim/2).
    HalfSplit,
}

/// The rotation that a model uses: frequencies in radians per position, one per pair of dimensions.
#[derive(Clone, Debug, PartialEq)]
pub struct RotaryFrequencies {
    /// Radians per position of pair i; twice as many leading dimensions of each head rotate.
    pub radians: Vec<f64>,
    /// Multiplies cosines and sines (YaRN's attention factor; 1 otherwise).
    pub magnitude: f64,
    /// Which dimensions form pair i.
    pub layout: RotaryLayout,
}

impl RotaryFrequencies {
    /// The rotation that turns the other way: the transpose, which gradients need.
    pub(crate) fn reversed(&self) -> RotaryFrequencies {
        let radians = self.radians.iter().map(|radians| -radians).collect();
        RotaryFrequencies { radians, ..*self }
    }
}

/// The angles of one step's positions for each of the model's rotary tables.
#[derive(Clone, Debug, Default)]
pub(crate) struct RotaryTables {
    tables: Vec<RotaryAngles>,
}

impl RotaryTables {
    /// Replaces the angles by those of the positions that `positions` gives, the same each time that it is called.
    pub(crate) fn set<I: Iterator<Item = usize>>(
        &mut self,
        tables: &[RotaryFrequencies],
        positions: impl Fn() -> I,
    ) {
        self.tables.resize_with(tables.len(), || RotaryAngles::new(RotaryLayout::HalfSplit));
        for (angles, frequencies) in self.tables.iter_mut().zip(tables) {
            angles.set(frequencies, positions());
        }
    }

    /// The angles of one table.
    pub(crate) fn get(&self, table: usize) -> Result<&RotaryAngles, TensorError> {
        self.tables.get(table).ok_or(TensorError::NoRotaryTable { table, tables: self.tables.len() })
    }

    /// Bytes of memory that the angles take.
    pub(crate) fn bytes(&self) -> usize {
        self.tables.iter().map(RotaryAngles::bytes).sum()
    }
}

/// Cosines and signed sines for the positions of one step.
#[derive(Clone, Debug)]
pub(crate) struct RotaryAngles {
    layout: RotaryLayout,
    /// Dimensions that rotate; twice the number of frequencies.
    rotary_dim: usize,
    /// `[positions, rotary_dim]`: what multiplies the dimension itself.
    cosines: Vec<f32>,
    /// `[positions, rotary_dim]`: what multiplies its partner, negative for the first of a pair.
    sines: Vec<f32>,
}

impl RotaryAngles {
    /// Room for no positions yet.
    pub(crate) fn new(layout: RotaryLayout) -> RotaryAngles {
        RotaryAngles { layout, rotary_dim: 0, cosines: Vec::new(), sines: Vec::new() }
    }

    /// Replaces the angles by those of `positions`. The angle is computed in f64 and only its cosine and sine rounded.
    pub(crate) fn set(&mut self, frequencies: &RotaryFrequencies, positions: impl Iterator<Item = usize>) {
        let pairs = frequencies.radians.len();
        self.layout = frequencies.layout;
        self.rotary_dim = 2 * pairs;
        self.cosines.clear();
        self.sines.clear();
        for position in positions {
            let start = self.cosines.len();
            self.cosines.resize(start + 2 * pairs, 0.0);
            self.sines.resize(start + 2 * pairs, 0.0);
            for (pair, radians) in frequencies.radians.iter().enumerate() {
                let (sine, cosine) = (position as f64 * radians).sin_cos();
                let (first, second) = match self.layout {
                    RotaryLayout::Interleaved => (start + 2 * pair, start + 2 * pair + 1),
                    RotaryLayout::HalfSplit => (start + pair, start + pair + pairs),
                };
                let (sine, cosine) =
                    ((sine * frequencies.magnitude) as f32, (cosine * frequencies.magnitude) as f32);
                (self.cosines[first], self.cosines[second]) = (cosine, cosine);
                (self.sines[first], self.sines[second]) = (-sine, sine);
            }
        }
    }

    fn bytes(&self) -> usize {
        (self.cosines.capacity() + self.sines.capacity()) * size_of::<f32>()
    }

    /// Number of positions.
    pub(crate) fn positions(&self) -> usize {
        self.cosines.len().checked_div(self.rotary_dim).unwrap_or(0)
    }
}

/// Turns every head of every row in place. Row r has the angles of position `first + r`.
pub(crate) struct Rotate<'a> {
    pub(crate) rows: &'a mut [f32],
    /// Values per row, a multiple of `head_dim`.
    pub(crate) width: usize,
    pub(crate) head_dim: usize,
    pub(crate) angles: &'a RotaryAngles,
    pub(crate) first: usize,
}

impl Rotate<'_> {
    /// Calls `turn(head, cosines, sines)` for the rotating part of every head.
    #[inline(always)]
    fn for_each_head(self, mut turn: impl FnMut(&mut [f32], &[f32], &[f32])) {
        let rotary_dim = self.angles.rotary_dim;
        if rotary_dim == 0 {
            return;
        }
        let cosines = self.angles.cosines.chunks_exact(rotary_dim).skip(self.first);
        let sines = self.angles.sines.chunks_exact(rotary_dim).skip(self.first);
        for ((row, cosines), sines) in self.rows.chunks_exact_mut(self.width).zip(cosines).zip(sines) {
            for head in row.chunks_exact_mut(self.head_dim) {
                turn(&mut head[..rotary_dim], cosines, sines);
            }
        }
    }
}

impl LaneKernel for Rotate<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self, lanes: L) {
        match self.angles.layout {
            RotaryLayout::Interleaved => {
                self.for_each_head(
                    #[inline(always)]
                    |head, cosines, sines| rotate_interleaved(lanes, head, cosines, sines),
                );
            }
            RotaryLayout::HalfSplit => {
                self.for_each_head(
                    #[inline(always)]
                    |head, cosines, sines| rotate_half_split(lanes, head, cosines, sines),
                );
            }
        }
    }

    fn reference(self) {
        let layout = self.angles.layout;
        let pairs = self.angles.rotary_dim / 2;
        self.for_each_head(|head, cosines, sines| {
            for pair in 0..pairs {
                let (a, b) = match layout {
                    RotaryLayout::Interleaved => (2 * pair, 2 * pair + 1),
                    RotaryLayout::HalfSplit => (pair, pair + pairs),
                };
                let (first, second) = (head[a], head[b]);
                head[a] = first.mul_add(cosines[a], second * sines[a]);
                head[b] = second.mul_add(cosines[b], first * sines[b]);
            }
        });
    }
}

#[inline(always)]
fn rotate_interleaved<L: Lanes>(lanes: L, head: &mut [f32], cosines: &[f32], sines: &[f32]) {
    for ((values, cosines), sines) in
        head.chunks_mut(LANES).zip(cosines.chunks(LANES)).zip(sines.chunks(LANES))
    {
        let own = load(lanes, values);
        let partner = lanes.mul(lanes.swap_pairs(own), load(lanes, sines));
        store(lanes, lanes.fma(own, load(lanes, cosines), partner), values);
    }
}

#[inline(always)]
fn rotate_half_split<L: Lanes>(lanes: L, head: &mut [f32], cosines: &[f32], sines: &[f32]) {
    let half = head.len() / 2;
    let (firsts, seconds) = head.split_at_mut(half);
    let (first_cosines, second_cosines) = cosines.split_at(half);
    let (first_sines, second_sines) = sines.split_at(half);
    for (chunk, (firsts, seconds)) in firsts.chunks_mut(LANES).zip(seconds.chunks_mut(LANES)).enumerate() {
        let here = chunk * LANES..chunk * LANES + firsts.len();
        let (first, second) = (load(lanes, firsts), load(lanes, seconds));
        let first_partner = lanes.mul(second, load(lanes, &first_sines[here.clone()]));
        let second_partner = lanes.mul(first, load(lanes, &second_sines[here.clone()]));
        store(lanes, lanes.fma(first, load(lanes, &first_cosines[here.clone()]), first_partner), firsts);
        store(lanes, lanes.fma(second, load(lanes, &second_cosines[here]), second_partner), seconds);
    }
}

/// At most sixteen values.
#[inline(always)]
fn load<L: Lanes>(lanes: L, values: &[f32]) -> L::Vector {
    match values.try_into() {
        Ok(values) => lanes.load(values),
        Err(_) => lanes.load_head(values),
    }
}

/// At most sixteen values.
#[inline(always)]
fn store<L: Lanes>(lanes: L, vector: L::Vector, out: &mut [f32]) {
    match <&mut [f32; LANES]>::try_from(&mut *out) {
        Ok(out) => lanes.store(vector, out),
        Err(_) => lanes.store_head(vector, out),
    }
}
