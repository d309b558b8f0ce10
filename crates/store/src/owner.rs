//! Whose rows a call reads and writes. Every call about conversations takes an owner, and finds nothing of another one's: what
//! belongs to somebody else is not there.

use std::fmt;

use crate::ApiKeyId;

/// The word in the database for [`Owner::Local`].
const LOCAL: &str = "local";

/// Whose conversations they are.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Owner {
    /// The person at the machine, where no key is asked for.
    Local,
    /// The holders of the key of that id, and of the keys that were made for the same conversations.
    Key(ApiKeyId),
}

impl Owner {
    /// The word in the database.
    pub fn as_str(&self) -> &str {
        match self {
            Owner::Local => LOCAL,
            Owner::Key(id) => id.as_str(),
        }
    }

    pub(crate) fn from_database(word: String) -> Owner {
        if word == LOCAL { Owner::Local } else { Owner::Key(ApiKeyId::from_database(word)) }
    }
}

impl fmt::Display for Owner {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}
