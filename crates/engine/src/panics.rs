//! Panics of code that is not the engine's own, as errors.

use std::panic::{AssertUnwindSafe, catch_unwind};

/// Runs third-party or numeric code so that a panic becomes its message: one request's failure must not end the
/// engine.
pub(crate) fn without_panic<T>(run: impl FnOnce() -> T) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(run)).map_err(|panic| {
        match (panic.downcast_ref::<&str>(), panic.downcast_ref::<String>()) {
            (Some(message), _) => (*message).to_owned(),
            (_, Some(message)) => message.clone(),
            _ => "no message".to_owned(),
        }
    })
}
