//! How many requests may generate or stream at once.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::errors::ApiError;
use crate::shutdown::Shutdown;

/// Hands out a permit to each request that generates or streams.
#[derive(Clone)]
pub struct StreamLimit {
    limit: usize,
    permits: Arc<Semaphore>,
    shutdown: Shutdown,
}

impl StreamLimit {
    /// At most `limit` permits are held at once, and none is given out once `shutdown` drains.
    pub(crate) fn new(limit: usize, shutdown: Shutdown) -> Self {
        StreamLimit { limit, permits: Arc::new(Semaphore::new(limit)), shutdown }
    }

    /// The right to generate or stream, held until the answer ends: 503 when the server stops, 429 when too many run.
    pub fn permit(&self) -> Result<OwnedSemaphorePermit, ApiError> {
        if self.shutdown.is_draining() {
            return Err(ApiError::shutting_down());
        }
        Arc::clone(&self.permits).try_acquire_owned().map_err(|_| {
            ApiError::too_many_requests(
                format!("{} answers are being streamed already, which is this server's limit", self.limit),
                Duration::from_secs(1),
            )
        })
    }
}
