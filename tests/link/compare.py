#!/usr/bin/env python3
"""The table of tests/link/run.sh: compare.py FOLDER ZHENJIN BYTES-PER-SECOND LATENCY -- OPTIONS OF zhenjin plan

Reads the metrics of runs of one rank (two at a time, half a step's micro-batches being a rank's part) and of two ranks, and asks `zhenjin plan` for the same link.
"""

import json
import statistics
import subprocess
import sys


def steps(folder, run):
    with open(f"{folder}/{run}/metrics.jsonl") as lines:
        events = [json.loads(line) for line in lines]
    # The first step takes memory and starts threads.
    return [event for event in events if event["event"] == "step"][1:]


def median(values):
    return statistics.median(list(values))


def main():
    folder, zhenjin, speed, latency = sys.argv[1:5]
    options = sys.argv[sys.argv.index("--") + 1 :]
    alone = [step for run in ("alone-1", "alone-2") for step in steps(folder, run)]
    step_alone = median(step["seconds"] for step in alone)

    def plan(*more):
        words = [zhenjin, "plan", *options, "--json", *more]
        return json.loads(subprocess.run(words, check=True, capture_output=True, text=True).stdout)

    # The speed at which the plan's operations of a step take as long as one rank's step took.
    at_one = plan("--speed", "1")
    operations = at_one["operations"] / at_one["shape"]["steps"] / step_alone
    predicted = plan("--speed", str(operations), "--ranks", "2", "--network", speed, "--latency", latency)
    count, cost = predicted["shape"]["steps"], predicted["step_exchange"]
    computing = (predicted["seconds"] - predicted["network_seconds"]) / count
    bytes_least = 4 * sum(predicted["parameters"].values())
    print(f"one rank computes a step in {step_alone:.3f} s, with another one beside it; {bytes_least / 4 / 1e6:.2f} million parameters")
    print("| two ranks | seconds a step | of them waiting | bytes sent by the first rank |")
    print("|---|---:|---:|---:|")
    rows = [("plan, overlap", computing + cost["waited"], cost["waited"], cost["bytes"])]
    rows.append(measured(folder, "measured, overlap", "overlap"))
    rows.append(("plan, behind the backward pass", computing + cost["exchanged"], cost["exchanged"], cost["bytes"]))
    rows.append(measured(folder, "measured, behind the backward pass", "behind"))
    for name, seconds, waited, sent in rows:
        print(f"| {name} | {seconds:.3f} | {waited:.3f} | {sent:,.0f} |")
    print(f"least possible: {bytes_least:,} bytes (2·(P − 1)/P of the parameters' bytes, P = 2)")


def measured(folder, name, run):
    found = steps(folder, run)
    network = [step["network"] for step in found]
    return (
        name,
        median(step["seconds"] for step in found),
        median(use["waited_seconds"] for use in network),
        median(use["bytes_sent"] for use in network),
    )


if __name__ == "__main__":
    main()
