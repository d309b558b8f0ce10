#!/usr/bin/env python3
"""Writes what PyTorch computes for tiny models in f32: logits, loss and every parameter's gradient of a batch of documents
(training.json, training_gradients.safetensors).

    pip install torch transformers numpy safetensors
    python crates/model/tests/golden/make_training.py

Weights and tokens come from the formula of `make.py`. Each document is computed alone, so that attention never crosses from
one to another. Read by crates/model/tests/training_golden.rs; curves of whole runs are in crates/train/tests/golden/.
"""

import json
import pathlib

import safetensors.torch
import torch
import transformers
from make import SIZES, VOCABULARY, numbers, weights

LENGTHS = [13, 1, 22, 9]
LOGIT_ROWS = [0, 12, 13, 35]
Z_LOSS = 1e-3
CASES = {
    "llama": ("Llama", dict()),
    "qwen2": ("Qwen2", dict(tie_word_embeddings=True)),
    "qwen3": ("Qwen3", dict(head_dim=16, tie_word_embeddings=True)),
}
SMALL = dict(hidden_size=32, intermediate_size=48)


def model_of(family: str, changes: dict):
    sizes = {**SIZES, **SMALL, **changes}
    config = getattr(transformers, f"{family}Config")(**sizes, architectures=[f"{family}ForCausalLM"])
    config._attn_implementation = "eager"
    model = getattr(transformers, f"{family}ForCausalLM")(config).float().train()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.copy_(torch.from_numpy(weights(name, parameter.numel())).reshape(parameter.shape))
    return config, model


def tokens_of(name: str) -> list[int]:
    return ((numbers(name, sum(LENGTHS)) + 0.5) * VOCABULARY).astype(int).tolist()


def loss_of(model, tokens: list[int]):
    """The mean loss over all tokens that have one after them in their document, and the logits of all rows."""
    losses, rows, targets, first = [], [], 0, 0
    for length in LENGTHS:
        document = torch.tensor(tokens[first : first + length])
        logits = model(document[None]).logits[0]
        rows.append(logits)
        if length > 1:
            cross_entropy = torch.nn.functional.cross_entropy(logits[:-1], document[1:], reduction="sum")
            losses.append(cross_entropy + Z_LOSS * (torch.logsumexp(logits[:-1], dim=-1) ** 2).sum())
            targets += length - 1
        first += length
    return sum(losses) / targets, torch.cat(rows)


def short(values) -> list[float]:
    return [float(f"{value:.7g}") for value in values]


def gradients() -> None:
    cases, tensors = [], {}
    for name, (family, changes) in CASES.items():
        config, model = model_of(family, changes)
        tokens = tokens_of(name)
        loss, logits = loss_of(model, tokens)
        loss.backward()
        cases.append(
            {
                "name": name,
                "config": json.loads(config.to_json_string()),
                "tokens": tokens,
                "lengths": LENGTHS,
                "z_loss": Z_LOSS,
                "loss": short([loss.item()])[0],
                "rows": LOGIT_ROWS,
                "logits": [short(logits[row].tolist()) for row in LOGIT_ROWS],
            }
        )
        for parameter_name, parameter in model.named_parameters():
            tensors[f"{name}/{parameter_name}"] = parameter.grad.contiguous()
    folder = pathlib.Path(__file__).parent
    lines = ",\n".join(json.dumps(case) for case in cases)
    (folder / "training.json").write_text(f"[\n{lines}\n]\n")
    safetensors.torch.save_file(tensors, folder / "training_gradients.safetensors")


def main() -> None:
    torch.set_num_threads(1)
    gradients()
    for path in sorted(pathlib.Path(__file__).parent.glob("training*")):
        print(f"{path.name}: {path.stat().st_size} bytes")
    print(f"torch {torch.__version__}, transformers {transformers.__version__}")


if __name__ == "__main__":
    main()
