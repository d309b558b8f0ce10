//! The methods that learn from given answers.

use super::answerer::Samples;
use super::opened::{NewHead, Opened};
use super::planned::Planning;
use super::{AlignArguments, Begun, examples, planned, replay, train};
use crate::home::Home;
use anyhow::{Context, Result};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use time::OffsetDateTime;
use zhenjin_align::AlignError;
use zhenjin_align::configuration::{Configuration, Method};
use zhenjin_align::data::{EncodedThumb, Encoder, Kind};
use zhenjin_align::losses::judged::JudgedLoss;
use zhenjin_align::losses::preference::PreferenceLoss;
use zhenjin_align::methods::{
    Anchor, Answerer, Dialogues, Examples, Judged, Offline, Preferences, RewardPairs,
};
use zhenjin_align::plan::StepTokens;
use zhenjin_align::rollouts::RolloutOptions;
use zhenjin_align::trainee::Trainee;
use zhenjin_tensor::KvDtype;

/// Where log-probabilities of the reference are kept.
const REFERENCE: &str = "reference.json";

/// Of how many of how many examples the log-probabilities of the reference are known, for whoever shows it; clones share it.
#[derive(Clone, Debug, Default)]
pub(crate) struct ReferenceProgress(Arc<[AtomicUsize; 2]>);

impl ReferenceProgress {
    pub(crate) fn tell(&self, done: usize, all: usize) {
        let [known, examples] = &*self.0;
        examples.store(all, Ordering::Relaxed);
        known.store(done, Ordering::Relaxed);
    }

    /// `None` before it begins, and from its end on.
    pub(crate) fn under_way(&self) -> Option<(u64, u64)> {
        let count = |count: &AtomicUsize| count.load(Ordering::Relaxed) as u64;
        let [known, examples] = &*self.0;
        let (known, examples) = (count(known), count(examples));
        (known < examples).then_some((known, examples))
    }
}

pub(super) fn run(home: &Home, method: Method, arguments: &AlignArguments) -> Result<()> {
    if let Some(path) = &arguments.replay {
        return replay::run(home, method, arguments, arguments.overrides()?, path);
    }
    let mut begun = Begun::new(arguments, arguments.overrides()?)?;
    // Settings that cannot be are refused before anything is read.
    let time = begun.time()?;
    let seed = begun.configuration(method, arguments, 1, time)?.seed;
    let opened = Opened::new(home, arguments)?;
    begun.continue_adapter(arguments, &opened);
    let run = OfflineRun { arguments, begun: &begun, opened: &opened, method, time, seed };
    match method {
        Method::Sft => run.sft(),
        Method::Kto => run.kto(),
        Method::Reward => run.reward(),
        _ => run.dpo(),
    }
}

pub(super) struct OfflineRun<'a> {
    pub(super) arguments: &'a AlignArguments,
    pub(super) begun: &'a Begun,
    pub(super) opened: &'a Opened,
    pub(super) method: Method,
    pub(super) time: OffsetDateTime,
    /// Divides the data into what is learned and what is held out, among others: that of the run, also of one that goes on.
    pub(super) seed: u64,
}

impl OfflineRun<'_> {
    pub(super) fn read<T: zhenjin_align::data::HashTokens + zhenjin_align::data::Keep>(
        &self,
        kind: Kind,
        encode: fn(
            &Encoder<'_>,
            &zhenjin_align::data::Dataset,
            &zhenjin_align::data::EncodeOptions,
        ) -> Result<zhenjin_align::data::Encoded<T>, zhenjin_align::data::DataError>,
    ) -> Result<(zhenjin_align::data::KeptExamples<T>, Configuration)> {
        let read = examples::read(self.arguments, self.opened, kind, self.time, 0, self.seed, encode)?;
        let configuration =
            self.begun.configuration(self.method, self.arguments, read.training.len(), self.time)?;
        Ok((read, configuration))
    }

    pub(super) fn sft(&self) -> Result<()> {
        let (read, configuration) = self.read(Kind::Conversations, |encoder, data, options| {
            encoder.encode_conversations(data, options)
        })?;
        let (training, held_out) = (Dialogues::new(read.training), Dialogues::new(read.held_out));
        self.train(configuration, training, held_out, &read.fingerprint)
    }

    fn dpo(&self) -> Result<()> {
        let (read, configuration) =
            self.read(Kind::Pairs, |encoder, data, options| encoder.encode_pairs(data, options))?;
        let section = configuration.preference.context("a configuration of DPO")?;
        let loss = PreferenceLoss {
            kind: section.loss,
            beta: section.beta,
            label_smoothing: section.label_smoothing,
        };
        let micro_tokens = configuration.batch.micro_tokens;
        let pairs = |pairs| Preferences::new(pairs, loss, section.sft_weight, micro_tokens);
        self.train(configuration.clone(), pairs(read.training), pairs(read.held_out), &read.fingerprint)
    }

    fn kto(&self) -> Result<()> {
        let (read, configuration) =
            self.read(Kind::Thumbs, |encoder, data, options| encoder.encode_thumbs(data, options))?;
        let section = configuration.judged.context("a configuration of KTO")?;
        let loss = JudgedLoss {
            beta: section.beta,
            liked_weight: section.liked_weight,
            disliked_weight: section.disliked_weight,
        };
        tell_balance(&read.training, &loss);
        let context = self.opened.model.file.config().context_length;
        let micro_tokens = configuration.batch.micro_tokens;
        let judged = |thumbs, others: &[EncodedThumb]| {
            let judged = Judged::new(thumbs, others, loss, context, micro_tokens)?;
            Ok::<_, AlignError>(judged.with_sft_weight(section.sft_weight))
        };
        // What is held out may have one prompt only; what is learned is not mixed with it.
        let held_out = judged(read.held_out, &read.training);
        let training = judged(read.training, &[])?;
        let held_out = held_out?;
        self.train(configuration, training, held_out, &read.fingerprint)
    }

    fn reward(&self) -> Result<()> {
        let (read, configuration) =
            self.read(Kind::Pairs, |encoder, data, options| encoder.encode_pairs(data, options))?;
        let section = configuration.reward.context("a configuration of a reward model")?;
        let pairs = |pairs| RewardPairs::new(pairs, section.centring);
        self.train(configuration, pairs(read.training), pairs(read.held_out), &read.fingerprint)
    }

    pub(super) fn train<E: Examples>(
        &self,
        configuration: Configuration,
        training: E,
        held_out: E,
        fingerprint: &str,
    ) -> Result<()> {
        let anchor = self.anchor(&configuration)?;
        let anchor_rows = anchor.as_ref().map_or(0, Anchor::most_rows);
        let planning = Planning {
            arguments: self.arguments,
            begun: self.begun,
            opened: self.opened,
            configuration: &configuration,
            tokens: StepTokens::of_examples(&configuration, &training).with_anchor(anchor_rows),
            examples: training.count(),
            models: planned::models(self.opened, self.arguments, &configuration, &[], 0)?,
            teacher: None,
        };
        if self.arguments.dry_run {
            print!("{}", configuration.to_toml());
            planning.show()?;
            return planning.show_measured(&mut self.trainee(&configuration, None)?, None, None);
        }
        planning.show()?;
        self.learn(configuration, training, held_out, anchor, fingerprint)
    }

    /// The text that stays as probable as it is, if there is one.
    pub(super) fn anchor(&self, configuration: &Configuration) -> Result<Option<Anchor>> {
        examples::anchor(self.arguments, self.opened, configuration.anchor.as_ref())
    }

    /// The model that learns. `padding` is the token that a reward model's files name for that.
    pub(super) fn trainee(&self, configuration: &Configuration, padding: Option<u32>) -> Result<Trainee> {
        let config = self.opened.model.file.config();
        let head = (self.method == Method::Reward).then(|| NewHead::of_zeros(config, padding));
        let needs_reference =
            matches!(self.method, Method::Dpo | Method::Kto) || configuration.anchor.is_some();
        self.opened.trainee(self.arguments, configuration, needs_reference, head)
    }

    /// Trains by a plan that was shown.
    pub(super) fn learn<E: Examples>(
        &self,
        configuration: Configuration,
        training: E,
        held_out: E,
        anchor: Option<Anchor>,
        fingerprint: &str,
    ) -> Result<()> {
        let padding = match self.method {
            Method::Reward => self.opened.padding_token(&tokens_of([&training, &held_out])),
            _ => None,
        };
        let trainee = self.trainee(&configuration, padding)?;
        let answerer = (self.method != Method::Reward).then(|| self.answerer(&configuration)).transpose()?;
        let mut offline =
            Offline::new(configuration.clone(), trainee, training, held_out, answerer, fingerprint)?;
        if let Some(anchor) = anchor {
            offline = offline.with_anchor(anchor);
        }
        let folder = self.begun.folder.path();
        std::fs::create_dir_all(folder).with_context(|| format!("making {}", folder.display()))?;
        let mut told = 0;
        offline.prepare(self.begun.folder.path().join(REFERENCE), &mut |done, all| {
            self.arguments.reference.tell(done, all);
            if done * 10 / all > told {
                told = done * 10 / all;
                eprintln!("the reference's log-probabilities: {done} of {all} examples");
            }
        })?;
        let threads = self.opened.load.team.threads();
        train(self.begun, &configuration, self.arguments, threads, offline)
    }

    fn answerer(&self, configuration: &Configuration) -> Result<Box<dyn Answerer>> {
        Ok(Box::new(Samples {
            tokenizer: Arc::new(self.opened.model.tokenizer.clone()),
            options: RolloutOptions {
                section: Samples::section(),
                stop_tokens: self.opened.stop_tokens(),
                usable_vocabulary: self.opened.usable_vocabulary,
                kv_dtype: KvDtype::F32,
                team: Arc::clone(&self.opened.load.team),
            },
            seed: configuration.seed,
        }))
    }
}

/// All tokens of examples, whether they are learnt or measured: a token that stands in one of them cannot be its padding.
fn tokens_of<E: Examples>(parts: [&E; 2]) -> BTreeSet<u32> {
    let examples = parts.into_iter().flat_map(|part| (0..part.count()).map(move |example| (part, example)));
    examples.flat_map(|(part, example)| part.packed(&[example]).tokens).collect()
}

/// Says where one kind of thumbs outweighs the other: then all answers become less likely, or all more (Ethayarajh et al. 2024, section 4.2,
/// want the weights times the numbers of both kinds to be near each other).
fn tell_balance(thumbs: &[EncodedThumb], loss: &JudgedLoss) {
    let liked = thumbs.iter().filter(|thumb| thumb.liked).count();
    let disliked = thumbs.len() - liked;
    let weights = [loss.liked_weight * liked as f64, loss.disliked_weight * disliked as f64];
    let is_even = 2.0 * weights[0].min(weights[1]) >= weights[0].max(weights[1]);
    if is_even || liked == 0 || disliked == 0 {
        return;
    }
    let even = |count: usize| thumbs.len() as f64 / (2 * count) as f64;
    eprintln!(
        "{liked} answers are liked and {disliked} are not, and one kind outweighs the other: --set judged.liked_weight={:.3} --set \
         judged.disliked_weight={:.3} would let both weigh the same",
        even(liked),
        even(disliked)
    );
}

#[cfg(test)]
mod tests {
    use super::*;
    use zhenjin_align::data::EncodedPair;
    use zhenjin_tokenizer::EncodedDialogue;

    /// A token that stood in held-out examples alone was taken for padding, so that their values were those at another token.
    #[test]
    fn tokens_of_held_out_examples_are_no_padding() {
        let dialogue =
            |ids: &[u32]| EncodedDialogue { ids: ids.to_vec(), assistant_mask: vec![true; ids.len()] };
        let pairs = |chosen: &[u32], rejected: &[u32]| {
            let pair = EncodedPair { chosen: dialogue(chosen), rejected: dialogue(rejected), margin: None };
            RewardPairs::new(vec![pair], 0.0)
        };
        let used = tokens_of([&pairs(&[1, 2], &[3]), &pairs(&[4], &[2, 5])]);
        assert_eq!(used, BTreeSet::from([1, 2, 3, 4, 5]));
    }
}
