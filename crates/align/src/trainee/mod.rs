//! A model that learns: its weights or an adapter to it, perhaps with a head for values, and the optimiser's state.

mod faults;
mod files;

use std::sync::Arc;
use std::time::Instant;

use zhenjin_model::{
    Adapter, AdapterValues, FreshAdapter, Learned, Learner, LearnerOptions, LoadOptions, Model, SCORE_TENSOR,
    TokenBatch, Weight,
};
use zhenjin_tensor::{
    Dtype, Gradients, LogitLoss, ParameterId, ParameterShape, ScoreGradient, TokenScore, Vector,
};
use zhenjin_train::configuration::{OptimiserKind, OptimiserSection};
use zhenjin_train::optimiser::{Description, Optimiser, Parameter, Rule, Shard, StepNumbers, describe};

use crate::configuration::{TuningKind, TuningSection};
use crate::error::AlignError;
use crate::packed::Packed;

pub use files::{RewardFiles, RewardWeights};

const TILE_ROWS: usize = 16;

/// Rows whose values are asked for, in documents one after the other.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ValueBatch {
    tokens: Vec<u32>,
    lengths: Vec<usize>,
    /// A row that is asked for has a target; which does not matter.
    wanted: Vec<Option<u32>>,
}

impl ValueBatch {
    /// Adds a document, of which the value at its last token is asked for.
    pub fn push_last(&mut self, tokens: &[u32]) {
        self.push(tokens, tokens.len().saturating_sub(1));
    }

    /// Adds a prompt with an answer, of which the values before each token of the answer are asked for.
    pub fn push_answer(&mut self, prompt: &[u32], answer: &[u32]) {
        let mut tokens = prompt.to_vec();
        tokens.extend(answer);
        tokens.pop();
        self.push(&tokens, prompt.len().saturating_sub(1));
    }

    fn push(&mut self, tokens: &[u32], first_wanted: usize) {
        self.tokens.extend(tokens);
        self.lengths.push(tokens.len());
        self.wanted.extend((0..tokens.len()).map(|row| (row >= first_wanted).then_some(0)));
    }

    pub(crate) fn batch(&self) -> TokenBatch<'_> {
        TokenBatch { tokens: &self.tokens, document_lengths: &self.lengths, targets: &self.wanted }
    }
}

impl From<&Packed> for ValueBatch {
    /// The values of rows that have a target are asked for.
    fn from(packed: &Packed) -> ValueBatch {
        ValueBatch {
            tokens: packed.tokens.clone(),
            lengths: packed.lengths.clone(),
            wanted: packed.targets.iter().map(|target| target.map(|_| 0)).collect(),
        }
    }
}

impl From<ValueBatch> for Packed {
    /// Rows that are asked for have the target 0.
    fn from(batch: ValueBatch) -> Packed {
        Packed { tokens: batch.tokens, targets: batch.wanted, lengths: batch.lengths }
    }
}

/// What an update did.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Update {
    /// Norm of the gradient before clipping.
    pub norm: f64,
    /// Whether it was clipped.
    pub clipped: bool,
}

/// How a model begins to learn.
pub struct TraineeOptions {
    /// Which weights learn.
    pub tuning: TuningSection,
    /// What an update does.
    pub optimiser: OptimiserSection,
    /// Of a new adapter.
    pub seed: u64,
    /// Instructions and threads.
    pub load: LoadOptions,
    /// Tokens that the tokenizer has.
    pub usable_vocabulary: usize,
    /// So many layers are computed again on the way back.
    pub recomputed_layers: usize,
    /// What the adapter's settings call the model.
    pub base_name: String,
    /// A token that ends no text: a reward model's files name it as padding, as `transformers` reads scores at the last other token.
    pub padding_token: Option<u32>,
    /// Small files that every checkpoint of whole weights has as well: the tokenizer's. Names and contents.
    pub companions: Vec<(String, Vec<u8>)>,
}

impl std::fmt::Debug for TraineeOptions {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("TraineeOptions").field("tuning", &self.tuning).finish_non_exhaustive()
    }
}

/// A model that learns. See the head of this file.
#[derive(Debug)]
pub struct Trainee {
    model: Arc<Model>,
    adapter: Option<Arc<Adapter>>,
    values: Option<Vector>,
    /// What an adapter without updates is measured against: the adapter that training began with, if there was one.
    reference_adapter: Option<Arc<Adapter>>,
    /// The weights that full training began with, as long as somebody needs them.
    reference_model: Option<Arc<Model>>,
    learner: Learner,
    optimiser: Optimiser,
    gradients: Gradients,
    options: TraineeOptions,
}

impl Trainee {
    /// A model before its first update. `adapter` continues one that was trained before; a head for values learns as well if it is given.
    ///
    /// # Errors
    /// [`AlignError::Input`] when all weights are to learn and they are not in f32; [`AlignError::Model`].
    pub fn new(
        model: Arc<Model>,
        adapter: Option<&AdapterValues>,
        values: Option<Vec<f32>>,
        options: TraineeOptions,
    ) -> Result<Trainee, AlignError> {
        let config = &model.config;
        let base = model.weights.parameters().count();
        let is_full = options.tuning.kind == TuningKind::Full;
        let load = &options.load;
        let pack = |values: &AdapterValues| values.pack(load.simd, &load.team);
        let (learning, reference_adapter) = match (is_full, adapter) {
            (true, Some(_)) => {
                let problem =
                    "an adapter cannot be trained further together with all weights: merge it first";
                return Err(AlignError::Input(problem.to_owned()));
            }
            (true, None) if values.is_some() && !config.tied_embeddings => {
                let problem = "a model that gives values has no head for tokens: load it as if its embedding were its head";
                return Err(AlignError::Input(problem.to_owned()));
            }
            (true, None) => {
                check_floats(&model)?;
                (None, None)
            }
            (false, Some(values)) => (Some(pack(values)?), Some(Arc::new(pack(values)?))),
            (false, None) => (Some(pack(&fresh(&options.tuning).values(config, options.seed)?)?), None),
        };
        let adapter = learning.map(|adapter| Arc::new(adapter.with_parameters(base)));
        let of_adapter = adapter.as_ref().map_or(0, |adapter| adapter.parameters().count());
        let values =
            values.map(|values| Vector::from(values).with_parameter(ParameterId((base + of_adapter) as u32)));
        if let Some(values) = &values
            && values.len() != config.hidden_size
        {
            return Err(AlignError::Input(format!(
                "the head for values has {} numbers, but the model's hidden size is {}",
                values.len(),
                config.hidden_size
            )));
        }
        let learned =
            Learned::from(&model.weights).with_adapter(adapter.as_deref()).with_values(values.as_ref());
        let shapes = learned.parameter_shapes();
        let gradients = Gradients::of_some(&shapes, |id| is_full || id.0 as usize >= base)?;
        let descriptions = descriptions(&model, &shapes, adapter.as_deref(), is_full);
        let shards = descriptions.iter().enumerate().filter(|(parameter, _)| is_full || *parameter >= base);
        let shards = shards
            .map(|(parameter, description)| Shard { parameter, elements: 0..description.elements })
            .collect();
        let optimiser = Optimiser::of_descriptions(descriptions, &options.optimiser, shards)?;
        let learner = Learner::new(config, LearnerOptions { load: options.load.clone(), recompute: false })?
            .with_recomputed_layers(options.recomputed_layers)
            .with_usable_vocabulary(options.usable_vocabulary)
            .with_shared_beginnings();
        Ok(Trainee {
            reference_adapter,
            reference_model: None,
            learner,
            optimiser,
            gradients,
            options,
            model,
            adapter,
            values,
        })
    }

    /// Keeps `model`, the weights that full training begins with, to measure against.
    #[must_use]
    pub fn with_reference(self, model: Arc<Model>) -> Trainee {
        Trainee { reference_model: Some(model), ..self }
    }

    /// From now on, scores are those at the temperature at which answers are drawn.
    pub fn set_score_temperature(&mut self, temperature: f32) {
        self.learner.set_score_temperature(temperature);
    }

    /// Lets go of the reference's weights: nobody needs them any more.
    pub fn forget_reference(&mut self) {
        self.reference_model = None;
    }

    /// The model; the one that learns, if all weights do.
    pub fn model(&self) -> &Arc<Model> {
        &self.model
    }

    /// The adapter that learns.
    pub fn adapter(&self) -> Option<&Arc<Adapter>> {
        self.adapter.as_ref()
    }

    /// The adapter for `model`, a copy of the trainee's in another type, whose rows of queries and keys may be in another order.
    ///
    /// # Errors
    /// As for [`Adapter::values`].
    pub fn adapter_for(&self, model: &Model) -> Result<Option<Arc<Adapter>>, AlignError> {
        let (ours, theirs) = (&self.model.config, &model.config);
        let Some(adapter) = &self.adapter else { return Ok(None) };
        if ours.rope.layout == theirs.rope.layout {
            return Ok(Some(Arc::clone(adapter)));
        }
        let values = adapter.values(ours)?.with_layout(ours, theirs.rope.layout);
        let load = &self.options.load;
        Ok(Some(Arc::new(values.pack(load.simd, &load.team)?)))
    }

    /// Tokens that the tokenizer has.
    pub fn usable_vocabulary(&self) -> usize {
        self.options.usable_vocabulary
    }

    /// The fingerprints of the model as it was loaded and of the adapter that is trained further, if one is, and whether the model is computed in
    /// f32: its file may have another type. What earlier versions did not look at stands in brackets ([`crate::run::same_data`]).
    pub fn beginning(&self) -> String {
        let in_f32 = self.model.weights.parameters().all(|(_, weight)| match weight {
            Weight::Matrix(matrix) => matrix.dtype() == Dtype::F32,
            Weight::Vector(_) => true,
        });
        let computed = if in_f32 { "in f32" } else { "as stored" };
        let adapter = self.reference_adapter.as_ref().map(|adapter| adapter.fingerprint().to_string());
        format!(
            "model {} [{computed}, adapter {}]",
            self.model.fingerprint,
            adapter.as_deref().unwrap_or("none")
        )
    }

    /// Updates so far.
    pub fn updates(&self) -> u64 {
        self.optimiser.updates()
    }

    /// Operations for each token that is learnt from: 2 for each parameter that multiplies on the way forward, as many for the derivatives by
    /// activations, and as many for those by weights that learn (Chowdhery et al. 2022, appendix B; attention is left out).
    pub fn flops_per_token(&self) -> f64 {
        let factor = if self.options.tuning.kind == TuningKind::Full { 6.0 } else { 4.0 };
        factor / 2.0 * self.forward_flops_per_token()
    }

    /// Operations of a forward pass for each token.
    pub fn forward_flops_per_token(&self) -> f64 {
        2.0 * self.model.config.parameters() as f64
    }

    /// Scores of the targets by the model as it is.
    ///
    /// # Errors
    /// [`AlignError::Model`].
    pub fn scores(&mut self, packed: &Packed) -> Result<Vec<TokenScore>, AlignError> {
        let learned = Learned::from(&self.model.weights).with_adapter(self.adapter.as_deref());
        Ok(self.learner.score(learned, &packed.batch())?)
    }

    /// Scores by the model that training began with.
    ///
    /// # Errors
    /// [`AlignError::Model`]; [`AlignError::Input`] when its weights are not there any more.
    pub fn reference_scores(&mut self, packed: &Packed) -> Result<Vec<TokenScore>, AlignError> {
        let is_full = self.options.tuning.kind == TuningKind::Full;
        let weights = match (&self.reference_model, is_full && self.updates() > 0) {
            (Some(model), _) => &model.weights,
            (None, false) => &self.model.weights,
            (None, true) => {
                let problem = "the weights that training began with are not in memory, but they are needed to measure against";
                return Err(AlignError::Input(problem.to_owned()));
            }
        };
        let learned = Learned::from(weights).with_adapter(self.reference_adapter.as_deref());
        Ok(self.learner.score(learned, &packed.batch())?)
    }

    /// Adds the derivatives of a loss whose derivative by each target's score depends on that score alone.
    ///
    /// # Errors
    /// [`AlignError::Model`].
    pub fn accumulate_rows(
        &mut self,
        packed: &Packed,
        slope: &(dyn Fn(usize, TokenScore) -> ScoreGradient + Sync),
    ) -> Result<Vec<TokenScore>, AlignError> {
        let learned = Learned::from(&self.model.weights).with_adapter(self.adapter.as_deref());
        Ok(self.learner.accumulate(learned, &packed.batch(), slope, &mut self.gradients)?)
    }

    /// Adds the derivatives of a loss that depends on all scores of the batch together.
    ///
    /// # Errors
    /// [`AlignError::Model`].
    pub fn accumulate(
        &mut self,
        packed: &Packed,
        slopes: &mut dyn FnMut(&[TokenScore]) -> Vec<ScoreGradient>,
    ) -> Result<Vec<TokenScore>, AlignError> {
        let learned = Learned::from(&self.model.weights).with_adapter(self.adapter.as_deref());
        Ok(self.learner.accumulate_together(learned, &packed.batch(), slopes, &mut self.gradients)?)
    }

    /// Scores of the rows that have a target by a loss of their logits, whose derivatives are added.
    ///
    /// # Errors
    /// [`AlignError::Model`], and those of `loss`.
    pub fn accumulate_logits<L: LogitLoss>(
        &mut self,
        packed: &Packed,
        loss: &mut L,
    ) -> Result<Vec<L::Score>, AlignError> {
        let learned = Learned::from(&self.model.weights).with_adapter(self.adapter.as_deref());
        Ok(self.learner.accumulate_logits(learned, &packed.batch(), loss, &mut self.gradients)?)
    }

    /// The same scores without derivatives.
    ///
    /// # Errors
    /// As for [`Trainee::accumulate_logits`].
    pub fn score_logits<L: LogitLoss>(
        &mut self,
        packed: &Packed,
        loss: &mut L,
    ) -> Result<Vec<L::Score>, AlignError> {
        let learned = Learned::from(&self.model.weights).with_adapter(self.adapter.as_deref());
        Ok(self.learner.score_logits(learned, &packed.batch(), loss)?)
    }

    /// Values of the rows that are asked for.
    ///
    /// # Errors
    /// [`AlignError::Model`], without a head for values.
    pub fn values(&mut self, batch: &ValueBatch) -> Result<Vec<f32>, AlignError> {
        let learned = Learned::from(&self.model.weights)
            .with_adapter(self.adapter.as_deref())
            .with_values(self.values.as_ref());
        Ok(self.learner.values(learned, &batch.batch())?)
    }

    /// Adds the derivatives of a loss of the values.
    ///
    /// # Errors
    /// As for [`Trainee::values`].
    pub fn accumulate_values(
        &mut self,
        batch: &ValueBatch,
        slopes: &mut dyn FnMut(&[f32]) -> Vec<f32>,
    ) -> Result<Vec<f32>, AlignError> {
        let learned = Learned::from(&self.model.weights)
            .with_adapter(self.adapter.as_deref())
            .with_values(self.values.as_ref());
        Ok(self.learner.accumulate_values(learned, &batch.batch(), slopes, &mut self.gradients)?)
    }

    /// Seconds for a row of passes over `rows` rows: for scores or values alone, and with gradients, which are forgotten. For plans; nothing changes.
    ///
    /// # Errors
    /// [`AlignError::Model`].
    pub fn pace(&mut self, rows: usize) -> Result<(f64, f64), AlignError> {
        let rows = rows.clamp(2, self.model.config.context_length.max(2));
        let tokens: Vec<u32> =
            (0..rows).map(|row| (row * 7 % self.options.usable_vocabulary) as u32).collect();
        let mut packed = Packed::default();
        packed.push_answer(&tokens[..1], &tokens[1..]);
        let mut batch = ValueBatch::default();
        batch.push_last(&tokens);
        let mut seconds = [0.0; 2];
        // The first round takes memory from the system and does not count.
        for _ in 0..2 {
            for (place, learns) in [false, true].into_iter().enumerate() {
                let begun = Instant::now();
                match (self.values.is_some(), learns) {
                    (true, false) => drop(self.values(&batch)?),
                    (true, true) => {
                        drop(self.accumulate_values(&batch, &mut |values| vec![1.0; values.len()])?);
                    }
                    (false, false) => drop(self.scores(&packed)?),
                    (false, true) => {
                        let slope = |_, _| ScoreGradient { log_probability: -1.0, log_sum_exp: 0.0 };
                        drop(self.accumulate_rows(&packed, &slope)?);
                    }
                }
                seconds[place] = begun.elapsed().as_secs_f64() / rows as f64;
            }
            self.forget_gradients();
        }
        Ok((seconds[0], seconds[1]))
    }

    /// The norm of the gradients that were added, before clipping.
    pub fn gradient_norm(&self) -> f64 {
        self.gradients.squared_norm(&self.options.load.team).sqrt()
    }

    /// Makes an update by the gradients that were added, and forgets them. Where their norm is not finite, nothing changes.
    ///
    /// # Errors
    /// [`AlignError::WeightsInUse`] while somebody else has the weights; [`AlignError::Tensor`].
    pub fn update(&mut self, rate_factor: f64) -> Result<Update, AlignError> {
        self.update_by(self.gradient_norm(), rate_factor)
    }

    /// The same where the norm is known already ([`Trainee::gradient_norm`]).
    ///
    /// # Errors
    /// As for [`Trainee::update`].
    pub(crate) fn update_by(&mut self, norm: f64, rate_factor: f64) -> Result<Update, AlignError> {
        let team = Arc::clone(&self.options.load.team);
        if !norm.is_finite() {
            return Ok(Update { norm, clipped: false });
        }
        let clip = self.options.optimiser.clip;
        let clipped = clip > 0.0 && norm > clip;
        let gradient_factor = if clipped { (clip / norm) as f32 } else { 1.0 };
        let numbers = StepNumbers { gradient_factor, rate_factor };
        let is_full = self.options.tuning.kind == TuningKind::Full;
        let mut adapter = self.adapter.take().map(|adapter| self.own(adapter)).transpose()?;
        // The weights of a frozen model are not touched, and may be in use.
        let mut frozen = Vec::new();
        let mut parameters: Vec<&mut [f32]> = Vec::with_capacity(self.gradients.len());
        if is_full {
            let model = Arc::get_mut(&mut self.model).ok_or(AlignError::WeightsInUse)?;
            for (_, weight) in model.weights.parameters_mut() {
                parameters.push(match weight {
                    Weight::Matrix(matrix) => matrix.f32_packed_mut()?,
                    Weight::Vector(vector) => &mut vector[..],
                });
            }
        } else {
            frozen.resize_with(self.model.weights.parameters().count(), Vec::<f32>::new);
            parameters.extend(frozen.iter_mut().map(|nothing| &mut nothing[..]));
        }
        if let Some(adapter) = &mut adapter {
            for matrix in adapter.parameters_mut() {
                parameters.push(matrix.f32_packed_mut()?);
            }
        }
        parameters.extend(self.values.as_mut().map(|values| &mut values[..]));
        let gradients = &self.gradients;
        let parameters = parameters
            .into_iter()
            .enumerate()
            .map(|(index, values)| Parameter { values, gradient: gradients.get(ParameterId(index as u32)) });
        self.optimiser.step(parameters.collect(), numbers, &team)?;
        self.gradients.clear(&team);
        if is_full {
            // What a checkpoint cannot hold would make a resumed run another one.
            let Model { config, weights, .. } =
                Arc::get_mut(&mut self.model).ok_or(AlignError::WeightsInUse)?;
            weights.round_norms_as_stored(config);
        }
        if let Some(mut adapter) = adapter {
            // The engine finds keys and values by it.
            adapter.renew_fingerprint(&self.model.config)?;
            self.adapter = Some(Arc::new(adapter));
        }
        Ok(Update { norm, clipped })
    }

    /// The adapter, or a copy of it while an answer that was just written still holds it.
    fn own(&self, adapter: Arc<Adapter>) -> Result<Adapter, AlignError> {
        match Arc::try_unwrap(adapter) {
            Ok(adapter) => Ok(adapter),
            Err(shared) => self.packed(&shared.values(&self.model.config)?),
        }
    }

    /// An adapter in memory, whose matrices are the parameters behind the weights.
    fn packed(&self, values: &AdapterValues) -> Result<Adapter, AlignError> {
        let load = &self.options.load;
        let base = self.model.weights.parameters().count();
        Ok(values.pack(load.simd, &load.team)?.with_parameters(base))
    }

    /// Forgets gradients that were added.
    pub fn forget_gradients(&mut self) {
        self.gradients.clear(&Arc::clone(&self.options.load.team));
    }
}

/// Full training changes every weight in place, which only floats of 32 bits can be.
fn check_floats(model: &Model) -> Result<(), AlignError> {
    let other = model.weights.parameters().find_map(|(name, weight)| match weight {
        Weight::Matrix(matrix) if matrix.dtype() != Dtype::F32 => Some((name, matrix.dtype())),
        _ => None,
    });
    match other {
        None => Ok(()),
        Some((name, dtype)) => Err(AlignError::Input(format!(
            "all weights can be trained only in F32, but `{}` is in {dtype}: train an adapter, which leaves the model as it is, or convert \
             the model to F32 first",
            zhenjin_model::names::Naming::HuggingFace.spell(name)
        ))),
    }
}

pub(crate) fn fresh(tuning: &TuningSection) -> FreshAdapter {
    let projections = tuning.projections.weights().collect();
    let TuningSection { rank, alpha, rank_stabilised, .. } = *tuning;
    FreshAdapter { rank, alpha, rank_stabilised, projections }
}

/// All parameters as the optimiser sees them.
fn descriptions(
    model: &Model,
    shapes: &[ParameterShape],
    adapter: Option<&Adapter>,
    is_full: bool,
) -> Vec<Description> {
    let mut descriptions = describe(&model.config, OptimiserKind::Adamw);
    if !is_full {
        // A frozen parameter has no elements that could change.
        descriptions.iter_mut().for_each(|description| description.elements = 0);
    }
    let names = adapter.into_iter().flat_map(|adapter| adapter.parameters().map(|(name, _)| name));
    let names = names.chain(std::iter::once(SCORE_TENSOR.to_owned()));
    let first = descriptions.len();
    let more = shapes[first..].iter().zip(names).map(|(shape, name)| match *shape {
        ParameterShape::Matrix { rows, columns } => Description {
            name,
            matrix: Some((rows, columns)),
            elements: rows.next_multiple_of(TILE_ROWS) * columns,
            rule: Rule::Matrix,
        },
        ParameterShape::Vector { len } => {
            Description { name, matrix: None, elements: len, rule: Rule::Vector }
        }
    });
    descriptions.extend(more.collect::<Vec<_>>());
    descriptions
}
