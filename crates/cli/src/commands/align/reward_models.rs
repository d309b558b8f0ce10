//! Reward models beside the model whose answers they judge.

use crate::commands::best_of_n::of_files;
use anyhow::{Result, bail};
use std::path::Path;
use std::sync::Arc;
use time::OffsetDateTime;
use zhenjin_align::data::{Encoder, PromptSettings};
use zhenjin_align::evaluation::{Endings, RewardModel};
use zhenjin_hub::OpenedModel;
use zhenjin_model::{LoadOptions, Model, WrittenAdapter};
use zhenjin_tokenizer::Tokenizer;

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
    Ok(RewardModel::open(folder, base, load, usable_vocabulary)?.with_endings(endings))
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

/// Whether all ids of one tokenizer are the same tokens in the other.
pub(super) fn has_same_tokens(ours: &Tokenizer, theirs: &Tokenizer) -> bool {
    let count = ours.vocabulary_size();
    count == theirs.vocabulary_size()
        && (0..count as u32).all(|id| ours.token_bytes(id) == theirs.token_bytes(id))
}
