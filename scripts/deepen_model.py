#!/usr/bin/env python3
"""Makes a slow model that a fast one guesses well, to measure drafts where no such pair of real models is at hand.

    python3 scripts/deepen_model.py SMALL.gguf LARGE.gguf --times 8 --share 0.1

Behind each layer of SMALL.gguf come copies of it, whose output projections (of attention and of the feed-forward network) are
multiplied by `--share`. With 0 the copies add nothing: LARGE.gguf computes the same function at so many times the cost of the
layers. With more it computes another one, and the small model guesses it less often. It is not a real model, only the shape and
the cost of one. Needs nothing but Python.
"""

import argparse
import pathlib
import re
import struct

OUTPUTS = ("attn_output.weight", "ffn_down.weight")
LAYER = re.compile(r"blk\.(\d+)\.(.+)")
# Of each type of tensor, by its number in GGUF: weights of a block, its bytes, and how many half-precision scales it begins with.
BLOCKS = {0: (1, 4, 0), 1: (1, 2, 1), 2: (32, 18, 1), 3: (32, 20, 2), 8: (32, 34, 1)}
# Bytes of the values of metadata, by their type's number: whole numbers, fractions and truth values.
SCALARS = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}
STRING, ARRAY = 8, 9


class Reader:
    def __init__(self, data: bytes):
        self.data, self.place = data, 0

    def number(self, code: str) -> int:
        (value,) = struct.unpack_from("<" + code, self.data, self.place)
        self.place += struct.calcsize(code)
        return value

    def text(self) -> bytes:
        length = self.number("Q")
        self.place += length
        return self.data[self.place - length : self.place]

    def skip_value(self, kind: int) -> None:
        if kind == STRING:
            self.text()
        elif kind == ARRAY:
            kind, count = self.number("I"), self.number("Q")
            for _ in range(count):
                self.skip_value(kind)
        else:
            self.place += SCALARS[kind]


def text(value: bytes) -> bytes:
    return struct.pack("<Q", len(value)) + value


def scaled(values: bytes, kind: int, share: float) -> bytes:
    if share == 0:
        return bytes(len(values))
    _, size, halves = BLOCKS[kind]
    code = f"<{halves}e" if halves else "<f"
    result = bytearray(values)
    for place in range(0, len(values), size):
        struct.pack_into(code, result, place, *(share * scale for scale in struct.unpack_from(code, values, place)))
    return bytes(result)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("small", type=pathlib.Path)
    parser.add_argument("large", type=pathlib.Path)
    parser.add_argument("--times", type=int, default=8, help="as many layers as the small model has, times this")
    parser.add_argument("--share", type=float, default=0.0, help="what the outputs of the copies are multiplied by")
    options = parser.parse_args()
    reader = Reader(options.small.read_bytes())
    if reader.number("I") != 0x46554747 or reader.number("I") != 3:
        raise SystemExit(f"{options.small} is not a GGUF file of version 3")
    tensors, settings = reader.number("Q"), reader.number("Q")
    metadata, alignment, layers = [], 32, 0
    for _ in range(settings):
        key = reader.text()
        kind = reader.number("I")
        start = reader.place
        reader.skip_value(kind)
        value = reader.data[start : reader.place]
        if key.endswith(b".block_count"):
            (layers,) = struct.unpack("<I", value)
            value = struct.pack("<I", layers * options.times)
        if key == b"general.alignment":
            (alignment,) = struct.unpack("<I", value)
        metadata.append(text(key) + struct.pack("<I", kind) + value)

    found = []
    for _ in range(tensors):
        name = reader.text().decode()
        shape = [reader.number("Q") for _ in range(reader.number("I"))]
        kind, offset = reader.number("I"), reader.number("Q")
        found.append((name, shape, kind, offset))
    beginning = -(-reader.place // alignment) * alignment
    ends = sorted(offset for *_, offset in found) + [len(reader.data) - beginning]

    pieces, infos, place = [], [], 0

    def add(name: str, shape: list[int], kind: int, values: bytes) -> None:
        nonlocal place
        dimensions = struct.pack(f"<I{len(shape)}Q", len(shape), *shape)
        infos.append(text(name.encode()) + dimensions + struct.pack("<IQ", kind, place))
        pieces.append(values + bytes(-len(values) % alignment))
        place += len(pieces[-1])

    for name, shape, kind, offset in found:
        end = next(end for end in ends if end > offset)
        values = reader.data[beginning + offset : beginning + end]
        matched = LAYER.fullmatch(name)
        if not matched:
            add(name, shape, kind, values)
            continue
        layer, part = int(matched[1]), matched[2]
        copy = values
        if part in OUTPUTS:
            if kind not in BLOCKS:
                raise SystemExit(f"{name} has the type {kind}; known are {', '.join(map(str, BLOCKS))}")
            weights, size, _ = BLOCKS[kind]
            count = size
            for dimension in shape:
                count *= dimension
            copy = scaled(values[: count // weights], kind, options.share)
        for number in range(options.times):
            add(f"blk.{layer * options.times + number}.{part}", shape, kind, copy if number else values)
    header = struct.pack("<IIQQ", 0x46554747, 3, len(infos), settings) + b"".join(metadata) + b"".join(infos)
    with open(options.large, "wb") as file:
        file.write(header + bytes(-len(header) % alignment))
        for piece in pieces:
            file.write(piece)
    print(f"{options.large}: {layers * options.times} layers, {place} bytes of weights")


if __name__ == "__main__":
    main()
