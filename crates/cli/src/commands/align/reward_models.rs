//! Reward models beside the model whose answers they judge.

use crate::commands::best_of_n::of_files;
use crate::machine;
use anyhow::{Result, bail};
use std::path::Path;
use std::sync::Arc;
use time::OffsetDateTime;
use zhenjin_align::data::{Encoder, PromptSettings};
use zhenjin_align::evaluation::{Endings, RewardModel};
use zhenjin_align::trainee::{RewardFiles, RewardWeights};
use zhenjin_hub::OpenedModel;
use zhenjin_model::{LoadOptions, Model, WrittenAdapter};
use zhenjin_tokenizer::{Tokenizer, common_tokens};

/// Opens a reward model: a checkpoint of `zhenjin reward`, or one that others trained. `base` are the weights of `opened`, to which an adapter is
/// added.
pub(crate) fn open_reward_model(
    folder: &Path,
    opened: &OpenedModel,
    base: &Arc<Model>,
    load: &LoadOptions,
) -> Result<RewardModel> {
    let tokenizer = &opened.tokenizer;
    // An adapter's folder may hold a tokenizer too, and its tokens are the same.
    if let Some(theirs) = zhenjin_hub::tokenizer_of_folder(folder)?
        && !has_same_tokens(tokenizer, &theirs)
    {
        bail!(
            "{}: the reward model has another tokenizer than the model whose answers it is to judge",
            folder.display()
        );
    }
    let usable_vocabulary = tokenizer.vocabulary_size().min(base.config.vocabulary_size);
    let settings = PromptSettings::at(OffsetDateTime::UNIX_EPOCH);
    let behind = match &opened.template {
        Some(template) => Encoder::for_prompts(tokenizer, Some(template), settings)?.behind_the_last_turn(),
        None => Vec::new(),
    };
    let endings = Endings {
        end_of_turn: tokenizer.end_of_turn().to_vec(),
        behind,
        padding: opened.file.padding_token(),
    };
    let files = RewardFiles::open(folder, &base.config)?;
    if let RewardWeights::Adapter(values) = &files.weights {
        machine::note_other_base(values.other_base(opened.file.path()), folder, &opened.file);
    }
    Ok(RewardModel::of_files(files, folder, base, load, usable_vocabulary)?.with_endings(endings))
}

/// Refuses a model that is to read dialogues of up to `longest` tokens and can read fewer, before any of them is written.
pub(crate) fn check_room(folder: &Path, context: usize, longest: usize) -> Result<()> {
    if longest > context {
        bail!(
            "{}: the reward model can read {context} tokens, and the longest prompt with an answer of --max-tokens has {longest}: take fewer tokens \
             for answers, leave longer prompts out with --context and --overlong drop, or take another reward model",
            folder.display()
        );
    }
    Ok(())
}

/// The SHA-256 of a reward model's weights and settings, in hexadecimal digits: what is in a folder, whatever the folder is called.
pub(super) fn fingerprint_of(folder: &Path) -> Result<String> {
    // What is no folder is refused, with what belongs into one, where it is opened.
    if !folder.is_dir() {
        return Ok(String::new());
    }
    of_files(folder, &|name| {
        name == "config.json"
            || name == WrittenAdapter::SETTINGS
            || (name.ends_with(".safetensors") && !name.starts_with("optimiser"))
    })
}

/// Whether all ids of one tokenizer are the same tokens in the other, but for what only pads a vocabulary.
pub(super) fn has_same_tokens(ours: &Tokenizer, theirs: &Tokenizer) -> bool {
    common_tokens(("one", ours), ("other", theirs)).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The first answer that was longer ended the run.
    #[test]
    fn a_reward_model_that_cannot_read_the_longest_answers_is_refused() {
        assert!(check_room(Path::new("judge"), 512, 512).is_ok());
        let error = check_room(Path::new("judge"), 512, 513).expect_err("too long").to_string();
        assert!(
            error.starts_with("judge: ") && error.contains("512 tokens") && error.contains("513"),
            "{error}"
        );
    }
}
