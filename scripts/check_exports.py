#!/usr/bin/env python3
"""Checks that models which `zhenjin export` writes open elsewhere and answer there as here.

    python scripts/check_exports.py --zhenjin target/release/zhenjin --llama-python PYTHON [--families qwen3,…]

Makes a small random model of every family with `transformers` (torch, transformers, numpy), a byte-level tokenizer and a
chat template, and exports it to a Hugging Face folder, to a GGUF file, and from that file back to a folder. Compares:
logits of the folders in `transformers` with the original's; ids, logits and greedy answers of the GGUF file in llama.cpp
(`llama-cpp-python`, in the environment of PYTHON); and this program's own greedy answers. Exits with 1 where something differs.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

TEXTS = [
    "Hello world! It's 2026, isn't it?  Two  spaces.\n\nNew\tlines",
    "床前明月光，疑是地上霜。\n舉頭望明月，低頭思故鄉。",
    "naïve café — 12345 + 678 = 13,023 <|im_start|>user\nHi<|im_end|>\n",
]
TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
PROMPT = "Name three colours of the 月."
ANSWER_TOKENS = 24
WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
TOLERANCE = 1e-4


def sizes(**changes):
    return {
        "hidden_size": 64,
        "intermediate_size": 96,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 512,
        "rms_norm_eps": 1e-6,
        **changes,
    }


FAMILIES = {
    "llama": ("Llama", sizes(tie_word_embeddings=True)),
    "llama-biases": ("Llama", sizes(attention_bias=True, mlp_bias=True)),
    "mistral": ("Mistral", sizes(sliding_window=None, head_dim=24)),
    "qwen2": ("Qwen2", sizes(tie_word_embeddings=True)),
    "qwen3": ("Qwen3", sizes(head_dim=32, tie_word_embeddings=True)),
    "qwen3-untied": ("Qwen3", sizes(head_dim=16)),
    "qwen3-moe": (
        "Qwen3Moe",
        sizes(head_dim=16, num_experts=6, num_experts_per_tok=2, moe_intermediate_size=32, norm_topk_prob=True),
    ),
    # The padding tokens of these classes' defaults are beyond the vocabulary.
    "smollm3": ("SmolLM3", sizes(num_hidden_layers=4, pad_token_id=None, bos_token_id=None, eos_token_id=None)),
    "gemma3": (
        "Gemma3",
        sizes(num_hidden_layers=7, head_dim=32, query_pre_attn_scalar=32, sliding_window=16, pad_token_id=None),
    ),
    "olmo2": ("Olmo2", sizes(pad_token_id=None, eos_token_id=None)),
    "granite": (
        "Granite",
        sizes(
            tie_word_embeddings=True,
            embedding_multiplier=6.0,
            residual_multiplier=0.3,
            attention_multiplier=0.1,
            logits_scaling=4.0,
        ),
    ),
    "phi3": ("Phi3", sizes(pad_token_id=None, eos_token_id=None, bos_token_id=None)),
    "phi3-longrope": (
        "Phi3",
        sizes(
            max_position_embeddings=1024,
            original_max_position_embeddings=512,
            rope_parameters={
                "rope_type": "longrope",
                "rope_theta": 10000.0,
                "short_factor": [1.0, 1.1, 1.25, 1.5, 2.0, 2.5, 3.0, 4.0],
                "long_factor": [1.0, 1.5, 2.0, 4.0, 8.0, 12.0, 20.0, 32.0],
            },
            pad_token_id=None,
            eos_token_id=None,
            bos_token_id=None,
        ),
    ),
}
# The configuration class of a family whose name is not that of its model class.
CONFIGURATIONS = {"Gemma3": "Gemma3TextConfig"}
# llama.cpp keeps keys and values in f16, and looks GELU up in a table of that.
LLAMA_CPP_TOLERANCES = {"gemma3": 0.05}


def main() -> int:
    arguments = parse()
    if arguments.in_llama_cpp:
        return in_llama_cpp(Path(arguments.in_llama_cpp))
    failures = 0
    with tempfile.TemporaryDirectory(prefix="zhenjin-exports-") as folder:
        for family in arguments.families:
            failures += check(arguments, family, Path(folder) / family)
    print("all equal" if failures == 0 else f"{failures} differ")
    return min(failures, 1)


def check(arguments, family: str, folder: Path) -> int:
    import torch
    import transformers

    folder.mkdir()
    tokenizer = make_tokenizer(transformers, family)
    model = make_model(family, len(tokenizer))
    source, copy, gguf, back = (folder / name for name in ("source", "copy", "model.gguf", "back"))
    model.save_pretrained(source)
    tokenizer.save_pretrained(source)
    export(arguments, source, "hf", copy)
    export(arguments, source, "gguf", gguf)
    export(arguments, gguf, "hf", back)

    results = []
    ids = [tokenizer(text)["input_ids"] for text in TEXTS]
    expected = [model(torch.tensor([tokens])).logits[0] for tokens in ids]
    for name, path in (("folder", copy), ("folder of the GGUF file", back)):
        opened = transformers.AutoModelForCausalLM.from_pretrained(path, dtype="auto").eval()
        with torch.no_grad():
            found = [opened(torch.tensor([tokens])).logits[0] for tokens in ids]
        difference = max(float((a - b).abs().max()) for a, b in zip(expected, found))
        results.append((f"transformers, {name}: logits differ by {difference:.1e}", difference <= TOLERANCE))
        opened_tokenizer = transformers.AutoTokenizer.from_pretrained(path)
        results.append((f"transformers, {name}: ids", [opened_tokenizer(text)["input_ids"] for text in TEXTS] == ids))
        messages = [{"role": "user", "content": PROMPT}]
        rendered = [t.apply_chat_template(messages, tokenize=False, add_generation_prompt=True) for t in (tokenizer, opened_tokenizer)]
        results.append((f"transformers, {name}: chat template", rendered[0] == rendered[1]))

    prompt = tokenizer.apply_chat_template(
        [{"role": "user", "content": PROMPT}], add_generation_prompt=True, return_dict=True, return_tensors="pt"
    )["input_ids"]
    answer = model.generate(prompt, max_new_tokens=ANSWER_TOKENS, do_sample=False)[0][prompt.shape[1] :].tolist()
    order = folder / "order.json"
    order.write_text(json.dumps({"model": str(gguf), "texts": TEXTS, "prompt": prompt[0].tolist(), "count": ANSWER_TOKENS}))
    command = [arguments.llama_python, __file__, "--in-llama-cpp", str(order)]
    there = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()[-1])
    results.append(("llama.cpp: ids", there["ids"] == ids))
    difference = max(
        float((torch.tensor(found) - wanted[-1]).abs().max()) for found, wanted in zip(there["logits"], expected)
    )
    tolerance = LLAMA_CPP_TOLERANCES.get(family, 0.01)
    results.append((f"llama.cpp: last logits differ by {difference:.1e}", difference <= tolerance))
    results.append(("llama.cpp: greedy answer", there["answer"] == answer[: len(there["answer"])]))

    text = tokenizer.decode([token for token in answer if token not in tokenizer.all_special_ids])
    for name, path in (("folder", copy), ("GGUF file", gguf)):
        command = [arguments.zhenjin, "chat", path, "-p", PROMPT, "--temperature", "0", "--max-tokens", str(ANSWER_TOKENS), "--json"]
        command += ["--home", folder / "home", "--repetition-penalty", "1"]
        here = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
        results.append((f"zhenjin, {name}: greedy answer", text_of(here) == text))
    for what, equal in results:
        print(f"{family}: {what}: {'ok' if equal else 'DIFFERS'}", flush=True)
    return sum(not equal for _, equal in results)


def text_of(answer: dict) -> str:
    for key in ("text", "content", "answer"):
        if key in answer:
            return answer[key]
    raise KeyError(f"no text in {list(answer)}")


def export(arguments, source: Path, to: str, out: Path) -> None:
    command = [arguments.zhenjin, "export", source, "--to", to, out, "--home", out.parent / "home"]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def make_tokenizer(transformers, family: str):
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    # The two ways of splitting words that are known to all programs: Qwen's, and that of `zhenjin tokenizer train`.
    if family.startswith("qwen"):
        split = pre_tokenizers.Split(Regex(WORDS), behavior="isolated")
    else:
        split = pre_tokenizers.Digits(individual_digits=True)
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=not family.startswith("qwen"))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([split, byte_level])
    tokenizer.decoder = decoders.ByteLevel()
    specials = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=500, special_tokens=specials, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator(TEXTS * 4 + [Path(__file__).read_text()], trainer)
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token="<|im_end|>", pad_token="<|endoftext|>", chat_template=TEMPLATE
    )


def make_model(family: str, vocabulary: int):
    import torch
    import transformers

    torch.manual_seed(7)
    name, settings = FAMILIES[family]
    config = getattr(transformers, CONFIGURATIONS.get(name, f"{name}Config"))(**settings, vocab_size=vocabulary + 5)
    model = getattr(transformers, f"{name}ForCausalLM")(config).float().eval()
    with torch.no_grad():
        for parameter_name, parameter in model.named_parameters():
            if parameter_name.endswith("norm.weight"):
                # Gemma's are less 1.
                parameter.copy_((name != "Gemma3") + 0.2 * torch.randn_like(parameter))
            else:
                parameter.copy_(0.15 * torch.randn_like(parameter))
        # Ids beyond the tokenizer's are never answered.
        model.get_output_embeddings().weight[vocabulary:] = 0
    model.generation_config.eos_token_id = None
    return model


def in_llama_cpp(order_path: Path) -> int:
    """Runs in the other environment."""
    import llama_cpp

    order = json.loads(order_path.read_text())
    model = llama_cpp.Llama(order["model"], n_ctx=512, n_threads=1, logits_all=False, verbose=False)
    ids = [model.tokenize(text.encode(), add_bos=False, special=True) for text in order["texts"]]

    def last_logits(tokens):
        model.reset()
        model.eval(tokens)
        vocabulary = model.n_vocab()
        return [model._ctx.get_logits_ith(-1)[index] for index in range(vocabulary)]

    logits = [last_logits(tokens) for tokens in ids]
    tokens, answer = list(order["prompt"]), []
    for _ in range(order["count"]):
        scores = last_logits(tokens)
        best = max(range(len(scores)), key=scores.__getitem__)
        answer.append(best)
        tokens.append(best)
    print(json.dumps({"ids": ids, "logits": logits, "answer": answer}))
    return 0


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--zhenjin", default="target/release/zhenjin")
    parser.add_argument("--llama-python", default=sys.executable)
    parser.add_argument("--families", type=lambda names: names.split(","), default=list(FAMILIES))
    parser.add_argument("--in-llama-cpp", help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
