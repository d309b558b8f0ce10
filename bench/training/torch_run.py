#!/usr/bin/env python3
"""A whole training run in PyTorch: the model, the sequences, the optimiser and the schedule of a Zhenjin run, in f32 on the CPU.

`torch_run.py '{"run": FOLDER, "sequences": FOLDER, "threads": 2, "minutes": 5, "compile": true}'`: `run` has the run.toml and
`sequences` what the example `dump_sequences` wrote. Prints one line of JSON for each measurement of the validation loss.
Compiling, and the steps by which the number of steps is chosen, are not counted as training time.
"""

import json
import math
import sys
import time
import tomllib
from pathlib import Path

import numpy
import torch
from torch import nn
from torch.nn import functional

# The coefficients of Polar Express (Amsel et al. 2025), as in crates/train/src/optimiser/orthogonalise.rs.
POLAR_EXPRESS = [
    (8.156554524902461, -22.48329292557795, 15.878769915207462),
    (4.042929935166739, -2.808917465908714, 0.5000178451051316),
    (3.8916678022926607, -2.772484153217685, 0.5060648178503393),
    (3.285753657755655, -2.3681294933425376, 0.46449024233003106),
    (2.3465413258596377, -1.7097828382687081, 0.42323551169305323),
]


class Layer(nn.Module):
    def __init__(self, model: dict):
        super().__init__()
        hidden, width = model["hidden_size"], model["head_dim"]
        self.heads, self.kv_heads, self.width = model["heads"], model["kv_heads"], width
        norm = lambda size: nn.RMSNorm(size, eps=model["rms_norm_epsilon"])
        linear = lambda inputs, outputs: nn.Linear(inputs, outputs, bias=False)
        self.attention_norm, self.ffn_norm = norm(hidden), norm(hidden)
        self.query_norm, self.key_norm = norm(width), norm(width)
        self.q, self.k = linear(hidden, self.heads * width), linear(hidden, self.kv_heads * width)
        self.v, self.o = linear(hidden, self.kv_heads * width), linear(self.heads * width, hidden)
        self.gate, self.up = linear(hidden, model["intermediate_size"]), linear(hidden, model["intermediate_size"])
        self.down = linear(model["intermediate_size"], hidden)

    def forward(self, x, cosines, sines, visible):
        batch, length, _ = x.shape
        split = lambda y, heads: y.view(batch, length, heads, self.width).transpose(1, 2)
        normed = self.attention_norm(x)
        q = rotate(self.query_norm(split(self.q(normed), self.heads)), cosines, sines)
        k = rotate(self.key_norm(split(self.k(normed), self.kv_heads)), cosines, sines)
        v = split(self.v(normed), self.kv_heads)
        if self.kv_heads != self.heads:
            k, v = (t.repeat_interleave(self.heads // self.kv_heads, dim=1) for t in (k, v))
        out = functional.scaled_dot_product_attention(q, k, v, attn_mask=visible)
        x = x + self.o(out.transpose(1, 2).reshape(batch, length, -1))
        normed = self.ffn_norm(x)
        return x + self.down(functional.silu(self.gate(normed)) * self.up(normed))


def rotate(x, cosines, sines):
    first, second = x.chunk(2, dim=-1)
    return x * cosines + torch.cat((-second, first), dim=-1) * sines


class Model(nn.Module):
    def __init__(self, model: dict, length: int):
        super().__init__()
        self.embedding = nn.Embedding(model["vocabulary_size"], model["hidden_size"])
        self.layers = nn.ModuleList(Layer(model) for _ in range(model["layers"]))
        self.norm = nn.RMSNorm(model["hidden_size"], eps=model["rms_norm_epsilon"])
        for name, parameter in self.named_parameters():
            if parameter.ndim == 2:
                residual = name.endswith(("o.weight", "down.weight"))
                nn.init.normal_(parameter, std=0.02 / math.sqrt(2 * model["layers"]) if residual else 0.02)
        half = model["head_dim"] // 2
        angles = torch.outer(torch.arange(length), model["rope_base"] ** (-torch.arange(half) / half))
        angles = torch.cat((angles, angles), dim=-1)
        self.register_buffer("cosines", angles.cos())
        self.register_buffer("sines", angles.sin())

    def forward(self, tokens, targets, positions, visible):
        """The sum of the losses, in nats. Positions begin anew in each document, and attention stays in it."""
        x = self.embedding(tokens)
        cosines, sines = self.cosines[positions].unsqueeze(1), self.sines[positions].unsqueeze(1)
        for layer in self.layers:
            x = layer(x, cosines, sines, visible)
        logits = functional.linear(self.norm(x), self.embedding.weight)
        return functional.cross_entropy(logits.flatten(0, 1), targets.flatten(), reduction="sum")


def batch_of(rows: numpy.ndarray):
    """Tokens, targets, positions and who sees whom, of sequences `[sequences, 3, length]`."""
    rows = torch.from_numpy(rows.astype(numpy.int64))
    tokens, targets, documents = rows[:, 0], rows[:, 1], rows[:, 2]
    places = torch.arange(tokens.shape[1]).expand_as(tokens)
    begins = torch.ones_like(documents, dtype=torch.bool)
    begins[:, 1:] = documents[:, 1:] != documents[:, :-1]
    positions = places - torch.cummax(torch.where(begins, places, 0), dim=1).values
    visible = (documents[:, :, None] == documents[:, None, :]) & (places[:, :, None] >= places[:, None, :])
    return tokens, targets, positions, visible.unsqueeze(1)


def orthogonalise(x):
    tall = x.shape[-2] > x.shape[-1]
    x = x.mT if tall else x
    x = x / (x.norm(dim=(-2, -1), keepdim=True) * 1.02 + 1e-7)
    for a, b, c in POLAR_EXPRESS:
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x.mT if tall else x


class Muon:
    """Momentum, orthogonalised; matrices of one shape together (Jordan et al. 2024)."""

    def __init__(self, parameters, optimiser: dict):
        self.rate, self.momentum = optimiser["muon_learning_rate"], optimiser["momentum"]
        self.weight_decay = optimiser["weight_decay"]
        shapes = {}
        for parameter in parameters:
            shapes.setdefault(parameter.shape, []).append(parameter)
        self.groups = [(group, torch.zeros(len(group), *shape)) for shape, group in shapes.items()]

    @torch.no_grad()
    def step(self, factor: float, step: int):
        rate = self.rate * factor
        for group, buffer in self.groups:
            gradients = torch.stack([parameter.grad for parameter in group])
            buffer.lerp_(gradients, 1 - self.momentum)
            updates = orthogonalise(gradients.lerp_(buffer, self.momentum))
            rows, columns = group[0].shape
            for parameter, update in zip(group, updates):
                parameter.mul_(1 - rate * self.weight_decay)
                parameter.add_(update, alpha=-rate * max(1, rows / columns) ** 0.5)


class Run:
    def __init__(self, request: dict):
        self.configuration = tomllib.loads((Path(request["run"]) / "run.toml").read_text())
        self.length = self.configuration["data"]["sequence_length"]
        folder = Path(request["sequences"])
        self.training, self.validation = (
            numpy.fromfile(folder / name, dtype="<i4").reshape(-1, 3, self.length)
            for name in ("training.bin", "validation.bin")
        )
        self.position = 0
        self.prepare(request["compile"])

    def prepare(self, is_compiled: bool):
        torch.manual_seed(1)
        optimiser = self.configuration["optimiser"]
        self.model = Model(self.configuration["model"], self.length)
        self.compiled = torch.compile(self.model) if is_compiled else self.model
        matrices = [p for name, p in self.model.layers.named_parameters() if p.ndim == 2]
        vectors = [p for p in self.model.parameters() if p.ndim == 1]
        self.muon = Muon(matrices, optimiser)
        self.adamw = torch.optim.AdamW(
            [
                {"params": [self.model.embedding.weight], "lr": optimiser["embedding_learning_rate"]},
                {"params": vectors, "lr": optimiser["learning_rate"], "weight_decay": 0.0},
            ],
            betas=(optimiser["beta1"], optimiser["beta2"]),
            eps=optimiser["epsilon"],
            weight_decay=optimiser["weight_decay"],
            fused=True,
        )
        self.rates = [group["lr"] for group in self.adamw.param_groups]

    def step(self, number: int, factor: float) -> float:
        batch = self.configuration["batch"]
        total, targets = 0.0, 0
        for _ in range(batch["micro_batches"]):
            rows = self.training[self.position : self.position + batch["sequences"]]
            if len(rows) < batch["sequences"]:
                raise SystemExit(f"the training sequences ended at step {number}; dump more of them")
            self.position += batch["sequences"]
            parts = batch_of(rows)
            loss = self.compiled(*parts)
            loss.backward()
            total += loss.item()
            targets += int((parts[1] >= 0).sum())
        with torch.no_grad():
            for parameter in self.model.parameters():
                parameter.grad.div_(targets)
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.configuration["optimiser"]["clip"])
        for group, rate in zip(self.adamw.param_groups, self.rates):
            group["lr"] = rate * factor
        self.adamw.step()
        self.muon.step(factor, number)
        self.adamw.zero_grad(set_to_none=False)
        return total / targets

    @torch.no_grad()
    def validation_loss(self) -> float:
        total, targets = 0.0, 0
        together = self.configuration["batch"]["sequences"]
        for start in range(0, len(self.validation), together):
            parts = batch_of(self.validation[start : start + together])
            total += self.model(*parts).item()
            targets += int((parts[1] >= 0).sum())
        return total / targets

    def factor(self, step: int, steps: int) -> float:
        """Warm-up, constant, linear decay (WSD), as crates/train/src/schedule.rs has it."""
        schedule = self.configuration["schedule"]
        warmup = min(40, steps // 20)
        decay = schedule["decay_share"] * steps
        final = schedule["final_share"]
        if step < warmup:
            return (step + 1) / warmup
        left = steps - step
        return final + (1 - final) * left / decay if left < decay else 1.0


def main() -> None:
    request = json.loads(sys.argv[1])
    torch.set_num_threads(request["threads"])
    run = Run(request)
    run.step(0, 0.0)
    started = time.perf_counter()
    for number in range(3):
        run.step(number, 0.0)
    seconds = (time.perf_counter() - started) / 3
    steps = max(1, int(request["minutes"] * 60 / seconds))
    print(json.dumps({"seconds_of_a_step": seconds, "steps": steps, "version": torch.__version__}), flush=True)
    # The same weights and state as before those steps.
    run.position = 0
    run.prepare(request["compile"])
    seconds, tokens = 0.0, run.configuration["batch"]["micro_batches"] * run.configuration["batch"]["sequences"] * run.length
    often = max(1, steps // 10)
    for number in range(steps):
        started = time.perf_counter()
        loss = run.step(number, run.factor(number, steps))
        # Compiling again after the new model is not training.
        seconds += 0.0 if number == 0 else time.perf_counter() - started
        if (number + 1) % often == 0 or number + 1 == steps:
            line = {"step": number + 1, "tokens": (number + 1) * tokens, "seconds": seconds, "loss": loss}
            print(json.dumps({**line, "validation_loss": run.validation_loss()}), flush=True)


if __name__ == "__main__":
    main()
