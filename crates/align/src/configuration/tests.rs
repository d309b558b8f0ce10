//! Tests of configurations: every method has its own values, and nothing that has no effect is accepted.

use super::*;

const METHODS: [Method; 7] =
    [Method::Sft, Method::Reward, Method::Dpo, Method::Kto, Method::Ppo, Method::Grpo, Method::Distill];

fn resolve(method: Method, settings: &[&str]) -> Result<Configuration, ConfigurationError> {
    let mut overrides = Overrides::new();
    for setting in settings {
        overrides.add_assignment(setting)?;
    }
    Configuration::resolve(method, TuningKind::Lora, 100, &overrides)
}

#[test]
fn every_methods_own_values_can_be_written_and_read() {
    for method in METHODS {
        for tuning in [TuningKind::Lora, TuningKind::Full] {
            let configuration = Configuration::resolve(method, tuning, 1000, &Overrides::new()).unwrap();
            let text = configuration.to_toml();
            assert_eq!(Configuration::from_toml(&text, Path::new("run.toml")).unwrap(), configuration);
            // The effective configuration gives itself.
            let mut overrides = Overrides::new();
            overrides.add_toml(&text, Path::new("run.toml")).unwrap();
            assert_eq!(Configuration::resolve(method, tuning, 1, &overrides).unwrap(), configuration);
        }
    }
}

#[test]
fn a_setting_of_another_method_is_refused_by_name() {
    for (method, setting) in [
        (Method::Sft, "preference.beta=0.2"),
        (Method::Dpo, "policy.kl=0.1"),
        (Method::Grpo, "critic.gamma=1"),
        (Method::Ppo, "group.scale=none"),
        (Method::Reward, "judged.beta=1"),
        (Method::Sft, "distillation.weight=1"),
        (Method::Distill, "rollout.max_tokens=9"),
    ] {
        let error = resolve(method, &[setting]).unwrap_err().to_string();
        assert!(error.contains(setting.split('=').next().unwrap()), "{error}");
    }
    let error = resolve(Method::Dpo, &["preference.betta=1"]).unwrap_err().to_string();
    assert!(error.contains("did you mean `preference.beta`"), "{error}");
}

/// A run trained by one method and wrote down another, which the settings that it was given named.
#[test]
fn settings_of_a_run_of_another_method_are_refused_with_both_names() {
    for method in METHODS {
        for other in METHODS.into_iter().filter(|other| *other != method) {
            let theirs = Configuration::resolve(other, TuningKind::Lora, 100, &Overrides::new()).unwrap();
            let mut overrides = Overrides::new();
            overrides.add_toml(&theirs.to_toml(), Path::new("run.toml")).unwrap();
            let error = Configuration::resolve(method, TuningKind::Lora, 100, &overrides).unwrap_err();
            let text = error.to_string();
            let names = [method, other].map(|method| format!("\"{}\"", method.name()));
            assert!(text.starts_with("`method` ") && names.iter().all(|name| text.contains(name)), "{text}");
        }
    }
    assert!(resolve(Method::Dpo, &["method=sft"]).is_err());
    assert_eq!(resolve(Method::Dpo, &["method=dpo"]).unwrap().method, Method::Dpo);
}

/// They were accepted and dropped.
#[test]
fn settings_of_answers_that_are_not_written_are_refused() {
    for setting in ["rollout.max_tokens=64", "rollout.temperature=0.5"] {
        let error = resolve(Method::Distill, &["distillation.own_answers=0", setting]).unwrap_err();
        let key = setting.split('=').next().unwrap();
        let text = error.to_string();
        assert!(text.contains(key) && text.contains("`distillation.own_answers` = 0"), "{text}");
    }
}

#[test]
fn impossible_values_are_refused_by_name() {
    for (method, setting) in [
        (Method::Sft, "schedule.steps=0"),
        (Method::Sft, "tuning.rank=0"),
        (Method::Sft, "optimiser.kind=muon"),
        (Method::Sft, "optimiser.learning_rate=1e6"),
        (Method::Dpo, "preference.beta=0"),
        (Method::Dpo, "preference.label_smoothing=0.5"),
        (Method::Sft, "tuning.rank=2048"),
        (Method::Sft, "tuning.projections=q_proj,lm_head"),
        (Method::Grpo, "rollout.answers=1"),
        (Method::Grpo, "rollout.temperature=0"),
        (Method::Grpo, "policy.dual_clip=1.1"),
        (Method::Grpo, "policy.minibatches=65"),
        (Method::Ppo, "critic.lambda=1.5"),
        (Method::Distill, "distillation.beta=0.5"),
        (Method::Distill, "distillation.temperature=0"),
        (Method::Distill, "distillation.weight=1.1"),
    ] {
        let error = resolve(method, &[setting]).unwrap_err().to_string();
        assert!(error.contains(setting.split('=').next().unwrap()), "{setting}: {error}");
    }
    // Settings that would have no effect.
    let error = resolve(Method::Dpo, &["preference.loss=ipo", "preference.label_smoothing=0.1"]).unwrap_err();
    assert!(error.to_string().contains("preference.label_smoothing"), "{error}");
    for setting in ["tuning.rank_stabilised=true", "tuning.projections=attention"] {
        let mut overrides = Overrides::new();
        overrides.add_assignment(setting).unwrap();
        let error = Configuration::resolve(Method::Sft, TuningKind::Full, 100, &overrides).unwrap_err();
        assert!(error.to_string().contains("all weights are trained"), "{error}");
    }
    let k1 = ["policy.kl=0.1", "policy.kl_estimator=k1", "policy.kl_correction=false"];
    let error = resolve(Method::Grpo, &k1).unwrap_err().to_string();
    assert!(error.contains("policy.kl_estimator"), "{error}");
    resolve(Method::Grpo, &k1[..2]).unwrap();
}

#[test]
fn one_pass_over_the_examples_unless_somebody_says_how_many_steps() {
    assert_eq!(resolve(Method::Sft, &[]).unwrap().schedule.steps, 7);
    assert_eq!(resolve(Method::Sft, &["batch.examples=10"]).unwrap().schedule.steps, 10);
    assert_eq!(resolve(Method::Sft, &["schedule.steps=3"]).unwrap().schedule.steps, 3);
}

/// Regression: with all weights trained, a rate by this key alone left the embedding and the head at the default one, and nobody was told.
#[test]
fn the_embedding_learns_at_the_rate_of_all_weights_unless_it_has_its_own() {
    let rates = |method: Method, settings: &[&str]| {
        let mut overrides = Overrides::new();
        settings.iter().for_each(|setting| overrides.add_assignment(setting).unwrap());
        let configuration = Configuration::resolve(method, TuningKind::Full, 100, &overrides).unwrap();
        (configuration.optimiser.learning_rate, configuration.optimiser.embedding_learning_rate)
    };
    let (all, own) = ("optimiser.learning_rate=3e-3", "optimiser.embedding_learning_rate=1e-4");
    for method in METHODS {
        assert_eq!(rates(method, &[all]), (3e-3, 3e-3));
        assert_eq!(rates(method, &[all, own]), (3e-3, 1e-4));
        let (default, of_embedding) = rates(method, &[]);
        assert_eq!(default, of_embedding);
        assert_eq!(rates(method, &[own]), (default, 1e-4));
    }
    let mut overrides = Overrides::new();
    overrides.add_toml("[optimiser]\nlearning_rate = 3e-3\n", Path::new("rate.toml")).unwrap();
    let of_file = Configuration::resolve(Method::Sft, TuningKind::Full, 100, &overrides).unwrap().optimiser;
    assert_eq!(of_file.embedding_learning_rate, 3e-3);
}

#[test]
fn what_follows_from_a_setting_of_distillation() {
    let resolve = |settings: &[&str]| resolve(Method::Distill, settings);
    let section = |settings: &[&str]| resolve(settings).unwrap().distillation.unwrap();
    assert_eq!(section(&[]).beta, 0.0);
    assert_eq!(section(&["distillation.divergence=jensen-shannon"]).beta, 0.5);
    assert_eq!(section(&["distillation.divergence=jensen-shannon", "distillation.beta=0.1"]).beta, 0.1);
    let own = resolve(&["distillation.own_answers=0.5", "rollout.max_tokens=9"]).unwrap();
    assert_eq!(own.rollout.unwrap().max_tokens, 9);
    assert!(resolve(&["distillation.own_answers=0"]).unwrap().rollout.is_none());
    let error = resolve(&["distillation.own_answers=0.5", "rollout.answers=2"]).unwrap_err().to_string();
    assert!(error.contains("rollout.answers"), "{error}");
}
