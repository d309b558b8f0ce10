#!/usr/bin/env python3
"""Times training steps of Zhenjin beside PyTorch (eager and compiled): the same models, batches and threads, in f32.

All three processes of a shape live at the same time and take turns, a few steps each, round by round; those that do not compute are
stopped. Writes a table and every number to docs/bench/. `make bench-train` prepares everything and calls this.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT / "bench"))

import machine
from program import Program
from training.shapes import SHAPES, Shape

TITLES = {"zhenjin": "Zhenjin", "eager": "PyTorch eager", "compiled": "`torch.compile`"}


def measure(shape: Shape, programs: list[str], arguments: argparse.Namespace) -> dict:
    logs = Path(arguments.logs)
    logs.mkdir(parents=True, exist_ok=True)
    running = []
    try:
        for name in programs:
            running.append(Program(name, command(name, shape, arguments), logs / f"{name}.log"))
        seconds = {name: [] for name in programs}
        answers = {}
        for _ in range(arguments.rounds):
            for program in running:
                answers[program.name] = program.ask(str(arguments.steps))
                # The best of a turn's steps would hide what every step pays; their middle one does not.
                seconds[program.name].append(statistics.median(answers[program.name]["seconds"]))
        return {
            "shape": shape.as_dict(),
            "flops_of_a_token": shape.flops_of_a_token(),
            "programs": {
                program.name: {
                    **program.first,
                    # From the start of the process to the end of the first step.
                    "first_step_seconds": program.ready_seconds,
                    "seconds": seconds[program.name],
                    "peak_bytes": answers[program.name]["peak_bytes"],
                    "tokens_per_second": shape.tokens / statistics.median(seconds[program.name]),
                }
                for program in running
            },
        }
    finally:
        for program in running:
            program.close()


def command(name: str, shape: Shape, arguments: argparse.Namespace) -> list[str]:
    request = json.dumps(
        {
            "shape": shape.as_dict(),
            "threads": arguments.threads,
            "compile": name == "compiled",
            "memory_limit": shape.memory_limit,
        }
    )
    if name == "zhenjin":
        return [arguments.zhenjin, request]
    return [arguments.python, str(ROOT / "bench" / "training" / "torch_peer.py"), request]


def title(name: str, cell: dict, shape: Shape) -> str:
    again = cell.get("recomputed_layers", 0)
    return TITLES[name] + (f", {again} of {shape.layers} layers computed again" if again else "")


def table(results: dict) -> str:
    programs = results["programs"]
    head = ["model, batch", "", "tok/s, least / median / greatest", "model GFLOP/s", "of the peak"]
    head += ["first step, s", "of it start", "peak memory, MB"]
    lines = ["| " + " | ".join(head) + " |", "| --- | --- | " + " | ".join(["---:"] * (len(head) - 2)) + " |"]
    for row in results["rows"]:
        shape = Shape(**row["shape"])
        label = f"{shape.name}, ffn {shape.ffn:,}, vocabulary {shape.vocabulary:,}, {shape.sequences} × {shape.length}"
        for name in programs:
            cell = row["programs"][name]
            speeds = sorted(shape.tokens / seconds for seconds in cell["seconds"])
            flops = cell["tokens_per_second"] * row["flops_of_a_token"]
            cells = [
                label,
                title(name, cell, shape),
                f"{speeds[0]:,.0f} / {statistics.median(speeds):,.0f} / {speeds[-1]:,.0f}",
                f"{flops / 1e9:.0f}",
                f"{flops / results['peak']:.0%}",
                f"{cell['first_step_seconds']:.2f}",
                f"{cell['first_step_seconds'] - statistics.median(cell['seconds']):.2f}",
                f"{cell['peak_bytes'] / 1e6:,.0f}",
            ]
            lines.append("| " + " | ".join(cells) + " |")
            label = ""
        peers = [name for name in programs if name != "zhenjin"]
        if "zhenjin" in programs and peers:
            ours = row["programs"]["zhenjin"]
            fastest = max(peers, key=lambda name: row["programs"][name]["tokens_per_second"])
            pairs = sorted(
                theirs / mine for theirs, mine in zip(row["programs"][fastest]["seconds"], ours["seconds"], strict=True)
            )
            least = min(row["programs"][name]["peak_bytes"] for name in peers)
            times = f"× {pairs[0]:.2f} / {statistics.median(pairs):.2f} / {pairs[-1]:.2f}"
            cells = ["", f"Zhenjin to {TITLES[fastest]}", times, "", "", "", "", f"× {ours['peak_bytes'] / least:.2f} of the smaller"]
            lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def page(results: dict) -> str:
    about = results["machine"]
    return f"""# Speed of training beside PyTorch

{about['cpu']}, {about['cores']} cores ({', '.join(about['instructions'])}), {results['threads']} threads, f32. A step is forward, backward
and AdamW. {results['rounds']} rounds in which the programs took turns of {results['steps']} steps; a turn counts with its middle step.
The peak is {results['peak'] / 1e9:.0f} GFLOP/s of multiply-adds in registers, measured before. PyTorch {results['torch']}.
Model FLOPs: 6 for each parameter of a product and token, and attention over half a sequence; what is computed again does not count.
The first step is timed from the start of the process; of it start: what is left without a step's median time.
`make bench-train` writes this page.

{table(results)}
"""


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--zhenjin", required=True, help="the program that takes our steps: the example train_speed")
    parser.add_argument("--python", default=sys.executable, help="a Python that has torch")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=3, help="steps of a turn")
    parser.add_argument("--shapes", default="", help="a part of a shape's name; all without it")
    parser.add_argument("--programs", nargs="+", default=list(TITLES), choices=list(TITLES))
    parser.add_argument("--logs", default=str(Path("/tmp") / f"zhenjin-bench-train-{os.getuid()}"))
    parser.add_argument("--out", default=str(ROOT / "docs" / "bench"), help="where training.md and training.json go")
    return parser.parse_args()


def main() -> None:
    arguments = parse()
    shapes = [shape for shape in SHAPES if arguments.shapes in shape.name]
    peak = json.loads(subprocess.run([arguments.zhenjin, "peak", str(arguments.threads)], capture_output=True, check=True).stdout)
    results = {
        "machine": machine.describe(),
        "threads": arguments.threads,
        "rounds": arguments.rounds,
        "steps": arguments.steps,
        "programs": arguments.programs,
        "peak": peak["flops"],
        "torch": "–",
        "rows": [],
    }
    out = Path(arguments.out)
    out.mkdir(parents=True, exist_ok=True)
    for shape in shapes:
        row = measure(shape, arguments.programs, arguments)
        results["rows"].append(row)
        versions = [cell["version"] for name, cell in row["programs"].items() if name != "zhenjin"]
        results["torch"] = versions[0] if versions else results["torch"]
        (out / "training.json").write_text(json.dumps(results, indent=1) + "\n")
        (out / "training.md").write_text(page(results))
        print(table({**results, "rows": [row]}), flush=True)


if __name__ == "__main__":
    main()
