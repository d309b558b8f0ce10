//! Rows sorted by the expert that they chose, so that each expert's products are over all its rows at once, and none is dropped.

use std::ops::Range;

use super::workspace::Activations;
use crate::ops::routing::{add_weighted, choose};
use crate::team::DisjointMut;
use crate::{ExpertChoice, ThreadTeam};

/// Which rows each expert has, and how much of its output they get.
#[derive(Debug, Default)]
pub(crate) struct Routes {
    pub(crate) active: usize,
    /// `[rows, active]`, ascending in each row.
    pub(crate) selected: Vec<u32>,
    /// What each chosen expert's output is multiplied with.
    pub(crate) weights: Vec<f32>,
    /// Places in `selected`, by expert and then by row.
    order: Vec<usize>,
    /// Where each expert's places begin in `order`, and the end.
    starts: Vec<usize>,
}

impl Routes {
    /// What rows with these scores, `[rows, experts]`, choose. The memory is used again.
    pub(crate) fn set(&mut self, scores: &Activations, choice: ExpertChoice) {
        let (rows, experts, active) = (scores.rows(), scores.width(), choice.active);
        self.active = active;
        self.selected.resize(rows * active, 0);
        self.weights.resize(rows * active, 0.0);
        self.order.resize(rows * active, 0);
        let places = self.selected.chunks_exact_mut(active).zip(self.weights.chunks_exact_mut(active));
        for (row, (selected, weights)) in places.enumerate() {
            choose(scores.row(row), choice, selected, weights);
        }
        self.starts.clear();
        self.starts.resize(experts + 1, 0);
        self.selected.iter().for_each(|expert| self.starts[*expert as usize + 1] += 1);
        for expert in 0..experts {
            self.starts[expert + 1] += self.starts[expert];
        }
        // Each expert's start moves up to its end, which is the start of the next one.
        for (place, expert) in self.selected.iter().enumerate() {
            let next = &mut self.starts[*expert as usize];
            self.order[*next] = place;
            *next += 1;
        }
        self.starts.rotate_right(1);
        self.starts[0] = 0;
    }

    /// The places of an expert in the order by expert.
    pub(crate) fn of(&self, expert: usize) -> Range<usize> {
        self.starts[expert]..self.starts[expert + 1]
    }

    /// The place in `selected` of a place in the order by expert.
    pub(crate) fn place(&self, index: usize) -> usize {
        self.order[index]
    }

    fn row(&self, index: usize) -> usize {
        self.order[index] / self.active
    }

    /// What a row chose, and the weights.
    pub(crate) fn of_row(&self, row: usize) -> (&[u32], &[f32]) {
        let places = row * self.active..(row + 1) * self.active;
        (&self.selected[places.clone()], &self.weights[places])
    }

    /// Copies the rows of some places, one after the other.
    pub(crate) fn gather(
        &self,
        team: &ThreadTeam,
        from: &Activations,
        places: Range<usize>,
        out: &mut [f32],
    ) {
        team.for_each_chunk(out, from.width(), |index, out| {
            out.copy_from_slice(from.row(self.row(places.start + index)));
        });
    }

    /// Adds `values`, one row for each place of one expert, to the rows of `sum`: as they are, or times the weights.
    pub(crate) fn scatter(
        &self,
        team: &ThreadTeam,
        values: &[f32],
        places: Range<usize>,
        weighted: bool,
        sum: &mut Activations,
    ) {
        let width = sum.width();
        let sums = DisjointMut::new(sum.values_mut());
        team.for_ranges(places.len(), |range| {
            for index in range {
                let place = places.start + index;
                let row = self.row(place) * width..(self.row(place) + 1) * width;
                // SAFETY: a row chooses an expert once, so that the rows of one expert's places are different ones.
                let sum = unsafe { sums.slice(row) };
                let weight = if weighted { self.weights[self.order[place]] } else { 1.0 };
                add_weighted(sum, &values[index * width..(index + 1) * width], weight);
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::super::Workspace;
    use super::*;

    #[test]
    fn rows_are_sorted_by_expert() {
        let mut scores = Workspace::default().take(3, 4).unwrap();
        scores.values_mut().copy_from_slice(&[0.0, 2.0, 1.0, -1.0, 5.0, 4.0, 0.0, 0.0, 0.0, 0.0, 3.0, 1.0]);
        let mut routes = Routes::default();
        for _ in 0..2 {
            routes.set(&scores, ExpertChoice { active: 2, normalise: true });
            let rows = |expert| routes.of(expert).map(|index| routes.row(index)).collect::<Vec<_>>();
            assert_eq!([rows(0), rows(1), rows(2), rows(3)], [vec![1], vec![0, 1], vec![0, 2], vec![2]]);
            assert_eq!(routes.of_row(2).0, [2, 3]);
        }
    }
}
