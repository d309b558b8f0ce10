//! The model that another one learns from: its logits, some rows at a time.

use std::sync::Arc;
use std::time::Instant;

use zhenjin_model::{
    Adapter, AdapterValues, Learned, Learner, LearnerOptions, LoadOptions, Model, TargetLogits,
};
use zhenjin_tokenizer::Tokenizer;

use crate::error::AlignError;
use crate::packed::Packed;

/// A model that only computes. Its weights can be of any type that serves.
#[derive(Debug)]
pub struct Teacher {
    model: Arc<Model>,
    adapter: Option<Adapter>,
    learner: Learner,
}

impl Teacher {
    /// A teacher with these weights. `tokens` are those that both tokenizers have ([`common_tokens`]).
    ///
    /// # Errors
    /// [`AlignError::Model`].
    pub fn new(
        model: Arc<Model>,
        adapter: Option<&AdapterValues>,
        load: &LoadOptions,
        tokens: usize,
    ) -> Result<Teacher, AlignError> {
        let options = LearnerOptions { load: load.clone(), recompute: false };
        let learner =
            Learner::new(&model.config, options)?.with_usable_vocabulary(tokens).with_shared_beginnings();
        let adapter = adapter.map(|values| values.pack(load.simd, &load.team)).transpose()?;
        Ok(Teacher { model, adapter, learner })
    }

    /// Changes with its weights and its adapter.
    pub fn fingerprint(&self) -> String {
        let adapter = self.adapter.as_ref().map(|adapter| format!(" + {}", adapter.fingerprint()));
        format!("{}{}", self.model.fingerprint, adapter.unwrap_or_default())
    }

    /// Operations of a forward pass for each token.
    pub fn flops_per_token(&self) -> f64 {
        2.0 * self.model.config.parameters() as f64
    }

    /// Seconds for a row of a pass over `rows` rows with its head. For plans; nothing changes.
    ///
    /// # Errors
    /// [`AlignError::Model`].
    pub fn pace(&mut self, rows: usize) -> Result<f64, AlignError> {
        let config = &self.model.config;
        let rows = rows.clamp(2, config.context_length.max(2));
        let tokens: Vec<u32> = (0..rows).map(|row| (row * 7 % config.vocabulary_size) as u32).collect();
        let mut packed = Packed::default();
        packed.push_answer(&tokens[..1], &tokens[1..]);
        let mut seconds = 0.0;
        // The first round takes memory from the system and does not count.
        for _ in 0..2 {
            let begun = Instant::now();
            let learned = Learned::from(&self.model.weights).with_adapter(self.adapter.as_ref());
            self.learner.score(learned, &packed.batch())?;
            seconds = begun.elapsed().as_secs_f64() / rows as f64;
        }
        Ok(seconds)
    }

    /// The logits of the rows that have a target.
    ///
    /// # Errors
    /// [`AlignError::Model`].
    pub(crate) fn logits(&mut self, packed: &Packed) -> Result<TargetLogits<'_>, AlignError> {
        let learned = Learned::from(&self.model.weights).with_adapter(self.adapter.as_ref());
        Ok(self.learner.target_logits(learned, &packed.batch())?)
    }
}

/// Why the logits of two models cannot be compared.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum VocabularyDifference {
    /// A number stands for different tokens.
    #[error(
        "token {id} is {} in the student's vocabulary of {student_size} and {} in the teacher's of {teacher_size}",
        shown(student),
        shown(teacher)
    )]
    Token {
        /// The first number of which this is so.
        id: u32,
        /// What it stands for in the student's.
        student: Vec<u8>,
        /// And in the teacher's.
        teacher: Vec<u8>,
        /// Tokens that the student's has.
        student_size: usize,
        /// Tokens that the teacher's has.
        teacher_size: usize,
    },
    /// One has tokens, not mere padding, that the other lacks.
    #[error(
        "the {whose} vocabulary has tokens that the other lacks, of which {} with number {id} is the first",
        shown(token)
    )]
    More {
        /// Whose.
        whose: &'static str,
        /// The first number.
        id: u32,
        /// What it stands for.
        token: Vec<u8>,
    },
}

fn shown(token: &[u8]) -> String {
    format!("`{}`", String::from_utf8_lossy(token).escape_debug())
}

/// How many tokens both tokenizers have, which have the same numbers in both. Padding at the end of either does not count: files differ in
/// how many rows they add so that a matrix has a round number of them.
///
/// # Errors
/// [`VocabularyDifference`] names the first token that is not the same.
pub fn common_tokens(student: &Tokenizer, teacher: &Tokenizer) -> Result<usize, VocabularyDifference> {
    let (student_size, teacher_size) = (student.vocabulary_size(), teacher.vocabulary_size());
    let common = student_size.min(teacher_size);
    for id in 0..common as u32 {
        let [ours, theirs] =
            [student, teacher].map(|tokenizer| tokenizer.token_bytes(id).unwrap_or_default());
        if ours != theirs && !(is_padding(ours) && is_padding(theirs)) {
            let (student, teacher) = (ours.to_vec(), theirs.to_vec());
            return Err(VocabularyDifference::Token { id, student, teacher, student_size, teacher_size });
        }
    }
    for (whose, tokenizer) in [("student's", student), ("teacher's", teacher)] {
        for id in common as u32..tokenizer.vocabulary_size() as u32 {
            let token = tokenizer.token_bytes(id).unwrap_or_default();
            if !is_padding(token) {
                return Err(VocabularyDifference::More { whose, id, token: token.to_vec() });
            }
        }
    }
    Ok(common)
}

/// Whether a token stands for nothing: a row that was added to a matrix, or a number that was kept free.
fn is_padding(token: &[u8]) -> bool {
    let text = String::from_utf8_lossy(token);
    let numbered = |start: &str, end: &str| {
        let number = text.strip_prefix(start).and_then(|rest| rest.strip_suffix(end));
        number.is_some_and(|number| number.bytes().all(|byte| byte.is_ascii_digit()))
    };
    text.is_empty()
        || numbered("[PAD", "]")
        || numbered("[unused", "]")
        || numbered("<unused", ">")
        || numbered("<|unused_", "|>")
        || numbered("<|reserved_special_token_", "|>")
}

#[cfg(test)]
mod tests {
    use zhenjin_tokenizer::GgufVocabulary;

    use super::*;

    fn tokenizer(more: &[&str]) -> Tokenizer {
        let mut tokens: Vec<String> = (b'a'..=b'z').map(|letter| char::from(letter).to_string()).collect();
        tokens.push("</s>".to_owned());
        let mut token_types = vec![1; tokens.len() - 1];
        token_types.push(3);
        tokens.extend(more.iter().map(|token| (*token).to_owned()));
        token_types.extend(more.iter().map(|_| 4));
        let eos = Some(26);
        let model = "gpt2".to_owned();
        Tokenizer::from_gguf(GgufVocabulary { model, eos, tokens, token_types, ..GgufVocabulary::default() })
            .unwrap()
    }

    #[test]
    fn vocabularies_with_more_padding_are_the_same() {
        let plain = tokenizer(&[]);
        assert_eq!(common_tokens(&plain, &plain), Ok(27));
        let padded = tokenizer(&["[PAD27]", "[PAD28]"]);
        assert_eq!(common_tokens(&plain, &padded), Ok(27));
        assert_eq!(common_tokens(&padded, &plain), Ok(27));
        assert_eq!(common_tokens(&padded, &tokenizer(&["<unused0>"])), Ok(28));
    }

    #[test]
    fn the_first_token_that_differs_is_named() {
        let error = common_tokens(&tokenizer(&["<think>"]), &tokenizer(&["<tool>"])).unwrap_err().to_string();
        assert!(
            error.contains("token 27 is `<think>`") && error.contains("`<tool>` in the teacher's of 28"),
            "{error}"
        );
        let error =
            common_tokens(&tokenizer(&[]), &tokenizer(&["[PAD27]", "<think>"])).unwrap_err().to_string();
        assert!(
            error.contains("teacher's vocabulary has tokens") && error.contains("`<think>` with number 28"),
            "{error}"
        );
    }
}
