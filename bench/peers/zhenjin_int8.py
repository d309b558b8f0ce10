"""Zhenjin with its KV cache in 8 bits."""

from peers.protocol import serve
from peers.zhenjin import Zhenjin

if __name__ == "__main__":
    serve(Zhenjin(["--kv-cache-dtype", "int8"]))
