//! Distillation: the teacher, its vocabulary beside the student's, and the run.

use super::arguments::TeachingArgument;
use super::examples;
use super::offline::OfflineRun;
use super::opened::{Opened, open};
use super::{Begun, DistillArguments, teaching};
use crate::home::Home;
use anyhow::{Context, Result, bail};
use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use zhenjin_align::configuration::{Configuration, Method};
use zhenjin_align::data::Kind;
use zhenjin_align::losses::distillation::DistillationLoss;
use zhenjin_align::methods::{Distillation, OwnAnswers};
use zhenjin_align::rollouts::{RolloutOptions, Rollouts};
use zhenjin_align::teacher::{Teacher, common_tokens};
use zhenjin_hub::OpenedModel;
use zhenjin_model::{AdapterValues, Model};
use zhenjin_tensor::KvDtype;
use zhenjin_tokenizer::EncodedDialogue;

pub(super) fn run(home: &Home, arguments: &DistillArguments) -> Result<()> {
    arguments.check()?;
    match arguments.from {
        TeachingArgument::Logits => from_logits(home, arguments),
        TeachingArgument::Text => teaching::run(home, arguments),
    }
}

fn from_logits(home: &Home, arguments: &DistillArguments) -> Result<()> {
    let align = &arguments.align;
    let begun = Begun::new(align, arguments.overrides()?)?;
    // Settings that cannot be are refused before anything is read.
    let time = begun.time()?;
    begun.configuration(Method::Distill, align, 1, time)?;
    let mut opened = Opened::new(home, align)?;
    let teacher = open(home, &arguments.teacher)?;
    agree(arguments, &mut opened, &teacher)?;
    let run = OfflineRun { arguments: align, begun: &begun, opened: &opened, method: Method::Distill, time };
    let (read, configuration) =
        run.read(Kind::Conversations, |encoder, data, options| encoder.encode_conversations(data, options))?;
    if align.dry_run {
        print!("{}", configuration.to_toml());
        return Ok(());
    }
    let teacher = load(arguments, &opened, &teacher)?;
    let examples::Examples { training, held_out, fingerprint } = read;
    let fingerprint = format!("{fingerprint}, teacher {}", teacher.fingerprint());
    let teacher = Rc::new(RefCell::new(teacher));
    let loss = loss(&configuration)?;
    let simd = opened.load.simd;
    let examples = |dialogues: Vec<EncodedDialogue>, own| {
        Distillation::new(dialogues, Rc::clone(&teacher), loss, simd, own)
    };
    let training = examples(training, own_answers(&opened, &configuration))?;
    let held_out = examples(held_out, None)?;
    run.train(configuration, training, held_out, &fingerprint)
}

/// Bounds the student by what both models know: tokens, and the length of an example.
fn agree(arguments: &DistillArguments, opened: &mut Opened, teacher: &OpenedModel) -> Result<()> {
    let student = &opened.model;
    let name = arguments.teacher.display();
    let common = common_tokens(&student.tokenizer, &teacher.tokenizer).with_context(|| {
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
    let adapter = arguments.teacher_adapter.as_deref().map(|folder| {
        AdapterValues::open(folder, config)
            .with_context(|| format!("opening the teacher's adapter {}", folder.display()))
    });
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
    let rollouts = Rollouts::new(RolloutOptions {
        section: configuration.rollout?,
        stop_tokens: opened.stop_tokens(),
        usable_vocabulary: opened.usable_vocabulary,
        kv_dtype: KvDtype::F32,
        team: Arc::clone(&opened.load.team),
    });
    Some(OwnAnswers { rollouts, context: opened.longest, share, seed: configuration.seed })
}
