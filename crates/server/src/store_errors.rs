//! The store's errors as HTTP answers.

use std::time::Duration;

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
            StoreError::Busy { .. } => ApiError::unavailable("the database is busy; try again")
                .with_retry_after(Duration::from_secs(1)),
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

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::header;
    use axum::response::IntoResponse;

    /// Regression: while others' searches held every connection, requests failed with 500 instead of being told to come again.
    #[test]
    fn a_busy_database_says_when_to_come_again() {
        let busy = StoreError::Busy { path: "x.db".into(), doing: "searching" };
        let response = ApiError::from(busy).into_response();
        assert_eq!(
            (response.status().as_u16(), &response.headers()[header::RETRY_AFTER]),
            (503, &"1".parse().expect("valid"))
        );
    }
}
