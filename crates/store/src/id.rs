//! Names of rows: ULIDs (48 bits of milliseconds, 80 random bits), so that they sort by age, can
//! be made without asking the database and cannot be guessed.

use std::fmt;
use std::str::FromStr;

use ulid::Ulid;

use crate::random::random_bytes;
use crate::{StoreError, Timestamp};

fn new_id() -> Result<String, StoreError> {
    let milliseconds = Timestamp::now().milliseconds().max(0).unsigned_abs();
    Ok(Ulid::from_parts(milliseconds, u128::from_be_bytes(random_bytes()?)).to_string())
}

/// Whether this is an id exactly as [`new_id`] writes one.
fn is_well_formed(text: &str) -> bool {
    Ulid::from_string(text).is_ok_and(|id| id.to_string() == text)
}

macro_rules! id_type {
    ($(#[$documentation:meta])* $name:ident, $what:literal) => {
        $(#[$documentation])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(String);

        impl $name {
            pub(crate) fn new() -> Result<$name, StoreError> {
                new_id().map($name)
            }

            pub(crate) fn from_database(text: String) -> $name {
                $name(text)
            }

            /// The id as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = StoreError;

            /// # Errors
            /// [`StoreError::NotFound`] for text that no id of this kind can be.
            fn from_str(text: &str) -> Result<$name, StoreError> {
                if is_well_formed(text) {
                    Ok($name(text.to_owned()))
                } else {
                    Err(StoreError::not_found($what, text))
                }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str(&self.0)
            }
        }
    };
}

id_type!(
    /// Names a conversation.
    ConversationId,
    "conversation"
);
id_type!(
    /// Names a message.
    MessageId,
    "message"
);
id_type!(
    /// Names a judgement of an answer: a rating with or without a correction, or a choice between two answers. A judgement that
    /// is changed has another name.
    FeedbackId,
    "feedback"
);
id_type!(
    /// Names an API key; not secret.
    ApiKeyId,
    "API key"
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_distinct_well_formed_and_sort_by_age() {
        let first = MessageId::new().unwrap();
        std::thread::sleep(std::time::Duration::from_millis(3));
        let second = MessageId::new().unwrap();
        assert!(first < second);
        assert_eq!(first.as_str().parse::<MessageId>().unwrap(), first);
    }

    #[test]
    fn text_that_is_no_id_is_refused() {
        for text in [
            "",
            "x",
            "01ARZ3NDEKTSV4RRFFQ69G5FAVX",
            "01ARZ3NDEKTSV4RRFFQ69G5FA'",
            "81ARZ3NDEKTSV4RRFFQ69G5FAV",
            "01arz3ndektsv4rrffq69g5fav",
            "01ARZ3NDEKTSV4RRFFQ69G5FAL",
            "ＡＡＡＡＡＡＡＡ",
        ] {
            assert!(matches!(text.parse::<MessageId>(), Err(StoreError::NotFound { .. })), "{text}");
        }
    }
}
