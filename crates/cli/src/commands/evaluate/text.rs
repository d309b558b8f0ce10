//! `zhenjin evaluate text`: bits per byte of documents that training held out.

use super::TextArguments;
use super::generation::{TOGETHER, log_probabilities, score_request, spread};
use crate::home::Home;
use crate::machine;
use anyhow::{Context, Result, bail};
use serde::Serialize;
use std::ops::Range;
use std::path::Path;
use zhenjin_assistant::ServedModels;
use zhenjin_corpus::{ShardSet, is_for_validation};

/// What was measured.
#[derive(Debug, Default, Serialize)]
struct Measured {
    model: String,
    held_out_documents: usize,
    scored_documents: usize,
    /// Tokens that were predicted, ends of documents among them.
    scored_tokens: u64,
    /// Bytes of text that these stand for.
    scored_bytes: u64,
    bits_per_byte: f64,
    /// Of the ratio, with documents as the units.
    standard_error: f64,
}

/// Nats and bytes of one document.
type Score = (f64, u64);

pub(crate) async fn run(home: &Home, arguments: &TextArguments) -> Result<()> {
    if !(0.0..1.0).contains(&arguments.validation_share) {
        bail!("--validation-share {}: give a share from 0 to below 1", arguments.validation_share);
    }
    let set = ShardSet::open(&arguments.data)?;
    let spec = machine::model_spec(home, Some(&arguments.model))?;
    let name = spec.name.clone();
    check_tokenizer(&set, &spec.path)?;
    let models =
        ServedModels::new(vec![spec], machine::serve_options(&arguments.engine, TOGETHER, TOGETHER)?)?;
    let assistant = models.get(&name).await?;
    if (set.vocabulary_size() as usize) > assistant.tokenizer().vocabulary_size() {
        bail!(
            "{}: its tokens were made by another tokenizer than the model's; tokenise the text with the model's",
            arguments.data.display()
        );
    }
    let held_out: Vec<u64> = (0..set.documents())
        .filter(|document| is_for_validation(set.content_hash(*document), arguments.validation_share))
        .collect();
    let mut measured = Measured { model: name, held_out_documents: held_out.len(), ..Measured::default() };
    let mut scores: Vec<Score> = Vec::new();
    // Windows of all documents one after another: a long document has more of them than the engine takes at once.
    let mut parts = Vec::new();
    for (place, number) in spread(&held_out, arguments.scored.unwrap_or(usize::MAX)).into_iter().enumerate() {
        let length = set.document_tokens(number) as usize + 1;
        let windows = windows(length, assistant.info().context_length).into_iter();
        parts.extend(windows.map(|window| (place, number, window)));
        scores.push((0.0, 0));
    }
    for group in parts.chunks(TOGETHER) {
        let mut running = Vec::new();
        for (place, number, window) in group {
            let (length, range) = (set.document_tokens(*number), &window.tokens);
            let mut own = Vec::new();
            set.read_tokens(*number, range.start as u64..length.min(range.end as u64), &mut own)?;
            if range.end as u64 > length {
                own.push(set.end_of_text());
            }
            let bytes: u64 = own[window.skipped..].iter().map(|token| set.token_bytes(*token)).sum();
            measured.scored_tokens += (own.len() - window.skipped) as u64;
            running.push((*place, window.skipped, bytes, assistant.complete(&score_request(own))?));
        }
        for (place, skipped, bytes, generation) in running {
            scores[place].0 -= log_probabilities(generation).await?[skipped..].iter().flatten().sum::<f64>();
            scores[place].1 += bytes;
        }
    }
    sum_up(&scores, &mut measured).with_context(|| {
        format!(
            "{}: no text was held out with --validation-share {}",
            arguments.data.display(),
            arguments.validation_share
        )
    })?;
    if arguments.json {
        println!("{}", serde_json::to_string_pretty(&measured)?);
    } else {
        println!(
            "{:.4} ± {:.4} bits per byte over {} bytes ({} tokens) of {} held-out documents (of {})",
            measured.bits_per_byte,
            measured.standard_error,
            measured.scored_bytes,
            measured.scored_tokens,
            measured.scored_documents,
            measured.held_out_documents
        );
    }
    Ok(())
}

/// A model's folder has the tokenizer's file, whose hash the shards know; of other models only the vocabulary is compared.
fn check_tokenizer(set: &ShardSet, model: &Path) -> Result<()> {
    let path = model.join("tokenizer.json");
    if path.is_file() {
        let json = std::fs::read(&path).with_context(|| format!("reading {}", path.display()))?;
        set.check_fit(&json, usize::MAX)?;
    }
    Ok(())
}

/// Tokens that are scored together, and how many of them are only there to be read.
#[derive(Debug, PartialEq, Eq)]
struct Window {
    tokens: Range<usize>,
    skipped: usize,
}

/// A document in windows of the model's context: each begins half a context before what it scores, and the first scores all
/// but its first token.
fn windows(tokens: usize, context: usize) -> Vec<Window> {
    let mut windows = Vec::new();
    let (mut begin, mut scored) = (0, 1);
    while scored < tokens {
        let end = tokens.min(begin + context.max(2));
        windows.push(Window { tokens: begin..end, skipped: scored - begin });
        scored = end;
        begin = end - context.max(2) / 2;
    }
    windows
}

/// # Errors
/// When there are no bytes.
fn sum_up(scores: &[Score], measured: &mut Measured) -> Result<()> {
    let nats: f64 = scores.iter().map(|(nats, _)| nats).sum();
    measured.scored_documents = scores.len();
    measured.scored_bytes = scores.iter().map(|(_, bytes)| bytes).sum();
    if measured.scored_bytes == 0 {
        bail!("nothing to score");
    }
    let bytes = measured.scored_bytes as f64;
    let ratio = nats / bytes;
    // The ratio estimator's error (Cochran 1977, "Sampling Techniques", section 6.3), for documents drawn at random.
    let squares: f64 = scores.iter().map(|(nats, bytes)| (nats - ratio * *bytes as f64).powi(2)).sum();
    let correction = scores.len() as f64 / (scores.len() as f64 - 1.0).max(1.0);
    measured.bits_per_byte = ratio / std::f64::consts::LN_2;
    measured.standard_error = (squares * correction).sqrt() / bytes / std::f64::consts::LN_2;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_token_but_the_first_is_scored_once_with_half_a_context_before_it() {
        for (tokens, context) in [(2, 8), (8, 8), (9, 8), (50, 8), (51, 7), (30, 2), (1, 8)] {
            let windows = windows(tokens, context);
            let mut scored = Vec::new();
            for (number, window) in windows.iter().enumerate() {
                assert!(window.tokens.len() <= context && window.tokens.end <= tokens, "{window:?}");
                assert!(number == 0 || window.skipped >= context / 2, "{window:?}");
                scored.extend(window.tokens.clone().skip(window.skipped));
            }
            assert_eq!(scored, (1..tokens).collect::<Vec<_>>(), "{tokens} in windows of {context}");
        }
    }

    #[test]
    fn bits_are_divided_by_the_bytes_of_all_documents_together() {
        let mut measured = Measured::default();
        let ln2 = std::f64::consts::LN_2;
        sum_up(&[(4.0 * ln2, 2), (2.0 * ln2, 4)], &mut measured).expect("bytes");
        assert!((measured.bits_per_byte - 1.0).abs() < 1e-12, "{measured:?}");
        // Residuals of 2 and −2 bits: √(2 · 8) / 6.
        assert!((measured.standard_error - 4.0 / 6.0).abs() < 1e-12, "{measured:?}");
        assert!(sum_up(&[], &mut measured).is_err());
    }
}
