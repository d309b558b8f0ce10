//! The configuration of an encoder, from the `config.json` of a Hugging Face folder.
//!
//! As for decoders, every setting that changes the numbers is honoured or refused by name, and those that nothing reads are listed.

use serde_json::{Value, json};

use crate::config::MAX_CONFIG_BYTES;
use crate::config::fields::Fields;
use crate::errors::{FormatError, quoted};
use crate::families::{ENCODER_FAMILIES, EncoderFamily, FirstPosition};
use crate::json::parse;

/// The largest values that are accepted; products of any three of the sizes stay far below 2^64.
const MAX_VOCABULARY: usize = 1 << 21;
const MAX_POSITIONS: usize = 1 << 20;
const MAX_LAYERS: usize = 1 << 10;
pub(super) const MAX_WIDTH: usize = 1 << 16;
/// What the attention kernel is made for.
const HEAD_DIM_STEP: usize = 8;
const MAX_HEAD_DIM: usize = 256;

/// Settings that are honoured.
const HONOURED: [&str; 14] = [
    "model_type",
    "architectures",
    "vocab_size",
    "max_position_embeddings",
    "type_vocab_size",
    "num_hidden_layers",
    "hidden_size",
    "intermediate_size",
    "num_attention_heads",
    "layer_norm_eps",
    "pad_token_id",
    "hidden_act",
    "position_embedding_type",
    "quantization_config",
];

/// Settings that have no effect on hidden states, beside those that have none anywhere.
const WITHOUT_EFFECT: [&str; 12] = [
    "_num_labels",
    "initializer_factor",
    "attention_probs_dropout_prob",
    "hidden_dropout_prob",
    "classifier_dropout",
    "cls_token_id",
    "sep_token_id",
    "output_past",
    "tie_word_embeddings",
    "directionality",
    "pooler_fc_size",
    "is_encoder_decoder",
];

/// Settings that must be false or empty, or absent.
const REFUSED: [&str; 3] = ["is_decoder", "add_cross_attention", "pruned_heads"];

/// Shape and switches of an encoder.
#[derive(Clone, Debug, PartialEq)]
pub struct EncoderConfig {
    /// The family.
    pub family: &'static EncoderFamily,
    /// Number of token ids; rows of the token embedding.
    pub vocabulary_size: usize,
    /// Rows of the position embedding.
    pub positions: usize,
    /// Rows of the token type embedding, of which the first is used.
    pub token_types: usize,
    /// Number of layers.
    pub layers: usize,
    /// Width of the hidden states.
    pub hidden_size: usize,
    /// Width inside the feed-forward network.
    pub intermediate_size: usize,
    /// Attention heads.
    pub heads: usize,
    /// ε under the root of every LayerNorm.
    pub epsilon: f32,
    /// The token that fills up texts.
    pub padding: u32,
}

impl EncoderConfig {
    /// Width of one head.
    pub fn head_dim(&self) -> usize {
        self.hidden_size / self.heads
    }

    /// The most tokens of a text.
    pub fn context_length(&self) -> usize {
        self.positions - self.first_position()
    }

    /// The position of the first token of a text.
    fn first_position(&self) -> usize {
        match self.family.first_position {
            FirstPosition::Zero => 0,
            FirstPosition::BehindPadding => self.padding as usize + 1,
        }
    }

    /// The position of every token of a text.
    pub fn positions_of<'a>(&self, tokens: &'a [u32]) -> impl Iterator<Item = u32> + use<'a> {
        let (padding, family) = (self.padding, self.family.first_position);
        tokens.iter().scan(0u32, move |counted, token| {
            let position = match family {
                FirstPosition::Zero => *counted,
                FirstPosition::BehindPadding if *token == padding => return Some(padding),
                FirstPosition::BehindPadding => *counted + padding + 1,
            };
            *counted += 1;
            Some(position)
        })
    }

    /// Names and shapes of all weights, `[outputs, inputs]` for matrices.
    pub(crate) fn weights(&self) -> Vec<(String, Vec<usize>)> {
        let (hidden, inner) = (self.hidden_size, self.intermediate_size);
        let table = |name: &str, rows| (format!("embeddings.{name}_embeddings.weight"), vec![rows, hidden]);
        let mut weights = vec![
            table("word", self.vocabulary_size),
            table("position", self.positions),
            table("token_type", self.token_types),
        ];
        let mut add = |name: String, matrix: Option<Vec<usize>>, width: usize| {
            weights.push((format!("{name}.weight"), matrix.unwrap_or_else(|| vec![width])));
            weights.push((format!("{name}.bias"), vec![width]));
        };
        add("embeddings.LayerNorm".to_owned(), None, hidden);
        for layer in 0..self.layers {
            let name = |name: &str| format!("encoder.layer.{layer}.{name}");
            for projection in ["query", "key", "value"] {
                add(name(&format!("attention.self.{projection}")), Some(vec![hidden, hidden]), hidden);
            }
            add(name("attention.output.dense"), Some(vec![hidden, hidden]), hidden);
            add(name("attention.output.LayerNorm"), None, hidden);
            add(name("intermediate.dense"), Some(vec![inner, hidden]), inner);
            add(name("output.dense"), Some(vec![hidden, inner]), hidden);
            add(name("output.LayerNorm"), None, hidden);
        }
        weights
    }

    pub(super) fn check(&self) -> Result<(), String> {
        for (what, value, most) in [
            ("the vocabulary", self.vocabulary_size, MAX_VOCABULARY),
            ("the number of positions", self.positions, MAX_POSITIONS),
            ("the number of token types", self.token_types, MAX_WIDTH),
            ("the number of layers", self.layers, MAX_LAYERS),
            ("the hidden size", self.hidden_size, MAX_WIDTH),
            ("the intermediate size", self.intermediate_size, MAX_WIDTH),
            ("the number of attention heads", self.heads, self.hidden_size),
        ] {
            if !(1..=most).contains(&value) {
                return Err(format!("{what} must be 1 to {most}, found {value}"));
            }
        }
        if !self.hidden_size.is_multiple_of(self.heads) {
            return Err(format!(
                "a hidden size of {} cannot be divided among {} attention heads evenly",
                self.hidden_size, self.heads
            ));
        }
        if !self.head_dim().is_multiple_of(HEAD_DIM_STEP) || self.head_dim() > MAX_HEAD_DIM {
            return Err(format!(
                "the width of a head must be a multiple of {HEAD_DIM_STEP}, at most {MAX_HEAD_DIM}, found {}",
                self.head_dim()
            ));
        }
        if !(self.epsilon > 0.0 && self.epsilon < 1.0) {
            return Err(format!("the epsilon of LayerNorm must lie between 0 and 1, found {}", self.epsilon));
        }
        if self.padding as usize >= self.vocabulary_size {
            return Err(format!(
                "the padding token {} is outside the vocabulary of {} tokens",
                self.padding, self.vocabulary_size
            ));
        }
        if self.first_position() >= self.positions {
            return Err(format!(
                "texts begin at position {}, behind the last of {} positions",
                self.first_position(),
                self.positions
            ));
        }
        Ok(())
    }
}

/// A configuration, and the names of settings that nothing reads, quoted for display.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct EncoderReading {
    pub(crate) config: EncoderConfig,
    pub(crate) unread: Vec<String>,
}

/// Whether a `config.json` is that of an encoder. False for text that is no JSON object.
pub(crate) fn is_encoder(text: &[u8]) -> bool {
    let document = parse(text, MAX_CONFIG_BYTES).ok();
    let model_type = document.as_ref().and_then(|document| document.get("model_type")?.as_str());
    model_type.and_then(EncoderFamily::of_model_type).is_some()
}

/// Reads the `config.json` of an encoder.
///
/// # Errors
/// [`FormatError`] naming the field that is missing, of the wrong type, impossible or not supported.
pub(crate) fn from_json(text: &[u8]) -> Result<EncoderReading, FormatError> {
    let document = parse(text, MAX_CONFIG_BYTES)?;
    let object =
        document.as_object().ok_or_else(|| FormatError::new("JSON", "the document must be an object"))?;
    let fields = Fields { object, prefix: "" };
    let family = family(&fields)?;
    let unread = sort_out(&fields)?;
    let padding = fields.size("pad_token_id")?.unwrap_or(match family.first_position {
        FirstPosition::Zero => 0,
        FirstPosition::BehindPadding => 1,
    });
    let config = EncoderConfig {
        family,
        vocabulary_size: fields.required_size("vocab_size")?,
        positions: fields.required_size("max_position_embeddings")?,
        token_types: fields.size("type_vocab_size")?.unwrap_or(2),
        layers: fields.required_size("num_hidden_layers")?,
        hidden_size: fields.required_size("hidden_size")?,
        intermediate_size: fields.required_size("intermediate_size")?,
        heads: fields.required_size("num_attention_heads")?,
        epsilon: fields.number("layer_norm_eps")?.unwrap_or(1e-12) as f32,
        padding: u32::try_from(padding)
            .map_err(|_| fields.fault("pad_token_id", format!("{padding} is out of range")))?,
    };
    config.check().map_err(|problem| FormatError::new("configuration", problem))?;
    Ok(EncoderReading { config, unread })
}

fn family(fields: &Fields<'_>) -> Result<&'static EncoderFamily, FormatError> {
    let model_type = fields.text("model_type")?.ok_or_else(|| fields.missing("model_type"))?;
    let Some(family) = EncoderFamily::of_model_type(model_type) else {
        let names: Vec<&str> = ENCODER_FAMILIES.iter().map(|family| family.model_type).collect();
        let problem = format!(
            "{} is not an encoder that makes embeddings here; such are {}",
            quoted(model_type),
            names.join(", ")
        );
        return Err(fields.fault("model_type", problem));
    };
    // Heads for tokens are left aside, as by `AutoModel`; a classifier's encoder was trained for its head alone.
    let accepted =
        ["Model", "ForMaskedLM", "ForPreTraining"].map(|end| format!("{}{end}", family.class_stem));
    match fields.list("architectures")?.and_then(<[Value]>::first) {
        Some(found) if !accepted.iter().any(|class| found.as_str() == Some(class)) => Err(fields.fault(
            "architectures",
            format!("must be one of {}, found {}", accepted.join(", "), quoted(&found.to_string())),
        )),
        _ => Ok(family),
    }
}

fn sort_out(fields: &Fields<'_>) -> Result<Vec<String>, FormatError> {
    if fields.get("quantization_config").is_some() {
        return Err(fields.fault("quantization_config", "encoders with quantised weights are not supported"));
    }
    for (name, expected) in [("hidden_act", "gelu"), ("position_embedding_type", "absolute")] {
        if let Some(found) = fields.text(name)?
            && found != expected
        {
            return Err(fields.fault(name, format!("must be `{expected}`, found {}", quoted(found))));
        }
    }
    for name in REFUSED {
        if let Some(value) = fields.get(name)
            && ![json!(false), json!({}), json!([])].contains(value)
        {
            let problem = format!("the value {} is not supported", quoted(&value.to_string()));
            return Err(fields.fault(name, problem));
        }
    }
    Ok(fields.unread(&[&HONOURED, &WITHOUT_EFFECT, &REFUSED]))
}
