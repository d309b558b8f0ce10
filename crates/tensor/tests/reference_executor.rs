//! The reference executor against numbers that can be checked by hand, and what it refuses.

use std::f64::consts::{FRAC_PI_2, LN_2};

use zhenjin_tensor::{
    AttentionShape, Executor, GateActivation, PageId, Projection, ReferenceExecutor, ReferenceTensor,
    RotaryFrequencies, RotaryLayout, SequenceRows, TensorError,
};

const ONE_HEAD: AttentionShape = AttentionShape { heads: 1, kv_heads: 1, head_dim: 2, scale: 1.0 };

fn tensor(width: usize, values: &[f64]) -> ReferenceTensor {
    ReferenceTensor { width, values: values.to_vec() }
}

fn rotary(radians: &[f64], layout: RotaryLayout) -> [RotaryFrequencies; 1] {
    [RotaryFrequencies { radians: radians.to_vec(), magnitude: 1.0, layout }]
}

fn packed(lengths: &[usize]) -> ReferenceExecutor {
    let mut executor = ReferenceExecutor::new();
    executor.begin_packed(lengths, &rotary(&[], RotaryLayout::HalfSplit)).unwrap();
    executor
}

fn assert_near(actual: &ReferenceTensor, width: usize, expected: &[f64]) {
    assert_eq!((actual.width, actual.values.len()), (width, expected.len()));
    for (actual, expected) in actual.values.iter().zip(expected) {
        assert!((actual - expected).abs() < 1e-12, "{actual} instead of {expected}");
    }
}

#[test]
fn operations_on_rows() {
    let mut executor = packed(&[2]);
    // The mean square of 1 and 7 is 25.
    let normalised = executor.rms_norm(&tensor(2, &[1.0, 7.0]), &vec![10.0, 5.0], 0.0).unwrap();
    assert_near(&normalised, 2, &[2.0, 7.0]);
    let heads = executor.head_norm(tensor(4, &[1.0, 7.0, 5.0, -5.0]), &vec![1.0, 1.0], 0.0).unwrap();
    assert_near(&heads, 4, &[0.2, 1.4, 1.0, -1.0]);
    // Of the whole row the mean square is 25 as well.
    let row = executor.head_norm(tensor(4, &[1.0, 7.0, 5.0, -5.0]), &vec![1.0, 1.0, 2.0, 3.0], 0.0).unwrap();
    assert_near(&row, 4, &[0.2, 1.4, 2.0, -3.0]);
    let (matrix, bias) = (tensor(2, &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]), vec![0.5, 0.0, -0.5]);
    let projection = Projection { matrix: &matrix, bias: Some(&bias), additions: &[] };
    let [output] = executor.linear(tensor(2, &[1.0, -1.0, 2.0, 0.0]), [projection]).unwrap();
    assert_near(&output, 3, &[-0.5, -1.0, -1.5, 2.5, 6.0, 9.5]);
    // silu(ln 2) = ln 2 / (1 + 1/2).
    let (gate, up) = (tensor(2, &[0.0, LN_2]), tensor(2, &[9.0, 3.0]));
    let gated = executor.gated(GateActivation::Silu, gate, up).unwrap();
    assert_near(&gated, 2, &[0.0, 2.0 * LN_2]);
    // ½ · (1 + tanh(0.797885 · 1.044715)) and its difference from 1.
    let (gate, up) = (tensor(2, &[1.0, -1.0]), tensor(2, &[1.0, 2.0]));
    let of_gelu = executor.gated(GateActivation::GeluTanh, gate, up).unwrap();
    assert_near(&of_gelu, 2, &[0.841_191_990_608_276_8, -2.0 * 0.158_808_009_391_723_2]);
    let scaled = executor.scale(tensor(2, &[3.0, -0.5]), 0.25).unwrap();
    assert_near(&scaled, 2, &[0.75, -0.125]);
    let sum = executor.add(gated, tensor(2, &[1.0, 1.0])).unwrap();
    assert_near(&sum, 2, &[1.0, 1.0 + 2.0 * LN_2]);
    let rows = executor.embedding(&matrix, &[2, 0, 2]).unwrap();
    assert_near(&executor.select_rows(rows, &[1, 2]).unwrap(), 2, &[1.0, 2.0, 5.0, 6.0]);
}

#[test]
fn rope_turns_pairs_by_their_position() {
    let mut executor = ReferenceExecutor::new();
    let row = [1.0, 2.0, 3.0, 4.0, 9.0, 9.0];
    // Row 0 of each document is at position 0; row 1 is turned by a quarter in the first pair and by a half in the second.
    for (layout, turned) in [
        (RotaryLayout::Interleaved, [-2.0, 1.0, -3.0, -4.0, 9.0, 9.0]),
        (RotaryLayout::HalfSplit, [-3.0, -2.0, 1.0, -4.0, 9.0, 9.0]),
    ] {
        executor.begin_packed(&[2, 1], &rotary(&[FRAC_PI_2, 2.0 * FRAC_PI_2], layout)).unwrap();
        let out = executor.rope(tensor(6, &[row, row, row].concat()), 6, 0).unwrap();
        assert_near(&out, 6, &[row, turned, row].concat());
    }
}

#[test]
fn attention_is_the_mean_of_what_is_seen_where_scores_are_equal() {
    let values = tensor(2, &[1.0, 0.0, 3.0, 0.0, 8.0, 6.0, 5.0, 7.0]);
    let zeros = tensor(2, &[0.0; 8]);
    let mut executor = packed(&[3, 1]);
    let (out, log_sums) =
        executor.attention_and_log_sums(0, ONE_HEAD, None, &zeros, &zeros, &values).unwrap();
    assert_near(&out, 2, &[1.0, 0.0, 2.0, 0.0, 4.0, 2.0, 5.0, 7.0]);
    assert_near(&log_sums, 1, &[0.0, LN_2, 3f64.ln(), 0.0]);
    let (out, _) = executor.attention_and_log_sums(0, ONE_HEAD, Some(2), &zeros, &zeros, &values).unwrap();
    assert_near(&out, 2, &[1.0, 0.0, 2.0, 0.0, 5.5, 3.0, 5.0, 7.0]);
    // Scores of 0 and ln 3: weights of 1/4 and 3/4.
    let mut executor = packed(&[2]);
    let (queries, keys) = (tensor(2, &[0.0, 0.0, 3f64.ln(), 0.0]), tensor(2, &[0.0, 5.0, 1.0, 5.0]));
    let values = tensor(2, &[4.0, 0.0, 0.0, 8.0]);
    let (out, log_sums) =
        executor.attention_and_log_sums(0, ONE_HEAD, None, &queries, &keys, &values).unwrap();
    assert_near(&out, 2, &[4.0, 0.0, 1.0, 6.0]);
    assert_near(&log_sums, 1, &[0.0, 4f64.ln()]);
}

#[test]
fn what_does_not_fit_is_refused() {
    let mut executor = packed(&[1]);
    let row = || tensor(2, &[1.0, 2.0]);
    let refused = |outcome: Result<ReferenceTensor, TensorError>| outcome.unwrap_err();
    assert!(matches!(refused(executor.add(row(), tensor(1, &[1.0]))), TensorError::Length { .. }));
    assert!(matches!(
        refused(executor.embedding(&row(), &[1])),
        TensorError::RowOutOfRange { row: 1, rows: 1 }
    ));
    for shape in [
        AttentionShape { kv_heads: 0, ..ONE_HEAD },
        AttentionShape { heads: 3, kv_heads: 2, ..ONE_HEAD },
        AttentionShape { head_dim: 0, ..ONE_HEAD },
    ] {
        let outcome = executor.attention(0, shape, None, row(), row(), row());
        assert!(matches!(refused(outcome), TensorError::HeadShape { .. }));
    }
    executor.begin_packed(&[1], &rotary(&[1.0, 1.0], RotaryLayout::HalfSplit)).unwrap();
    assert!(matches!(refused(executor.rope(row(), 2, 0)), TensorError::Length { .. }));
    assert_eq!(refused(executor.rope(row(), 2, 1)), TensorError::NoRotaryTable { table: 1, tables: 1 });
    // The pages say 33 positions, of which 32 have never been computed.
    let pages = [PageId(0), PageId(1)];
    let sequence = SequenceRows { rows: 1, start: 32, pages: &pages };
    executor.begin(std::iter::once(sequence), &rotary(&[], RotaryLayout::HalfSplit)).unwrap();
    let outcome = executor.attention(0, ONE_HEAD, None, row(), row(), row());
    assert_eq!(refused(outcome), TensorError::NotComputed { position: 0 });
    let sequence = SequenceRows { pages: &pages[..1], ..sequence };
    let outcome = executor.begin(std::iter::once(sequence), &rotary(&[], RotaryLayout::HalfSplit));
    assert!(matches!(outcome, Err(TensorError::MissingPages { needed: 2, given: 1, .. })));
}
