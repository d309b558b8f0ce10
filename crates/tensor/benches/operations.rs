//! Speed of attention and of the small operations on the shapes of a small model, as fractions of what this machine
//! could do at most. The products are in `linear.rs`.
//!
//! `cargo bench -p zhenjin-tensor --bench operations -- [--threads N] [--simd LEVEL] [--kv-cache-dtype f32|int8]`

#![allow(clippy::print_stdout, reason = "a benchmark prints its results")]

use std::sync::Arc;
use std::time::{Duration, Instant};

use zhenjin_tensor::linear::peak;
use zhenjin_tensor::{
    Activations, AttentionShape, ComputeOptions, DirectExecutor, Dtype, Executor, GateActivation, Gradients,
    KvCache, KvDtype, KvShape, Matrix, PAGE_TOKENS, PageId, ParameterId, ParameterSource, Recorded,
    RecordingExecutor, RotaryFrequencies, RotaryLayout, SequenceRows, SimdLevel, TensorError, ThreadTeam,
    Vector, log_sum_exp,
};

/// The heads of SmolLM2-135M.
const SHAPE: AttentionShape = AttentionShape { heads: 9, kv_heads: 3, head_dim: 64, scale: 0.125 };
const HIDDEN: usize = 576;
const INTERMEDIATE: usize = 1536;
const VOCABULARY: usize = 49_152;
const LONGEST: usize = 4096;
/// Gated products by their names.
const ACTIVATIONS: [(&str, GateActivation); 2] =
    [("swiglu", GateActivation::Silu), ("geglu", GateActivation::GeluTanh)];

fn main() -> Result<(), TensorError> {
    let (mut threads, mut simd, mut dtype) = (Some(2), None, KvDtype::F32);
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().expect("a value after the option");
        match argument.as_str() {
            "--threads" => threads = Some(value().parse().expect("a number of threads")),
            "--kv-cache-dtype" => dtype = value().parse().expect("f32 or int8"),
            "--simd" => simd = Some(value()),
            _ => {}
        }
    }
    let compute = ComputeOptions::resolve(simd.as_deref(), threads)?;
    let ComputeOptions { simd, threads } = compute;
    let team = Arc::new(compute.start_team()?);
    let float = peak::float_operations(simd, &team)?;
    let memory = peak::read_bytes(simd, &vec![1; 32 << 20], &team)?;
    println!("{simd}, {threads} threads: {:.0} GFLOP/s, {:.1} GB/s from memory", float / 1e9, memory / 1e9);

    let shape = KvShape { dtype, layers: 1, kv_heads: SHAPE.kv_heads, head_dim: SHAPE.head_dim };
    let cache = KvCache::new(shape, 32 * LONGEST / PAGE_TOKENS)?;
    let executor = DirectExecutor::new(cache, SHAPE, simd, Arc::clone(&team))?;
    let mut bench = Bench { executor, float, memory, simd, team };
    println!("{:<34}{:>12}{:>10}{:>8}{:>10}{:>8}", "operation", "µs", "GFLOP/s", "peak", "GB/s", "peak");
    for length in [128, 512, 2048, LONGEST] {
        bench.attention(&format!("prefill, {length} tokens"), 1, 0, length)?;
    }
    bench.attention("prefill, 256 tokens after 3,840", 1, LONGEST - 256, 256)?;
    for (sequences, context) in [(1, 128), (1, 512), (1, LONGEST), (16, 128), (32, 1024)] {
        bench.attention(&format!("decode, {sequences} × {context} tokens"), sequences, context - 1, 1)?;
    }
    for rows in [1, 512] {
        bench.small_operations(rows)?;
    }
    for (documents, rows) in [(16, 128), (8, 256), (2, 512), (1, 2048)] {
        bench.gradients(documents, rows)?;
    }
    Ok(())
}

/// The operations measured have no parameters.
struct NoParameters;

impl ParameterSource for NoParameters {
    fn matrix(&self, _: ParameterId) -> Option<&Matrix> {
        None
    }

    fn vector(&self, _: ParameterId) -> Option<&Vector> {
        None
    }
}

/// What is recorded of three tensors of heads and one of the feed-forward network's width.
type Recording<'a> = dyn Fn(&mut RecordingExecutor, [Recorded; 3]) -> Result<Recorded, TensorError> + 'a;

struct Bench {
    executor: DirectExecutor,
    team: Arc<ThreadTeam>,
    simd: SimdLevel,
    float: f64,
    memory: f64,
}

impl Bench {
    /// Attention of `rows` new rows in each of `sequences` sequences that have `start` positions already.
    fn attention(
        &mut self,
        name: &str,
        sequences: usize,
        start: usize,
        rows: usize,
    ) -> Result<(), TensorError> {
        let per_sequence = (start + rows).div_ceil(PAGE_TOKENS);
        let pages: Vec<PageId> = (0..(sequences * per_sequence) as u32).map(PageId).collect();
        let sequence = |pages| SequenceRows { rows, start, pages };
        let no_rotation =
            RotaryFrequencies { radians: vec![], magnitude: 1.0, layout: RotaryLayout::HalfSplit };
        self.executor.begin(pages.chunks(per_sequence).map(sequence), &[no_rotation])?;
        let all = sequences * rows;
        let (query_width, kv_width) = (SHAPE.heads * SHAPE.head_dim, SHAPE.kv_heads * SHAPE.head_dim);
        let seen: usize = (start + 1..=start + rows).sum::<usize>() * sequences;
        let operations = 4 * query_width * seen;
        let bytes = 2 * kv_width * size_of::<f32>() * (start + rows) * sequences;
        let (queries, keys) = (self.table(all, query_width)?, self.table(all, kv_width)?);
        let tokens: Vec<u32> = (0..all as u32).collect();
        self.report(name, operations, bytes, |executor| {
            let [q, k, v] = [&queries, &keys, &keys].map(|table| executor.embedding(table, &tokens));
            let (q, k, v) = (q?, k?, v?);
            let timer = Instant::now();
            let out = executor.attention(0, SHAPE, None, q, k, v)?;
            let elapsed = timer.elapsed();
            executor.discard(out);
            Ok(elapsed)
        })
    }

    /// Backward passes over documents of so many rows.
    fn gradients(&mut self, documents: usize, rows: usize) -> Result<(), TensorError> {
        let all = documents * rows;
        let (query_width, kv_width) = (SHAPE.heads * SHAPE.head_dim, SHAPE.kv_heads * SHAPE.head_dim);
        let seen = rows * (rows + 1) / 2 * documents;
        let lengths = vec![rows; documents];
        let name = |operation: &str| format!("{operation} back, {documents} × {rows} rows");
        let widths = [query_width, kv_width, kv_width];
        let bytes = 2 * (query_width + 2 * kv_width) * all * size_of::<f32>();
        let operations = 10 * query_width * seen;
        self.gradient(&name("attention"), &lengths, widths, (operations, bytes), &|executor, [q, k, v]| {
            executor.attention(0, SHAPE, None, q, k, v)
        })?;
        let bytes = 5 * INTERMEDIATE * all * size_of::<f32>();
        for (operation, activation) in ACTIVATIONS {
            self.gradient(
                &name(operation),
                &lengths,
                [INTERMEDIATE; 3],
                (0, bytes),
                &|executor, [gate, up, rest]| {
                    executor.discard(rest);
                    executor.gated(activation, gate, up)
                },
            )?;
        }
        Ok(())
    }

    fn gradient(
        &mut self,
        name: &str,
        lengths: &[usize],
        widths: [usize; 3],
        (operations, bytes): (usize, usize),
        record: &Recording<'_>,
    ) -> Result<(), TensorError> {
        let mut executor = RecordingExecutor::new(SHAPE, self.simd, Arc::clone(&self.team))?;
        let no_rotation =
            [RotaryFrequencies { radians: vec![], magnitude: 1.0, layout: RotaryLayout::HalfSplit }];
        let rows: usize = lengths.iter().sum();
        let tokens: Vec<u32> = (0..rows as u32).collect();
        let tables =
            [self.table(rows, widths[0])?, self.table(rows, widths[1])?, self.table(rows, widths[2])?];
        let mut gradients = Gradients::new(&[])?;
        self.report(name, operations, bytes, |_| {
            executor.begin_packed(lengths, &no_rotation)?;
            let [a, b, c] = [0, 1, 2].map(|index| executor.direct().embedding(&tables[index], &tokens));
            let inputs = [a?, b?, c?].map(|values| executor.input(values).0);
            let out = record(&mut executor, inputs)?;
            let gradient = executor.direct().embedding(&tables[0], &tokens)?;
            executor.set_gradient(out, gradient)?;
            let timer = Instant::now();
            executor.backward(&NoParameters, &mut gradients)?;
            Ok(timer.elapsed())
        })
    }

    fn small_operations(&mut self, rows: usize) -> Result<(), TensorError> {
        let tokens: Vec<u32> = (0..rows as u32).collect();
        let pages: Vec<PageId> = (0..rows.div_ceil(PAGE_TOKENS) as u32).map(PageId).collect();
        let radians = (0..SHAPE.head_dim / 2).map(|pair| 1.0 / (1 + pair) as f64).collect();
        let rotary = [RotaryFrequencies { radians, magnitude: 1.0, layout: RotaryLayout::Interleaved }];
        let sequence = SequenceRows { rows, start: 0, pages: &pages };
        self.executor.begin(std::iter::once(sequence), &rotary)?;
        let (hidden, wide) = (self.table(rows, HIDDEN)?, self.table(rows, INTERMEDIATE)?);
        let weight = Vector::from(vec![1.0; HIDDEN]);
        let timed = |executor: &mut DirectExecutor, tables: [&Matrix; 2], operation: &Operation<'_>| {
            let [a, b] = tables.map(|table| executor.embedding(table, &tokens));
            let (a, b) = (a?, b?);
            let timer = Instant::now();
            let out = operation(executor, a, b)?;
            let elapsed = timer.elapsed();
            out.into_iter().for_each(|tensor| executor.discard(tensor));
            Ok(elapsed)
        };
        let narrow = rows * HIDDEN * size_of::<f32>();
        let broad = rows * INTERMEDIATE * size_of::<f32>();
        self.report(&format!("rms_norm, {rows} rows"), 0, 2 * narrow, |executor| {
            timed(executor, [&hidden, &hidden], &|executor, a, b| {
                Ok(vec![executor.rms_norm(&a, &weight, 1e-5)?, a, b])
            })
        })?;
        self.report(&format!("rope, {rows} rows"), 0, 2 * narrow, |executor| {
            timed(executor, [&hidden, &hidden], &|executor, a, b| {
                Ok(vec![executor.rope(a, SHAPE.head_dim, 0)?, b])
            })
        })?;
        self.report(&format!("add, {rows} rows"), 0, 3 * narrow, |executor| {
            timed(executor, [&hidden, &hidden], &|executor, a, b| Ok(vec![executor.add(a, b)?]))
        })?;
        self.report(&format!("scale, {rows} rows"), 0, 2 * narrow, |executor| {
            timed(executor, [&hidden, &hidden], &|executor, a, b| Ok(vec![executor.scale(a, 0.5)?, b]))
        })?;
        for (name, activation) in ACTIVATIONS {
            self.report(&format!("{name}, {rows} rows"), 0, 3 * broad, |executor| {
                timed(executor, [&wide, &wide], &|executor, a, b| Ok(vec![executor.gated(activation, a, b)?]))
            })?;
        }
        let (simd, logits) = (self.simd, vec![0.5; VOCABULARY]);
        self.report("log_sum_exp, one row of logits", 0, VOCABULARY * size_of::<f32>(), |_| {
            let timer = Instant::now();
            std::hint::black_box(log_sum_exp(simd, std::hint::black_box(&logits)));
            Ok(timer.elapsed())
        })
    }

    /// A matrix whose rows are values between −1 and 1, from which `embedding` makes activations.
    fn table(&self, rows: usize, width: usize) -> Result<Matrix, TensorError> {
        let value = |index: usize| (index * 7919 % 2003) as f32 / 1001.5 - 1.0;
        let bytes: Vec<u8> = (0..rows * width).flat_map(|index| value(index).to_le_bytes()).collect();
        Matrix::pack(Dtype::F32, rows, width, &bytes, self.simd, &ThreadTeam::new(1)?)
    }

    fn report(
        &mut self,
        name: &str,
        operations: usize,
        bytes: usize,
        mut run: impl FnMut(&mut DirectExecutor) -> Result<Duration, TensorError>,
    ) -> Result<(), TensorError> {
        // The best of many: short measurements find the moments when nothing else runs.
        let begin = Instant::now();
        let (mut best, mut tries) = (Duration::MAX, 0);
        while tries < 5 || (begin.elapsed() < Duration::from_millis(600) && tries < 2000) {
            best = best.min(run(&mut self.executor)?);
            tries += 1;
        }
        let seconds = best.as_secs_f64().max(1e-9);
        let (operations, bytes) = (operations as f64 / seconds, bytes as f64 / seconds);
        println!(
            "{name:<34}{:>12.1}{:>10.1}{:>7.0}%{:>10.1}{:>7.0}%",
            seconds * 1e6,
            operations / 1e9,
            100.0 * operations / self.float,
            bytes / 1e9,
            100.0 * bytes / self.memory
        );
        Ok(())
    }
}

/// An operation on two tensors; all tensors are returned, so that their memory can be used again.
type Operation<'a> =
    dyn Fn(&mut DirectExecutor, Activations, Activations) -> Result<Vec<Activations>, TensorError> + 'a;
