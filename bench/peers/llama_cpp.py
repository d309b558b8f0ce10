"""llama.cpp, by the library in `llama-cpp-python`."""

import ctypes
import re

import llama_cpp

from peers.llama_family import LlamaFamily
from peers.protocol import serve


@llama_cpp.llama_log_callback
def silent(_level, _text, _data):
    pass


class LlamaCpp(LlamaFamily):
    library = llama_cpp

    def __init__(self):
        llama_cpp.llama_log_set(silent, ctypes.c_void_p(0))
        llama_cpp.llama_backend_init()

    def describe(self) -> dict:
        features = llama_cpp.llama_print_system_info().decode()
        return {
            "version": f"llama-cpp-python {llama_cpp.__version__}",
            "settings": {
                "kv_cache": "f16",
                "activations": "q8_0 / q8_1 blocks of 32, q8_K blocks of 256 (f32 for F32)",
                "flags": "n_ubatch 512, flash attention on, one KV stream a sequence",
                "build": "from the sdist; " + " ".join(re.findall(r"(\w+) = 1", features)),
            },
        }

    def load_model(self, path: str):
        model = llama_cpp.llama_model_load_from_file(path.encode(), llama_cpp.llama_model_default_params())
        if not model:
            raise RuntimeError("llama.cpp does not load this file")
        return model

    def make_context(self, sequences: int, length: int):
        parameters = self.sized(llama_cpp.llama_context_default_params(), sequences, length)
        parameters.flash_attn_type = llama_cpp.LLAMA_FLASH_ATTN_TYPE_ENABLED
        parameters.kv_unified = False
        context = llama_cpp.llama_init_from_model(self.model, parameters)
        if not context:
            raise RuntimeError(f"llama.cpp makes no context for {sequences} sequences of {length} tokens")
        return context

    def clear(self, context) -> None:
        llama_cpp.llama_memory_clear(llama_cpp.llama_get_memory(context), True)


if __name__ == "__main__":
    serve(LlamaCpp())
