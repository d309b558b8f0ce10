#!/usr/bin/env python3
"""Writes what PyTorch computes for tiny models in f32: logits, loss and every parameter's gradient of a batch of documents
(training.json, training_gradients.safetensors). For models with experts the loss has transformers' loss for their balance too,
layer by layer, over the rows that predict a token.

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
from make import SIZES, VOCABULARY, configuration, fused_parts, numbers, values_of
from transformers.models.qwen3_moe.modeling_qwen3_moe import load_balancing_loss_func

LENGTHS = [13, 1, 22, 9]
SMALLEST = dict(hidden_size=16, intermediate_size=24, num_attention_heads=2, num_key_value_heads=1)
LOGIT_ROWS = [0, 12, 13, 35]
Z_LOSS = 1e-3
CASES = {
    "llama": ("Llama", dict()),
    "qwen2": ("Qwen2", dict(tie_word_embeddings=True)),
    "qwen3": ("Qwen3", dict(head_dim=16, tie_word_embeddings=True)),
    "qwen3moe": (
        "Qwen3Moe",
        dict(
            head_dim=16,
            tie_word_embeddings=True,
            num_experts=5,
            num_experts_per_tok=2,
            moe_intermediate_size=24,
            norm_topk_prob=True,
        ),
    ),
    "qwen3moe, a layer dense, not normalised": (
        "Qwen3Moe",
        dict(
            head_dim=16,
            tie_word_embeddings=True,
            num_experts=4,
            num_experts_per_tok=3,
            moe_intermediate_size=17,
            norm_topk_prob=False,
            mlp_only_layers=[1],
        ),
    ),
    "smollm3": ("SmolLM3", dict(no_rope_layers=[1, 0], pad_token_id=None)),
    "qwen3 with a window in the first layer": (
        "Qwen3",
        dict(
            **SMALLEST,
            head_dim=16,
            tie_word_embeddings=True,
            use_sliding_window=True,
            sliding_window=4,
            layer_types=["sliding_attention", "full_attention"],
        ),
    ),
    "gemma3": (
        "Gemma3",
        dict(
            **SMALLEST,
            head_dim=16,
            query_pre_attn_scalar=20,
            sliding_window=4,
            layer_types=["sliding_attention", "full_attention"],
            pad_token_id=None,
        ),
    ),
    "olmo2": ("Olmo2", dict(**SMALLEST, tie_word_embeddings=True, pad_token_id=None)),
    "granite": (
        "Granite",
        dict(
            **SMALLEST,
            tie_word_embeddings=True,
            embedding_multiplier=3.0,
            residual_multiplier=0.4,
            attention_multiplier=0.2,
            logits_scaling=1.7,
        ),
    ),
    "phi3": ("Phi3", dict(**SMALLEST, tie_word_embeddings=True, pad_token_id=None)),
}
# Of the loss for the experts' balance.
BALANCE = 0.05
SMALL = dict(hidden_size=32, intermediate_size=48)


def model_of(family: str, changes: dict):
    sizes = {**SIZES, **SMALL, **changes}
    config = configuration(family, sizes)
    config._attn_implementation = "eager"
    config._experts_implementation = "eager"
    model = getattr(transformers, f"{family}ForCausalLM")(config).float().train()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.copy_(torch.from_numpy(values_of(name, parameter.shape, config)))
    return config, model


def tokens_of(name: str) -> list[int]:
    return ((numbers(name, sum(LENGTHS)) + 0.5) * VOCABULARY).astype(int).tolist()


def loss_of(model, config, tokens: list[int]):
    """The mean loss over all tokens that have one after them in their document, the logits of all rows, and the routers' logits of
    the rows that count, by layer."""
    losses, rows, targets, first, routers = [], [], 0, 0, {}
    with_experts = hasattr(config, "num_experts")
    for length in LENGTHS:
        document = torch.tensor(tokens[first : first + length])
        outputs = model(document[None], **(dict(output_router_logits=True) if with_experts else {}))
        logits = outputs.logits[0]
        rows.append(logits)
        if length > 1:
            cross_entropy = torch.nn.functional.cross_entropy(logits[:-1], document[1:], reduction="sum")
            losses.append(cross_entropy + Z_LOSS * (torch.logsumexp(logits[:-1], dim=-1) ** 2).sum())
            targets += length - 1
            for layer, scores in zip(layers_with_experts(config), outputs.router_logits or [] if with_experts else []):
                routers.setdefault(layer, []).append(scores[:-1])
        first += length
    return sum(losses) / targets, torch.cat(rows), {layer: torch.cat(scores) for layer, scores in routers.items()}


def layers_with_experts(config) -> list[int]:
    layers = range(config.num_hidden_layers)
    dense = set(getattr(config, "mlp_only_layers", None) or [])
    return [layer for layer in layers if layer not in dense] if hasattr(config, "num_experts") else []


def balance_of(config, routers: dict):
    """The loss for balance, which transformers sums over a row's experts and we over shares of choices; and for each layer the
    number of rows that chose each expert."""
    experts, active = config.num_experts, config.num_experts_per_tok
    losses, choices = [], {}
    for layer, scores in routers.items():
        losses.append(load_balancing_loss_func((scores,), experts, active) / active)
        selected = torch.topk(scores, active, dim=-1).indices
        choices[layer] = torch.bincount(selected.flatten(), minlength=experts).tolist()
    return sum(losses), choices


def gradients_of(name: str, parameter_name: str, gradient, config):
    """By the names of weights: experts and fused projections are apart."""
    if parts := fused_parts(parameter_name, config):
        return {f"{name}/{part}": values.contiguous() for part, values in zip(parts, gradient.split(list(parts.values())))}
    if not parameter_name.endswith(("experts.gate_up_proj", "experts.down_proj")):
        return {f"{name}/{parameter_name}": gradient.contiguous()}
    stem, _, kind = parameter_name.rpartition(".")
    found = {}
    for expert, values in enumerate(gradient):
        parts = dict(down=values) if kind == "down_proj" else dict(zip(("gate", "up"), values.chunk(2)))
        for part, values in parts.items():
            found[f"{name}/{stem}.{expert}.{part}_proj.weight"] = values.contiguous()
    return found


def short(values) -> list[float]:
    return [float(f"{value:.7g}") for value in values]


def gradients() -> None:
    cases, tensors = [], {}
    for name, (family, changes) in CASES.items():
        config, model = model_of(family, changes)
        tokens = tokens_of(name)
        loss, logits, routers = loss_of(model, config, tokens)
        balance, choices = balance_of(config, routers) if routers else (0.0, {})
        (loss + BALANCE * balance).backward()
        cases.append(
            {
                "name": name,
                "config": json.loads(config.to_json_string()),
                "tokens": tokens,
                "lengths": LENGTHS,
                "z_loss": Z_LOSS,
                "loss": short([loss.item()])[0],
                **(dict(balance_weight=BALANCE, balance=short([balance.item()])[0], choices=choices) if routers else {}),
                "rows": LOGIT_ROWS,
                "logits": [short(logits[row].tolist()) for row in LOGIT_ROWS],
            }
        )
        for parameter_name, parameter in model.named_parameters():
            tensors.update(gradients_of(name, parameter_name, parameter.grad, config))
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
