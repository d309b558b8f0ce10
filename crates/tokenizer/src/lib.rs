//! Text ↔ token ids, and conversations → text.
//!
//! * [`Tokenizer`] is built from a Hugging Face `tokenizer.json` or from the vocabulary inside a GGUF file; both end in
//!   the same byte-pair encoder of the `tokenizers` library and the same table of bytes per token.
//! * [`StreamDecoder`] turns ids into text while they are generated, whole characters only.
//! * [`TextEncoder`] gives the ids that models read which make vectors of texts.
//! * [`train_byte_level`] makes a new vocabulary from text.
//! * [`ChatTemplate`] renders a conversation with the model's own Jinja template inside a sandbox, remembers which text
//!   users wrote (it can never become a control token) and which text the assistant wrote (training needs it).
//!
//! This crate does not know models, logits, files, HTTP, or the clock: callers pass bytes and the time.

#![warn(missing_docs)]

mod added_tokens;
mod byte_level;
mod byte_level_encoder;
mod comparison;
mod convert;
mod dialogues;
mod errors;
mod gguf;
mod gguf_text_encoder;
mod growth;
mod hugging_face;
mod pre_tokenizers;
mod segments;
mod sentence_piece;
mod stream;
mod template;
mod text_encoder;
mod tokenizer;
mod training;
mod vocabulary;

pub use comparison::{VocabularyDifference, common_tokens};
pub use dialogues::{DialogueError, EncodedDialogue, encode_dialogues};
pub use errors::{TemplateError, TokenizerError};
pub use gguf::GgufVocabulary;
pub use gguf_text_encoder::GgufTextVocabulary;
pub use hugging_face::{MAX_TOKENIZER_JSON_BYTES, TokenizerConfig};
pub use pre_tokenizers::KNOWN_PRE_TOKENIZERS;
pub use stream::{ControlText, StreamDecoder};
pub use template::{Appended, ChatTemplate, MAX_TEMPLATE_BYTES, RenderInput, Rendered};
pub use text_encoder::{BertSettings, LimitedEncoding, TextEncoder, TokenizerClass};
pub use tokenizer::{Specials, Tokenizer};
pub use training::{CHAT_TOKENS, TokenizerTraining, TrainedTokenizer, train_byte_level};
