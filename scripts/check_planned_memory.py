#!/usr/bin/env python3
"""Compares the memory that plans of alignment foresee with the peak of the run: scripts/check_planned_memory.py MODEL PAIRS [--only NAME …] [--steps N]

PAIRS are preference pairs (JSON lines). Every method makes some steps with MODEL; the peak is the operating system's. The plan is that of the longest
answers, which a run may not write.
"""

import argparse
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LENGTH = ["--reward", "length:characters>=100000", "--max-tokens", "48", "--context", "200"]
RUNS = {
    "sft": ["sft", "--batch", "16"],
    "sft in f32": ["sft", "--batch", "16", "--f32"],
    "sft, all weights": ["sft", "--batch", "16", "--full"],
    "sft, recomputed": ["sft", "--batch", "16", "--recompute"],
    "reward": ["reward", "--batch", "8"],
    "dpo": ["dpo", "--batch", "8"],
    "dpo, all weights": ["dpo", "--batch", "4", "--full"],
    "kto": ["kto", "--batch", "8"],
    "grpo": ["grpo", "--batch", "4", *LENGTH],
    "grpo, all weights, divergence": ["grpo", "--batch", "4", "--full", "--set", "policy.kl=0.05", *LENGTH],
    "ppo": ["ppo", "--batch", "8", *LENGTH],
}
UNITS = {"KiB": 2**10, "MiB": 2**20, "GiB": 2**30}


def measure(program: str, model: str, pairs: str, name: str, steps: int) -> None:
    method, *more = RUNS[name]
    with tempfile.TemporaryDirectory() as folder:
        command = [program, method, model, "--data", pairs, "--out", f"{folder}/run", "--steps", str(steps), "--overlong", "drop", "--bad", "drop", "--plain"]
        command += [] if "--context" in more else ["--context", "256"]
        command += [*more, "--set", "intervals.samples=0", "--set", "intervals.held_out=0"]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        text = process.stdout.read()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    planned = re.search(r"^memory\s+([\d.]+) (\w+) of", text, re.MULTILINE)
    if process.returncode or not planned:
        raise SystemExit(f"{name}: the run ended with {process.returncode}\n{text[-2000:]}")
    planned = float(planned[1]) * UNITS[planned[2]]
    peak = usage.ru_maxrss * 1024
    print(f"{name:30} planned {planned / 2**20:6,.0f} MiB, peak {peak / 2**20:6,.0f} MiB: {planned / peak - 1:+.1%}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("pairs")
    parser.add_argument("--only", nargs="+", choices=RUNS, default=list(RUNS))
    parser.add_argument("--zhenjin", default=str(ROOT / "target/release/zhenjin"))
    parser.add_argument("--steps", type=int, default=2, help="of each method [2]; what grows from step to step needs more")
    arguments = parser.parse_args()
    for name in arguments.only:
        measure(arguments.zhenjin, arguments.model, arguments.pairs, name, arguments.steps)


if __name__ == "__main__":
    sys.exit(main())
