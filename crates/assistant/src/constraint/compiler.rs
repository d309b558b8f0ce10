//! Compiles output formats for one tokenizer.

use llguidance::api::{GrammarWithLexer, TopLevelGrammar};
use llguidance::toktrie::{ApproximateTokEnv, InferenceCapabilities, TokEnv, TokRxInfo, TokTrie};
use llguidance::{Matcher, ParserFactory};
use serde_json::{Value, json};
use std::sync::Arc;
use zhenjin_conversation::{Tool, ToolFormat};
use zhenjin_tokenizer::Tokenizer;

use super::limits;
use super::matcher::{ClosingTokens, GrammarConstraint};
use super::schema::{
    AnswerCheck, Budget, Rewritten, SchemaError, prepare, rewrite, with_deep_stack, without_nulls,
    without_thread,
};
use crate::answer::checks::AnswerChecks;
use crate::answer::thoughts::ThoughtReading;
use crate::error::AssistantError;
use crate::request::OutputFormat;
use crate::tools::grammar;

/// The most states of one answer's lexer, of half a kilobyte to two each. Most formats need some hundreds; a text whose length is limited
/// needs about three for each character that is written, in Chinese ten (escapes and incomplete characters at each place).
const MOST_LEXER_STATES: usize = 120_000;
/// The formats' field in the API.
const FIELD: &str = "response_format";

/// Holds a tokenizer's tokens as a tree of bytes, built once for each model.
pub struct FormatCompiler {
    factory: ParserFactory,
    closing: Arc<ClosingTokens>,
}

/// A format compiled for one request: what holds its answers to it, token by token, and what is checked when one is complete.
#[derive(Clone, Debug)]
pub struct CompiledFormat {
    constraint: GrammarConstraint,
    checks: AnswerChecks,
    is_relaxed: bool,
}

impl CompiledFormat {
    /// For one answer. Several answers to one request share nothing: what one of them has computed, and where it failed, reaches no other.
    pub fn constraint(&self) -> GrammarConstraint {
        self.constraint.separate()
    }

    /// The same format, for what comes after an open thought.
    pub(crate) fn after_thought(self, tokenizer: &Tokenizer, reading: ThoughtReading) -> CompiledFormat {
        CompiledFormat { constraint: self.constraint.after_thought(tokenizer, reading), ..self }
    }

    /// Whether a complete answer can break its schema, as tokens are not held to all of it; [`CompiledFormat::check`] tells.
    pub fn is_relaxed(&self) -> bool {
        self.is_relaxed
    }

    /// Checks the text of a complete answer against what tokens could not be held to.
    ///
    /// # Errors
    /// What is wrong with it, and where.
    pub fn check(&self, text: &str) -> Result<(), String> {
        self.checks.text.as_ref().map_or(Ok(()), |check| check.check(text))
    }

    pub(crate) fn checks(&self) -> AnswerChecks {
        self.checks.clone()
    }
}

/// A schema, compiled for checking and for the grammar.
struct PreparedSchema {
    grammar: Value,
    /// The grammar alone, compiled.
    matcher: Matcher,
    check: AnswerCheck,
    is_relaxed: bool,
}

/// A format's grammar and what goes with it.
struct FormatGrammar {
    grammar: GrammarWithLexer,
    /// The same, where it is compiled already.
    matcher: Option<Matcher>,
    check: Option<AnswerCheck>,
    is_json: bool,
    is_relaxed: bool,
}

impl FormatGrammar {
    fn new(grammar: GrammarWithLexer, is_json: bool) -> FormatGrammar {
        FormatGrammar { grammar, matcher: None, check: None, is_json, is_relaxed: false }
    }
}

impl FormatCompiler {
    /// For the tokens of `tokenizer`. Takes some tenths of a second for a large vocabulary.
    ///
    /// # Errors [`AssistantError::Internal`] if the tokenizer has no token that ends an answer, or the
    /// library refuses it.
    pub fn new(tokenizer: &Tokenizer) -> Result<FormatCompiler, AssistantError> {
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
        let closing = Arc::new(ClosingTokens::new(&words));
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
        factory.limits_mut().max_lexer_states = MOST_LEXER_STATES;
        Ok(FormatCompiler { factory, closing })
    }

    /// Compiles a format; `None` for plain text.
    ///
    /// # Errors
    /// [`AssistantError::Invalid`] with the place in the schema, or the library's message, or the limit exceeded.
    pub fn compile(&self, format: &OutputFormat) -> Result<Option<CompiledFormat>, AssistantError> {
        on_deep_stack(|| self.compile_here(format))
    }

    fn compile_here(&self, format: &OutputFormat) -> Result<Option<CompiledFormat>, AssistantError> {
        let Some(format) = self.grammar_of(format)? else { return Ok(None) };
        let matcher = match format.matcher {
            Some(matcher) => matcher,
            None => self
                .begin(TopLevelGrammar::from_grammar(format.grammar))
                .map_err(|reason| AssistantError::invalid(FIELD, reason))?,
        };
        let constraint = self.constraint(matcher, format.is_json);
        let checks = AnswerChecks { text: format.check, calls: Vec::new() };
        Ok(Some(CompiledFormat { constraint, checks, is_relaxed: format.is_relaxed }))
    }

    /// Compiles tool calls with their arguments' schemas, or, where `answer` is given, either calls or an answer like that.
    ///
    /// # Errors
    /// [`AssistantError::Invalid`] for `tools`, with the function and the place in its schema, or as [`FormatCompiler::compile`].
    pub(crate) fn compile_calls(
        &self,
        format: ToolFormat,
        tools: &[&Tool],
        parallel: bool,
        answer: Option<&OutputFormat>,
    ) -> Result<CompiledFormat, AssistantError> {
        on_deep_stack(|| self.compile_calls_here(format, tools, parallel, answer))
    }

    /// Reads a schema as [`FormatCompiler::compile`] does before it needs tokens, and checks a text against it.
    ///
    /// # Errors
    /// [`AssistantError::Invalid`] for the schema; inside, what is wrong with the text.
    pub fn check_text(schema: &Value, text: &str) -> Result<Result<(), String>, AssistantError> {
        limits::check_schema(FIELD, schema)?;
        let (check, _) = prepare(&without_nulls(schema), &mut Budget::default())
            .map_err(|error| AssistantError::invalid(FIELD, format!("the schema {error}")))?;
        Ok(check.check(text))
    }

    fn compile_calls_here(
        &self,
        format: ToolFormat,
        tools: &[&Tool],
        parallel: bool,
        answer: Option<&OutputFormat>,
    ) -> Result<CompiledFormat, AssistantError> {
        // All schemas of a request share it: many small ones could ask for as much work as a large one.
        let mut budget = Budget::default();
        let (mut schemas, mut calls) = (Vec::with_capacity(tools.len()), Vec::with_capacity(tools.len()));
        let mut is_relaxed = false;
        for tool in tools {
            let prepared = self.prepare(&grammar::parameters_of(tool), &mut budget).map_err(|error| {
                AssistantError::invalid("tools", format!("the parameters of {:?} {error}", tool.name))
            })?;
            is_relaxed |= prepared.is_relaxed;
            schemas.push(prepared.grammar);
            calls.push((tool.name.clone(), prepared.check));
        }
        let is_token = |text: &str| self.factory.tok_env().tok_trie().get_special_token(text).is_some();
        let lark = grammar::of_calls(format, tools, &schemas, parallel, is_token);
        let mut text = None;
        let grammar = match answer.map(|answer| self.grammar_of(answer)).transpose()?.flatten() {
            None => TopLevelGrammar::from_lark(lark),
            Some(answer) => {
                is_relaxed |= answer.is_relaxed;
                text = answer.check;
                let name = Some("answer".to_owned());
                let answer = GrammarWithLexer { name, ..answer.grammar };
                let name = Some("calls".to_owned());
                let calls = GrammarWithLexer { name, ..GrammarWithLexer::from_lark(lark) };
                let start = GrammarWithLexer::from_lark("start: @calls | @answer".to_owned());
                TopLevelGrammar { grammars: vec![start, calls, answer], max_tokens: None }
            }
        };
        let matcher = self.begin(grammar).map_err(|reason| AssistantError::invalid("tools", reason))?;
        let constraint = self.constraint(matcher, true);
        Ok(CompiledFormat { constraint, checks: AnswerChecks { text, calls }, is_relaxed })
    }

    fn grammar_of(&self, format: &OutputFormat) -> Result<Option<FormatGrammar>, AssistantError> {
        Ok(match format {
            OutputFormat::Text => None,
            OutputFormat::JsonObject => {
                let grammar = with_options(json!({"type": "object"}));
                Some(FormatGrammar::new(GrammarWithLexer::from_json_schema(grammar), true))
            }
            OutputFormat::JsonSchema(schema) => {
                limits::check_schema(FIELD, schema)?;
                let prepared = self
                    .prepare(schema, &mut Budget::default())
                    .map_err(|error| AssistantError::invalid(FIELD, format!("the schema {error}")))?;
                let grammar = GrammarWithLexer::from_json_schema(prepared.grammar);
                let (matcher, check) = (Some(prepared.matcher), Some(prepared.check));
                let is_relaxed = prepared.is_relaxed;
                Some(FormatGrammar { matcher, check, is_relaxed, ..FormatGrammar::new(grammar, true) })
            }
            OutputFormat::Regex(expression) => {
                limits::check_text(FIELD, expression)?;
                Some(FormatGrammar::new(GrammarWithLexer::from_regex(expression), false))
            }
            OutputFormat::Lark(grammar) => {
                limits::check_text(FIELD, grammar)?;
                Some(FormatGrammar::new(GrammarWithLexer::from_lark(grammar.clone()), false))
            }
        })
    }

    /// Compiles a schema for checking, rewrites it, and sees to it that the compiler of grammars takes it.
    fn prepare(&self, schema: &Value, budget: &mut Budget) -> Result<PreparedSchema, SchemaError> {
        let schema = without_nulls(schema);
        let (check, rewritten) = prepare(&schema, budget)?;
        let grammar = with_options(rewritten.schema.clone());
        match self.begin(TopLevelGrammar::from_json_schema(grammar.clone())) {
            Ok(matcher) => Ok(PreparedSchema { grammar, matcher, check, is_relaxed: rewritten.is_relaxed }),
            Err(reason) if reason.contains("nsatisfiable") && rewritten.impossible.is_some() => {
                Err(rewritten.impossible.unwrap_or_else(|| SchemaError::new("", reason)))
            }
            Err(reason) => Err(self.locate(&schema, &rewritten, reason)),
        }
    }

    /// Finds the smallest schema inside the schema that the compiler does not take.
    fn locate(&self, schema: &Value, rewritten: &Rewritten, reason: String) -> SchemaError {
        const MOST_TRIES: usize = 64;
        /// As [`Budget::work`] counts; a schema that is compiled in a second is not compiled for a minute.
        const MOST_WORK: usize = 100_000;
        let mut found = SchemaError::new("", reason);
        let (mut tries, mut work) = (0, 0);
        loop {
            let parent = format!("{}/", found.pointer);
            let inside = rewritten.places.iter().filter(|place| place.starts_with(&parent));
            // The nearest first: what fails inside a schema fails in it as well.
            let mut inside: Vec<&String> = inside.collect();
            inside.sort_by_key(|place| place.matches('/').count());
            let mut narrower = None;
            for place in inside {
                tries += 1;
                if tries > MOST_TRIES || work > MOST_WORK {
                    return found;
                }
                let mut budget = Budget::default();
                let tried = rewrite(schema, place, &mut budget).map_err(|error| error.reason);
                let tried = tried.and_then(|rewritten| {
                    self.begin(TopLevelGrammar::from_json_schema(with_options(rewritten.schema))).map(|_| ())
                });
                work += budget.work();
                if let Err(reason) = tried {
                    narrower = Some(SchemaError::new(place.clone(), reason));
                    break;
                }
            }
            match narrower {
                Some(narrower) => found = narrower,
                None => return found,
            }
        }
    }

    /// Compiles a grammar and finds the tokens that may come first, as some grammars fail only there.
    ///
    /// # Errors
    /// The library's message.
    fn begin(&self, grammar: TopLevelGrammar) -> Result<Matcher, String> {
        let parser = llguidance::panic_utils::catch_unwind(std::panic::AssertUnwindSafe(|| {
            self.factory.create_parser(grammar)
        }));
        let mut matcher = Matcher::new(parser);
        let first = matcher.compute_mask_or_eos();
        match (matcher.get_error(), first) {
            (Some(error), _) => Err(plain_reason(&error)),
            (None, Err(error)) => Err(plain_reason(&format!("{error:#}"))),
            (None, Ok(_)) => Ok(matcher),
        }
    }

    fn constraint(&self, matcher: Matcher, is_json: bool) -> GrammarConstraint {
        GrammarConstraint::new(matcher, is_json.then(|| Arc::clone(&self.closing)))
    }
}

impl std::fmt::Debug for FormatCompiler {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("FormatCompiler").finish_non_exhaustive()
    }
}

/// Runs `work` where recursion over schemas and grammars has room.
fn on_deep_stack<T: Send>(
    work: impl FnOnce() -> Result<T, AssistantError> + Send,
) -> Result<T, AssistantError> {
    with_deep_stack(work).unwrap_or_else(|error| Err(AssistantError::Internal(without_thread(&error))))
}

/// A small model that may write any white space between JSON's tokens can go on with it for ever; this much is enough for
/// indentation. Alternatives need not exclude each other: the answer's check sees to that.
fn with_options(mut schema: Value) -> Value {
    if let Value::Object(entries) = &mut schema {
        let options = json!({ "whitespace_pattern": r"[\x20\x0A\x0D\x09]{1,24}", "coerce_one_of": true });
        entries.insert("x-guidance".to_owned(), options);
    }
    schema
}

/// The library's message without the grammar that it repeats below, the lines that it counts there, and names of its own.
fn plain_reason(error: &str) -> String {
    const MOST: usize = 300;
    if error.contains("items; max is") {
        return "it leaves more ways open at one place than can be followed".to_owned();
    }
    if error.contains("NoExtension") {
        return "no answer satisfies it".to_owned();
    }
    let line = error.lines().map(str::trim).find(|line| !line.is_empty()).unwrap_or("it cannot be compiled");
    let is_drawn = line.ends_with("regex parse error:");
    let line = match is_drawn {
        // The expression itself may have these words.
        true => line,
        false => line.split("while processing").next().unwrap_or(line).trim(),
    };
    let short = |text: &str| text.chars().take(MOST).collect::<String>();
    // The parser of regular expressions draws the expression first, and says in a later line what is wrong with it.
    let rest = is_drawn.then(|| error.lines().find(|line| line.starts_with("error: ")));
    match rest.flatten().and_then(|rest| rest.split_once(": ")) {
        Some((_, reason)) => format!("{} {}", short(line), short(reason)),
        None => short(line),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use zhenjin_engine::{TokenConstraint, TokenMask};
    use zhenjin_tokenizer::{GgufVocabulary, Specials};

    /// Regression: of a regular expression that cannot be read, the reason was cut off.
    #[test]
    fn a_regular_expression_that_cannot_be_read_keeps_its_reason() {
        let error = "at 1(8): invalid regex \"[\" (in regex): regex parse error:\n    [\n    ^\nerror: unclosed character class\nstart: /[/\n";
        assert_eq!(
            plain_reason(error),
            "at 1(8): invalid regex \"[\" (in regex): regex parse error: unclosed character class"
        );
        let error = error.replace("[", "(while processing [");
        assert!(plain_reason(&error).ends_with("regex parse error: unclosed character class"));
        assert_eq!(plain_reason("\nunknown name: \"x\"\nerror: of another kind"), "unknown name: \"x\"");
    }

    /// Whether an answer may be this text, byte by byte.
    fn follows(mut answer: GrammarConstraint, text: &str, tokenizer: &Tokenizer) -> bool {
        let mut mask = TokenMask::none(tokenizer.vocabulary_size());
        text.chars().all(|character| {
            let ids = tokenizer.encode(&character.to_string(), Specials::AsText).unwrap();
            answer.mask(&mut mask).is_ok() && mask.allows(ids[0]) && answer.accept(ids[0]).is_ok()
        })
    }

    /// Answers to one request once shared a lexer: what one of them had made it grow to counted for the others, in the order of threads.
    #[test]
    fn answers_to_one_request_have_lexers_of_their_own() {
        let vocabulary: Value =
            serde_json::from_str(include_str!("../../../tokenizer/tests/data/byte_level_vocabulary.json"))
                .unwrap();
        let texts = |name: &str| -> Vec<String> {
            vocabulary[name]
                .as_array()
                .unwrap()
                .iter()
                .map(|text| text.as_str().unwrap().to_owned())
                .collect()
        };
        let mut tokens = texts("tokens");
        let mut token_types = vec![1; tokens.len()];
        let eos = Some(tokens.len() as u32);
        tokens.push("</s>".to_owned());
        token_types.push(3);
        let tokenizer = Tokenizer::from_gguf(GgufVocabulary {
            model: "gpt2".to_owned(),
            pre: Some("qwen2".to_owned()),
            eos,
            tokens,
            token_types,
            merges: texts("merges"),
            ..GgufVocabulary::default()
        })
        .unwrap();
        let format = OutputFormat::Regex("x[0-9]{40}|y[a-m]{40}".to_owned());
        let (one, other) = (format!("x{}", "5".repeat(40)), format!("y{}", "c".repeat(40)));
        let mut compiler = FormatCompiler::new(&tokenizer).unwrap();
        let mut begin = |most_states: usize| {
            compiler.factory.limits_mut().max_lexer_states = most_states;
            compiler.compile(&format).ok().flatten()
        };
        let alone = |most: usize, text: &str, begin: &mut dyn FnMut(usize) -> Option<CompiledFormat>| {
            begin(most).is_some_and(|format| follows(format.constraint(), text, &tokenizer))
        };
        // The fewest states with which either answer can be written alone.
        let least = (1..4000)
            .find(|most| alone(*most, &one, &mut begin) && alone(*most, &other, &mut begin))
            .expect("some number of states is enough");
        let both = begin(least).unwrap();
        assert!(follows(both.constraint(), &one, &tokenizer));
        assert!(follows(both.constraint(), &other, &tokenizer), "with {least} states each");
    }
}
