//! exp(x) for x ≤ 0 as plain arithmetic, so that the compiler vectorises it and every machine gives the same bits.
//! Knows nothing of logits.

/// exp(x) for x ≤ 0, within 2 units in the last place; exactly 0 below -87 (where f32 leaves the normal range).
///
/// Cephes' `expf`: x = n·ln 2 + r with |r| ≤ ln 2 / 2, a polynomial for exp(r), then n added to the exponent's bits.
#[inline(always)]
pub fn exp_of_nonpositive(x: f32) -> f32 {
    const LOWEST: f32 = -87.0;
    /// 1.5·2²³: adding it rounds to an integer that then stands in the low bits.
    const ROUNDER: f32 = 12_582_912.0;
    const LN_2_HIGH: f32 = 0.693_359_4;
    const LN_2_LOW: f32 = -2.121_944_4e-4;
    let inside = if x > LOWEST { x } else { LOWEST };
    let rounded = inside * std::f32::consts::LOG2_E + ROUNDER;
    let n = rounded - ROUNDER;
    let r = (inside - n * LN_2_HIGH) - n * LN_2_LOW;
    let polynomial = ((((1.987_569_1e-4 * r + 1.398_2e-3) * r + 8.333_452e-3) * r + 4.166_579_6e-2) * r
        + 1.666_666_5e-1)
        * r
        + 0.5;
    let fraction = polynomial * r * r + r + 1.0;
    let exponent = rounded.to_bits().wrapping_sub(ROUNDER.to_bits()).wrapping_add(127) << 23;
    let value = fraction * f32::from_bits(exponent);
    if x > LOWEST { value } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn close_to_the_exact_value_everywhere() {
        let mut x = 0.0f32;
        while x > -86.9 {
            let exact = f64::from(x).exp();
            let relative = (f64::from(exp_of_nonpositive(x)) - exact).abs() / exact;
            assert!(relative < 2.4e-7, "exp({x}): relative error {relative}");
            x -= 0.0137;
        }
        assert_eq!(exp_of_nonpositive(0.0), 1.0);
        assert_eq!(exp_of_nonpositive(-87.5), 0.0);
        assert_eq!(exp_of_nonpositive(f32::NEG_INFINITY), 0.0);
    }
}
