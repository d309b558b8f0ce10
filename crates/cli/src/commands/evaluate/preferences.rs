//! `zhenjin evaluate preferences`: how often a policy, what it began as, or a reward model prefers the answer that people preferred.

use super::PreferencesArguments;
use super::alignment::{Against, tenths};
use crate::commands::align::Loaded;
use crate::home::Home;
use anyhow::{Context, Result};
use serde_json::{Value, json};
use zhenjin_align::data::{EncodedPair, Kind};
use zhenjin_align::evaluation::pairs::{
    AccuracyDifference, Group, accuracy_difference, answer_tokens, margins,
};
use zhenjin_align::evaluation::{
    Calibration, Interval, PairAccuracy, PairMargin, RewardModel, calibration, pair_accuracy, reward_scores,
};

/// One way to prefer.
struct Measured {
    name: &'static str,
    /// For programs.
    key: &'static str,
    accuracy: PairAccuracy,
}

/// Everything that was measured.
#[derive(Default)]
struct Found {
    rows: Vec<Measured>,
    /// What is greater by how much than what.
    differences: Vec<(&'static str, &'static str, AccuracyDifference)>,
    calibration: Option<Calibration>,
    /// A reward model's scores of the chosen and the rejected answer of each pair.
    scores: Vec<[f64; 2]>,
}

pub(crate) fn run(home: &Home, arguments: &PreferencesArguments) -> Result<()> {
    let common = &arguments.common;
    let model = Loaded::new(home, &arguments.model, &common.load()?)?;
    let pairs =
        common.read(&model, Kind::Pairs, 0, |encoder, data, options| encoder.encode_pairs(data, options))?;
    let found = match &arguments.reward_model {
        Some(folder) => {
            let mut judge = model.reward_model(folder)?;
            of_rewards(&mut judge, &pairs, common.seed)?
        }
        None => of_policies(home, arguments, &model, &pairs)?,
    };
    common.tell(&found.json(pairs.len()), &found.table())
}

fn of_rewards(judge: &mut RewardModel, pairs: &[EncodedPair], seed: u64) -> Result<Found> {
    let dialogues: Vec<&[u32]> =
        pairs.iter().flat_map(|pair| [&pair.chosen.ids[..], &pair.rejected.ids[..]]).collect();
    let scores = reward_scores(judge, &dialogues, &mut tenths("answers judged", dialogues.len()))?;
    let scores = scores.as_chunks::<2>().0.to_vec();
    let margins: Vec<f64> = scores.iter().map(|[chosen, rejected]| chosen - rejected).collect();
    let tokens: Vec<[usize; 2]> = pairs.iter().map(answer_tokens).collect();
    let mut found = Found { calibration: calibration(&margins), scores, ..Found::default() };
    found.add("reward model", "reward_model", &margins, &tokens, seed)?;
    Ok(found)
}

fn of_policies(
    home: &Home,
    arguments: &PreferencesArguments,
    model: &Loaded,
    pairs: &[EncodedPair],
) -> Result<Found> {
    let seed = arguments.common.seed;
    let mut scorer = model.scorer()?;
    let against = arguments.against.as_deref().map_or(Against::Base, Against::new);
    let documents = 2 * pairs.len();
    let reference = match &against {
        Against::Base => {
            scorer.pair_scores(None, pairs, &mut tenths("answers scored by the base", documents))?
        }
        Against::Adapter(folder) => {
            let adapter = model.adapter(folder)?;
            scorer.pair_scores(Some(&adapter), pairs, &mut tenths("answers scored by the base", documents))?
        }
        Against::Model(name) => {
            let other = Loaded::new(home, name, &model.load)?;
            model.check_tokens(&other, name)?;
            let mut scorer = other.scorer()?;
            scorer.pair_scores(None, pairs, &mut tenths("answers scored by the base", documents))?
        }
    };
    // Without an adapter the model itself is the policy where it is compared with something else.
    let is_policy = arguments.adapter.is_some() || !matches!(against, Against::Base);
    let policy = match is_policy {
        false => None,
        true => {
            let adapter = arguments.adapter.as_deref().map(|folder| model.adapter(folder)).transpose()?;
            let mut progress = tenths("answers scored by the policy", documents);
            Some(scorer.pair_scores(adapter.as_ref(), pairs, &mut progress)?)
        }
    };
    let all = margins(pairs, policy.as_ref().unwrap_or(&reference), &reference);
    let tokens: Vec<[usize; 2]> = all.iter().map(|pair| pair.tokens).collect();
    let of = |measure: fn(&PairMargin) -> f64| -> Vec<f64> { all.iter().map(measure).collect() };
    let (base_sum, base_mean) = (of(PairMargin::reference_sum), of(PairMargin::reference_per_token));
    let mut found = Found::default();
    if policy.is_some() {
        let implicit = of(PairMargin::implicit_reward);
        let (sum, mean) = (of(PairMargin::policy_sum), of(PairMargin::policy_per_token));
        found.add("policy against base (implicit reward)", "implicit_reward", &implicit, &tokens, seed)?;
        found.add("policy, log-probability", "policy_log_probability", &sum, &tokens, seed)?;
        found.add("policy, log-probability per token", "policy_per_token", &mean, &tokens, seed)?;
        for (ours, ours_key, theirs, theirs_key) in [
            (&implicit, "implicit_reward", &base_sum, "base_log_probability"),
            (&implicit, "implicit_reward", &base_mean, "base_per_token"),
            (&sum, "policy_log_probability", &base_sum, "base_log_probability"),
            (&mean, "policy_per_token", &base_mean, "base_per_token"),
        ] {
            let difference = accuracy_difference(ours, theirs, &tokens, seed).context("no pairs")?;
            found.differences.push((ours_key, theirs_key, difference));
        }
    }
    found.add("base, log-probability", "base_log_probability", &base_sum, &tokens, seed)?;
    found.add("base, log-probability per token", "base_per_token", &base_mean, &tokens, seed)?;
    Ok(found)
}

impl Found {
    fn add(
        &mut self,
        name: &'static str,
        key: &'static str,
        margins: &[f64],
        tokens: &[[usize; 2]],
        seed: u64,
    ) -> Result<()> {
        let accuracy = pair_accuracy(margins, tokens, seed).context("there are no pairs to measure")?;
        self.rows.push(Measured { name, key, accuracy });
        Ok(())
    }

    fn name(&self, key: &str) -> &'static str {
        self.rows.iter().find(|row| row.key == key).map_or("", |row| row.name)
    }

    fn json(&self, pairs: usize) -> Value {
        let rows: serde_json::Map<String, Value> =
            self.rows.iter().map(|row| (row.key.to_owned(), json!(row.accuracy))).collect();
        let differences: Vec<Value> = self
            .differences
            .iter()
            .map(|(ours, theirs, of)| json!({ "of": ours, "less": theirs, "difference": of }))
            .collect();
        let mut found = json!({
            "pairs": pairs, "accuracy": rows, "differences": differences, "calibration": self.calibration,
        });
        if !self.scores.is_empty() {
            found["scores"] = json!(self.scores);
        }
        found
    }

    /// The results as tables in Markdown.
    fn table(&self) -> String {
        let mut text = String::from(
            "| preferred by | pairs | accuracy | chosen shorter | chosen longer | length-controlled |\n|---|---:|---:|---:|---:|---:|\n",
        );
        let group = |group: Option<Group>| {
            group.map_or("–".to_owned(), |group| format!("{} of {}", percent(group.accuracy), group.pairs))
        };
        for Measured { name, accuracy, .. } in &self.rows {
            text += &format!(
                "| {name} | {} | {} | {} | {} | {} |\n",
                accuracy.pairs,
                percent(accuracy.accuracy),
                group(accuracy.chosen_shorter),
                group(accuracy.chosen_longer),
                accuracy.length_controlled.map_or("–".to_owned(), percent),
            );
        }
        if !self.differences.is_empty() {
            text += "\n| difference, in points | accuracy | length-controlled |\n|---|---:|---:|\n";
        }
        for (ours, theirs, of) in &self.differences {
            text += &format!(
                "| {} less {} | {} | {} |\n",
                self.name(ours),
                self.name(theirs),
                points(of.accuracy),
                of.length_controlled.map_or("–".to_owned(), points)
            );
        }
        if let Some(Calibration { confidence, accuracy, expected_error, brier, bins }) = &self.calibration {
            text += &format!(
                "\nCalibration: the reward model expects {:.1} % of itself and has {:.1} %; expected calibration error {:.1} points, Brier \
                 score {brier:.3} (0.250 is that of always ½).\n\n| confidence | pairs | mean | accuracy |\n|---|---:|---:|---:|\n",
                100.0 * confidence,
                100.0 * accuracy,
                100.0 * expected_error
            );
            for bin in bins {
                text += &format!(
                    "| {:.0}–{:.0} % | {} | {:.1} % | {:.1} % |\n",
                    100.0 * bin.from,
                    100.0 * bin.to,
                    bin.pairs,
                    100.0 * bin.confidence,
                    100.0 * bin.accuracy
                );
            }
        }
        text + "\nIn brackets 95 % intervals (bootstrap over pairs). Length-controlled: the mean of the accuracy where the chosen answer has fewer \
                tokens and of that where it has more.\n"
    }
}

/// A share with its interval.
pub(super) fn percent(of: Interval) -> String {
    let Interval { mean, lower, upper } = of;
    format!("{:.1} % ({:.1}–{:.1})", 100.0 * mean, 100.0 * lower, 100.0 * upper)
}

fn points(of: Interval) -> String {
    let Interval { mean, lower, upper } = of;
    format!("{:+.1} ({:+.1} to {:+.1})", 100.0 * mean, 100.0 * lower, 100.0 * upper)
}
