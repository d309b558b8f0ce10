//! What a method's settings are where nobody says anything. The log has the runs that they were chosen by.

use zhenjin_train::configuration::{
    OptimiserKind, OptimiserSection, Orthogonaliser, Overrides, ScheduleKind, ScheduleSection,
};

use super::{
    AnchorSection, BatchSection, Configuration, CriticSection, DistillationSection, DivergencePlace,
    GroupSection, IntervalSection, JudgedSection, Method, PolicySection, PreferenceSection, Projections,
    RewardSection, RolloutSection, TuningKind, TuningSection, WatchSection,
};
use crate::losses::advantage::GroupScale;
use crate::losses::distillation::TeacherDivergence;
use crate::losses::policy::{Aggregation, DivergenceEstimator};
use crate::losses::preference::PreferenceLossKind;

/// Steps of a run that writes its own answers.
const ONLINE_STEPS: u64 = 200;

pub(super) fn configuration(method: Method, tuning: TuningKind) -> Configuration {
    let is_lora = tuning == TuningKind::Lora;
    Configuration {
        method,
        seed: 0,
        time: 0,
        tuning: TuningSection {
            kind: tuning,
            rank: if is_lora { 16 } else { 0 },
            alpha: if is_lora { 32.0 } else { 0.0 },
            rank_stabilised: false,
            projections: Projections::ALL,
        },
        batch: BatchSection { examples: if method.is_online() { 8 } else { 16 }, micro_tokens: 2048 },
        optimiser: optimiser(method, is_lora),
        schedule: ScheduleSection {
            kind: ScheduleKind::Cosine,
            steps: 0,
            warmup_steps: 0,
            decay_share: 0.0,
            final_share: 0.1,
        },
        preference: (method == Method::Dpo).then_some(PreferenceSection {
            loss: PreferenceLossKind::Sigmoid,
            beta: 0.1,
            label_smoothing: 0.0,
            sft_weight: 0.0,
        }),
        judged: (method == Method::Kto).then_some(JudgedSection {
            beta: 0.1,
            liked_weight: 1.0,
            disliked_weight: 1.0,
            sft_weight: 0.0,
        }),
        reward: (method == Method::Reward).then_some(RewardSection { centring: 0.01 }),
        distillation: (method == Method::Distill).then_some(DistillationSection {
            divergence: TeacherDivergence::ForwardKl,
            beta: 0.0,
            temperature: 1.0,
            weight: 1.0,
            own_answers: 0.0,
        }),
        anchor: None,
        rollout: method.is_online().then(|| rollout(if method == Method::Grpo { 8 } else { 1 })),
        policy: method.is_online().then_some(policy(method)),
        group: (method == Method::Grpo).then_some(GroupSection { scale: GroupScale::Deviation }),
        critic: (method == Method::Ppo).then_some(CriticSection {
            learning_rate: if is_lora { 3e-4 } else { 1e-5 },
            gamma: 1.0,
            lambda: 0.95,
            value_clip: 0.2,
            whiten: true,
        }),
        watch: method.is_online().then_some(WatchSection {
            most_kl: 0.0,
            least_entropy: 0.0,
            most_repetition: 0.0,
            window: 20,
        }),
        intervals: IntervalSection { checkpoint: 0, keep: 2, held_out: 0, samples: 0 },
    }
}

/// How a method that writes answers does so, `answers` to each prompt.
pub(super) fn rollout(answers: usize) -> RolloutSection {
    let (max_tokens, temperature, top_p, top_k) = (256, 1.0, 1.0, 0);
    RolloutSection { answers, max_tokens, temperature, top_p, top_k, drop_overlong: false }
}

/// Of a run with an anchor.
pub(super) fn anchor(method: Method, overrides: &Overrides) -> Option<AnchorSection> {
    let is_asked = ["anchor.weight", "anchor.tokens"].iter().any(|key| overrides.has(key));
    let can_have = matches!(method, Method::Sft | Method::Dpo | Method::Kto);
    (is_asked && can_have).then_some(AnchorSection { weight: AnchorSection::WEIGHT, tokens: 512 })
}

fn optimiser(method: Method, is_lora: bool) -> OptimiserSection {
    let learning_rate = match (method, is_lora) {
        (Method::Sft | Method::Distill, true) => 2e-4,
        (Method::Sft | Method::Distill, false) => 2e-5,
        (Method::Reward, true) => 1e-4,
        (Method::Reward, false) => 1e-5,
        (Method::Dpo | Method::Kto, true) => 5e-5,
        (Method::Dpo | Method::Kto, false) => 1e-6,
        (Method::Ppo | Method::Grpo, true) => 1e-4,
        (Method::Ppo | Method::Grpo, false) => 2e-6,
    };
    OptimiserSection {
        kind: OptimiserKind::Adamw,
        learning_rate,
        embedding_learning_rate: learning_rate,
        muon_learning_rate: 0.0,
        weight_decay: 0.0,
        beta1: 0.9,
        beta2: 0.999,
        epsilon: 1e-8,
        momentum: 0.0,
        orthogonaliser: Orthogonaliser::PolarExpress,
        clip: 1.0,
        average_decay: 0.0,
    }
}

fn policy(method: Method) -> PolicySection {
    let is_ppo = method == Method::Ppo;
    PolicySection {
        epochs: if is_ppo { 2 } else { 1 },
        minibatches: 1,
        clip_low: 0.2,
        clip_high: if is_ppo { 0.2 } else { 0.28 },
        dual_clip: 3.0,
        aggregation: Aggregation::TokenMean,
        kl: if is_ppo { 0.05 } else { 0.0 },
        kl_estimator: if is_ppo { DivergenceEstimator::K1 } else { DivergenceEstimator::K3 },
        kl_in: if is_ppo { DivergencePlace::Reward } else { DivergencePlace::Loss },
        kl_correction: true,
        mismatch_cap: 2.0,
    }
}

/// What follows from other settings: one rate for all weights, one pass over the examples, a tenth of it warm-up, ten looks at held-out examples.
pub(super) fn derive(configuration: &mut Configuration, examples: usize, overrides: &Overrides) {
    let optimiser = &mut configuration.optimiser;
    if !overrides.has("optimiser.embedding_learning_rate") {
        optimiser.embedding_learning_rate = optimiser.learning_rate;
    }
    if !overrides.has("schedule.steps") {
        configuration.schedule.steps = match configuration.method.is_online() {
            true => ONLINE_STEPS,
            false => examples.div_ceil(configuration.batch.examples.max(1)) as u64,
        };
    }
    if let Some(distillation) = &mut configuration.distillation
        && distillation.divergence == TeacherDivergence::JensenShannon
        && !overrides.has("distillation.beta")
    {
        distillation.beta = 0.5;
    }
    let steps = configuration.schedule.steps;
    let tenth = steps.div_ceil(10);
    if !overrides.has("schedule.warmup_steps") {
        configuration.schedule.warmup_steps = tenth.min(100);
    }
    let intervals = &mut configuration.intervals;
    for (key, interval) in [
        ("intervals.checkpoint", &mut intervals.checkpoint),
        ("intervals.held_out", &mut intervals.held_out),
        ("intervals.samples", &mut intervals.samples),
    ] {
        if !overrides.has(key) {
            *interval = tenth.max(1);
        }
    }
}
