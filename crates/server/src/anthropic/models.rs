//! `/v1/models` as Anthropic's clients read it.

use serde::Serialize;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use utoipa::ToSchema;
use zhenjin_assistant::{ServedModelInfo, ServedModels};

/// All served models.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct AnthropicModelList {
    data: Vec<AnthropicModel>,
    /// Always false: the list is whole.
    has_more: bool,
    #[schema(required)]
    first_id: Option<String>,
    #[schema(required)]
    last_id: Option<String>,
}

/// A served model.
#[derive(Clone, Debug, Serialize, ToSchema)]
struct AnthropicModel {
    /// `model`
    r#type: &'static str,
    /// The name that requests use.
    id: String,
    display_name: String,
    /// When its file was written.
    created_at: String,
}

/// The served models.
pub(crate) fn list(models: &ServedModels) -> AnthropicModelList {
    let data: Vec<AnthropicModel> = models.list().into_iter().map(model).collect();
    AnthropicModelList {
        first_id: data.first().map(|model| model.id.clone()),
        last_id: data.last().map(|model| model.id.clone()),
        has_more: false,
        data,
    }
}

fn model(info: ServedModelInfo) -> AnthropicModel {
    let written = std::fs::metadata(&info.path).and_then(|metadata| metadata.modified()).ok();
    let written = written.map_or(OffsetDateTime::UNIX_EPOCH, OffsetDateTime::from);
    AnthropicModel {
        r#type: "model",
        display_name: info.name.clone(),
        id: info.name,
        // Only years beyond 9999 cannot be written.
        created_at: written.format(&Rfc3339).unwrap_or_default(),
    }
}
