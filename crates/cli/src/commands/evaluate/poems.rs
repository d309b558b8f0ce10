//! `zhenjin evaluate poems`.

use super::PoemsArguments;
use super::generation::{TOGETHER, completion, finish, log_probabilities, score_request, spread};
use super::poem_documents::PoemDocuments;
use crate::home::Home;
use crate::machine;
use anyhow::{Context, Result, bail};
use serde::Serialize;
use std::sync::Arc;
use zhenjin_assistant::{
    Assistant, CompletionPrompt, FinishReason, GenerationOptions, SamplingSettings, ServedModels,
};
use zhenjin_corpus::ShardSet;
use zhenjin_eval::poems::{JudgedPoem, KnownForms, PoemScores, VerseScores, chinese_characters, copy_finder};
use zhenjin_prosody::Poem;

/// What was measured.
#[derive(Debug, Default, Serialize)]
struct Measured {
    model: String,
    held_out_poems: usize,
    /// Held-out poems that are longer than the model's context, among those that were to be scored.
    too_long: usize,
    /// Held-out poems scored, their characters (the end of the poem counts as one), and bits per character.
    scored_poems: usize,
    scored_characters: usize,
    bits_per_character: Option<f64>,
    generated: PoemScores,
    /// Generated poems that did not end within the limit of tokens.
    unfinished: usize,
    /// The held-out poems from whose heads the others were generated.
    real: PoemScores,
}

pub(crate) async fn run(home: &Home, arguments: &PoemsArguments) -> Result<()> {
    let set = ShardSet::open(&arguments.data)?;
    let spec = machine::model_spec(home, Some(&arguments.model))?;
    let name = spec.name.clone();
    let models =
        ServedModels::new(vec![spec], machine::serve_options(&arguments.engine, TOGETHER, TOGETHER)?)?;
    let assistant = models.get(&name).await?;
    let documents = PoemDocuments::new(&set, assistant.tokenizer(), arguments.validation_share)?;
    let held_out: Vec<u64> = documents.numbers(true).collect();
    if held_out.is_empty() {
        bail!(
            "{}: no document was held out with --validation-share {}",
            arguments.data.display(),
            arguments.validation_share
        );
    }
    let mut measured = Measured { model: name, held_out_poems: held_out.len(), ..Measured::default() };
    score(&assistant, &documents, &held_out, arguments, &mut measured).await?;
    let (generated, real) = generate(&assistant, &documents, &held_out, arguments, &mut measured).await?;
    judge(&documents, &generated, &real, &mut measured)?;
    if arguments.json {
        println!("{}", serde_json::to_string_pretty(&measured)?);
        return Ok(());
    }
    for poem in generated.iter().take(arguments.show) {
        println!("{}\n", poem.text);
    }
    print(&measured);
    Ok(())
}

/// Held-out bits per character.
async fn score(
    assistant: &Arc<Assistant>,
    documents: &PoemDocuments<'_>,
    held_out: &[u64],
    arguments: &PoemsArguments,
    measured: &mut Measured,
) -> Result<()> {
    let end = assistant.tokenizer().eos().context("the model's tokenizer has no end of text")?;
    let mut nats = 0.0;
    for group in spread(held_out, arguments.scored).chunks(TOGETHER) {
        let mut running = Vec::new();
        for &number in group {
            let Some(document) = documents.read(number)? else { continue };
            if document.head.len() + document.poem.len() + 1 > assistant.info().context_length {
                measured.too_long += 1;
                continue;
            }
            measured.scored_characters += documents.text(&document.poem)?.chars().count() + 1;
            measured.scored_poems += 1;
            let from = document.head.len();
            let tokens = document.head.into_iter().chain(document.poem).chain([end]).collect();
            running.push((from, assistant.complete(&score_request(tokens))?));
        }
        for (from, generation) in running {
            nats -= log_probabilities(generation).await?[from..].iter().flatten().sum::<f64>();
        }
    }
    measured.bits_per_character = (measured.scored_characters > 0)
        .then(|| nats / std::f64::consts::LN_2 / measured.scored_characters as f64);
    Ok(())
}

/// Poems from the heads of held-out ones, and those.
async fn generate(
    assistant: &Arc<Assistant>,
    documents: &PoemDocuments<'_>,
    held_out: &[u64],
    arguments: &PoemsArguments,
    measured: &mut Measured,
) -> Result<(Vec<JudgedPoem>, Vec<JudgedPoem>)> {
    let (mut generated, mut real) = (Vec::new(), Vec::new());
    let mut seed = arguments.seed;
    for group in spread(held_out, arguments.samples).chunks(TOGETHER) {
        let mut running = Vec::new();
        for &number in group {
            let Some(document) = documents.read(number)? else { continue };
            real.push(documents.judged(&document.head, documents.text(&document.poem)?)?);
            let sampling = SamplingSettings {
                temperature: arguments.temperature,
                top_p: arguments.top_p,
                seed: Some(seed),
                ..SamplingSettings::default()
            };
            seed += 1;
            let most = assistant.info().context_length.saturating_sub(document.head.len());
            if most == 0 {
                measured.too_long += 1;
                real.pop();
                continue;
            }
            let max_tokens = Some(arguments.max_tokens.min(most));
            let options = GenerationOptions { sampling, max_tokens, ..GenerationOptions::default() };
            let generation =
                assistant.complete(&completion(CompletionPrompt::Tokens(document.head.clone()), options))?;
            running.push((document.head, generation));
        }
        for (head, generation) in running {
            let answer = finish(generation).await?;
            measured.unfinished +=
                usize::from(matches!(answer.reason, Some(FinishReason::Length | FinishReason::Repetition)));
            generated.push(documents.judged(&head, answer.text)?);
        }
    }
    Ok((generated, real))
}

/// Reads the training poems once: which forms there are, and what was copied.
fn judge(
    documents: &PoemDocuments<'_>,
    generated: &[JudgedPoem],
    real: &[JudgedPoem],
    measured: &mut Measured,
) -> Result<()> {
    let (mut forms, mut of_generated, mut of_real) =
        (KnownForms::default(), copy_finder(generated), copy_finder(real));
    for number in documents.numbers(false) {
        let Some(document) = documents.read(number)? else { continue };
        let poem = documents.judged(&document.head, documents.text(&document.poem)?)?;
        forms.learn(&poem.form, &Poem::parse(&poem.text));
        of_generated.read(chinese_characters(&poem.text));
        of_real.read(chinese_characters(&poem.text));
    }
    measured.generated = PoemScores::of(generated, &forms, &of_generated.longest());
    measured.real = PoemScores::of(real, &forms, &of_real.longest());
    Ok(())
}

const RHYME_BOOK: fn(&PoemScores) -> &VerseScores = |scores| &scores.by_rhyme_book;
const MODERN_READINGS: fn(&PoemScores) -> &VerseScores = |scores| &scores.by_modern_readings;

fn print(measured: &Measured) {
    if let Some(bits) = measured.bits_per_character {
        println!(
            "held out: {bits:.4} bits per character over {} characters of {} poems (of {})",
            measured.scored_characters, measured.scored_poems, measured.held_out_poems
        );
    }
    if measured.too_long > 0 {
        println!("not scored: {} poems, which are longer than the model's context", measured.too_long);
    }
    println!("{:<44} {:>12} {:>12}", "", "generated", "real");
    let (generated, real) = (&measured.generated, &measured.real);
    let row = |name: &str, of: &dyn Fn(&PoemScores) -> String| {
        println!("{name:<44} {:>12} {:>12}", of(generated), of(real));
    };
    let share = |part: usize, whole: usize| match whole {
        0 => "–".to_owned(),
        _ => format!("{:.1} %", 100.0 * part as f64 / whole as f64),
    };
    row("poems", &|scores| scores.poems.to_string());
    row("right number of lines and characters", &|scores| share(scores.right_form, scores.poems));
    row("  of shi", &|scores| share(scores.shi_right_form, scores.shi));
    row("  of ci", &|scores| share(scores.right_form - scores.shi_right_form, scores.poems - scores.shi));
    row("characters of a poem, mean", &|scores| {
        format!("{:.1}", scores.characters as f64 / scores.poems.max(1) as f64)
    });
    row("distinct pairs of characters, of 10,000", &|scores| {
        scores.distinct_pairs.map_or("–".to_owned(), |share| format!("{share:.3}"))
    });
    for (standard, of) in [("rhyme book", RHYME_BOOK), ("modern readings", MODERN_READINGS)] {
        println!("by the {standard}");
        let row = |name: &str, part: fn(&VerseScores) -> [usize; 2]| {
            let text = |scores: &PoemScores| {
                let [part, whole] = part(of(scores));
                share(part, whole)
            };
            row(name, &text);
        };
        row("  poems in which all lines rhyme that should", |verse| [verse.all_rhyme, verse.with_rhymes]);
        row("  lines that rhyme, of those that should", |verse| [verse.rhyming_lines, verse.rhyme_lines]);
        row("  regulated verse, of lines of 5 or 7", |verse| [verse.regulated, verse.with_tone_pattern]);
        row("  tone rules kept", |verse| [verse.tones_kept, verse.tone_checks]);
    }
    row("longest copied run: median, 95 %, greatest", &|scores| {
        let [median, most, greatest] = scores.longest_copy;
        format!("{median}, {most}, {greatest}")
    });
    println!("unfinished: {} of {}", measured.unfinished, generated.poems);
    println!("the longest copied run: {}", generated.longest_copy_text);
}
