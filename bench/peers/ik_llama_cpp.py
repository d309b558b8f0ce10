"""ik_llama.cpp, the fork tuned for CPUs, by the library in `ik-llama-cpp-python`."""

import ctypes
import importlib.metadata
import re

from ik_llama_cpp import _ctypes_api as library

from peers.llama_family import LlamaFamily
from peers.protocol import serve


class IkLlamaCpp(LlamaFamily):
    library = library

    def __init__(self):
        library.llama_backend_init()

    def describe(self) -> dict:
        features = library._lib.llama_print_system_info
        features.restype = ctypes.c_char_p
        return {
            "version": f"ik-llama-cpp-python {importlib.metadata.version('ik-llama-cpp-python')}",
            "settings": {
                "kv_cache": "f16",
                "activations": "q8 blocks (f32 for F32)",
                "flags": "n_ubatch 512, repacked at load, fused up and gate, flash attention for one sequence (it aborts with more)",
                "build": " ".join(re.findall(r"(\w+) = 1", features().decode())),
            },
        }

    def load_model(self, path: str):
        parameters = library.llama_model_default_params()
        parameters.use_mmap = False
        parameters.repack_tensors = True
        model = library.llama_model_load_from_file(path.encode(), parameters)
        if not model:
            raise RuntimeError("ik_llama.cpp does not load this file")
        return model

    def make_context(self, sequences: int, length: int):
        parameters = self.sized(library.llama_context_default_params(), sequences, length)
        # Its flash attention fails an assertion where several sequences share a batch.
        parameters.flash_attn = sequences == 1
        parameters.fused_up_gate = True
        context = library.llama_init_from_model(self.model, parameters)
        if not context:
            raise RuntimeError(f"ik_llama.cpp makes no context for {sequences} sequences of {length} tokens")
        return context

    def clear(self, context) -> None:
        library.llama_kv_cache_clear(context)


if __name__ == "__main__":
    serve(IkLlamaCpp())
