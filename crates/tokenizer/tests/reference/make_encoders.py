#!/usr/bin/env python3
"""Writes ../data/encoders.json: tokenizers of encoders with small vocabularies, and the ids that the `tokenizers` library gives.

    pip install tokenizers transformers
    python crates/tokenizer/tests/reference/make_encoders.py

The tokenizers are those of `scripts/check_embeddings.py`; they are written with truncation and padding switched on, which must have no
effect on the ids here.
"""

import json
import pathlib
import sys
import tempfile

import tokenizers

ROOT = pathlib.Path(__file__).resolve().parents[4]
sys.path.insert(0, str(ROOT / "scripts"))
import check_embeddings  # noqa: E402


def main() -> None:
    cases = []
    for kind in ("Bert", "XLMRoberta", "Roberta"):
        with tempfile.TemporaryDirectory() as folder:
            check_embeddings.make_tokenizer(kind, pathlib.Path(folder))
            tokenizer = tokenizers.Tokenizer.from_file(f"{folder}/tokenizer.json")
        tokenizer.no_padding()
        tokenizer.no_truncation()
        encoded = [(text, tokenizer.encode(text).ids) for text in check_embeddings.texts()[:40]]
        tokenizer.enable_truncation(8)
        tokenizer.enable_padding(length=16)
        cases.append({"name": kind, "tokenizer": json.loads(tokenizer.to_str()), "encoded": encoded})
    path = pathlib.Path(__file__).resolve().parent.parent / "data" / "encoders.json"
    path.write_text(json.dumps(cases, ensure_ascii=False) + "\n")
    print(f"{path}: {path.stat().st_size} bytes, tokenizers {tokenizers.__version__}")


if __name__ == "__main__":
    main()
