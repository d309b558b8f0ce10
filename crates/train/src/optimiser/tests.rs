//! Optimisers against small independent references in f64, published ranges, and themselves in shards and on more threads.

use zhenjin_model::testing::tiny_config;
use zhenjin_tensor::{Dtype, Matrix, SimdLevel, ThreadTeam};

use super::*;
use crate::configuration::{Configuration, Orthogonaliser, Overrides};

fn options(kind: OptimiserKind) -> OptimiserSection {
    let mut options = Configuration::resolve(2, 96, &Overrides::new()).expect("the dial").optimiser;
    options.kind = kind;
    (options.learning_rate, options.embedding_learning_rate, options.muon_learning_rate) = (3e-3, 1e-2, 2e-2);
    options
}

/// Even between −1 and 1, a function of the two numbers.
fn noise(seed: u64, index: u64) -> f32 {
    let mut mixed = (seed << 32 | index).wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    ((mixed ^ (mixed >> 31)) >> 40) as f32 / (1 << 23) as f32 - 1.0
}

/// Random values of a parameter in packed order, 0 in rows that do not exist.
fn random(description: &Description, seed: u64) -> Vec<f32> {
    let exists = |index: usize| match description.matrix {
        Some((rows, columns)) => index / (TILE_ROWS * columns) * TILE_ROWS + index % TILE_ROWS < rows,
        None => true,
    };
    (0..description.elements)
        .map(|index| if exists(index) { noise(seed, index as u64) } else { 0.0 })
        .collect()
}

/// The values of a model after some updates by random gradients.
fn run(
    optimiser: &mut [Optimiser],
    config: &zhenjin_model::ModelConfig,
    updates: u64,
    threads: usize,
) -> Vec<Vec<f32>> {
    let team = ThreadTeam::new(threads).expect("threads");
    let descriptions = describe(config, optimiser[0].options.kind);
    let mut values: Vec<Vec<f32>> = descriptions
        .iter()
        .enumerate()
        .map(|(index, description)| random(description, index as u64))
        .collect();
    for update in 0..updates {
        let seed = |index: usize| 1000 * (update + 1) + index as u64;
        let gradients: Vec<Vec<f32>> = descriptions
            .iter()
            .enumerate()
            .map(|(index, description)| random(description, seed(index)))
            .collect();
        for optimiser in &mut *optimiser {
            let parameters = values.iter_mut().zip(&gradients);
            let parameters = parameters.map(|(values, gradient)| Parameter { values, gradient }).collect();
            let numbers = StepNumbers { gradient_factor: 0.25, rate_factor: 0.5 };
            optimiser.step(parameters, numbers, &team).expect("an update");
        }
    }
    values
}

#[test]
fn adamw_is_the_algorithm_of_the_paper() {
    let config = tiny_config();
    let options = options(OptimiserKind::Adamw);
    let values = run(&mut [Optimiser::new(&config, &options).expect("memory")], &config, 7, 1);
    for (index, description) in describe(&config, OptimiserKind::Adamw).iter().enumerate() {
        let start = random(description, index as u64);
        let (rate, decay) = match description.rule {
            Rule::Embedding => (1e-2, 0.0),
            Rule::Vector => (3e-3, 0.0),
            _ => (3e-3, options.weight_decay),
        };
        for (element, start) in start.iter().enumerate().step_by(17) {
            let (mut value, mut first, mut second) = (f64::from(*start), 0.0f64, 0.0f64);
            for update in 1..=7 {
                let gradient = random(description, 1000 * update + index as u64)[element];
                let gradient = 0.25 * f64::from(gradient);
                value -= 0.5 * rate * decay * value;
                first = options.beta1 * first + (1.0 - options.beta1) * gradient;
                second = options.beta2 * second + (1.0 - options.beta2) * gradient * gradient;
                let mean = first / (1.0 - options.beta1.powi(update as i32));
                let spread = second / (1.0 - options.beta2.powi(update as i32));
                value -= 0.5 * rate * mean / (spread.sqrt() + options.epsilon);
            }
            let found = f64::from(values[index][element]);
            assert!((found - value).abs() < 2e-6, "{} [{element}]: {found} for {value}", description.name);
        }
    }
}

/// Muon in f64, matrix by matrix, as plainly as it can be written.
fn reference_muon(
    options: &OptimiserSection,
    shape: (usize, usize),
    mut values: Vec<f64>,
    gradients: &[Vec<f64>],
) -> Vec<f64> {
    let (rows, columns) = shape;
    let multiply = |a: &[f64], b: &[f64], n: usize, k: usize, m: usize| -> Vec<f64> {
        let entry = |i: usize, j: usize| (0..k).map(|l| a[i * k + l] * b[l * m + j]).sum();
        (0..n * m).map(|index| entry(index / m, index % m)).collect()
    };
    let transpose = |a: &[f64], n: usize, m: usize| -> Vec<f64> {
        (0..n * m).map(|index| a[index % n * m + index / n]).collect()
    };
    let mut momentum = vec![0.0; rows * columns];
    for gradient in gradients {
        let mut update = Vec::new();
        for (momentum, gradient) in momentum.iter_mut().zip(gradient) {
            *momentum = options.momentum * *momentum + (1.0 - options.momentum) * gradient;
            update.push((1.0 - options.momentum) * gradient + options.momentum * *momentum);
        }
        let norm = update.iter().map(|value| value * value).sum::<f64>().sqrt();
        let (norm, coefficients) = match options.orthogonaliser {
            Orthogonaliser::NewtonSchulz => (norm, QUINTIC),
            Orthogonaliser::PolarExpress => (1.02 * norm, POLAR_EXPRESS),
        };
        update.iter_mut().for_each(|value| *value /= norm);
        for [a, b, c] in coefficients {
            let gram = multiply(&update, &transpose(&update, rows, columns), rows, columns, rows);
            let cubic = multiply(&gram, &update, rows, rows, columns);
            let quintic = multiply(&gram, &cubic, rows, rows, columns);
            for ((value, cubic), quintic) in update.iter_mut().zip(cubic).zip(quintic) {
                *value = a * *value + b * cubic + c * quintic;
            }
        }
        let rate = 0.5 * options.muon_learning_rate;
        let scale = (rows as f64 / columns as f64).max(1.0).sqrt();
        for (value, update) in values.iter_mut().zip(update) {
            *value = (1.0 - rate * options.weight_decay) * *value - rate * scale * update;
        }
    }
    values
}

fn row_major(description: &Description, packed: &[f32]) -> Vec<f64> {
    let (rows, columns) = description.matrix.expect("a matrix");
    let place = |index: usize| {
        let (row, column) = (index / columns, index % columns);
        (row / TILE_ROWS * columns + column) * TILE_ROWS + row % TILE_ROWS
    };
    (0..rows * columns).map(|index| f64::from(packed[place(index)])).collect()
}

#[test]
fn muon_is_the_plain_algorithm_for_wide_and_tall_matrices_and_odd_sizes() {
    // 72 = 4.5 tiles of 16 rows.
    let config = zhenjin_model::ModelConfig { intermediate_size: 72, ..tiny_config() };
    for orthogonaliser in [Orthogonaliser::NewtonSchulz, Orthogonaliser::PolarExpress] {
        let options = OptimiserSection { orthogonaliser, ..options(OptimiserKind::Muon) };
        let values = run(&mut [Optimiser::new(&config, &options).expect("memory")], &config, 3, 1);
        let descriptions = describe(&config, OptimiserKind::Muon);
        let mut shapes = std::collections::BTreeSet::new();
        for (index, description) in descriptions.iter().enumerate() {
            let (Rule::Muon, Some(shape)) = (description.rule, description.matrix) else { continue };
            if !shapes.insert(shape) {
                continue;
            }
            let start = row_major(description, &random(description, index as u64));
            let gradient = |update: u64| {
                let packed = random(description, 1000 * update + index as u64);
                row_major(description, &packed).into_iter().map(|value| 0.25 * value).collect::<Vec<_>>()
            };
            let gradients: Vec<_> = (1..=3).map(gradient).collect();
            let expected = reference_muon(&options, shape, start, &gradients);
            let found = row_major(description, &values[index]);
            let error = expected.iter().zip(&found).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
            assert!(error < 5e-6, "{} {shape:?}, {orthogonaliser:?}: {error}", description.name);
            let padding = &values[index];
            let (rows, columns) = shape;
            for (place, value) in padding.iter().enumerate() {
                let row = place / (TILE_ROWS * columns) * TILE_ROWS + place % TILE_ROWS;
                assert!(row < rows || *value == 0.0, "a row that does not exist has changed");
            }
        }
        assert!(shapes.iter().any(|(rows, columns)| rows > columns) && shapes.len() >= 4, "{shapes:?}");
    }
}

#[test]
fn published_ranges_of_singular_values_hold() {
    for (coefficients, from, low, high) in
        [(QUINTIC, 0.01, 0.682, 1.134), (POLAR_EXPRESS, 0.001, 0.859, 1.141)]
    {
        let ends = (0..=100_000).map(|index| {
            let start = from + (1.0 - from) * f64::from(index) / 100_000.0;
            coefficients.iter().fold(start, |x, [a, b, c]| a * x + b * x.powi(3) + c * x.powi(5))
        });
        let (least, most) =
            ends.fold((f64::MAX, 0.0f64), |(least, most), end| (least.min(end), most.max(end)));
        assert!(
            (least - low).abs() < 1e-3 && (most - high).abs() < 1e-3,
            "{least} to {most}, not {low} to {high}"
        );
    }
}

#[test]
fn a_diagonal_matrix_has_the_polynomials_on_its_diagonal() {
    let team = ThreadTeam::new(1).expect("a team");
    let diagonal = [0.8f64, 0.5, 0.1, 0.02];
    let norm = diagonal.iter().map(|value| value * value).sum::<f64>().sqrt();
    let mut values = vec![0.0f32; 4 * 6];
    for (index, value) in diagonal.iter().enumerate() {
        values[index * 6 + index] = *value as f32;
    }
    Orthogonalised::default()
        .apply(Orthogonaliser::NewtonSchulz, 4, 6, &mut values, &team)
        .expect("products");
    for (index, value) in diagonal.iter().enumerate() {
        let expected =
            QUINTIC.iter().fold(value / norm, |x, [a, b, c]| a * x + b * x.powi(3) + c * x.powi(5));
        assert!((f64::from(values[index * 6 + index]) - expected).abs() < 1e-5);
    }
}

#[test]
fn neither_threads_nor_shards_change_a_bit() {
    let config = tiny_config();
    for kind in [OptimiserKind::Adamw, OptimiserKind::Muon] {
        let options = OptimiserSection { average_decay: 0.9, ..options(kind) };
        let alone = run(&mut [Optimiser::new(&config, &options).expect("memory")], &config, 3, 1);
        let together = run(&mut [Optimiser::new(&config, &options).expect("memory")], &config, 3, 2);
        assert_eq!(alone, together, "{kind:?}: threads");
        // AdamW's parameters are cut in the middle of tiles, Muon's matrices are dealt out whole.
        let mut shards = [Vec::new(), Vec::new()];
        for (parameter, description) in describe(&config, kind).iter().enumerate() {
            let length = description.elements;
            match description.rule {
                Rule::Muon => shards[parameter % 2].push(Shard { parameter, elements: 0..length }),
                _ => {
                    shards[0].push(Shard { parameter, elements: 0..length / 3 });
                    shards[1].push(Shard { parameter, elements: length / 3..length });
                }
            }
        }
        let mut ranks = shards.map(|shards| Optimiser::of_shards(&config, &options, shards).expect("memory"));
        assert_eq!(alone, run(&mut ranks, &config, 3, 1), "{kind:?}: shards");
    }
}

#[test]
fn a_state_goes_on_where_it_was_saved_and_a_foreign_one_is_refused() {
    let config = tiny_config();
    let options = OptimiserSection { average_decay: 0.9, ..options(OptimiserKind::Muon) };
    let mut saved = Optimiser::new(&config, &options).expect("memory");
    run(std::slice::from_mut(&mut saved), &config, 2, 1);
    let state: Vec<(String, Vec<f32>)> =
        saved.state().map(|tensor| (tensor.name, tensor.values.to_vec())).collect();
    let find = |name: &str| state.iter().find(|(known, _)| known == name).map(|(_, values)| values.clone());
    let mut restored = Optimiser::new(&config, &options).expect("memory");
    restored.restore(2, find).expect("the same state");
    assert!(saved.state().eq(restored.state()));
    let ours = run(std::slice::from_mut(&mut saved), &config, 2, 1);
    assert_eq!(ours, run(std::slice::from_mut(&mut restored), &config, 2, 1));

    let adamw = super::tests::options(OptimiserKind::Adamw);
    let error = Optimiser::new(&config, &adamw)
        .expect("memory")
        .restore(2, find)
        .expect_err("Muon has no second moments");
    assert!(error.to_string().contains("another optimiser"), "{error}");
    let larger = zhenjin_model::ModelConfig { intermediate_size: 160, ..config };
    let error =
        Optimiser::new(&larger, &options).expect("memory").restore(2, find).expect_err("other lengths");
    assert!(matches!(error, StateError::Length { .. }), "{error}");
}

#[test]
fn packed_order_is_that_of_the_matrices_that_compute() {
    let team = ThreadTeam::new(1).expect("a team");
    let bytes: Vec<u8> = (0..24 * 5).flat_map(|value| (value as f32).to_le_bytes()).collect();
    let matrix = Matrix::pack(Dtype::F32, 24, 5, &bytes, SimdLevel::Scalar, &team).expect("a matrix");
    let packed = matrix.f32_packed().expect("f32");
    let description =
        Description { name: String::new(), matrix: Some((24, 5)), elements: packed.len(), rule: Rule::Muon };
    let expected: Vec<f64> = (0..24 * 5).map(f64::from).collect();
    assert_eq!(row_major(&description, packed), expected);
}
