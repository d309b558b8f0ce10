//! The run's examples: read, divided, encoded, and what was done to them told.

use super::AlignArguments;
use super::opened::Opened;
use crate::text;
use anyhow::{Context, Result, bail};
use std::num::NonZeroUsize;
use std::path::PathBuf;
use time::OffsetDateTime;
use zhenjin_align::data::{
    Dataset, EncodeOptions, Encoded, Encoder, HashTokens, Kind, PromptSettings, ReadOptions,
};
use zhenjin_tokenizer::{Specials, Tokenizer};

/// Examples to learn from and to measure on, in tokens.
pub(super) struct Examples<T> {
    pub(super) training: Vec<T>,
    pub(super) held_out: Vec<T>,
    pub(super) fingerprint: String,
}

/// How one kind of examples is encoded.
type Encode<T> =
    fn(&Encoder<'_>, &Dataset, &EncodeOptions) -> Result<Encoded<T>, zhenjin_align::data::DataError>;

/// Reads the examples of `kind`. `room` tokens of the model's context are left for answers.
pub(super) fn read<T: HashTokens>(
    arguments: &AlignArguments,
    opened: &Opened,
    kind: Kind,
    time: OffsetDateTime,
    room: usize,
    seed: u64,
    encode: Encode<T>,
) -> Result<Examples<T>> {
    let options = ReadOptions { bad: arguments.bad(), ..ReadOptions::default() };
    let read = |paths: &[PathBuf]| -> Result<Dataset> { Ok(Dataset::read(paths, &options)?.for_kind(kind)?) };
    let all = read(&arguments.data)?;
    tell(&all);
    let (training, held_out) = match arguments.held_out.is_empty() {
        false => {
            let held_out = read(&arguments.held_out)?;
            tell(&held_out);
            (all, held_out)
        }
        true => all.split(arguments.held_out_share, seed)?,
    };
    let model = &opened.model;
    let longest = opened.longest;
    let context = arguments.context.unwrap_or(longest.saturating_sub(room));
    if context + room > longest {
        bail!(
            "--context {context}: with {room} tokens for answers that is more than the {longest} that there are"
        );
    }
    let encoder = match kind {
        Kind::Tasks => Encoder::for_prompts,
        _ => Encoder::new,
    };
    let encoder = encoder(&model.tokenizer, model.template.as_ref(), PromptSettings::at(time))
        .with_context(|| format!("{}", arguments.model.display()))?;
    let options = EncodeOptions {
        context,
        overlong: arguments.overlong(),
        bad: arguments.bad(),
        learnt: arguments.learnt(),
        threads: NonZeroUsize::new(opened.load.team.threads()).unwrap_or(NonZeroUsize::MIN),
    };
    let training = encode(&encoder, &training, &options)?;
    let held_out = encode(&encoder, &held_out, &options)?;
    count("to learn from", &training);
    count("held out", &held_out);
    if training.examples.is_empty() {
        bail!(
            "no example is left to learn from: {} are too long for {context} tokens (--context), {} are held out (--held-out-share), {} cannot be \
             written by the template",
            training.counts.too_long,
            held_out.examples.len(),
            training.bad.total()
        );
    }
    let fingerprint = format!("{}+{}", training.fingerprint(), held_out.fingerprint());
    Ok(Examples { training: training.examples, held_out: held_out.examples, fingerprint })
}

/// The paragraphs of the anchor's files, in pieces that fit into the model's context.
pub(super) fn anchor(arguments: &AlignArguments, opened: &Opened) -> Result<Vec<Vec<u32>>> {
    let longest = opened.model.file.config().context_length;
    let mut pieces = Vec::new();
    for path in &arguments.anchor {
        let of_file = paragraphs(&text::of_file(path)?, &opened.model.tokenizer, longest)?;
        if of_file.is_empty() {
            bail!("--anchor {}: it has no text", path.display());
        }
        pieces.extend(of_file);
    }
    Ok(pieces)
}

/// The paragraphs of a text, each in pieces of at most `longest` tokens.
pub(crate) fn paragraphs(text: &str, tokenizer: &Tokenizer, longest: usize) -> Result<Vec<Vec<u32>>> {
    let mut pieces = Vec::new();
    for paragraph in text.split("\n\n").map(str::trim).filter(|paragraph| !paragraph.is_empty()) {
        let tokens = tokenizer.encode(paragraph, Specials::AsText)?;
        pieces.extend(tokens.chunks(longest.max(1)).map(<[u32]>::to_vec));
    }
    Ok(pieces)
}

/// What reading did beside reading.
fn tell(dataset: &Dataset) {
    for (note, count) in &dataset.notes {
        eprintln!("{count} {note}");
    }
    for (field, count) in &dataset.unread_fields {
        eprintln!("the field `{field}` of {count} records has no effect");
    }
    if dataset.bad.total() > 0 {
        eprintln!("{} bad records are left out; `zhenjin data check` lists them", dataset.bad.total());
    }
}

fn count<T>(what: &str, encoded: &Encoded<T>) {
    let counts = &encoded.counts;
    let mut text = format!("{} examples {what}", encoded.examples.len());
    for (count, of) in [
        (counts.too_long, "too long and left out"),
        (counts.split, "too long and divided"),
        (counts.turns_apart, "with answers apart, because the template rewrites what was said before"),
        (
            counts.boundaries_apart,
            "with answers apart, because other tokens stand for the same text once more follows it",
        ),
        (encoded.bad.total(), "that the template cannot write left out"),
    ] {
        if count > 0 {
            text += &format!(", {count} {of}");
        }
    }
    eprintln!("{text}");
}
