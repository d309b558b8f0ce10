//! Digests by which weights and adapters are told apart: SHA-256 over every value, so that two that differ anywhere differ here.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use sha2::{Digest, Sha256};
use zhenjin_tensor::ThreadTeam;

use crate::config::ModelConfig;
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

    /// The digest of all weights of `config`, in the order of computation, as they were read: types, shapes and every byte.
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
    use super::*;

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
