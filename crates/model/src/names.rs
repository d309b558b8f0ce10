//! What the two file formats call each weight.

use crate::config::ModelConfig;
use crate::tensor_source::{LayerWeightName, WeightName};

/// How a file format spells names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Naming {
    /// `blk.0.attn_q.weight`
    Gguf,
    /// `model.layers.0.self_attn.q_proj.weight`
    HuggingFace,
    /// The same for families with norms behind attention and the feed-forward network (Gemma 3, OLMo 2), whose
    /// `post_attention_layernorm` is the norm behind attention: elsewhere that is the one before the feed-forward network.
    HuggingFaceNormsAfter,
}

/// The weights outside the layers: ours, GGUF's, Hugging Face's.
const MODEL_NAMES: [(WeightName, &str, &str); 3] = [
    (WeightName::Embedding, "token_embd.weight", "model.embed_tokens.weight"),
    (WeightName::FinalNorm, "output_norm.weight", "model.norm.weight"),
    (WeightName::Head, "output.weight", "lm_head.weight"),
];

/// The weights of a layer, after the layer's prefix: ours, GGUF's, Hugging Face's.
const LAYER_NAMES: [(LayerWeightName, &str, &str); 21] = [
    (LayerWeightName::AttentionNorm, "attn_norm.weight", "input_layernorm.weight"),
    (LayerWeightName::Query, "attn_q.weight", "self_attn.q_proj.weight"),
    (LayerWeightName::QueryBias, "attn_q.bias", "self_attn.q_proj.bias"),
    (LayerWeightName::Key, "attn_k.weight", "self_attn.k_proj.weight"),
    (LayerWeightName::KeyBias, "attn_k.bias", "self_attn.k_proj.bias"),
    (LayerWeightName::Value, "attn_v.weight", "self_attn.v_proj.weight"),
    (LayerWeightName::ValueBias, "attn_v.bias", "self_attn.v_proj.bias"),
    (LayerWeightName::QueryNorm, "attn_q_norm.weight", "self_attn.q_norm.weight"),
    (LayerWeightName::KeyNorm, "attn_k_norm.weight", "self_attn.k_norm.weight"),
    (LayerWeightName::Output, "attn_output.weight", "self_attn.o_proj.weight"),
    (LayerWeightName::OutputBias, "attn_output.bias", "self_attn.o_proj.bias"),
    (LayerWeightName::AttentionOutputNorm, "post_attention_norm.weight", "post_self_attn_layernorm.weight"),
    (LayerWeightName::FeedForwardNorm, "ffn_norm.weight", "post_attention_layernorm.weight"),
    (LayerWeightName::Gate, "ffn_gate.weight", "mlp.gate_proj.weight"),
    (LayerWeightName::GateBias, "ffn_gate.bias", "mlp.gate_proj.bias"),
    (LayerWeightName::Up, "ffn_up.weight", "mlp.up_proj.weight"),
    (LayerWeightName::UpBias, "ffn_up.bias", "mlp.up_proj.bias"),
    (LayerWeightName::Down, "ffn_down.weight", "mlp.down_proj.weight"),
    (LayerWeightName::DownBias, "ffn_down.bias", "mlp.down_proj.bias"),
    (LayerWeightName::Router, "ffn_gate_inp.weight", "mlp.gate.weight"),
    (LayerWeightName::FeedForwardOutputNorm, "post_ffw_norm.weight", "post_mlp_layernorm.weight"),
];

/// What [`Naming::HuggingFaceNormsAfter`] calls otherwise than [`Naming::HuggingFace`].
const NORMS_AFTER: [(LayerWeightName, &str); 3] = [
    (LayerWeightName::AttentionOutputNorm, "post_attention_layernorm.weight"),
    (LayerWeightName::FeedForwardNorm, "pre_feedforward_layernorm.weight"),
    (LayerWeightName::FeedForwardOutputNorm, "post_feedforward_layernorm.weight"),
];

/// Makes the name of one expert's weight.
type OfExpert = fn(u16) -> LayerWeightName;

/// The weights of one expert: what makes the name of its number, GGUF's tensor in which those of all experts lie one
/// after the other, and Hugging Face's ending.
const EXPERT_NAMES: [(OfExpert, &str, &str); 3] = [
    (LayerWeightName::ExpertGate, "ffn_gate_exps.weight", "gate_proj.weight"),
    (LayerWeightName::ExpertUp, "ffn_up_exps.weight", "up_proj.weight"),
    (LayerWeightName::ExpertDown, "ffn_down_exps.weight", "down_proj.weight"),
];

/// The tensors in which newer folders have the weights of all experts of a layer: `[experts, 2 · width, inputs]`, where an expert's gate
/// projection stands before its up projection, and `[experts, outputs, width]`.
const GATE_AND_UP_OF_ALL: &str = "mlp.experts.gate_up_proj";
const DOWN_OF_ALL: &str = "mlp.experts.down_proj";

/// The tensors of fused families after the layer's prefix, GGUF's name and Hugging Face's: the rows of the q projection, then those of
/// k and v; the rows of the gate projection, then those of the up projection.
const QUERY_KEY_VALUE: (&str, &str) = ("attn_qkv.weight", "self_attn.qkv_proj.weight");
const GATE_AND_UP: (&str, &str) = ("ffn_up.weight", "mlp.gate_up_proj.weight");

impl LayerWeightName {
    /// The expert to which the weight belongs.
    pub fn expert(self) -> Option<u16> {
        match self {
            LayerWeightName::ExpertGate(expert)
            | LayerWeightName::ExpertUp(expert)
            | LayerWeightName::ExpertDown(expert) => Some(expert),
            _ => None,
        }
    }
}

impl Naming {
    /// The naming of a Hugging Face folder of a model with this configuration.
    pub fn of_folder(config: &ModelConfig) -> Naming {
        if config.norms.after() { Naming::HuggingFaceNormsAfter } else { Naming::HuggingFace }
    }

    /// What the format calls `weight`, in a tensor of its own. The tensors of fused families: [`Naming::spell_stacked`].
    pub fn spell(self, weight: WeightName) -> String {
        match weight {
            WeightName::Layer(layer, weight) if weight.expert().is_some() => {
                format!("{}{layer}.{}", self.layer_prefix(), self.spell_expert(weight))
            }
            WeightName::Layer(layer, weight) => {
                let found = LAYER_NAMES.iter().find(|(known, ..)| *known == weight);
                let suffix = found.map_or("", |entry| self.suffix(entry));
                format!("{}{layer}.{suffix}", self.layer_prefix())
            }
            weight => MODEL_NAMES
                .iter()
                .find(|(known, ..)| *known == weight)
                .map_or_else(String::new, |(_, gguf, hugging_face)| self.pick(gguf, hugging_face).to_owned()),
        }
    }

    /// The weight that the format calls `name`, if it is one of ours; of a file that is not fused.
    pub fn read(self, name: &str) -> Option<WeightName> {
        if let Some((weight, ..)) =
            MODEL_NAMES.iter().find(|(_, gguf, hugging_face)| self.pick(gguf, hugging_face) == name)
        {
            return Some(*weight);
        }
        let (layer, suffix) = name.strip_prefix(self.layer_prefix())?.split_once('.')?;
        let layer = layer.parse().ok()?;
        if let Some(weight) = self.read_expert(suffix) {
            return Some(WeightName::Layer(layer, weight));
        }
        let (weight, ..) = LAYER_NAMES.iter().find(|entry| self.suffix(entry) == suffix)?;
        Some(WeightName::Layer(layer, *weight))
    }

    /// What the format calls the tensor that holds a weight together with others: in a file of a fused family that with the q, k and v or
    /// the gate and up projections; else that with the weights of all experts of a layer, where a file may have that instead of one for
    /// each expert.
    pub(crate) fn spell_stacked(self, weight: WeightName, fused: bool) -> Option<String> {
        use LayerWeightName as W;
        let WeightName::Layer(layer, weight) = weight else { return None };
        let (gguf, hugging_face) = match weight {
            W::Query | W::Key | W::Value if fused => QUERY_KEY_VALUE,
            W::Gate | W::Up if fused => GATE_AND_UP,
            W::ExpertGate(_) | W::ExpertUp(_) if self != Naming::Gguf => ("", GATE_AND_UP_OF_ALL),
            W::ExpertDown(_) if self != Naming::Gguf => ("", DOWN_OF_ALL),
            _ => return None,
        };
        Some(format!("{}{layer}.{}", self.layer_prefix(), self.pick(gguf, hugging_face)))
    }

    /// The first weight in a tensor that [`Naming::spell_stacked`] names.
    pub(crate) fn read_stacked(self, name: &str, fused: bool) -> Option<WeightName> {
        let (layer, suffix) = name.strip_prefix(self.layer_prefix())?.split_once('.')?;
        let is = |(gguf, hugging_face): (&'static str, &'static str)| self.pick(gguf, hugging_face) == suffix;
        let weight = if fused && is(QUERY_KEY_VALUE) {
            LayerWeightName::Query
        } else if fused && is(GATE_AND_UP) {
            LayerWeightName::Gate
        } else if self != Naming::Gguf && suffix == GATE_AND_UP_OF_ALL {
            LayerWeightName::ExpertGate(0)
        } else if self != Naming::Gguf && suffix == DOWN_OF_ALL {
            LayerWeightName::ExpertDown(0)
        } else {
            return None;
        };
        Some(WeightName::Layer(layer.parse().ok()?, weight))
    }

    /// What follows the layer's number in the name of an expert's weight.
    fn spell_expert(self, weight: LayerWeightName) -> String {
        let expert = weight.expert().unwrap_or(0);
        let found = EXPERT_NAMES.iter().find(|(make, ..)| make(expert) == weight);
        found.map_or_else(String::new, |(_, gguf, hugging_face)| match self {
            Naming::Gguf => (*gguf).to_owned(),
            Naming::HuggingFace | Naming::HuggingFaceNormsAfter => {
                format!("mlp.experts.{expert}.{hugging_face}")
            }
        })
    }

    /// The expert's weight of that name; in a GGUF file, where one tensor holds those of all, the first expert's.
    fn read_expert(self, suffix: &str) -> Option<LayerWeightName> {
        let (expert, ending) = match self {
            Naming::Gguf => (0, suffix),
            Naming::HuggingFace | Naming::HuggingFaceNormsAfter => {
                let (expert, ending) = suffix.strip_prefix("mlp.experts.")?.split_once('.')?;
                (expert.parse().ok()?, ending)
            }
        };
        let found =
            EXPERT_NAMES.iter().find(|(_, gguf, hugging_face)| self.pick(gguf, hugging_face) == ending);
        found.map(|(make, ..)| make(expert))
    }

    /// What follows the layer's number in the name of a weight of [`LAYER_NAMES`].
    fn suffix(self, entry: &(LayerWeightName, &'static str, &'static str)) -> &'static str {
        let (weight, gguf, hugging_face) = *entry;
        let other = NORMS_AFTER.iter().find(|(norm, _)| *norm == weight);
        match (self, other) {
            (Naming::HuggingFaceNormsAfter, Some((_, name))) => name,
            _ => self.pick(gguf, hugging_face),
        }
    }

    fn layer_prefix(self) -> &'static str {
        self.pick("blk.", "model.layers.")
    }

    fn pick(self, gguf: &'static str, hugging_face: &'static str) -> &'static str {
        match self {
            Naming::Gguf => gguf,
            Naming::HuggingFace | Naming::HuggingFaceNormsAfter => hugging_face,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{LAYER_NAMES, MODEL_NAMES, Naming};
    use crate::config::{ModelConfig, NormPlacement};
    use crate::tensor_source::{LayerWeightName, WeightName};
    use crate::testing::tiny_config;

    #[test]
    fn every_name_is_read_as_it_is_spelled() {
        let layer_weights = LAYER_NAMES.iter().map(|(weight, ..)| WeightName::Layer(17, *weight));
        for weight in MODEL_NAMES.iter().map(|(weight, ..)| *weight).chain(layer_weights) {
            for naming in [Naming::Gguf, Naming::HuggingFace, Naming::HuggingFaceNormsAfter] {
                assert_eq!(naming.read(&naming.spell(weight)), Some(weight));
            }
        }
    }

    #[test]
    fn folders_with_norms_behind_attention_give_a_name_another_meaning() {
        let before = tiny_config();
        let after = ModelConfig { norms: NormPlacement::After, ..tiny_config() };
        let both = ModelConfig { norms: NormPlacement::BeforeAndAfter, ..tiny_config() };
        let name = "model.layers.3.post_attention_layernorm.weight";
        for (config, weight) in [
            (before, LayerWeightName::FeedForwardNorm),
            (after, LayerWeightName::AttentionOutputNorm),
            (both, LayerWeightName::AttentionOutputNorm),
        ] {
            let weight = WeightName::Layer(3, weight);
            assert_eq!(Naming::of_folder(&config).read(name), Some(weight));
            assert_eq!(Naming::of_folder(&config).spell(weight), name);
        }
        for (weight, gguf, folder) in [
            (LayerWeightName::AttentionNorm, "attn_norm", "input_layernorm"),
            (LayerWeightName::AttentionOutputNorm, "post_attention_norm", "post_attention_layernorm"),
            (LayerWeightName::FeedForwardNorm, "ffn_norm", "pre_feedforward_layernorm"),
            (LayerWeightName::FeedForwardOutputNorm, "post_ffw_norm", "post_feedforward_layernorm"),
        ] {
            let weight = WeightName::Layer(0, weight);
            assert_eq!(Naming::Gguf.spell(weight), format!("blk.0.{gguf}.weight"));
            let folder = format!("model.layers.0.{folder}.weight");
            assert_eq!(Naming::HuggingFaceNormsAfter.spell(weight), folder);
        }
    }

    #[test]
    fn fused_projections_have_a_common_tensor() {
        use LayerWeightName as W;
        for (weights, gguf, folder) in [
            (&[W::Query, W::Key, W::Value][..], "attn_qkv.weight", "self_attn.qkv_proj.weight"),
            (&[W::Gate, W::Up][..], "ffn_up.weight", "mlp.gate_up_proj.weight"),
        ] {
            for (naming, name) in [
                (Naming::Gguf, format!("blk.3.{gguf}")),
                (Naming::HuggingFace, format!("model.layers.3.{folder}")),
            ] {
                for weight in weights {
                    let weight = WeightName::Layer(3, *weight);
                    assert_eq!(naming.spell_stacked(weight, true).as_ref(), Some(&name));
                    assert_eq!(naming.spell_stacked(weight, false), None);
                }
                let first = WeightName::Layer(3, weights[0]);
                assert_eq!(naming.read_stacked(&name, true), Some(first));
                assert_eq!(naming.read_stacked(&name, false), None);
            }
        }
        let down = WeightName::Layer(3, W::Down);
        assert_eq!(Naming::Gguf.spell_stacked(down, true), None);
    }

    #[test]
    fn experts_have_numbers_in_one_format_and_a_common_tensor_in_the_other() {
        let weight = WeightName::Layer(3, LayerWeightName::ExpertUp(11));
        assert_eq!(Naming::HuggingFace.spell(weight), "model.layers.3.mlp.experts.11.up_proj.weight");
        assert_eq!(Naming::HuggingFace.read("model.layers.3.mlp.experts.11.up_proj.weight"), Some(weight));
        assert_eq!(Naming::Gguf.spell(weight), "blk.3.ffn_up_exps.weight");
        let first = WeightName::Layer(3, LayerWeightName::ExpertUp(0));
        assert_eq!(Naming::Gguf.read("blk.3.ffn_up_exps.weight"), Some(first));
        assert_eq!(Naming::HuggingFace.read("model.layers.3.mlp.experts.x.up_proj.weight"), None);
    }

    #[test]
    fn newer_folders_have_the_experts_of_a_layer_in_two_tensors() {
        for (weight, name) in [
            (LayerWeightName::ExpertGate(0), "model.layers.3.mlp.experts.gate_up_proj"),
            (LayerWeightName::ExpertDown(0), "model.layers.3.mlp.experts.down_proj"),
        ] {
            let weight = WeightName::Layer(3, weight);
            assert_eq!(Naming::HuggingFace.spell_stacked(weight, false).as_deref(), Some(name));
            assert_eq!(Naming::HuggingFace.read_stacked(name, false), Some(weight));
            assert_eq!(Naming::HuggingFace.read(name), None);
        }
        let up = WeightName::Layer(3, LayerWeightName::ExpertUp(11));
        let name = Naming::HuggingFace.spell_stacked(up, false);
        assert_eq!(name.as_deref(), Some("model.layers.3.mlp.experts.gate_up_proj"));
        assert_eq!(Naming::Gguf.spell_stacked(up, false), None);
        assert_eq!(Naming::HuggingFace.spell_stacked(WeightName::Head, false), None);
    }

    #[test]
    fn spells_as_the_formats_do() {
        let query = WeightName::Layer(3, LayerWeightName::Query);
        assert_eq!(Naming::Gguf.spell(query), "blk.3.attn_q.weight");
        assert_eq!(Naming::HuggingFace.spell(query), "model.layers.3.self_attn.q_proj.weight");
        assert_eq!(Naming::Gguf.read("blk.x.attn_q.weight"), None);
        assert_eq!(Naming::Gguf.read("blk.3.attn_qkv.weight"), None);
    }
}
