//! The run's examples: read, divided, encoded, and what was done to them told.

use super::AlignArguments;
use super::opened::Opened;
use crate::text;
use anyhow::{Context, Result, bail};
use std::num::NonZeroUsize;
use std::path::PathBuf;
use time::OffsetDateTime;
use zhenjin_align::configuration::AnchorSection;
use zhenjin_align::data::{
    Dataset, EncodeOptions, Encoded, Encoder, ExamplesFolder, HashTokens, Keep, KeptExamples, Kind,
    ReadOptions, held_out_note,
};
use zhenjin_align::methods::Anchor;
use zhenjin_model::Fingerprint;
use zhenjin_tokenizer::{ChatTemplate, Specials, Tokenizer};

/// How one kind of examples is encoded.
type Encode<T> =
    fn(&Encoder<'_>, &Dataset, &EncodeOptions) -> Result<Encoded<T>, zhenjin_align::data::DataError>;

/// Reads the examples of `kind`, or takes them as an earlier run kept them. `room` tokens of the model's context are left for answers.
pub(super) fn read<T: HashTokens + Keep>(
    arguments: &AlignArguments,
    opened: &Opened,
    kind: Kind,
    time: OffsetDateTime,
    room: usize,
    seed: u64,
    encode: Encode<T>,
) -> Result<KeptExamples<T>> {
    let longest = opened.longest;
    let context = arguments.context.unwrap_or(longest.saturating_sub(room));
    if context + room > longest {
        bail!(
            "--context {context}: with {room} tokens for answers that is more than the {longest} that there are"
        );
    }
    let reading = Reading { arguments, opened, kind, time, context, seed };
    let key = reading.key();
    if let Some((folder, key)) = &key {
        match folder.find(key) {
            Ok(None) => {}
            Ok(Some(kept)) => {
                kept.told.iter().for_each(|line| eprintln!("{line}"));
                eprintln!("their tokens were kept by an earlier run (--no-kept-examples encodes them anew)");
                return Ok(kept);
            }
            Err(error) => eprintln!("the examples are encoded anew: {error}"),
        }
    }
    let read = reading.anew(encode)?;
    // Files that were changed while they were read have other contents than those of the key.
    if let Some((folder, key)) = &key
        && reading.key().is_some_and(|(_, now)| now == *key)
        && let Err(error) = folder.keep(key, &read)
    {
        eprintln!("the tokens of the examples are not kept for later runs: {error}");
    }
    Ok(read)
}

/// What data are read, and how.
struct Reading<'a> {
    arguments: &'a AlignArguments,
    opened: &'a Opened,
    kind: Kind,
    time: OffsetDateTime,
    context: usize,
    seed: u64,
}

impl Reading<'_> {
    /// Where the examples are kept, and under which key; `None` where they are not.
    fn key(&self) -> Option<(&ExamplesFolder, Fingerprint)> {
        let Reading { arguments, opened, kind, context, seed, .. } = self;
        let folder = opened.kept_examples.as_ref()?;
        let files: Vec<PathBuf> = arguments.data.iter().chain(&arguments.held_out).cloned().collect();
        let parts = || {
            let model = opened.model.text_fingerprint().ok()?;
            let shows_time = opened.model.template.as_ref().is_some_and(ChatTemplate::may_show_time);
            let time = shows_time.then_some(self.time);
            let overlong = arguments.overlong();
            let settings = format!(
                "{kind:?} {context} {seed} {time:?} {overlong:?} {:?} {:?} {:?} {} {}",
                arguments.bad(),
                arguments.learnt(),
                arguments.thinking,
                arguments.held_out_share.to_bits(),
                arguments.data.len()
            );
            Some(vec![this_program()?.into_bytes(), model.as_bytes().to_vec(), settings.into_bytes()])
        };
        // A file that cannot be read is an error when it is read.
        Some((folder, folder.key(&files, parts).ok()??))
    }

    fn anew<T: HashTokens>(&self, encode: Encode<T>) -> Result<KeptExamples<T>> {
        let Reading { arguments, opened, kind, time, context, seed } = *self;
        let mut told = Vec::new();
        let options = ReadOptions { bad: arguments.bad(), ..ReadOptions::default() };
        let read =
            |paths: &[PathBuf]| -> Result<Dataset> { Ok(Dataset::read(paths, &options)?.for_kind(kind)?) };
        let all = read(&arguments.data)?;
        tell(&all, &mut told);
        let (training, held_out) = match arguments.held_out.is_empty() {
            false => {
                let held_out = read(&arguments.held_out)?;
                tell(&held_out, &mut told);
                (all, held_out)
            }
            true => {
                let (training, held_out) = all.split(arguments.held_out_share, seed)?;
                let (learnt, apart) = (training.examples.len(), held_out.examples.len());
                if let Some(note) = held_out_note(learnt, apart, arguments.held_out_share) {
                    eprintln!("{note}");
                    told.push(note);
                }
                (training, held_out)
            }
        };
        let encoder = match kind {
            Kind::Tasks => Encoder::for_prompts,
            _ => Encoder::new,
        };
        let model = &opened.model;
        let encoder = encoder(&model.tokenizer, model.template.as_ref(), arguments.thinking.settings(time))
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
        count("to learn from", &training, &mut told);
        count("held out", &held_out, &mut told);
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
        Ok(KeptExamples { training: training.examples, held_out: held_out.examples, fingerprint, told })
    }
}

/// Which build of the program this is: another one may encode otherwise.
fn this_program() -> Option<String> {
    let metadata = std::fs::metadata(std::env::current_exe().ok()?).ok()?;
    Some(format!("{} {} {:?}", env!("CARGO_PKG_VERSION"), metadata.len(), metadata.modified().ok()?))
}

/// The text that stays as probable as it is, where the settings have some: the paragraphs of the anchor's files, in pieces that fit into the model's
/// context and into what a step takes of them.
pub(super) fn anchor(
    arguments: &AlignArguments,
    opened: &Opened,
    section: Option<&AnchorSection>,
) -> Result<Option<Anchor>> {
    let Some(section) = section else { return Ok(None) };
    // The last token of a piece has no row.
    let longest = opened.model.file.config().context_length.min(section.tokens.saturating_add(1));
    let mut pieces = Vec::new();
    for path in &arguments.anchor {
        let of_file = paragraphs(&text::of_file(path)?, &opened.model.tokenizer, longest)?;
        if of_file.is_empty() {
            bail!("--anchor {}: it has no text", path.display());
        }
        pieces.extend(of_file);
    }
    Ok(Some(Anchor::new(&pieces, section)?))
}

/// The paragraphs of a text, each in pieces of at most `longest` tokens.
pub(crate) fn paragraphs(text: &str, tokenizer: &Tokenizer, longest: usize) -> Result<Vec<Vec<u32>>> {
    let mut pieces = Vec::new();
    for paragraph in divided(text) {
        let tokens = tokenizer.encode(&paragraph, Specials::AsText)?;
        pieces.extend(tokens.chunks(longest.max(1)).map(<[u32]>::to_vec));
    }
    Ok(pieces)
}

/// A text divided at lines without a word, whatever ends its lines, without white space at the ends of its paragraphs.
fn divided(text: &str) -> Vec<String> {
    let lines: Vec<&str> = text.lines().collect();
    let paragraphs =
        lines.split(|line| line.trim().is_empty()).map(|lines| lines.join("\n").trim().to_owned());
    paragraphs.filter(|paragraph| !paragraph.is_empty()).collect()
}

/// What reading did beside reading.
fn tell(dataset: &Dataset, told: &mut Vec<String>) {
    // Names of fields may hold what steers a terminal.
    let mut tell = |line: String| {
        let line = text::shown(&line);
        eprintln!("{line}");
        told.push(line);
    };
    for (note, count) in &dataset.notes {
        tell(format!("{count} {note}"));
    }
    for (field, count) in &dataset.unread_fields {
        tell(format!("the field `{field}` of {count} records has no effect"));
    }
    if dataset.bad.total() > 0 {
        tell(format!("{} bad records are left out; `zhenjin data check` lists them", dataset.bad.total()));
    }
}

fn count<T>(what: &str, encoded: &Encoded<T>, told: &mut Vec<String>) {
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
    told.push(text);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Regression: text whose lines end as in Windows, or whose empty lines have a space, was one paragraph, as long as the model's context.
    #[test]
    fn paragraphs_end_at_lines_without_words_whatever_ends_a_line() {
        let expected = ["one\nline more", "two", "three"];
        for text in [
            "one\nline more\n\ntwo\n\n\n\nthree\n",
            "\r\none\r\nline more\r\n\r\ntwo\r\n \r\nthree",
            " one\nline more \n \t\ntwo\n\u{3000}\n\n  three",
        ] {
            assert_eq!(divided(text), expected, "{text:?}");
        }
        assert!(divided("\n \r\n\t").is_empty());
    }

    /// Records of improvements depend on the tokens of the program's own text.
    #[test]
    fn the_programs_own_text_is_divided_as_it_always_was() {
        use zhenjin_improve::{anchor, neutral};
        for text in [anchor::ENGLISH, anchor::CHINESE, neutral::ENGLISH, neutral::CHINESE] {
            let before = text.split("\n\n").map(str::trim).filter(|paragraph| !paragraph.is_empty());
            assert_eq!(divided(text), before.collect::<Vec<_>>());
        }
        let together = [anchor::ENGLISH, "\n", anchor::CHINESE].concat();
        assert_eq!(divided(&together).len(), divided(anchor::ENGLISH).len() + divided(anchor::CHINESE).len());
    }
}
