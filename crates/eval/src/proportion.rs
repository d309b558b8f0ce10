//! A share that was counted, and how far it may be from the true one.

use serde::Serialize;

/// The 97.5 % point of the normal distribution.
const Z: f64 = 1.959_964;

/// `count` of `of`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Proportion {
    /// How many have the property.
    pub count: usize,
    /// How many there are.
    pub of: usize,
}

impl Proportion {
    /// Counts one more, which has the property or not.
    pub fn add(&mut self, has: bool) {
        self.count += usize::from(has);
        self.of += 1;
    }

    /// The counted share; `None` of none.
    pub fn share(self) -> Option<f64> {
        (self.of > 0).then(|| self.count as f64 / self.of as f64)
    }

    /// The 95 % confidence interval of the share (Wilson 1927, "Probable inference, the law of succession, and statistical
    /// inference"): also right near 0 and 1; from 0 to 1 when nothing was counted.
    pub fn interval(self) -> (f64, f64) {
        let Some(share) = self.share() else { return (0.0, 1.0) };
        let n = self.of as f64;
        let denominator = 1.0 + Z * Z / n;
        let middle = (share + Z * Z / (2.0 * n)) / denominator;
        let half = Z / denominator * (share * (1.0 - share) / n + Z * Z / (4.0 * n * n)).sqrt();
        ((middle - half).max(0.0), (middle + half).min(1.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intervals_are_those_of_the_formula() {
        let near = |(low, high): (f64, f64), expected: (f64, f64)| {
            assert!((low - expected.0).abs() < 1e-3 && (high - expected.1).abs() < 1e-3, "{low} {high}");
        };
        // Figures of Newcombe 1998, "Two-sided confidence intervals for the single proportion", table I, method 3.
        near(Proportion { count: 81, of: 263 }.interval(), (0.2553, 0.3662));
        near(Proportion { count: 15, of: 148 }.interval(), (0.0624, 0.1605));
        near(Proportion { count: 0, of: 20 }.interval(), (0.0, 0.1611));
        near(Proportion { count: 1, of: 29 }.interval(), (0.0061, 0.1718));
        assert_eq!(Proportion::default().interval(), (0.0, 1.0));
        assert_eq!(Proportion::default().share(), None);
    }
}
