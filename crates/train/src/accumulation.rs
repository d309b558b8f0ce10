//! Sums over micro-batches by a fixed binary tree: neighbours first, then their sums, as in ((0 + 1) + (2 + 3)). Ranks that have
//! a power of two of neighbouring micro-batches each, and sum what they get by the same tree, get the same bits as one process.

use zhenjin_tensor::{Gradients, ParameterId, ParameterShape, TensorError, ThreadTeam};

/// The gradients of micro-batches that have been added so far: at most one sum of each power of two.
#[derive(Debug, Default)]
pub(crate) struct GradientTree {
    shapes: Vec<ParameterShape>,
    /// Sums, the largest first, each with the number of micro-batches in it.
    sums: Vec<(usize, Gradients)>,
    /// Memory to use again.
    spare: Vec<Gradients>,
}

impl GradientTree {
    pub(crate) fn new(shapes: Vec<ParameterShape>) -> GradientTree {
        GradientTree { shapes, sums: Vec::new(), spare: Vec::new() }
    }

    /// Zeros for the next micro-batch.
    pub(crate) fn zeros(&mut self, team: &ThreadTeam) -> Result<Gradients, TensorError> {
        match self.spare.pop() {
            None => Gradients::new(&self.shapes),
            Some(mut gradients) => {
                gradients.clear(team);
                Ok(gradients)
            }
        }
    }

    /// Adds the gradient of the next micro-batch.
    pub(crate) fn push(&mut self, gradients: Gradients, team: &ThreadTeam) -> Result<(), TensorError> {
        let mut newest = (1, gradients);
        while self.sums.last().is_some_and(|(count, _)| *count == newest.0) {
            let Some((count, mut sum)) = self.sums.pop() else { break };
            sum.add(&newest.1, team)?;
            self.spare.push(newest.1);
            newest = (2 * count, sum);
        }
        self.sums.push(newest);
        Ok(())
    }

    /// Adds all that were added before to the gradient of the last micro-batch, for one parameter: what the tree gives when the number of
    /// micro-batches is a power of two.
    pub(crate) fn complete(
        &self,
        id: ParameterId,
        newest: &mut [f32],
        team: &ThreadTeam,
    ) -> Result<(), TensorError> {
        self.sums.iter().rev().try_for_each(|(_, sum)| sum.add_one_to(id, newest, team))
    }

    /// As [`GradientTree::complete`], for every parameter.
    pub(crate) fn complete_all(&self, newest: &mut Gradients, team: &ThreadTeam) -> Result<(), TensorError> {
        self.sums.iter().rev().try_for_each(|(_, sum)| newest.add(sum, team))
    }

    /// Forgets what was added.
    pub(crate) fn clear(&mut self) {
        self.spare.extend(self.sums.drain(..).map(|(_, sum)| sum));
    }

    /// Takes memory back.
    pub(crate) fn take_back(&mut self, gradients: Gradients) {
        self.spare.push(gradients);
    }
}

/// The sum of numbers by the same tree.
pub(crate) fn tree_sum(values: &[f64]) -> f64 {
    match values {
        [] => 0.0,
        [value] => *value,
        values => {
            let half = values.len().next_power_of_two() / 2;
            tree_sum(&values[..half]) + tree_sum(&values[half..])
        }
    }
}

#[cfg(test)]
mod tests {
    use zhenjin_tensor::ParameterId;

    use super::*;

    #[test]
    fn gradients_are_summed_by_the_tree_whatever_their_number() {
        let team = ThreadTeam::new(1).expect("a team");
        let mut tree = GradientTree::new(vec![ParameterShape::Vector { len: 3 }]);
        // Values whose sum depends on its order.
        let values: Vec<f32> =
            (0..13).map(|index| 1.0 / (index * index + 1) as f32 * 3f32.powi(index)).collect();
        fn expected(values: &[f32]) -> f32 {
            match values {
                [value] => *value,
                values => {
                    let half = values.len().next_power_of_two() / 2;
                    expected(&values[..half]) + expected(&values[half..])
                }
            }
        }
        for count in [1, 2, 4, 8] {
            let mut newest = tree.zeros(&team).expect("memory");
            for (index, value) in values[..count].iter().enumerate() {
                newest.get_mut(ParameterId(0)).fill(*value);
                if index + 1 < count {
                    tree.push(newest, &team).expect("the same shapes");
                    newest = tree.zeros(&team).expect("memory");
                }
            }
            let mut copy = newest.get(ParameterId(0)).to_vec();
            tree.complete(ParameterId(0), &mut copy, &team).expect("the same shapes");
            assert_eq!(copy, [expected(&values[..count]); 3], "{count}");
            tree.complete_all(&mut newest, &team).expect("the same shapes");
            assert_eq!(newest.get(ParameterId(0)), copy, "{count}");
            tree.clear();
            tree.take_back(newest);
        }
    }

    #[test]
    fn halves_that_are_summed_alone_give_the_same_bits() {
        let values: Vec<f64> = (0..16).map(|index| 1.0 / f64::from(index + 3)).collect();
        let halves = tree_sum(&values[..8]) + tree_sum(&values[8..]);
        assert_eq!(tree_sum(&values).to_bits(), halves.to_bits());
        assert_eq!(tree_sum(&[]), 0.0);
    }
}
