//! An encoder's weights, for whatever executor computes with them.

use zhenjin_tensor::{Matrix, ParameterId, TensorError, Vector};

use super::config::EncoderConfig;
use super::file::EncoderFile;
use crate::errors::ModelError;
use crate::tensor_source::TensorView;
use crate::weights::{Linear, WeightLoader};

/// All weights of an encoder.
#[derive(Debug)]
pub struct EncoderWeights<M = Matrix, V = Vector> {
    /// Token embedding, `[vocabulary_size, hidden_size]`.
    pub words: M,
    /// Position embedding, `[positions, hidden_size]`.
    pub positions: M,
    /// Token type embedding, `[token_types, hidden_size]`.
    pub token_types: M,
    /// Norm of the embeddings' sum.
    pub norm: Norm<V>,
    /// The layers, first to last.
    pub layers: Vec<EncoderLayer<M, V>>,
}

/// The weights of one layer.
#[derive(Debug)]
pub struct EncoderLayer<M = Matrix, V = Vector> {
    /// Query projection.
    pub query: Linear<M, V>,
    /// Key projection.
    pub key: Linear<M, V>,
    /// Value projection.
    pub value: Linear<M, V>,
    /// Output projection of attention.
    pub output: Linear<M, V>,
    /// Norm behind attention.
    pub attention_norm: Norm<V>,
    /// Up projection of the feed-forward network.
    pub up: Linear<M, V>,
    /// Down projection.
    pub down: Linear<M, V>,
    /// Norm behind the feed-forward network.
    pub feed_forward_norm: Norm<V>,
}

/// Scale and offset of a LayerNorm.
#[derive(Debug)]
pub struct Norm<V = Vector> {
    /// `[hidden_size]`.
    pub weight: V,
    /// `[hidden_size]`.
    pub bias: V,
}

impl<M, V> EncoderWeights<M, V> {
    /// Reads every weight from an opened file, one after the other, in the form that `loader` gives them.
    ///
    /// # Errors
    /// [`ModelError::Weight`] when the loader cannot make one, and what the file reports.
    pub fn load<L>(file: &EncoderFile, loader: &mut L) -> Result<EncoderWeights<M, V>, ModelError>
    where
        L: WeightLoader<Matrix = M, Vector = V>,
    {
        let EncoderConfig { layers, .. } = *file.config();
        let mut reading = Reading { file, loader, next: 0 };
        Ok(EncoderWeights {
            words: reading.matrix("embeddings.word_embeddings.weight")?,
            positions: reading.matrix("embeddings.position_embeddings.weight")?,
            token_types: reading.matrix("embeddings.token_type_embeddings.weight")?,
            norm: reading.norm("embeddings.LayerNorm")?,
            layers: (0..layers).map(|layer| reading.layer(layer)).collect::<Result<_, _>>()?,
        })
    }
}

struct Reading<'a, L> {
    file: &'a EncoderFile,
    loader: &'a mut L,
    next: u32,
}

impl<L: WeightLoader> Reading<'_, L> {
    fn layer(&mut self, layer: usize) -> Result<EncoderLayer<L::Matrix, L::Vector>, ModelError> {
        let name = |name: &str| format!("encoder.layer.{layer}.{name}");
        Ok(EncoderLayer {
            query: self.linear(&name("attention.self.query"))?,
            key: self.linear(&name("attention.self.key"))?,
            value: self.linear(&name("attention.self.value"))?,
            output: self.linear(&name("attention.output.dense"))?,
            attention_norm: self.norm(&name("attention.output.LayerNorm"))?,
            up: self.linear(&name("intermediate.dense"))?,
            down: self.linear(&name("output.dense"))?,
            feed_forward_norm: self.norm(&name("output.LayerNorm"))?,
        })
    }

    fn linear(&mut self, name: &str) -> Result<Linear<L::Matrix, L::Vector>, ModelError> {
        let matrix = self.matrix(&format!("{name}.weight"))?;
        Ok(Linear { matrix, bias: Some(self.vector(&format!("{name}.bias"))?) })
    }

    fn norm(&mut self, name: &str) -> Result<Norm<L::Vector>, ModelError> {
        Ok(Norm {
            weight: self.vector(&format!("{name}.weight"))?,
            bias: self.vector(&format!("{name}.bias"))?,
        })
    }

    fn matrix(&mut self, name: &str) -> Result<L::Matrix, ModelError> {
        self.read(name, L::matrix)
    }

    fn vector(&mut self, name: &str) -> Result<L::Vector, ModelError> {
        self.read(name, L::vector)
    }

    fn read<T>(
        &mut self,
        name: &str,
        make: impl FnOnce(&mut L, ParameterId, &TensorView<'_>) -> Result<T, TensorError>,
    ) -> Result<T, ModelError> {
        let view = self.file.tensor(name)?;
        let id = ParameterId(self.next);
        self.next += 1;
        let weight = make(self.loader, id, &view).map_err(|error| ModelError::Weight {
            file: self.file.path().to_owned(),
            tensor: view.name.clone(),
            error,
        })?;
        self.file.release(name);
        Ok(weight)
    }
}
