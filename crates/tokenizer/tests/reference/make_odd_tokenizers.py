"""Writes `data/odd_tokenizers.json`: tiny tokenizers that are legal and unusual, and the ids that the library `tokenizers` gives.

    python make_odd_tokenizers.py

Needs: tokenizers. One that this program cannot have is refused by the name in `refused`.
"""

import json
from pathlib import Path

from tokenizers import Tokenizer

DATA = Path(__file__).parent.parent / "data"
TEXTS = ["ab abc", " ab  cab\n", "AB é É", "a<e>b <e> ", "x<|s|>ab<|s|>", "12 ab3", "你好 ab", "a-b, c!", "", "\t ab\u00a0c", "<0x41>", "aab<pad>b"]


def byte_level_alphabet():
    kept = list(range(33, 127)) + list(range(161, 173)) + list(range(174, 256))
    table, extra = {}, 0
    for byte in range(256):
        if byte in kept:
            table[byte] = chr(byte)
        else:
            table[byte] = chr(256 + extra)
            extra += 1
    return [table[byte] for byte in range(256)]


def added(id, content, **more):
    return {"id": id, "content": content, "single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True, **more}


MERGES = ["a b", "ab c", "c ab", "Ġ ab", "1 2"]
BYTES = {token: id for id, token in enumerate([*byte_level_alphabet(), "ab", "abc", "cab", "Ġab", "12"])}
BYTE_LEVEL = {
    "version": "1.0", "truncation": None, "padding": None, "added_tokens": [added(261, "<|s|>"), added(262, "<e>", special=False)], "normalizer": None,
    "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}, "post_processor": None,
    "decoder": {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True},
    "model": {"type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None, "end_of_word_suffix": None, "fuse_unk": False,
              "byte_fallback": False, "ignore_merges": False, "vocab": BYTES, "merges": MERGES},
}
PIECES = ["<unk>", "<s>", "</s>", *[f"<0x{byte:02X}>" for byte in range(256)], "▁", "a", "b", "c", "ab", "▁ab", "é", "A", "B", "1", "2", "3", "x", "-", ",", "!", "▁a", "<", "e", ">"]
PIECES = {piece: id for id, piece in enumerate(PIECES)}
SENTENCE_PIECE = {
    "version": "1.0", "truncation": None, "padding": None, "added_tokens": [added(0, "<unk>"), added(1, "<s>"), added(2, "</s>")],
    "normalizer": {"type": "Sequence", "normalizers": [{"type": "Prepend", "prepend": "▁"}, {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}]},
    "pre_tokenizer": None, "post_processor": None,
    "decoder": {"type": "Sequence", "decoders": [{"type": "Replace", "pattern": {"String": "▁"}, "content": " "}, {"type": "ByteFallback"}, {"type": "Fuse"},
                {"type": "Strip", "content": " ", "start": 1, "stop": 0}]},
    "model": {"type": "BPE", "dropout": None, "unk_token": "<unk>", "continuing_subword_prefix": None, "end_of_word_suffix": None, "fuse_unk": True,
              "byte_fallback": True, "ignore_merges": False, "vocab": PIECES, "merges": ["a b", "▁ ab", "▁ a"]},
}


def changed(base, model=None, **fields):
    description = json.loads(json.dumps(base)) | fields
    description["model"] |= model or {}
    return description


def without(base, *names):
    description = json.loads(json.dumps(base))
    for name in names:
        description.pop(name, None)
        description["model"].pop(name, None)
    return description


def normalised(normalizer):
    return changed(BYTE_LEVEL, normalizer=normalizer)


def split(pre_tokenizer, base=None):
    steps = [pre_tokenizer, {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}]
    return changed(base or BYTE_LEVEL, pre_tokenizer={"type": "Sequence", "pretokenizers": steps})


HOLES = {token: id if id < 256 else id + 100 for token, id in BYTES.items()}
ODD = {
    "plain": BYTE_LEVEL,
    "holes in the vocabulary": changed(BYTE_LEVEL, {"vocab": HOLES}, added_tokens=[added(261, "<|s|>"), added(262, "<e>", special=False)]),
    "an added token twice": changed(BYTE_LEVEL, added_tokens=[added(261, "<|s|>"), added(261, "<|s|>"), added(262, "<e>", special=False)]),
    "an added token that the model has": changed(BYTE_LEVEL, added_tokens=[added(256, "ab", special=False), added(261, "<|s|>")]),
    "an added token with another id than the model's": changed(BYTE_LEVEL, added_tokens=[added(261, "ab", special=False), added(261, "<|s|>")]),
    "an added token without text": changed(BYTE_LEVEL, added_tokens=[added(261, ""), added(261, "<|s|>")]),
    "stripping added tokens": changed(BYTE_LEVEL, added_tokens=[added(261, "<|s|>", rstrip=True), added(262, "<e>", lstrip=True, rstrip=True)]),
    "whole words only": changed(BYTE_LEVEL, added_tokens=[added(261, "c", single_word=True, special=False), added(261, "<e>")]),
    "normalised added tokens": changed(BYTE_LEVEL, normalizer={"type": "Lowercase"}, added_tokens=[added(261, "AB", normalized=True, special=False), added(262, "<e>")]),
    "merges as pairs": changed(BYTE_LEVEL, {"merges": [merge.split(" ") for merge in MERGES]}),
    "no merges": changed(BYTE_LEVEL, {"merges": []}),
    "ignored merges": changed(BYTE_LEVEL, {"ignore_merges": True, "merges": ["a b"]}),
    "as old versions write it": without(BYTE_LEVEL, "ignore_merges", "byte_fallback", "truncation", "padding"),
    "without a model type": without(changed(BYTE_LEVEL, {"unk_token": None}), "type"),
    "truncation and padding": changed(BYTE_LEVEL, truncation={"direction": "Right", "max_length": 512, "strategy": "LongestFirst", "stride": 0},
        padding={"strategy": {"Fixed": 8}, "direction": "Right", "pad_to_multiple_of": None, "pad_id": 0, "pad_type_id": 0, "pad_token": "!"}),
    "empty affixes": changed(BYTE_LEVEL, {"continuing_subword_prefix": "", "end_of_word_suffix": ""}),
    "dropout of zero": changed(BYTE_LEVEL, {"dropout": 0.0}),
    "space before the text": changed(BYTE_LEVEL, pre_tokenizer={"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True}),
    "byte level as old versions write it": changed(BYTE_LEVEL, pre_tokenizer={"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True}),
    "NFC": normalised({"type": "NFC"}), "NFD": normalised({"type": "NFD"}), "NFKC": normalised({"type": "NFKC"}), "NFKD": normalised({"type": "NFKD"}),
    "lower case": normalised({"type": "Lowercase"}), "strip": normalised({"type": "Strip", "strip_left": True, "strip_right": False}),
    "strip accents": normalised({"type": "Sequence", "normalizers": [{"type": "NFD"}, {"type": "StripAccents"}]}),
    "replace": normalised({"type": "Replace", "pattern": {"Regex": "b+"}, "content": "a"}), "nothing in a sequence": normalised({"type": "Sequence", "normalizers": []}),
    "digits": split({"type": "Digits", "individual_digits": True}), "digits together": split({"type": "Digits", "individual_digits": False}),
    "punctuation": split({"type": "Punctuation", "behavior": "Isolated"}), "punctuation as old versions write it": split({"type": "Punctuation"}),
    "white space": split({"type": "Whitespace"}), "white space only": split({"type": "WhitespaceSplit"}),
    "split at a text": split({"type": "Split", "pattern": {"String": "b"}, "behavior": "MergedWithNext", "invert": False}),
    "split inverted": split({"type": "Split", "pattern": {"Regex": "[a-z]+"}, "behavior": "Removed", "invert": True}),
    "split merged": split({"type": "Split", "pattern": {"Regex": "[^a]"}, "behavior": "Contiguous", "invert": False}),
    "split at a character": split({"type": "CharDelimiterSplit", "delimiter": "b"}),
    "scripts": split({"type": "UnicodeScripts"}),
    "BertNormalizer": normalised({"type": "BertNormalizer", "clean_text": True, "handle_chinese_chars": True, "strip_accents": None, "lowercase": True}),
    "Nmt": normalised({"type": "Nmt"}),
    "BertPreTokenizer": split({"type": "BertPreTokenizer"}),
    "post-processors": changed(BYTE_LEVEL, post_processor={"type": "Sequence", "processors": [{"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": False, "use_regex": True},
        {"type": "TemplateProcessing", "single": [{"SpecialToken": {"id": "<|s|>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}], "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
         "special_tokens": {"<|s|>": {"id": "<|s|>", "ids": [261], "tokens": ["<|s|>"]}}}]}),
    "SentencePiece": SENTENCE_PIECE,
    "SentencePiece without byte fallback": changed(SENTENCE_PIECE, {"byte_fallback": False}),
    "SentencePiece with separate unknowns": changed(SENTENCE_PIECE, {"byte_fallback": False, "fuse_unk": False}),
    "metaspace": changed(SENTENCE_PIECE, normalizer=None, pre_tokenizer={"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": False},
        decoder={"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": False}),
    "metaspace at the first": changed(SENTENCE_PIECE, normalizer=None, pre_tokenizer={"type": "Metaspace", "replacement": "▁", "prepend_scheme": "first", "split": True}),
    "metaspace never": changed(SENTENCE_PIECE, normalizer=None, pre_tokenizer={"type": "Metaspace", "replacement": "▁", "prepend_scheme": "never", "split": True}),
    "metaspace as old versions write it": changed(SENTENCE_PIECE, normalizer=None, pre_tokenizer={"type": "Metaspace", "replacement": "▁", "add_prefix_space": True},
        decoder={"type": "Metaspace", "replacement": "▁", "add_prefix_space": True}),
}
REFUSED = {
    "Unigram": changed(SENTENCE_PIECE, model=None) | {"model": {"type": "Unigram", "unk_id": 0, "vocab": [["<unk>", 0.0], ["a", -1.0]], "byte_fallback": False}},
    "WordPiece": changed(SENTENCE_PIECE) | {"model": {"type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##", "max_input_chars_per_word": 100, "vocab": {"[UNK]": 0, "a": 1}}},
    "WordLevel": changed(SENTENCE_PIECE) | {"model": {"type": "WordLevel", "unk_token": "[UNK]", "vocab": {"[UNK]": 0, "a": 1}}},
    "FixedLength": split({"type": "FixedLength", "length": 3}),
    "dropout": changed(BYTE_LEVEL, {"dropout": 0.1}),
    "</w>": changed(BYTE_LEVEL, {"end_of_word_suffix": "</w>"}),
}


def main():
    cases = []
    for name, description in ODD.items():
        tokenizer = Tokenizer.from_str(json.dumps(description))
        tokenizer.no_truncation()
        tokenizer.no_padding()
        ids = [tokenizer.encode(text, add_special_tokens=False).ids for text in TEXTS]
        cases.append({"name": name, "tokenizer": description, "ids": ids})
    cases += [{"name": name, "tokenizer": description, "refused": name} for name, description in REFUSED.items()]
    (DATA / "odd_tokenizers.json").write_text(json.dumps({"texts": TEXTS, "cases": cases}, ensure_ascii=False) + "\n")
    print(len(cases), "tokenizers,", len(REFUSED), "of them refused")


main()
