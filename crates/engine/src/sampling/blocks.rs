//! A row of logits by blocks: what one pass over it says of each block, so that the draw looks only at few of them.

use zhenjin_tensor::{LOGIT_BLOCK, SimdLevel, greatest_of_blocks, logit_weights, weights_of_blocks};

use super::log_softmax::BrokenLogit;

/// A row of logits and how they become weights: e^((logit − highest) / temperature), the probabilities up to a common factor.
#[derive(Clone, Copy, Debug)]
pub struct Row<'a> {
    /// The logits [vocabulary], penalties, bias and mask included.
    pub logits: &'a [f32],
    /// 1 / temperature.
    pub scale: f32,
    /// The instructions that weights are computed with.
    pub simd: SimdLevel,
}

impl Row<'_> {
    /// Writes the weights of `logits`, relative to that of the logit `highest`, into `weights`.
    pub fn weigh(&self, logits: impl Iterator<Item = f32>, highest: f32, weights: &mut Vec<f32>) {
        weights.clear();
        weights.extend(logits);
        logit_weights(self.simd, weights, highest, self.scale);
    }
}

/// Draws a place by `weights`, in their order; `None` if there are none.
pub fn draw(weights: &[f32], random: f64) -> Option<usize> {
    let target = random * weights.iter().copied().map(f64::from).sum::<f64>();
    let mut sum = 0.0;
    let mut last_possible = None;
    for (place, &weight) in weights.iter().enumerate() {
        if weight > 0.0 {
            last_possible = Some(place);
            sum += f64::from(weight);
            if sum > target {
                break;
            }
        }
    }
    // `random` below 1 times the sum can still round to the sum: the last place that is possible then.
    last_possible
}

/// What is known of a row's blocks of [`LOGIT_BLOCK`] logits.
#[derive(Debug, Default)]
pub struct Blocks {
    greatest: Vec<f32>,
    sums: Vec<f32>,
    /// Each block's share of the draw, relative to the highest logit of all.
    masses: Vec<f64>,
    weights: Vec<f32>,
}

impl Blocks {
    /// The greatest logit of each block.
    pub fn greatest(&self) -> &[f32] {
        &self.greatest
    }

    /// The sum of all weights.
    pub fn total(&self) -> f64 {
        self.masses.iter().sum()
    }

    /// Finds the greatest logit of each block, and of all: −∞ where every token is excluded.
    ///
    /// # Errors
    /// [`BrokenLogit`] if a logit is NaN or +∞.
    pub fn find_highest(&mut self, simd: SimdLevel, logits: &[f32]) -> Result<f32, BrokenLogit> {
        self.greatest.resize(logits.len().div_ceil(LOGIT_BLOCK), 0.0);
        match greatest_of_blocks(simd, logits, &mut self.greatest) {
            true => Err(BrokenLogit::first_of(logits)),
            false => Ok(self.highest()),
        }
    }

    /// Weighs each block. Returns the highest logit.
    ///
    /// # Errors
    /// [`BrokenLogit`] if a logit is NaN or +∞.
    pub fn weigh(&mut self, row: &Row<'_>) -> Result<f32, BrokenLogit> {
        let blocks = row.logits.len().div_ceil(LOGIT_BLOCK);
        self.greatest.resize(blocks, 0.0);
        self.sums.resize(blocks, 0.0);
        if weights_of_blocks(row.simd, row.logits, row.scale, &mut self.greatest, &mut self.sums) {
            return Err(BrokenLogit::first_of(row.logits));
        }
        let highest = self.highest();
        self.masses.clear();
        if highest > f32::NEG_INFINITY {
            row.weigh(self.greatest.iter().copied(), highest, &mut self.weights);
            let masses = self.weights.iter().zip(&self.sums);
            self.masses.extend(masses.map(|(&weight, &sum)| f64::from(weight) * f64::from(sum)));
        }
        Ok(highest)
    }

    /// The lowest id with this logit, the greatest of all; `None` for −∞.
    pub fn first_with(&self, logits: &[f32], highest: f32) -> Option<u32> {
        if highest == f32::NEG_INFINITY {
            return None;
        }
        let block = self.greatest.iter().position(|&greatest| greatest == highest)?;
        let start = block * LOGIT_BLOCK;
        let place = logits[start..].iter().position(|&logit| logit == highest)?;
        Some((start + place) as u32)
    }

    /// Draws from all tokens: walks over the blocks' masses, then inside one block. `None` if every token is excluded.
    pub fn draw(&mut self, row: &Row<'_>, random: f64) -> Option<u32> {
        let target = random * self.total();
        let mut before = 0.0;
        for (block, &mass) in self.masses.iter().enumerate() {
            if before + mass <= target {
                before += mass;
                continue;
            }
            let start = block * LOGIT_BLOCK;
            let logits = row.logits[start..].iter().copied().take(LOGIT_BLOCK);
            // Relative to the block's own greatest logit, so that no weight is too small here.
            row.weigh(logits, self.greatest[block], &mut self.weights);
            let place = draw(&self.weights, ((target - before) / mass).clamp(0.0, 1.0))?;
            return Some((start + place) as u32);
        }
        // `random` below 1 times the total can still round to the total: the most likely token is always possible.
        self.first_with(row.logits, self.highest())
    }

    fn highest(&self) -> f32 {
        self.greatest.iter().copied().fold(f32::NEG_INFINITY, f32::max)
    }
}
