"""Trains the two small vocabularies of the tests (`data/*.json`) on generated text and any files given.

    python make_vocabularies.py FILE...

Needs: tokenizers.
"""

import json
import sys
from pathlib import Path

from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

from generated_text import KINDS, generated_text

DATA = Path(__file__).parent.parent / "data"
CONTROL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|eot_id|>", "<s>", "</s>"]
WORDS = [["<think>", 0], ["</think>", 0]]


def texts():
    for kind in KINDS:
        # llama.cpp holds tokens as C strings, so none may contain the character zero.
        yield generated_text(kind, 60_000).replace("\0", "")
    for path in sys.argv[1:]:
        yield Path(path).read_text(errors="replace")


def write(name, tokenizer, **more):
    model = json.loads(tokenizer.to_str())["model"]
    tokens = [token for token, _ in sorted(model["vocab"].items(), key=lambda entry: entry[1])]
    merges = [" ".join(merge) for merge in model["merges"]]
    (DATA / name).write_text(json.dumps({"tokens": tokens, "merges": merges, **more}, ensure_ascii=False, indent=0))


def byte_level():
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.NFC()
    words = Regex(r"[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+")
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split(words, "isolated"), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    trainer = trainers.BpeTrainer(vocab_size=2000, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
                                  show_progress=False)
    tokenizer.train_from_iterator(texts(), trainer)
    write("byte_level_vocabulary.json", tokenizer)


def sentence_piece():
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    # SentencePiece learns no piece across words; the space begins one.
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(r"▁"), "merged_with_next")
    special = ["<unk>", "<s>", "</s>"] + [f"<0x{byte:02X}>" for byte in range(256)]
    trainer = trainers.BpeTrainer(vocab_size=2000, special_tokens=special, limit_alphabet=600, show_progress=False)
    tokenizer.train_from_iterator(texts(), trainer)
    write("sentence_piece_vocabulary.json", tokenizer)


if __name__ == "__main__":
    byte_level()
    sentence_piece()
