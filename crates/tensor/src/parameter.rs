//! What makes a weight a parameter: a number by which its gradient and its optimiser state are found.
//!
//! A [`Matrix`](crate::Matrix) and a [`Vector`] carry that number with them. A weight that is used at two places (a tied
//! embedding and head) is one object and one parameter.

use std::ops::{Deref, DerefMut};

/// The number of a parameter among those of its model, counted from 0 without gaps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ParameterId(pub u32);

/// A weight vector: a norm's scale or a bias.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Vector {
    values: Vec<f32>,
    parameter: Option<ParameterId>,
}

impl Vector {
    /// The same vector as parameter `id` of a model.
    pub fn with_parameter(self, id: ParameterId) -> Vector {
        Vector { parameter: Some(id), ..self }
    }

    /// Which parameter of its model it is; `None` when it is none.
    pub fn parameter(&self) -> Option<ParameterId> {
        self.parameter
    }
}

impl From<Vec<f32>> for Vector {
    fn from(values: Vec<f32>) -> Vector {
        Vector { values, parameter: None }
    }
}

impl Deref for Vector {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        &self.values
    }
}

impl DerefMut for Vector {
    fn deref_mut(&mut self) -> &mut [f32] {
        &mut self.values
    }
}
