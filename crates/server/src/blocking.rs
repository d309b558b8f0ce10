//! Work that would hold up other requests if it ran on the threads that serve them.

use crate::errors::ApiError;

/// Runs work that computes for a while (rendering, tokenising, compiling a format) or waits for the disk, beside the threads
/// that serve requests.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, ApiError> + Send + 'static,
) -> Result<T, ApiError> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|error| Err(broken_task(&error)))
}

/// Runs `work` to its end even if the request that waits for it goes away.
pub(crate) async fn detached<T: Send + 'static>(
    work: impl Future<Output = Result<T, ApiError>> + Send + 'static,
) -> Result<T, ApiError> {
    tokio::spawn(work).await.unwrap_or_else(|error| Err(broken_task(&error)))
}

/// A task that panicked.
fn broken_task(error: &tokio::task::JoinError) -> ApiError {
    tracing::error!(%error, "a task broke");
    ApiError::internal("something went wrong inside the server; its log says what")
}
