//! Mixtures of experts on the direct executor against the formula in f64, and rows among others against rows alone.

use std::sync::Arc;

use zhenjin_tensor::{
    AttentionShape, DirectExecutor, Dtype, Executor, Expert, ExpertChoice, KvCache, KvDtype, KvShape, Matrix,
    ReferenceExecutor, ReferenceTensor, SimdLevel, TensorError, ThreadTeam, quantise,
};

const INPUTS: usize = 40;
const WIDTH: usize = 24;
const EXPERTS: usize = 7;
const ROWS: usize = 33;

/// Numbers from −0.5 to 0.5.
fn numbers(seed: u64, count: usize) -> Vec<f32> {
    let number = |index: u64| {
        let state = (seed.wrapping_mul(0x9E37_79B9) ^ index).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        ((state ^ (state >> 29)).wrapping_mul(0x94D0_49BB_1331_11EB) >> 40) as f32 / (1 << 24) as f32 - 0.5
    };
    (1..=count as u64).map(number).collect()
}

/// A matrix for both executors.
fn matrix(
    seed: u64,
    rows: usize,
    columns: usize,
    simd: SimdLevel,
    team: &ThreadTeam,
) -> (Matrix, ReferenceTensor) {
    let values = numbers(seed, rows * columns);
    let bytes = quantise(Dtype::F32, &values).unwrap();
    let packed = Matrix::pack(Dtype::F32, rows, columns, &bytes, simd, team).unwrap();
    (packed, ReferenceTensor { width: columns, values: values.into_iter().map(f64::from).collect() })
}

struct Mixture {
    executor: DirectExecutor,
    router: (Matrix, ReferenceTensor),
    experts: (Vec<Expert<Matrix>>, Vec<Expert<ReferenceTensor>>),
}

impl Mixture {
    fn new(simd: SimdLevel, threads: usize) -> Mixture {
        let team = Arc::new(ThreadTeam::new(threads).unwrap());
        let shape = AttentionShape { heads: 1, kv_heads: 1, head_dim: 8, scale: 1.0 };
        let kv = KvShape { dtype: KvDtype::F32, layers: 1, kv_heads: 1, head_dim: 8 };
        let of = |seed, rows, columns| matrix(seed, rows, columns, simd, &team);
        let expert = |number: u64| {
            let [gate, up, down] = [
                of(3 * number + 10, WIDTH, INPUTS),
                of(3 * number + 11, WIDTH, INPUTS),
                of(3 * number + 12, INPUTS, WIDTH),
            ];
            (Expert { gate: gate.0, up: up.0, down: down.0 }, Expert { gate: gate.1, up: up.1, down: down.1 })
        };
        Mixture {
            router: of(1, EXPERTS, INPUTS),
            experts: (0..EXPERTS as u64).map(expert).unzip(),
            executor: DirectExecutor::new(KvCache::new(kv, 0).unwrap(), shape, simd, team).unwrap(),
        }
    }

    fn run(&mut self, rows: &[f32], choice: ExpertChoice) -> Result<Vec<f32>, TensorError> {
        let input = self.executor.tensor(rows, INPUTS)?;
        let out = self.executor.mixture_of_experts(input, &self.router.0, &self.experts.0, choice)?;
        let values = out.values().to_vec();
        self.executor.discard(out);
        Ok(values)
    }
}

#[test]
fn mixtures_are_those_of_the_formula_at_every_level() {
    let rows = numbers(99, ROWS * INPUTS);
    for simd in SimdLevel::available() {
        let mut mixture = Mixture::new(simd, 2);
        for (active, normalise) in [(1, false), (2, true), (3, false), (EXPERTS, true)] {
            let choice = ExpertChoice { active, normalise };
            let found = mixture.run(&rows, choice).unwrap();
            let input =
                ReferenceTensor { width: INPUTS, values: rows.iter().copied().map(f64::from).collect() };
            let expected = ReferenceExecutor::new()
                .mixture_of_experts(input, &mixture.router.1, &mixture.experts.1, choice)
                .unwrap();
            assert_eq!((expected.width, found.len()), (INPUTS, ROWS * INPUTS));
            for (found, expected) in found.iter().zip(&expected.values) {
                // Sums of 40 and 24 products of numbers below 1.
                assert!(
                    (f64::from(*found) - expected).abs() < 1e-6,
                    "{simd}, {choice:?}: {found}, {expected}"
                );
            }
        }
    }
}

#[test]
fn a_row_gets_the_same_bits_whatever_the_others_choose() {
    let choice = ExpertChoice { active: 2, normalise: true };
    let rows = numbers(7, ROWS * INPUTS);
    for simd in SimdLevel::available() {
        let together = Mixture::new(simd, 3).run(&rows, choice).unwrap();
        let mut alone = Mixture::new(simd, 1);
        for (row, expected) in rows.chunks_exact(INPUTS).zip(together.chunks_exact(INPUTS)) {
            let found = alone.run(row, choice).unwrap();
            assert!(found.iter().zip(expected).all(|(a, b)| a.to_bits() == b.to_bits()), "{simd}");
        }
    }
}

#[test]
fn what_does_not_fit_is_refused() {
    let mut mixture = Mixture::new(SimdLevel::Scalar, 1);
    let rows = numbers(7, INPUTS);
    for active in [0, EXPERTS + 1] {
        let error = mixture.run(&rows, ExpertChoice { active, normalise: true }).unwrap_err();
        assert!(error.to_string().contains("active experts"), "{error}");
    }
    mixture.experts.0.pop();
    let error = mixture.run(&rows, ExpertChoice { active: 1, normalise: true }).unwrap_err();
    assert!(error.to_string().contains("mixture of experts: experts"), "{error}");
    assert!(mixture.run(&[], ExpertChoice { active: 1, normalise: true }).is_err());
}
