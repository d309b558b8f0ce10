//! What can end a run.

use std::path::{Path, PathBuf};

use crate::faults::FaultyStep;
use zhenjin_engine::{StartError, SubmitError};
use zhenjin_model::ModelError;
use zhenjin_tensor::TensorError;
use zhenjin_train::checkpoint::CheckpointError;
use zhenjin_train::configuration::ConfigurationError;
use zhenjin_train::metrics::MetricsError;
use zhenjin_train::optimiser::StateError;

/// Everything that can go wrong with a run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AlignError {
    /// The settings.
    #[error(transparent)]
    Configuration(#[from] ConfigurationError),
    /// The model.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// A product.
    #[error(transparent)]
    Tensor(#[from] TensorError),
    /// A checkpoint.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// The optimiser's state in a checkpoint.
    #[error("{}: {error}", checkpoint.display())]
    State {
        /// The checkpoint.
        checkpoint: PathBuf,
        /// What is wrong.
        error: StateError,
    },
    /// The files of metrics.
    #[error(transparent)]
    Metrics(#[from] MetricsError),
    /// The engine that writes answers.
    #[error(transparent)]
    Engine(#[from] StartError),
    /// A request to it.
    #[error("a rollout was refused: {0}")]
    Rollout(#[from] SubmitError),
    /// An answer that did not come.
    #[error("a rollout failed: {0}")]
    Answer(String),
    /// Numbers that the method asserts.
    #[error(
        "answer {answer}, token {token}: the policy's log-probability is {now}, and {then} when it was written, although the weights \
         are the same; this is a fault of the program"
    )]
    Ratio {
        /// The answer's number in the step.
        answer: usize,
        /// The token's place in the answer.
        token: usize,
        /// By the learner.
        now: f32,
        /// By the engine.
        then: f32,
    },
    /// Nothing of a step can be learnt from.
    #[error("no answer of this step has a reward: {0}")]
    NoReward(String),
    /// The run was asked to stop while it waited for rewards; it saves and ends as one that is asked between two steps.
    #[error("asked to stop while rewards were waited for")]
    Stopped,
    /// A number is not finite.
    #[error("step {step}: {what} is {value}, in the examples {examples:?}; {hint}{}", kept_text(kept.as_deref()))]
    NonFinite {
        /// The step that was not made.
        step: u64,
        /// The loss, or the gradient's norm.
        what: &'static str,
        /// What it is.
        value: f64,
        /// The step's examples.
        examples: Vec<usize>,
        /// Where it comes from, and what helps.
        hint: String,
        /// What the step read.
        faulty: Box<FaultyStep>,
        /// Where that was kept.
        kept: Option<PathBuf>,
    },
    /// Weights that no run could go on from.
    #[error(
        "after step {step} no checkpoint is saved, as {what}: it would take the place of a good one; {}; a smaller optimiser.learning_rate may help",
        last_text(last.as_deref())
    )]
    SpoiltWeights {
        /// The last step that was made.
        step: u64,
        /// Which of the weights, or of the optimiser's numbers, is not finite.
        what: String,
        /// The last checkpoint.
        last: Option<PathBuf>,
    },
    /// A rule of the section `watch` ended the run.
    #[error(
        "step {step}: {reason}; the weights before it are in the last checkpoint (section `watch` has this rule)"
    )]
    Watched {
        /// The step.
        step: u64,
        /// Which rule, and the value.
        reason: String,
    },
    /// A checkpoint of another run.
    #[error("{} was made with other settings: {}", checkpoint.display(), differences(keys))]
    OtherConfiguration {
        /// The checkpoint.
        checkpoint: PathBuf,
        /// Key, value now, value of the checkpoint.
        keys: Vec<(String, String, String)>,
    },
    /// A checkpoint of other data or another model.
    #[error(
        "{} was made with other data or another model (fingerprint {theirs}, now {ours}); {}",
        checkpoint.display(),
        what_to_give(theirs, ours)
    )]
    OtherData {
        /// The checkpoint.
        checkpoint: PathBuf,
        /// What was given.
        ours: String,
        /// What the checkpoint has.
        theirs: String,
    },
    /// Something that the run was given and that cannot be used.
    #[error("{0}")]
    Input(String),
    /// Weights that somebody else still uses.
    #[error("the weights are still used for answers, so they cannot be changed")]
    WeightsInUse,
}

fn kept_text(kept: Option<&Path>) -> String {
    kept.map_or(String::new(), |path| format!("; the step is kept in {}", path.display()))
}

fn last_text(last: Option<&Path>) -> String {
    last.map_or("there is none".to_owned(), |path| format!("the last one is {}", path.display()))
}

fn differences(keys: &[(String, String, String)]) -> String {
    let text = |(key, ours, theirs): &(String, String, String)| format!("{key} is {ours}, there {theirs}");
    keys.iter().map(text).collect::<Vec<_>>().join("; ")
}

/// What helps where fingerprints differ. Earlier versions cut an anchor's paragraphs at the model's context alone, and divided its text at
/// empty lines that end in a line feed alone: then the same text has other pieces now.
fn what_to_give(theirs: &str, ours: &str) -> &'static str {
    const ANCHOR: &str = ", anchor ";
    match (theirs.rsplit_once(ANCHOR), ours.rsplit_once(ANCHOR)) {
        (Some((theirs, _)), Some((ours, _))) if crate::run::same_data(theirs, ours) => {
            "only the anchor differs: give the text that the run began with; where it is that, an earlier version began the run, which cut the text \
             in other pieces: go on with that version, or begin anew in another folder"
        }
        _ if has_same_model(theirs, ours) => {
            "the model is the same: where the files are, too, another share of held-out examples, other answers to learn from or another thinking \
             makes other data of them, and another reward counts likewise; give those that the run began with"
        }
        _ => "give those that the run began with",
    }
}

/// Whether all that stands behind the data in two fingerprints is the same: the model, its adapter and the precision, and the anchor.
fn has_same_model(theirs: &str, ours: &str) -> bool {
    const MODEL: &str = ", model ";
    match (theirs.rsplit_once(MODEL), ours.rsplit_once(MODEL)) {
        (Some((_, theirs)), Some((_, ours))) => theirs == ours,
        _ => false,
    }
}

impl AlignError {
    /// Whether it refuses a checkpoint of the same model for its data alone.
    pub fn is_of_other_data_alone(&self) -> bool {
        match self {
            AlignError::OtherData { ours, theirs, .. } => has_same_model(theirs, ours),
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Regression: where the share of held-out examples alone differed, other data or another model were spoken of, and nothing else.
    #[test]
    fn other_data_of_the_same_model_name_what_makes_them() {
        let error = |theirs: &str| AlignError::OtherData {
            checkpoint: PathBuf::from("step-1"),
            ours: "data 1, model a [in f32, adapter none], anchor c".to_owned(),
            theirs: theirs.to_owned(),
        };
        let of_data = error("data 2, model a [in f32, adapter none], anchor c");
        assert!(of_data.is_of_other_data_alone());
        assert!(of_data.to_string().contains("share of held-out examples"), "{of_data}");
        for theirs in ["data 1, model b [in f32, adapter none], anchor c", "data 2, model b", "", "data 2"] {
            let of_model = error(theirs);
            assert!(!of_model.is_of_other_data_alone(), "{theirs}");
            assert!(!of_model.to_string().contains("held-out"), "{of_model}");
        }
    }
}
