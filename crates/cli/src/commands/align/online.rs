//! The methods whose model writes its own answers: PPO and GRPO.

use super::answerer::Samples;
use super::opened::{NewHead, Opened, open};
use super::planned::{self, Planning};
use super::reward_models::{check_room, fingerprint_of, open_reward_model};
use super::rewards::{ModelRewards, reward_expression};
use super::{AlignArguments, Begun, OnlineArguments, examples, replay, train};
use crate::commands::best_of_n::of_schemas;
use crate::home::Home;
use anyhow::{Context, Result, bail};
use std::path::Path;
use std::sync::Arc;
use time::OffsetDateTime;
use zhenjin_align::configuration::{Configuration, Method, TuningKind};
use zhenjin_align::data::{Encoder, Kind};
use zhenjin_align::evaluation::{RewardModel, dialogue_values};
use zhenjin_align::methods::{Critic, Online, OnlineParts, RewardSource};
use zhenjin_align::plan::{PlannedModel, StepTokens};
use zhenjin_align::rewards::WeightedRewards;
use zhenjin_align::rollouts::{RolloutOptions, Rollouts};
use zhenjin_align::run::SCHEMAS;
use zhenjin_align::trainee::Trainee;
use zhenjin_model::Model;
use zhenjin_tensor::KvDtype;
use zhenjin_tokenizer::ControlText;

pub(super) fn run(home: &Home, method: Method, arguments: &OnlineArguments) -> Result<()> {
    let align = &arguments.align;
    if let Some(path) = &align.replay {
        return replay::run(home, method, align, arguments.overrides()?, path);
    }
    let mut begun = Begun::new(align, arguments.overrides()?)?;
    // Settings that cannot be are refused before anything is read.
    let time = begun.time()?;
    let configuration = begun.configuration(method, align, 1, time)?;
    if configuration.tuning.kind == TuningKind::Full && arguments.rollout_model.is_some() {
        bail!(
            "--rollout-model has weights that stay as they are, and this run trains all weights: leave it out"
        );
    }
    let limits = &arguments.limits;
    limits.check(arguments.reward.is_some() || arguments.judge.is_some())?;
    let expression = |text: &str| reward_expression(text, limits);
    let rewards = arguments.reward.as_deref().map(expression).transpose()?;
    let judge = arguments.judge.as_deref().map(expression).transpose()?;
    let opened = Opened::new(home, align)?;
    begun.continue_adapter(align, &opened);
    let run = OnlineRun { home, arguments, begun: &begun, opened: &opened, method, time };
    run.run(&configuration, rewards, judge)
}

struct OnlineRun<'a> {
    home: &'a Home,
    arguments: &'a OnlineArguments,
    begun: &'a Begun,
    opened: &'a Opened,
    method: Method,
    time: OffsetDateTime,
}

impl OnlineRun<'_> {
    fn run(
        &self,
        first: &Configuration,
        rewards: Option<WeightedRewards>,
        judge: Option<WeightedRewards>,
    ) -> Result<()> {
        let (align, opened) = (&self.arguments.align, self.opened);
        let rollout = first.rollout.context("a configuration of a method that writes answers")?;
        let read = examples::read(
            align,
            opened,
            Kind::Tasks,
            self.time,
            rollout.max_tokens,
            first.seed,
            |encoder, data, options| encoder.encode_tasks(data, options),
        )?;
        // What all answers would lack is refused before any is written.
        for (option, rewards) in [("--reward", &rewards), ("--judge", &judge)] {
            if let Some(rewards) = rewards {
                let checked = rewards.check(&read.training);
                checked.with_context(|| format!("{option} judges none of the first prompts"))?;
            }
        }
        self.tell_how_answers_end();
        let configuration = self.begun.configuration(self.method, align, read.training.len(), self.time)?;
        let prompts: Vec<&[u32]> = read.training.iter().map(|task| &task.prompt[..]).collect();
        let tokens = StepTokens::of_prompts(&configuration, &prompts, opened.usable_vocabulary);
        let held_out: Vec<&[u32]> = match configuration.intervals.held_out {
            0 => Vec::new(),
            _ => read.held_out.iter().map(|task| &task.prompt[..]).collect(),
        };
        let tokens = match held_out.is_empty() {
            true => tokens,
            false => tokens.with_held_out(&configuration, &held_out),
        };
        let longest = prompts.iter().chain(&held_out).map(|prompt| prompt.len()).max().unwrap_or(0);
        let longest = longest.saturating_add(rollout.max_tokens);
        let planning = Planning {
            arguments: align,
            begun: self.begun,
            opened,
            configuration: &configuration,
            tokens,
            examples: prompts.len(),
            models: self.planned_models(&configuration)?,
            teacher: None,
        };
        if align.dry_run {
            print!("{}", configuration.to_toml());
        }
        planning.show()?;
        let fingerprint = format!("{}, {}", read.fingerprint, self.rewards_text()?);
        let policy = configuration.policy.context("a configuration of a policy")?;
        let needs_reference = policy.kl > 0.0 || configuration.watch.is_some_and(|watch| watch.most_kl > 0.0);
        let mut trainee = opened.trainee(align, &configuration, needs_reference, None)?;
        if align.dry_run {
            let other = self.rollout_model()?;
            let writer = other.unwrap_or_else(|| Arc::clone(trainee.model()));
            let writing = (self.rollout_options(rollout), &writer, &prompts[..]);
            return planning.show_measured(&mut trainee, Some(writing), None);
        }
        let parts = OnlineParts {
            critic: self.critic(&configuration, longest)?,
            tasks: read.training,
            held_out: read.held_out,
            rewards: self.rewards(&trainee, rewards, self.arguments.reward_model.as_deref(), longest)?,
            judge: self.judge(&trainee, judge, longest)?,
            rollouts: Rollouts::new(self.rollout_options(rollout)),
            rollout_model: self.rollout_model()?,
            decode: self.decode(),
            answerer: Some(Box::new(self.samples(&configuration))),
            fingerprint,
            trainee,
        };
        let online = Online::new(configuration.clone(), parts)?;
        train(self.begun, &configuration, align, opened.load.team.threads(), online)
    }

    /// What the rewards are, for the fingerprint.
    fn rewards_text(&self) -> Result<String> {
        let model = self.arguments.reward_model.as_deref().map(fingerprint_of).transpose()?;
        let text = self.arguments.reward.as_deref().unwrap_or_default();
        // Under the same name, a file may hold another schema the next time.
        let schemas = self.arguments.reward.as_deref().map(of_schemas).transpose()?.unwrap_or_default();
        let schemas = match schemas.is_empty() {
            true => String::new(),
            false => format!("{SCHEMAS}{}]", schemas.join(",")),
        };
        Ok(format!("reward {text} {}{schemas}", model.unwrap_or_default()))
    }

    /// Says where answers cannot end as the template ends them.
    fn tell_how_answers_end(&self) {
        let model = &self.opened.model;
        let name = self.arguments.align.model.display();
        if self.opened.stop_tokens().is_empty() {
            eprintln!(
                "{name}: the tokenizer has no token that ends an answer: every answer will be as long as it may be"
            );
            return;
        }
        let settings = self.arguments.align.thinking.settings(self.time);
        if let Err(error) = Encoder::new(&model.tokenizer, model.template.as_ref(), settings) {
            eprintln!("{name}: answers end at the tokenizer's own end token, as {error}");
        }
    }

    fn planned_models(&self, configuration: &Configuration) -> Result<PlannedModel> {
        let arguments = self.arguments;
        let reward_models = [&arguments.reward_model, &arguments.judge_model];
        let reward_models: Vec<&Path> =
            reward_models.into_iter().filter_map(|path| path.as_deref()).collect();
        let rollout_weights = match &arguments.rollout_model {
            Some(name) => planned::bytes_of(&open(self.home, name)?.file)?,
            None => 0,
        };
        let is_whole = |folder: &std::path::PathBuf| !folder.join("adapter_config.json").is_file();
        let whole_critic =
            configuration.critic.is_some() && arguments.reward_model.as_ref().is_some_and(is_whole);
        let models =
            planned::models(self.opened, &arguments.align, configuration, &reward_models, rollout_weights)?;
        Ok(PlannedModel { whole_critic, ..models })
    }

    fn rollout_options(&self, section: zhenjin_align::configuration::RolloutSection) -> RolloutOptions {
        RolloutOptions {
            section,
            stop_tokens: self.opened.stop_tokens(),
            usable_vocabulary: self.opened.usable_vocabulary,
            kv_dtype: KvDtype::F32,
            team: Arc::clone(&self.opened.load.team),
        }
    }

    fn samples(&self, configuration: &Configuration) -> Samples {
        Samples {
            tokenizer: Arc::new(self.opened.model.tokenizer.clone()),
            options: self.rollout_options(Samples::section()),
            seed: configuration.seed,
        }
    }

    fn decode(&self) -> zhenjin_align::methods::Decode {
        let tokenizer = self.opened.model.tokenizer.clone();
        Box::new(move |tokens| tokenizer.decode(tokens, ControlText::Hide).unwrap_or_default())
    }

    fn rewards(
        &self,
        trainee: &Trainee,
        rewards: Option<WeightedRewards>,
        reward_model: Option<&Path>,
        longest: usize,
    ) -> Result<Box<dyn RewardSource>> {
        let model = reward_model.map(|folder| self.reward_model(trainee, folder, longest)).transpose()?;
        match (rewards, model) {
            (None, None) => bail!("--reward or --reward-model says what an answer is worth"),
            (Some(rewards), None) => Ok(Box::new(rewards)),
            (rewards, Some(mut model)) => {
                let values = Box::new(move |dialogues: &[Vec<u32>]| {
                    let dialogues: Vec<&[u32]> = dialogues.iter().map(|dialogue| &dialogue[..]).collect();
                    dialogue_values(&mut model, &dialogues, &mut |_| ())
                });
                Ok(Box::new(ModelRewards { values, rewards }))
            }
        }
    }

    /// One that reads dialogues of up to `longest` tokens. Weights that stay as they are serve its adapter as well.
    fn reward_model(&self, trainee: &Trainee, folder: &Path, longest: usize) -> Result<RewardModel> {
        let is_frozen = trainee.adapter().is_some();
        let base = if is_frozen { Arc::clone(trainee.model()) } else { self.opened.weights(true)? };
        let model = open_reward_model(folder, &self.opened.model, &base, &self.opened.load)?;
        check_room(folder, model.context_length(), longest)?;
        Ok(model)
    }

    fn judge(
        &self,
        trainee: &Trainee,
        judge: Option<WeightedRewards>,
        longest: usize,
    ) -> Result<Option<Box<dyn RewardSource>>> {
        let folder = self.arguments.judge_model.as_deref();
        match (&judge, folder) {
            (None, None) => Ok(None),
            _ => self.rewards(trainee, judge, folder, longest).map(Some),
        }
    }

    /// PPO's critic begins as the reward model, which knows most of what it has to learn, or as the model itself.
    fn critic(&self, configuration: &Configuration, longest: usize) -> Result<Option<Critic>> {
        let Some(section) = configuration.critic else { return Ok(None) };
        let align = &self.arguments.align;
        let mut of_critic = configuration.clone();
        of_critic.optimiser.learning_rate = section.learning_rate;
        of_critic.optimiser.embedding_learning_rate = section.learning_rate;
        let trainee = match &self.arguments.reward_model {
            Some(folder) => {
                let trainee = self.opened.critic_of(align, &of_critic, folder)?;
                check_room(folder, trainee.model().config.context_length, longest)?;
                trainee
            }
            None => {
                let head = NewHead::of_zeros(self.opened.model.file.config(), None);
                self.opened.trainee(&without_adapter(align), &of_critic, false, Some(head))?
            }
        };
        Ok(Some(Critic::new(trainee, section, configuration.batch.micro_tokens)))
    }

    /// Other weights of the same shape and tokenizer to write answers with.
    fn rollout_model(&self) -> Result<Option<Arc<Model>>> {
        let Some(name) = &self.arguments.rollout_model else { return Ok(None) };
        let other = open(self.home, name)?;
        let (ours, theirs) = (self.opened.model.file.config(), other.file.config());
        // GGUF files of the Llama family have the rows of queries and keys in another order than Hugging Face folders.
        let mut in_our_layout = theirs.clone();
        in_our_layout.rope.layout = ours.rope.layout;
        if *ours != in_our_layout {
            bail!(
                "--rollout-model {}: it has another configuration than the model that learns; give a copy of the same model in another type",
                name.display()
            );
        }
        let model = Model::from_source(theirs.clone(), &other.file, &self.opened.load)?;
        Ok(Some(Arc::new(model)))
    }
}

/// The critic's adapter is its own, whatever the policy continues.
fn without_adapter(arguments: &AlignArguments) -> AlignArguments {
    AlignArguments { adapter: None, ..arguments.clone() }
}
