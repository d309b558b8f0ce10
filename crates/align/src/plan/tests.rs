//! Plans of small runs: tokens of a step, memory by parts, times, and what is refused.

use super::*;
use zhenjin_model::testing::tiny_config;
use zhenjin_train::configuration::Overrides;

const MIB: u64 = 1 << 20;

fn configuration(method: Method, tuning: TuningKind, settings: &[&str]) -> Configuration {
    let mut overrides = Overrides::new();
    settings.iter().for_each(|setting| overrides.add_assignment(setting).unwrap());
    Configuration::resolve(method, tuning, 100, &overrides).unwrap()
}

fn plan(configuration: &Configuration, tokens: StepTokens, memory: u64) -> AlignPlan {
    let weights = 4 * ParameterCount::of(&tiny_config()).total();
    plan_with(configuration, tokens, memory, PlannedModel { weights, ..PlannedModel::default() })
}

fn plan_with(
    configuration: &Configuration,
    tokens: StepTokens,
    memory: u64,
    models: PlannedModel,
) -> AlignPlan {
    let config = tiny_config();
    let circumstances = Circumstances {
        config: &config,
        tokens,
        examples: 100,
        models,
        memory_bytes: Some(memory),
        disk_bytes: Some(1 << 40),
        pace: Pace { forward: 0.001, learning: 0.002, writing: 0.01, teacher: 0.004, measured: true },
        prices: Prices {
            watts: 20.0,
            watts_known: false,
            per_kilowatt_hour: 0.3,
            per_hour: 0.0,
            currency: "EUR".to_owned(),
        },
    };
    AlignPlan::of(configuration, &circumstances)
}

#[test]
fn a_steps_tokens_are_those_of_its_examples() {
    let settings = ["batch.examples=4", "batch.micro_tokens=50", "schedule.steps=10"];
    let sft = configuration(Method::Sft, TuningKind::Lora, &settings);
    let tokens = StepTokens::of_rows(&sft, &[20; 100]);
    // Two of 20 fit into 50, three do not.
    assert_eq!(
        tokens,
        StepTokens { mean: 80.0, largest_micro_batch: 40, different_rows: 40, ..StepTokens::default() }
    );
    // One that is longer than a micro-batch is computed alone.
    assert_eq!(StepTokens::of_rows(&sft, &[70]).largest_micro_batch, 70);
    let settings =
        ["batch.examples=2", "rollout.answers=3", "rollout.max_tokens=30", "batch.micro_tokens=1000"];
    let grpo = configuration(Method::Grpo, TuningKind::Lora, &settings);
    // The three answers to a prompt share its rows; the prompts share their first five.
    let prompts: [&[u32]; 2] = [&[1, 2, 3, 4, 5, 6, 7, 8, 9, 10], &[1, 2, 3, 4, 5, 10, 9, 8, 7, 6]];
    let tokens = StepTokens::of_prompts(&grpo, &prompts, 1000);
    let different_rows = 15 + 6 * 29;
    assert_eq!(
        tokens,
        StepTokens {
            mean: 234.0,
            largest_micro_batch: 234,
            different_rows,
            pages: 12,
            ..StepTokens::default()
        }
    );
    assert_eq!(StepTokens::of_rows(&sft, &[]).mean, 0.0);
}

#[test]
fn memory_and_disk_are_those_of_what_learns() {
    let tokens =
        StepTokens { mean: 64.0, largest_micro_batch: 64, different_rows: 64, ..StepTokens::default() };
    let parameters = ParameterCount::of(&tiny_config()).total();
    let full = plan(&configuration(Method::Sft, TuningKind::Full, &[]), tokens, u64::MAX);
    assert_eq!(full.memory.gradients, 4 * parameters);
    assert_eq!(full.memory.optimiser, 8 * parameters);
    assert_eq!((full.memory.adapter, full.memory.reference, full.memory.rollouts), (0, 0, 0));
    assert_eq!(full.memory.total, full.memory.parts().map(|(_, bytes)| bytes).sum::<u64>());
    let lora = plan(&configuration(Method::Sft, TuningKind::Lora, &[]), tokens, u64::MAX);
    // Rank 16 on all seven projections of two layers: A and B of each.
    let elements: u64 = 2 * 16 * (2 * 2 * 64 + 2 * (64 + 32) + 3 * (64 + 96));
    assert_eq!((lora.learning_parameters, lora.memory.adapter), (elements, 4 * elements));
    assert_eq!((lora.memory.gradients, lora.memory.optimiser), (4 * elements, 8 * elements));
    assert!(lora.disk < full.disk);
    let dpo = plan(&configuration(Method::Dpo, TuningKind::Full, &[]), tokens, u64::MAX);
    // Its log-probabilities are computed before there are moments.
    assert_eq!(dpo.memory.reference, 0);
    let grpo = plan(&configuration(Method::Grpo, TuningKind::Full, &["policy.kl=0.1"]), tokens, u64::MAX);
    assert_eq!(grpo.memory.reference, 4 * parameters);
    let ppo = plan(&configuration(Method::Ppo, TuningKind::Lora, &[]), tokens, u64::MAX);
    assert!(ppo.memory.critic > ppo.memory.weights && ppo.memory.rollouts > 0);
    let more = plan(
        &configuration(Method::Ppo, TuningKind::Lora, &["rollout.max_tokens=400"]),
        StepTokens { pages: 100, ..tokens },
        u64::MAX,
    );
    assert!(more.memory.rollouts > ppo.memory.rollouts, "{} {}", more.memory.rollouts, ppo.memory.rollouts);
}

/// The setting's number stood in the plan, whatever the pieces were, and never more than the model's context.
#[test]
fn an_anchors_piece_takes_the_memory_of_its_rows() {
    let small =
        StepTokens { mean: 64.0, largest_micro_batch: 64, different_rows: 64, ..StepTokens::default() };
    let memory = |rows: usize, settings: &[&str]| {
        let configuration = configuration(Method::Sft, TuningKind::Lora, settings);
        plan(&configuration, small.with_anchor(rows), u64::MAX).memory
    };
    let without = memory(0, &[]);
    let anchored = |rows: usize| memory(rows, &["anchor.tokens=16"]);
    assert_eq!(anchored(64), without);
    let beyond_the_context = 2 * tiny_config().context_length;
    assert!(anchored(65).activations > without.activations);
    assert!(anchored(beyond_the_context).activations > anchored(beyond_the_context / 2).activations);
    // A step with as many rows of examples takes the same.
    let examples = StepTokens { different_rows: 300, ..small };
    let sft = configuration(Method::Sft, TuningKind::Lora, &[]);
    assert_eq!(anchored(300), plan(&sft, examples, u64::MAX).memory);
}

#[test]
fn times_are_those_of_a_steps_passes() {
    let tokens =
        StepTokens { mean: 100.0, largest_micro_batch: 50, different_rows: 50, ..StepTokens::default() };
    let sft = plan(&configuration(Method::Sft, TuningKind::Lora, &["schedule.steps=10"]), tokens, u64::MAX);
    assert!((sft.step_seconds - 0.2).abs() < 1e-12 && (sft.seconds() - 2.0).abs() < 1e-12);
    assert_eq!((sft.preparing_seconds, sft.writing_seconds), (0.0, 0.0));
    let settings = ["batch.examples=4", "schedule.steps=10"];
    let dpo = plan(&configuration(Method::Dpo, TuningKind::Lora, &settings), tokens, u64::MAX);
    // 100 examples of 25 tokens, once forward by the reference.
    assert!((dpo.preparing_seconds - 2.5).abs() < 1e-12, "{}", dpo.preparing_seconds);
    let settings =
        ["batch.examples=2", "rollout.answers=3", "rollout.max_tokens=10", "policy.kl=0", "policy.epochs=2"];
    let grpo = plan(&configuration(Method::Grpo, TuningKind::Lora, &settings), tokens, u64::MAX);
    assert!((grpo.writing_seconds - 0.6).abs() < 1e-12);
    assert!((grpo.step_seconds - (0.6 + 2.0 * 0.2)).abs() < 1e-12, "{}", grpo.step_seconds);
    // A teacher reads what the student learns, some of which the student has written.
    let distilled = |settings: &[&str]| {
        plan(&configuration(Method::Distill, TuningKind::Lora, settings), tokens, u64::MAX)
    };
    assert!((distilled(&[]).step_seconds - (0.2 + 0.4)).abs() < 1e-12);
    let own = ["batch.examples=4", "distillation.own_answers=0.5", "rollout.max_tokens=10"];
    assert!((distilled(&own).writing_seconds - 0.2).abs() < 1e-12);
    let text = plan_text(&grpo);
    assert!(text.contains("2 prompts with 3 answers each") && text.contains("measured"), "{text}");
}

#[test]
fn a_run_that_cannot_fit_is_refused_with_figures_and_what_to_lower() {
    let tokens = StepTokens {
        mean: 1e6,
        largest_micro_batch: 100_000,
        different_rows: 100_000,
        ..StepTokens::default()
    };
    let refused = |method, settings: &[&str], tokens, memory| {
        plan(&configuration(method, TuningKind::Lora, settings), tokens, memory)
            .check()
            .unwrap_err()
            .to_string()
    };
    let error = refused(Method::Sft, &[], tokens, 100 * MIB);
    for part in ["100 MiB are there", "activations", "batch.micro_tokens"] {
        assert!(error.contains(part), "{error}");
    }
    let small =
        StepTokens { mean: 64.0, largest_micro_batch: 64, different_rows: 64, ..StepTokens::default() };
    let writing = StepTokens { pages: 2048, ..small };
    let error = refused(Method::Grpo, &["rollout.answers=64", "batch.examples=64"], writing, 60 * MIB);
    assert!(error.contains("answers being written") && error.contains("rollout.answers"), "{error}");
    plan(&configuration(Method::Sft, TuningKind::Lora, &[]), small, 1 << 30).check().unwrap();
    // A teacher that does not fit is refused before it is loaded.
    let distill = configuration(Method::Distill, TuningKind::Lora, &[]);
    let teacher = PlannedTeacher::of(&tiny_config(), 1 << 30, small.largest_micro_batch);
    let models = PlannedModel { teacher: Some(teacher), ..PlannedModel::default() };
    let error = plan_with(&distill, small, 1 << 30, models).check().unwrap_err().to_string();
    assert!(error.contains("teacher 1.00 GiB") && error.contains("answers that it writes first"), "{error}");
    let mut no_disk = plan(&configuration(Method::Sft, TuningKind::Full, &[]), small, 1 << 40);
    no_disk.disk_available = Some(1000);
    let error = no_disk.check().unwrap_err().to_string();
    assert!(error.contains("on disk") && error.contains("intervals.keep"), "{error}");
}
