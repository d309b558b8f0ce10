//! Random bytes from the operating system.

use crate::StoreError;

/// So many random bytes.
///
/// # Errors
/// [`StoreError::Randomness`] when the system has none to give.
pub fn random_bytes<const COUNT: usize>() -> Result<[u8; COUNT], StoreError> {
    let mut bytes = [0; COUNT];
    getrandom::fill(&mut bytes).map_err(|source| StoreError::Randomness { source })?;
    Ok(bytes)
}
