#!/usr/bin/env python3
"""Writes reward_models/: adapters of the task type SEQ_CLS as the `peft` library saves them, and reward_models.json: scores of
`…ForSequenceClassification` models with one label, whole and with these adapters, in f32.

    pip install torch transformers peft numpy
    python crates/model/tests/golden/make_reward_models.py

Weights and tokens come from the formulas of `make.py`; the head's tensor is called `score.weight`.
"""

import json
import pathlib
import shutil

import peft
import torch
import transformers

from make import CASES, SIZES, TOKENS, VOCABULARY, numbers, values_of

LENGTHS = [1, 17, TOKENS]
WHOLE = ["llama with biases, tied", "mistral with a window", "qwen2, tied", "qwen3", "qwen3moe"]
ADAPTERS = {
    "llama-score": ("llama", dict(r=4, lora_alpha=8, target_modules=["q_proj", "v_proj", "down_proj"])),
    "qwen2-score-rslora": ("qwen2, tied", dict(r=4, lora_alpha=6, use_rslora=True, target_modules=["k_proj", "up_proj"])),
}


def classifier(base: str):
    family, changes = CASES[base]
    name = f"{family}ForSequenceClassification"
    config = getattr(transformers, f"{family}Config")(**{**SIZES, **changes}, architectures=[name], num_labels=1)
    config._attn_implementation = "eager"
    # The defaults of several classes name a token that is beyond this vocabulary.
    config.pad_token_id = None
    model = getattr(transformers, name)(config).float().eval()
    with torch.no_grad():
        for parameter_name, parameter in model.named_parameters():
            parameter.copy_(torch.from_numpy(values_of(parameter_name, parameter.shape, config)))
    return config, model


def scores(model, tokens: list[int]) -> list[float]:
    with torch.no_grad():
        return [float(f"{float(model(torch.tensor([tokens[:length]])).logits[0, 0]):.7g}") for length in LENGTHS]


def tokens_of(name: str) -> list[int]:
    return ((numbers(name, TOKENS) + 0.5) * VOCABULARY).astype(int).tolist()


def whole(base: str) -> dict:
    config, model = classifier(base)
    tokens = tokens_of(base)
    return {"name": base, "adapter": None, "config": json.loads(config.to_json_string()), "tokens": tokens, "lengths": LENGTHS, "scores": scores(model, tokens)}


def adapted(name: str, base: str, settings: dict, folder: pathlib.Path) -> dict:
    config, model = classifier(base)
    tokens = tokens_of(name)
    model = peft.get_peft_model(model, peft.LoraConfig(task_type="SEQ_CLS", **settings)).eval()
    with torch.no_grad():
        for parameter_name, parameter in model.named_parameters():
            if "lora_" in parameter_name or ("score" in parameter_name and "modules_to_save" in parameter_name):
                parameter.copy_(0.5 * torch.from_numpy(numbers(f"{name} {parameter_name}", parameter.numel())).reshape(parameter.shape))
    found = scores(model, tokens)
    path = folder / name
    shutil.rmtree(path, ignore_errors=True)
    model.save_pretrained(path)
    (path / "README.md").unlink(missing_ok=True)
    # The base's own configuration, as of a model that writes text.
    config.architectures = [config.architectures[0].replace("ForSequenceClassification", "ForCausalLM")]
    return {"name": name, "adapter": name, "config": json.loads(config.to_json_string()), "tokens": tokens, "lengths": LENGTHS, "scores": found}


def main() -> None:
    torch.set_num_threads(1)
    folder = pathlib.Path(__file__).with_name("reward_models")
    cases = [whole(base) for base in WHOLE] + [adapted(name, *adapter, folder) for name, adapter in ADAPTERS.items()]
    path = pathlib.Path(__file__).with_name("reward_models.json")
    lines = ",\n".join(json.dumps(case) for case in cases)
    path.write_text(f"[\n{lines}\n]\n")
    print(f"{path}: {len(cases)} cases, peft {peft.__version__}, transformers {transformers.__version__}")


if __name__ == "__main__":
    main()
