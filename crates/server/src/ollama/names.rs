//! Models' names as Ollama's clients write them.

use std::sync::Arc;

use zhenjin_assistant::AssistantError;

use crate::blocking::blocking;
use crate::chat::{KnownModel, ModelMenu};
use crate::errors::ApiError;
use crate::openai::fault;

/// The tag that a name without one has.
const DEFAULT_TAG: &str = ":latest";

/// The name under which the model is known here that a client calls `name`: served, or on this machine.
pub(super) async fn find(menu: &Arc<ModelMenu>, name: &str) -> Result<String, ApiError> {
    find_among(menu, name, |_| false).await
}

/// As [`find`]; what an encoder and a model that writes may both be called is the encoder's name.
pub(super) async fn find_encoder(menu: &Arc<ModelMenu>, name: &str) -> Result<String, ApiError> {
    find_among(menu, name, |model| model.embeds).await
}

async fn find_among(
    menu: &Arc<ModelMenu>,
    name: &str,
    is_preferred: fn(&KnownModel) -> bool,
) -> Result<String, ApiError> {
    let (menu, name) = (Arc::clone(menu), name.to_owned());
    blocking(move || {
        let models = menu.known_models()?;
        let names_of = |wanted: fn(&KnownModel) -> bool| -> Vec<String> {
            models.iter().filter(|model| wanted(model)).map(|model| model.name.clone()).collect()
        };
        let known = names_of(|_| true);
        let found = match resolve(&name, &names_of(is_preferred))? {
            // A model of the other kind is later refused by its name, not as one that is not known.
            None => resolve(&name, &known)?,
            found => found,
        };
        found.ok_or_else(|| fault(AssistantError::UnknownModel { name, known }))
    })
    .await
}

/// The one of `known` that `name` means: itself; without the tag `latest`; or, for a name without a tag, the only one that has
/// one. Several are an error: none of them is preferred.
pub(super) fn resolve(name: &str, known: &[String]) -> Result<Option<String>, ApiError> {
    let find = |wanted: &str| known.iter().find(|known| *known == wanted).cloned();
    let base = name.strip_suffix(DEFAULT_TAG).unwrap_or(name);
    if let Some(found) = find(name).or_else(|| find(base)) {
        return Ok(Some(found));
    }
    if base.contains(':') {
        return Ok(None);
    }
    let tagged: Vec<&String> = known
        .iter()
        .filter(|known| known.split_once(':').is_some_and(|(family, _)| family == base))
        .collect();
    match tagged.as_slice() {
        [] => Ok(None),
        [one] => Ok(Some((*one).clone())),
        several => {
            let names = several.iter().map(|name| name.as_str()).collect::<Vec<&str>>().join(", ");
            let message = format!("the model `{name}` could be any of {names}: name one of them");
            Err(ApiError::not_found(message).with_param("model").with_code("model_not_found"))
        }
    }
}

/// The name by which a model is downloaded: `hf.co/OWNER/REPOSITORY` is what is called `hf:OWNER/REPOSITORY` here.
pub(super) fn downloadable(name: &str) -> String {
    let hub = ["hf.co/", "huggingface.co/"].iter().find_map(|prefix| name.strip_prefix(prefix));
    hub.map_or_else(|| name.to_owned(), |rest| format!("hf:{rest}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn a_name_without_a_tag_is_found_and_no_other_model_is_taken() {
        let names = known(&["smollm2:135m", "qwen3:0.6b", "qwen3:4b", "poet", "poet:small", "hf:a/b"]);
        let found = |name: &str| resolve(name, &names).expect("not ambiguous");
        assert_eq!(found("smollm2:135m").as_deref(), Some("smollm2:135m"));
        assert_eq!(found("smollm2").as_deref(), Some("smollm2:135m"));
        assert_eq!(found("smollm2:latest").as_deref(), Some("smollm2:135m"));
        assert_eq!(found("poet").as_deref(), Some("poet"));
        assert_eq!(found("poet:latest").as_deref(), Some("poet"));
        for absent in ["smollm2:360m", "smol", "llama3", "latest", ""] {
            assert_eq!(found(absent), None, "{absent}");
        }
        let several = resolve("qwen3", &names).expect_err("two models");
        assert!(several.message().contains("qwen3:0.6b, qwen3:4b"), "{several}");
    }

    #[test]
    fn names_of_the_hub_are_translated() {
        assert_eq!(downloadable("hf.co/owner/repo"), "hf:owner/repo");
        assert_eq!(downloadable("huggingface.co/owner/repo:x.gguf"), "hf:owner/repo:x.gguf");
        assert_eq!(downloadable("smollm2:135m"), "smollm2:135m");
    }
}
