//! The losses of alignment and their derivatives, in f64, one sequence or one token at a time.
//!
//! Every function returns a loss together with its derivatives by what the model computes: log-probabilities or values.
//! Nothing here knows models, batches or text.

pub mod advantage;
pub mod distillation;
pub mod judged;
pub mod policy;
pub mod preference;
pub mod reward;
pub mod value;

/// σ(x) = 1 / (1 + e^−x), without overflow.
pub(crate) fn sigmoid(x: f64) -> f64 {
    if x >= 0.0 {
        1.0 / (1.0 + (-x).exp())
    } else {
        let power = x.exp();
        power / (1.0 + power)
    }
}

/// ln σ(x), without overflow.
pub(crate) fn log_sigmoid(x: f64) -> f64 {
    x.min(0.0) - (-x.abs()).exp().ln_1p()
}

#[cfg(test)]
pub(crate) mod tests {
    /// The derivative of `function` at `x` by central differences.
    pub(crate) fn difference(function: impl Fn(f64) -> f64, x: f64) -> f64 {
        let step = 1e-6;
        (function(x + step) - function(x - step)) / (2.0 * step)
    }

    #[test]
    fn sigmoids_do_not_overflow() {
        assert_eq!(super::sigmoid(-1e4), 0.0);
        assert_eq!(super::sigmoid(1e4), 1.0);
        assert_eq!(super::log_sigmoid(-1e4), -1e4);
        assert_eq!(super::log_sigmoid(1e4), 0.0);
        assert!((super::log_sigmoid(0.3) - super::sigmoid(0.3).ln()).abs() < 1e-15);
    }
}

#[cfg(test)]
mod golden_tests;
