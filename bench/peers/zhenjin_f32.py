"""Zhenjin with its KV cache in f32."""

from peers.protocol import serve
from peers.zhenjin import Zhenjin

if __name__ == "__main__":
    serve(Zhenjin(["--kv-cache-dtype", "f32"]))
