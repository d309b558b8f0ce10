//! The state of an optimiser as named tensors, for checkpoints: by parameter, moment and offset, never by rank.

use std::ops::Range;

use super::{Optimiser, Rule};

/// One array of an optimiser's state.
#[derive(Clone, Debug, PartialEq)]
pub struct StateTensor<'a> {
    /// The parameter's name and what it is of it, such as `model.norm.weight/first`.
    pub name: String,
    /// Which elements of the parameter, in packed order.
    pub elements: Range<usize>,
    /// Their values.
    pub values: &'a [f32],
}

/// A state that is not this optimiser's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StateError {
    /// An array is missing.
    #[error("the optimiser's state has no `{name}`; was the run made with another optimiser?")]
    Missing {
        /// Its name.
        name: String,
    },
    /// An array has another length.
    #[error("the optimiser's state `{name}` has {found} elements, expected {expected}")]
    Length {
        /// Its name.
        name: String,
        /// What the parameter implies.
        expected: usize,
        /// What there is.
        found: usize,
    },
}

impl Optimiser {
    /// Every array of the state, in a fixed order.
    pub fn state(&self) -> impl Iterator<Item = StateTensor<'_>> {
        self.states.iter().flat_map(|state| {
            let name = &self.descriptions[state.shard.parameter].name;
            let arrays =
                [("first", &state.first[..]), ("second", &state.second), ("average", &state.average)];
            arrays.into_iter().filter(|(_, values)| !values.is_empty()).map(move |(kind, values)| {
                StateTensor { name: format!("{name}/{kind}"), elements: state.shard.elements.clone(), values }
            })
        })
    }

    /// The arrays that parameters of a rule have now, in the order of [`Optimiser::state`].
    pub fn state_kinds(&self, rule: Rule) -> impl Iterator<Item = &'static str> {
        let has_average = self.options.average_decay > 0.0 && self.updates > 0;
        let kinds = [("first", true), ("second", rule != Rule::Muon), ("average", has_average)];
        kinds.into_iter().filter(|(_, is_there)| *is_there).map(|(kind, _)| kind)
    }

    /// Takes over a state after `updates` updates. `whole` reads the array of all elements of a parameter by its name.
    ///
    /// # Errors
    /// [`StateError`] when an array is missing or has another length.
    pub fn restore(
        &mut self,
        updates: u64,
        whole: impl Fn(&str) -> Option<Vec<f32>>,
    ) -> Result<(), StateError> {
        let has_average = self.options.average_decay > 0.0 && updates > 0;
        for state in &mut self.states {
            let description = &self.descriptions[state.shard.parameter];
            let read = |kind: &str| {
                let name = format!("{}/{kind}", description.name);
                let Some(values) = whole(&name) else { return Err(StateError::Missing { name }) };
                if values.len() != description.elements {
                    let (expected, found) = (description.elements, values.len());
                    return Err(StateError::Length { name, expected, found });
                }
                Ok(values)
            };
            let own = state.shard.elements.clone();
            state.first.copy_from_slice(&read("first")?[own.clone()]);
            if description.rule != Rule::Muon {
                state.second.copy_from_slice(&read("second")?[own.clone()]);
            }
            if has_average {
                state.average = read("average")?[own].to_vec();
            }
        }
        self.updates = updates;
        Ok(())
    }
}
