//! The definition: every element's chain as it is written down, without tiles.

use super::{AttentionGradientCall, SharedOutputs, Unit};
use crate::lanes::{LANES, sum_lanes};
use crate::ops::exponential_of_one;

/// See [`super::UnitKernel`].
pub(super) fn unit_gradient(call: &AttentionGradientCall<'_>, unit: &Unit<'_>, outputs: &SharedOutputs<'_>) {
    let (head_dim, scale) = (call.shape.head_dim, call.shape.scale);
    for position in 0..unit.positions() {
        // SAFETY: units have disjoint places.
        let (keys, values) = unsafe { outputs.of_key_and_value(call, unit, position) };
        keys.fill(0.0);
        values.fill(0.0);
    }
    for row in 0..unit.own() * call.group() {
        let start = call.query_start(unit, row);
        let query: Vec<f32> =
            call.queries[start..start + head_dim].iter().map(|value| value * scale).collect();
        let gradient = &call.gradient[start..start + head_dim];
        let of_output = dot_in_lanes(gradient, &call.outputs[start..start + head_dim]);
        let log_sum = call.log_sums[call.head_index(unit, row)];
        let mut of_query = vec![0.0f32; head_dim];
        let position = unit.position(row / call.group());
        for seen in call.first_seen(position)..=position {
            let at = call.key_start(unit, seen);
            let key = &call.keys[at..at + head_dim];
            let weight = exponential_of_one(dot(&query, key) - log_sum);
            let of_score = weight * (dot(gradient, &call.values[at..at + head_dim]) - of_output);
            // SAFETY: as above; the slices end with this pass of the loop.
            let (keys, values) = unsafe { outputs.of_key_and_value(call, unit, seen) };
            for index in 0..head_dim {
                values[index] = weight.mul_add(gradient[index], values[index]);
                keys[index] = of_score.mul_add(query[index], keys[index]);
                of_query[index] = of_score.mul_add(key[index], of_query[index]);
            }
        }
        // SAFETY: as above.
        let out = unsafe { outputs.queries.slice(start..start + head_dim) };
        out.iter_mut().zip(of_query).for_each(|(out, value)| *out = value * scale);
    }
}

/// One chain.
fn dot(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).fold(0.0, |sum, (a, b)| a.mul_add(*b, sum))
}

/// Sixteen chains, element i in chain i mod 16.
fn dot_in_lanes(a: &[f32], b: &[f32]) -> f32 {
    let mut sums = [0.0f32; LANES];
    for (index, (a, b)) in a.iter().zip(b).enumerate() {
        sums[index % LANES] = a.mul_add(*b, sums[index % LANES]);
    }
    sum_lanes(sums)
}
