//! The few greatest logits of a row that comes in pieces, found without sorting the row.

use std::cmp::Ordering;

/// An output and its logit.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TopLogit {
    /// The output's number in its row.
    pub index: usize,
    /// Its logit.
    pub logit: f32,
}

/// Greatest logit first, lowest index first among equals: a total order, so that every selection has one result.
fn by_logit(a: &TopLogit, b: &TopLogit) -> Ordering {
    b.logit.total_cmp(&a.logit).then(a.index.cmp(&b.index))
}

/// Collects the greatest logits of a row. Those at −∞ are left out.
#[derive(Debug)]
pub(crate) struct TopLogits {
    count: usize,
    /// At least the `count` greatest so far.
    found: Vec<TopLogit>,
    /// No logit below it is among the `count` greatest.
    bound: f32,
}

impl Default for TopLogits {
    fn default() -> TopLogits {
        TopLogits { count: 0, found: Vec::new(), bound: f32::NEG_INFINITY }
    }
}

impl TopLogits {
    /// Begins a row of which the `count` greatest logits are wanted.
    pub(crate) fn begin(&mut self, count: usize) {
        self.count = count;
        self.found.clear();
        self.bound = f32::NEG_INFINITY;
    }

    /// Takes in logits whose first has the index `first`, which must be above all earlier ones.
    pub(crate) fn add(&mut self, first: usize, logits: &[f32]) {
        /// Logits that are compared with the bound at once.
        const BLOCK: usize = 64;
        /// More than `count` are kept, so that they are cut to the greatest only now and then.
        const SPARE: usize = 64;
        if self.count == 0 {
            return;
        }
        let most = self.count.saturating_mul(2).saturating_add(SPARE);
        for (block, logits) in logits.chunks(BLOCK).enumerate() {
            if !logits.iter().fold(false, |any, logit| any | (*logit >= self.bound)) {
                continue;
            }
            for (offset, &logit) in logits.iter().enumerate() {
                if logit >= self.bound && logit > f32::NEG_INFINITY {
                    self.found.push(TopLogit { index: first + block * BLOCK + offset, logit });
                }
            }
            if self.found.len() >= most || (self.bound == f32::NEG_INFINITY && self.found.len() > self.count)
            {
                self.cut();
            }
        }
    }

    /// Keeps the greatest `count`.
    fn cut(&mut self) {
        if self.found.len() <= self.count {
            return;
        }
        let (_, last, _) = self.found.select_nth_unstable_by(self.count - 1, by_logit);
        self.bound = last.logit;
        self.found.truncate(self.count);
    }

    /// The greatest logits in order.
    pub(crate) fn finish(&mut self) -> &[TopLogit] {
        self.cut();
        self.found.sort_unstable_by(by_logit);
        &self.found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_greatest_in_order_however_the_row_is_cut() {
        // Many equal ones, −∞ and both zeros.
        let logits: Vec<f32> = (0..3000u32)
            .map(|index| match index.wrapping_mul(2_654_435_761) >> 20 {
                number if number % 7 == 0 => f32::NEG_INFINITY,
                number if number % 11 == 0 => -0.0,
                number => (number % 37) as f32 - 20.0,
            })
            .collect();
        let mut all: Vec<TopLogit> =
            logits.iter().enumerate().map(|(index, &logit)| TopLogit { index, logit }).collect();
        all.retain(|top| top.logit > f32::NEG_INFINITY);
        all.sort_by(by_logit);
        let mut top = TopLogits::default();
        for count in [0, 1, 5, 63, 64, 200, 5000] {
            for piece in [1, 64, 100, 1024, 3000] {
                top.begin(count);
                for (index, logits) in logits.chunks(piece).enumerate() {
                    top.add(index * piece, logits);
                }
                let expected: &[TopLogit] = &all[..count.min(all.len())];
                let found = top.finish();
                assert!(
                    found.len() == expected.len()
                        && found.iter().zip(expected).all(|(a, b)| by_logit(a, b) == Ordering::Equal),
                    "{count} of pieces of {piece}"
                );
            }
        }
    }
}
