//! Means that a step measures, by name.

use std::collections::BTreeMap;

/// Weighted sums by name; their means are what is told.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Measures {
    sums: BTreeMap<String, (f64, f64)>,
}

impl Measures {
    /// Counts a value once.
    pub fn add(&mut self, name: &str, value: f64) {
        self.add_weighted(name, value, 1.0);
    }

    /// Counts a value that stands for `weight` of its kind.
    pub fn add_weighted(&mut self, name: &str, value: f64, weight: f64) {
        if weight <= 0.0 {
            return;
        }
        if !self.sums.contains_key(name) {
            self.sums.insert(name.to_owned(), (0.0, 0.0));
        }
        if let Some((sum, weights)) = self.sums.get_mut(name) {
            *sum += value * weight;
            *weights += weight;
        }
    }

    /// Counts everything that was counted there.
    pub fn merge(&mut self, other: &Measures) {
        for (name, (sum, weight)) in &other.sums {
            self.add_weighted(name, sum / weight, *weight);
        }
    }

    /// The mean of a measure, if it was counted.
    pub fn mean(&self, name: &str) -> Option<f64> {
        self.sums.get(name).map(|(sum, weight)| sum / weight)
    }

    /// The mean of a measure, which is forgotten.
    pub fn take_mean(&mut self, name: &str) -> Option<f64> {
        self.sums.remove(name).map(|(sum, weight)| sum / weight)
    }

    /// All means.
    pub fn means(&self) -> BTreeMap<String, f64> {
        self.sums.iter().map(|(name, (sum, weight))| (name.clone(), sum / weight)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn means_are_weighted() {
        let mut measures = Measures::default();
        measures.add("kl", 1.0);
        measures.add_weighted("kl", 4.0, 2.0);
        measures.add_weighted("empty", 4.0, 0.0);
        let mut other = Measures::default();
        other.add("kl", 3.0);
        other.add("reward", -1.0);
        measures.merge(&other);
        assert_eq!(measures.means(), BTreeMap::from([("kl".to_owned(), 3.0), ("reward".to_owned(), -1.0)]));
        assert_eq!(measures.mean("empty"), None);
    }
}
