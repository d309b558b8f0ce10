//! Distillation: the teacher, its vocabulary beside the student's, and the run.

use super::arguments::TeachingArgument;
use super::offline::OfflineRun;
use super::opened::{Opened, open};
use super::planned::{self, Planning};
use super::{Begun, DistillArguments, replay, teaching};
use crate::home::Home;
use crate::machine;
use anyhow::{Context, Result, bail};
use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use zhenjin_align::configuration::{Configuration, Method};
use zhenjin_align::data::Kind;
use zhenjin_align::losses::distillation::DistillationLoss;
use zhenjin_align::methods::{Dialogues, Distillation, OwnAnswers};
use zhenjin_align::plan::{PlannedModel, PlannedTeacher, StepTokens};
use zhenjin_align::rollouts::{RolloutOptions, Rollouts};
use zhenjin_align::teacher::Teacher;
use zhenjin_hub::OpenedModel;
use zhenjin_model::Model;
use zhenjin_tensor::KvDtype;
use zhenjin_tokenizer::{EncodedDialogue, common_tokens};

pub(super) fn run(home: &Home, arguments: &DistillArguments) -> Result<()> {
    arguments.check()?;
    if let Some(path) = &arguments.align.replay {
        let (method, overrides) = match arguments.from {
            TeachingArgument::Logits => (Method::Distill, arguments.overrides()?),
            TeachingArgument::Text => (Method::Sft, arguments.align.overrides()?),
        };
        return replay::run(home, method, &arguments.align, overrides, path);
    }
    match arguments.from {
        TeachingArgument::Logits => from_logits(home, arguments),
        TeachingArgument::Text => teaching::run(home, arguments),
    }
}

fn from_logits(home: &Home, arguments: &DistillArguments) -> Result<()> {
    let align = &arguments.align;
    let mut begun = Begun::new(align, arguments.overrides()?)?;
    // Settings that cannot be are refused before anything is read.
    let time = begun.time()?;
    let seed = begun.configuration(Method::Distill, align, 1, time)?.seed;
    let mut opened = Opened::new(home, align)?;
    begun.continue_adapter(align, &opened);
    let teacher = open(home, &arguments.teacher)?;
    agree(arguments, &mut opened, &teacher)?;
    let (begun, opened, method) = (&begun, &opened, Method::Distill);
    let run = OfflineRun { arguments: align, begun, opened, method, time, seed };
    let (mut read, configuration) =
        run.read(Kind::Conversations, |encoder, data, options| encoder.encode_conversations(data, options))?;
    let dialogues = Dialogues::new(read.training);
    let of_data = StepTokens::of_examples(&configuration, &dialogues);
    read.training = dialogues.into_dialogues();
    let prompts: Vec<&[u32]> = read.training.iter().map(prompt_of).collect();
    // What the student writes itself may be longer than the data's answers.
    let room = configuration.rollout.map_or(0, |rollout| rollout.max_tokens);
    let rows = |(dialogue, prompt): (&EncodedDialogue, &&[u32])| {
        dialogue.ids.len().saturating_sub(1).max(if room > 0 { prompt.len() + room } else { 0 })
    };
    let rows: Vec<usize> = read.training.iter().zip(&prompts).map(rows).collect();
    let tokens = match room {
        0 => of_data,
        _ => StepTokens::of_rows(&configuration, &rows).with_own_answers(&configuration, &prompts),
    };
    let theirs = teacher.file.config();
    let beside = PlannedTeacher::of(theirs, planned::bytes_of(&teacher.file)?, tokens.different_rows);
    let models = planned::models(opened, align, &configuration, &[], 0)?;
    let planning = Planning {
        arguments: align,
        begun,
        opened,
        configuration: &configuration,
        tokens,
        examples: rows.len(),
        models: PlannedModel { teacher: Some(beside), ..models },
        teacher: Some(theirs),
    };
    if align.dry_run {
        print!("{}", configuration.to_toml());
    }
    planning.show()?;
    let mut teacher = load(arguments, opened, &teacher)?;
    if align.dry_run {
        let mut trainee = run.trainee(&configuration, None)?;
        let model = Arc::clone(trainee.model());
        let writing = own_rollouts(opened, &configuration).map(|options| (options, &model, &prompts[..]));
        return planning.show_measured(&mut trainee, writing, Some(&mut teacher));
    }
    let zhenjin_align::data::KeptExamples { training, held_out, fingerprint, .. } = read;
    let fingerprint = format!("{fingerprint}, teacher {}", teacher.fingerprint());
    let teacher = Rc::new(RefCell::new(teacher));
    let loss = loss(&configuration)?;
    let simd = opened.load.simd;
    let examples = |dialogues: Vec<EncodedDialogue>, own| {
        Distillation::new(dialogues, Rc::clone(&teacher), loss, simd, own)
    };
    let training = examples(training, own_answers(opened, &configuration))?;
    let held_out = examples(held_out, None)?;
    run.learn(configuration, training, held_out, None, &fingerprint)
}

/// Bounds the student by what both models know: tokens, and the length of an example.
fn agree(arguments: &DistillArguments, opened: &mut Opened, teacher: &OpenedModel) -> Result<()> {
    let student = &opened.model;
    let name = arguments.teacher.display();
    let tokenizers = (("student's", &student.tokenizer), ("teacher's", &teacher.tokenizer));
    let common = common_tokens(tokenizers.0, tokenizers.1).with_context(|| {
        format!("--teacher {name} has another vocabulary, so the two models' distributions are of different tokens; --from text learns what it writes instead")
    })?;
    let (ours, theirs) = (student.file.config(), teacher.file.config());
    let tokens = common.min(theirs.vocabulary_size).min(ours.vocabulary_size);
    if tokens < common {
        bail!(
            "--teacher {name}: both tokenizers have {common} tokens, but one of the models has only {tokens}"
        );
    }
    let sources = [student, teacher].map(|model| model.template.as_ref().map(|template| template.source()));
    if sources[0] != sources[1] {
        eprintln!(
            "the teacher has another chat template: it judges examples as the student's template writes them"
        );
    }
    opened.usable_vocabulary = tokens;
    opened.longest = ours.context_length.min(theirs.context_length);
    Ok(())
}

fn load(arguments: &DistillArguments, opened: &Opened, teacher: &OpenedModel) -> Result<Teacher> {
    let config = teacher.file.config();
    let folder = arguments.teacher_adapter.as_deref();
    let adapter = folder.map(|folder| machine::open_adapter(folder, &teacher.file));
    let adapter = adapter.transpose()?;
    let model = Model::from_source(config.clone(), &teacher.file, &opened.load)?;
    Ok(Teacher::new(Arc::new(model), adapter.as_ref(), &opened.load, opened.usable_vocabulary)?)
}

fn loss(configuration: &Configuration) -> Result<DistillationLoss> {
    let section = configuration.distillation.context("a configuration of distillation")?;
    Ok(DistillationLoss {
        divergence: section.divergence,
        beta: section.beta,
        temperature: section.temperature,
        weight: section.weight,
    })
}

/// How the student answers examples itself, if it does.
fn own_answers(opened: &Opened, configuration: &Configuration) -> Option<OwnAnswers> {
    let share = configuration.distillation?.own_answers;
    let rollouts = Rollouts::new(own_rollouts(opened, configuration)?);
    Some(OwnAnswers { rollouts, context: opened.longest, share, seed: configuration.seed })
}

fn own_rollouts(opened: &Opened, configuration: &Configuration) -> Option<RolloutOptions> {
    Some(RolloutOptions {
        section: configuration.rollout?,
        stop_tokens: opened.stop_tokens(),
        usable_vocabulary: opened.usable_vocabulary,
        kv_dtype: KvDtype::F32,
        team: Arc::clone(&opened.load.team),
    })
}

/// An example up to its first answer.
fn prompt_of(dialogue: &EncodedDialogue) -> &[u32] {
    let end = dialogue.assistant_mask.iter().position(|is_answer| *is_answer);
    &dialogue.ids[..end.unwrap_or(dialogue.ids.len())]
}
