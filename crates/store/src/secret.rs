//! Secrets of 256 random bits, kept as SHA-256: a slow hash against guessing (which passwords need) would protect
//! nothing.

use std::fmt;

use sha2::{Digest, Sha256};

use crate::StoreError;
use crate::random::random_bytes;

/// The hash under which a secret is kept.
pub(crate) fn hash(secret: &str) -> [u8; 32] {
    Sha256::digest(secret.as_bytes()).into()
}

fn random(prefix: &str) -> Result<String, StoreError> {
    let bits: [u8; 32] = random_bytes()?;
    let digits: String = bits.iter().map(|byte| format!("{byte:02x}")).collect();
    Ok(format!("{prefix}{digits}"))
}

macro_rules! secret_type {
    ($(#[$documentation:meta])* $name:ident, $prefix:literal) => {
        $(#[$documentation])*
        #[derive(Clone)]
        pub struct $name(String);

        impl $name {
            pub(crate) fn new() -> Result<$name, StoreError> {
                random($prefix).map($name)
            }

            /// The text itself, for the one place that hands it over.
            pub fn expose(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str(concat!(stringify!($name), "(…)"))
            }
        }
    };
}

secret_type!(
    /// An API key. It cannot be printed by accident; the prefix lets people and secret scanners recognise one.
    ApiKeySecret,
    "zj-"
);
secret_type!(
    /// What a browser shows after a login. It cannot be printed by accident.
    SessionSecret,
    ""
);
