"""Losses and gradients as TRL computes them, on random numbers: writes losses.json beside this file.

Run with trl 1.16.0 and torch. The losses are those methods of the trainers themselves that training calls, given log-probabilities
(or rewards) instead of a model. PPO is not in that version of TRL any more: its token loss is GRPO's with delta (dual clip), and its
value loss is not compared here.
"""

import contextlib
import json
import random
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import MagicMock

import torch
from torch.nn import functional
from trl.experimental.gkd.gkd_trainer import GKDTrainer
from trl.trainer.dpo_trainer import DPOTrainer
from trl.trainer.grpo_trainer import GRPOTrainer
from trl.trainer.kto_trainer import KTOTrainer
from trl.trainer.reward_trainer import RewardTrainer

torch.set_default_dtype(torch.float64)
random.seed(20261127)


def numbers(count, low, high):
    # Short decimals, so that the file holds exactly what was computed with.
    return [round(random.uniform(low, high), 6) for _ in range(count)]


def same(value, *_, **__):
    return value


def trainer():
    mock = MagicMock()
    mock.model.training = True
    mock.aux_loss_enabled = False
    mock.accelerator.gather = same
    mock.accelerator.gather_for_metrics = same
    mock.accelerator.reduce = same
    mock.accelerator.num_processes = 1
    mock.accelerator.device = torch.device("cpu")
    mock._metrics = {"train": MagicMock(), "eval": MagicMock()}
    mock._total_train_tokens = 0
    mock._tp_size = 1
    mock.current_gradient_accumulation_steps = 1
    return mock


def outputs(log_probs):
    zeros = torch.zeros_like(log_probs)
    return SimpleNamespace(log_probs=log_probs, entropy=zeros, mean_logits=zeros, is_top1=zeros.bool(), log_sum_sq_probs=zeros)


def padded(rows):
    width = max(len(row) for row in rows)
    values = torch.tensor([row + [0.0] * (width - len(row)) for row in rows])
    mask = torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in rows])
    return values, mask


def preference(loss_type, beta):
    lengths = [(random.randint(1, 6), random.randint(1, 6)) for _ in range(3)]
    chosen = [numbers(length, -4, -0.1) for length, _ in lengths]
    rejected = [numbers(length, -4, -0.1) for _, length in lengths]
    reference = [numbers(3, -12, -3), numbers(3, -12, -3)]
    values, mask = padded(chosen + rejected)
    values.requires_grad_()
    # The trainer's masks have a column for the first token, which nothing predicts.
    completion_mask = torch.cat([torch.zeros_like(mask[:, :1]), mask], dim=1)
    inputs = {
        "input_ids": torch.zeros_like(completion_mask),
        "attention_mask": torch.ones_like(completion_mask),
        "completion_mask": completion_mask,
        "ref_chosen_logps": torch.tensor(reference[0]),
        "ref_rejected_logps": torch.tensor(reference[1]),
    }
    mock = trainer()
    mock.ld_alpha = None
    mock.precompute_ref_logps = True
    mock.f_divergence_type = "reverse_kl"
    mock.loss_types, mock.loss_weights, mock.beta = [loss_type], [1.0], beta
    mock.use_weighting = False
    loss = DPOTrainer._compute_loss(mock, lambda **_: outputs(values), inputs, False)
    loss.backward()
    gradients = [gradient[:length].tolist() for gradient, length in zip(values.grad, [len(row) for row in chosen + rejected])]
    return {
        "loss_type": loss_type, "beta": beta, "chosen": chosen, "rejected": rejected, "reference_chosen": reference[0],
        "reference_rejected": reference[1], "loss": loss.item(), "gradients": gradients,
    }


def judged(beta, weights):
    answers = [numbers(random.randint(1, 6), -4, -0.1) for _ in range(4)]
    mismatched = [numbers(random.randint(1, 6), -4, -0.1) for _ in range(4)]
    liked = [True, False, True, False]
    reference, mismatched_reference = numbers(4, -12, -3), numbers(4, -12, -3)
    values, mask = padded(answers)
    values.requires_grad_()
    completion_mask = torch.cat([torch.zeros_like(mask[:, :1]), mask], dim=1)
    batch = {
        "label": torch.tensor(liked), "input_ids": torch.zeros_like(completion_mask),
        "attention_mask": torch.ones_like(completion_mask), "completion_mask": completion_mask,
        "ref_logps": torch.tensor(reference), "ref_KL_logps": torch.tensor(mismatched_reference),
    }
    mock = trainer()
    mock._compute_kl_logps = lambda *_: torch.tensor([sum(row) for row in mismatched])
    mock.precompute_ref_logps, mock.calculate_KL, mock.loss_type = True, True, "kto"
    mock.beta, mock.desirable_weight, mock.undesirable_weight = beta, *weights
    loss = KTOTrainer._compute_loss(mock, lambda **_: outputs(values), batch, False)
    loss.backward()
    gradients = [gradient[: len(row)].tolist() for gradient, row in zip(values.grad, answers)]
    return {
        "beta": beta, "weights": weights, "answers": answers, "liked": liked, "reference": reference, "mismatched": mismatched,
        "mismatched_reference": mismatched_reference, "loss": loss.item(), "gradients": gradients,
    }


def reward(margins, centring):
    chosen, rejected = numbers(3, -2, 3), numbers(3, -2, 3)
    values = torch.tensor(chosen + rejected).requires_grad_()
    inputs = {"attention_mask": torch.ones(6, 1)}
    if margins:
        margins = numbers(3, 0, 1)
        inputs["margin"] = torch.tensor(margins)
    mock = trainer()
    mock.args.center_rewards_coefficient = centring
    def model(**_):
        return SimpleNamespace(logits=values.unsqueeze(-1))
    loss = RewardTrainer.compute_loss(mock, model, inputs)
    loss.backward()
    return {
        "chosen": chosen, "rejected": rejected, "margins": margins or [0.0] * 3, "centring": centring or 0.0, "loss": loss.item(),
        "gradients": values.grad.tolist(),
    }


def policy(loss_type, low, high, delta, beta, corrected):
    lengths = [random.randint(1, 7) for _ in range(4)]
    old = [numbers(length, -4, -0.1) for length in lengths]
    new = [[round(value + random.uniform(-0.6, 0.6), 6) for value in row] for row in old]
    reference = [[round(value + random.uniform(-0.6, 0.6), 6) for value in row] for row in old]
    advantages = numbers(4, -2, 2)
    values, mask = padded(new)
    values.requires_grad_()
    inputs = {
        "prompt_ids": torch.zeros(4, 1).long(), "prompt_mask": torch.ones(4, 1).long(), "completion_ids": torch.zeros_like(mask),
        "completion_mask": mask, "advantages": torch.tensor(advantages), "old_per_token_logps": padded(old)[0],
        "ref_per_token_logps": padded(reference)[0], "num_items_in_batch": mask.sum(),
    }
    mock = trainer()
    mock._get_per_token_logps_and_entropies = lambda *_, **__: (values, torch.zeros_like(values), None)
    mock.top_entropy_quantile, mock.off_policy_mask_threshold = 1.0, None
    mock.importance_sampling_level, mock.loss_type = "token", loss_type
    mock.epsilon_low, mock.epsilon_high, mock.args.delta, mock.beta = low, high, delta, beta
    mock.args.use_bias_correction_kl = corrected
    mock.use_vllm = False
    mock._entropy_bonus_enabled = False
    mock.max_completion_length = 9
    mock.args.steps_per_generation = 1
    loss = GRPOTrainer._compute_loss(mock, MagicMock(), inputs)
    loss.backward()
    return {
        "loss_type": loss_type, "low": low, "high": high, "delta": delta, "beta": beta, "corrected": corrected, "longest": 9,
        "old": old, "new": new,
        "reference": reference, "advantages": advantages, "loss": loss.item(),
        "gradients": [gradient[:length].tolist() for gradient, length in zip(values.grad, lengths)],
    }


def distillation(beta, temperature, weight):
    # The trainer's 0 is KL(teacher || student) and its 1 is KL(student || teacher).
    rows, vocabulary = 2, 9
    student = [numbers(vocabulary, -3, 3) for _ in range(rows)]
    teacher = [numbers(vocabulary, -3, 3) for _ in range(rows)]
    targets = [random.randrange(vocabulary) for _ in range(rows)]
    values = torch.tensor(student).requires_grad_()
    divergence = GKDTrainer.generalized_jsd_loss(
        values, torch.tensor(teacher), beta=beta, temperature=temperature, reduction="sum"
    ) / rows
    loss = weight * divergence + (1 - weight) * functional.cross_entropy(values, torch.tensor(targets))
    loss.backward()
    return {
        "beta": beta, "temperature": temperature, "weight": weight, "student": student, "teacher": teacher, "targets": targets,
        "divergence": divergence.item(), "loss": loss.item(), "gradients": values.grad.tolist(),
    }


with contextlib.redirect_stdout(None):
    cases = {
        "preference": [preference(kind, beta) for kind in ("sigmoid", "ipo", "sigmoid_norm", "hinge") for beta in (0.1, 0.5)],
        "judged": [judged(0.1, (1.0, 1.0)), judged(0.4, (1.0, 1.33))],
        "reward": [reward(False, None), reward(True, None), reward(True, 0.01)],
        "policy": [
            policy(kind, low, high, delta, beta, corrected)
            for kind in ("grpo", "bnpo", "dr_grpo", "dapo")
            for low, high, delta, beta, corrected in (
                (0.2, 0.2, None, 0.0, False),
                (0.2, 0.28, None, 0.04, False),
                (0.2, 0.2, 1.5, 0.1, False),
                (0.2, 0.28, None, 0.2, True),
            )
        ],
        "distillation": [
            distillation(beta, temperature, weight)
            for beta in (0.0, 1.0, 0.5, 0.1)
            for temperature, weight in ((1.0, 1.0), (2.0, 1.0), (1.0, 0.5), (3.0, 0.25))
        ],
    }
Path(__file__).with_name("losses.json").write_text(json.dumps(cases, indent=1) + "\n")
