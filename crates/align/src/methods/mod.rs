//! The methods: what a step of each does.

mod anchor;
mod dialogues;
mod distillation;
mod examples;
mod judged;
mod offline;
mod online;
mod preference;
mod reward;

pub use anchor::Anchor;
pub use dialogues::Dialogues;
pub use distillation::{Distillation, OwnAnswers, SharedTeacher};
pub use examples::Examples;
pub use judged::Judged;
pub use offline::{Answerer, Offline};
pub use online::{Critic, Decode, Judgement, Online, OnlineParts, RewardSource};
pub use preference::Preferences;
pub use reward::RewardPairs;
