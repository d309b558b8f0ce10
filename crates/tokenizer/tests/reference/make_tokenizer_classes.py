#!/usr/bin/env python3
"""Writes ../data/tokenizer_classes.json: folders that name `XLMRobertaTokenizer`, and the ids that `AutoTokenizer` of transformers gives.

    pip install tokenizers transformers
    python crates/tokenizer/tests/reference/make_tokenizer_classes.py

The vocabulary is that of `make_encoders.py`, in files that say something else than the class does.
"""

import base64
import copy
import json
import pathlib
import struct
import tempfile

import transformers

DATA = pathlib.Path(__file__).resolve().parent.parent / "data"
TEXTS = [
    "", " ", "the cat", " the  cat\tsat on\u200b a mat \n", "the <mask>cat", "<s> the</s> mat", "a▁b the", "🙂 emoji", "Ａ ｆｕｌｌ", "Q cat Q", "NEW mat",
    "x² naïve\u3000向量 ▁ ▁the",
]


def character_map() -> str:
    """A character map in the form of sentencepiece: `Q` becomes `the`. Its double array has one letter below the root, and text 0 beside it."""
    letter = ord("Q")
    units = [0] * 256
    units[letter] = letter | 1 << 8 | 1 << 10
    trie = struct.pack("<256I", *units)
    return base64.b64encode(struct.pack("<I", len(trie)) + trie + b"the\0").decode()


def folders():
    cases = {case["name"]: case["tokenizer"] for case in json.loads((DATA / "encoders.json").read_text())}
    plain = cases["XLMRoberta"]
    plain["padding"] = plain["truncation"] = None
    yield "other parts", plain, {}
    yield "no prefix", plain, {"add_prefix_space": False}
    other = copy.deepcopy(plain)
    steps = [
        {"type": "Replace", "pattern": {"String": "a"}, "content": "o"},
        {"type": "Precompiled", "precompiled_charsmap": character_map()},
    ]
    other["normalizer"] = {"type": "Sequence", "normalizers": steps}
    other["post_processor"]["single"] = other["post_processor"]["single"][:2]
    other["model"].update(unk_id=1, byte_fallback=True)
    token = dict(other["added_tokens"][4], id=len(other["model"]["vocab"]), content="NEW", normalized=True, special=False)
    other["added_tokens"].append(token)
    yield "a character map", other, {"add_prefix_space": True}
    no_template = copy.deepcopy(plain)
    no_template.update(post_processor=None, normalizer={"type": "Precompiled", "precompiled_charsmap": character_map()})
    no_template["pre_tokenizer"] = None
    yield "no template", no_template, {}


def main() -> None:
    cases = []
    for name, tokenizer, settings in folders():
        with tempfile.TemporaryDirectory() as folder:
            path = pathlib.Path(folder)
            (path / "tokenizer.json").write_text(json.dumps(tokenizer))
            (path / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "XLMRobertaTokenizer", **settings}))
            (path / "config.json").write_text(json.dumps({"model_type": "xlm-roberta"}))
            made = transformers.AutoTokenizer.from_pretrained(folder)
        encoded = [(text, made(text)["input_ids"]) for text in TEXTS]
        cases.append({"name": name, "tokenizer": tokenizer, "settings": settings, "encoded": encoded})
    path = DATA / "tokenizer_classes.json"
    path.write_text(json.dumps(cases, ensure_ascii=False) + "\n")
    print(f"{path}: {path.stat().st_size} bytes, transformers {transformers.__version__}")


if __name__ == "__main__":
    main()
