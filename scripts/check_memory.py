#!/usr/bin/env python3
"""Checks that a server's memory does not grow: chats of many lengths and embeddings at once, some of them cut off, with the resident memory
sampled every ten seconds.

    python scripts/check_memory.py --zhenjin target/release/zhenjin --model smollm2:135m --encoder all-minilm:l6 [--minutes 15]

Exits with 1 where the median of the last third of the samples is more than 3 % above that of the middle third, or where a request fails
that was not cut off. The first third is warming up: the KV cache is filled page by page, and the allocator's arenas reach their size.
"""

import argparse
import http.client
import json
import random
import re
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from pathlib import Path

WORDS = "the old library closed early because of storm 老图书馆 提前 关了门 因为 上周 的 暴风雨 and nobody noticed before 没有人 注意到".split()
GROWTH = 1.03


class Load:
    def __init__(self, port: int, until: float):
        self.port, self.until = port, until
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/v1/models") as answer:
            served = json.load(answer)["data"]
        self.model, self.encoder = (next(model["id"] for model in served if model["embeds"] is embeds) for embeds in (False, True))
        self.counts = {"chats": 0, "cut off": 0, "embedded texts": 0, "failed": 0}
        self.lock = threading.Lock()

    def count(self, what: str, number: int = 1) -> None:
        with self.lock:
            self.counts[what] += number

    def post(self, path: str, body: dict, most_bytes: int | None = None) -> None:
        """Reads the whole answer, or `most_bytes` of it and goes away."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=600)
        try:
            connection.request("POST", path, json.dumps(body), {"Content-Type": "application/json"})
            answer = connection.getresponse()
            text = answer.read() if most_bytes is None else answer.read(most_bytes)
            if answer.status != 200:
                self.count("failed")
                print(f"{path}: {answer.status} {text[:300]!r}", file=sys.stderr)
        finally:
            connection.close()

    def chat(self, number: int) -> None:
        chance = random.Random(number)
        while time.monotonic() < self.until:
            text = " ".join(chance.choices(WORDS, k=chance.choice([3, 20, 200])))
            body = {"model": self.model, "messages": [{"role": "user", "content": text}], "max_tokens": chance.choice([8, 40, 120])}
            is_cut_off = chance.random() < 0.1
            self.post("/v1/chat/completions", {**body, "stream": True}, 100 if is_cut_off else None)
            self.count("cut off" if is_cut_off else "chats")

    def embed(self, number: int) -> None:
        chance = random.Random(number)
        while time.monotonic() < self.until:
            texts = [" ".join(chance.choices(WORDS, k=chance.choice([2, 10, 40]))) for _ in range(chance.choice([1, 8, 100]))]
            self.post("/v1/embeddings", {"model": self.encoder, "input": texts})
            self.count("embedded texts", len(texts))


def resident(process: int) -> int:
    status = Path(f"/proc/{process}/status").read_text()
    return int(re.search(r"VmRSS:\s*(\d+)", status)[1]) * 1024


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--zhenjin", default="target/release/zhenjin")
    parser.add_argument("--model", required=True, help="a model that chats: a name or a path")
    parser.add_argument("--encoder", required=True, help="an encoder: a name or a path")
    parser.add_argument("--minutes", type=float, default=15)
    parser.add_argument("--chats", type=int, default=40, help="chats at once")
    parser.add_argument("--embedding", type=int, default=3, help="requests for embeddings at once")
    parser.add_argument("--home", help="the program's home, where models that are named are found [a new folder]")
    parser.add_argument("--port", type=int, default=18437)
    arguments = parser.parse_args()
    home = arguments.home or tempfile.mkdtemp(prefix="zhenjin-memory-")
    command = [arguments.zhenjin, "--home", home, "serve", arguments.model, arguments.encoder]
    command += ["--addr", f"127.0.0.1:{arguments.port}", "--max-batch", "32"]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    samples = []
    try:
        if not server.stdout.readline().startswith("listening"):
            return 1
        load = Load(arguments.port, time.monotonic() + arguments.minutes * 60)
        workers = [threading.Thread(target=load.chat, args=(number,)) for number in range(arguments.chats)]
        workers += [threading.Thread(target=load.embed, args=(-1 - number,)) for number in range(arguments.embedding)]
        for worker in workers:
            worker.start()
        while time.monotonic() < load.until:
            time.sleep(min(10, max(0.1, load.until - time.monotonic())))
            samples.append(resident(server.pid))
            print(f"{len(samples) * 10} s: {samples[-1] / 1e6:.1f} MB, {load.counts}", flush=True)
        for worker in workers:
            worker.join()
    finally:
        server.terminate()
        server.wait()
    third = max(1, len(samples) // 3)
    middle, last = statistics.median(samples[third : 2 * third] or samples), statistics.median(samples[-third:])
    print(f"{load.counts}; resident memory, median of the middle third {middle / 1e6:.1f} MB, of the last {last / 1e6:.1f} MB ({last / middle - 1:+.1%})")
    return int(load.counts["failed"] > 0 or last > GROWTH * middle)


if __name__ == "__main__":
    sys.exit(main())
