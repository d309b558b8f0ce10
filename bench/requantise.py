#!/usr/bin/env python3
"""Writes a model in another type of weights, by llama.cpp's own quantisation: requantise.py MODEL TYPE OUT.

From a quantised file nothing becomes more exact than it was; speed and memory are those of the type.
"""

import ctypes
import os
import sys
from pathlib import Path

import llama_cpp

NAMES = ["F16", "BF16", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "Q4_K_M", "Q5_K_M", "Q6_K"]
TYPES = {"F32": llama_cpp.LLAMA_FTYPE_ALL_F32} | {name: getattr(llama_cpp, f"LLAMA_FTYPE_MOSTLY_{name}") for name in NAMES}


@llama_cpp.llama_log_callback
def silent(_level, _text, _data):
    pass


def main() -> None:
    if len(sys.argv) != 4 or sys.argv[2] not in TYPES:
        sys.exit(f"usage: requantise.py MODEL TYPE OUT, with a TYPE of {', '.join(TYPES)}")
    source, file_type, target = sys.argv[1], sys.argv[2], Path(sys.argv[3])
    target.parent.mkdir(parents=True, exist_ok=True)
    unfinished = target.with_suffix(".part")
    llama_cpp.llama_log_set(silent, ctypes.c_void_p(0))
    parameters = llama_cpp.llama_model_quantize_default_params()
    parameters.ftype = TYPES[file_type]
    parameters.allow_requantize = True
    if llama_cpp.llama_model_quantize(source.encode(), str(unfinished).encode(), ctypes.byref(parameters)):
        unfinished.unlink(missing_ok=True)
        sys.exit(f"llama.cpp could not write {source} as {file_type}")
    os.replace(unfinished, target)


if __name__ == "__main__":
    main()
