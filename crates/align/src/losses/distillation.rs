//! The loss of distillation: how far the model's distribution of the next token is from a teacher's, mixed with the cross entropy.
//!
//! With p the model's probabilities and q the teacher's, both of logits divided by the temperature, and m = β q + (1 − β) p, the
//! divergence is KL(q ‖ p) (Hinton et al. 2015, arXiv 1503.02531, without its constant and without the square of the temperature),
//! KL(p ‖ q) (Gu et al. 2023, arXiv 2306.08543), or β KL(q ‖ m) + (1 − β) KL(p ‖ m), the generalised Jensen–Shannon divergence
//! (Agarwal et al. 2023, arXiv 2306.13649, equation 1). Rows of logits are in f32; sums over a row are in f64.

use std::cell::RefCell;

use serde::{Deserialize, Serialize};
use zhenjin_tensor::{SimdLevel, log_softmax, log_sum_exp, softmax};

/// Which divergence is made small.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TeacherDivergence {
    /// KL(q ‖ p): the model covers everything that the teacher may say.
    ForwardKl,
    /// KL(p ‖ q): the model says nothing that the teacher would not say.
    ReverseKl,
    /// Between the two, by β.
    JensenShannon,
}

/// What is made small in each token that is learnt: `weight` times the divergence, and 1 − `weight` times −ln p of the data's token
/// (without temperature).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct DistillationLoss {
    /// The formula of the divergence.
    pub divergence: TeacherDivergence,
    /// β of [`TeacherDivergence::JensenShannon`], above 0 and below 1.
    pub beta: f64,
    /// What all logits are divided by for the divergence.
    pub temperature: f64,
    /// The share of the divergence in the loss.
    pub weight: f64,
}

/// What is said of one token.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct DistilledToken {
    /// The divergence, in nats.
    pub divergence: f64,
    /// ln p of the data's token by the model, without temperature.
    pub log_probability: f64,
    /// And by the teacher.
    pub teacher_log_probability: f64,
    /// Whether both have the same likeliest token.
    pub agrees: bool,
}

thread_local! {
    /// The rows that are computed beside the logits.
    static ROWS: RefCell<[Vec<f32>; 4]> = const { RefCell::new([const { Vec::new() }; 4]) };
}

/// Terms that are summed side by side, so that sums need not wait for one another.
const LANES: usize = 8;

/// The sum of `term(index)` for all indices below `count`, in one order.
fn sum(count: usize, mut term: impl FnMut(usize) -> f32) -> f64 {
    let mut sums = [0.0f64; LANES];
    for index in 0..count {
        sums[index % LANES] += f64::from(term(index));
    }
    sums.iter().sum()
}

impl DistillationLoss {
    /// The loss of a token of which this is said.
    pub fn value(&self, token: &DistilledToken) -> f64 {
        self.weight * token.divergence - (1.0 - self.weight) * token.log_probability
    }

    /// Overwrites the model's logits of one row, one for each token, with the derivatives of `factor` times the loss by them. `teacher` has as
    /// many logits; `target` is the data's token.
    pub fn of_row(
        &self,
        simd: SimdLevel,
        student: &mut [f32],
        teacher: &[f32],
        target: usize,
        factor: f64,
    ) -> DistilledToken {
        let (of_student, of_teacher) = (log_sum_exp(simd, student), log_sum_exp(simd, teacher));
        let mut token = DistilledToken {
            divergence: 0.0,
            log_probability: f64::from(of_student.log_probability(student[target])),
            teacher_log_probability: f64::from(of_teacher.log_probability(teacher[target])),
            agrees: likeliest(student) == likeliest(teacher),
        };
        ROWS.with_borrow_mut(|[hard, p, log_q, q]| {
            let copy = |to: &mut Vec<f32>, from: &[f32]| {
                to.clear();
                to.extend_from_slice(from);
            };
            if self.weight < 1.0 {
                copy(hard, student);
                softmax(simd, hard);
                hard[target] -= 1.0;
            }
            copy(log_q, teacher);
            if self.temperature != 1.0 {
                let inverse = (1.0 / self.temperature) as f32;
                student.iter_mut().chain(log_q.iter_mut()).for_each(|logit| *logit *= inverse);
            }
            copy(p, student);
            copy(q, log_q);
            softmax(simd, p);
            softmax(simd, q);
            log_softmax(simd, student);
            log_softmax(simd, log_q);
            token.divergence = self.divergence_of(student, log_q, p, q);
            let factor = factor as f32;
            let (soft, rest) = ((self.weight / self.temperature) as f32 * factor, 1.0 - self.weight);
            student.iter_mut().for_each(|slope| *slope *= soft);
            if self.weight < 1.0 {
                let rest = rest as f32 * factor;
                student.iter_mut().zip(&*hard).for_each(|(slope, hard)| *slope += rest * hard);
            }
        });
        token
    }

    /// The divergence, given the logarithms of both distributions and the distributions. The model's logarithms become the derivatives by
    /// its logits over the temperature.
    fn divergence_of(&self, log_p: &mut [f32], log_q: &[f32], p: &[f32], q: &[f32]) -> f64 {
        let count = log_p.len().min(log_q.len()).min(p.len()).min(q.len());
        // What cannot be has no part, whatever its logarithm is.
        let part = |probability: f32, of: f32| if probability > 0.0 { probability * of } else { 0.0 };
        let (beta, other) = (self.beta as f32, (1.0 - self.beta) as f32);
        match self.divergence {
            TeacherDivergence::ForwardKl => {
                let divergence = sum(count, |index| part(q[index], log_q[index] - log_p[index]));
                log_p.iter_mut().zip(p.iter().zip(q)).for_each(|(slope, (p, q))| *slope = p - q);
                divergence
            }
            TeacherDivergence::ReverseKl => {
                let divergence = sum(count, |index| {
                    log_p[index] -= log_q[index];
                    part(p[index], log_p[index])
                });
                slopes(log_p, p, divergence, 1.0);
                divergence
            }
            TeacherDivergence::JensenShannon => {
                let mut of_teacher = 0.0;
                let of_model = sum(count, |index| {
                    // ln(m / p) = ln(1 − β + β e^d), and ln(m / q) is less by d: with the greater of p and q outside, nothing overflows.
                    let d = log_q[index] - log_p[index];
                    let lesser = (-d.abs()).exp_m1();
                    let inner = (if d > 0.0 { other } else { beta } * lesser).ln_1p();
                    of_teacher += f64::from(part(q[index], d.min(0.0) - inner));
                    log_p[index] = -(d.max(0.0) + inner);
                    part(p[index], log_p[index])
                });
                slopes(log_p, p, of_model, other);
                self.beta * of_teacher + (1.0 - self.beta) * of_model
            }
        }
    }
}

/// The derivatives of `factor` · Σ p · c by the logits of p, where c is a logarithm of a ratio of p and something: `factor` · p (c − Σ p c).
fn slopes(ratios: &mut [f32], p: &[f32], mean: f64, factor: f32) {
    let mean = mean as f32;
    for (ratio, p) in ratios.iter_mut().zip(p) {
        *ratio = if *p > 0.0 { factor * p * (*ratio - mean) } else { 0.0 };
    }
}

/// The first of the greatest logits.
fn likeliest(logits: &[f32]) -> usize {
    let greatest = logits.iter().fold(f32::NEG_INFINITY, |greatest, logit| greatest.max(*logit));
    logits.iter().position(|logit| *logit == greatest).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::super::tests::difference;
    use super::*;

    pub(super) const DIVERGENCES: [(TeacherDivergence, f64); 4] = [
        (TeacherDivergence::ForwardKl, 0.0),
        (TeacherDivergence::ReverseKl, 0.0),
        (TeacherDivergence::JensenShannon, 0.5),
        (TeacherDivergence::JensenShannon, 0.1),
    ];

    fn probabilities(logits: &[f64], temperature: f64) -> Vec<f64> {
        let powers: Vec<f64> = logits.iter().map(|logit| (logit / temperature).exp()).collect();
        let all: f64 = powers.iter().sum();
        powers.iter().map(|power| power / all).collect()
    }

    fn kl(one: &[f64], other: &[f64]) -> f64 {
        one.iter().zip(other).map(|(one, other)| one * (one / other).ln()).sum()
    }

    /// The loss by its definition.
    fn defined(loss: &DistillationLoss, student: &[f64], teacher: &[f64], target: usize) -> f64 {
        let [p, q] = [student, teacher].map(|logits| probabilities(logits, loss.temperature));
        let m: Vec<f64> = p.iter().zip(&q).map(|(p, q)| loss.beta * q + (1.0 - loss.beta) * p).collect();
        let divergence = match loss.divergence {
            TeacherDivergence::ForwardKl => kl(&q, &p),
            TeacherDivergence::ReverseKl => kl(&p, &q),
            TeacherDivergence::JensenShannon => loss.beta * kl(&q, &m) + (1.0 - loss.beta) * kl(&p, &m),
        };
        loss.weight * divergence - (1.0 - loss.weight) * probabilities(student, 1.0)[target].ln()
    }

    #[test]
    fn derivatives_are_those_of_the_losses_as_they_are_defined() {
        let student: Vec<f64> = (0..37).map(|place| f64::from(place * 17 % 23) / 4.0 - 2.0).collect();
        let teacher: Vec<f64> = (0..37).map(|place| f64::from(place * 11 % 29) / 5.0 - 2.0).collect();
        let single = |logits: &[f64]| logits.iter().map(|logit| *logit as f32).collect::<Vec<f32>>();
        for (divergence, beta) in DIVERGENCES {
            for (temperature, weight) in [(1.0, 1.0), (2.5, 1.0), (1.0, 0.6), (0.7, 0.25), (1.0, 0.0)] {
                let loss = DistillationLoss { divergence, beta, temperature, weight };
                let mut slopes = single(&student);
                let token = loss.of_row(SimdLevel::detect(), &mut slopes, &single(&teacher), 5, 0.5);
                let expected = defined(&loss, &student, &teacher, 5);
                assert!((loss.value(&token) - expected).abs() < 1e-6, "{loss:?}: {token:?} {expected}");
                for (place, slope) in slopes.iter().enumerate() {
                    let moved = |logit: f64| {
                        let mut student = student.clone();
                        student[place] = logit;
                        0.5 * defined(&loss, &student, &teacher, 5)
                    };
                    let expected = difference(moved, student[place]);
                    assert!(
                        (f64::from(*slope) - expected).abs() < 1e-6,
                        "{loss:?}, {place}: {slope} {expected}"
                    );
                }
            }
        }
    }

    #[test]
    fn a_teacher_that_says_the_same_has_no_divergence_and_pulls_nowhere() {
        let logits: Vec<f32> = (0..200).map(|place| (place * 37 % 101) as f32 / 7.0).collect();
        for (divergence, beta) in DIVERGENCES {
            let loss = DistillationLoss { divergence, beta, temperature: 1.5, weight: 1.0 };
            let mut slopes = logits.clone();
            let token = loss.of_row(SimdLevel::detect(), &mut slopes, &logits, 0, 1.0);
            assert!(token.agrees && token.divergence == 0.0, "{divergence:?} {token:?}");
            assert!(slopes.iter().all(|slope| *slope == 0.0), "{divergence:?}");
        }
    }

    /// Logits so far apart that e to their difference is no number in f32.
    #[test]
    fn distributions_that_share_nothing_have_finite_losses() {
        let (student, teacher) = ([300.0, 0.0, -300.0], [-300.0, 0.0, 300.0]);
        for (divergence, beta, expected) in [
            (TeacherDivergence::ForwardKl, 0.0, 600.0),
            (TeacherDivergence::ReverseKl, 0.0, 600.0),
            (TeacherDivergence::JensenShannon, 0.5, std::f64::consts::LN_2),
        ] {
            let loss = DistillationLoss { divergence, beta, temperature: 1.0, weight: 1.0 };
            let mut slopes = student;
            let token = loss.of_row(SimdLevel::detect(), &mut slopes, &teacher, 0, 1.0);
            assert!((token.divergence - expected).abs() < 1e-5 * expected, "{divergence:?} {token:?}");
            assert!(slopes.iter().all(|slope| slope.is_finite()), "{divergence:?} {slopes:?}");
        }
    }
}
