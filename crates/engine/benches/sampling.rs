//! Speed of choosing tokens: microseconds for a row on one thread, and milliseconds for the rows of many chats on all threads.
//!
//! `cargo bench -p zhenjin-engine --bench sampling --profile release -- [--vocabulary N] [--rows N] [--threads N]`

#![allow(clippy::print_stdout, reason = "a benchmark prints its results")]

use std::sync::Mutex;
use std::time::{Duration, Instant};

use zhenjin_engine::sampling::penalties::TokenHistory;
use zhenjin_engine::sampling::sampler::{Choice, Sampler};
use zhenjin_engine::{Sampling, TokenMask};
use zhenjin_tensor::{ComputeOptions, SimdLevel, ThreadTeam};

const ROUNDS: usize = 7;

/// Logits of one row, about as a chat model has them: most tokens far below a few, or (`flat`) as after random weights.
fn row(vocabulary: usize, seed: u64, flat: bool) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut uniform = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / (1u64 << 24) as f32
    };
    let spread = if flat { 1.0 } else { 2.5 };
    let mut normal = || spread * ((0..12).map(|_| uniform()).sum::<f32>() - 6.0);
    let mut logits: Vec<f32> = (0..vocabulary).map(|_| normal()).collect();
    if !flat {
        for (likely, place) in (0..vocabulary).step_by(vocabulary / 12).enumerate() {
            logits[place] = 18.0 - likely as f32;
        }
    }
    logits
}

fn settings() -> Vec<(&'static str, Sampling, bool)> {
    let warm = Sampling { temperature: 0.8, ..Sampling::default() };
    let ranked = Sampling { top_k: 40, top_p: 0.95, ..warm.clone() };
    vec![
        ("greedy", Sampling::greedy(), false),
        ("temperature 0.8", warm.clone(), false),
        ("temperature 0.8, top-p 0.95", Sampling { top_p: 0.95, ..warm.clone() }, false),
        ("temperature 0.8, top-k 40, top-p 0.95", ranked.clone(), false),
        ("temperature 0.8, min-p 0.05", Sampling { min_p: 0.05, ..warm.clone() }, false),
        ("top-k 40, top-p 0.95, penalty 1.1", Sampling { repetition_penalty: 1.1, ..ranked }, false),
        ("temperature 0.8, a mask of 1 % of the tokens", warm, true),
    ]
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}

fn main() {
    let (mut vocabulary, mut count, mut threads) = (151_936, 512, None);
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        let mut number = || arguments.next().and_then(|value| value.parse().ok()).expect("a number");
        match argument.as_str() {
            "--bench" => {}
            "--vocabulary" => vocabulary = number(),
            "--rows" => count = number(),
            "--threads" => threads = Some(number()),
            other => panic!("{other}: the options are --vocabulary, --rows and --threads"),
        }
    }
    let options = ComputeOptions::resolve(None, threads).expect("this machine's instructions");
    let team = ThreadTeam::new(options.threads).expect("threads");
    println!("vocabulary {vocabulary}, {count} rows, {} threads, {}", options.threads, options.simd);
    println!("| settings | a row on one thread, µs | all rows, ms |\n|---|---:|---:|");
    for flat in [false, true] {
        let rows: Vec<Vec<f32>> = (0..count).map(|seed| row(vocabulary, seed as u64 + 1, flat)).collect();
        for (name, sampling, masked) in settings() {
            let (alone, together) = measure(options.simd, &team, &rows, &sampling, masked);
            let name = if flat { format!("{name}; flat logits") } else { name.to_owned() };
            println!("| {name} | {:.0} | {:.1} |", alone.as_secs_f64() * 1e6, together.as_secs_f64() * 1e3);
        }
    }
}

fn measure(
    simd: SimdLevel,
    team: &ThreadTeam,
    rows: &[Vec<f32>],
    sampling: &Sampling,
    masked: bool,
) -> (Duration, Duration) {
    let history = TokenHistory::of_prompt(&(0..200).map(|token| token * 37).collect::<Vec<u32>>());
    let mut mask = TokenMask::none(rows[0].len());
    (0..rows[0].len() as u32).step_by(100).for_each(|token| mask.allow(token));
    let choice = |position: usize| Choice {
        sampling,
        history: sampling.has_penalties().then_some(&history),
        mask: masked.then_some(&mask),
        seed: 1,
        position,
    };
    let samplers: Vec<Mutex<Sampler>> = (0..team.threads()).map(|_| Mutex::new(Sampler::new(simd))).collect();
    let choose = |worker: usize, part: usize| {
        let mut sampler = samplers[worker].lock().expect("no panic");
        std::hint::black_box(sampler.sample(&rows[part], choice(part)).expect("a token"));
    };
    let timed = |work: &dyn Fn()| {
        let times = (0..ROUNDS).map(|_| {
            let started = Instant::now();
            work();
            started.elapsed()
        });
        median(times.collect())
    };
    let alone = timed(&|| (0..rows.len()).for_each(|part| choose(0, part)));
    let together = timed(&|| team.run(rows.len(), &choose));
    (alone / rows.len() as u32, together)
}
