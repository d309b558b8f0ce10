#!/usr/bin/env python3
"""Compares the vectors of a converted multilingual-e5-small (convert_e5.py) with those of the program that its packed file is made for.

    python scripts/check_e5.py PACKED.bin E5_C_FOLDER CONVERTED_FOLDER TEXTS [--zhenjin target/release/zhenjin]

E5_C_FOLDER holds e5.c and e5.h, which the system's C compiler makes a library of; TEXTS has one text on each line. Prints the cosines' least,
1 % and 50 % places, and ends with an error if one is below --least (0.98). It needs numpy.
"""

import argparse
import ctypes
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy


def original(packed: str, folder: str, texts: list[str]) -> numpy.ndarray:
    """Their vectors as queries, [texts, width]."""
    with tempfile.TemporaryDirectory() as place:
        library = str(Path(place) / "e5.so")
        command = ["cc", "-O3", "-march=native", "-shared", "-fPIC", "-o", library, str(Path(folder) / "e5.c"), "-lm", "-lpthread"]
        subprocess.run(command, check=True)
        e5 = ctypes.CDLL(library)
        e5.e5_load.restype = ctypes.c_void_p
        model = ctypes.c_void_p(e5.e5_load(packed.encode()))
        if not model:
            sys.exit(f"{packed}: e5.c cannot load it")
        width = e5.e5_dim(model)
        vectors = numpy.zeros((len(texts), width), numpy.float32)
        for text, vector in zip(texts, vectors):
            if e5.e5_embed(model, text.encode(), 1, vector.ctypes.data_as(ctypes.POINTER(ctypes.c_float))):
                sys.exit(f"e5.c cannot embed {text!r}")
        return vectors


def ours(program: str, folder: str, texts: list[str]) -> numpy.ndarray:
    command = [program, "embed", folder, "--prompt", "query: ", "--lines", "-"]
    said = subprocess.run(command, input="\n".join(texts) + "\n", text=True, check=True, stdout=subprocess.PIPE)
    return numpy.array([embedding(json.loads(line)) for line in said.stdout.splitlines()], numpy.float32)


def embedding(line) -> list[float]:
    return line["embedding"] if isinstance(line, dict) else line


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("packed", "source", "converted", "texts"):
        parser.add_argument(name)
    parser.add_argument("--zhenjin", default="target/release/zhenjin")
    parser.add_argument("--least", type=float, default=0.98)
    arguments = parser.parse_args()
    texts = [line for line in Path(arguments.texts).read_text().splitlines() if line.strip()]
    theirs, found = original(arguments.packed, arguments.source, texts), ours(arguments.zhenjin, arguments.converted, texts)
    cosines = (theirs * found).sum(1) / numpy.linalg.norm(theirs, axis=1) / numpy.linalg.norm(found, axis=1)
    least, first, middle = numpy.quantile(cosines, [0, 0.01, 0.5])
    print(f"{len(texts)} texts: cosine {least:.5f} at least, {first:.5f} for the lowest 1 %, {middle:.5f} in the middle")
    below = [f"{cosine:.4f} {text[:60]}" for cosine, text in zip(cosines, texts) if cosine < arguments.least]
    for line in below[:10]:
        print(line)
    sys.exit(f"{len(below)} texts are below {arguments.least}" if below else 0)


if __name__ == "__main__":
    main()
