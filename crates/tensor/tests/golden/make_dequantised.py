"""Makes dequantised.bin: for every element type three random blocks and the f32 bits that the `gguf` package makes of them.

Usage: pip install gguf numpy; python make_dequantised.py > dequantised.bin

Format, little-endian, one record per type: u8 length of the name, the name, u32 bytes of the blocks, the blocks,
u32 number of elements, their f32 bits. The f16 scales are finite: NaNs have no one representation.
"""

import struct
import sys

import numpy as np
from gguf import GGMLQuantizationType, dequantize
from gguf.constants import GGML_QUANT_SIZES

BLOCKS = 3
# Where the f16 numbers of a block are.
F16_OFFSETS = {
    "Q4_0": [0], "Q4_1": [0, 2], "Q5_0": [0], "Q5_1": [0, 2], "Q8_0": [0],
    "Q4_K": [0, 2], "Q5_K": [0, 2], "Q6_K": [208], "IQ4_NL": [0], "IQ4_XS": [0], "MXFP4": [],
}

random = np.random.default_rng(20250101)
for name in ["F32", "F16", "BF16", *F16_OFFSETS]:
    kind = GGMLQuantizationType[name]
    _, block_bytes = GGML_QUANT_SIZES[kind]
    if name in F16_OFFSETS:
        blocks = random.integers(0, 256, (BLOCKS, block_bytes), dtype=np.uint8)
        if name == "MXFP4":
            blocks[:, 0] = [0, 1, 250]  # the two subnormal scales, and a large one
        for offset in F16_OFFSETS[name]:
            scales = (random.standard_normal(BLOCKS) * 0.1).astype(np.float16)
            scales[0] = np.float16(6e-8)  # the smallest subnormal number
            blocks[:, offset : offset + 2] = scales.view(np.uint8).reshape(BLOCKS, 2)
    else:
        numbers = random.standard_normal((1, 16)).astype(np.float32)
        if name == "F16":
            numbers[0, 0] = 6e-8
            blocks = numbers.astype(np.float16).view(np.uint8)
        elif name == "BF16":
            blocks = (numbers.view(np.uint32) >> 16).astype(np.uint16).view(np.uint8)
        else:
            blocks = numbers.view(np.uint8)
    expected = dequantize(blocks, kind).astype(np.float32).reshape(-1)
    out = sys.stdout.buffer
    out.write(struct.pack("<B", len(name)) + name.encode())
    out.write(struct.pack("<I", blocks.size) + blocks.tobytes())
    out.write(struct.pack("<I", expected.size) + expected.astype("<f4").tobytes())
