"""Writes `data/tokenizer_golden.json` and the same for a real model, `smollm2_tokenizer_golden.json` in the tests of `hub`:
how many ids the references make of the generated text, and a digest of them.

    python make_tokenizer_golden.py SmolLM2-135M-Instruct.Q4_1.gguf

References: llama.cpp for the GGUF vocabularies, and Hugging Face's tokenizers for the pre-tokenisers that normalise (a
GGUF file does not say that Qwen normalises to NFC, so llama.cpp does not).
Needs: gguf, llama_cpp, tokenizers.
"""

import hashlib
import json
import struct
import sys
import tempfile
from pathlib import Path

import gguf
import llama_cpp
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers

from generated_text import KINDS, generated_text

DATA = Path(__file__).parent.parent / "data"
HUB_DATA = Path(__file__).parents[3] / "hub" / "tests" / "data"
BYTES_PER_KIND = 220_000
CONTROL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|eot_id|>"]
USER_DEFINED = ["<think>", "</think>"]
LLAMA3 = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
QWEN2 = LLAMA3.replace("{1,3}", "")


def digest(ids):
    return hashlib.sha256(b"".join(struct.pack("<I", id) for id in ids)).hexdigest()


def golden(encode):
    kinds = {}
    for kind in KINDS:
        text = generated_text(kind, BYTES_PER_KIND)
        ids = encode(text)
        kinds[kind] = {
            "text_sha256": hashlib.sha256(text.encode()).hexdigest(), "ids": len(ids), "ids_sha256": digest(ids),
            "first_ids": ids[:24],
        }
    return kinds


def byte_level_tokens():
    vocabulary = json.loads((DATA / "byte_level_vocabulary.json").read_text())
    return vocabulary["tokens"] + USER_DEFINED + CONTROL, vocabulary["merges"]


def write_byte_level_gguf(path, pre):
    tokens, merges = byte_level_tokens()
    normal = len(tokens) - len(USER_DEFINED) - len(CONTROL)
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(pre)
    writer.add_token_list(tokens)
    writer.add_token_types([1] * normal + [4] * len(USER_DEFINED) + [3] * len(CONTROL))
    writer.add_token_merges(merges)
    writer.add_add_bos_token(False)
    finish(writer)


def write_sentence_piece_gguf(path):
    vocabulary = json.loads((DATA / "sentence_piece_vocabulary.json").read_text())
    tokens = vocabulary["tokens"] + USER_DEFINED
    types = [2, 3, 3] + [6] * 256 + [1] * (len(tokens) - 259 - len(USER_DEFINED)) + [4] * len(USER_DEFINED)
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_tokenizer_model("llama")
    writer.add_token_list(tokens)
    writer.add_token_scores([-float(max(id - 258, 0)) for id in range(len(tokens))])
    writer.add_token_types(types)
    writer.add_unk_token_id(0)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_add_bos_token(False)
    finish(writer)


def finish(writer):
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def llama_cpp_encoder(path):
    model = llama_cpp.Llama(str(path), vocab_only=True, verbose=False)
    return lambda text: model.tokenize(text.encode(), add_bos=False, special=False)


def hugging_face_encoder(words, digits=False, ignore_merges=False, normalizer=None):
    tokens, merges = byte_level_tokens()
    normal = len(tokens) - len(USER_DEFINED) - len(CONTROL)
    vocab = {token: id for id, token in enumerate(tokens[:normal])}
    merges = [tuple(merge.split(" ")) for merge in merges]
    tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=merges, ignore_merges=ignore_merges))
    if normalizer:
        tokenizer.normalizer = normalizer
    steps = [pre_tokenizers.Digits(individual_digits=True)] if digits else []
    if words:
        steps.append(pre_tokenizers.Split(Regex(words), "isolated"))
    steps.append(pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=words is None))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(steps)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_tokens(USER_DEFINED)
    tokenizer.add_special_tokens(CONTROL)
    tokenizer.encode_special_tokens = True
    return lambda text: tokenizer.encode(text, add_special_tokens=False).ids


def report(name, ours, other, left, right):
    for kind in KINDS:
        if ours[kind]["ids_sha256"] != other[kind]["ids_sha256"]:
            text = generated_text(kind, BYTES_PER_KIND)
            for line in text.split("\n"):
                if left(line) != right(line):
                    print(f"{name}, {kind}: the references differ, first in {line[:40]!r}")
                    break


def main():
    smollm2 = {"smollm2": golden(llama_cpp_encoder(sys.argv[1]))}
    (HUB_DATA / "smollm2_tokenizer_golden.json").write_text(json.dumps(smollm2, indent=1) + "\n")
    result = {}
    references = {
        "gpt-2": hugging_face_encoder(None),
        "smollm": hugging_face_encoder(None, digits=True),
        "llama-bpe": hugging_face_encoder(LLAMA3, ignore_merges=True),
        "qwen2": hugging_face_encoder(QWEN2, normalizer=normalizers.NFC()),
    }
    with tempfile.TemporaryDirectory() as folder:
        for pre, hugging_face in references.items():
            path = Path(folder) / f"{pre}.gguf"
            write_byte_level_gguf(path, pre)
            llama = llama_cpp_encoder(path)
            result[pre] = golden(hugging_face)
            report(pre, result[pre], golden(llama), hugging_face, llama)
        path = Path(folder) / "sentence_piece.gguf"
        write_sentence_piece_gguf(path)
        result["sentence-piece"] = golden(llama_cpp_encoder(path))
    (DATA / "tokenizer_golden.json").write_text(json.dumps(result, indent=1) + "\n")


main()
