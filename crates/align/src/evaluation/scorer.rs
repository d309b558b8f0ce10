//! Log-probabilities and values of given texts, without anything that learning needs.

use std::path::Path;
use std::sync::Arc;

use zhenjin_model::{
    Adapter, AdapterValues, Learned, Learner, LearnerOptions, LoadOptions, Model, ScorePlace,
};
use zhenjin_tensor::Vector;
use zhenjin_tokenizer::EncodedDialogue;

use crate::data::EncodedPair;
use crate::error::AlignError;
use crate::packed::{Packed, groups};
use crate::trainee::{RewardFiles, RewardWeights, ValueBatch};

/// Tokens that are computed together.
const MICRO_TOKENS: usize = 2048;

/// A model that scores texts, with any of its adapters.
pub struct Scorer {
    model: Arc<Model>,
    learner: Learner,
    load: LoadOptions,
}

impl std::fmt::Debug for Scorer {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Scorer").field("model", &self.model.fingerprint).finish_non_exhaustive()
    }
}

impl Scorer {
    /// A scorer with these weights. Probabilities are those among the first `usable_vocabulary` tokens, which the tokenizer has.
    ///
    /// # Errors
    /// [`AlignError::Model`].
    pub fn new(model: Arc<Model>, load: LoadOptions, usable_vocabulary: usize) -> Result<Scorer, AlignError> {
        let options = LearnerOptions { load: load.clone(), recompute: false };
        let learner = Learner::new(&model.config, options)?
            .with_usable_vocabulary(usable_vocabulary)
            .with_shared_beginnings();
        Ok(Scorer { model, learner, load })
    }

    /// The weights.
    pub fn model(&self) -> &Arc<Model> {
        &self.model
    }

    /// An adapter to these weights, as `peft` or a run wrote it.
    ///
    /// # Errors
    /// [`AlignError::Model`] when the folder holds none, or one for another model.
    pub fn open_adapter(&self, folder: &Path) -> Result<Arc<Adapter>, AlignError> {
        let values = AdapterValues::open(folder, &self.model.config)?;
        Ok(Arc::new(values.pack(self.load.simd, &self.load.team)?))
    }

    /// log π of each document's answers: the sum over the tokens that the assistant wrote.
    ///
    /// # Errors
    /// [`AlignError::Model`]; [`AlignError::Input`] for a sum that is not finite.
    pub fn dialogue_scores(
        &mut self,
        adapter: Option<&Arc<Adapter>>,
        documents: &[&EncodedDialogue],
        progress: &mut dyn FnMut(usize),
    ) -> Result<Vec<f64>, AlignError> {
        let sizes: Vec<usize> = documents.iter().map(|document| document.ids.len()).collect();
        let mut sums = Vec::with_capacity(documents.len());
        for range in groups(&sizes, MICRO_TOKENS) {
            let mut packed = Packed::default();
            documents[range].iter().for_each(|document| packed.push(document));
            self.add_sums(adapter, &packed, &mut sums)?;
            progress(sums.len());
        }
        Ok(sums)
    }

    /// log π of the chosen and the rejected answer of each pair. `progress` is told how many documents are scored, of two for each pair.
    ///
    /// # Errors
    /// As for [`Scorer::dialogue_scores`].
    pub fn pair_scores(
        &mut self,
        adapter: Option<&Arc<Adapter>>,
        pairs: &[EncodedPair],
        progress: &mut dyn FnMut(usize),
    ) -> Result<Vec<[f64; 2]>, AlignError> {
        let documents: Vec<&EncodedDialogue> =
            pairs.iter().flat_map(|pair| [&pair.chosen, &pair.rejected]).collect();
        let sums = self.dialogue_scores(adapter, &documents, progress)?;
        Ok(sums.as_chunks::<2>().0.to_vec())
    }

    fn add_sums(
        &mut self,
        adapter: Option<&Arc<Adapter>>,
        packed: &Packed,
        sums: &mut Vec<f64>,
    ) -> Result<(), AlignError> {
        let learned = Learned::from(&self.model.weights).with_adapter(adapter.map(|adapter| &**adapter));
        let scores = self.learner.score(learned, &packed.batch())?;
        for rows in packed.documents() {
            let scored = rows.filter(|row| packed.targets[*row].is_some());
            let sum: f64 = scored.map(|row| f64::from(scores[row].log_probability)).sum();
            if !sum.is_finite() {
                let number = sums.len() + 1;
                return Err(AlignError::Input(format!(
                    "the log-probability of text {number} is {sum}: the model or the adapter has numbers that are not finite"
                )));
            }
            sums.push(sum);
        }
        Ok(())
    }
}

/// What a model says of plain texts.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Perplexity {
    /// −log p of each text in nats, its first token aside, which nothing stands before.
    pub nats: Vec<f64>,
    /// The tokens of each text that have a probability.
    pub tokens: Vec<usize>,
}

impl Perplexity {
    /// e to the mean of −log p over all tokens; `None` where no token has a probability.
    pub fn value(&self) -> Option<f64> {
        let tokens: usize = self.tokens.iter().sum();
        (tokens > 0).then(|| (self.nats.iter().sum::<f64>() / tokens as f64).exp())
    }
}

/// Scores every token of plain texts but the first of each.
///
/// # Errors
/// [`AlignError::Model`]; [`AlignError::Input`] for a number that is not finite.
pub fn perplexity(
    scorer: &mut Scorer,
    adapter: Option<&Arc<Adapter>>,
    texts: &[Vec<u32>],
) -> Result<Perplexity, AlignError> {
    let sizes: Vec<usize> = texts.iter().map(Vec::len).collect();
    let mut sums = Vec::with_capacity(texts.len());
    for range in groups(&sizes, MICRO_TOKENS) {
        let mut packed = Packed::default();
        for text in &texts[range] {
            let (first, rest) = text.split_at(text.len().min(1));
            packed.push_answer(first, rest);
        }
        scorer.add_sums(adapter, &packed, &mut sums)?;
    }
    Ok(Perplexity {
        nats: sums.into_iter().map(|sum| -sum).collect(),
        tokens: texts.iter().map(|text| text.len().saturating_sub(1)).collect(),
    })
}

/// A reward model: weights, perhaps with an adapter, and a head for values.
#[derive(Debug)]
pub struct RewardModel {
    scorer: Scorer,
    adapter: Option<Arc<Adapter>>,
    head: Vector,
    place: ScorePlace,
    /// Not read at a text's end.
    padding: Option<u32>,
    endings: Endings,
}

/// How conversations end, for reward models that others trained: on everything that the chat template writes, with their score at the last token
/// that is not padding.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Endings {
    /// The tokens that end a turn.
    pub end_of_turn: Vec<u32>,
    /// What the template writes behind the last turn's end.
    pub behind: Vec<u32>,
    /// The base's padding token, which counts where the reward model is an adapter to it.
    pub padding: Option<u32>,
}

impl RewardModel {
    /// Opens a reward model, as training or the `transformers` and `peft` libraries write it: an adapter to `base` with a head, or whole weights with
    /// a head, which need no base.
    ///
    /// # Errors
    /// As [`RewardFiles::open`]; [`AlignError::Input`] for whole weights with fewer tokens than `usable_vocabulary`.
    pub fn open(
        folder: &Path,
        base: &Arc<Model>,
        load: &LoadOptions,
        usable_vocabulary: usize,
    ) -> Result<RewardModel, AlignError> {
        RewardModel::of_files(RewardFiles::open(folder, &base.config)?, folder, base, load, usable_vocabulary)
    }

    /// The same, of files that are open, from `folder` (for error messages).
    ///
    /// # Errors
    /// [`AlignError::Model`]; [`AlignError::Input`] for whole weights with fewer tokens than `usable_vocabulary`.
    pub fn of_files(
        files: RewardFiles,
        folder: &Path,
        base: &Arc<Model>,
        load: &LoadOptions,
        usable_vocabulary: usize,
    ) -> Result<RewardModel, AlignError> {
        let RewardFiles { weights, head } = files;
        let (model, adapter) = match weights {
            RewardWeights::Adapter(values) => (Arc::clone(base), Some(values)),
            RewardWeights::Whole(file) => {
                (Arc::new(Model::from_source(file.config().clone(), &*file, load)?), None)
            }
        };
        let tokens = model.config.vocabulary_size;
        if tokens < usable_vocabulary {
            return Err(AlignError::Input(format!(
                "the reward model {} knows {tokens} tokens, but the model whose answers it is to judge has {usable_vocabulary}: it has another \
                 tokenizer",
                folder.display()
            )));
        }
        let adapter = adapter.map(|values| values.pack(load.simd, &load.team)).transpose()?.map(Arc::new);
        let scorer = Scorer::new(model, load.clone(), usable_vocabulary)?;
        let (head, place, padding) = (Vector::from(head.weight), head.place, head.padding);
        Ok(RewardModel { scorer, adapter, head, place, padding, endings: Endings::default() })
    }

    /// The most tokens of a dialogue that it can read.
    pub fn context_length(&self) -> usize {
        self.scorer.model.config.context_length
    }

    /// The same, told how conversations end. It matters only for models that others trained.
    #[must_use]
    pub fn with_endings(self, endings: Endings) -> RewardModel {
        let of_base =
            endings.padding.filter(|_| self.adapter.is_some() && self.place == ScorePlace::EndOfText);
        RewardModel { padding: self.padding.or(of_base), endings, ..self }
    }

    /// A dialogue as the model was trained on, up to the token at which its score is.
    fn scored(&self, dialogue: &[u32]) -> Vec<u32> {
        let mut tokens = dialogue.to_vec();
        let Endings { end_of_turn, behind, .. } = &self.endings;
        let is_ended = dialogue.last().is_some_and(|last| end_of_turn.contains(last));
        let longest = self.context_length();
        if self.place == ScorePlace::EndOfText && is_ended && tokens.len() + behind.len() <= longest {
            tokens.extend(behind);
        }
        if let Some(padding) = self.padding {
            let end = tokens.iter().rposition(|token| *token != padding);
            tokens.truncate(end.map_or(1, |end| end + 1));
        }
        tokens
    }
}

/// The reward model's values of whole dialogues, at the end of each; or why one of them has none: it has no tokens, more than the model can read, or
/// a value that is not finite. `progress` is told how many are done.
///
/// # Errors
/// [`AlignError::Model`] when no dialogue can be judged.
pub fn dialogue_values(
    model: &mut RewardModel,
    dialogues: &[&[u32]],
    progress: &mut dyn FnMut(usize),
) -> Result<Vec<Result<f64, String>>, AlignError> {
    let longest = model.context_length();
    let tokens = |dialogue: &&[u32]| match dialogue.len() {
        0 => Err("it has no tokens".to_owned()),
        length if length > longest => {
            Err(format!("it has {length} tokens, and the reward model can read {longest}"))
        }
        _ => Ok(model.scored(dialogue)),
    };
    let dialogues: Vec<Result<Vec<u32>, String>> = dialogues.iter().map(tokens).collect();
    let readable: Vec<&Vec<u32>> = dialogues.iter().filter_map(|tokens| tokens.as_ref().ok()).collect();
    let unreadable = dialogues.len() - readable.len();
    let sizes: Vec<usize> = readable.iter().map(|tokens| tokens.len()).collect();
    let mut values = Vec::with_capacity(readable.len());
    for range in groups(&sizes, MICRO_TOKENS) {
        let mut batch = ValueBatch::default();
        readable[range].iter().for_each(|tokens| batch.push_last(tokens));
        let learned = Learned::from(&model.scorer.model.weights)
            .with_adapter(model.adapter.as_deref())
            .with_values(Some(&model.head));
        let found = model.scorer.learner.values(learned, &batch.batch())?;
        values.extend(found.into_iter().map(f64::from));
        progress(unreadable + values.len());
    }
    let mut values = values.into_iter();
    let value = |tokens: Result<Vec<u32>, String>| -> Result<f64, String> {
        tokens?;
        match values.next() {
            Some(value) if value.is_finite() => Ok(value),
            Some(value) => Err(format!("its value is {value}")),
            None => Err("it was not read".to_owned()),
        }
    };
    Ok(dialogues.into_iter().map(value).collect())
}

/// The same, where each dialogue must have a value.
///
/// # Errors
/// [`AlignError::Model`]; [`AlignError::Input`] with the first dialogue that has none, and why.
pub fn reward_scores(
    model: &mut RewardModel,
    dialogues: &[&[u32]],
    progress: &mut dyn FnMut(usize),
) -> Result<Vec<f64>, AlignError> {
    let values = dialogue_values(model, dialogues, progress)?;
    let of_dialogue = |(number, value): (usize, Result<f64, String>)| {
        value.map_err(|fault| {
            AlignError::Input(format!("the reward model has no score for dialogue {}: {fault}", number + 1))
        })
    };
    values.into_iter().enumerate().map(of_dialogue).collect()
}
