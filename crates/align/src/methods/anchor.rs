//! Text that a run leaves as probable as it was: what is learned from examples should not change everything else.

use std::ops::Range;

use sha2::{Digest, Sha256};
use zhenjin_tensor::{ScoreGradient, TokenScore};
use zhenjin_tokenizer::EncodedDialogue;

use crate::configuration::AnchorSection;
use crate::error::AlignError;
use crate::faults::FaultyDocument;
use crate::measures::Measures;
use crate::packed::{Packed, groups};
use crate::trainee::Trainee;

/// Adds weight × mean over the text's tokens of ½ (log π − log π_ref)² to the loss of every step: the estimator k2 of the divergence from
/// the reference (Schulman 2020, "Approximating KL divergence"), on given text instead of sampled one. Each step takes the next piece.
#[derive(Debug)]
pub struct Anchor {
    pieces: Vec<Packed>,
    weight: f64,
    /// Of each piece, log π_ref of its rows; computed once.
    reference: Vec<Vec<f64>>,
}

impl Anchor {
    /// These texts, in tokens. Each must fit into the model's context.
    ///
    /// # Errors
    /// [`AlignError::Input`] when no text has two tokens.
    pub fn new(texts: &[Vec<u32>], section: &AnchorSection) -> Result<Anchor, AlignError> {
        let texts: Vec<&Vec<u32>> = texts.iter().filter(|text| text.len() > 1).collect();
        if texts.is_empty() {
            return Err(AlignError::Input("the anchor has no text".to_owned()));
        }
        let sizes: Vec<usize> = texts.iter().map(|text| text.len() - 1).collect();
        let piece = |range: std::ops::Range<usize>| {
            let mut packed = Packed::default();
            for text in &texts[range] {
                let assistant_mask = vec![true; text.len()];
                packed.push(&EncodedDialogue { ids: (*text).clone(), assistant_mask });
            }
            packed
        };
        let pieces = groups(&sizes, section.tokens).into_iter().map(piece).collect();
        Ok(Anchor { pieces, weight: section.weight, reference: Vec::new() })
    }

    /// The most rows that a piece computes.
    pub fn most_rows(&self) -> usize {
        self.pieces.iter().map(rows_of).max().unwrap_or(0)
    }

    /// The SHA-256 of its tokens, in hexadecimal digits.
    pub(super) fn fingerprint(&self) -> String {
        let mut hash = Sha256::new();
        for piece in &self.pieces {
            hash.update((piece.lengths.len() as u64).to_le_bytes());
            piece.lengths.iter().for_each(|length| hash.update((*length as u64).to_le_bytes()));
            piece.tokens.iter().for_each(|token| hash.update(token.to_le_bytes()));
        }
        hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
    }

    pub(super) fn prepare(&mut self, trainee: &mut Trainee) -> Result<(), AlignError> {
        self.reference.clear();
        for piece in &self.pieces {
            let scores = trainee.reference_scores(piece)?;
            self.reference.push(scores.iter().map(|score| f64::from(score.log_probability)).collect());
        }
        Ok(())
    }

    /// The numbers of [`Anchor::prepare`], to be kept beside the run.
    pub(super) fn prepared(&self) -> Vec<f64> {
        self.reference.concat()
    }

    /// Takes over such numbers; false if they are of another text.
    pub(super) fn restore(&mut self, prepared: &[f64]) -> bool {
        let sizes = self.pieces.iter().map(|piece| piece.tokens.len());
        if sizes.clone().sum::<usize>() != prepared.len() {
            return false;
        }
        let mut rest = prepared;
        let mut take = |size: usize| {
            let (first, others) = rest.split_at(size);
            rest = others;
            first.to_vec()
        };
        self.reference = sizes.map(&mut take).collect();
        true
    }

    /// Tokens of the piece of a step.
    pub(super) fn tokens(&self, step: u64) -> usize {
        self.pieces[self.index(step)].tokens.len()
    }

    /// Rows that the piece of a step computes.
    pub(super) fn rows(&self, step: u64) -> usize {
        rows_of(&self.pieces[self.index(step)])
    }

    /// The step among these whose piece computes the most rows, and how many.
    pub(super) fn largest(&self, steps: Range<u64>) -> Option<(u64, usize)> {
        // Then all come again.
        let of_all_pieces = steps.take(self.pieces.len());
        of_all_pieces.map(|step| (step, self.rows(step))).max_by_key(|(_, rows)| *rows)
    }

    /// Computes the piece of a step as [`Anchor::learn`] does. Its gradients are of nothing.
    pub(super) fn rehearse(&self, trainee: &mut Trainee, step: u64) -> Result<(), AlignError> {
        let slope = |_: usize, _: TokenScore| ScoreGradient { log_probability: -1.0, log_sum_exp: 0.0 };
        trainee.accumulate_rows(&self.pieces[self.index(step)], &slope)?;
        Ok(())
    }

    /// The texts of a step's piece, numbered within it, as they are kept where the step's numbers are not finite.
    pub(super) fn documents(&self, step: u64) -> Vec<FaultyDocument> {
        let piece = &self.pieces[self.index(step)];
        let numbers: Vec<usize> = (0..piece.lengths.len()).collect();
        FaultyDocument::of(&numbers, piece)
    }

    fn index(&self, step: u64) -> usize {
        (step % self.pieces.len() as u64) as usize
    }

    /// Adds the derivatives of a step's piece.
    pub(super) fn learn(
        &self,
        trainee: &mut Trainee,
        step: u64,
        measures: &mut Measures,
    ) -> Result<(), AlignError> {
        let (piece, reference) = (&self.pieces[self.index(step)], &self.reference[self.index(step)]);
        let count = piece.target_count().max(1) as f64;
        let change = |row: usize, score: TokenScore| f64::from(score.log_probability) - reference[row];
        let slope = |row: usize, score: TokenScore| ScoreGradient {
            log_probability: (self.weight * change(row, score) / count) as f32,
            ..ScoreGradient::default()
        };
        let scores = trainee.accumulate_rows(piece, &slope)?;
        let squares = scores.iter().enumerate().map(|(row, score)| change(row, *score).powi(2));
        measures.add("anchor", squares.sum::<f64>() / (2.0 * count));
        Ok(())
    }
}

/// What texts begin with in common is computed once.
fn rows_of(piece: &Packed) -> usize {
    piece.batch().different_rows()
}
