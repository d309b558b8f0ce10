//! Speed of the products of training in f32, forward and backward, on the shapes of small models, as fractions of what this
//! machine could do at most.
//!
//! `cargo bench -p zhenjin-tensor --bench training -- [--threads N] [--simd LEVEL] [--only NAME]`

#![allow(clippy::print_stdout, reason = "a benchmark prints its results")]

use std::time::{Duration, Instant};
use zhenjin_tensor::linear::backward::{BackwardScratch, input_gradient, weight_gradient};
use zhenjin_tensor::linear::peak;
use zhenjin_tensor::{
    ComputeOptions, Dtype, Matrix, Product, QuantisedRows, TensorError, ThreadTeam, linear,
};

/// A model's products: rows of a micro-batch, and inputs and outputs of its matrices.
struct Shapes {
    name: &'static str,
    rows: usize,
    matrices: &'static [(usize, usize)],
}

const SHAPES: [Shapes; 3] = [
    Shapes { name: "6 × 256", rows: 4096, matrices: &[(256, 256), (256, 704), (704, 256)] },
    Shapes { name: "8 × 512", rows: 2048, matrices: &[(512, 512), (512, 1408), (1408, 512)] },
    Shapes {
        name: "SmolLM2-135M",
        rows: 1024,
        matrices: &[(576, 576), (576, 192), (576, 1536), (1536, 576)],
    },
];

fn main() -> Result<(), TensorError> {
    let (mut threads, mut simd, mut only) = (Some(2), None, None);
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().expect("a value after the option");
        match argument.as_str() {
            "--threads" => threads = Some(value().parse().expect("a number of threads")),
            "--simd" => simd = Some(value()),
            "--only" => only = Some(value()),
            _ => {}
        }
    }
    let compute = ComputeOptions::resolve(simd.as_deref(), threads)?;
    let team = compute.start_team()?;
    let peak = peak::float_operations(compute.simd, &team)?;
    println!("{}, {} threads: {:.0} GFLOP/s", compute.simd, compute.threads, peak / 1e9);
    println!(
        "{:<14}{:>6}{:>8}{:>8}{:>16}{:>16}{:>16}",
        "model", "rows", "inputs", "outputs", "forward", "dX", "dW"
    );
    for shapes in SHAPES.iter().filter(|shapes| only.as_ref().is_none_or(|only| shapes.name.contains(only))) {
        for &(inputs, outputs) in shapes.matrices {
            let speeds = products(&compute, &team, shapes.rows, inputs, outputs)?;
            let columns =
                speeds.map(|speed| format!("{:>9.0} ({:>3.0}%)", speed / 1e9, 100.0 * speed / peak));
            println!("{:<14}{:>6}{inputs:>8}{outputs:>8}{}", shapes.name, shapes.rows, columns.concat());
        }
    }
    Ok(())
}

/// Operations per second of the product forward, of the gradient of its input and of the gradient of its weights.
fn products(
    compute: &ComputeOptions,
    team: &ThreadTeam,
    rows: usize,
    inputs: usize,
    outputs: usize,
) -> Result<[f64; 3], TensorError> {
    let values = |count: usize| -> Vec<f32> { (0..count).map(|i| (i % 17) as f32 * 0.1 - 0.8).collect() };
    let bytes: Vec<u8> = values(inputs * outputs).iter().flat_map(|value| value.to_le_bytes()).collect();
    let matrix = Matrix::pack(Dtype::F32, outputs, inputs, &bytes, compute.simd, team)?;
    let (input, mut output) = (values(rows * inputs), values(rows * outputs));
    let mut weights = vec![0.0; outputs.next_multiple_of(16) * inputs];
    let mut quantised = QuantisedRows::new();
    let forward = best(|| {
        let mut products = [Product { matrix: &matrix, output: &mut output }];
        linear(team, &input, rows, &mut quantised, &mut products)
    })?;
    let (output, mut input_gradients) = (values(rows * outputs), values(rows * inputs));
    let mut scratch = BackwardScratch::default();
    let backward =
        best(|| input_gradient(team, &output, rows, &matrix, &mut scratch, &mut input_gradients, false))?;
    let weight = best(|| weight_gradient(team, compute.simd, &output, &input, rows, &mut weights))?;
    let operations = 2.0 * (rows * inputs * outputs) as f64;
    Ok([forward, backward, weight].map(|seconds| operations / seconds))
}

/// The shortest of the times that `work` takes.
fn best(mut work: impl FnMut() -> Result<(), TensorError>) -> Result<f64, TensorError> {
    let start = Instant::now();
    let mut shortest = f64::INFINITY;
    while start.elapsed() < Duration::from_millis(400) {
        let start = Instant::now();
        work()?;
        shortest = shortest.min(start.elapsed().as_secs_f64());
    }
    Ok(shortest)
}
