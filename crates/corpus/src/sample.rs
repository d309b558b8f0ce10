//! Text for training a tokenizer: all of it, or a part that is chosen by the documents' contents.

use std::collections::BinaryHeap;
use std::num::NonZeroUsize;

use crate::pipeline::{Item, Position, for_each_record};
use crate::source::{Document, InputFile, InputOptions};
use crate::{BrokenRecord, CorpusError};

/// One document of this many is held out for measuring.
const HELD_OUT_EVERY: u64 = 64;
/// Held-out text that is kept at most.
const HELD_OUT_BYTES: usize = 8 << 20;

/// What to take.
#[derive(Debug, Clone)]
pub struct SampleOptions {
    /// How files become documents.
    pub input: InputOptions,
    /// Bytes of text that are kept at most for training: documents that are chosen by a hash of their contents, as many as
    /// fit. Where not one fits, the beginning of one.
    pub limit_bytes: usize,
    /// Control tokens, whose text is no text.
    pub special_tokens: Vec<String>,
    /// Threads that read.
    pub threads: NonZeroUsize,
}

/// Text for training and for measuring.
#[derive(Debug, Default)]
pub struct TextSample {
    /// Stretches of text between control tokens.
    pub training: Vec<String>,
    /// Documents for measuring, none of which is trained on.
    pub held_out: Vec<String>,
    /// All documents that were read.
    pub documents: u64,
    /// Bytes of all documents' text.
    pub bytes: u64,
    /// Which share of the text that is not held out was kept for training, in bytes.
    pub share: f64,
    /// Records that were left out because they are broken.
    pub broken: u64,
}

/// A document's hash and its texts, by which documents are ordered.
type Ranked = (u64, Vec<String>);

/// The documents with the smallest hashes, as many as fit, and always one.
struct Kept {
    documents: BinaryHeap<Ranked>,
    bytes: usize,
    limit: usize,
    /// The smallest document that did not fit: nothing from there on is taken, so that the order of reading does not matter.
    end: Option<Ranked>,
    /// Bytes of all documents that there were.
    offered: u64,
}

impl Kept {
    fn new(limit: usize) -> Kept {
        Kept { documents: BinaryHeap::new(), bytes: 0, limit, end: None, offered: 0 }
    }

    /// Which documents are kept in the end depends on the set of all, not on their order. One that is longer than the limit is
    /// cut, so that it fits alone.
    fn add(&mut self, hash: u64, mut texts: Vec<String>) {
        self.offered += bytes_of(&texts) as u64;
        cut(&mut texts, self.limit);
        let document = (hash, texts);
        if document.1.is_empty() || self.end.as_ref().is_some_and(|end| document >= *end) {
            return;
        }
        self.bytes += bytes_of(&document.1);
        self.documents.push(document);
        while self.bytes > self.limit {
            let Some(greatest) = self.documents.pop() else { break };
            self.bytes -= bytes_of(&greatest.1);
            self.end = Some(greatest);
        }
    }

    /// Which share of all bytes is kept.
    fn share(&self) -> f64 {
        self.bytes as f64 / self.offered.max(1) as f64
    }

    /// In an order that depends on the contents alone.
    fn finish(self) -> Vec<String> {
        self.documents.into_sorted_vec().into_iter().flat_map(|(_, texts)| texts).collect()
    }
}

/// Leaves the first `limit` bytes, or a few less where a character would be cut in two.
fn cut(texts: &mut Vec<String>, limit: usize) {
    let mut room = limit;
    for text in texts.iter_mut() {
        let end = text.floor_char_boundary(room);
        // What was cut ends there: no later text fills the bytes of half a character.
        room = if end < text.len() { 0 } else { room - end };
        text.truncate(end);
    }
    texts.retain(|text| !text.is_empty());
}

fn bytes_of(texts: &[String]) -> usize {
    texts.iter().map(String::len).sum()
}

/// Reads all inputs and keeps text for training and measuring; `broken` is told what is left out.
///
/// # Errors
/// [`CorpusError::Input`] and [`CorpusError::Io`] when something cannot be read, [`CorpusError::NoText`] when there is no
/// document, [`CorpusError::Setting`] when the limit leaves nothing to train on.
pub fn sample(
    inputs: &[Vec<InputFile>],
    options: &SampleOptions,
    broken: &mut dyn FnMut(&BrokenRecord),
) -> Result<TextSample, CorpusError> {
    options.input.check()?;
    let mut result = TextSample::default();
    let (mut training, mut held_out) = (Kept::new(options.limit_bytes), Kept::new(HELD_OUT_BYTES));
    let work = |record: &crate::source::Record| Document::of(record, &options.input);
    for_each_record(inputs, Position::default(), &options.input, options.threads, &work, &mut |item| {
        let Item::Record { position, line, result: document, .. } = item else { return Ok(()) };
        match document {
            Err(reason) => {
                result.broken += 1;
                broken(&BrokenRecord::at(inputs, position, line, &reason));
            }
            Ok(document) => {
                result.documents += 1;
                result.bytes += document.bytes() as u64;
                let texts = document.texts_between(&options.special_tokens);
                // The low bits say whether it is held out, the high bits whether it is kept: neither depends on the other.
                if document.content_hash % HELD_OUT_EVERY == 0 {
                    held_out.add(document.content_hash, texts);
                } else {
                    training.add(document.content_hash, texts);
                }
            }
        }
        Ok(())
    })?;
    if result.documents == 0 {
        return Err(CorpusError::NoText { broken: result.broken });
    }
    if training.offered == 0 {
        // A single document, by chance one to hold out.
        held_out.documents.iter().for_each(|(hash, texts)| training.add(*hash, texts.clone()));
        training.offered = held_out.offered;
    }
    result.share = training.share();
    result.training = training.finish();
    result.held_out = held_out.finish();
    if result.training.is_empty() {
        let limit = options.limit_bytes;
        let reason = format!("{limit} bytes hold not one of the text's characters; allow more");
        return Err(CorpusError::Setting { field: "text to train on", reason });
    }
    Ok(result)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::{Input, discover};

    fn taken(limit: usize, documents: &[(u64, &str)]) -> Vec<String> {
        let mut kept = Kept::new(limit);
        for (hash, text) in documents {
            kept.add(*hash, vec![(*text).to_owned()]);
        }
        assert_eq!(kept.bytes, kept.documents.iter().map(|(_, texts)| bytes_of(texts)).sum::<usize>());
        assert!(kept.bytes <= limit);
        kept.finish()
    }

    #[test]
    fn the_smallest_hashes_that_fit_are_kept_whatever_the_order_of_reading() {
        let documents = [(5, "12345678"), (1, "123456789"), (9, "1")];
        let orders = [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]];
        for order in orders {
            let documents = order.map(|index| documents[index]);
            assert_eq!(taken(4, &documents), ["1234"], "{order:?}");
            assert_eq!(taken(10, &documents), ["123456789"], "{order:?}");
            assert_eq!(taken(17, &documents), ["123456789", "12345678"], "{order:?}");
            assert_eq!(taken(18, &documents), ["123456789", "12345678", "1"], "{order:?}");
            // Different documents that count as the same.
            let alike = order.map(|index| [(7, "aaa"), (7, "bb"), (7, "c")][index]);
            assert_eq!(taken(5, &alike), ["aaa", "bb"], "{order:?}");
        }
        assert_eq!(taken(10, &[(1, "12345"), (1, "12345"), (1, "12345")]), ["12345", "12345"]);
    }

    #[test]
    fn a_document_that_is_too_long_alone_is_cut_between_characters() {
        assert_eq!(taken(8, &[(1, "春眠不覺曉")]), ["春眠"]);
        assert!(taken(2, &[(1, "春眠不覺曉")]).is_empty());
        let mut texts = vec!["one".to_owned(), "two".to_owned(), "three".to_owned()];
        cut(&mut texts, 5);
        assert_eq!(texts, ["one", "tw"]);
        let mut texts = vec!["春眠".to_owned(), "ab".to_owned()];
        cut(&mut texts, 5);
        assert_eq!(texts, ["春"]);
    }

    fn sampled(text: &str, limit_bytes: usize, threads: usize) -> Result<TextSample, CorpusError> {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("text.txt");
        std::fs::write(&path, text).expect("a file");
        let files = discover(&Input { path, licence: String::new() }, None).expect("a file").files;
        let input = InputOptions { max_document_bytes: 16 << 10, ..InputOptions::default() };
        let threads = NonZeroUsize::new(threads).expect("threads");
        let options = SampleOptions { input, limit_bytes, special_tokens: Vec::new(), threads };
        sample(&[files], &options, &mut |record| panic!("{record} is broken"))
    }

    /// A file somewhat longer than the limit is two documents, of which halving the range of hashes kept none for one file in
    /// three: the tokenizer was trained on nothing.
    #[test]
    fn a_text_over_the_limit_always_leaves_something_to_train_on() {
        for number in 0..24 {
            let line = format!("The line of text number {number} is there again and again.\n");
            let text = line.repeat((20 << 10) / line.len());
            let one = sampled(&text, 16 << 10, 1).expect("text");
            let trained_on = bytes_of(&one.training);
            assert!((1 << 10..=16 << 10).contains(&trained_on), "{number}: {trained_on} bytes");
            let three = sampled(&text, 16 << 10, 3).expect("text");
            assert_eq!((one.training, one.held_out), (three.training, three.held_out), "{number}");
            assert_eq!(one.documents, 2, "{number}");
        }
    }

    #[test]
    fn a_limit_that_leaves_no_text_is_refused() {
        let error = sampled("春眠不覺曉", 2, 1).expect_err("nothing to train on").to_string();
        assert!(error.contains("text to train on: 2 bytes hold not one"), "{error}");
    }
}
