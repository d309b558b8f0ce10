#!/usr/bin/env python3
"""Writes a GGUF file with the shapes of a real model and random weights, to measure speed where the real model is not at hand.

    python3 bench/random_model.py qwen3-1.7b OUT.gguf

The shapes are those of Qwen3's config.json; the types of the tensors are those that llama.cpp gives a file of type Q4_K_M. The vocabulary has as many
entries as the real one and means nothing. The same name always makes the same bytes. Needs nothing but Python.
"""

import argparse
import os
import random
import struct
from dataclasses import dataclass
from pathlib import Path

VOCABULARY = 151_936
HEAD_DIM = 128
F32, Q4_K, Q6_K = 0, 12, 14
# Bytes of a block of 256 weights.
BLOCK_WEIGHTS = 256
BLOCK_BYTES = {Q4_K: 144, Q6_K: 210}
# Standard deviation of the weights, about.
SPREAD = 0.02
# So many blocks are random; tensors repeat them, each from another place on.
DIFFERENT_BLOCKS = 4093
ALIGNMENT = 32
# Numbers of types of metadata in GGUF.
UINT32, INT32, FLOAT32, STRING, ARRAY = 4, 5, 6, 8, 9


@dataclass(frozen=True)
class Shape:
    layers: int
    hidden: int
    intermediate: int
    heads: int
    kv_heads: int = 8


SHAPES = {
    "qwen3-0.6b": Shape(28, 1024, 3072, 16),
    "qwen3-1.7b": Shape(28, 2048, 6144, 16),
    "qwen3-4b": Shape(36, 2560, 9728, 32),
}


def text(value: str) -> bytes:
    data = value.encode()
    return struct.pack("<Q", len(data)) + data


def number(key: str, value: int) -> bytes:
    return text(key) + struct.pack("<II", UINT32, value)


def fraction(key: str, value: float) -> bytes:
    return text(key) + struct.pack("<If", FLOAT32, value)


def words(key: str, value: str) -> bytes:
    return text(key) + struct.pack("<I", STRING) + text(value)


def array(key: str, kind: int, items: list[bytes]) -> bytes:
    return text(key) + struct.pack("<IIQ", ARRAY, kind, len(items)) + b"".join(items)


def byte_tokens() -> list[str]:
    """The 256 letters that byte-level vocabularies write bytes with."""
    plain = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in plain]
    return [chr(byte) for byte in plain] + [chr(256 + index) for index in range(len(others))]


def metadata(name: str, shape: Shape) -> list[bytes]:
    tokens = [*byte_tokens(), "ab"]
    end = VOCABULARY - 1
    tokens += [f"token{index}" for index in range(len(tokens), end)] + ["<|endoftext|>"]
    kinds = [struct.pack("<i", 3 if index == end else 1) for index in range(VOCABULARY)]
    return [
        words("general.architecture", "qwen3"),
        words("general.name", f"{name} with random weights"),
        number("general.alignment", ALIGNMENT),
        number("qwen3.block_count", shape.layers),
        number("qwen3.context_length", 40_960),
        number("qwen3.embedding_length", shape.hidden),
        number("qwen3.feed_forward_length", shape.intermediate),
        number("qwen3.attention.head_count", shape.heads),
        number("qwen3.attention.head_count_kv", shape.kv_heads),
        number("qwen3.attention.key_length", HEAD_DIM),
        number("qwen3.attention.value_length", HEAD_DIM),
        fraction("qwen3.attention.layer_norm_rms_epsilon", 1e-6),
        fraction("qwen3.rope.freq_base", 1e6),
        words("tokenizer.ggml.model", "gpt2"),
        words("tokenizer.ggml.pre", "qwen2"),
        array("tokenizer.ggml.tokens", STRING, [text(token) for token in tokens]),
        array("tokenizer.ggml.token_type", INT32, kinds),
        array("tokenizer.ggml.merges", STRING, [text("a b")]),
        number("tokenizer.ggml.eos_token_id", end),
    ]


def tensors(shape: Shape) -> list[tuple[str, int, tuple[int, ...]]]:
    """Names, types, and lengths of a row and of a column. The head is the embedding."""
    queries, keys = shape.heads * HEAD_DIM, shape.kv_heads * HEAD_DIM
    found = [("token_embd.weight", Q6_K, (shape.hidden, VOCABULARY)), ("output_norm.weight", F32, (shape.hidden,))]
    for layer in range(shape.layers):
        first, last = shape.layers // 8, 7 * shape.layers // 8
        has_more_bits = layer < first or layer >= last or (layer - first) % 3 == 2
        larger = Q6_K if has_more_bits else Q4_K
        found += [
            (f"blk.{layer}.{name}.weight", kind, lengths)
            for name, kind, lengths in [
                ("attn_norm", F32, (shape.hidden,)),
                ("attn_q", Q4_K, (shape.hidden, queries)),
                ("attn_k", Q4_K, (shape.hidden, keys)),
                ("attn_v", larger, (shape.hidden, keys)),
                ("attn_q_norm", F32, (HEAD_DIM,)),
                ("attn_k_norm", F32, (HEAD_DIM,)),
                ("attn_output", Q4_K, (queries, shape.hidden)),
                ("ffn_norm", F32, (shape.hidden,)),
                ("ffn_gate", Q4_K, (shape.hidden, shape.intermediate)),
                ("ffn_up", Q4_K, (shape.hidden, shape.intermediate)),
                ("ffn_down", larger, (shape.intermediate, shape.hidden)),
            ]
        ]
    return found


def blocks(kind: int, chance: random.Random) -> bytes:
    """Random blocks, whose scales give weights of about SPREAD around 0."""
    made = bytearray(chance.randbytes(DIFFERENT_BLOCKS * BLOCK_BYTES[kind]))
    for start in range(0, len(made), BLOCK_BYTES[kind]):
        if kind == Q4_K:
            # Scales and minima of 6 bits, weights of 4: d · scale · q - dmin · minimum.
            scale = SPREAD / (37 * 4.6)
            struct.pack_into("<2e", made, start, scale, 7.5 * scale)
        else:
            # Scales of 8 bits with a sign, weights of 6: d · scale · (q - 32).
            struct.pack_into("<e", made, start + 208, SPREAD / (74 * 18.5))
    return bytes(made)


def size(kind: int, lengths: tuple[int, ...]) -> int:
    if kind == F32:
        return 4 * lengths[0]
    return lengths[0] * lengths[1] // BLOCK_WEIGHTS * BLOCK_BYTES[kind]


def padding(length: int) -> bytes:
    return bytes(-length % ALIGNMENT)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("shape", choices=SHAPES)
    parser.add_argument("out", type=Path)
    options = parser.parse_args()
    shape = SHAPES[options.shape]
    settings, described = metadata(options.shape, shape), tensors(shape)
    header, offset = [], 0
    for name, kind, lengths in described:
        header.append(text(name) + struct.pack(f"<I{len(lengths)}QIQ", len(lengths), *lengths, kind, offset))
        offset += size(kind, lengths) + len(padding(size(kind, lengths)))
    head = b"GGUF" + struct.pack("<IQQ", 3, len(described), len(settings)) + b"".join(settings) + b"".join(header)
    chance = random.Random(options.shape)
    filled = {kind: blocks(kind, chance) for kind in BLOCK_BYTES}
    options.out.parent.mkdir(parents=True, exist_ok=True)
    unfinished = options.out.with_suffix(".part")
    with open(unfinished, "wb") as out:
        out.write(head + padding(len(head)))
        for _, kind, lengths in described:
            length = size(kind, lengths)
            if kind == F32:
                out.write(struct.pack("<f", 1.0) * lengths[0])
            else:
                source = filled[kind]
                start = chance.randrange(DIFFERENT_BLOCKS) * BLOCK_BYTES[kind]
                repeated = source[start:] + source * (length // len(source) + 1)
                out.write(memoryview(repeated)[:length])
            out.write(padding(length))
        out.flush()
        os.fsync(out.fileno())
    os.replace(unfinished, options.out)
    print(f"{options.out}: {options.out.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
