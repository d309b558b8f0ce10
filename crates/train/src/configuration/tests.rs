//! The dial, overrides and what is refused.

use std::path::Path;

use super::*;

fn resolve(depth: usize, settings: &[&str]) -> Result<Configuration, ConfigurationError> {
    let mut overrides = Overrides::new();
    for setting in settings {
        overrides.add_assignment(setting)?;
    }
    Configuration::resolve(depth, 8192, &overrides)
}

#[test]
fn the_dial_gives_possible_models_whose_sizes_grow() {
    let mut last = 0;
    for depth in 1..=16 {
        let configuration = resolve(depth, &[]).unwrap();
        let model = configuration.model_config();
        assert_eq!(model.layers, depth);
        assert_eq!(model.hidden_size, 64 * depth);
        assert!(model.hidden_size.is_multiple_of(16) && model.intermediate_size.is_multiple_of(64));
        assert!(model.parameters() > last);
        last = model.parameters();
        // Weight decay stays what it is everywhere; nanochat's rule would give 3.36 at two layers.
        assert_eq!(configuration.optimiser.weight_decay, 0.1);
        let tokens = configuration.tokens_per_step() * configuration.schedule.steps;
        let parameters = dial::multiplying_parameters(&configuration.model);
        let ratio = tokens as f64 / parameters as f64;
        assert!((10.0..=12.0).contains(&ratio), "depth {depth}: {ratio} tokens per parameter");
    }
    let six = resolve(6, &[]).unwrap();
    assert_eq!((six.model.intermediate_size, six.model.heads, six.model.kv_heads), (1024, 6, 3));
}

#[test]
fn what_follows_from_the_shape_follows_from_an_overridden_shape_too() {
    let plain = resolve(4, &[]).unwrap();
    let wide = resolve(4, &["model.hidden_size=512"]).unwrap();
    assert!(wide.schedule.steps * wide.tokens_per_step() > plain.schedule.steps * plain.tokens_per_step());
    assert!(wide.optimiser.learning_rate < plain.optimiser.learning_rate);
    let given = resolve(4, &["model.hidden_size=512", "optimiser.learning_rate=1e-3"]).unwrap();
    assert_eq!(given.optimiser.learning_rate, 1e-3);
    let short = resolve(4, &["schedule.steps=100"]).unwrap();
    assert_eq!((short.schedule.warmup_steps, short.intervals.checkpoint), (5, 5));
    let warmed = resolve(4, &["schedule.steps=100", "schedule.warmup_steps=50"]).unwrap();
    assert_eq!(warmed.schedule.warmup_steps, 50);
}

#[test]
fn a_model_with_experts_costs_what_the_dense_one_of_its_depth_does() {
    for (depth, experts, active) in [(2, 4, 1), (4, 8, 2), (4, 16, 4), (6, 8, 2), (9, 12, 3)] {
        let settings = [format!("model.experts={experts}"), format!("model.active_experts={active}")];
        let mixture = resolve(depth, &settings.each_ref().map(String::as_str)).unwrap();
        let dense = resolve(depth, &[]).unwrap();
        let model = &mixture.model;
        let routers = (model.layers * experts * model.hidden_size) as u64;
        let more = mixture.multiplying_parameters() - dense.multiplying_parameters() - routers;
        // A width that cannot be cut evenly is rounded up.
        assert!(more < (3 * model.layers * model.hidden_size * active) as u64, "{depth}, {experts}: {more}");
        let config = mixture.model_config();
        assert_eq!(config.architecture, "qwen3_moe");
        assert!(config.parameters() > 2 * dense.model_config().parameters() / 2);
        assert_eq!(mixture.loss.balance, 0.01);
        assert_eq!(Configuration::from_toml(&mixture.to_toml(), Path::new("run.toml")).unwrap(), mixture);
    }
    let wide =
        resolve(4, &["model.experts=8", "model.expert_intermediate_size=96", "loss.balance=0"]).unwrap();
    assert_eq!(
        (wide.model.active_experts, wide.model.expert_intermediate_size, wide.loss.balance),
        (2, 96, 0.0)
    );
    // A dense model's file says 0 everywhere.
    let dense = resolve(4, &[]).unwrap();
    assert_eq!((dense.model.experts, dense.loss.balance), (0, 0.0));
    let mut overrides = Overrides::new();
    overrides.add_toml(&dense.to_toml(), Path::new("run.toml")).unwrap();
    overrides.add("model.experts", 4);
    assert_eq!(Configuration::resolve(4, 8192, &overrides).unwrap().model.active_experts, 2);
    for (settings, key) in [
        (&["model.active_experts=2"][..], "model.active_experts"),
        (&["model.experts=2", "model.active_experts=3"], "model"),
        (&["model.experts=2", "loss.balance=-1"], "loss.balance"),
    ] {
        match resolve(4, settings) {
            Err(ConfigurationError::OutOfRange { key: found, .. }) => assert_eq!(found, key),
            other => panic!("{settings:?}: {other:?}"),
        }
    }
}

/// Files of runs that were begun before there were experts go on being read.
#[test]
fn a_configuration_without_experts_needs_no_word_about_them() {
    let dense = resolve(4, &[]).unwrap();
    let older: String = dense
        .to_toml()
        .lines()
        .filter(|line| !line.contains("expert") && !line.starts_with("balance"))
        .map(|line| format!("{line}\n"))
        .collect();
    assert_ne!(older, dense.to_toml());
    assert_eq!(Configuration::from_toml(&older, Path::new("run.toml")).unwrap(), dense);
}

#[test]
fn a_short_run_takes_smaller_batches() {
    let of = |tokens, settings: &[&str]| {
        let mut overrides = Overrides::new();
        settings.iter().for_each(|setting| overrides.add_assignment(setting).unwrap());
        Configuration::resolve_for(4, 8192, tokens, &overrides)
    };
    let (long, short) = (of(60_000_000, &[]).unwrap(), of(1_000_000, &[]).unwrap());
    assert!(short.tokens_per_step() < long.tokens_per_step());
    assert!(short.optimiser.muon_learning_rate < long.optimiser.muon_learning_rate);
    for configuration in [long.clone(), short] {
        let tokens = configuration.schedule.steps * configuration.tokens_per_step();
        assert!(
            [60_000_000, 1_000_000]
                .iter()
                .any(|asked| (asked - configuration.tokens_per_step()..=*asked).contains(&tokens))
        );
    }
    let given = of(1_000_000, &["schedule.steps=7"]).unwrap();
    assert_eq!(given.schedule.steps, 7);
    let error = of(100, &[]).unwrap_err().to_string();
    assert!(error.contains("less than one step"), "{error}");
}

#[test]
fn the_effective_configuration_is_read_back_the_same_and_runs_again() {
    let configuration = resolve(3, &["optimiser.kind=adamw", "seed=7", "loss.z_loss=1e-4"]).unwrap();
    assert_eq!(configuration.optimiser.kind, OptimiserKind::Adamw);
    let text = configuration.to_toml();
    assert_eq!(Configuration::from_toml(&text, Path::new("run.toml")), Ok(configuration.clone()));
    // As a file of overrides it gives the same, whatever the dial says.
    let mut overrides = Overrides::new();
    overrides.add_toml(&text, Path::new("run.toml")).unwrap();
    assert_eq!(Configuration::resolve(5, 8192, &overrides), Ok(configuration));
}

#[test]
fn unknown_settings_are_refused_with_the_nearest_name() {
    for (setting, nearest) in [
        ("optimiser.learning_rat=1", "optimiser.learning_rate"),
        ("optimizer.kind=muon", "optimiser.kind"),
        ("warmup_steps=5", "schedule.warmup_steps"),
        ("model.hidden_sise=64", "model.hidden_size"),
        ("batch.micro_batchs=2", "batch.micro_batches"),
        ("sead=2", "seed"),
        ("model=3", "model.layers"),
    ] {
        let error = resolve(2, &[setting]).unwrap_err();
        let ConfigurationError::UnknownKey { nearest: found, .. } = &error else {
            panic!("{setting}: {error}")
        };
        if setting != "model=3" {
            assert_eq!(found.as_deref(), Some(nearest), "{error}");
            assert!(error.to_string().contains("did you mean"), "{error}");
        }
    }
    let error = resolve(2, &["qqqqqqqq.zzzzzz=1"]).unwrap_err();
    assert!(error.to_string().contains("the sections are batch, data, faults"), "{error}");
}

#[test]
fn impossible_values_are_refused_by_name() {
    for (setting, reason) in [
        ("optimiser.learning_rate=1e6", "`optimiser.learning_rate` must lie between 0 and 10, found 1000000"),
        ("optimiser.learning_rate=nan", "`optimiser.learning_rate` must lie between"),
        ("optimiser.learning_rate=fast", "must be a number, found \"fast\""),
        ("schedule.steps=0", "`schedule.steps` must be at least 1"),
        ("schedule.steps=-5", "`schedule.steps` must be a whole number"),
        ("schedule.steps=1.5", "`schedule.steps` must be a whole number"),
        ("batch.micro_batches=3", "power of two"),
        ("batch.sequences=0", "`batch.sequences` must be 1 to"),
        ("model.head_dim=7", "multiple of 8"),
        ("model.kv_heads=0", "must be 1 to"),
        ("data.sequence_length=1", "at least 2"),
        ("optimiser.kind=sgd", "`optimiser.kind` takes no such value: unknown variant `sgd`"),
        ("schedule.warmup_steps=1000000000", "more than the"),
        ("intervals.keep=0", "at least 1"),
        ("model.tied_embeddings=1", "true or false"),
        ("no assignment", "KEY=VALUE"),
    ] {
        let error = resolve(2, &[setting]).unwrap_err().to_string();
        assert!(error.contains(reason), "{setting}: {error}");
    }
    for depth in [0, 65] {
        assert!(resolve(depth, &[]).unwrap_err().to_string().contains("must be 1 to 64"));
    }
}

#[test]
fn differing_keys_are_named_with_both_values() {
    let ours = resolve(2, &[]).unwrap();
    let theirs = resolve(2, &["optimiser.beta2=0.99", "model.layers=3"]).unwrap();
    let keys: Vec<String> = differing_keys(&ours, &theirs).into_iter().map(|(key, ..)| key).collect();
    assert!(
        keys.contains(&"optimiser.beta2".to_owned()) && keys.contains(&"model.layers".to_owned()),
        "{keys:?}"
    );
    assert!(differing_keys(&ours, &ours).is_empty());
}

#[test]
fn the_smallest_step_of_the_dial_is_possible_at_any_length() {
    for length in [64, 256, 1_000, 4_096] {
        let mut overrides = Overrides::new();
        overrides.add_assignment(&format!("data.sequence_length={length}")).expect("a setting");
        let least = Configuration::resolve(2, 512, &overrides).expect("a configuration").least_step_tokens();
        let resolved = Configuration::resolve_for(2, 512, least, &overrides).expect("one step at least");
        assert_eq!(resolved.schedule.steps, 1, "{length}");
    }
}
