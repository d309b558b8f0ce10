//! The loss of a critic's values.

/// ½ max((v − R)², (clip(v, v_old − c, v_old + c) − R)²) and its derivative by v (Schulman et al. 2017; the clipping is that of their
/// published program). `clip` is c; infinite without.
pub fn clipped_value(value: f64, old: f64, target: f64, clip: f64) -> (f64, f64) {
    let bounded = value.clamp(old - clip, old + clip);
    let (free, held) = ((value - target).powi(2), (bounded - target).powi(2));
    if free >= held {
        (0.5 * free, value - target)
    } else {
        // The bound does not move with the value.
        (0.5 * held, 0.0)
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::difference;
    use super::*;

    #[test]
    fn derivatives_are_those_of_the_losses() {
        for (value, old, target) in
            [(0.5, 0.0, 1.0), (0.1, 0.0, 1.0), (-2.0, 0.0, 1.0), (2.0, 0.0, 1.0), (0.9, 0.0, 0.2)]
        {
            let (_, slope) = clipped_value(value, old, target, 0.2);
            let expected = difference(|x| clipped_value(x, old, target, 0.2).0, value);
            assert!((slope - expected).abs() < 1e-7, "{value} {old} {target}: {slope} {expected}");
        }
        assert_eq!(clipped_value(0.5, 0.0, 1.0, f64::INFINITY), (0.125, -0.5));
        assert_eq!(clipped_value(0.5, 0.0, 1.0, 0.2), (0.32000000000000006, 0.0));
    }
}
