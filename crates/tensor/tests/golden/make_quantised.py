"""Makes quantised.bin: for the types of 32 elements and the float types, random values and the blocks that the `gguf` package
makes of them.

Usage: pip install gguf numpy; python make_quantised.py > quantised.bin

Format, little-endian: u32 number of values, the f32 values; then one record per type: u8 length of the name, the
name, u32 bytes of the blocks, the blocks.
"""

import struct
import sys

import numpy as np
from gguf import GGMLQuantizationType, quantize

random = np.random.default_rng(20250102)
values = random.standard_normal((1, 5 * 32)).astype(np.float32)
values[0, 32:64] = 0
values[0, 64:96] = 0.75
values[0, 96:128] = np.round(values[0, 96:128] * 4)  # many ties
out = sys.stdout.buffer
out.write(struct.pack("<I", values.size) + values.tobytes())
for name in ["F32", "F16", "BF16", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "MXFP4"]:
    blocks = quantize(values, GGMLQuantizationType[name]).tobytes()
    out.write(struct.pack("<B", len(name)) + name.encode())
    out.write(struct.pack("<I", len(blocks)) + blocks)
