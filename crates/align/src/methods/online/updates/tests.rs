//! What is learnt of a step's answers, against the papers' formulas, which are written out here.

use zhenjin_tensor::Dtype;

use super::super::tests::online;
use super::*;
use crate::configuration::Method;
use crate::losses::policy::Aggregation;
use crate::losses::tests::difference;
use crate::run::Training;

/// Eight answers in five minibatches were four updates.
#[test]
fn as_many_minibatches_are_made_as_are_asked_for() {
    let order: Vec<usize> = (0..8).rev().collect();
    for count in 1..=8 {
        let parts: Vec<&[usize]> = minibatches(&order, count).collect();
        assert_eq!((parts.len(), parts.concat()), (count, order.clone()));
        let lengths = parts.iter().map(|part| part.len());
        let (least, most) = (lengths.clone().min().unwrap(), lengths.max().unwrap());
        assert!(most - least <= 1, "{parts:?}");
        if 8 % count == 0 {
            assert_eq!(parts, order.chunks(8 / count).collect::<Vec<_>>());
        }
    }
    assert_eq!(minibatches(&order[..3], 5).count(), 3);
    assert_eq!(minibatches(&[], 5).count(), 0);
    for (count, epochs) in [(5, 1), (8, 1), (3, 2)] {
        let parts = format!("policy.minibatches={count}");
        let times = format!("policy.epochs={epochs}");
        // With the divergence in the loss something is learnt of every answer.
        let settings = ["batch.examples=2", "rollout.answers=4", "policy.kl=0.05", &parts, &times];
        let mut run = online(Method::Grpo, &settings, None);
        run.step(0, 1.0).unwrap();
        assert_eq!(run.updates(), count * epochs);
    }
}

/// Regression: of several updates the loss of the last one stood in the log as that of the step.
#[test]
fn the_loss_of_a_step_is_the_mean_of_its_updates() {
    // Nothing moves, so that every update is computed with the same weights.
    let settings = [
        "optimiser.learning_rate=0",
        "batch.examples=4",
        "rollout.answers=4",
        "policy.epochs=2",
        "policy.minibatches=2",
    ];
    let mut run = online(Method::Grpo, &settings, None);
    let mut outcome = StepOutcome::default();
    let mut episodes = Online::write(&mut run, &[0, 1, 2, 3], false, 4, 0).unwrap();
    run.judge(&mut episodes, &mut outcome).unwrap();
    run.score(&mut episodes, &mut outcome).unwrap();
    run.advantages(&mut episodes, &mut outcome).unwrap();
    let mut losses = Vec::new();
    for epoch in 0..2 {
        let all = (0..episodes.len()).collect();
        let order: Vec<usize> = SplitMix64::of(run.configuration.seed, "minibatches", epoch).shuffled(all);
        for minibatch in minibatches(&order, 2) {
            let of_minibatch: Vec<&Episode> = minibatch.iter().map(|number| &episodes[*number]).collect();
            let mut ratios = Ratios { least: f64::INFINITY, greatest: f64::NEG_INFINITY };
            let mut measures = Measures::default();
            let found = run.minibatch(&of_minibatch, minibatch.len(), false, &mut ratios, &mut measures);
            losses.push(found.unwrap().expect("something is to be learnt"));
            run.parts.trainee.forget_gradients();
        }
    }
    run.learn(0, 1.0, &mut episodes, &mut outcome).unwrap();
    let mean = losses.iter().sum::<f64>() / losses.len() as f64;
    assert_eq!(run.updates(), losses.len() as u64);
    assert!((outcome.loss - mean).abs() < 1e-9, "{} instead of the mean of {losses:?}", outcome.loss);
    assert!((losses[3] - mean).abs() > 1e-4, "the last one is no other than the mean: {losses:?}");
}

/// A step's answers before it is learnt from, as the run makes them; every third did not end. Then they are moved away from where a step begins:
/// the policy that wrote them and the reference say something else of their tokens than the policy does.
fn answers(run: &mut Online) -> (Vec<Episode>, StepOutcome) {
    let mut outcome = StepOutcome::default();
    let (prompts, answers) = (run.configuration.batch.examples, run.rollout.answers);
    let prompts = run.order.examples(0, prompts);
    let mut episodes = Online::write(run, &prompts, false, answers, 0).unwrap();
    for (number, episode) in episodes.iter_mut().enumerate() {
        episode.answer.ended = number % 3 != 0;
    }
    run.judge(&mut episodes, &mut outcome).unwrap();
    assert!(episodes.iter().all(|episode| episode.counts == episode.answer.ended));
    run.score(&mut episodes, &mut outcome).unwrap();
    for (number, episode) in episodes.iter_mut().enumerate() {
        for (place, old) in episode.old.iter_mut().enumerate() {
            *old += 0.6 * ((7 * number + place) as f32).sin();
        }
        for (place, reference) in episode.reference.iter_mut().enumerate() {
            *reference += 0.4 * ((5 * number + place) as f32).cos();
        }
    }
    (episodes, outcome)
}

/// What is known of a token.
#[derive(Clone, Copy, Debug)]
struct Known {
    old: f64,
    reference: f64,
    advantage: f64,
    correction: f64,
}

/// The loss of a token of log-probability `now`: PPO's clipped surrogate (Schulman et al. 2017, equation 7) with the dual clip (Ye et al. 2020),
/// times the truncated ratio of what the learner and the engine say of it (Yao et al. 2025); and the divergence, which that ratio does not touch.
fn loss_of(policy: &PolicySection, now: f64, token: &Known) -> f64 {
    let ratio = (now - token.old).exp();
    let surrogate = match token.advantage >= 0.0 {
        true => -token.advantage * ratio.min(1.0 + policy.clip_high),
        false => -token.advantage * ratio.min(policy.dual_clip).max(1.0 - policy.clip_low),
    };
    let divergence = match (policy.kl > 0.0 && policy.kl_in == DivergencePlace::Loss, policy.kl_correction) {
        (false, _) => 0.0,
        (true, true) => ratio * divergence_of(policy, now, token.reference),
        (true, false) => divergence_of(policy, now, token.reference),
    };
    token.correction * surrogate + policy.kl * divergence
}

/// Schulman 2020, "Approximating KL divergence".
fn divergence_of(policy: &PolicySection, now: f64, reference: f64) -> f64 {
    let difference = now - reference;
    match policy.kl_estimator {
        DivergenceEstimator::K1 => difference,
        DivergenceEstimator::K2 => difference * difference / 2.0,
        DivergenceEstimator::K3 => (-difference).exp() - 1.0 + difference,
    }
}

/// The rewards of an answer's tokens: what the answer gets at the last one, less the divergence of each where it counts there.
fn token_rewards(policy: &PolicySection, episode: &Episode) -> Vec<f64> {
    let last = episode.answer.tokens.len() - 1;
    let reward = |place: usize| {
        let whole = if place == last { episode.reward.unwrap() } else { 0.0 };
        let taken = match policy.kl_in {
            DivergencePlace::Loss => 0.0,
            DivergencePlace::Reward => {
                let (old, reference) = (episode.old[place], episode.reference[place]);
                policy.kl * divergence_of(policy, f64::from(old), f64::from(reference))
            }
        };
        whole - taken
    };
    (0..=last).map(reward).collect()
}

/// Without a scale, the advantage of a whole answer is what its reward is above the mean of its group, whether or not all of these count.
fn of_groups(run: &Online, episodes: &[Episode]) -> Vec<Vec<f64>> {
    let mut all = Vec::new();
    for group in episodes.chunks(run.rollout.answers) {
        let rewards: Vec<f64> =
            group.iter().map(|episode| token_rewards(&run.policy, episode).iter().sum()).collect();
        let mean = rewards.iter().sum::<f64>() / rewards.len() as f64;
        let of_episode =
            |(episode, reward): (&Episode, f64)| vec![reward - mean; episode.answer.tokens.len()];
        all.extend(group.iter().zip(rewards).map(of_episode));
    }
    all
}

/// Generalised advantages (Schulman et al. 2016, equation 16) of the answers that count, with mean 0 and deviation 1 over the whole step.
fn of_critic(run: &Online, episodes: &[Episode]) -> Vec<Vec<f64>> {
    let critic = run.configuration.critic.unwrap();
    let mut all: Vec<Vec<f64>> = Vec::new();
    for episode in episodes {
        let rewards = token_rewards(&run.policy, episode);
        let value = |place: usize| episode.values.get(place).copied().unwrap_or(0.0);
        let delta = |place: usize| rewards[place] + critic.gamma * value(place + 1) - value(place);
        let decay = critic.gamma * critic.lambda;
        let advantage = |place: usize| {
            let later = place..rewards.len();
            later.map(|later| decay.powi((later - place) as i32) * delta(later)).sum::<f64>()
        };
        all.push(if episode.counts { (0..rewards.len()).map(advantage).collect() } else { Vec::new() });
    }
    if critic.whiten {
        let values = all.concat();
        let mean = values.iter().sum::<f64>() / values.len() as f64;
        let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
        // What is added keeps a small deviation from becoming a great factor.
        let deviation = (squares / (values.len() - 1) as f64).sqrt() + 1e-8;
        all.iter_mut().flatten().for_each(|value| *value = (*value - mean) / deviation);
    }
    all
}

/// Asserts that every minibatch of a step has the loss that the formulas give, and every token its derivative.
fn assert_losses(run: &mut Online, episodes: &[Episode], advantages: &[Vec<f64>]) {
    let policy = run.policy;
    let losses = TokenLosses::new(&policy);
    let order = SplitMix64::of(run.configuration.seed, "minibatches", 0)
        .shuffled((0..episodes.len()).collect::<Vec<usize>>());
    let (mut clipped, mut seen) = (0, 0);
    for minibatch in minibatches(&order, policy.minibatches) {
        let counting: Vec<usize> =
            minibatch.iter().copied().filter(|number| episodes[*number].counts).collect();
        let tokens = |number: &usize| episodes[*number].answer.tokens.len();
        let all_tokens: usize = counting.iter().map(tokens).sum();
        let mut expected = 0.0;
        for number in &counting {
            let episode = &episodes[*number];
            let mut packed = Packed::default();
            packed.push_answer(&run.parts.tasks[episode.task].prompt, &episode.answer.tokens);
            let scores = run.parts.trainee.scores(&packed).unwrap();
            let of_answer = scores.iter().zip(&packed.targets).filter(|(_, target)| target.is_some());
            let of_answer: Vec<TokenScore> = of_answer.map(|(score, _)| *score).collect();
            assert_eq!(of_answer.len(), tokens(number));
            let weight = match policy.aggregation {
                Aggregation::TokenMean => 1.0 / all_tokens as f64,
                Aggregation::AnswerMean => 1.0 / (tokens(number) * minibatch.len()) as f64,
                Aggregation::ConstantLength => 1.0 / (run.rollout.max_tokens * minibatch.len()) as f64,
            };
            for (place, score) in of_answer.into_iter().enumerate() {
                let known = Known {
                    old: f64::from(episode.old[place]),
                    reference: f64::from(episode.reference.get(place).copied().unwrap_or(f32::NAN)),
                    advantage: advantages[*number][place],
                    correction: episode.corrections.get(place).copied().unwrap_or(1.0),
                };
                let formula = |now: f64| weight * loss_of(&policy, now, &known);
                let now = f64::from(score.log_probability);
                let found = losses.of(&Row::of(episode, place, weight), score);
                assert!((found.loss - formula(now)).abs() < 1e-12, "{found:?} {known:?}");
                assert!((found.slope - difference(formula, now)).abs() < 1e-6, "{found:?} {known:?}");
                expected += formula(now);
                (clipped, seen) = (clipped + usize::from(found.clipped), seen + 1);
            }
        }
        let of_minibatch: Vec<&Episode> = counting.iter().map(|number| &episodes[*number]).collect();
        let mut ratios = Ratios { least: f64::INFINITY, greatest: f64::NEG_INFINITY };
        let mut measures = Measures::default();
        let found = run.minibatch(&of_minibatch, minibatch.len(), false, &mut ratios, &mut measures);
        let found = found.unwrap().expect("something is to be learnt");
        run.parts.trainee.forget_gradients();
        assert!((found - expected).abs() < 1e-6 * expected.abs().max(0.1), "{found} instead of {expected}");
    }
    assert!(clipped > 0 && clipped < seen, "{clipped} of {seen} tokens are clipped");
}

fn assert_close(found: &[Episode], expected: &[Vec<f64>]) {
    for (episode, expected) in found.iter().zip(expected).filter(|(episode, _)| episode.counts) {
        assert_eq!(episode.advantages.len(), expected.len());
        for (found, expected) in episode.advantages.iter().zip(expected) {
            assert!((found - expected).abs() < 1e-6 * expected.abs().max(1.0), "{found} {expected}");
        }
    }
}

#[test]
fn of_groups_without_a_scale_answers_that_end_are_learnt_as_the_formulas_say() {
    for more in [
        ["policy.kl_in=loss", "policy.kl_estimator=k3", "policy.aggregation=answer-mean"],
        ["policy.kl_in=reward", "policy.kl_estimator=k1", "policy.aggregation=token-mean"],
        ["policy.kl_in=reward", "policy.kl_estimator=k3", "policy.aggregation=constant-length"],
    ] {
        let settings = [
            "rollout.drop_overlong=true",
            "rollout.answers=5",
            "batch.examples=3",
            "group.scale=none",
            "policy.kl=0.1",
            "policy.minibatches=3",
        ];
        let mut run = online(Method::Grpo, &[&settings[..], &more].concat(), None);
        let (mut episodes, mut outcome) = answers(&mut run);
        run.advantages(&mut episodes, &mut outcome).unwrap();
        let expected = of_groups(&run, &episodes);
        assert_close(&episodes, &expected);
        assert_losses(&mut run, &episodes, &expected);
    }
}

#[test]
fn with_a_critic_whole_steps_are_whitened_before_they_are_divided() {
    for more in [
        ["policy.kl_in=reward", "policy.kl_estimator=k1", "policy.kl_correction=true", "critic.whiten=true"],
        ["policy.kl_in=loss", "policy.kl_estimator=k2", "policy.kl_correction=false", "critic.whiten=true"],
        ["policy.kl_in=loss", "policy.kl_estimator=k3", "policy.kl_correction=true", "critic.whiten=false"],
    ] {
        let settings = [
            "rollout.drop_overlong=true",
            "rollout.answers=2",
            "batch.examples=6",
            "critic.gamma=0.9",
            "policy.kl=0.1",
            "policy.minibatches=3",
        ];
        let mut run = online(Method::Ppo, &[&settings[..], &more].concat(), None);
        let (mut episodes, mut outcome) = answers(&mut run);
        run.advantages(&mut episodes, &mut outcome).unwrap();
        let expected = of_critic(&run, &episodes);
        assert_close(&episodes, &expected);
        assert_losses(&mut run, &episodes, &expected);
    }
}

/// The correction of answers that other weights wrote was only seen to change something.
#[test]
fn the_correction_is_the_ratio_up_to_its_cap_and_leaves_the_divergence_alone() {
    for cap in [1.0, 1.01, 1e6] {
        let bound = format!("policy.mismatch_cap={cap}");
        let settings = [
            "rollout.answers=4",
            "batch.examples=3",
            "group.scale=none",
            "policy.kl=0.1",
            "policy.minibatches=2",
            &bound,
        ];
        let mut run = online(Method::Grpo, &settings, Some(Dtype::Q4_0));
        let mut outcome = StepOutcome::default();
        let mut episodes = Online::write(&mut run, &[0, 1, 2], false, 4, 0).unwrap();
        run.judge(&mut episodes, &mut outcome).unwrap();
        run.score(&mut episodes, &mut outcome).unwrap();
        let (mut cut, mut whole) = (0, 0);
        for episode in &episodes {
            let mut packed = Packed::default();
            packed.push_answer(&run.parts.tasks[episode.task].prompt, &episode.answer.tokens);
            let scores = run.parts.trainee.scores(&packed).unwrap();
            let scored = scores.iter().zip(&packed.targets).filter(|(_, target)| target.is_some());
            let by_learner: Vec<f32> = scored.map(|(score, _)| score.log_probability).collect();
            assert_eq!(episode.old, by_learner);
            assert_eq!(episode.corrections.len(), by_learner.len());
            let by_engine = &episode.answer.log_probabilities;
            for ((learner, engine), correction) in by_learner.iter().zip(by_engine).zip(&episode.corrections)
            {
                let ratio = (f64::from(*learner) - f64::from(*engine)).exp();
                assert_eq!(*correction, if ratio < cap { ratio } else { cap });
                *(if ratio < cap { &mut whole } else { &mut cut }) += 1;
            }
        }
        assert!(whole > 0 && (cut > 0) == (cap < 2.0), "{whole} below {cap} and {cut} above it");
        // The same for tokens that have moved since, in whole minibatches: the divergence has no correction in the formula.
        for episode in &mut episodes {
            episode.counts = episode.task != 1;
            episode.old.iter_mut().zip(0u8..).for_each(|(old, place)| *old += 0.5 * f32::from(place).sin());
            episode.reference.iter_mut().for_each(|reference| *reference -= 0.3);
        }
        run.advantages(&mut episodes, &mut outcome).unwrap();
        let expected = of_groups(&run, &episodes);
        assert_losses(&mut run, &episodes, &expected);
    }
    // Without a cap nothing is corrected.
    let mut run = online(Method::Grpo, &["rollout.answers=4", "policy.mismatch_cap=0"], Some(Dtype::Q4_0));
    let mut episodes = Online::write(&mut run, &[0, 1], false, 4, 0).unwrap();
    run.score(&mut episodes, &mut StepOutcome::default()).unwrap();
    assert!(episodes.iter().all(|episode| episode.corrections.is_empty()));
}
