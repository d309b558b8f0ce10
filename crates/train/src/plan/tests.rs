//! Plans against arithmetic by hand, and what they refuse.

use super::*;
use std::sync::Arc;
use std::time::Duration;
use zhenjin_model::LoadOptions;
use zhenjin_tensor::{SimdLevel, ThreadTeam};

/// A small Qwen3-like model.
pub(crate) fn config() -> ModelConfig {
    ModelConfig {
        architecture: "qwen3".to_owned(),
        vocabulary_size: 1_000,
        layers: 2,
        hidden_size: 64,
        intermediate_size: 192,
        qk_norm: zhenjin_model::config::QueryKeyNorm::Heads,
        ..zhenjin_model::testing::tiny_config()
    }
}

fn shape() -> RunShape {
    RunShape {
        sequence_length: 128,
        sequences: 4,
        micro_batches: 8,
        steps: 100,
        document_length: None,
        documents: 0,
        optimiser: OptimiserMemory::Adamw,
        averages_weights: false,
        recomputed_layers: None,
        ranks: 1,
        kept_checkpoints: 2,
    }
}

fn machine() -> Machine {
    Machine {
        memory_bytes: Some(8 << 30),
        disk_bytes: Some(8 << 30),
        probe: Probe { peak_flops: 350e9, achieved_flops: 200e9, update_seconds: 0.05, threads: 2 },
        network: None,
        prices: Prices {
            watts: 50.0,
            watts_known: false,
            per_kilowatt_hour: 0.2,
            per_hour: 0.1,
            currency: "EUR".into(),
        },
    }
}

#[test]
fn a_plan_agrees_with_arithmetic_by_hand() {
    let plan = Plan::of(&config(), &shape(), &machine());
    // 1,000·64; per layer 64·(64 + 32 + 32) + 64·64 + 3·64·192 and norms 2·64 + 2·16; last norm 64.
    let matrices = 2 * (64 * 128 + 64 * 64 + 3 * 64 * 192);
    assert_eq!(plan.parameters.total(), 64_000 + matrices + 2 * 160 + 64);
    assert_eq!(plan.tokens, 100 * 8 * 4 * 128);
    let token = 6.0 * (matrices + 64_000) as f64 + 12.0 * 2.0 * 64.0 * 129.0 / 2.0;
    assert!((plan.operations - token * plan.tokens as f64).abs() < 1.0);
    assert!((plan.seconds - plan.operations / 200e9 - 100.0 * 0.05).abs() < 1e-9);
    assert!((plan.joules - 50.0 * plan.seconds).abs() < 1e-9);
    let price = plan.joules / 3.6e6 * 0.2 + plan.seconds / 3600.0 * 0.1;
    assert!((plan.price - price).abs() < 1e-12);
    assert_eq!(plan.recomputed_layers, 0);
    assert_eq!(plan.check(), Ok(()));
    let text = plan_text(&plan);
    for word in ["parameters", "memory", "disk", "energy", "an assumption", "EUR", "tokens/s"] {
        assert!(text.contains(word), "{word} in\n{text}");
    }
}

/// Regression: the inputs of norms behind attention and the feed-forward network were not counted.
#[test]
fn of_norms_behind_the_layers_parts_the_inputs_are_kept_as_well() {
    let with = |norms| ModelConfig { norms, ..config() };
    let kept = |norms| Plan::of(&with(norms), &shape(), &machine()).memory.activations;
    let before = kept(zhenjin_model::config::NormPlacement::Before);
    let rows = 4 * 128;
    for norms in
        [zhenjin_model::config::NormPlacement::After, zhenjin_model::config::NormPlacement::BeforeAndAfter]
    {
        assert_eq!(kept(norms) - before, 4 * rows * 2 * 2 * 64, "{norms:?}");
    }
}

#[test]
fn of_experts_all_take_memory_and_the_active_ones_time() {
    let experts = zhenjin_model::config::ExpertsConfig {
        count: 8,
        active: 2,
        intermediate_size: 96,
        normalise: true,
        every: 1,
        dense_layers: Vec::new(),
    };
    let mixture = ModelConfig { experts: Some(experts), ..config() };
    let [of_mixture, of_dense] = [&mixture, &config()].map(|config| Plan::of(config, &shape(), &machine()));
    assert_eq!(of_mixture.parameters.total(), mixture.parameters());
    assert_eq!(of_dense.parameters.total(), config().parameters());
    // Two of 96 are as wide as one of 192; the routers come on top.
    let routers = 2 * 8 * 64;
    assert_eq!(of_mixture.parameters.active(), of_dense.parameters.total() + routers);
    let more = of_mixture.token_operations.total() - of_dense.token_operations.total();
    assert_eq!(more, 6.0 * routers as f64);
    assert!(of_mixture.memory.weights > 3 * of_dense.memory.weights / 2);
    // Activations are those of the dense model, and the routers' scores and choices.
    let rows = 4 * 128;
    let kept = of_mixture.memory.activations - of_dense.memory.activations;
    assert_eq!(kept, 4 * rows * 2 * (8 + 4 * 2));
    assert!(plan_text(&of_mixture).contains("of which a token uses"));
}

#[test]
fn layers_are_computed_again_when_memory_is_short_and_only_then() {
    let (config, shape) = (ModelConfig { layers: 12, ..config() }, RunShape { sequences: 64, ..shape() });
    let with = |layers| MemoryEstimate::of(&config, &shape, layers).total;
    let (without, with_all) = (with(0), with(12));
    assert!((0..12).all(|layers| with(layers + 1) <= with(layers)) && with_all < without);
    let machine = |bytes| Machine { memory_bytes: Some(bytes), ..machine() };
    let plan = Plan::of(&config, &shape, &machine(without));
    assert_eq!((plan.recomputed_layers, plan.check()), (0, Ok(())));
    for (bytes, layers) in [(without - 1, 1), (with(5), 5), (with(5) - 1, 6)] {
        let short = Plan::of(&config, &shape, &machine(bytes));
        assert_eq!((short.recomputed_layers, short.check()), (layers, Ok(())));
        assert!(short.seconds > plan.seconds && short.operations == plan.operations);
        assert!(plan_text(&short).contains(&format!("{layers} layers are computed again")));
    }
    let all = Plan::of(&config, &RunShape { recomputed_layers: Some(99), ..shape }, &machine(without));
    assert_eq!(all.recomputed_layers, 12);
    assert!(all.seconds > 1.2 * plan.seconds);
    let refused = Plan::of(&config, &shape, &machine(with_all - 1)).check().unwrap_err();
    let text = refused.to_string();
    assert!(matches!(refused, Refusal::Memory { .. }) && text.contains("fewer sequences"), "{text}");
    let forbidden = RunShape { recomputed_layers: Some(0), ..shape };
    let text = Plan::of(&config, &forbidden, &machine(with_all)).check().unwrap_err().to_string();
    assert!(text.contains("recompute"), "{text}");
    let text = Plan::of(&config, &shape, &machine(1 << 20)).check().unwrap_err().to_string();
    assert!(text.contains("choose a smaller model"), "{text}");
}

#[test]
fn a_full_disk_is_refused_before_the_run() {
    let machine = Machine { disk_bytes: Some(1 << 20), ..machine() };
    let plan = Plan::of(&config(), &shape(), &machine);
    // Weights and two moments, for two checkpoints and the one that is being written.
    assert_eq!(plan.disk_bytes, 9 * 4 * plan.parameters.total());
    let refused = plan.check().unwrap_err();
    assert_eq!(refused, Refusal::Disk { needed: plan.disk_bytes, available: 1 << 20 });
}

#[test]
fn more_ranks_share_time_and_optimiser_but_not_weights() {
    let two = RunShape { ranks: 2, ..shape() };
    let (alone, shared) = (Plan::of(&config(), &shape(), &machine()), Plan::of(&config(), &two, &machine()));
    assert!((shared.seconds * 2.0 - alone.seconds).abs() < 1e-9);
    assert_eq!(shared.memory.optimiser * 2, alone.memory.optimiser);
    assert_eq!(shared.memory.weights, alone.memory.weights);
    let network = Some(Network { bytes_per_second: 125e6, latency: 0.01 });
    let slow = Plan::of(&config(), &two, &Machine { network, ..machine() });
    let groups = super::size::exchanged_groups(&config());
    assert_eq!(groups.len(), 3);
    assert_eq!(groups.iter().sum::<usize>() as u64, alone.parameters.total());
    assert_eq!(slow.step_exchange.bytes, 4.0 * alone.parameters.total() as f64);
    assert!((slow.seconds - shared.seconds - 100.0 * slow.step_exchange.waited).abs() < 1e-9);
    // The layers are exchanged while others are computed, unless computing takes no time.
    assert!(slow.step_exchange.waited < slow.step_exchange.exchanged);
    let probe = Probe { peak_flops: 1e30, achieved_flops: 1e30, update_seconds: 0.0, threads: 2 };
    let fast = Plan::of(&config(), &two, &Machine { network, probe, ..machine() });
    assert!((fast.step_exchange.waited - fast.step_exchange.exchanged).abs() < 1e-9);
}

#[test]
fn the_table_of_machines_ends_where_micro_batches_do() {
    let network = Some(Network { bytes_per_second: 125e6, latency: 1e-4 });
    let plans = Plan::scaling(&config(), &shape(), &Machine { network, ..machine() }, 1024);
    let ranks: Vec<usize> = plans.iter().map(|plan| plan.shape.ranks).collect();
    assert_eq!(ranks, [1, 2, 4, 8]);
    assert!(plans.is_sorted_by(|less, more| less.tokens_per_second < more.tokens_per_second));
    let text = scaling_text(&plans);
    assert_eq!(text.lines().count(), 2 + plans.len());
    assert!(text.contains("100 %"), "{text}");
}

#[test]
fn the_probe_measures_something_below_the_peak() {
    let options = LoadOptions { simd: SimdLevel::detect(), team: Arc::new(ThreadTeam::new(1).unwrap()) };
    let section =
        crate::configuration::Configuration::resolve(1, 64, &crate::configuration::Overrides::new())
            .expect("a configuration")
            .optimiser;
    // The layers of the second one are too large to be measured whole.
    for config in [config(), ModelConfig { intermediate_size: 600_000, ..config() }] {
        let probe = probe_training(&config, &section, 2, 32, &options, Duration::ZERO).unwrap();
        assert!(probe.achieved_flops > 0.0 && probe.peak_flops > 0.0, "{probe:?}");
        assert!(probe.update_seconds > 0.0, "{probe:?}");
        assert_eq!(probe.threads, 1);
    }
}

#[test]
fn bytes_are_readable() {
    let sizes = [0, 870, 1023, 1 << 10, 12_900_000, 1 << 40];
    assert_eq!(sizes.map(bytes_text), ["0 B", "870 B", "1023 B", "1.00 KiB", "12.3 MiB", "1.00 TiB"]);
}
