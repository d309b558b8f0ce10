//! Speed of the matrix product on the shapes of a small model, as fractions of what this machine could do at most.
//!
//! `cargo bench -p zhenjin-tensor --bench linear -- [--threads N] [--simd LEVEL] [TYPE …]`

#![allow(clippy::print_stdout, reason = "a benchmark prints its results")]

use std::time::{Duration, Instant};
use zhenjin_tensor::linear::peak;
use zhenjin_tensor::{
    ComputeOptions, Dtype, Matrix, MatrixMemory, Product, QuantisedRows, SimdLevel, ThreadTeam, linear,
};

/// Outputs and inputs of the matrices of one layer of SmolLM2-135M (those that share an input together).
const LAYER: [(&[usize], usize); 4] =
    [(&[576, 192, 192], 576), (&[576], 576), (&[1536, 1536], 576), (&[576], 1536)];
/// Outputs and inputs of a large matrix.
const HEAD: [(&[usize], usize); 1] = [(&[49152], 576)];
/// Layers, each with its own weights, so that they come from memory as in a model.
const LAYERS: usize = 30;
const ROWS: [usize; 8] = [1, 2, 4, 8, 16, 32, 64, 512];

struct Machine {
    integer: f64,
    float: f64,
    memory: f64,
}

fn main() {
    let (mut threads, mut simd) = (Some(2), None);
    let mut dtypes = Vec::new();
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().expect("a value after the option");
        match argument.as_str() {
            "--bench" => {}
            "--threads" => threads = Some(value().parse().expect("a number of threads")),
            "--simd" => simd = Some(value()),
            name => dtypes.push(
                Dtype::ALL
                    .into_iter()
                    .find(|dtype| dtype.name() == name)
                    .expect("an element type, such as Q4_1"),
            ),
        }
    }
    if dtypes.is_empty() {
        dtypes = Dtype::ALL.to_vec();
    }
    let compute = ComputeOptions::resolve(simd.as_deref(), threads).expect("instructions and threads");
    let ComputeOptions { simd, threads } = compute;
    let team = compute.start_team().expect("threads");
    let machine = Machine {
        integer: peak::integer_operations(simd, &team).expect("a supported instruction set"),
        float: peak::float_operations(simd, &team).expect("a supported instruction set"),
        memory: peak::read_bytes(simd, &vec![1; 32 << 20], &team).expect("a supported instruction set"),
    };
    let Machine { integer, float, memory } = machine;
    println!(
        "{simd}, {threads} threads: {:.0} integer GOP/s, {:.0} GFLOP/s, {:.1} GB/s from memory",
        integer / 1e9,
        float / 1e9,
        memory / 1e9
    );
    println!(
        "{:<6}{:<8}{:>6}{:>12}{:>10}{:>8}{:>10}{:>8}",
        "type", "shapes", "rows", "µs", "GOP/s", "peak", "GB/s", "peak"
    );
    for dtype in dtypes {
        layers(dtype, "layer", &LAYER, LAYERS, simd, &team, &machine);
        layers(dtype, "head", &HEAD, 1, simd, &team, &machine);
    }
}

fn layers(
    dtype: Dtype,
    name: &str,
    shapes: &[(&[usize], usize)],
    layers: usize,
    simd: SimdLevel,
    team: &ThreadTeam,
    machine: &Machine,
) {
    let memory = MatrixMemory::new();
    let mut matrices: Vec<(Vec<Matrix>, usize)> = Vec::new();
    for _ in 0..layers {
        for (outputs, columns) in shapes {
            // K types need columns in multiples of 256.
            let columns = columns.next_multiple_of(dtype.block_elements());
            let pack = |&outputs: &usize| {
                let bytes = vec![0x31; dtype.bytes(outputs * columns).expect("whole blocks")];
                Matrix::pack_into(&memory, dtype, outputs, columns, &bytes, simd, team).expect("a matrix")
            };
            matrices.push((outputs.iter().map(pack).collect(), columns));
        }
    }
    let weights: usize = matrices.iter().flat_map(|(group, _)| group).map(|m| m.rows() * m.columns()).sum();
    let bytes: usize = matrices.iter().flat_map(|(group, _)| group).map(Matrix::bytes).sum();
    let all_layers = matrices;
    for rows in ROWS {
        // Short measurements find the moments when nothing else runs; with many rows the caches do not matter.
        let matrices =
            if rows > 32 { &all_layers[..all_layers.len().min(LAYER.len())] } else { &all_layers[..] };
        let share = matrices.len() as f64 / all_layers.len() as f64;
        if name == "head" && rows > 32 {
            continue;
        }
        let mut quantised = QuantisedRows::new();
        let mut outputs = vec![vec![0.0; rows * 49152]; 3];
        let mut input = vec![0.5; rows * 1536];
        for (i, value) in input.iter_mut().enumerate() {
            *value = (i % 17) as f32 - 8.0;
        }
        let seconds = best(|| {
            for (group, columns) in matrices {
                let mut products: Vec<Product<'_>> = group
                    .iter()
                    .zip(&mut outputs)
                    .map(|(matrix, output)| Product { matrix, output: &mut output[..rows * matrix.rows()] })
                    .collect();
                linear(team, &input[..rows * columns], rows, &mut quantised, &mut products)
                    .expect("a product");
            }
        });
        let operations = 2.0 * weights as f64 * share * rows as f64 / seconds;
        let peak = if dtype.is_quantised() { machine.integer } else { machine.float };
        println!(
            "{:<6}{name:<8}{rows:>6}{:>12.0}{:>10.1}{:>7.0}%{:>10.1}{:>7.0}%",
            dtype.name(),
            seconds * 1e6,
            operations / 1e9,
            100.0 * operations / peak,
            bytes as f64 * share / seconds / 1e9,
            100.0 * bytes as f64 * share / seconds / machine.memory,
        );
    }
}

/// The shortest of the times that `work` takes, over at least half a second.
fn best(mut work: impl FnMut()) -> f64 {
    let start = Instant::now();
    let mut shortest = f64::INFINITY;
    while start.elapsed() < Duration::from_millis(700) {
        let start = Instant::now();
        work();
        shortest = shortest.min(start.elapsed().as_secs_f64());
    }
    shortest
}
