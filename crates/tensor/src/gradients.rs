//! Gradients of a model's parameters: one buffer for each, by its [`ParameterId`], in the order in which the parameter itself is
//! packed, so that optimisers work element by element.

use std::ops::{Deref, DerefMut, Range};

use crate::error::expect;
use crate::lanes::dispatch;
use crate::matrix::TILE_ROWS;
use crate::ops::add::AddToRows;
use crate::ops::rms_norm::SumOfSquares;
use crate::team::DisjointMut;
use crate::zeroed::Zeroed;
use crate::{Matrix, ParameterId, SimdLevel, TensorError, ThreadTeam, Vector};

/// Elements that a thread works on together.
const PART: usize = 64 * 1024;
/// Elements whose squares are summed together for [`Gradients::squared_norm`], from the beginning of each parameter.
pub const NORM_ELEMENTS: usize = 4096;
/// Elements whose squares are summed in f32 before the sum goes on in f64.
const SQUARES: usize = 1024;
/// Sums of squares that a thread computes together.
const NORM_PART: usize = 16;
/// Sums of squares outside these bounds may have lost summands by overflow or underflow and are computed again in f64.
const SAFE_SQUARES: Range<f32> = 1e-25..1e30;

/// The shape of a parameter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ParameterShape {
    /// A matrix `[rows = outputs, columns = inputs]`, packed in tiles of 16 rows (see [`Matrix::f32_packed`]).
    Matrix {
        /// Outputs.
        rows: usize,
        /// Inputs.
        columns: usize,
    },
    /// A vector of `len` values.
    Vector {
        /// Values.
        len: usize,
    },
}

impl ParameterShape {
    /// Values of the parameter.
    pub fn elements(self) -> usize {
        match self {
            ParameterShape::Matrix { rows, columns } => rows.saturating_mul(columns),
            ParameterShape::Vector { len } => len,
        }
    }

    /// Values of its buffer, with those of the rows that do not exist in the last tile of a matrix.
    pub fn packed_len(self) -> usize {
        match self {
            ParameterShape::Matrix { rows, columns } => {
                rows.div_ceil(TILE_ROWS).saturating_mul(TILE_ROWS).saturating_mul(columns)
            }
            ParameterShape::Vector { len } => len,
        }
    }
}

/// The gradient of one parameter that was taken out of its [`Gradients`], in packed order.
#[derive(Debug)]
pub struct GradientBuffer(Zeroed);

impl Deref for GradientBuffer {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        &self.0
    }
}

impl DerefMut for GradientBuffer {
    fn deref_mut(&mut self) -> &mut [f32] {
        &mut self.0
    }
}

/// Where a backward pass finds the parameters whose numbers it recorded.
pub trait ParameterSource {
    /// The matrix that is parameter `id`, if that is a matrix.
    fn matrix(&self, id: ParameterId) -> Option<&Matrix>;
    /// The vector that is parameter `id`, if that is a vector.
    fn vector(&self, id: ParameterId) -> Option<&Vector>;
}

/// A gradient for every parameter that learns. New ones are zero; their memory is taken when it is first written. Those of parameters that
/// do not learn are empty, and nothing is computed for them.
#[derive(Debug)]
pub struct Gradients {
    shapes: Vec<ParameterShape>,
    buffers: Vec<Zeroed>,
    simd: SimdLevel,
}

impl Gradients {
    /// Zero gradients for parameters of these shapes, in the order of their numbers.
    ///
    /// # Errors
    /// [`TensorError::OutOfMemory`].
    pub fn new(shapes: &[ParameterShape]) -> Result<Gradients, TensorError> {
        Gradients::of_some(shapes, |_| true)
    }

    /// As [`Gradients::new`], for a model of which only the parameters learn that `learns` names.
    ///
    /// # Errors
    /// [`TensorError::OutOfMemory`].
    pub fn of_some(
        shapes: &[ParameterShape],
        learns: impl Fn(ParameterId) -> bool,
    ) -> Result<Gradients, TensorError> {
        let length = |(id, shape): (usize, &ParameterShape)| {
            if learns(ParameterId(id as u32)) { shape.packed_len() } else { 0 }
        };
        let lengths: Vec<usize> = shapes.iter().enumerate().map(length).collect();
        Ok(Gradients {
            shapes: shapes.to_vec(),
            buffers: Zeroed::together("gradients", &lengths)?,
            simd: SimdLevel::detect(),
        })
    }

    /// Number of parameters.
    pub fn len(&self) -> usize {
        self.buffers.len()
    }

    /// True without parameters.
    pub fn is_empty(&self) -> bool {
        self.buffers.is_empty()
    }

    /// The shapes, in the order of the parameters' numbers.
    pub fn shapes(&self) -> &[ParameterShape] {
        &self.shapes
    }

    /// The gradient of parameter `id`, in packed order; empty when it does not learn.
    ///
    /// # Panics
    /// When there is no such parameter.
    pub fn get(&self, id: ParameterId) -> &[f32] {
        &self.buffers[id.0 as usize]
    }

    /// As [`Gradients::get`], to be changed.
    ///
    /// # Panics
    /// When there is no such parameter.
    pub fn get_mut(&mut self, id: ParameterId) -> &mut [f32] {
        &mut self.buffers[id.0 as usize]
    }

    /// Whether parameter `id` learns: whether its gradient is there, and was not taken out.
    pub fn learns(&self, id: ParameterId) -> bool {
        let index = id.0 as usize;
        self.shapes.get(index).is_some_and(|shape| self.buffers[index].len() == shape.packed_len())
    }

    /// Takes a parameter's gradient out, for work beside the backward pass. Until [`Gradients::put`] it is empty, as that of a parameter
    /// that does not learn.
    ///
    /// # Errors
    /// [`TensorError::OutOfMemory`].
    ///
    /// # Panics
    /// When there is no such parameter.
    pub fn take(&mut self, id: ParameterId) -> Result<GradientBuffer, TensorError> {
        let empty = Zeroed::new("gradients", 0)?;
        Ok(GradientBuffer(std::mem::replace(&mut self.buffers[id.0 as usize], empty)))
    }

    /// Puts back what was taken out.
    ///
    /// # Panics
    /// When there is no such parameter.
    pub fn put(&mut self, id: ParameterId, buffer: GradientBuffer) {
        self.buffers[id.0 as usize] = buffer.0;
    }

    /// The gradient of parameter `id`, which has `shape`; `None` when it does not learn.
    ///
    /// # Errors
    /// [`TensorError::NotAParameter`] when there is no such parameter, [`TensorError::Length`] when it has another shape.
    pub(crate) fn of(
        &mut self,
        what: &'static str,
        id: ParameterId,
        shape: ParameterShape,
    ) -> Result<Option<&mut [f32]>, TensorError> {
        let index = id.0 as usize;
        let found = *self.shapes.get(index).ok_or(TensorError::NotAParameter { what })?;
        if found != shape {
            return Err(TensorError::Length {
                what,
                expected: found.packed_len(),
                actual: shape.packed_len(),
            });
        }
        let buffer = &mut *self.buffers[index];
        Ok((buffer.len() == shape.packed_len()).then_some(buffer))
    }

    /// Makes every gradient zero.
    pub fn clear(&mut self, team: &ThreadTeam) {
        for buffer in &mut self.buffers {
            team.for_each_chunk(buffer, PART, |_, values| values.fill(0.0));
        }
    }

    /// Adds `other`, element by element.
    ///
    /// # Errors
    /// [`TensorError::Length`] when the shapes differ.
    pub fn add(&mut self, other: &Gradients, team: &ThreadTeam) -> Result<(), TensorError> {
        expect("gradients to add", self.shapes.len(), other.shapes.len())?;
        for (sum, addend) in self.buffers.iter().zip(&other.buffers) {
            expect("gradients to add", sum.len(), addend.len())?;
        }
        for (sum, addend) in self.buffers.iter_mut().zip(&other.buffers) {
            add_to(team, self.simd, sum, addend);
        }
        Ok(())
    }

    /// Adds the gradient of parameter `id` to `sum`, element by element.
    ///
    /// # Errors
    /// [`TensorError::Length`] when `sum` has another length.
    ///
    /// # Panics
    /// When there is no such parameter.
    pub fn add_one_to(&self, id: ParameterId, sum: &mut [f32], team: &ThreadTeam) -> Result<(), TensorError> {
        let addend = self.get(id);
        expect("gradient to add", sum.len(), addend.len())?;
        add_to(team, self.simd, sum, addend);
        Ok(())
    }

    /// Multiplies every element with `factor`.
    pub fn scale(&mut self, factor: f32, team: &ThreadTeam) {
        for buffer in &mut self.buffers {
            team.for_each_chunk(buffer, PART, |_, part| part.iter_mut().for_each(|value| *value *= factor));
        }
    }

    /// The sum of the squares of all elements. Its order of additions depends on the shapes alone: 1,024 squares at a time in
    /// f32 over lanes, their sums in f64 in ascending order within [`NORM_ELEMENTS`], then the sums of these.
    pub fn squared_norm(&self, team: &ThreadTeam) -> f64 {
        let of_parameter = |id: usize| {
            let id = ParameterId(id as u32);
            self.squared_sums(id, 0..self.get(id).len(), team).iter().sum::<f64>()
        };
        (0..self.len()).map(of_parameter).fold(0.0, |total, sum| total + sum)
    }

    /// The sums of squares of every [`NORM_ELEMENTS`] elements of a range of parameter `id`, of which [`Gradients::squared_norm`] is made.
    /// The range begins at a multiple of [`NORM_ELEMENTS`].
    ///
    /// # Panics
    /// When there is no such parameter, or no such range in it.
    pub fn squared_sums(&self, id: ParameterId, elements: Range<usize>, team: &ThreadTeam) -> Vec<f64> {
        let values = &self.get(id)[elements];
        let mut sums = vec![0.0f64; values.len().div_ceil(NORM_ELEMENTS)];
        team.for_each_chunk(&mut sums, NORM_PART, |index, sums| {
            let part = values[index * NORM_PART * NORM_ELEMENTS..].chunks(NORM_ELEMENTS);
            for (sum, part) in sums.iter_mut().zip(part) {
                *sum = part.chunks(SQUARES).map(|values| squares(self.simd, values)).sum();
            }
        });
        sums
    }

    /// The first element that is NaN or infinite: of which parameter, and where in its packed order.
    pub fn first_non_finite(&self) -> Option<(ParameterId, usize)> {
        self.buffers.iter().enumerate().find_map(|(id, buffer)| {
            let index = buffer.iter().position(|value| !value.is_finite())?;
            Some((ParameterId(id as u32), index))
        })
    }
}

fn add_to(team: &ThreadTeam, simd: SimdLevel, sum: &mut [f32], addend: &[f32]) {
    team.for_each_chunk(sum, PART, |index, rows| {
        let addend = &addend[index * PART..][..rows.len()];
        dispatch(simd, AddToRows { rows, addend });
    });
}

/// The sum of the squares of some values.
fn squares(simd: SimdLevel, values: &[f32]) -> f64 {
    let sum = dispatch(simd, SumOfSquares { values });
    if SAFE_SQUARES.contains(&sum) {
        return f64::from(sum);
    }
    values.iter().map(|value| f64::from(*value) * f64::from(*value)).sum()
}

/// Adds the rows of `gradient` `[tokens.len(), columns]` to the rows `tokens` of a packed matrix's gradient, in the order of the
/// tokens. Threads divide the table, so that a token's rows are added by one of them.
pub(crate) fn scatter_rows(
    team: &ThreadTeam,
    gradient: &[f32],
    tokens: &[u32],
    columns: usize,
    table: &mut [f32],
) {
    let tile = TILE_ROWS * columns;
    let tiles = table.len().checked_div(tile).unwrap_or(0);
    let table = DisjointMut::new(table);
    team.for_ranges(tiles, |range| {
        // SAFETY: the ranges are disjoint.
        let table = unsafe { table.slice(range.start * tile..range.end * tile) };
        for (token, row) in tokens.iter().zip(gradient.chunks_exact(columns)) {
            let (in_tile, lane) = (*token as usize / TILE_ROWS, *token as usize % TILE_ROWS);
            if range.contains(&in_tile) {
                let out = table[(in_tile - range.start) * tile..][..tile].iter_mut();
                out.skip(lane).step_by(TILE_ROWS).zip(row).for_each(|(sum, value)| *sum += value);
            }
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHAPES: [ParameterShape; 3] = [
        ParameterShape::Matrix { rows: 19, columns: 70 },
        ParameterShape::Vector { len: 33 },
        ParameterShape::Matrix { rows: 512, columns: 300 },
    ];

    fn gradients(factor: f32) -> Gradients {
        let mut gradients = Gradients::new(&SHAPES).unwrap();
        for id in 0..SHAPES.len() {
            for (index, value) in gradients.get_mut(ParameterId(id as u32)).iter_mut().enumerate() {
                *value = factor * (((index * 2_654_435_761) >> 7) as f32 % 1000.0 - 500.0);
            }
        }
        gradients
    }

    #[test]
    fn buffers_are_packed_and_zero() {
        let gradients = Gradients::new(&SHAPES).unwrap();
        assert_eq!(gradients.get(ParameterId(0)).len(), 32 * 70);
        assert_eq!((SHAPES[0].elements(), SHAPES[1].packed_len(), gradients.len()), (19 * 70, 33, 3));
        assert!(gradients.get(ParameterId(2)).iter().all(|value| *value == 0.0));
        assert_eq!(gradients.first_non_finite(), None);
    }

    #[test]
    fn sums_do_not_depend_on_threads() {
        let expected = {
            let sum = |values: &[f32]| values.iter().map(|value| f64::from(*value).powi(2)).sum::<f64>();
            let gradients = gradients(3.0);
            (0..3).map(|id| sum(gradients.get(ParameterId(id)))).sum::<f64>()
        };
        let mut norms = Vec::new();
        for threads in [1, 2, 3] {
            let team = ThreadTeam::new(threads).unwrap();
            let mut sum = gradients(1.0);
            sum.add(&gradients(2.0), &team).unwrap();
            assert_eq!(sum.get(ParameterId(2)), gradients(3.0).get(ParameterId(2)));
            norms.push(sum.squared_norm(&team));
            sum.scale(0.0, &team);
            assert_eq!(sum.squared_norm(&team), 0.0);
        }
        assert!((norms[0] / expected - 1.0).abs() < 1e-6, "{norms:?}, {expected}");
        assert!(norms.iter().all(|norm| norm.to_bits() == norms[0].to_bits()), "{norms:?}");
    }

    #[test]
    fn parameters_that_do_not_learn_have_no_gradient() {
        let team = ThreadTeam::new(2).unwrap();
        let mut some = Gradients::of_some(&SHAPES, |id| id.0 == 1).unwrap();
        assert_eq!([0, 1, 2].map(|id| some.get(ParameterId(id)).len()), [0, 33, 0]);
        assert!(some.of("test", ParameterId(0), SHAPES[0]).unwrap().is_none());
        assert!(some.of("test", ParameterId(1), SHAPES[1]).unwrap().is_some());
        assert!(some.of("test", ParameterId(1), SHAPES[0]).is_err());
        assert!(some.of("test", ParameterId(3), SHAPES[0]).is_err());
        assert!(some.add(&gradients(1.0), &team).is_err());
        let other = Gradients::of_some(&SHAPES, |id| id.0 == 1).unwrap();
        some.get_mut(ParameterId(1))[2] = 3.0;
        some.add(&other, &team).unwrap();
        assert_eq!(some.squared_norm(&team), 9.0);
    }

    #[test]
    fn norms_are_made_of_the_sums_of_any_ranges() {
        let team = ThreadTeam::new(2).unwrap();
        let gradients = gradients(1.0);
        let mut total = 0.0;
        for id in (0..3).map(ParameterId) {
            let length = gradients.get(id).len();
            let middle = (length / 2).next_multiple_of(NORM_ELEMENTS).min(length);
            let mut sums = gradients.squared_sums(id, 0..middle, &team);
            sums.extend(gradients.squared_sums(id, middle..length, &team));
            total += sums.iter().sum::<f64>();
        }
        assert_eq!(total.to_bits(), gradients.squared_norm(&team).to_bits());
    }

    #[test]
    fn a_gradient_that_was_taken_out_is_added_to_and_put_back() {
        let team = ThreadTeam::new(2).unwrap();
        let (mut sum, id) = (gradients(2.0), ParameterId(2));
        let mut taken = sum.take(id).unwrap();
        assert!(sum.get(id).is_empty());
        gradients(1.0).add_one_to(id, &mut taken, &team).unwrap();
        assert!(gradients(1.0).add_one_to(ParameterId(1), &mut taken, &team).is_err());
        sum.put(id, taken);
        assert_eq!(sum.get(id), gradients(3.0).get(id));
    }

    #[test]
    fn squares_beyond_f32_are_summed_in_f64() {
        let team = ThreadTeam::new(1).unwrap();
        for value in [1e25f32, 1e-30] {
            let mut gradients = Gradients::new(&SHAPES).unwrap();
            gradients.get_mut(ParameterId(1))[5] = value;
            let norm = gradients.squared_norm(&team);
            assert!((norm / f64::from(value).powi(2) - 1.0).abs() < 1e-6, "{norm}");
        }
    }

    #[test]
    fn what_is_not_finite_is_found() {
        let mut gradients = gradients(1.0);
        gradients.get_mut(ParameterId(1))[7] = f32::NAN;
        gradients.get_mut(ParameterId(2))[0] = f32::INFINITY;
        assert_eq!(gradients.first_non_finite(), Some((ParameterId(1), 7)));
        assert!(gradients.squared_norm(&ThreadTeam::new(2).unwrap()).is_nan());
    }
}
