//! AdamW (Loshchilov & Hutter 2019, algorithm 2), fused: one pass over values, gradient and both moments.

use std::sync::Mutex;

use zhenjin_tensor::ThreadTeam;

use super::{Rule, StepNumbers};
use crate::configuration::OptimiserSection;

/// Elements that one thread updates at a time: their four arrays fit the second-level cache.
const PART: usize = 16 * 1024;

/// The numbers of one update, computed once in f64.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AdamwNumbers {
    /// Multiplies the gradient.
    pub gradient_factor: f32,
    /// Multiplies the values before the update: 1 − learning rate · weight decay.
    pub keep: f32,
    /// Decay of the mean gradient.
    pub beta1: f32,
    /// Decay of the mean squared gradient.
    pub beta2: f32,
    /// 1 − `beta1`, rounded from its f64: the difference of the rounded numbers is less exact.
    pub one_minus_beta1: f32,
    /// 1 − `beta2`.
    pub one_minus_beta2: f32,
    /// Learning rate / (1 − β₁ᵗ).
    pub step: f32,
    /// 1 / √(1 − β₂ᵗ).
    pub root_correction: f32,
    /// ε.
    pub epsilon: f32,
}

impl AdamwNumbers {
    /// The numbers of update `update` (the first is 1) for parameters with `rule`; `None` for Muon's.
    pub fn of(
        options: &OptimiserSection,
        rule: Rule,
        numbers: StepNumbers,
        update: u64,
    ) -> Option<AdamwNumbers> {
        let (rate, decay) = match rule {
            Rule::Embedding => (options.embedding_learning_rate, 0.0),
            Rule::Vector => (options.learning_rate, 0.0),
            Rule::Matrix => (options.learning_rate, options.weight_decay),
            Rule::Muon => return None,
        };
        let rate = rate * numbers.rate_factor;
        let correction = |beta: f64| 1.0 - beta.powf(update as f64);
        Some(AdamwNumbers {
            gradient_factor: numbers.gradient_factor,
            keep: (1.0 - rate * decay) as f32,
            beta1: options.beta1 as f32,
            beta2: options.beta2 as f32,
            one_minus_beta1: (1.0 - options.beta1) as f32,
            one_minus_beta2: (1.0 - options.beta2) as f32,
            step: (rate / correction(options.beta1)) as f32,
            root_correction: (1.0 / correction(options.beta2).sqrt()) as f32,
            epsilon: options.epsilon as f32,
        })
    }

    /// Updates `values`, `first` and `second` by `gradient`; all have the same length.
    pub fn update(&self, values: &mut [f32], gradient: &[f32], first: &mut [f32], second: &mut [f32]) {
        let moments = first.iter_mut().zip(second);
        for ((value, gradient), (first, second)) in values.iter_mut().zip(gradient).zip(moments) {
            let gradient = gradient * self.gradient_factor;
            *first = self.beta1 * *first + self.one_minus_beta1 * gradient;
            *second = self.beta2 * *second + self.one_minus_beta2 * (gradient * gradient);
            let root = second.sqrt() * self.root_correction + self.epsilon;
            *value = self.keep * *value - self.step * (*first / root);
        }
    }
}

/// A part of an update.
#[derive(Debug)]
struct Part<'a> {
    numbers: AdamwNumbers,
    values: &'a mut [f32],
    gradient: &'a [f32],
    first: &'a mut [f32],
    second: &'a mut [f32],
}

/// The parts of an update of many parameters.
#[derive(Debug, Default)]
pub(super) struct Parts<'a>(Vec<Mutex<Part<'a>>>);

impl<'a> Parts<'a> {
    pub(super) fn add(
        &mut self,
        numbers: AdamwNumbers,
        values: &'a mut [f32],
        gradient: &'a [f32],
        first: &'a mut [f32],
        second: &'a mut [f32],
    ) {
        let moments = first.chunks_mut(PART).zip(second.chunks_mut(PART));
        let parts = values.chunks_mut(PART).zip(gradient.chunks(PART)).zip(moments);
        self.0.extend(parts.map(|((values, gradient), (first, second))| {
            Mutex::new(Part { numbers, values, gradient, first, second })
        }));
    }

    /// Computes all parts. Each lock is taken once, by the thread that computes its part.
    pub(super) fn run(self, team: &ThreadTeam) {
        team.run(self.0.len(), &|_, part| {
            if let Ok(mut part) = self.0[part].lock() {
                let Part { numbers, values, gradient, first, second } = &mut *part;
                numbers.update(values, gradient, first, second);
            }
        });
    }
}
