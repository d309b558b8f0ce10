//! One file or folder per command.

pub(crate) mod align;
pub(crate) mod bench;
pub(crate) mod best_of_n;
pub(crate) mod chat;
pub(crate) mod cost;
pub(crate) mod data;
pub(crate) mod evaluate;
pub(crate) mod export;
pub(crate) mod feedback;
pub(crate) mod generate;
pub(crate) mod improve;
pub(crate) mod inspect;
pub(crate) mod key;
pub(crate) mod manual;
pub(crate) mod models;
pub(crate) mod perplexity;
pub(crate) mod plan;
pub(crate) mod pretrain;
pub(crate) mod promote;
pub(crate) mod pull;
pub(crate) mod quantize;
pub(crate) mod report;
pub(crate) mod serve;
mod text_input;
pub(crate) mod tokenize;
pub(crate) mod tokenizer;
pub(crate) mod training;
