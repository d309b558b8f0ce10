#!/usr/bin/env python3
"""Writes vectors.json: the folders that sentence-transformers saves for one tiny encoder with several modules behind it, and its vectors of texts.

    pip install torch transformers tokenizers sentence-transformers
    python crates/assistant/tests/golden/make_vectors.py

Files that all folders have in common are stored once; weights are stored as hexadecimal digits of the file's bytes. Run it again after adding a
case; the other cases must come out unchanged to about 1e-6.
"""

import contextlib
import json
import os
import pathlib
import tempfile
import warnings

import sentence_transformers
import torch
import transformers
from sentence_transformers import SentenceTransformer, models
from tokenizers import Tokenizer, decoders, normalizers, pre_tokenizers, processors
from tokenizers.models import WordPiece

WIDTH = 16
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
WORDS = ["a", "cat", "sat", "on", "the", "mat", "##s", "dog"]
# Of several lengths, so that the library pads; it encodes them as one batch.
TEXTS = ["cats", "the cat sat on a mat", "the dog sat on the cat on the mat"]


def pool(*modes: str) -> models.Pooling:
    return models.Pooling(WIDTH, pooling_mode=modes[0] if len(modes) == 1 else modes)


def dense(inputs: int, outputs: int, activation, bias: bool = True) -> models.Dense:
    torch.manual_seed(inputs + outputs)
    return models.Dense(inputs, outputs, bias=bias, activation_function=activation)


def change(path: str, update: dict, remove: tuple = ()):
    """A function that rewrites a file as earlier versions of the library wrote it."""

    def apply(folder: pathlib.Path) -> None:
        file = folder / path
        settings = {name: value for name, value in json.loads(file.read_text()).items() if name not in remove}
        file.write_text(json.dumps({**settings, **update}, indent=2))

    return apply


def cases() -> dict:
    """Names, the modules behind the transformer, and what is done with the saved folder."""
    tanh, identity, relu, sigmoid = torch.nn.Tanh(), torch.nn.Identity(), torch.nn.ReLU(), torch.nn.Sigmoid()
    switches = {"word_embedding_dimension": WIDTH, "pooling_mode_mean_tokens": True, "pooling_mode_cls_token": True}
    modes = {name: ([pool(name)], None) for name in models.Pooling.POOLING_MODES}
    return modes | {
        "normalised": ([pool("mean"), models.Normalize()], None),
        "modes in an order of their own": ([pool("mean", "cls")], None),
        "switches": ([pool("mean")], change("1_Pooling/config.json", switches, ("embedding_dimension", "pooling_mode"))),
        "dense with tanh, normalised": ([pool("cls"), dense(WIDTH, 12, tanh), models.Normalize()], None),
        "dense without a bias": ([pool("mean"), dense(WIDTH, 8, identity, bias=False)], None),
        "two layers behind two modes": ([pool("max", "mean"), dense(2 * WIDTH, 10, relu), dense(10, 20, sigmoid)], None),
        "dense that names no activation": ([pool("mean"), dense(WIDTH, 8, tanh)], change("2_Dense/config.json", {}, ("activation_function",))),
    }


def make_base(folder: pathlib.Path) -> None:
    """A random BERT with a WordPiece tokenizer."""
    vocabulary = {text: number for number, text in enumerate(SPECIAL + WORDS)}
    tokenizer = Tokenizer(WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    ends = [(name, vocabulary[name]) for name in ("[CLS]", "[SEP]")]
    tokenizer.post_processor = processors.TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=ends)
    names = dict(zip(("pad_token", "unk_token", "cls_token", "sep_token", "mask_token"), SPECIAL))
    transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer, model_max_length=16, **names).save_pretrained(folder)
    torch.manual_seed(1)
    config = transformers.BertConfig(
        vocab_size=len(vocabulary), hidden_size=WIDTH, intermediate_size=24, num_hidden_layers=1, num_attention_heads=2,
        max_position_embeddings=16, initializer_range=0.4, pad_token_id=0,
    )
    transformers.BertModel(config).save_pretrained(folder)


def contents(folder: pathlib.Path) -> dict:
    files = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path.name != "README.md":
            binary = path.suffix == ".safetensors"
            files[str(path.relative_to(folder))] = path.read_bytes().hex() if binary else path.read_text()
    return files


def main() -> None:
    warnings.simplefilter("ignore")
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    torch.set_num_threads(1)
    made = []
    with tempfile.TemporaryDirectory() as place, contextlib.chdir(place):
        make_base(pathlib.Path("base"))
        for number, (name, (modules, edit)) in enumerate(cases().items()):
            folder = pathlib.Path(str(number))
            transformer = models.Transformer("base", max_seq_length=12)
            SentenceTransformer(modules=[transformer, *modules], device="cpu").save(str(folder))
            if edit:
                edit(folder)
            vectors = SentenceTransformer(str(folder), device="cpu").encode(TEXTS, batch_size=len(TEXTS))
            made.append({"name": name, "files": contents(folder), "vectors": [[float(f"{value:.8g}") for value in vector] for vector in vectors.tolist()]})
    shared = dict(made[0]["files"])
    for case in made:
        shared = {path: text for path, text in shared.items() if case["files"].get(path) == text}
    for case in made:
        case["files"] = {path: text for path, text in case["files"].items() if path not in shared}
    path = pathlib.Path(__file__).with_name("vectors.json")
    cases_text = ",\n".join(json.dumps(case) for case in made)
    path.write_text(f'{{"texts": {json.dumps(TEXTS)},\n"shared": {json.dumps(shared)},\n"cases": [\n{cases_text}\n]}}\n')
    print(f"{path}: {len(made)} cases, {path.stat().st_size} bytes, sentence-transformers {sentence_transformers.__version__}")


if __name__ == "__main__":
    main()
