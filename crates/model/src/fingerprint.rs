//! Digests by which weights and adapters are told apart: SHA-256 over every value, so that two that differ anywhere differ here.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use sha2::{Digest, Sha256};
use zhenjin_tensor::{GateActivation, ThreadTeam};

use crate::config::{ModelConfig, Multipliers, NormPlacement, QueryKeyNorm, RopeScaling, SlidingWindow};
use crate::errors::ModelError;
use crate::names::Naming;
use crate::tensor_source::{TensorSource, TensorView, WeightName};

/// SHA-256 of a set of weights or of an adapter.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Fingerprint([u8; 32]);

impl Fingerprint {
    /// A digest that was computed elsewhere.
    pub fn from_bytes(bytes: [u8; 32]) -> Fingerprint {
        Fingerprint(bytes)
    }

    /// The digest of labelled parts. The lengths are hashed as well, so that parts cannot run into each other.
    pub fn of_parts<'a>(label: &str, parts: impl IntoIterator<Item = &'a [u8]>) -> Fingerprint {
        let mut hash = Hash::new(label);
        for part in parts {
            hash.add(part);
        }
        hash.finish()
    }

    /// The 32 bytes.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Display for Fingerprint {
    /// 64 hexadecimal digits.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(formatter, "{byte:02x}"))
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Fingerprint({self})")
    }
}

/// A digest that is being computed.
pub(crate) struct Hash(Sha256);

impl Hash {
    /// Of nothing but the label, which says what kind of thing is hashed.
    pub(crate) fn new(label: &str) -> Hash {
        let mut hash = Hash(Sha256::new());
        hash.add(label.as_bytes());
        hash
    }

    /// One more part, with its length before it.
    pub(crate) fn add(&mut self, part: &[u8]) {
        self.0.update((part.len() as u64).to_le_bytes());
        self.0.update(part);
    }

    /// One more part: little-endian f32 values.
    pub(crate) fn add_values(&mut self, values: &[f32]) {
        const AT_ONCE: usize = 1024;
        self.0.update((size_of_val(values) as u64).to_le_bytes());
        let mut bytes = [0; AT_ONCE * size_of::<f32>()];
        for values in values.chunks(AT_ONCE) {
            for (value, bytes) in values.iter().zip(bytes.as_chunks_mut::<4>().0) {
                *bytes = value.to_le_bytes();
            }
            self.0.update(&bytes[..size_of_val(values)]);
        }
    }

    pub(crate) fn finish(self) -> Fingerprint {
        Fingerprint(self.0.finalize().into())
    }
}

/// A source of weights that takes the digest of each weight as it is handed out, so that loading reads the files once. The
/// bytes are then in the processor's caches or at least in memory for whoever packs them.
pub(crate) struct FingerprintedSource<'a> {
    source: &'a dyn TensorSource,
    team: &'a ThreadTeam,
    digests: RefCell<BTreeMap<String, Fingerprint>>,
}

impl<'a> FingerprintedSource<'a> {
    pub(crate) fn new(source: &'a dyn TensorSource, team: &'a ThreadTeam) -> FingerprintedSource<'a> {
        FingerprintedSource { source, team, digests: RefCell::default() }
    }

    /// The digest of all weights of `config`, in the order of computation, as they were read: types, shapes and every byte; and of what is computed
    /// with them otherwise than in the first families.
    pub(crate) fn fingerprint(&self, config: &ModelConfig) -> Fingerprint {
        let digests = self.digests.borrow();
        let mut hash = Hash::new("zhenjin weights");
        for weight in config.weights() {
            let name = Naming::HuggingFace.spell(weight);
            if let Some(digest) = digests.get(&name) {
                hash.add(name.as_bytes());
                hash.add(digest.as_bytes());
            }
        }
        for form in forms(config) {
            hash.add(b"form");
            hash.add(form.as_bytes());
        }
        hash.finish()
    }

    /// Of pieces of a fixed size, which the team shares, and then of their digests.
    fn digest(&self, view: &TensorView<'_>) -> Fingerprint {
        const PIECE: usize = 1 << 18;
        let pieces: Vec<&[u8]> = view.bytes.chunks(PIECE).collect();
        let mut digests = vec![[0; 32]; pieces.len()];
        self.team.for_each_chunk(&mut digests, 1, |index, digest| {
            digest[0] = Sha256::digest(pieces[index]).into();
        });
        let mut hash = Hash::new("weight");
        hash.add(view.dtype.name().as_bytes());
        for size in &view.shape {
            hash.add(&(*size as u64).to_le_bytes());
        }
        for digest in &digests {
            hash.add(digest);
        }
        hash.finish()
    }
}

/// The switches of the forward pass by which the same weights give other numbers, as far as they differ from those of the first families, whose
/// digests stay what they were. Numbers are written out exactly.
fn forms(config: &ModelConfig) -> Vec<String> {
    let ModelConfig { norms, norms_less_one, qk_norm, activation, multipliers, windowed_rope, .. } = config;
    let has_other_windows = config.sliding_window.as_ref().is_some_and(|window| {
        let first = window.layers.first().copied().unwrap_or(0);
        *window != SlidingWindow::from_layer(window.positions, first, config.layers)
    });
    let is_long = matches!(config.rope.scaling, RopeScaling::LongRope { .. });
    let forms = [
        (*norms != NormPlacement::Before, format!("norms {norms:?}")),
        (*norms_less_one, "norms less one".to_owned()),
        (*qk_norm == QueryKeyNorm::Whole, format!("norms of queries and keys {qk_norm:?}")),
        (*activation != GateActivation::Silu, format!("activation {activation:?}")),
        (*multipliers != Multipliers::default(), format!("{multipliers:?}")),
        (windowed_rope.is_some(), format!("windowed {windowed_rope:?}")),
        (has_other_windows, format!("{:?}", config.sliding_window)),
        (is_long, format!("{:?}", config.rope.scaling)),
    ];
    forms.into_iter().filter_map(|(differs, form)| differs.then_some(form)).collect()
}

impl TensorSource for FingerprintedSource<'_> {
    fn origin(&self) -> PathBuf {
        self.source.origin()
    }

    fn contains(&self, name: WeightName) -> bool {
        self.source.contains(name)
    }

    fn tensor(&self, name: WeightName) -> Result<TensorView<'_>, ModelError> {
        let view = self.source.tensor(name)?;
        self.digests.borrow_mut().insert(Naming::HuggingFace.spell(name), self.digest(&view));
        Ok(view)
    }

    fn release(&self, name: WeightName) {
        self.source.release(name);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use zhenjin_tensor::{Dtype, SimdLevel};

    use super::*;
    use crate::config::RopeConfig;
    use crate::model::Model;
    use crate::testing::{RandomWeights, tiny_config};
    use crate::weights::LoadOptions;

    /// The same bytes are another model where something else is computed with them.
    #[test]
    fn every_switch_by_which_the_same_weights_give_other_numbers_changes_the_fingerprint() {
        let plain = ModelConfig { layers: 3, qk_norm: QueryKeyNorm::Heads, ..tiny_config() };
        let window = |layers: &[usize]| Some(SlidingWindow { positions: 8, layers: layers.to_vec() });
        let multiplied = |change: &dyn Fn(&mut Multipliers)| {
            let mut config = plain.clone();
            change(&mut config.multipliers);
            config
        };
        let other = |base| Some(RopeConfig { base, ..plain.rope.clone() });
        let windowed = |base| ModelConfig {
            sliding_window: window(&[0, 2]),
            windowed_rope: other(base),
            ..plain.clone()
        };
        let mut long = plain.clone();
        long.rope.scaling = RopeScaling::LongRope {
            factors: vec![1.5; 8],
            attention_factor: 1.1,
            original_context_length: 128,
            long_factors: vec![3.0; 8],
            long_context_length: 256,
        };
        let configs = [
            plain.clone(),
            ModelConfig { norms_less_one: true, ..plain.clone() },
            ModelConfig { activation: GateActivation::GeluTanh, ..plain.clone() },
            multiplied(&|factors| factors.embedding = 2.0),
            multiplied(&|factors| factors.residual = 2.0),
            multiplied(&|factors| factors.attention = Some(2.0)),
            multiplied(&|factors| factors.logits = 2.0),
            ModelConfig { sliding_window: window(&[0, 2]), ..plain.clone() },
            ModelConfig { sliding_window: window(&[1]), ..plain.clone() },
            windowed(300.0),
            windowed(301.0),
            long,
        ];
        let source = RandomWeights::new(plain.clone(), Dtype::F32, 3);
        let options = LoadOptions { simd: SimdLevel::detect(), team: Arc::new(ThreadTeam::new(1).unwrap()) };
        let fingerprint =
            |config: &ModelConfig| Model::from_source(config.clone(), &source, &options).unwrap().fingerprint;
        let mut found: Vec<Fingerprint> = configs.iter().map(fingerprint).collect();
        found.sort();
        found.dedup();
        assert_eq!(found.len(), configs.len());
    }

    /// Runs remember which model they began with.
    #[test]
    fn fingerprints_of_the_first_families_stay_what_they_were() {
        let window = Some(SlidingWindow::from_layer(8, 1, 2));
        let with_other_switches =
            ModelConfig { qk_norm: QueryKeyNorm::Heads, attention_bias: true, ..tiny_config() };
        for config in
            [tiny_config(), ModelConfig { sliding_window: window, ..tiny_config() }, with_other_switches]
        {
            assert_eq!(forms(&config), Vec::<String>::new());
        }
    }

    #[test]
    fn parts_cannot_run_into_each_other_and_values_are_their_bytes() {
        let of = |parts: &[&[u8]]| Fingerprint::of_parts("test", parts.iter().copied());
        assert_ne!(of(&[b"ab", b"c"]), of(&[b"a", b"bc"]));
        assert_ne!(of(&[b"ab"]), Fingerprint::of_parts("other", [b"ab".as_slice()]));
        let values: Vec<f32> = (0..3000).map(|index| index as f32 * 0.37).collect();
        let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        let mut hash = Hash::new("test");
        hash.add_values(&values);
        assert_eq!(hash.finish(), of(&[&bytes]));
        assert_eq!(of(&[b"ab"]).to_string().len(), 64);
    }
}
