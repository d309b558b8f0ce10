//! Dialogues → token ids for training: rendering, encoding, and which tokens the assistant wrote, on several threads.

use std::num::NonZeroUsize;
use std::sync::Mutex;
use std::thread;

use crate::{ChatTemplate, RenderInput, Rendered, TemplateError, Tokenizer, TokenizerError};

/// Dialogues that a thread takes at once: enough to make taking them cheap, few enough that threads end together.
const DIALOGUES_AT_ONCE: usize = 16;

/// A dialogue as a training example.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EncodedDialogue {
    /// Token ids of the whole dialogue.
    pub ids: Vec<u32>,
    /// For every id, whether the assistant wrote it; the token that ends the assistant's turn included.
    pub assistant_mask: Vec<bool>,
}

/// Why a dialogue could not be encoded.
#[derive(Debug, thiserror::Error)]
pub enum DialogueError {
    /// The template failed on it or refused it.
    #[error(transparent)]
    Template(#[from] TemplateError),
    /// Its text has no tokens.
    #[error(transparent)]
    Tokenizer(#[from] TokenizerError),
}

/// Renders and encodes dialogues and finds the assistant's tokens ([`RenderInput::mark_assistant`] is taken as set).
///
/// The results are in the order of `dialogues`, one for each; they do not depend on `threads`, and one dialogue's error
/// does not touch the others. At most `threads` threads encode, the calling one
/// among them.
pub fn encode_dialogues(
    template: &ChatTemplate,
    tokenizer: &Tokenizer,
    dialogues: &[RenderInput<'_>],
    threads: NonZeroUsize,
) -> Vec<Result<EncodedDialogue, DialogueError>> {
    let mut results: Vec<Option<Result<EncodedDialogue, DialogueError>>> = Vec::new();
    results.resize_with(dialogues.len(), || None);
    let parts = Mutex::new(dialogues.chunks(DIALOGUES_AT_ONCE).zip(results.chunks_mut(DIALOGUES_AT_ONCE)));
    let work = || {
        loop {
            let part = parts.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).next();
            let Some((dialogues, results)) = part else { break };
            let inputs: Vec<RenderInput<'_>> = dialogues
                .iter()
                .map(|dialogue| RenderInput { mark_assistant: true, ..dialogue.clone() })
                .collect();
            for (rendered, result) in template.render_all(&inputs).into_iter().zip(results) {
                *result = Some(encode_dialogue(tokenizer, rendered));
            }
        }
    };
    thread::scope(|scope| {
        let parts = dialogues.len().div_ceil(DIALOGUES_AT_ONCE);
        for _ in 1..threads.get().min(parts) {
            scope.spawn(work);
        }
        work();
    });
    results.into_iter().flatten().collect()
}

fn encode_dialogue(
    tokenizer: &Tokenizer,
    rendered: Result<Rendered, TemplateError>,
) -> Result<EncodedDialogue, DialogueError> {
    let (ids, assistant_mask) = tokenizer.encode_rendered_with_mask(&rendered?)?;
    Ok(EncodedDialogue { ids, assistant_mask })
}
