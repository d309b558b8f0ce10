#!/usr/bin/env python3
"""Times rollouts and steps of SFT, DPO and GRPO beside TRL: the same model in f32, the same examples, taking turns. `make bench-align` calls this.

Ours is the program itself, `zhenjin METHOD`, whose log says the seconds of each step. Writes docs/bench/align.md and align.json.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT / "bench"))

import machine
from align.workloads import FROZEN, WORKLOADS, Workload, write_examples


def ours(workload: Workload, arguments, model: Path, examples: Path) -> dict:
    if workload.method == "rollouts":
        return our_answers(workload, arguments, model)
    folder = Path(tempfile.mkdtemp())
    command = [
        arguments.zhenjin, workload.method, str(model), "--data", str(examples), "--out", str(folder / "run"), "--plain", "--priority", "normal",
        "--steps", str(arguments.steps), "--batch", str(workload.batch), "--threads", str(arguments.threads), "--held-out-share", "0",
        "--set", f"intervals.checkpoint={arguments.steps}", "--set", "intervals.held_out=0", "--set", "intervals.samples=0",
    ]
    command += ["--full"] if workload.full else ["--rank", "16"]
    if not workload.full and workload is not FROZEN:
        command.append("--f32")
    if workload.method == "grpo":
        command += ["--answers", str(workload.answers), "--max-tokens", str(workload.answer_tokens)]
        # No answer ends early, as in the time that TRL is given: every one has all tokens.
        command += ["--reward", "length:characters>=100000", "--set", "policy.kl=0"]
    started = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "ZHENJIN_HOME": str(folder)})
    if done.returncode != 0:
        raise SystemExit(done.stdout + done.stderr)
    events = [json.loads(line) for line in (folder / "run" / "metrics.jsonl").read_text().splitlines()]
    steps = [event for event in events if event["event"] == "step"]
    seconds = [event["seconds"] for event in steps]
    result = {
        "seconds": seconds,
        "loaded": time.perf_counter() - started - sum(seconds),
        "peak_bytes": max(event["resident_bytes"] for event in steps),
        "tokens": statistics.mean(event["tokens"] for event in steps[:1]),
    }
    shutil.rmtree(folder)
    return result


def our_answers(workload: Workload, arguments, model: Path) -> dict:
    """Seconds of the answers of a batch by the engine that writes rollouts, keys and values in f32."""
    command = [arguments.zhenjin, "bench", str(model), "--prefill", "0", "--decode", "0", "--answers", str(workload.answer_tokens)]
    command += ["--prompt", str(workload.length), "--batch", str(workload.batch), "--temperature", "1", "--kv-cache-dtype", "f32"]
    command += ["--threads", str(arguments.threads), "--repeat", str(arguments.steps), "--no-limits", "--json"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    lines = process.stdout.read().splitlines()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"zhenjin bench ended with {process.returncode}")
    seconds = [workload.tokens / speed for speed in json.loads(lines[-1])["tok_s"]]
    return {"seconds": seconds, "peak_bytes": usage.ru_maxrss * 1024, "tokens": workload.tokens}


def theirs(workload: Workload, arguments, model: Path, examples: Path) -> dict:
    command = [arguments.python, str(ROOT / "bench" / "align" / "trl_peer.py"), str(model), workload.name, str(examples)]
    command += [str(arguments.steps), str(arguments.threads)]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "HF_HUB_OFFLINE": "1", "TQDM_DISABLE": "1"})
    if done.returncode != 0:
        raise SystemExit(done.stderr[-4000:])
    return json.loads(done.stdout.strip().splitlines()[-1])


def later(result: dict) -> list:
    """Seconds of the steps after the first, which takes new memory."""
    return result["seconds"][1:] or result["seconds"]


def table(rows: list) -> str:
    lines = ["| work | | s a step, least / median / greatest | tok/s | peak memory, MB |", "| --- | --- | ---: | ---: | ---: |"]
    for row in rows:
        label, tokens = row["title"], row["tokens"]
        medians = {}
        for name in ("zhenjin", "trl"):
            seconds = sorted(value for turn in row[name] for value in later(turn))
            medians[name] = statistics.median(seconds)
            peak = max(turn["peak_bytes"] for turn in row[name])
            spread = f"{seconds[0]:.2f} / {medians[name]:.2f} / {seconds[-1]:.2f}"
            title = {"zhenjin": "Zhenjin", "trl": "TRL"}[name]
            lines.append(f"| {label} | {title} | {spread} | {tokens / medians[name]:,.0f} | {peak / 1e6:,.0f} |")
            label = ""
        ratios = sorted(
            statistics.median(later(theirs)) / statistics.median(later(ours)) for ours, theirs in zip(row["zhenjin"], row["trl"])
        )
        memory = max(turn["peak_bytes"] for turn in row["zhenjin"]) / max(turn["peak_bytes"] for turn in row["trl"])
        spread = " / ".join(f"{ratio:.2f}" for ratio in (ratios[0], statistics.median(ratios), ratios[-1]))
        lines.append(f"| | Zhenjin to TRL | × {spread} | | × {memory:.2f} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--zhenjin", default=str(ROOT / "target/release/zhenjin"))
    parser.add_argument("--python", default=sys.executable)
    parser.add_argument("--model", required=True, help="a Hugging Face folder in f32")
    parser.add_argument("--gguf", help="the file of 4 bits that the folder was expanded from, for what is measured alone")
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--workloads", default=",".join(workload.name for workload in WORKLOADS))
    parser.add_argument("--out", default=str(ROOT / "docs" / "bench"))
    arguments = parser.parse_args()
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(arguments.model)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for workload in WORKLOADS:
            if workload.name not in arguments.workloads.split(","):
                continue
            examples = Path(folder) / f"{workload.name}.jsonl"
            if workload.method != "rollouts":
                write_examples(workload, tokenizer, examples, arguments.steps)
            row = {"name": workload.name, "title": workload.title, "tokens": workload.tokens, "zhenjin": [], "trl": []}
            for _ in range(arguments.rounds):
                row["zhenjin"].append(ours(workload, arguments, Path(arguments.model), examples))
                row["trl"].append(theirs(workload, arguments, Path(arguments.model), examples))
            rows.append(row)
            print(table([row]), flush=True)
            # After each workload, so that a run that is cut off leaves what it measured.
            write(rows, [], arguments)
        if arguments.gguf:
            examples = Path(folder) / f"{FROZEN.name}.jsonl"
            write_examples(FROZEN, tokenizer, examples, arguments.steps)
            write(rows, alone(arguments, examples), arguments)


def alone(arguments, examples: Path) -> list:
    """What is measured of our program, from a file of 4 bits: training on it, and the time before the first step."""
    turns = [ours(FROZEN, arguments, Path(arguments.gguf), examples) for _ in range(arguments.rounds)]
    seconds = sorted(value for turn in turns for value in later(turn))
    starts = sorted(turn["loaded"] for turn in turns)
    peak = max(turn["peak_bytes"] for turn in turns)
    load = "import time; start = time.perf_counter(); from pathlib import Path; import sys, torch; from transformers import AutoModelForCausalLM, AutoTokenizer; "
    load += "path = Path(sys.argv[1]); given = dict(gguf_file=path.name); AutoTokenizer.from_pretrained(path.parent, **given); "
    load += "AutoModelForCausalLM.from_pretrained(path.parent, dtype=torch.float32, **given); print(time.perf_counter() - start)"
    loads = []
    for _ in range(arguments.rounds):
        done = subprocess.run([arguments.python, "-c", load, arguments.gguf], capture_output=True, text=True, env={**os.environ, "HF_HUB_OFFLINE": "1"})
        if done.returncode != 0:
            raise SystemExit(done.stderr[-4000:])
        loads.append(float(done.stdout.strip().splitlines()[-1]))
    spread = lambda values: f"{min(values):.2f} / {statistics.median(values):.2f} / {max(values):.2f}"
    return [
        f"| {FROZEN.title} | {spread(seconds)} s a step, {FROZEN.tokens / statistics.median(seconds):,.0f} tok/s, {peak / 1e6:,.0f} MB |",
        f"| the whole of such a run but for its steps: start, load, save | {spread(starts)} s |",
        f"| loading the same file by transformers, with its tokenizer | {spread(loads)} s |",
    ]


def write(rows: list, alone: list, arguments) -> None:
    import peft
    import torch
    import transformers
    import trl

    versions = f"TRL {trl.__version__}, peft {peft.__version__}, transformers {transformers.__version__}, PyTorch {torch.__version__}"
    host = machine.describe()
    head = f"""# Speed of alignment beside TRL

{host['cpu']}, {host['cores']} cores ({', '.join(host['instructions'])}), {arguments.threads} threads, SmolLM2-135M in f32. {arguments.rounds} rounds in which the
programs took turns of {arguments.steps} steps; the first step of a turn does not count. {versions}.
GRPO's seconds hold rollouts and the update; TRL's are those of all its steps divided by their number, and it learns from a quarter of the answers at a time,
as all at once take more than 24 GB. Sampling: new tokens by the engine, and by
`generate` of transformers; all seconds of a turn's repeats but the first. `make bench-align` writes this page.

"""
    out = Path(arguments.out)
    tail = "\n| alone | least / median / greatest |\n| --- | --- |\n" + "\n".join(alone) + "\n" if alone else ""
    (out / "align.md").write_text(head + table(rows) + tail)
    (out / "align.json").write_text(json.dumps({"versions": versions, "rows": rows, "alone": alone}, indent=1) + "\n")


main()
