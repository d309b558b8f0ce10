//! What only some families say in the metadata of a GGUF file: windows, and Granite's factors.

use super::{OLMO_3, Settings};
use crate::config::layers_from_json::all_but_last_of_every;
use crate::config::{Multipliers, NormPlacement, RopeConfig, RopeScaling, SlidingWindow, multipliers};
use crate::errors::FormatError;
use crate::families::{FAMILIES, Family, WindowRule};
use crate::gguf::Value;

impl<B: AsRef<[u8]>> Settings<'_, B> {
    /// RoPE of the layers with a window, where the family has another for them; it is not scaled.
    pub(super) fn windowed_rope(
        &self,
        family: &Family,
        rope: &RopeConfig,
    ) -> Result<Option<RopeConfig>, FormatError> {
        const NAME: &str = "rope.freq_base_swa";
        let base = self.float(NAME)?;
        match (family.windowed_rope_base, base) {
            (None, Some(base)) if base != rope.base => Err(FormatError::new(
                format!("metadata `{}`", self.key(NAME)),
                format!(
                    "must be that of the other layers for models of this family, {}, found {base}",
                    rope.base
                ),
            )),
            (None, _) => Ok(None),
            (Some(default), base) => Ok(Some(RopeConfig {
                base: base.unwrap_or(f64::from(default)),
                scaling: RopeScaling::None,
                ..rope.clone()
            })),
        }
    }

    /// A window in all layers, or in those that the family's rule says.
    pub(super) fn window(
        &self,
        family: &Family,
        layers: usize,
    ) -> Result<Option<SlidingWindow>, FormatError> {
        const NAME: &str = "attention.sliding_window";
        let Some(positions) = self.optional(NAME)?.filter(|positions| *positions > 0) else {
            return Ok(None);
        };
        // Mistral's files say that they are Llama's.
        let mut rules = FAMILIES
            .iter()
            .filter(|other| other.gguf_architecture == family.gguf_architecture)
            .map(|other| other.window);
        let rule = rules.find(|rule| *rule != WindowRule::Never).unwrap_or(WindowRule::Never);
        let in_layers = match rule {
            WindowRule::Never | WindowRule::UnrotatedLayers => {
                let problem = match family.norms {
                    NormPlacement::After => OLMO_3.to_owned(),
                    _ => {
                        format!(
                            "a sliding window is not supported for models of this family, found {positions}"
                        )
                    }
                };
                return Err(FormatError::new(format!("metadata `{}`", self.key(NAME)), problem));
            }
            WindowRule::AllLayers { .. } | WindowRule::LaterLayers => {
                return Ok(Some(SlidingWindow::from_layer(positions, 0, layers)));
            }
            WindowRule::AllButLastOfEvery { interval, .. } => self.layers_with_window(interval, layers)?,
        };
        Ok(Some(SlidingWindow { positions, layers: in_layers }).filter(|window| !window.layers.is_empty()))
    }

    /// All layers but the last of every `interval`, or of every so many as the file says, which may also have a bool for each layer.
    fn layers_with_window(&self, interval: usize, layers: usize) -> Result<Vec<usize>, FormatError> {
        const NAME: &str = "attention.sliding_window_pattern";
        let key = self.key(NAME);
        let fault = |problem: String| Err(FormatError::new(format!("metadata `{key}`"), problem));
        let Some(Value::Array(list)) = self.file.get(&key) else {
            return match self.optional(NAME)?.unwrap_or(interval) {
                0 => fault("must be at least 1, found 0".to_owned()),
                interval => Ok(all_but_last_of_every(interval, layers)),
            };
        };
        if list.count != layers {
            return fault(format!("has {} values for {layers} layers", list.count));
        }
        let mut in_layers = Vec::new();
        for (layer, value) in list.iter().enumerate() {
            match value {
                Value::Bool(true) => in_layers.push(layer),
                Value::Bool(false) => {}
                other => return fault(format!("must be a list of bools, found {}", other.kind())),
            }
        }
        Ok(in_layers)
    }

    /// llama.cpp's rule for `granite`: a factor of 0 is none.
    pub(super) fn granite(&self, head_dim: usize) -> Result<Multipliers, FormatError> {
        const ROTATES: &str = "rope.scaling.finetuned";
        if self.file.bool(&self.key(ROTATES))? == Some(false) {
            return Err(FormatError::new(
                format!("metadata `{}`", self.key(ROTATES)),
                "models of this family without rotary embedding, which false stands for, are not supported",
            ));
        }
        let unless_zero = |name: &str| self.float(name).map(|factor| factor.filter(|factor| *factor != 0.0));
        Ok(multipliers::granite(
            unless_zero("embedding_scale")?.unwrap_or(1.0),
            unless_zero("residual_scale")?.unwrap_or(1.0),
            unless_zero("attention.scale")?,
            self.float("logit_scale")?.unwrap_or(1.0),
            head_dim,
        ))
    }
}
