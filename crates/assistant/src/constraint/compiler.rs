//! Compiles output formats for one tokenizer.

use llguidance::api::TopLevelGrammar;
use llguidance::toktrie::{ApproximateTokEnv, InferenceCapabilities, TokEnv, TokRxInfo, TokTrie};
use llguidance::{Matcher, ParserFactory};
use serde_json::{Value, json};
use std::sync::Arc;
use zhenjin_tokenizer::Tokenizer;

use super::limits;
use super::matcher::GrammarConstraint;
use crate::error::AssistantError;
use crate::request::OutputFormat;

/// The formats' field in the API.
const FIELD: &str = "response_format";

/// Holds a tokenizer's tokens as a tree of bytes, built once for each model.
pub(crate) struct FormatCompiler {
    factory: ParserFactory,
}

impl FormatCompiler {
    /// For the tokens of `tokenizer`. Takes some tenths of a second for a large vocabulary.
    ///
    /// # Errors [`AssistantError::Internal`] if the tokenizer has no token that ends an answer, or the
    /// library refuses it.
    pub(crate) fn new(tokenizer: &Tokenizer) -> Result<FormatCompiler, AssistantError> {
        let Some(&end) = tokenizer.end_of_turn().first() else {
            return Err(AssistantError::Internal(
                "output formats need a token that ends an answer, and this model's tokenizer has none"
                    .to_owned(),
            ));
        };
        let bytes_of = |id: u32| {
            let bytes = tokenizer.token_bytes(id).unwrap_or_default();
            // The library tells control tokens from the same text by a byte that no text has.
            let marker: &[u8] = if tokenizer.is_special(id) { &[TokTrie::SPECIAL_TOKEN_MARKER] } else { &[] };
            [marker, bytes].concat()
        };
        let vocabulary_size = tokenizer.vocabulary_size() as u32;
        let words: Vec<Vec<u8>> = (0..vocabulary_size).map(bytes_of).collect();
        let trie = TokTrie::from(&TokRxInfo::new(vocabulary_size, end), &words)
            .with_eos_tokens(tokenizer.end_of_turn());
        // The model is free to choose among all ways to write a forced text in tokens, so nothing is ever
        // tokenised here.
        let environment: TokEnv = Arc::new(ApproximateTokEnv::new(trie));
        let slices = llguidance::earley::SlicedBiasComputer::general_slices();
        let mut factory = ParserFactory::new(&environment, InferenceCapabilities::default(), &slices)
            .map_err(|error| {
                AssistantError::Internal(format!(
                    "output formats are not possible with this tokenizer: {error}"
                ))
            })?;
        factory.quiet();
        factory.limits_mut().verbose_errors = false;
        Ok(FormatCompiler { factory })
    }

    /// Compiles a format; `None` for plain text.
    ///
    /// # Errors
    /// [`AssistantError::Invalid`] with the library's message, or the limit exceeded.
    pub(crate) fn compile(&self, format: &OutputFormat) -> Result<Option<GrammarConstraint>, AssistantError> {
        let grammar = match format {
            OutputFormat::Text => return Ok(None),
            OutputFormat::JsonObject => {
                TopLevelGrammar::from_json_schema(with_short_white_space(json!({"type": "object"})))
            }
            OutputFormat::JsonSchema(schema) => {
                limits::check_schema(FIELD, schema)?;
                TopLevelGrammar::from_json_schema(with_short_white_space(schema.clone()))
            }
            OutputFormat::Regex(expression) => {
                limits::check_text(FIELD, expression)?;
                TopLevelGrammar::from_regex(expression)
            }
            OutputFormat::Lark(grammar) => {
                limits::check_text(FIELD, grammar)?;
                TopLevelGrammar::from_lark(grammar.clone())
            }
        };
        self.constraint(FIELD, grammar).map(Some)
    }

    /// Compiles a grammar of tool calls, made from schemas that were checked.
    ///
    /// # Errors
    /// [`AssistantError::Invalid`] for `tools` with the library's message.
    pub(crate) fn compile_calls(&self, grammar: String) -> Result<GrammarConstraint, AssistantError> {
        self.constraint("tools", TopLevelGrammar::from_lark(grammar))
    }

    fn constraint(
        &self,
        field: &'static str,
        grammar: TopLevelGrammar,
    ) -> Result<GrammarConstraint, AssistantError> {
        let parser = llguidance::panic_utils::catch_unwind(std::panic::AssertUnwindSafe(|| {
            self.factory.create_parser(grammar)
        }));
        let matcher = Matcher::new(parser);
        match matcher.get_error() {
            Some(error) => Err(AssistantError::invalid(field, first_lines(&error))),
            None => Ok(GrammarConstraint::new(matcher)),
        }
    }
}

/// A small model that may write any white space between JSON's tokens can go on with it for ever; this much
/// is enough for indentation. A schema that sets the library's own options keeps them.
fn with_short_white_space(mut schema: Value) -> Value {
    if let Value::Object(entries) = &mut schema
        && !entries.contains_key("x-guidance")
    {
        entries.insert("x-guidance".to_owned(), json!({"whitespace_pattern": r"[\x20\x0A\x0D\x09]{1,24}"}));
    }
    schema
}

/// The library repeats the grammar below its message.
fn first_lines(error: &str) -> String {
    const MAX_LINES: usize = 4;
    error.lines().take(MAX_LINES).collect::<Vec<_>>().join(" ")
}
