#!/usr/bin/env python3
"""The same training step in PyTorch: RMSNorm, RoPE, SwiGLU, scaled dot product attention, a tied head, AdamW, all in f32.

`torch_peer.py '{"shape": …, "threads": 2, "compile": false}'` takes one step and answers with a line of JSON; then one line of
standard input, a number of steps, gets one line of JSON with the seconds of each.
"""

import json
import resource
import sys
import time

started = time.perf_counter()

import torch
from torch import nn
from torch.nn import functional


class Layer(nn.Module):
    def __init__(self, shape: dict):
        super().__init__()
        hidden, width = shape["hidden"], shape["head_dim"]
        self.heads, self.kv_heads, self.width = shape["heads"], shape["kv_heads"], width
        self.attention_norm = nn.RMSNorm(hidden, eps=1e-5)
        self.q = nn.Linear(hidden, self.heads * width, bias=False)
        self.k = nn.Linear(hidden, self.kv_heads * width, bias=False)
        self.v = nn.Linear(hidden, self.kv_heads * width, bias=False)
        self.o = nn.Linear(self.heads * width, hidden, bias=False)
        self.ffn_norm = nn.RMSNorm(hidden, eps=1e-5)
        self.gate = nn.Linear(hidden, shape["ffn"], bias=False)
        self.up = nn.Linear(hidden, shape["ffn"], bias=False)
        self.down = nn.Linear(shape["ffn"], hidden, bias=False)

    def forward(self, x, cosines, sines):
        batch, length, _ = x.shape
        normed = self.attention_norm(x)
        q = rotate(self.q(normed).view(batch, length, self.heads, self.width).transpose(1, 2), cosines, sines)
        k = rotate(self.k(normed).view(batch, length, self.kv_heads, self.width).transpose(1, 2), cosines, sines)
        v = self.v(normed).view(batch, length, self.kv_heads, self.width).transpose(1, 2)
        if self.kv_heads != self.heads:
            k, v = (t.repeat_interleave(self.heads // self.kv_heads, dim=1) for t in (k, v))
        out = functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.o(out.transpose(1, 2).reshape(batch, length, -1))
        normed = self.ffn_norm(x)
        return x + self.down(functional.silu(self.gate(normed)) * self.up(normed))


def rotate(x, cosines, sines):
    first, second = x.chunk(2, dim=-1)
    return x * cosines + torch.cat((-second, first), dim=-1) * sines


class Model(nn.Module):
    def __init__(self, shape: dict):
        super().__init__()
        self.embedding = nn.Embedding(shape["vocabulary"], shape["hidden"])
        nn.init.normal_(self.embedding.weight, std=0.02)
        self.layers = nn.ModuleList(Layer(shape) for _ in range(shape["layers"]))
        self.norm = nn.RMSNorm(shape["hidden"], eps=1e-5)
        half = shape["head_dim"] // 2
        angles = torch.outer(torch.arange(shape["length"]), 10000.0 ** (-torch.arange(half) / half))
        angles = torch.cat((angles, angles), dim=-1)
        self.register_buffer("cosines", angles.cos())
        self.register_buffer("sines", angles.sin())

    def forward(self, tokens, targets):
        x = self.embedding(tokens)
        for layer in self.layers:
            x = layer(x, self.cosines, self.sines)
        logits = functional.linear(self.norm(x), self.embedding.weight)
        return functional.cross_entropy(logits.flatten(0, 1), targets.flatten())


def main() -> None:
    request = json.loads(sys.argv[1])
    shape = request["shape"]
    torch.set_num_threads(request["threads"])
    torch.manual_seed(1)
    model = Model(shape)
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-4, weight_decay=0.1, fused=True)
    run = torch.compile(model) if request["compile"] else model
    tokens = torch.randint(0, shape["vocabulary"], (shape["sequences"], shape["length"] + 1))

    def step() -> float:
        loss = run(tokens[:, :-1], tokens[:, 1:])
        loss.backward()
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
        return loss.item()

    first = step()
    answer({"first_step_seconds": time.perf_counter() - started, "loss": first, "version": torch.__version__})
    for line in sys.stdin:
        seconds = []
        for _ in range(int(line)):
            start = time.perf_counter()
            loss = step()
            seconds.append(time.perf_counter() - start)
        answer({"seconds": seconds, "loss": loss})


def answer(message: dict) -> None:
    message["peak_bytes"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(json.dumps(message), flush=True)


if __name__ == "__main__":
    main()
