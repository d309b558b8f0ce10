#!/usr/bin/env python3
"""Writes adapters/: LoRA adapters as the `peft` library saves them, and adapters.json, merged.json and served.json: the logits that it
computes with them, in f32; of plain adapters, of others that can be merged into the weights, and of more of these that can be served beside them.

    pip install torch transformers peft numpy
    python crates/model/tests/golden/make_adapters.py

The base models are those of `make.py`, and so are the formulas for weights and tokens: an adapter's values follow from its name too.
"""

import json
import pathlib
import shutil

import peft
import torch
import transformers

from make import CASES, POSITIONS, SIZES, configuration, fill, numbers, tokens_of

EVERY = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]

ADAPTERS = {
    "llama-every": ("llama", torch.float32, dict(r=4, lora_alpha=8, target_modules=EVERY)),
    "llama-attention": ("llama", torch.bfloat16, dict(r=8, lora_alpha=4, target_modules=["q_proj", "k_proj"])),
    "qwen2-patterns": (
        "qwen2, tied",
        torch.float16,
        dict(
            r=4,
            lora_alpha=8,
            use_rslora=True,
            target_modules="all-linear",
            rank_pattern={"up_proj": 3, r"layers\.1\.self_attn\.q_proj": 20},
            alpha_pattern={"layers.0.mlp.up_proj": 2, ".*down_proj": 5},
        ),
    ),
    "qwen3-one-layer": (
        "qwen3",
        torch.float32,
        dict(r=2, lora_alpha=3, target_modules=["v_proj", "k_proj", "o_proj"], layers_to_transform=[1]),
    ),
    # One product for the q, k and v projections, and one for gate and up.
    "phi3-fused": (
        "phi3",
        torch.float32,
        dict(
            r=3,
            lora_alpha=5,
            target_modules=["qkv_proj", "o_proj", "gate_up_proj", "down_proj"],
            rank_pattern={"qkv_proj": 5},
            alpha_pattern={"gate_up_proj": 2},
        ),
    ),
    "gemma3-every": ("gemma3", torch.float32, dict(r=2, lora_alpha=3, target_modules=EVERY)),
}

MERGED = {
    "llama-dora": ("llama", torch.float32, dict(r=4, lora_alpha=8, target_modules=EVERY, use_dora=True)),
    "qwen2-biases": (
        "qwen2, tied",
        torch.float32,
        dict(r=2, lora_alpha=4, target_modules=["q_proj", "up_proj", "down_proj"], bias="all"),
    ),
    "qwen2-bias-of-b": (
        "qwen2, tied",
        torch.float32,
        dict(r=2, lora_alpha=4, target_modules=["q_proj", "k_proj"], lora_bias=True),
    ),
    "llama-head-and-embedding": (
        "llama",
        torch.float32,
        dict(r=2, lora_alpha=4, target_modules=["lm_head", "embed_tokens", "v_proj"], use_rslora=True),
    ),
    "qwen2-tied-embedding": ("qwen2, tied", torch.float32, dict(r=2, lora_alpha=4, target_modules=["embed_tokens", "q_proj"])),
    "qwen2-tied-head-dora": ("qwen2, tied", torch.float32, dict(r=2, lora_alpha=4, target_modules=["lm_head"], use_dora=True)),
    "llama-whole-modules": (
        "llama",
        torch.float32,
        dict(r=2, lora_alpha=4, target_modules=["k_proj"], modules_to_save=["lm_head", "input_layernorm", "norm"]),
    ),
    "qwen2-tokens": (
        "qwen2, tied",
        torch.float32,
        dict(r=2, lora_alpha=4, target_modules=["q_proj"], trainable_token_indices=[3, 1, 50]),
    ),
    "qwen2-tokens-apart": (
        "qwen2, tied",
        torch.float32,
        dict(
            r=2,
            lora_alpha=4,
            target_modules=["q_proj"],
            trainable_token_indices={"embed_tokens": [3, 1], "lm_head": [2, 50]},
        ),
    ),
    "phi3-dora": (
        "phi3",
        torch.float32,
        dict(r=2, lora_alpha=3, target_modules=["qkv_proj", "gate_up_proj", "o_proj"], use_dora=True),
    ),
    # Folders hold the norms less 1, and one of them has the name that other families give another one.
    "gemma3-norms": (
        "gemma3",
        torch.float32,
        dict(r=2, lora_alpha=4, target_modules=["v_proj"], modules_to_save=["post_attention_layernorm", "q_norm", "norm"]),
    ),
}


SERVED = {
    # The model has biases of its own, which the magnitudes leave as they are.
    "qwen2-dora": (
        "qwen2, tied",
        torch.float32,
        dict(r=3, lora_alpha=2, target_modules=EVERY, use_dora=True, use_rslora=True, rank_pattern={"v_proj": 1}),
    ),
    # The model has none, so these cannot be merged.
    "llama-bias-of-b": ("llama", torch.float32, dict(r=2, lora_alpha=3, target_modules=EVERY, lora_bias=True)),
}


def trained(name: str, parameter_name: str, parameter: torch.Tensor) -> torch.Tensor:
    """A trained value by its name, near what the parameter was where that is no low-rank product."""
    values = torch.from_numpy(numbers(f"{name} {parameter_name}", parameter.numel())).reshape(parameter.shape)
    if "magnitude" in parameter_name:
        return parameter * (1 + 0.5 * values)
    if "modules_to_save" in parameter_name or "tokens_delta" in parameter_name or parameter_name.endswith("bias"):
        return parameter + 0.5 * values
    return 0.5 * values


def case(name: str, base: str, dtype: torch.dtype, settings: dict, folder: pathlib.Path) -> dict:
    family, changes = CASES[base]
    config = configuration(family, {**SIZES, **changes})
    config._attn_implementation = "eager"
    model = getattr(transformers, f"{family}ForCausalLM")(config).float().eval()
    fill(model)
    tokens = tokens_of(name)
    with torch.no_grad():
        plain = model(torch.tensor([tokens])).logits[0]
        adapted = peft.get_peft_model(model, peft.LoraConfig(task_type="CAUSAL_LM", **settings)).eval()
        for parameter_name, parameter in adapted.named_parameters():
            if parameter.requires_grad:
                # What is saved in 16 bits is computed with in f32, as it is read again.
                parameter.copy_(trained(name, parameter_name, parameter).to(dtype).float())
        logits = adapted(torch.tensor([tokens])).logits[0]
        for parameter_name, parameter in adapted.named_parameters():
            if "lora_" in parameter_name:
                parameter.data = parameter.data.to(dtype)
    path = folder / name
    shutil.rmtree(path, ignore_errors=True)
    adapted.save_pretrained(path)
    (path / "README.md").unlink(missing_ok=True)
    rounded = lambda rows: [[float(f"{value:.7g}") for value in rows[position].tolist()] for position in POSITIONS]
    return {
        "name": name,
        "config": json.loads(config.to_json_string()),
        "tokens": tokens,
        "positions": POSITIONS,
        "logits": rounded(logits),
        "plain_logits": rounded(plain),
    }


def main() -> None:
    torch.set_num_threads(1)
    folder = pathlib.Path(__file__).with_name("adapters")
    for file, adapters in [("adapters.json", ADAPTERS), ("merged.json", MERGED), ("served.json", SERVED)]:
        cases = [case(name, *adapter, folder) for name, adapter in adapters.items()]
        path = pathlib.Path(__file__).with_name(file)
        lines = ",\n".join(json.dumps(case) for case in cases)
        path.write_text(f"[\n{lines}\n]\n")
        print(f"{path}: {len(cases)} cases, peft {peft.__version__}, transformers {transformers.__version__}")


if __name__ == "__main__":
    main()
