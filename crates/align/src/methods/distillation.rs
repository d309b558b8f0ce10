//! Distillation: the model's distribution of each learnt token comes near to a teacher's, on answers that are given or that the model
//! itself writes.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ops::Range;
use std::rc::Rc;

use zhenjin_model::TargetLogits;
use zhenjin_random::SplitMix64;
use zhenjin_tensor::{LogitLoss, SimdLevel, TensorError};
use zhenjin_tokenizer::EncodedDialogue;

use super::examples::{Examples, prompt_of};
use crate::error::AlignError;
use crate::losses::distillation::{DistillationLoss, DistilledToken};
use crate::measures::Measures;
use crate::packed::Packed;
use crate::rollouts::{Job, Rollouts};
use crate::teacher::Teacher;
use crate::trainee::Trainee;

/// A teacher that examples to learn from and examples to measure on have in common.
pub type SharedTeacher = Rc<RefCell<Teacher>>;

/// How the model's own answers take the place of given ones.
#[derive(Debug)]
pub struct OwnAnswers {
    /// Writes them.
    pub rollouts: Rollouts,
    /// Tokens of a prompt with its answer, at most.
    pub context: usize,
    /// The share of examples that are answered anew each time they come.
    pub share: f64,
    /// Of the choice of examples and of sampling.
    pub seed: u64,
}

/// Dialogues whose marked tokens are learnt from a teacher: the loss is the mean over all marked tokens of a step.
#[derive(Debug)]
pub struct Distillation {
    dialogues: Vec<EncodedDialogue>,
    teacher: SharedTeacher,
    loss: DistillationLoss,
    simd: SimdLevel,
    own: Option<OwnAnswers>,
    /// The step's examples whose answers the model wrote itself.
    written: BTreeMap<usize, EncodedDialogue>,
}

impl Distillation {
    /// These dialogues. With `own`, some are answered by the model itself (Agarwal et al. 2023, arXiv 2306.13649, algorithm 1, by example
    /// instead of by step); such an answer is one to what stands before the first learnt token.
    ///
    /// # Errors
    /// [`AlignError::Input`] for a prompt that leaves no room for the model's own answer.
    pub fn new(
        dialogues: Vec<EncodedDialogue>,
        teacher: SharedTeacher,
        loss: DistillationLoss,
        simd: SimdLevel,
        own: Option<OwnAnswers>,
    ) -> Result<Distillation, AlignError> {
        if let Some(own) = &own {
            let room = own.context.saturating_sub(own.rollouts.max_tokens());
            let too_long = |dialogue: &EncodedDialogue| prompt_of(dialogue).len() > room;
            if let Some(number) = dialogues.iter().position(too_long) {
                return Err(AlignError::Input(format!(
                    "the prompt of example {} leaves no room for the model's own answer: with rollout.max_tokens = {} a prompt has at \
                     most {room} tokens in a context of {}",
                    number + 1,
                    own.rollouts.max_tokens(),
                    own.context
                )));
            }
        }
        Ok(Distillation { dialogues, teacher, loss, simd, own, written: BTreeMap::new() })
    }

    fn dialogue(&self, example: usize) -> &EncodedDialogue {
        self.written.get(&example).unwrap_or(&self.dialogues[example])
    }

    /// Lets the model answer the step's chosen examples. What is chosen and what is sampled are functions of the seed, the number of updates
    /// and the example.
    fn write(&mut self, trainee: &Trainee, examples: &[usize]) -> Result<(), AlignError> {
        self.written.clear();
        let Some(own) = &mut self.own else { return Ok(()) };
        let mut jobs = BTreeMap::new();
        for example in examples {
            let place = trainee.updates().wrapping_mul(1 << 32).wrapping_add(*example as u64);
            let mut numbers = SplitMix64::of(own.seed, "own answers", place);
            let is_chosen = (numbers.next_u64() >> 11) as f64 / (1u64 << 53) as f64 >= 1.0 - own.share;
            let prompt = prompt_of(&self.dialogues[*example]);
            if is_chosen && !prompt.is_empty() {
                jobs.insert(*example, Job { prompt, seed: numbers.next_u64() });
            }
        }
        let of_step: Vec<Job<'_>> = jobs.values().copied().collect();
        let answers = own.rollouts.write(trainee.model(), trainee.adapter(), &of_step)?;
        // Full training changes the weights that the engine holds.
        if trainee.adapter().is_none() {
            own.rollouts.stop();
        }
        for ((example, job), answer) in jobs.into_iter().zip(answers) {
            let ids = [job.prompt, &answer.tokens[..]].concat();
            let assistant_mask = (0..ids.len()).map(|place| place >= job.prompt.len()).collect();
            self.written.insert(example, EncodedDialogue { ids, assistant_mask });
        }
        Ok(())
    }
}

impl Examples for Distillation {
    fn count(&self) -> usize {
        self.dialogues.len()
    }

    fn rows(&self, example: usize) -> usize {
        self.dialogue(example).ids.len().saturating_sub(1)
    }

    fn packed(&self, examples: &[usize]) -> Packed {
        let mut packed = Packed::default();
        examples.iter().for_each(|example| packed.push(self.dialogue(*example)));
        packed
    }

    fn other_flops_per_row(&self) -> f64 {
        self.teacher.borrow().flops_per_token()
    }

    fn begin(&mut self, trainee: &mut Trainee, examples: &[usize]) -> Result<f64, AlignError> {
        self.write(trainee, examples)?;
        let learnt = |example: &usize| {
            self.dialogue(*example).assistant_mask.iter().skip(1).filter(|is_learnt| **is_learnt).count()
        };
        Ok(examples.iter().map(learnt).sum::<usize>() as f64)
    }

    fn judge(
        &self,
        trainee: &mut Trainee,
        examples: &[usize],
        divisor: f64,
        learn: bool,
        measures: &mut Measures,
    ) -> Result<usize, AlignError> {
        let packed = self.packed(examples);
        if self.own.is_some() {
            for example in examples {
                measures.add("own_answers", f64::from(u8::from(self.written.contains_key(example))));
            }
        }
        let targets: Vec<u32> = packed.targets.iter().flatten().copied().collect();
        if targets.is_empty() {
            return Ok(0);
        }
        let mut teacher = self.teacher.borrow_mut();
        let mut loss = RowLoss {
            teacher: teacher.logits(&packed)?,
            targets: &targets,
            loss: self.loss,
            simd: self.simd,
            factor: 1.0 / divisor,
        };
        let tokens = match learn {
            true => trainee.accumulate_logits(&packed, &mut loss)?,
            false => trainee.score_logits(&packed, &mut loss)?,
        };
        for token in &tokens {
            measures.add("loss", self.loss.value(token));
            measures.add("divergence", token.divergence);
            measures.add("cross_entropy", -token.log_probability);
            measures.add("teacher_cross_entropy", -token.teacher_log_probability);
            measures.add("agreement", f64::from(u8::from(token.agrees)));
        }
        Ok(targets.len())
    }

    fn prompt(&self, example: usize) -> Option<&[u32]> {
        Some(prompt_of(&self.dialogues[example])).filter(|prompt| !prompt.is_empty())
    }
}

/// The loss of a batch's learnt tokens.
struct RowLoss<'a> {
    teacher: TargetLogits<'a>,
    targets: &'a [u32],
    loss: DistillationLoss,
    simd: SimdLevel,
    factor: f64,
}

impl LogitLoss for RowLoss<'_> {
    type Score = DistilledToken;

    fn begin(&mut self, rows: Range<usize>) -> Result<(), TensorError> {
        self.teacher.compute(rows)
    }

    fn row(&self, row: usize, logits: &mut [f32]) -> DistilledToken {
        let target = self.targets[row] as usize;
        self.loss.of_row(self.simd, logits, self.teacher.row(row), target, self.factor)
    }
}
