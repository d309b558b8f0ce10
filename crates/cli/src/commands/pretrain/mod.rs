//! `zhenjin pretrain`: from text or token shards to a trained model, in a folder that a killed run goes on from.

mod arguments;
mod ranks;
mod sampling;
mod text_data;

pub(crate) use arguments::{EXAMPLES, ExpertArguments, PretrainArguments};

use super::training::{self, Interrupted, RunFolder};
use anyhow::{Context, Result, anyhow, bail};
use sampling::EngineSampler;
use std::cell::Cell;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use zhenjin_corpus::{Loader, LoaderOptions, ShardSet};
use zhenjin_model::LoadOptions;
use zhenjin_tensor::{ComputeOptions, TensorError};
use zhenjin_tokenizer::{Tokenizer, TokenizerConfig};
use zhenjin_train::checkpoint::Checkpoint;
use zhenjin_train::configuration::{Configuration, Overrides};
use zhenjin_train::energy::{EnergyMeter, POWER_CAPPING_FOLDER};
use zhenjin_train::metrics::{Observer, TensorBoard};
use zhenjin_train::plan::{
    Machine, MemoryEstimate, Plan, Probe, RunShape, fewest_recomputed_layers, plan_text, probe_training,
};
use zhenjin_train::training::{FaultyBatch, Gauges, Outcome, Ranks, Sampler, Setup, Trainer};

/// Layers when neither `--depth` nor a file says how many.
const DEFAULT_DEPTH: usize = 4;
/// The share of `--minutes` that steps get; the rest is for loading, checkpoints, validation and samples.
const SHARE_OF_STEPS: f64 = 0.93;
/// How long the machine's speed is measured before a run.
const PROBE: Duration = Duration::from_millis(300);
/// The same where the length of the run depends on it.
const LONG_PROBE: Duration = Duration::from_secs(3);
/// Vocabularies are filled up to whole tiles of the matrix kernels.
const VOCABULARY_MULTIPLE: usize = 64;

pub(crate) fn run(arguments: &PretrainArguments) -> Result<()> {
    // It stands in the run's metrics, which are JSON.
    arguments
        .out
        .to_str()
        .with_context(|| format!("--out {}: the name must be UTF-8", arguments.out.display()))?;
    let _priority = arguments.priority.begin();
    let ranks = ranks::join()?;
    let folder = RunFolder::new(&arguments.out);
    let resuming = agreed_checkpoint(arguments, &folder, &ranks)?;
    if resuming.is_none() {
        check_settings(arguments)?;
    }
    let data = ranks::path_of_first(&ranks, || text_data::shards(arguments, &folder, resuming.is_some()))?;
    let set = Arc::new(ShardSet::open(&data)?);
    let companions = training::companions(set.folder())?;
    let tokenizer = tokenizer(&companions, set.folder())?;
    let sharing = ranks::sharing(&ranks)?;
    let compute = compute(arguments, &ranks, sharing)?;
    let load = LoadOptions { simd: compute.simd, team: Arc::new(compute.start_team()?) };
    let (probe, recomputed_layers) = (Cell::new(None), Cell::new(0));
    let inputs = Inputs {
        arguments,
        set,
        companions,
        load,
        folder: &folder,
        probe,
        recomputed_layers,
        ranks,
        sharing,
    };

    let configuration = match &resuming {
        Some(checkpoint) => resumed_configuration(arguments, checkpoint)?,
        None => inputs.new_configuration()?,
    };
    let configuration = inputs.agreed(configuration)?;
    if arguments.dry_run {
        if inputs.ranks.is_first() {
            print!("{}", configuration.to_toml());
        }
        return Ok(());
    }
    inputs.check_data(&configuration, &tokenizer)?;
    inputs.plan(&configuration)?;
    let setup = inputs.setup(&configuration)?;
    let mut trainer = match &resuming {
        Some(checkpoint) => Trainer::resume(configuration.clone(), setup, checkpoint)?,
        None => Trainer::new(configuration.clone(), setup)?,
    };
    if let Some(batch) = &arguments.replay {
        return replay(&mut trainer, batch);
    }
    inputs.ranks.of_first(|| {
        folder.begin(resuming.as_ref(), &configuration.to_toml(), &inputs.companions)?;
        anyhow::Ok(Vec::new())
    })?;
    let samples = EngineSampler::new(arguments, &inputs, &tokenizer, &configuration)?;
    train(trainer, &inputs, samples, resuming.as_ref())
}

/// What a run is made of.
struct Inputs<'a> {
    arguments: &'a PretrainArguments,
    set: Arc<ShardSet>,
    companions: Vec<(String, Vec<u8>)>,
    load: LoadOptions,
    folder: &'a RunFolder,
    /// This machine's speed with the run's model, once it has been measured.
    probe: Cell<Option<Probe>>,
    /// How many layers are computed a second time; the plan decides.
    recomputed_layers: Cell<usize>,
    ranks: Ranks,
    /// Ranks on the same processors, this one included.
    sharing: usize,
}

impl Inputs<'_> {
    /// The first rank's configuration: speeds that are measured differ from rank to rank.
    fn agreed(&self, configuration: Configuration) -> Result<Configuration> {
        if self.ranks.size() == 1 {
            return Ok(configuration);
        }
        let text = ranks::text_of_first(&self.ranks, || Ok(configuration.to_toml()))?;
        Ok(Configuration::from_toml(&text, Path::new("the first rank's configuration"))?)
    }

    /// The dial with everything that was given on top; with `--minutes`, its steps are measured.
    fn new_configuration(&self) -> Result<Configuration> {
        let arguments = self.arguments;
        let (depth, overrides) = overrides(arguments)?;
        let vocabulary = (self.set.vocabulary_size() as usize).next_multiple_of(VOCABULARY_MULTIPLE);
        if let Some(tokens) = arguments.tokens {
            return Ok(Configuration::resolve_for(depth, vocabulary, tokens, &overrides)?);
        }
        let configuration = Configuration::resolve(depth, vocabulary, &overrides)?;
        let Some(minutes) = arguments.minutes else { return Ok(configuration) };
        if !(minutes > 0.0 && minutes < 1e7) {
            bail!("--minutes must be more than 0, found {minutes}");
        }
        // Batch and learning rates follow from the tokens that fit, and the tokens that fit depend a little on the batch: an update takes
        // the same time after few tokens as after many.
        // A twentieth of a short run suffices.
        let limit = LONG_PROBE.min(Duration::from_secs_f64(3.0 * minutes));
        let probe = self.probe(&configuration, limit)?;
        let tokens_in_time = |configuration: &Configuration| -> Result<u64> {
            let machine = Machine {
                memory_bytes: Some(self.memory()?),
                disk_bytes: None,
                probe,
                network: None,
                prices: self.arguments.prices.prices(self.load.team.threads()),
            };
            let plan = Plan::of(&configuration.model_config(), &self.shape(configuration), &machine);
            let tokens = plan.tokens_per_second * SHARE_OF_STEPS * 60.0 * minutes;
            // Ranks measure different speeds; all must come to the same batch.
            let tokens: f64 = ranks::text_of_first(&self.ranks, || Ok(tokens.to_string()))?.parse()?;
            // However slow the machine is, one step is made.
            Ok((tokens as u64).max(configuration.least_step_tokens()))
        };
        let first =
            Configuration::resolve_for(depth, vocabulary, tokens_in_time(&configuration)?, &overrides)?;
        let tokens = tokens_in_time(&first)?;
        let configuration = Configuration::resolve_for(depth, vocabulary, tokens, &overrides)?;
        eprintln!("about {tokens} tokens fit into {minutes} minutes: {} steps", configuration.schedule.steps);
        Ok(configuration)
    }

    /// Refuses data that does not fit the model or does not fill one batch, before anything is written.
    fn check_data(&self, configuration: &Configuration, tokenizer: &Tokenizer) -> Result<()> {
        let json = self.companions.iter().find(|(name, _)| name == "tokenizer.json");
        let json = json.map_or(&[][..], |(_, contents)| contents);
        self.set.check_fit(json, configuration.model.vocabulary_size)?;
        if tokenizer.vocabulary_size() > configuration.model.vocabulary_size {
            bail!(
                "the tokenizer has {} tokens, and the model only {}; set model.vocabulary_size to at least as many",
                tokenizer.vocabulary_size(),
                configuration.model.vocabulary_size
            );
        }
        let loader = self.loader(configuration)?;
        let (sequences, step) = (loader.sequences_per_epoch(), configuration.sequences_per_step());
        if sequences < step {
            bail!(
                "the data has {} tokens for training, which is {sequences} sequences of {}; one step takes {step}; \
                 give more data, or a smaller batch (batch.sequences, batch.micro_batches, data.sequence_length)",
                loader.training_tokens(),
                configuration.data.sequence_length
            );
        }
        let epochs = (configuration.schedule.steps * step) as f64 / sequences as f64;
        if !self.ranks.is_first() {
            return Ok(());
        }
        eprintln!(
            "{} parameters, {} steps of {} tokens: {epochs:.2} epochs of {} documents ({} kept for validation)",
            configuration.model_config().parameters(),
            configuration.schedule.steps,
            configuration.tokens_per_step(),
            loader.training_documents(),
            loader.validation_documents()
        );
        Ok(())
    }

    fn loader(&self, configuration: &Configuration) -> Result<Loader> {
        let options = LoaderOptions {
            sequence_length: configuration.data.sequence_length,
            seed: configuration.seed,
            validation_share: configuration.data.validation_share,
            across_documents: configuration.data.across_documents,
        };
        Ok(Loader::new(Arc::clone(&self.set), options)?)
    }

    fn gauges(&self) -> Gauges {
        let watts = self.arguments.prices.prices(self.load.team.threads()).watts;
        Gauges {
            peak_flops: self.probe.get().map(|probe| probe.peak_flops),
            resident_bytes: Some(Box::new(crate::machine::resident_bytes)),
            energy: Some(EnergyMeter::new(Path::new(POWER_CAPPING_FOLDER), watts)),
        }
    }

    /// Shows what the run will cost, and refuses what cannot fit.
    fn plan(&self, configuration: &Configuration) -> Result<()> {
        let config = configuration.model_config();
        let machine = Machine {
            memory_bytes: Some(self.memory()?),
            disk_bytes: self.folder.disk_bytes().filter(|_| !self.arguments.allow_small_disk),
            probe: self.probe(configuration, PROBE)?,
            network: None,
            prices: self.arguments.prices.prices(self.load.team.threads()),
        };
        let plan = Plan::of(&config, &self.shape(configuration), &machine);
        plan.check()?;
        self.recomputed_layers.set(plan.recomputed_layers);
        if self.ranks.is_first() {
            eprint!("{}", plan_text(&plan));
        }
        Ok(())
    }

    /// This machine's speed with the run's model; measured for about `limit` unless it is known already.
    fn probe(&self, configuration: &Configuration, limit: Duration) -> Result<Probe> {
        if let Some(probe) = self.probe.get() {
            return Ok(probe);
        }
        let rows = configuration.batch.sequences * configuration.data.sequence_length;
        let length = self.document_length(configuration).unwrap_or(configuration.data.sequence_length);
        let length = length.clamp(1, configuration.data.sequence_length);
        let documents = rows.div_ceil(length);
        let config = configuration.model_config();
        // What cannot fit is refused before memory is taken for the measurement.
        let (shape, memory) = (self.shape(configuration), self.memory()?);
        let layers = fewest_recomputed_layers(&config, &shape, Some(memory));
        MemoryEstimate::of(&config, &shape, layers).check(memory, layers)?;
        let probe = probe_training(&config, &configuration.optimiser, documents, length, &self.load, limit)?;
        self.probe.set(Some(probe));
        Ok(probe)
    }

    /// Bytes that the run may take.
    fn memory(&self) -> Result<u64> {
        match self.arguments.memory {
            Some(size) => Ok(size.0),
            None => Ok(crate::machine::memory()?.available / self.sharing as u64),
        }
    }

    /// What of the run decides its cost. Layers are computed again where memory is short, unless the caller wants it anyhow.
    fn shape(&self, configuration: &Configuration) -> RunShape {
        let asked = self.arguments.recompute.then_some(usize::MAX);
        let length = self.document_length(configuration);
        RunShape {
            ranks: self.ranks.size(),
            documents: self.set.documents(),
            ..configuration.run_shape(length, asked)
        }
    }

    /// Mean tokens of a document, where attention does not cross from one to another.
    fn document_length(&self, configuration: &Configuration) -> Option<usize> {
        let mean = self.set.tokens() / self.set.documents().max(1);
        (!configuration.data.across_documents).then_some(mean.max(1) as usize)
    }

    fn setup(&self, configuration: &Configuration) -> Result<Setup> {
        Ok(Setup {
            folder: self.folder.path().to_owned(),
            source: Arc::new(self.loader(configuration)?),
            load: self.load.clone(),
            ranks: self.ranks.clone(),
            overlap: !self.arguments.no_overlap,
            recomputed_layers: self.recomputed_layers.get(),
            usable_vocabulary: self.set.vocabulary_size() as usize,
            companions: self.companions.clone(),
            gauges: self.gauges(),
        })
    }
}

fn train(
    mut trainer: Trainer,
    inputs: &Inputs<'_>,
    mut samples: EngineSampler<'_>,
    checkpoint: Option<&Checkpoint>,
) -> Result<()> {
    let steps = trainer.configuration().schedule.steps;
    let is_first = inputs.ranks.is_first();
    let mut observers: Vec<Box<dyn Observer>> = match is_first {
        true => vec![
            Box::new(inputs.folder.metrics(checkpoint)?),
            Box::new(TensorBoard::create(inputs.folder.path())?),
            training::display(
                inputs.folder,
                steps,
                inputs.arguments.plain,
                &inputs.arguments.prices,
                inputs.load.team.threads(),
            )?,
        ],
        false => Vec::new(),
    };
    let stop = training::listen()?;
    let sampler: Option<&mut dyn Sampler> = if is_first { Some(&mut samples) } else { None };
    let outcome = trainer.run(&mut observers, sampler, &|| stop.is_asked());
    // The dashboard gives the terminal back before anything else is said.
    drop(observers);
    let outcome = outcome?;
    if outcome == Outcome::Finished && trainer.write_average(&inputs.folder.path().join("average"))? {
        eprintln!("the averaged weights are in {}", inputs.folder.path().join("average").display());
    }
    inputs.ranks.comm().finish()?;
    match outcome {
        Outcome::Stopped { step } => Err(Interrupted { step }.into()),
        Outcome::Finished => {
            if let Some(model) = trainer.last_checkpoint().filter(|_| is_first) {
                let run = inputs.folder.path().display();
                eprintln!("finished after step {steps}: the model is in {}", model.display());
                eprintln!(
                    "`zhenjin serve {}` serves it, `zhenjin report {run}` shows the run",
                    model.display()
                );
            }
            Ok(())
        }
    }
}

/// Settings that do not exist or cannot be are refused before text is read: any vocabulary shows them.
fn check_settings(arguments: &PretrainArguments) -> Result<()> {
    let (depth, overrides) = overrides(arguments)?;
    Configuration::resolve(depth, VOCABULARY_MULTIPLE, &overrides)?;
    Ok(())
}

/// Depth and settings: from the file, then `--set`, then the options that have a name of their own.
fn overrides(arguments: &PretrainArguments) -> Result<(usize, Overrides)> {
    let length = match (arguments.tokens, arguments.minutes) {
        (Some(_), _) => Some("--tokens"),
        (None, Some(_)) => Some("--minutes"),
        (None, None) => None,
    };
    let (depth, mut overrides) = given_settings(&Given {
        config: arguments.config.as_deref(),
        set: &arguments.set,
        depth: arguments.depth,
        experts: &arguments.experts,
        length,
    })?;
    if let Some(seed) = arguments.seed {
        let seed = i64::try_from(seed).context("--seed must be below 2^63")?;
        overrides.add("seed", seed);
    }
    Ok((depth, overrides))
}

/// What says how a run is configured.
pub(crate) struct Given<'a> {
    pub(crate) config: Option<&'a Path>,
    pub(crate) set: &'a [String],
    pub(crate) depth: Option<usize>,
    pub(crate) experts: &'a ExpertArguments,
    /// The option that says how long the run is, if one does.
    pub(crate) length: Option<&'static str>,
}

/// Depth and settings that a file and single settings give. Options say more than the file; two options that say the same are refused.
pub(crate) fn given_settings(given: &Given<'_>) -> Result<(usize, Overrides)> {
    const STEPS: &str = "schedule.steps";
    let Given { config, set, depth, experts, length } = *given;
    let mut overrides = Overrides::new();
    if let Some(path) = config {
        let text = std::fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))?;
        overrides.add_toml(&text, path)?;
        if let (Some(depth), Some(layers)) = (depth, overrides.whole_number("model.layers"))
            && depth as u64 != layers
        {
            bail!(
                "--depth {depth} has no effect: {} gives the whole model, with model.layers = {layers}; leave --depth out, or remove the section \
                 [model] and what follows from it",
                path.display()
            );
        }
        if length.is_some() {
            overrides.forget(STEPS);
        }
    }
    for assignment in set {
        overrides.add_assignment(assignment)?;
    }
    if let Some(length) = length
        && overrides.has(STEPS)
    {
        bail!("{length} and --set {STEPS}=… both say how long the run is; leave one of them out");
    }
    experts.add_to(&mut overrides);
    let given = overrides.whole_number("depth").and_then(|depth| usize::try_from(depth).ok());
    let depth = depth.or(given).unwrap_or(DEFAULT_DEPTH);
    overrides.add("depth", depth as i64);
    Ok((depth, overrides))
}

/// The configuration that a checkpoint was made with, and what is given on top. The trainer refuses whatever would have changed the
/// steps so far.
fn resumed_configuration(arguments: &PretrainArguments, checkpoint: &Checkpoint) -> Result<Configuration> {
    let theirs = Configuration::from_toml(&checkpoint.state.configuration, &checkpoint.path)?;
    if arguments.minutes.is_some() {
        let steps = theirs.schedule.steps;
        eprintln!(
            "the schedule stays as it was laid out when the run began, {steps} steps; another: --set schedule.steps=N without --minutes"
        );
    }
    let says_something = arguments.config.is_some() || !arguments.set.is_empty() || arguments.seed.is_some();
    let says_something = says_something || arguments.experts.says_something();
    if !(says_something || arguments.depth.is_some() || arguments.tokens.is_some()) {
        return Ok(theirs);
    }
    let (_, mut given) = overrides(arguments)?;
    if let Some(tokens) = arguments.tokens {
        given.add("schedule.steps", (tokens / theirs.tokens_per_step().max(1)).max(1) as i64);
    }
    if arguments.depth.is_none() && arguments.config.is_none() {
        given.add("depth", theirs.depth as i64);
    }
    Ok(theirs.overridden(&given)?)
}

/// The checkpoint to go on from: the first rank looks for it, the others open the same.
fn agreed_checkpoint(
    arguments: &PretrainArguments,
    folder: &RunFolder,
    ranks: &Ranks,
) -> Result<Option<Checkpoint>> {
    let mut found = None;
    let path = ranks::path_of_first(ranks, || {
        found = resumed_checkpoint(arguments, folder)?;
        Ok(found.as_ref().map(|checkpoint| checkpoint.path.clone()).unwrap_or_default())
    })?;
    if !ranks.is_first() && path != Path::new("") {
        found = Some(Checkpoint::open(&path)?);
    }
    Ok(found)
}

/// The checkpoint to go on from. A dry run and a replay change nothing.
fn resumed_checkpoint(arguments: &PretrainArguments, folder: &RunFolder) -> Result<Option<Checkpoint>> {
    match arguments.resume.as_deref() {
        None if arguments.only_looks() => Ok(None),
        Some(resume) if arguments.only_looks() => folder.checkpoint_to_look_at(resume),
        resume => folder.checkpoint_to_resume(resume),
    }
}

fn tokenizer(companions: &[(String, Vec<u8>)], folder: &Path) -> Result<Tokenizer> {
    let file =
        |wanted: &str| companions.iter().find(|(name, _)| name == wanted).map(|(_, contents)| contents);
    let json = file("tokenizer.json").ok_or_else(|| {
        anyhow!("{} has no tokenizer.json; make the shards with `zhenjin tokenize`", folder.display())
    })?;
    let config = file("tokenizer_config.json").map(|json| TokenizerConfig::from_json(json)).transpose()?;
    Ok(Tokenizer::from_tokenizer_json(json, config.as_ref())?)
}

fn compute(arguments: &PretrainArguments, ranks: &Ranks, sharing: usize) -> Result<ComputeOptions> {
    let mut threads = arguments.threads.map(usize::from);
    if threads.is_none() && sharing > 1 {
        let cores = ComputeOptions::detect().threads;
        let each = ranks::threads_of_each(cores, sharing);
        threads = Some(each);
        if ranks.is_first() {
            eprintln!(
                "{sharing} ranks share the {cores} cores of this machine; threads of each: {each} (--threads N changes it)"
            );
        }
    }
    let resolved = ComputeOptions::resolve(arguments.simd.as_deref(), threads);
    resolved.map_err(|error| match error {
        TensorError::ThreadCount { .. } => anyhow!("--threads: {error}"),
        error => anyhow!("--simd: {error}"),
    })
}

fn replay(trainer: &mut Trainer, path: &Path) -> Result<()> {
    let text = std::fs::read(path).with_context(|| format!("reading {}", path.display()))?;
    let batch: FaultyBatch =
        serde_json::from_slice(&text).with_context(|| format!("{} is not a kept batch", path.display()))?;
    println!("kept at step {}: {}", batch.step, batch.fault);
    let (loss, origin) = trainer.replay(&batch)?;
    println!("now, after step {}: loss {loss}", trainer.steps());
    println!("{}", origin.unwrap_or_else(|| "every number is finite".to_owned()));
    Ok(())
}
