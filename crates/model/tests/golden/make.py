#!/usr/bin/env python3
"""Writes logits.json: what Hugging Face transformers computes for tiny models of every family, in f32.

    pip install torch transformers numpy
    python crates/model/tests/golden/make.py

Weights and tokens come from a formula (`numbers` below) that the test repeats, so that only configurations and logits
are stored. Run it again after adding a case; the other cases must come out unchanged to about 1e-6.
"""

import json
import pathlib

import numpy
import torch
import transformers

TOKENS = 48
POSITIONS = [1, 16, 33, 47]
VOCABULARY = 64

SIZES = dict(
    vocab_size=VOCABULARY,
    hidden_size=64,
    intermediate_size=96,
    num_hidden_layers=2,
    num_attention_heads=4,
    num_key_value_heads=2,
    max_position_embeddings=128,
    rms_norm_eps=1e-5,
)


def rope(**parameters):
    return {"rope_theta": 10000.0, **parameters}


CASES = {
    "llama": ("Llama", dict()),
    "llama with biases, tied": ("Llama", dict(attention_bias=True, mlp_bias=True, tie_word_embeddings=True)),
    "llama, linear": ("Llama", dict(rope_parameters=rope(rope_type="linear", factor=4.0))),
    "llama, llama3": (
        "Llama",
        dict(
            tie_word_embeddings=True,
            rope_parameters=rope(
                rope_type="llama3",
                factor=8.0,
                low_freq_factor=1.0,
                high_freq_factor=4.0,
                original_max_position_embeddings=32,
            ),
        ),
    ),
    "llama, yarn": (
        "Llama",
        dict(rope_parameters=rope(rope_type="yarn", factor=4.0, original_max_position_embeddings=32)),
    ),
    "mistral with a window": ("Mistral", dict(sliding_window=16)),
    "qwen2, tied": ("Qwen2", dict(tie_word_embeddings=True)),
    "qwen2 with a window in the second layer": (
        "Qwen2",
        dict(use_sliding_window=True, sliding_window=8, max_window_layers=1),
    ),
    "qwen3": ("Qwen3", dict(head_dim=24)),
    "qwen3moe": (
        "Qwen3Moe",
        dict(num_experts=8, num_experts_per_tok=3, moe_intermediate_size=48, norm_topk_prob=True, head_dim=24),
    ),
    "qwen3moe, some layers dense, not normalised": (
        "Qwen3Moe",
        dict(
            num_hidden_layers=4,
            num_experts=6,
            num_experts_per_tok=2,
            moe_intermediate_size=32,
            norm_topk_prob=False,
            decoder_sparse_step=2,
            mlp_only_layers=[1],
            tie_word_embeddings=True,
        ),
    ),
    # The padding token of the class default is beyond this vocabulary.
    "smollm3": ("SmolLM3", dict(num_hidden_layers=4, pad_token_id=None)),
    "smollm3, layers listed, biases, not tied": (
        "SmolLM3",
        dict(
            no_rope_layers=[0, 1, 0],
            attention_bias=True,
            mlp_bias=True,
            tie_word_embeddings=False,
            pad_token_id=None,
        ),
    ),
    "qwen3, tied, yarn not truncated": (
        "Qwen3",
        dict(
            head_dim=16,
            tie_word_embeddings=True,
            rope_parameters=rope(
                rope_type="yarn",
                factor=4.0,
                original_max_position_embeddings=64,
                beta_fast=8.0,
                truncate=False,
                attention_factor=1.25,
            ),
        ),
    ),
    "qwen2 with a window in the first layer": (
        "Qwen2",
        dict(use_sliding_window=True, sliding_window=8, layer_types=["sliding_attention", "full_attention"]),
    ),
    "qwen3 with a window in every other layer": (
        "Qwen3",
        dict(
            head_dim=16,
            num_hidden_layers=4,
            use_sliding_window=True,
            sliding_window=8,
            layer_types=["full_attention", "sliding_attention"] * 2,
        ),
    ),
    "smollm3 with a window in the layers that do not rotate": (
        "SmolLM3",
        dict(no_rope_layers=[0, 1, 0], use_sliding_window=True, sliding_window=8, num_hidden_layers=3, pad_token_id=None),
    ),
    "gemma3": (
        "Gemma3",
        dict(head_dim=24, query_pre_attn_scalar=24, num_hidden_layers=7, sliding_window=16, pad_token_id=None),
    ),
    "gemma3, layers listed, linear": (
        "Gemma3",
        dict(
            head_dim=16,
            query_pre_attn_scalar=16,
            num_hidden_layers=5,
            sliding_window=8,
            layer_types=["sliding_attention", "sliding_attention", "full_attention", "sliding_attention", "sliding_attention"],
            rope_parameters={
                "full_attention": rope(rope_type="linear", factor=8.0),
                "sliding_attention": {"rope_type": "default", "rope_theta": 500.0},
            },
            pad_token_id=None,
        ),
    ),
    "gemma3, layers in no order, another scalar": (
        "Gemma3",
        dict(
            head_dim=24,
            query_pre_attn_scalar=40,
            num_hidden_layers=4,
            sliding_window=8,
            layer_types=["full_attention", "sliding_attention", "sliding_attention", "full_attention"],
            tie_word_embeddings=False,
            pad_token_id=None,
        ),
    ),
    # The padding token of the class default gets no gradient.
    "olmo2": ("Olmo2", dict(pad_token_id=None)),
    "olmo2 with biases, as many key/value heads, tied": (
        "Olmo2",
        dict(attention_bias=True, num_key_value_heads=4, tie_word_embeddings=True, pad_token_id=None),
    ),
    "granite": (
        "Granite",
        dict(
            embedding_multiplier=6.0,
            residual_multiplier=0.3,
            attention_multiplier=0.1,
            logits_scaling=7.3,
            tie_word_embeddings=True,
        ),
    ),
    "granite with biases": (
        "Granite",
        dict(
            attention_bias=True,
            mlp_bias=True,
            embedding_multiplier=1.5,
            residual_multiplier=0.5,
            attention_multiplier=0.3,
            logits_scaling=0.5,
        ),
    ),
    "phi3": ("Phi3", dict(pad_token_id=None)),
    "phi3 with a window": ("Phi3", dict(sliding_window=16, num_key_value_heads=1, pad_token_id=None)),
    "phi3, longrope": (
        "Phi3",
        dict(
            tie_word_embeddings=True,
            original_max_position_embeddings=64,
            rope_parameters=rope(
                rope_type="longrope",
                short_factor=[1.0, 1.1, 1.25, 1.5, 2.0, 2.5, 3.0, 4.0],
                long_factor=[1.0, 1.5, 2.0, 4.0, 8.0, 12.0, 20.0, 32.0],
            ),
            pad_token_id=None,
        ),
    ),
}

# The configuration class of a family whose name is not that of its model class.
CONFIGURATIONS = {"Gemma3": "Gemma3TextConfig"}


def numbers(name: str, count: int) -> numpy.ndarray:
    """`count` numbers from -0.5 to 0.5, a function of the name alone: FNV-1a seeds SplitMix64, whose upper 24 bits count."""
    seed = 0xCBF29CE484222325
    for byte in name.encode():
        seed = (seed ^ byte) * 0x100000001B3 % 2**64
    with numpy.errstate(over="ignore"):
        state = numpy.uint64(seed) + numpy.arange(1, count + 1, dtype=numpy.uint64) * numpy.uint64(0x9E3779B97F4A7C15)
        state = (state ^ (state >> numpy.uint64(30))) * numpy.uint64(0xBF58476D1CE4E5B9)
        state = (state ^ (state >> numpy.uint64(27))) * numpy.uint64(0x94D049BB133111EB)
        state = state ^ (state >> numpy.uint64(31))
    return (state >> numpy.uint64(40)).astype(numpy.float32) / numpy.float32(2**24) - numpy.float32(0.5)


def weights(name: str, count: int) -> numpy.ndarray:
    if name.endswith("norm.weight"):
        return numpy.float32(1) + numpy.float32(0.5) * numbers(name, count)
    if name.endswith("embed_tokens.weight"):
        return numpy.float32(2) * numbers(name, count)
    return numpy.float32(0.5) * numbers(name, count)


def fused_parts(name: str, config) -> dict[str, int]:
    """The projections, with their heights, that a parameter holds one above the other; none for others."""
    stem, _, kind = name.removesuffix(".weight").rpartition(".")
    if kind == "gate_up_proj" and stem.endswith("mlp"):
        return {f"{stem}.{part}_proj.weight": config.intermediate_size for part in ("gate", "up")}
    if kind == "qkv_proj":
        width = config.hidden_size // config.num_attention_heads
        heads = {"q": config.num_attention_heads, "k": config.num_key_value_heads, "v": config.num_key_value_heads}
        return {f"{stem}.{part}_proj.weight": count * width for part, count in heads.items()}
    return {}


def values_of(name: str, shape, config) -> numpy.ndarray:
    """A parameter by its name; transformers keeps the experts of a layer as one, which files hold apart, and so does the test with the
    fused projections of Phi-3. Gemma's norms are less 1."""
    if parts := fused_parts(name, config):
        return numpy.concatenate([weights(part, height * shape[1]).reshape(height, shape[1]) for part, height in parts.items()])
    if not name.endswith(("experts.gate_up_proj", "experts.down_proj")):
        less = numpy.float32(1 if config.model_type == "gemma3_text" and name.endswith("norm.weight") else 0)
        return weights(name, shape.numel()).reshape(shape) - less
    stem, _, kind = name.rpartition(".")
    experts = []
    for expert in range(shape[0]):
        if kind == "down_proj":
            experts.append(weights(f"{stem}.{expert}.down_proj.weight", shape[1] * shape[2]).reshape(shape[1:]))
        else:
            half = (shape[1] // 2, shape[2])
            parts = [weights(f"{stem}.{expert}.{part}_proj.weight", half[0] * half[1]) for part in ("gate", "up")]
            experts.append(numpy.concatenate([part.reshape(half) for part in parts]))
    return numpy.stack(experts)


def tokens_of(name: str) -> list[int]:
    """The tokens of a case."""
    return ((numbers(name, TOKENS) + 0.5) * VOCABULARY).astype(int).tolist()


def fill(model) -> None:
    """Puts the formula's weights into a model."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.copy_(torch.from_numpy(values_of(name, parameter.shape, model.config)))


def record(name: str, config, tokens: list[int], positions: list[int], **rows) -> dict:
    """A case as it is stored: of each tensor `[tokens, width]` in `rows` those at `positions`."""
    kept = {what: [[float(f"{value:.7g}") for value in values[at].tolist()] for at in positions] for what, values in rows.items()}
    return {"name": name, "config": json.loads(config.to_json_string()), "tokens": tokens, "positions": positions, **kept}


def configuration(family: str, sizes: dict):
    name = CONFIGURATIONS.get(family, f"{family}Config")
    return getattr(transformers, name)(**sizes, architectures=[f"{family}ForCausalLM"])


def case(name: str, family: str, changes: dict) -> dict:
    config = configuration(family, {**SIZES, **changes})
    config._attn_implementation = "eager"
    model = getattr(transformers, f"{family}ForCausalLM")(config).float().eval()
    fill(model)
    tokens = tokens_of(name)
    with torch.no_grad():
        logits = model(torch.tensor([tokens])).logits[0]
    return record(name, config, tokens, POSITIONS, logits=logits)


def write(file: str, cases: list[dict]) -> None:
    """Writes a file of cases beside this one, a line for each."""
    path = pathlib.Path(__file__).with_name(file)
    lines = ",\n".join(json.dumps(case) for case in cases)
    path.write_text(f"[\n{lines}\n]\n")
    print(f"{path}: {len(cases)} cases, {path.stat().st_size} bytes, transformers {transformers.__version__}")


def main() -> None:
    torch.set_num_threads(1)
    write("logits.json", [case(name, family, changes) for name, (family, changes) in CASES.items()])


if __name__ == "__main__":
    main()
