//! Attention against its definition: exact softmax in f64 (bound), the reference and every level (bits), and the same
//! queries in other batches, chunks, page orders and with other numbers of threads (bits).

use super::{
    AttentionCall, AttentionOutputs, AttentionPlan, AttentionScratch, AttentionShape, attend, division,
};
use crate::kv::{KvCache, KvDtype, KvShape, PAGE_TOKENS, PageId, SequenceRows};
use crate::{SimdLevel, TensorError, ThreadTeam};

fn values(count: usize, seed: usize) -> Vec<f32> {
    let hash = |index: usize| (index as u64 + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15 ^ (seed as u64) << 7);
    (0..count).map(|index| (hash(index) >> 40) as f32 / (1 << 23) as f32 - 1.0).collect()
}

/// A whole sequence's queries, keys and values.
struct Sequence {
    length: usize,
    queries: Vec<f32>,
    keys: Vec<f32>,
    values: Vec<f32>,
}

#[derive(Clone, Copy)]
struct Case {
    shape: AttentionShape,
    window: Option<usize>,
    dtype: KvDtype,
    simd: SimdLevel,
}

impl Case {
    fn query_width(&self) -> usize {
        self.shape.heads * self.shape.head_dim
    }

    fn kv_width(&self) -> usize {
        self.shape.kv_heads * self.shape.head_dim
    }

    fn sequence(&self, length: usize, seed: usize) -> Sequence {
        Sequence {
            length,
            // Large enough that softmax is far from even.
            queries: values(length * self.query_width(), seed).iter().map(|x| 4.0 * x).collect(),
            keys: values(length * self.kv_width(), seed + 1),
            values: values(length * self.kv_width(), seed + 2),
        }
    }

    /// Computes `sequences` in steps, each a list of (sequence, rows); the outputs of each sequence.
    fn run(
        &self,
        sequences: &[Sequence],
        pages: &[Vec<PageId>],
        steps: &[Vec<(usize, usize)>],
        threads: usize,
    ) -> Vec<Vec<f32>> {
        let team = ThreadTeam::new(threads).unwrap();
        let pool = pages.iter().flatten().map(|page| page.0 as usize + 1).max().unwrap();
        let AttentionShape { kv_heads, head_dim, .. } = self.shape;
        let shape = KvShape { dtype: self.dtype, layers: 2, kv_heads, head_dim };
        let mut cache = KvCache::new(shape, pool).unwrap();
        let mut plan = AttentionPlan::new(self.shape, pool).unwrap();
        let mut scratch = AttentionScratch::default();
        let mut done = vec![0; sequences.len()];
        let mut outputs: Vec<Vec<f32>> = vec![Vec::new(); sequences.len()];
        for step in steps {
            let (mut queries, mut keys, mut values) = (Vec::new(), Vec::new(), Vec::new());
            for (index, rows) in step {
                let (sequence, range) = (&sequences[*index], done[*index]..done[*index] + rows);
                let of = |data: &[f32], width: usize| data[range.start * width..range.end * width].to_vec();
                queries.extend(of(&sequence.queries, self.query_width()));
                keys.extend(of(&sequence.keys, self.kv_width()));
                values.extend(of(&sequence.values, self.kv_width()));
            }
            let rows = step.iter().map(|(index, rows)| SequenceRows {
                rows: *rows,
                start: done[*index],
                pages: &pages[*index],
            });
            plan.set(rows, threads).unwrap();
            cache.write(1, plan.writes(), &keys, &values, self.simd, &team);
            let mut out = vec![f32::NAN; queries.len()];
            let call = AttentionCall {
                plan: &plan,
                cache: &cache,
                layer: 1,
                window: self.window,
                queries: &queries,
            };
            let results = AttentionOutputs { rows: &mut out, log_sums: None };
            attend(&call, results, &mut scratch, self.simd, &team);
            let mut rest = out.as_slice();
            for (index, rows) in step {
                let (own, others) = rest.split_at(rows * self.query_width());
                outputs[*index].extend_from_slice(own);
                done[*index] += rows;
                rest = others;
            }
        }
        outputs
    }

    fn alone_and_whole(&self, sequence: &Sequence) -> Vec<f32> {
        let pages = (0..sequence.length.div_ceil(PAGE_TOKENS) as u32).map(PageId).collect();
        self.run(std::slice::from_ref(sequence), &[pages], &[vec![(0, sequence.length)]], 1).remove(0)
    }

    /// The definition, in f64.
    fn exact(&self, sequence: &Sequence, position: usize, head: usize) -> Vec<f64> {
        let AttentionShape { heads, kv_heads, head_dim, scale } = self.shape;
        let kv_head = head / (heads / kv_heads);
        let query = &sequence.queries[position * self.query_width() + head * head_dim..][..head_dim];
        let first = self.window.map_or(0, |window| (position + 1).saturating_sub(window));
        let of = |data: &'_ [f32], key: usize| -> Vec<f64> {
            data[key * self.kv_width() + kv_head * head_dim..][..head_dim]
                .iter()
                .map(|x| f64::from(*x))
                .collect()
        };
        let score = |key| -> f64 {
            of(&sequence.keys, key).iter().zip(query).map(|(k, q)| k * f64::from(*q)).sum::<f64>()
                * f64::from(scale)
        };
        let scores: Vec<f64> = (first..=position).map(score).collect();
        let greatest = scores.iter().copied().fold(f64::MIN, f64::max);
        let weights: Vec<f64> = scores.iter().map(|score| (score - greatest).exp()).collect();
        let sum: f64 = weights.iter().sum();
        let mut out = vec![0.0; head_dim];
        for (index, weight) in weights.iter().enumerate() {
            for (out, value) in out.iter_mut().zip(of(&sequence.values, first + index)) {
                *out += weight / sum * value;
            }
        }
        out
    }
}

fn cases() -> Vec<Case> {
    let shape = |heads, kv_heads, head_dim: usize| AttentionShape {
        heads,
        kv_heads,
        head_dim,
        scale: 1.0 / (head_dim as f32).sqrt(),
    };
    let (f32, int8) = (KvDtype::F32, KvDtype::Int8);
    let shapes = [
        (shape(9, 3, 64), None, f32),
        (shape(9, 3, 64), Some(300), f32),
        (shape(2, 2, 80), Some(40), f32),
        (shape(5, 1, 24), None, f32),
        (shape(4, 2, 8), Some(1), f32),
        (shape(14, 2, 128), None, f32),
        (shape(13, 1, 40), Some(300), f32),
        (shape(4, 1, 256), Some(300), f32),
        (shape(9, 3, 64), None, int8),
        (shape(14, 2, 128), Some(300), int8),
        (shape(5, 1, 96), Some(40), int8),
        (shape(4, 4, 32), None, int8),
        (shape(2, 1, 256), None, int8),
    ];
    let at = |simd| shapes.into_iter().map(move |(shape, window, dtype)| Case { shape, window, dtype, simd });
    SimdLevel::available().into_iter().flat_map(at).collect()
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|value| value.to_bits()).collect()
}

#[test]
fn near_the_definition() {
    for case in cases().into_iter().filter(|case| case.simd == SimdLevel::detect()) {
        let sequence = case.sequence(330, 5);
        let out = case.alone_and_whole(&sequence);
        for position in [0, 1, 31, 32, 33, 100, 255, 256, 257, 329] {
            for head in 0..case.shape.heads {
                let start = position * case.query_width() + head * case.shape.head_dim;
                for (actual, exact) in out[start..].iter().zip(case.exact(&sequence, position, head)) {
                    // Values lie within ±1, in 8 bits with 1/254 of that beside weights in 1/510 and scores that are off.
                    // Scores in f32 are sums of as many products as heads are wide.
                    let of_sums = 5e-8 * case.shape.head_dim.max(100) as f64;
                    let bound = if case.dtype == KvDtype::F32 { of_sums } else { 0.06 };
                    assert!(
                        (f64::from(*actual) - exact).abs() <= bound,
                        "{position} {head}: {actual} not {exact}"
                    );
                }
            }
        }
    }
}

#[test]
fn every_level_has_the_bits_of_the_reference() {
    let (scalar, others): (Vec<Case>, Vec<Case>) =
        cases().into_iter().partition(|case| case.simd == SimdLevel::Scalar);
    for (index, reference) in scalar.iter().enumerate() {
        let sequence = reference.sequence(290, 9);
        let expected = bits(&reference.alone_and_whole(&sequence));
        for case in others.iter().skip(index).step_by(scalar.len()) {
            assert!(bits(&case.alone_and_whole(&sequence)) == expected, "{:?} at {}", case.shape, case.simd);
        }
    }
}

#[test]
fn batches_chunks_pages_and_threads_change_no_bit() {
    for case in cases().into_iter().filter(|case| case.simd != SimdLevel::Scalar || case.shape.head_dim <= 32)
    {
        let sequences = [case.sequence(400, 1), case.sequence(45, 2), case.sequence(333, 3)];
        let alone: Vec<Vec<u32>> =
            sequences.iter().map(|sequence| bits(&case.alone_and_whole(sequence))).collect();
        // Pages out of order and interleaved.
        let pages: Vec<Vec<PageId>> = (0..3)
            .map(|sequence| (0..19).map(|page| PageId((18 - page) * 3 + (sequence + page) % 3)).collect())
            .collect();
        let mut decode_at_the_end = vec![vec![(0, 390), (1, 40), (2, 330)]];
        decode_at_the_end.extend((0..3).map(|_| vec![(2, 1), (1, 1), (0, 1)]));
        decode_at_the_end.extend([vec![(1, 2)], vec![(0, 7)]]);
        let uneven = vec![
            vec![(0, 1)],
            vec![(1, 33), (0, 31)],
            vec![(0, 200), (2, 5), (1, 1)],
            vec![(2, 320)],
            vec![(0, 25), (1, 11)],
            vec![(2, 8), (0, 143)],
        ];
        for (steps, threads) in [(&decode_at_the_end, 1), (&decode_at_the_end, 3), (&uneven, 2), (&uneven, 3)]
        {
            let together = case.run(&sequences, &pages, steps, threads);
            for (index, (together, alone)) in together.iter().zip(&alone).enumerate() {
                assert!(bits(together) == *alone, "sequence {index}, {:?} at {}", case.shape, case.simd);
            }
        }
    }
}

#[test]
fn pages_that_do_not_fit_are_refused_and_the_plan_recovers() {
    let shape = AttentionShape { heads: 2, kv_heads: 1, head_dim: 8, scale: 1.0 };
    let mut plan = AttentionPlan::new(shape, 4).unwrap();
    let pages = |numbers: &[u32]| numbers.iter().copied().map(PageId).collect::<Vec<_>>();
    let (one, two, far) = (pages(&[1]), pages(&[0, 1]), pages(&[9]));
    let (twice, fork) = (pages(&[2, 2]), pages(&[0, 2]));
    let rows = |rows, start, pages| SequenceRows { rows, start, pages };
    let mut set = |sequences: &[SequenceRows<'_>]| plan.set(sequences.iter().copied(), 2);
    assert!(matches!(set(&[rows(33, 0, &one)]), Err(TensorError::MissingPages { needed: 2, given: 1, .. })));
    assert!(matches!(set(&[rows(1, 0, &far)]), Err(TensorError::PageOutOfRange { page: 9, .. })));
    // Written by one, read by the other.
    assert!(matches!(
        set(&[rows(1, 0, &one), rows(5, 50, &two)]),
        Err(TensorError::SharedPage { page: 1, .. })
    ));
    assert!(matches!(set(&[rows(40, 0, &twice)]), Err(TensorError::SharedPage { page: 2, .. })));
    assert!(matches!(set(&[rows(1, 40, &twice)]), Err(TensorError::SharedPage { page: 2, .. })));
    assert!(matches!(set(&[rows(1, usize::MAX, &one)]), Err(TensorError::MissingPages { .. })));
    // A full page may be shared for reading.
    assert!(set(&[rows(1, 32, &two), rows(1, 32, &fork)]).is_ok());
    assert!(set(&[rows(64, 0, &two)]).is_ok());
}

#[test]
fn what_a_former_owner_left_in_a_page_of_8_bits_does_not_matter() {
    let shape = AttentionShape { heads: 2, kv_heads: 1, head_dim: 32, scale: 0.2 };
    for simd in SimdLevel::available() {
        let case = Case { shape, window: None, dtype: KvDtype::Int8, simd };
        let fresh = case.sequence(20, 4);
        let mut poison = case.sequence(32, 5);
        poison.keys.fill(f32::NAN);
        poison.values.fill(f32::INFINITY);
        let page = vec![PageId(0)];
        let expected =
            bits(&case.run(&[case.sequence(20, 4)], std::slice::from_ref(&page), &[vec![(0, 20)]], 1)[0]);
        let steps = [vec![(0, 32)], vec![(1, 7)], vec![(1, 13)]];
        let after = case.run(&[poison, fresh], &[page.clone(), page], &steps, 1);
        assert!(bits(&after[1]) == expected, "{simd}");
        assert!(after[0].iter().all(|value| value.is_nan()), "{simd}: NaN in keys must show");
    }
}

#[test]
fn heads_that_8_bits_cannot_keep_are_refused() {
    let shape = KvShape { dtype: KvDtype::Int8, layers: 1, kv_heads: 1, head_dim: 80 };
    let refused = KvCache::new(shape, 1).unwrap_err();
    assert!(
        matches!(refused, TensorError::KvHeadDim { head_dim: 80, multiple_of: 32, at_most: 256 }),
        "{refused}"
    );
}

#[test]
fn heads_that_cannot_be_computed_are_refused() {
    for (heads, kv_heads, head_dim) in [(3, 2, 8), (2, 0, 8), (0, 1, 8), (2, 1, 12), (2, 1, 0)] {
        let shape = AttentionShape { heads, kv_heads, head_dim, scale: 1.0 };
        assert!(matches!(AttentionPlan::new(shape, 1), Err(TensorError::HeadShape { .. })));
    }
}

/// Regression: one part took all items, so that workers that had entered the run of a long text stayed in it while a chat computed.
#[test]
fn in_the_background_every_part_is_one_item_and_no_bit_changes() {
    let team = ThreadTeam::new(3).unwrap();
    assert_eq!(division(40, 3), (3, usize::MAX));
    assert_eq!(team.in_background(|| division(40, 3)), (40, 1));
    for case in cases() {
        // Long enough for several splits and blocks.
        for (length, steps) in [(300, vec![vec![(0, 300)]]), (290, vec![vec![(0, 289)], vec![(0, 1)]])] {
            let sequence = case.sequence(length, 3);
            let expected = case.alone_and_whole(&sequence);
            let pages: Vec<PageId> = (0..length.div_ceil(PAGE_TOKENS) as u32).map(PageId).collect();
            let run = || case.run(std::slice::from_ref(&sequence), &[pages], &steps, 3).remove(0);
            assert_eq!(team.in_background(run), expected);
        }
    }
}
