//! Poems as documents of tokens: a head of fields, each behind its condition token, then `<|poem|>` and the poem.

use anyhow::{Context, Result, bail};
use zhenjin_corpus::{ShardSet, is_for_validation};
use zhenjin_eval::poems::JudgedPoem;
use zhenjin_tokenizer::{ControlText, Tokenizer};

/// The token before the poem itself.
const POEM: &str = "<|poem|>";
/// The tokens before the fields that decide a poem's form.
const KIND: &str = "<|kind|>";
const TITLE: &str = "<|title|>";
/// Kinds of ci, whose title is the tune.
const CI: [&str; 3] = ["ci", "词", "詞"];

/// Where a document's parts are.
pub(crate) struct PoemDocuments<'a> {
    set: &'a ShardSet,
    tokenizer: &'a Tokenizer,
    poem: u32,
    validation_share: f64,
}

/// One document.
pub(crate) struct PoemDocument {
    /// Up to and with the token before the poem.
    pub(crate) head: Vec<u32>,
    /// The poem's tokens.
    pub(crate) poem: Vec<u32>,
}

impl<'a> PoemDocuments<'a> {
    pub(crate) fn new(
        set: &'a ShardSet,
        tokenizer: &'a Tokenizer,
        validation_share: f64,
    ) -> Result<PoemDocuments<'a>> {
        if !(0.0..1.0).contains(&validation_share) {
            bail!("--validation-share {validation_share}: give a share from 0 to below 1");
        }
        let poem = tokenizer.special_id(POEM).with_context(|| {
            format!("the model's tokenizer has no token {POEM}, which stands before a poem")
        })?;
        Ok(PoemDocuments { set, tokenizer, poem, validation_share })
    }

    /// Numbers of the documents that were held out (or with `false`, of those that were not).
    pub(crate) fn numbers(&self, held_out: bool) -> impl Iterator<Item = u64> {
        (0..self.set.documents()).filter(move |document| {
            is_for_validation(self.set.content_hash(*document), self.validation_share) == held_out
        })
    }

    /// Document `number`, taken apart; `None` when it is not a poem.
    pub(crate) fn read(&self, number: u64) -> Result<Option<PoemDocument>> {
        let mut tokens = Vec::new();
        self.set.read_tokens(number, 0..self.set.document_tokens(number), &mut tokens)?;
        let end = self.set.end_of_text();
        while tokens.last() == Some(&end) {
            tokens.pop();
        }
        let Some(place) = tokens.iter().position(|token| *token == self.poem) else { return Ok(None) };
        let poem = tokens.split_off(place + 1);
        Ok(Some(PoemDocument { head: tokens, poem }))
    }

    /// The text of a poem's tokens.
    pub(crate) fn text(&self, tokens: &[u32]) -> Result<String> {
        Ok(self.tokenizer.decode(tokens, ControlText::Hide)?)
    }

    /// A poem with the form that its head asks for.
    pub(crate) fn judged(&self, head: &[u32], text: String) -> Result<JudgedPoem> {
        let kind = self.field(head, KIND)?;
        let is_ci = CI.contains(&kind.as_str());
        let form = if is_ci { self.field(head, TITLE)? } else { kind };
        Ok(JudgedPoem { form, is_ci, text })
    }

    /// The Chinese text between a condition token and the next; empty where the head has none.
    fn field(&self, head: &[u32], name: &str) -> Result<String> {
        let Some(id) = self.tokenizer.special_id(name) else { return Ok(String::new()) };
        let after = head.iter().skip_while(|token| **token != id).skip(1);
        let field: Vec<u32> = after.copied().take_while(|token| !self.tokenizer.is_special(*token)).collect();
        let text = self.tokenizer.decode(&field, ControlText::Hide)?;
        Ok(text.trim_matches(|character: char| !character.is_alphanumeric()).to_owned())
    }
}
