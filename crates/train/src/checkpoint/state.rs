//! `state.json`: where a run is, beside its weights and its optimiser's state.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::hexadecimal;

/// The file's name in a checkpoint's folder.
pub const STATE_FILE: &str = "state.json";
/// The version of the format.
const FORMAT: u32 = 1;
/// A longer file is not ours.
pub(super) const MOST_BYTES: usize = 4 << 20;

/// Length and hash of a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileSum {
    /// Its length.
    pub bytes: u64,
    /// SHA-256 of its contents, in hexadecimal.
    pub sha256: String,
}

/// The checkpoint with the lowest validation loss so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Best {
    /// Its step.
    pub step: u64,
    /// The bits of its loss in nats per target.
    pub loss_bits: u64,
}

impl Best {
    /// The loss in nats per target.
    pub fn loss(self) -> f64 {
        f64::from_bits(self.loss_bits)
    }
}

/// Everything that a run needs to go on exactly as if it had not ended, beside weights and optimiser state. There are no
/// numbers with a fraction in it: they are kept as their bits, or in the configuration's text.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunState {
    /// The version of the format.
    pub format: u32,
    /// Steps made.
    pub step: u64,
    /// Updates of the weights: steps without those that were left out.
    pub updates: u64,
    /// The position in the data: the sequence that the next step begins with.
    pub next_sequence: u64,
    /// Tokens read.
    pub tokens: u64,
    /// The effective configuration, as TOML.
    pub configuration: String,
    /// Fingerprint of the data.
    pub data: String,
    /// Loss and gradient norm of the latest steps, oldest first, as bits.
    pub window: Vec<[u64; 2]>,
    /// For each layer with experts, how many rows of the latest update chose each of them: the next step's loss for their balance follows from it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub choices: Vec<Vec<u64>>,
    /// Faults of the latest steps, without a good step between them.
    pub faults_in_a_row: usize,
    /// The best checkpoint so far.
    pub best: Option<Best>,
    /// Whether held-out examples were to be measured after this step and could not be: whoever goes on measures them first.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_unmeasured: bool,
    /// The other files of the checkpoint.
    pub files: BTreeMap<String, FileSum>,
}

impl RunState {
    /// The state before the first step.
    pub fn new(configuration: String, data: String) -> RunState {
        RunState {
            format: FORMAT,
            step: 0,
            updates: 0,
            next_sequence: 0,
            tokens: 0,
            configuration,
            data,
            window: Vec::new(),
            choices: Vec::new(),
            faults_in_a_row: 0,
            best: None,
            is_unmeasured: false,
            files: BTreeMap::new(),
        }
    }

    /// The file's text: the state, and the SHA-256 of its compact form.
    pub(super) fn to_json(&self) -> String {
        let state = self.compact();
        format!("{{\"sha256\":\"{}\",\"state\":{state}}}\n", hexadecimal(&Sha256::digest(state.as_bytes())))
    }

    fn compact(&self) -> String {
        // Numbers, texts and lists can always be written.
        serde_json::to_string(self).unwrap_or_default()
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    sha256: String,
    state: RunState,
}

/// Reads the text of a `state.json`.
///
/// # Errors
/// What is wrong with it, as a sentence.
pub fn parse_state(text: &[u8]) -> Result<RunState, String> {
    if text.len() > MOST_BYTES {
        return Err(format!("it has {} bytes, more than {MOST_BYTES}", text.len()));
    }
    let Document { sha256, state } =
        serde_json::from_slice(text).map_err(|error| format!("it is not the state of a run: {error}"))?;
    if sha256 != hexadecimal(&Sha256::digest(state.compact().as_bytes())) {
        return Err("its SHA-256 is not the one that was written".to_owned());
    }
    if state.format != FORMAT {
        return Err(format!("it has format {}; this program reads format {FORMAT}", state.format));
    }
    if let Some(name) = state.files.keys().find(|name| name.contains(['/', '\\']) || name.starts_with('.')) {
        return Err(format!("`{name}` is not a file in its folder"));
    }
    Ok(state)
}
