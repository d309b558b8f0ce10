#!/usr/bin/env python3
"""Checks that `zhenjin embed` gives the vectors that the library sentence-transformers gives.

    python scripts/check_embeddings.py --zhenjin target/release/zhenjin [--model FOLDER]… [--speed N]

Makes small random models (torch, transformers, tokenizers, sentence-transformers): BERT with WordPiece, XLM-RoBERTa with a unigram
vocabulary, RoBERTa with byte pairs, each with another way to pool; and compares vectors of texts of many lengths in several scripts, alone
and in batches, with and without a prompt and shorter vectors. Models in folders of `--model` are compared too. With `--speed N`, N sentences
are embedded by both in turns on two threads. Exits with 1 where something differs by more than 1e-4.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path

TOLERANCE = 1e-4
WORDS = "the cat sat on a mat and read 12 books about café naïve Straße 中文 向量 モデル привет мир don't e-mail, (really?) x²".split()
FAMILIES = {
    "bert": ("Bert", "mean", True),
    "bert-cls": ("Bert", "cls", False),
    "xlm-roberta": ("XLMRoberta", "mean", True),
    "xlm-roberta-max": ("XLMRoberta", "max", True),
    "roberta": ("Roberta", "lasttoken", False),
    "bert-sqrt": ("Bert", "mean_sqrt_len_tokens", False),
    "bert-weighted": ("Bert", "weightedmean", True),
}


def texts() -> list[str]:
    made = ["", " ", "a", "[SEP] <s> </s> [MASK]", "\tTabs and\nlines\u200b", "🙂 emoji", "Ａ ｆｕｌｌ ｗｉｄｔｈ"]
    for number in range(60):
        length = 1 + (number * 7) % 23
        made.append(" ".join(WORDS[(number * 5 + place * (number % 4 + 1)) % len(WORDS)] for place in range(length)))
    return made


def make_tokenizer(kind: str, folder: Path):
    import transformers
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

    corpus = [" ".join(WORDS)] * 20 + texts()
    special = {"Bert": ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]}.get(kind, ["<s>", "<pad>", "</s>", "<unk>", "<mask>"])
    if kind == "Bert":
        tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
        tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
        tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        trainer = trainers.WordPieceTrainer(vocab_size=200, special_tokens=special)
    elif kind == "XLMRoberta":
        tokenizer = Tokenizer(models.Unigram())
        tokenizer.normalizer = normalizers.Sequence([normalizers.Nmt(), normalizers.NFKC()])
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
        tokenizer.decoder = decoders.Metaspace()
        trainer = trainers.UnigramTrainer(vocab_size=200, special_tokens=special, unk_token="<unk>")
    else:
        tokenizer = Tokenizer(models.BPE())
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        trainer = trainers.BpeTrainer(vocab_size=400, special_tokens=special, initial_alphabet=pre_tokenizers.ByteLevel.alphabet())
    tokenizer.train_from_iterator(corpus, trainer)
    first, last = ("[CLS]", "[SEP]") if kind == "Bert" else ("<s>", "</s>")
    ids = [(name, tokenizer.token_to_id(name)) for name in (first, last)]
    tokenizer.post_processor = processors.TemplateProcessing(single=f"{first} $A {last}", special_tokens=ids)
    names = dict(zip(("pad_token", "unk_token", "cls_token", "sep_token", "mask_token"), special)) if kind == "Bert" else dict(
        cls_token="<s>", bos_token="<s>", sep_token="</s>", eos_token="</s>", pad_token="<pad>", unk_token="<unk>", mask_token="<mask>"
    )
    fast = transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer, model_max_length=120, **names)
    fast.save_pretrained(folder)
    return fast


def make_model(family: str, folder: Path) -> None:
    import torch
    import transformers
    from sentence_transformers import SentenceTransformer, models

    kind, mode, normalise = FAMILIES[family]
    base = folder / "base"
    base.mkdir(parents=True)
    tokenizer = make_tokenizer(kind, base)
    torch.manual_seed(len(family))
    config = getattr(transformers, f"{kind}Config")(
        vocab_size=len(tokenizer), hidden_size=64, intermediate_size=112, num_hidden_layers=3, num_attention_heads=4,
        max_position_embeddings=128, initializer_range=0.3, pad_token_id=tokenizer.pad_token_id,
    )
    model = getattr(transformers, f"{kind}Model")(config)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() == 1:
                parameter.add_(0.2 * torch.randn_like(parameter))
    model.save_pretrained(base)
    transformer = models.Transformer(str(base), max_seq_length=120)
    modules = [transformer, models.Pooling(64, pooling_mode=mode)] + ([models.Normalize()] if normalise else [])
    SentenceTransformer(modules=modules, prompts={"query": "query: ", "document": ""}, device="cpu").save(str(folder / "model"))


def here(arguments, folder: Path, given: list[str], *options: str) -> list[list[float]]:
    lines = "".join(json.dumps(text) + "\n" for text in given)
    command = [arguments.zhenjin, "embed", folder, "--jsonl", "-", *options]
    done = subprocess.run(command, input=lines, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        sys.exit(f"{' '.join(map(str, command))}: {done.stderr}")
    return [json.loads(line)["embedding"] for line in done.stdout.splitlines()]


def difference(one, other) -> float:
    import numpy

    one, other = numpy.array(one), numpy.array(other)
    assert one.shape == other.shape, (one.shape, other.shape)
    return float(abs(one - other).max())


def check(arguments, name: str, folder: Path) -> int:
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(str(folder), device="cpu")
    given = texts()
    results = []
    for what, options, settings in [
        ("plain", [], {}),
        ("with a prompt", ["--prompt", "query: "], {"prompt": "query: "}),
    ]:
        expected = model.encode(given, batch_size=16, **settings)
        results.append((what, difference(here(arguments, folder, given, *options), expected)))
    width = len(expected[0]) // 2
    short = SentenceTransformer(str(folder), device="cpu", truncate_dim=width)
    expected = short.encode(given, batch_size=16)
    if any(type(module).__name__ == "Normalize" for module in short):
        expected = [vector / sum(float(value) ** 2 for value in vector) ** 0.5 for vector in expected]
    results.append((f"{width} dimensions", difference(here(arguments, folder, given, "--dimensions", str(width)), expected)))
    for what, most in results:
        print(f"{name}, {what}: differs by {most:.1e}{'' if most <= TOLERANCE else '  TOO MUCH'}")
    return sum(most > TOLERANCE for _, most in results)


def speed(arguments, folder: Path, count: int) -> None:
    """Both in turns; here the program's start and its loading are measured with one sentence and taken off."""
    import torch
    from sentence_transformers import SentenceTransformer

    torch.set_num_threads(2)
    model = SentenceTransformer(str(folder), device="cpu")
    sentences = [f"Sentence {n} says that {' '.join(WORDS[(n * 3 + place) % len(WORDS)] for place in range(5 + n % 25))}." for n in range(count)]
    ratios = []
    for turn in range(6):
        begun = time.perf_counter()
        model.encode(sentences, batch_size=32)
        there = time.perf_counter() - begun
        begun = time.perf_counter()
        here(arguments, folder, sentences[:1], "--threads", "2")
        loading = time.perf_counter() - begun
        begun = time.perf_counter()
        here(arguments, folder, sentences, "--threads", "2")
        ours = time.perf_counter() - begun - loading
        if turn > 0:
            ratios.append(there / ours)
        print(f"{count} sentences: sentence-transformers {there:.2f} s, here {ours:.2f} s and {loading:.2f} s to load")
    ratios.sort()
    print(f"ratio: {ratios[0]:.2f} / {ratios[len(ratios) // 2]:.2f} / {ratios[-1]:.2f} (least, median, greatest)")


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--zhenjin", default="target/release/zhenjin", type=lambda path: Path(path).resolve())
    parser.add_argument("--families", default=",".join(FAMILIES), type=lambda text: [name for name in text.split(",") if name])
    parser.add_argument("--model", action="append", default=[], type=Path)
    parser.add_argument("--speed", type=int)
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    failures = 0
    for family in arguments.families:
        with tempfile.TemporaryDirectory(prefix="zhenjin-embeddings-") as folder:
            make_model(family, Path(folder))
            failures += check(arguments, family, Path(folder) / "model")
    for folder in arguments.model:
        failures += check(arguments, folder.name, folder)
        if arguments.speed:
            speed(arguments, folder, arguments.speed)
    print("all equal" if failures == 0 else f"{failures} differ")
    return min(failures, 1)


if __name__ == "__main__":
    sys.exit(main())
