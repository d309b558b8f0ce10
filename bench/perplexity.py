#!/usr/bin/env python3
"""How exact the products of each type of weights are: perplexity of a model, and of the same weights as f32.

    python bench/perplexity.py MODEL.gguf TEXT [--chunks 40] [--types Q4_0,Q4_1,…]

The model is written in each type by llama.cpp's library, and what was written is written again as F32, which dequantises it: the
same weights, computed with 8-bit activations and in f32; and with 8-bit activations and keys and values in 8 bits.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

KV_CACHES = ("f32", "int8")
TYPES = "Q4_0,Q4_1,Q5_0,Q5_1,Q8_0,Q4_K_M,Q5_K_M,Q6_K"


def main() -> None:
    arguments = parse()
    print("| weights | in f32 | as stored, f32 KV cache | as stored, int8 KV cache |\n|---|---:|---:|---:|", flush=True)
    with tempfile.TemporaryDirectory(prefix="zhenjin-perplexity-") as folder:
        for file_type in arguments.types:
            stored, as_f32 = Path(folder) / f"{file_type}.gguf", Path(folder) / f"{file_type}-F32.gguf"
            requantise(arguments.model, file_type, stored)
            requantise(stored, "F32", as_f32)
            in_f32 = perplexity(arguments, as_f32, "f32")
            report(file_type, in_f32, [perplexity(arguments, stored, kv_cache) for kv_cache in KV_CACHES])
            stored.unlink()
            as_f32.unlink()


def report(name: str, in_f32: float, stored: list[float]) -> None:
    cells = [f"{value:.4f} ({100 * (value / in_f32 - 1):+.2f} %)" for value in stored]
    print(f"| {name} | {in_f32:.4f} | {' | '.join(cells)} |", flush=True)


def requantise(source: Path, file_type: str, target: Path) -> None:
    subprocess.run([sys.executable, Path(__file__).parent / "requantise.py", source, file_type, target], check=True)


def perplexity(arguments: argparse.Namespace, model: Path, kv_cache: str) -> float:
    return measure(arguments.zhenjin, model, arguments.text, kv_cache, arguments.ctx, arguments.chunks)["perplexity"]


def measure(zhenjin: str, model: str | Path, text: str | Path, kv_cache: str, context: int, windows: int) -> dict:
    """What `zhenjin perplexity --json` says; `kv_cache` is f32, int8 or auto, as served by default."""
    options = ["--ctx", str(context), "--chunks", str(windows), "--kv-cache-dtype", kv_cache, "--json"]
    command = [zhenjin, "perplexity", model, text, *options]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def served_beside_f32(zhenjin: str, model: str | Path, text: str | Path, context: int = 512, windows: int = 80) -> dict:
    """A row of the table that `make bench` writes: the KV cache that is served by default, beside f32."""
    in_f32, served = (measure(zhenjin, model, text, kv_cache, context, windows) for kv_cache in ("f32", "auto"))
    return {
        "model": Path(model).stem,
        "text": Path(text).name,
        "scored_tokens": served["scored_tokens"],
        "f32": in_f32["perplexity"],
        "served": served["perplexity"],
    }


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("text")
    parser.add_argument("--ctx", type=int, default=512)
    parser.add_argument("--chunks", type=int, default=40)
    parser.add_argument("--types", type=lambda text: text.split(","), default=TYPES.split(","))
    default = Path(__file__).parent.parent / "target/release/zhenjin"
    parser.add_argument("--zhenjin", default=os.environ.get("ZHENJIN_BIN", default))
    return parser.parse_args()


if __name__ == "__main__":
    main()
