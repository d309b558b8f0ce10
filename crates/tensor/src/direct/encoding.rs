//! The operations of encoders.

use super::DirectExecutor;
use super::workspace::Activations;
use crate::attention::AttentionShape;
use crate::error::expect;
use crate::ops::gelu::Gelu;
use crate::ops::layer_norm::LayerNorm;
use crate::{DocumentRows, EncoderExecutor, Executor, Matrix, Projection, TensorError, Vector};

impl EncoderExecutor for DirectExecutor {
    fn begin_encoding(&mut self, lengths: &[usize]) -> Result<(), TensorError> {
        self.is_packed = true;
        // Should this fail, what is computed next is not to be taken for rows of the former batch.
        self.packed.clear();
        self.packed.set(&DocumentRows::separate(lengths)?, true, self.team.threads())
    }

    fn layer_norm(
        &mut self,
        input: &Activations,
        weight: &Vector,
        bias: &Vector,
        epsilon: f32,
    ) -> Result<Activations, TensorError> {
        expect("layer_norm: weight", input.width(), weight.len())?;
        expect("layer_norm: bias", input.width(), bias.len())?;
        let mut out = self.workspace.take(input.rows(), input.width())?;
        self.for_rows(&mut out, |rows, out| {
            self.run(LayerNorm { rows: input.rows_values(rows), weight, bias, epsilon, out });
        });
        Ok(out)
    }

    fn project<const N: usize>(
        &mut self,
        input: &Activations,
        projections: [Projection<'_, Matrix, Vector>; N],
    ) -> Result<[Activations; N], TensorError> {
        self.linear_of(input, &projections)
    }

    fn gelu(&mut self, mut input: Activations) -> Result<Activations, TensorError> {
        self.for_rows(&mut input, |_, values| self.run(Gelu { values }));
        Ok(input)
    }

    fn attention_to_all(
        &mut self,
        shape: AttentionShape,
        queries: Activations,
        keys: Activations,
        values: Activations,
    ) -> Result<Activations, TensorError> {
        self.attention(0, shape, None, queries, keys, values)
    }
}
