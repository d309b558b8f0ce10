"""Zhenjin, by its own program `zhenjin bench`: one process a measurement. ZHENJIN_BIN names it, ZHENJIN_BENCH_ARGUMENTS adds to its options."""

import json
import math
import os
import shlex
import subprocess

from peers.protocol import serve
from workload import FIRST_TOKEN, Test


class Zhenjin:
    def __init__(self, options: list[str]):
        self.program = os.environ.get("ZHENJIN_BIN", "zhenjin")
        self.extra = [*options, *shlex.split(os.environ.get("ZHENJIN_BENCH_ARGUMENTS", ""))]
        self.peak = 0

    def describe(self) -> dict:
        version = subprocess.run([self.program, "--version"], check=True, capture_output=True, text=True).stdout.strip()
        cache = next(
            (after for name, after in zip(self.extra, self.extra[1:]) if name == "--kv-cache-dtype"),
            "int8 where weights are quantised, else f32",
        )
        return {
            "version": version,
            "settings": {
                "kv_cache": cache,
                "activations": "int8 blocks of 32 with an f32 scale (f32 for F32, F16, BF16)",
                "flags": " ".join(self.extra) or "none",
                "build": "cargo, release profile; chooses instructions at run time",
            },
        }

    def load(self, path: str, vocabulary: int, threads: int, tests: list[Test]) -> float:
        self.model, self.threads = path, threads
        return self.measure(FIRST_TOKEN)["load_s"]

    def run(self, test: Test) -> float:
        return test.counted_tokens() / self.measure(test)["tok_s"][0]

    def repeat(self, test: Test, least: float) -> list[float]:
        speeds = self.measure(test, ["--seconds", str(math.ceil(least))])["tok_s"]
        return [test.counted_tokens() / speed for speed in speeds]

    def peak_bytes(self) -> int:
        return self.peak

    def measure(self, test: Test, more: list[str] = []) -> dict:
        lengths = {kind: "0" for kind in ("prefill", "decode", "answers")} | {test.kind: str(test.tokens)}
        command = [self.program, "bench", self.model, "--json", "--no-limits", "--repeat", "1"]
        for kind, length in lengths.items():
            command += [f"--{kind}", length]
        command += ["--batch", str(test.batch), "--threads", str(self.threads), *more, *self.extra]
        if test.prompt:
            command += ["--prompt", str(test.prompt)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        out, err = process.stdout.read(), process.stderr.read()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            raise RuntimeError(err.strip() or f"zhenjin bench ended with {process.returncode}")
        self.peak = max(self.peak, usage.ru_maxrss * 1024)
        return json.loads(out.splitlines()[-1])


if __name__ == "__main__":
    serve(Zhenjin([]))
