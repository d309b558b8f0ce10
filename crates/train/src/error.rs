//! What can end a training run.

use std::path::PathBuf;

use zhenjin_corpus::CorpusError;
use zhenjin_model::ModelError;
use zhenjin_tensor::TensorError;

use crate::checkpoint::CheckpointError;
use crate::communication::CommError;
use crate::configuration::ConfigurationError;
use crate::metrics::MetricsError;
use crate::optimiser::StateError;

/// Everything that can go wrong with a run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TrainError {
    /// The settings.
    #[error(transparent)]
    Configuration(#[from] ConfigurationError),
    /// The data.
    #[error(transparent)]
    Corpus(#[from] CorpusError),
    /// The model.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// A product of the optimiser.
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
    /// A checkpoint of another run.
    #[error("{} was made with other settings: {}", checkpoint.display(), differences(keys))]
    OtherConfiguration {
        /// The checkpoint.
        checkpoint: PathBuf,
        /// Key, value now, value of the checkpoint.
        keys: Vec<(String, String, String)>,
    },
    /// A checkpoint of other data.
    #[error(
        "{} was made with other data (fingerprint {theirs}, now {ours}); give the data that the run began with",
        checkpoint.display()
    )]
    OtherData {
        /// The checkpoint.
        checkpoint: PathBuf,
        /// The fingerprint of the data that was given.
        ours: String,
        /// The fingerprint in the checkpoint.
        theirs: String,
    },
    /// A number is not finite, or leapt, and the policy is to stop.
    #[error("step {step}: {fault}; the last whole checkpoint is {}", match checkpoint {
        Some(path) => path.display().to_string(),
        None => "none".to_owned(),
    })]
    Fault {
        /// The step that was not made.
        step: u64,
        /// What was found, where, and which sequences were in the batch.
        fault: String,
        /// The last whole checkpoint.
        checkpoint: Option<PathBuf>,
    },
    /// The other ranks.
    #[error(transparent)]
    Comm(#[from] CommError),
    /// A number of ranks that cannot share the micro-batches.
    #[error(
        "{ranks} ranks cannot share the {micro_batches} micro-batches of a step: the number of ranks must be a power of two, at most as many \
         as micro-batches (setting batch.micro_batches)"
    )]
    RankCount {
        /// Ranks.
        ranks: usize,
        /// Micro-batches of a step.
        micro_batches: usize,
    },
    /// Ranks that ought to have the same weights.
    #[error(
        "after step {step} the weights of rank {rank} are not those of rank 0; resume the run from a checkpoint, and look for a faulty machine"
    )]
    RanksDiffer {
        /// The rank.
        rank: usize,
        /// The last step.
        step: u64,
    },
    /// A sampler kept the weights.
    #[error("the weights are still used for sample texts, so they cannot be changed")]
    WeightsInUse,
}

fn differences(keys: &[(String, String, String)]) -> String {
    let text = |(key, ours, theirs): &(String, String, String)| format!("{key} is {ours}, there {theirs}");
    keys.iter().map(text).collect::<Vec<_>>().join("; ")
}
