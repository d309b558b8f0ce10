//! What a model that was trained further is worth, measured on examples that it has not seen.
//!
//! [`scorer`] computes log-probabilities and a reward model's values, [`pairs`] how often the preferred answer is preferred, [`wins`] how often
//! a judge prefers one model's answers to another's, and [`bootstrap`] how far all that may be from the truth. Nothing here reads files of
//! examples: documents are tokens, and results are numbers.

pub mod bootstrap;
pub mod pairs;
pub mod scorer;
pub mod wins;

pub use bootstrap::{Interval, cluster_interval, cluster_mean_interval, interval, mean_interval};
pub use pairs::{
    Calibration, PairAccuracy, PairMargin, calibration, correct, learned_tokens, pair_accuracy, pair_margins,
};
pub use scorer::{Endings, Perplexity, RewardModel, Scorer, dialogue_values, perplexity, reward_scores};
pub use wins::{Wins, WinsByLength, answer_scores, answers, paired_scores, win_rate, wins_by_length};
