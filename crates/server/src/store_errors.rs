//! The store's errors as HTTP answers.

use zhenjin_store::StoreError;

use crate::errors::ApiError;

impl From<StoreError> for ApiError {
    fn from(error: StoreError) -> Self {
        let message = error.to_string();
        match error {
            StoreError::NotFound { .. } => ApiError::not_found(message),
            StoreError::InvalidParent { .. } => ApiError::invalid("parent_id", message),
            StoreError::NotGenerating { .. } | StoreError::StillGenerating { .. } => {
                ApiError::conflict(message)
            }
            StoreError::Invalid { field, .. } => ApiError::invalid(field, message),
            StoreError::Busy { .. } => ApiError::unavailable("the database is busy; try again"),
            error => {
                tracing::error!(%error, "the store failed");
                let what = match error {
                    StoreError::Disk { .. } => {
                        "the disk refused to save or read conversations (full, or read-only?)"
                    }
                    StoreError::Corrupt { .. } => "the database of conversations is damaged",
                    _ => "the database of conversations failed",
                };
                ApiError::internal(format!("{what}; the server's log says more")).with_code("store_failed")
            }
        }
    }
}
