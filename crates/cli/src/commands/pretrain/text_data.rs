//! `--data` that is text: a tokenizer and token shards in the run's folder, made once and used again.

use super::PretrainArguments;
use crate::commands::text_input::{BrokenRecords, threads};
use crate::commands::tokenize::open_tokenizer;
use crate::commands::tokenizer::train_tokenizer;
use crate::commands::training::RunFolder;
use anyhow::{Context, Result, bail};
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;
use zhenjin_corpus::{
    CorpusError, Input, InputFile, InputOptions, MANIFEST_FILE, SampleOptions, TokenizeEvent,
    TokenizeOptions, discover, tokenize,
};
use zhenjin_tokenizer::CHAT_TOKENS;

/// What the tokenizer was made from, beside it.
const MADE_FROM: &str = "made-from.txt";
/// Text that a tokenizer is trained on at most, and tokens of a shard: as `zhenjin tokenizer train` and `tokenize` have them.
const MAX_TRAINING_TEXT: usize = 16 << 20;
const SHARD_TOKENS: u64 = 4 << 20;
/// Bytes of text for each token of a vocabulary, and the sizes between which it stays: ours, not measured. Rare tokens are
/// hardly trained, and the head's share of the work grows with the vocabulary.
const BYTES_PER_TOKEN: u64 = 1_000;
const VOCABULARIES: std::ops::RangeInclusive<u64> = 512..=8192;

/// The folder of token shards that `--data` names, or that is made here of the text that it names.
pub(super) fn shards(arguments: &PretrainArguments, folder: &RunFolder, is_resumed: bool) -> Result<PathBuf> {
    if arguments.data.join(MANIFEST_FILE).exists() {
        refuse_text_options(arguments)?;
        return Ok(arguments.data.clone());
    }
    check_is_text(&arguments.data)?;
    check_is_outside(folder.path(), &arguments.data)?;
    let input = arguments.document.arguments.options()?;
    let files = discover(&Input { path: arguments.data.clone(), licence: String::new() }, input.kind)?.files;
    // A dry run makes the data of a run that has not begun, but never replaces the data of one that has.
    let is_kept = is_resumed || (arguments.only_looks() && folder.has_something()?);
    if !(is_kept && arguments.only_looks()) {
        folder.lock()?;
    }
    let tokenizer = match &arguments.tokenizer {
        Some(path) => path.clone(),
        None => own_tokenizer(arguments, &folder.data().join("tokenizer"), &files, &input, is_kept)?,
    };
    let out = folder.data().join("shards");
    let (tokenizer, tokenizer_files) = open_tokenizer(&tokenizer)?;
    let options = TokenizeOptions {
        inputs: vec![Input { path: arguments.data.clone(), licence: String::new() }],
        input,
        end_of_text: None,
        shard_tokens: SHARD_TOKENS,
        threads: threads(arguments.threads),
        strict: false,
        // A run that has a checkpoint keeps the data that it began with.
        replace: !is_kept,
    };
    let mut broken = BrokenRecords::default();
    let summary = tokenize(&tokenizer, &tokenizer_files, &out, &options, &mut |event| match event {
        TokenizeEvent::Note(text) => eprintln!("{text}"),
        TokenizeEvent::Broken(record) => broken.show(record),
        TokenizeEvent::Read(_) | TokenizeEvent::Shard(_) => {}
    });
    let summary = match summary {
        Err(CorpusError::Occupied { path, .. }) if is_kept && path == out => bail!(
            "{}: the text, its options or the tokenizer are not those that the run began with; \
             go on with what it had, or begin another run in another --out",
            arguments.data.display()
        ),
        summary => summary.with_context(|| format!("making token shards of {}", arguments.data.display()))?,
    };
    let counts = summary.counts;
    eprintln!(
        "{}: {} documents, {} tokens, {} records left out{}",
        out.display(),
        counts.documents,
        counts.tokens,
        counts.broken,
        if summary.unchanged { "; as they were made before" } else { "" }
    );
    Ok(out)
}

/// Options that say how text becomes tokens have no meaning for tokens.
fn refuse_text_options(arguments: &PretrainArguments) -> Result<()> {
    let document = &arguments.document.arguments;
    let given = [
        (arguments.tokenizer.is_some(), "--tokenizer"),
        (arguments.vocabulary.is_some(), "--vocabulary"),
        (document.kind.is_some(), "--kind"),
        (document.field.is_some(), "--field"),
        (document.format.is_some(), "--format"),
        (document.identity.is_some(), "--identity"),
    ];
    let first = given.iter().find(|(is_given, _)| *is_given).map(|(_, option)| option);
    if let Some(option) = first.or(arguments.document.given.first()) {
        bail!(
            "{}: these are token shards already, and {option} says how text becomes tokens; leave it out, or name the text",
            arguments.data.display()
        );
    }
    Ok(())
}

/// Shards without their list are what an unfinished `zhenjin tokenize` leaves.
fn check_is_text(data: &Path) -> Result<()> {
    if !data.exists() {
        bail!("{}: there is no such file or folder", data.display());
    }
    if data.join("shard-00000.tokens").exists() || data.join("inputs.json").exists() {
        bail!(
            "{}: token shards that were not finished; the same `zhenjin tokenize` command goes on with them",
            data.display()
        );
    }
    Ok(())
}

/// A run's log and tokenizer would become text of its own data.
fn check_is_outside(out: &Path, data: &Path) -> Result<()> {
    let absolute = |path: &Path| std::path::absolute(path).with_context(|| path.display().to_string());
    if absolute(out)?.starts_with(absolute(data)?) {
        bail!(
            "{}: the run's folder lies inside its data, {}; give another --out",
            out.display(),
            data.display()
        );
    }
    Ok(())
}

/// The tokenizer in `folder`, trained on the text unless it is there already.
fn own_tokenizer(
    arguments: &PretrainArguments,
    folder: &Path,
    files: &[InputFile],
    input: &InputOptions,
    is_resumed: bool,
) -> Result<PathBuf> {
    let made_from = made_from(arguments, files, input)?;
    let is_there = folder.join("tokenizer.json").exists();
    let is_the_same = std::fs::read_to_string(folder.join(MADE_FROM)).is_ok_and(|before| before == made_from);
    if is_there && (is_resumed || is_the_same) {
        return Ok(folder.to_owned());
    }
    eprintln!("{}: training a tokenizer on {}", folder.display(), arguments.data.display());
    let special_tokens = control_tokens(arguments.document.arguments.format.as_deref().unwrap_or_default());
    let options = SampleOptions {
        input: input.clone(),
        limit_bytes: MAX_TRAINING_TEXT,
        special_tokens: CHAT_TOKENS
            .iter()
            .map(|token| (*token).to_owned())
            .chain(special_tokens.clone())
            .collect(),
        threads: threads(arguments.threads),
    };
    let mut broken = BrokenRecords::default();
    let vocabulary = |bytes: u64| arguments.vocabulary.unwrap_or_else(|| vocabulary_for(bytes));
    let (_, trained) =
        train_tokenizer(&[files.to_vec()], &options, special_tokens, &vocabulary, &mut |record| {
            broken.show(record)
        })
        .with_context(|| format!("training a tokenizer on {}", arguments.data.display()))?;
    std::fs::create_dir_all(folder).with_context(|| format!("making {}", folder.display()))?;
    zhenjin_files::write_whole(&folder.join("tokenizer_config.json"), &[&trained.tokenizer_config_json])?;
    zhenjin_files::write_whole(&folder.join("tokenizer.json"), &[&trained.tokenizer_json])?;
    zhenjin_files::write_whole(&folder.join(MADE_FROM), &[made_from.as_bytes()])?;
    eprintln!("{}: {} tokens", folder.display(), trained.vocabulary_size);
    Ok(folder.to_owned())
}

/// A power of two.
fn vocabulary_for(bytes: u64) -> usize {
    let wanted = (bytes / BYTES_PER_TOKEN).clamp(*VOCABULARIES.start(), *VOCABULARIES.end());
    1 << wanted.ilog2()
}

/// What the tokenizer depends on. Files are told apart by size and time, so that they need not be read; a tokenizer that is
/// trained again on the same text is the same.
fn made_from(arguments: &PretrainArguments, files: &[InputFile], input: &InputOptions) -> Result<String> {
    let mut text = format!("{:?}\n{input:?}\n", arguments.vocabulary);
    for file in files {
        let metadata =
            std::fs::metadata(&file.path).with_context(|| format!("opening {}", file.path.display()))?;
        let changed = metadata.modified().ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok());
        let changed = changed.map_or(0, |time| time.as_nanos());
        text.push_str(&format!("{}\t{}\t{changed}\n", file.name, metadata.len()));
    }
    Ok(text)
}

/// What stands between `<|` and `|>` in a format is a control token.
fn control_tokens(format: &str) -> Vec<String> {
    let mut tokens: Vec<String> = Vec::new();
    let mut rest = format;
    while let Some(start) = rest.find("<|") {
        let Some(length) = rest[start..].find("|>") else { break };
        let token = &rest[start..start + length + 2];
        if !CHAT_TOKENS.contains(&token) && !tokens.iter().any(|known| known == token) {
            tokens.push(token.to_owned());
        }
        rest = &rest[start + length + 2..];
    }
    tokens
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_vocabulary_fits_the_text() {
        assert_eq!(vocabulary_for(10), 512);
        assert_eq!(vocabulary_for(3_000_000), 2048);
        assert_eq!(vocabulary_for(1 << 40), 8192);
    }

    #[test]
    fn control_tokens_of_a_format_are_found_once() {
        assert_eq!(control_tokens("<|a|>{x}<|b|>{y}<|a|><|im_start|>\\n<|c"), ["<|a|>", "<|b|>"]);
        assert!(control_tokens("{text}").is_empty());
    }
}
