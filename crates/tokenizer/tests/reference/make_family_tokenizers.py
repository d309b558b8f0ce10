"""Writes `data/family_tokenizers.json`: small tokenizers with the components of Gemma 3, Phi-3, Phi-4, OLMo 2, Granite 3 and GPT-4o, and the ids
and texts that the library `tokenizers` gives.

    python make_family_tokenizers.py

Needs: tokenizers. Merges are few and made up; everything else (normaliser, pre-tokeniser, decoder, kinds of added tokens, settings of the model)
is as the families' own `tokenizer.json` have it.
"""

import json
from pathlib import Path

from tokenizers import Tokenizer

DATA = Path(__file__).parent.parent / "data"
TEXTS = [
    "", "Hello world", " Hello  world", "  two   runs    of spaces ", "a\nb\n\nc\n\n\n\nd", "\n", " \n \n", "\t\ttabs", "▁a▁▁b", "<0x41> <0x0A>",
    "it's 2024, IT'LL cost 1234567.89€", "你好，世界。", "naïve e\u0301 \U0001F600\u200d", "don't DON'T HelloWorld iOS", "def f(x):\n    return x//2  # ok\r\n",
    "<start_of_turn>user\nHello world<end_of_turn>\n<start_of_turn>model\nab", "<bos>a<eos> <unused1>", "<|user|>\n Hello <|end|>\n<|assistant|>\nab",
    "<|user|>  \n\n a</s>  b<s> c<|endoftext|> d", "<|im_start|>user<|im_sep|>Hello<|im_end|>ab<|endoftext|> x", "<|start_of_role|>user<|end_of_role|>12 ab<|end_of_text|>\n",
    "  <|im_start|> user <|im_sep|>\n Hello \n<|im_end|>  ab <|dummy_0|> x", "<|tool_call|>[{\"name\": \"f\"}]", "<|im_start <start_of_turn <|end|>x",
]
CL100K = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
UPPER, LOWER, CONTRACTION = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]", r"(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
O200K = (
    rf"[^\r\n\p{{L}}\p{{N}}]?{UPPER}*{LOWER}+{CONTRACTION}|[^\r\n\p{{L}}\p{{N}}]?{UPPER}+{LOWER}*{CONTRACTION}"
    r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def added(id, content, special=True, **more):
    return {"id": id, "content": content, "single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": special, **more}


def byte_level_alphabet():
    kept = [*range(33, 127), *range(161, 173), *range(174, 256)]
    rest = [byte for byte in range(256) if byte not in kept]
    return [chr(byte) if byte in kept else chr(256 + rest.index(byte)) for byte in range(256)]


def model(vocabulary, merges, **more):
    fields = {"type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None, "end_of_word_suffix": None, "fuse_unk": False,
              "byte_fallback": False, "ignore_merges": False, "vocab": {token: id for id, token in enumerate(vocabulary)}, "merges": merges}
    return fields | more


def bos_first(bos, id):
    text = {"Sequence": {"id": "A", "type_id": 0}}
    first = {"SpecialToken": {"id": bos, "type_id": 0}}
    return {"type": "TemplateProcessing", "single": [first, text], "pair": [first, text, {"SpecialToken": {"id": bos, "type_id": 1}}, {"Sequence": {"id": "B", "type_id": 1}}],
            "special_tokens": {bos: {"id": bos, "ids": [id], "tokens": [bos]}}}


REPLACE = {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}
SPACES_BACK = [{"type": "Replace", "pattern": {"String": "▁"}, "content": " "}, {"type": "ByteFallback"}, {"type": "Fuse"}]
LETTERS = [chr(code) for code in range(33, 127)]
BYTES = [f"<0x{byte:02X}>" for byte in range(256)]


def merges_of(pieces, vocabulary):
    """Every way to make a piece of two others, the best piece first, as the converters of SentencePiece's models write it."""
    cuts = lambda piece: [[piece[:cut], piece[cut:]] for cut in range(len(piece) - 1, 0, -1)]
    return [cut for piece in pieces for cut in cuts(piece) if cut[0] in vocabulary and cut[1] in vocabulary]


def gemma():
    words = ["He", "ll", "llo", "Hello", "▁Hello", "wo", "ld", "rld", "world", "▁world", "ab", "▁a", "20"]
    lines, spaces = ["\n" * count for count in range(1, 6)], ["▁" * count for count in range(2, 5)]
    vocabulary = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>", "<start_of_turn>", "<end_of_turn>", "<unused1>", *lines, *spaces, "<table>", *BYTES, "▁", *LETTERS, "é", "你", *words]
    ids = {token: id for id, token in enumerate(vocabulary)}
    tokens = [added(ids[token], token) for token in ["<pad>", "<eos>", "<bos>", "<unk>", "<start_of_turn>", "<end_of_turn>"]]
    tokens += [added(ids[token], token, special=False) for token in ["<mask>", "<unused1>", *lines, *spaces, "<table>"]]
    return {
        "version": "1.0", "truncation": None, "padding": None, "added_tokens": sorted(tokens, key=lambda token: token["id"]), "normalizer": REPLACE,
        "pre_tokenizer": {"type": "Split", "pattern": {"String": " "}, "behavior": "MergedWithPrevious", "invert": False},
        "post_processor": bos_first("<bos>", ids["<bos>"]), "decoder": {"type": "Sequence", "decoders": SPACES_BACK},
        "model": model(vocabulary, merges_of([*lines, *spaces, *words], vocabulary), unk_token="<unk>", fuse_unk=True, byte_fallback=True),
    }


def phi3():
    words = ["▁▁", "ll", "He", "llo", "Hello", "▁Hello", "ab", "▁a", "▁ab"]
    vocabulary = ["<unk>", "<s>", "</s>", *BYTES, *words, "▁", *LETTERS, "é"]
    count = len(vocabulary)
    names = ["<|endoftext|>", "<|assistant|>", "<|placeholder1|>", "<|system|>", "<|end|>", "<|user|>"]
    tokens = [added(0, "<unk>"), added(1, "<s>"), added(2, "</s>", special=False, rstrip=True)]
    tokens += [added(count + index, name, rstrip=name != "<|endoftext|>") for index, name in enumerate(names)]
    merges = [" ".join(merge) for merge in merges_of(words, vocabulary)]
    return {
        "version": "1.0", "truncation": None, "padding": None, "added_tokens": tokens,
        "normalizer": {"type": "Sequence", "normalizers": [{"type": "Prepend", "prepend": "▁"}, REPLACE]}, "pre_tokenizer": None,
        "post_processor": bos_first("<s>", 1), "decoder": {"type": "Sequence", "decoders": [*SPACES_BACK, {"type": "Strip", "content": " ", "start": 1, "stop": 0}]},
        "model": model(vocabulary, merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True),
    }


def byte_level(pre_tokenizer, special, **flags):
    vocabulary = [*byte_level_alphabet(), "He", "ll", "llo", "Hello", "ĠHello", "ab", "Ġab", "20", "24", "2024", "123", "ĠĠ", "12"]
    merges = ["l l", "H e", "ll o", "He llo", "Ġ Hello", "a b", "Ġ ab", "Ġ Ġ", "2 0", "2 4", "20 24", "1 2", "12 3"]
    tokens = [added(len(vocabulary) + index, name, **flags) for index, name in enumerate(special)]
    return {
        "version": "1.0", "truncation": None, "padding": None, "added_tokens": tokens, "normalizer": None, "pre_tokenizer": pre_tokenizer,
        "post_processor": {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": False, "use_regex": True},
        "decoder": {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True}, "model": model(vocabulary, merges),
    }


def split(words, inverted):
    behaviour = {"behavior": "Removed", "invert": True} if inverted else {"behavior": "Isolated", "invert": False}
    bytes_only = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}
    return {"type": "Sequence", "pretokenizers": [{"type": "Split", "pattern": {"Regex": words}, **behaviour}, bytes_only]}


def main():
    digits = {"type": "Sequence", "pretokenizers": [{"type": "Digits", "individual_digits": True},
              {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}]}
    chat = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|im_sep|>"]
    families = [
        ("Gemma 3", gemma(), {"bos_token": "<bos>", "eos_token": "<eos>"}),
        ("Phi-3", phi3(), {"bos_token": "<s>", "eos_token": "<|endoftext|>"}),
        ("Phi-4", byte_level(split(CL100K, True), ["<|dummy_0|>", *chat], lstrip=True, rstrip=True), {"bos_token": "<|endoftext|>", "eos_token": "<|endoftext|>"}),
        ("OLMo 2", byte_level(split(CL100K, False), chat), {"bos_token": "<|endoftext|>", "eos_token": "<|endoftext|>"}),
        ("Granite 3", byte_level(digits, ["<|end_of_text|>", "<|start_of_role|>", "<|end_of_role|>", "<|tool_call|>"]), {"bos_token": "<|end_of_text|>", "eos_token": "<|end_of_text|>"}),
        ("GPT-4o", byte_level(split(O200K, True), chat), {"eos_token": "<|endoftext|>"}),
    ]
    cases = []
    for name, description, config in families:
        tokenizer = Tokenizer.from_str(json.dumps(description))
        results = []
        for text in TEXTS:
            ids = tokenizer.encode(text, add_special_tokens=False).ids
            results.append({"ids": ids, "text": tokenizer.decode(ids, skip_special_tokens=False)})
        cases.append({"name": name, "tokenizer": description, "config": config, "results": results})
    (DATA / "family_tokenizers.json").write_text(json.dumps({"texts": TEXTS, "cases": cases}, ensure_ascii=False) + "\n")
    print(len(cases), "families,", len(TEXTS), "texts")


main()
