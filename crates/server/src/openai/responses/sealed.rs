//! Thoughts in the form in which clients keep and send back what they cannot read (`encrypted_content`). It is no secret: the text
//! stands in the answer beside it.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

/// Tells these texts from what other servers sealed.
const MARK: &str = "zhenjin-thought-";

/// The form of a thought in which it is sent back.
pub(super) fn seal(thought: &str) -> String {
    format!("{MARK}{}", STANDARD.encode(thought))
}

/// The thought, if it was sealed here.
pub(super) fn unseal(sealed: &str) -> Option<String> {
    String::from_utf8(STANDARD.decode(sealed.strip_prefix(MARK)?).ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thoughts_come_back_and_what_others_sealed_is_left_alone() {
        assert_eq!(unseal(&seal("First, 你好.")).as_deref(), Some("First, 你好."));
        for other in ["", "gAAAA", "zhenjin-thought-!", "zhenjin-thought-/w=="] {
            assert_eq!(unseal(other), None, "{other}");
        }
    }
}
