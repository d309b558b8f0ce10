#!/usr/bin/env python3
"""Checks that reward models which `zhenjin reward` trains open in `transformers` and `peft` and give the same scores there, and that
those which these libraries write open here.

    python scripts/check_reward_models.py --zhenjin target/release/zhenjin [--families qwen3,…]

Makes the small random models of `check_exports.py` (torch, transformers, peft), trains a reward model and an adapter to one for two steps
each, and compares the scores that `zhenjin evaluate preferences --json` tells of each pair's answers with those of the libraries, alone and
in a padded batch; then the same for models and adapters that the libraries write. Exits with 1 where something differs.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path

import check_exports

FAMILIES = ["llama", "mistral", "qwen2", "qwen3-untied", "qwen3-moe", "smollm3", "olmo2"]
TOLERANCE = 1e-4
END = "<|im_end|>"


def pairs() -> list[dict]:
    def turn(role, text):
        return [{"role": role, "content": text}]

    return [
        {"prompt": turn("user", f"Say {n}, 月."), "chosen": turn("assistant", f"{n} it is" * (1 + n % 3)), "rejected": turn("assistant", "no" * n)}
        for n in range(1, 13)
    ]


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--zhenjin", default="target/release/zhenjin", type=lambda path: Path(path).resolve())
    parser.add_argument("--families", default=",".join(FAMILIES), type=lambda text: text.split(","))
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    failures = 0
    for family in arguments.families:
        with tempfile.TemporaryDirectory(prefix="zhenjin-rewards-") as folder:
            failures += check(arguments, family, Path(folder))
    print("all equal" if failures == 0 else f"{failures} differ")
    return min(failures, 1)


def check(arguments, family: str, folder: Path) -> int:
    import peft
    import torch
    import transformers

    transformers.logging.set_verbosity_error()
    base, data = folder / "base", folder / "pairs.jsonl"
    tokenizer = check_exports.make_tokenizer(transformers, family)
    model = check_exports.make_model(family, len(tokenizer))
    model.config.pad_token_id = tokenizer.pad_token_id
    model.save_pretrained(base)
    tokenizer.save_pretrained(base)
    data.write_text("".join(json.dumps(pair) + "\n" for pair in pairs()))
    classes = transformers.AutoModelForSequenceClassification
    results = []

    def compare(what: str, opened, reward_model: Path, ends_with_the_turn: bool) -> None:
        expected = scores(opened.eval(), tokenizer, ends_with_the_turn)
        found = here(arguments, folder, base, data, reward_model)
        difference = max(abs(one - other) for one, other in zip(expected, found, strict=True))
        batched = scores(opened.eval(), tokenizer, ends_with_the_turn, in_one_batch=True)
        of_batch = max(abs(one - other) for one, other in zip(expected, batched, strict=True))
        spread = max(expected) - min(expected)
        results.append((f"{what}: scores differ by {difference:.1e}, in a padded batch by {of_batch:.1e}, of {spread:.2f}", max(difference, of_batch) <= TOLERANCE < spread))

    for tuning in ("full", "lora"):
        checkpoint = train(arguments, folder, base, data, tuning)
        if tuning == "full":
            config = json.loads((checkpoint / "config.json").read_text())
            class_name = check_exports.FAMILIES[family][0] + "ForSequenceClassification"
            results.append((f"trained here, full: {config['architectures']}", config["architectures"] == [class_name]))
            opened, loading = classes.from_pretrained(checkpoint, output_loading_info=True)
            keys = {name: list(loading[name]) for name in ("missing_keys", "unexpected_keys", "mismatched_keys")}
            results.append((f"trained here, full: {keys}", not any(keys.values())))
            padding = opened.config.pad_token_id
            results.append((f"trained here, full: padding {padding}", padding not in (None, tokenizer.convert_tokens_to_ids(END))))
        else:
            # The head is new until the adapter brings its own.
            opened = peft.PeftModel.from_pretrained(classes.from_pretrained(base, num_labels=1), checkpoint)
            results.append((f"trained here, adapter: {opened.peft_config['default'].task_type}", opened.peft_config["default"].task_type == "SEQ_CLS"))
        compare(f"trained here, {tuning}", opened, checkpoint, True)

    torch.manual_seed(3)
    theirs = classes.from_pretrained(base, num_labels=1)
    with torch.no_grad():
        theirs.score.weight.copy_(torch.randn_like(theirs.score.weight))
    theirs.save_pretrained(folder / "theirs")
    compare("trained there, full", theirs, folder / "theirs", False)
    tokenizer.save_pretrained(folder / "theirs")
    compare("trained there, full, with its tokenizer", theirs, folder / "theirs", False)
    settings = peft.LoraConfig(task_type="SEQ_CLS", r=4, lora_alpha=8, use_rslora=True, target_modules=["q_proj", "v_proj"])
    adapted = peft.get_peft_model(theirs, settings)
    with torch.no_grad():
        for name, parameter in adapted.named_parameters():
            if "lora_B" in name or "modules_to_save" in name:
                parameter.copy_(0.3 * torch.randn_like(parameter))
    adapted.save_pretrained(folder / "adapter")
    compare("trained there, adapter", adapted, folder / "adapter", False)
    for what, equal in results:
        print(f"{family}: {what}: {'ok' if equal else 'DIFFERS'}", flush=True)
    return sum(not equal for _, equal in results)


def scores(model, tokenizer, ends_with_the_turn: bool, in_one_batch: bool = False) -> list[float]:
    import torch

    texts = [pair["prompt"] + pair[side] for pair in pairs() for side in ("chosen", "rejected")]
    ids = [tokenizer.apply_chat_template(messages, return_dict=True)["input_ids"] for messages in texts]
    if ends_with_the_turn:
        end = tokenizer.convert_tokens_to_ids(END)
        ids = [tokens[: len(tokens) - tokens[::-1].index(end)] for tokens in ids]
    with torch.no_grad():
        if not in_one_batch:
            return [float(model(torch.tensor([tokens])).logits[0, 0]) for tokens in ids]
        longest = max(map(len, ids))
        rows = [tokens + [model.config.pad_token_id] * (longest - len(tokens)) for tokens in ids]
        mask = [[1] * len(tokens) + [0] * (longest - len(tokens)) for tokens in ids]
        return model(torch.tensor(rows), attention_mask=torch.tensor(mask)).logits[:, 0].tolist()


def here(arguments, folder: Path, base: Path, data: Path, reward_model: Path) -> list[float]:
    command = [arguments.zhenjin, "evaluate", "preferences", base, "--data", data, "--reward-model", reward_model]
    command += ["--json", "--home", folder / "home"]
    answer = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    return [score for pair in answer["scores"] for score in pair]


def train(arguments, folder: Path, base: Path, data: Path, tuning: str) -> Path:
    out = folder / tuning
    command = [arguments.zhenjin, "reward", base, "--data", data, "--out", out, "--steps", "2", "--home", folder / "home"]
    command += ["--plain", "--learning-rate", "0.01", "--held-out-share", "0"] + (["--full"] if tuning == "full" else [])
    subprocess.run(command, check=True, capture_output=True)
    return max((out / "checkpoints").iterdir())


if __name__ == "__main__":
    sys.exit(main())
