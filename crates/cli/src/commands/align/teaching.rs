//! Distillation from text: the teacher answers the data's prompts through its own template, and the student learns the answers as by `sft`.
//! All answers are kept in the run's folder.

use super::offline::OfflineRun;
use super::opened::Opened;
use super::planned::{self, Planning, writing_pace};
use super::{AlignArguments, Begun, DistillArguments, Loaded};
use crate::commands::best_of_n::{self, Prompts, ReadPrompts, Writer, answers_file};
use crate::commands::report::ReportLanguage;
use crate::home::Home;
use anyhow::{Result, bail};
use std::ffi::OsStr;
use std::path::Path;
use time::OffsetDateTime;
use zhenjin_align::best_of::{Candidate, Choice, Summary};
use zhenjin_align::configuration::Method;
use zhenjin_align::data::Encoder;
use zhenjin_align::plan::StepTokens;
use zhenjin_train::metrics::duration_text;

/// What the student learns, in the run's folder of data.
const EXAMPLES: &str = "teacher.jsonl";
/// Prompts whose answers are written together to know how long it takes.
const MEASURED_PROMPTS: usize = 16;

pub(super) fn run(home: &Home, arguments: &DistillArguments) -> Result<()> {
    let align = &arguments.align;
    let mut begun = Begun::new(align, align.overrides()?)?;
    // Settings that cannot be are refused before anything is read or written.
    let time = begun.time()?;
    let first = begun.configuration(Method::Sft, align, 1, time)?;
    let opened = Opened::new(home, align)?;
    begun.continue_adapter(align, &opened);
    let (method, seed) = (Method::Sft, first.seed);
    let run = |arguments| OfflineRun { arguments, begun: &begun, opened: &opened, method, time, seed };
    let examples = begun.folder.data().join(EXAMPLES);
    if let Some(rows) = teach(home, arguments, &opened, &examples, first.seed, time)? {
        let configuration = begun.configuration(Method::Sft, align, rows.len(), time)?;
        print!("{}", configuration.to_toml());
        let anchor_rows = run(align).anchor(&configuration)?.map_or(0, |anchor| anchor.most_rows());
        let planning = Planning {
            arguments: align,
            begun: &begun,
            opened: &opened,
            configuration: &configuration,
            tokens: StepTokens::of_rows(&configuration, &rows).with_anchor(anchor_rows),
            examples: rows.len(),
            models: planned::models(&opened, align, &configuration, &[], 0)?,
            teacher: None,
        };
        planning.show()?;
        return planning.show_measured(&mut run(align).trainee(&configuration, None)?, None, None);
    }
    run(&AlignArguments { data: vec![examples], ..align.clone() }).sft()
}

/// Lets the teacher answer, and writes what the student learns; or, where nothing is to be written, says what that would take and gives the
/// most tokens of each example.
fn teach(
    home: &Home,
    arguments: &DistillArguments,
    student: &Opened,
    examples: &Path,
    seed: u64,
    time: OffsetDateTime,
) -> Result<Option<Vec<usize>>> {
    let align = &arguments.align;
    let (sampling, temperature) = arguments.teachers_answers(seed)?;
    let teacher = Loaded::new(home, &arguments.teacher, &student.load)?;
    check_teachers_room(&arguments.teacher, teacher.weights.config.context_length, sampling.max_tokens)?;
    let folder = arguments.teacher_adapter.as_deref();
    let adapter = folder.map(|folder| teacher.adapter(folder));
    let answers = answers_file(examples);
    let prompts = ReadPrompts {
        data: &align.data,
        bad: align.bad(),
        overlong: align.overlong(),
        context: None,
        room: sampling.max_tokens,
        most: None,
        time: Some(best_of_n::settings(&answers)?.map_or(time.unix_timestamp(), |settings| settings.time)),
        thinking: align.thinking,
    };
    let prompts = prompts.prompts(&teacher)?;
    let writer =
        Writer { home, model: &teacher, adapter: adapter.transpose()?, sampling: &sampling, temperature };
    if align.dry_run {
        let encoded: Vec<&[u32]> = prompts.encoded.iter().map(|task| &task.prompt[..]).collect();
        let (answers, tokens) = (sampling.answers, sampling.max_tokens);
        let options = teacher.rollout_options(writer.section());
        let at_once = encoded.len().min(MEASURED_PROMPTS);
        let pace = writing_pace(options, &teacher.weights, writer.adapter.as_ref(), &encoded, at_once)?;
        let seconds = pace * (encoded.len() * answers * tokens) as f64;
        eprintln!(
            "{:<12} writes {answers} answers of at most {tokens} tokens to each of {} prompts first: at most {}, measured; the student learns \
             afterwards",
            "teacher",
            encoded.len(),
            duration_text(seconds)
        );
        return Ok(Some(encoded.iter().map(|prompt| prompt.len() + tokens).collect()));
    }
    std::fs::create_dir_all(examples.parent().unwrap_or(Path::new(".")))?;
    let mut written = writer.answers(&prompts, &answers)?;
    eprint!("{}", best_of_n::counts(&Summary::of(&written, sampling.answers, seed), ReportLanguage::En));
    leave_out_thoughts(student, &prompts, &mut written)?;
    let choice = Choice::Best { keep: 1, least: arguments.least.unwrap_or(f64::NEG_INFINITY) };
    let chosen = best_of_n::write(examples, &prompts.tasks, &written, &choice)?;
    if chosen.records == 0 {
        bail!("none of the teacher's answers can be learnt; {} has all of them", answers.display());
    }
    eprintln!("the student learns {} answers of the teacher: {}", chosen.records, examples.display());
    Ok(None)
}

/// Refuses answers that leave no room for a prompt.
fn check_teachers_room(name: &OsStr, context: usize, answer: usize) -> Result<()> {
    if answer >= context {
        bail!(
            "the teacher {} holds {context} tokens, prompt and answer together: answers of up to {answer} tokens leave no room for a prompt; give \
             --max-tokens below {context}",
            name.display()
        );
    }
    Ok(())
}

/// A student whose template knows no thoughts learns the answers alone.
fn leave_out_thoughts(student: &Opened, prompts: &Prompts, answers: &mut [Vec<Candidate>]) -> Result<()> {
    let model = &student.model;
    let settings = prompts.settings.clone();
    let encoder = Encoder::for_prompts(&model.tokenizer, model.template.as_ref(), settings)?;
    if encoder.takes_thoughts() {
        return Ok(());
    }
    let thoughts = answers.iter_mut().flatten().filter_map(|answer| answer.thought.take()).count();
    if thoughts > 0 {
        eprintln!("{thoughts} thoughts of the teacher are left out: the student's template knows none");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Regression: the refusal spoke of "prompts of 0 tokens", a difference that nobody had asked for, and did not say that it was of the teacher.
    #[test]
    fn answers_without_room_for_a_prompt_are_refused_with_the_teachers_name() {
        let name = OsStr::new("poet");
        assert!(check_teachers_room(name, 256, 255).is_ok());
        let error = check_teachers_room(name, 256, 256).expect_err("no room").to_string();
        assert!(error.contains("the teacher poet holds 256 tokens"), "{error}");
        assert!(error.contains("--max-tokens") && !error.contains("0 tokens with"), "{error}");
    }
}
