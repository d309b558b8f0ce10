#!/usr/bin/env python3
"""Reads the logs of the two runs of runs/moe.sh and writes comparison.md and comparison.json beside them."""

import json
import pathlib
import statistics
import sys


def numbers(folder: pathlib.Path) -> dict:
    events = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    steps = [event for event in events if event["event"] == "step"]
    validations = [event for event in events if event["event"] == "validation"]
    energies = [step["energy"] for step in steps if step["energy"]]
    tokens, last = steps[-1]["tokens"], validations[-1]
    found = {
        "tokens": tokens,
        "validation_loss": last["loss"],
        "validation_bits_per_byte": last["bits_per_byte"],
        "training_loss_of_the_last_tenth": statistics.mean(step["loss"] for step in steps[-max(1, len(steps) // 10) :]),
        "operations_per_token": steps[-1]["model_flops"] / (tokens / steps[-1]["step"]),
        "tokens_per_second": statistics.median(step["tokens_per_second"] for step in steps),
        "resident_bytes": max((step["resident_bytes"] or 0 for step in steps), default=0),
        "parameters": parameters(folder),
    }
    if energies:
        found["joules_per_token"] = sum(energy["joules"] for energy in energies) / tokens
        found["energy_is_measured"] = all(energy["measured"] for energy in energies)
    routers = [step["routers"] for step in steps if step.get("routers")]
    if routers:
        late = routers[-max(1, len(routers) // 10) :]
        found["busiest_expert_over_mean"] = statistics.mean(router["imbalance"] for router in late)
        found["router_entropy_nats"] = statistics.mean(router["entropy"] for router in late)
    return found


def parameters(folder: pathlib.Path) -> int:
    """Values in the newest checkpoint's weights, by its header."""
    newest = max((folder / "checkpoints").glob("step-*"))
    with open(newest / "model.safetensors", "rb") as file:
        header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
    total = 0
    for name, tensor in header.items():
        if name != "__metadata__":
            size = 1
            for length in tensor["shape"]:
                size *= length
            total += size
    return total


def row(what: str, values: list, form) -> str:
    shown = [form(value) if value is not None else "–" for value in values]
    both = all(isinstance(value, (int, float)) for value in values)
    ratio = f"{values[1] / values[0]:.3f}" if both and values[0] else "–"
    return f"| {what} | {shown[0]} | {shown[1]} | {ratio} |"


def main() -> None:
    out = pathlib.Path(sys.argv[1])
    runs = {name: numbers(out / name) for name in ("dense", "mixture")}
    dense, mixture = runs["dense"], runs["mixture"]
    measured = dense.get("energy_is_measured") and mixture.get("energy_is_measured")
    lines = ["| | dense | experts | ratio |", "|---|---|---|---|"]
    for what, key, form in [
        ("parameters", "parameters", lambda value: f"{value / 1e6:.2f} M"),
        ("operations for a token", "operations_per_token", lambda value: f"{value / 1e6:.1f} M"),
        ("tokens", "tokens", lambda value: f"{value:,}"),
        ("validation loss (nats for a token)", "validation_loss", lambda value: f"{value:.4f}"),
        ("validation bits per byte", "validation_bits_per_byte", lambda value: f"{value:.4f}"),
        ("training loss, last tenth", "training_loss_of_the_last_tenth", lambda value: f"{value:.4f}"),
        ("tokens/s, median of steps", "tokens_per_second", lambda value: f"{value:,.0f}"),
        (
            "energy for a token (mJ)" + ("" if measured else ", assumed watts"),
            "joules_per_token",
            lambda value: f"{value * 1e3:.2f}",
        ),
        ("memory (MiB)", "resident_bytes", lambda value: f"{value / 2**20:.0f}"),
        ("busiest expert, of the mean load", "busiest_expert_over_mean", lambda value: f"{value:.2f}"),
    ]:
        lines.append(row(what, [dense.get(key), mixture.get(key)], form))
    table = "\n".join(lines) + "\n"
    (out / "comparison.md").write_text(table)
    (out / "comparison.json").write_text(json.dumps(runs, indent=1) + "\n")
    print(table)


if __name__ == "__main__":
    main()
