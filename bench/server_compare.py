#!/usr/bin/env python3
"""Compares `zhenjin serve` with llama-server over HTTP: both run the same model, and take turns test by test.

The order of the measurements is here. How the servers start is in servers.py, what is asked of them in server_load.py. `make bench-server`
prepares everything and calls this.
"""

import argparse
import json
import os
import shlex
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import machine
import report
import server_report
from peers.protocol import peak_memory
from server_load import Load
from servers import LlamaServer, Setup, ZhenjinServer

ROOT = Path(__file__).parent.parent
CHATS = [1, 4, 8, 16]
CROWD = [1, 16, 64, 256, 512]


class Contest:
    def __init__(self, arguments: argparse.Namespace):
        self.arguments = arguments
        self.inspection = json.loads(
            subprocess.run(
                [arguments.zhenjin, "inspect", arguments.model, "--json"], check=True, capture_output=True, text=True
            ).stdout
        )
        self.model = self.inspection["path"]
        self.extra = shlex.split(arguments.zhenjin_arguments)
        self.seed = 0
        self.results = {
            "machine": machine.describe(),
            "threads": arguments.threads,
            "rounds": arguments.rounds,
            "model": Path(self.model).name,
            "commands": {},
            "versions": versions(arguments),
            "tests": [],
        }

    def start(self, is_long: bool, seats: int | None = None) -> list:
        """Both servers, loaded and paused."""
        setup = Setup(self.model, self.arguments.threads, is_long, seats)
        kinds = [(ZhenjinServer, self.arguments.zhenjin, self.extra), (LlamaServer, self.arguments.llama_server, [])]
        running = []
        for kind, program, extra in kinds:
            if kind.name in self.arguments.servers:
                server = kind(program, setup, extra)
                running.append(server)
                server.wait()
                server.load = self.load_for(server)
                server.load.first_token()
                server.pause()
                part = " (long prompt)" if is_long else " (crowd)" if seats else ""
                self.results["commands"][server.name + part] = server.command
        return running

    def load_for(self, server) -> Load:
        with urllib.request.urlopen(f"http://127.0.0.1:{server.port}/v1/models") as response:
            name = json.load(response)["data"][0]["id"]
        tokenizer = self.inspection["tokenizer"]
        never = sorted({*tokenizer["end_of_turn"], tokenizer["eos"]})
        # Every server gets the same prompts in the same order, other ones in each round.
        return Load(server.port, name, tokenizer["vocabulary_size"], never, self.seed)

    def loading(self) -> None:
        """From the start of the program to the first token of a prompt of one."""
        machine.settle(self.model)
        for label, prepare in (("cold", machine.evict), ("warm", machine.warm)):
            setup = Setup(self.model, self.arguments.threads, False)
            for kind, program, extra in (
                (ZhenjinServer, self.arguments.zhenjin, self.extra),
                (LlamaServer, self.arguments.llama_server, []),
            ):
                if kind.name not in self.arguments.servers:
                    continue
                prepare(self.model)
                started = time.perf_counter()
                server = kind(program, setup, extra)
                try:
                    server.wait()
                    self.load_for(server).first_token()
                    self.note(f"start to first token, model file {'not ' if label == 'cold' else ''}in memory", "s", server, time.perf_counter() - started)
                finally:
                    server.stop()

    def round(self, number: int) -> None:
        self.seed = number * 10_000
        if "load" in self.arguments.parts:
            self.loading()
        if "crowd" in self.arguments.parts:
            self.crowd()
        for part in ("chats", "long"):
            if part not in self.arguments.parts:
                continue
            is_long = part == "long"
            servers = self.start(is_long)
            try:
                if is_long:
                    self.turn(servers, self.gaps)
                else:
                    for chats in CHATS:
                        self.turn(servers, lambda server: self.chats(server, chats))
                label = f"peak memory after {'the long prompt' if is_long else '16 chats'}"
                for server in servers:
                    self.note(label, "MB", server, peak_memory(str(server.process.pid)) / 1e6)
            finally:
                for server in servers:
                    server.stop()

    def turn(self, servers: list, test) -> None:
        for server in servers:
            server.go_on()
            test(server)
            server.pause()

    def chats(self, server, count: int, part: str = "") -> tuple[dict, str]:
        """What was measured, and how it is called."""
        measured = server.load.chats(count)
        label = f"{part}{count} {'chat' if count == 1 else 'chats'}"
        self.note(f"{label}: all tokens", "tok/s", server, measured["tok_s"])
        self.note(f"{label}: slowest first token", "s", server, measured["first_token_s"])
        return measured, label

    def crowd(self) -> None:
        """More and more chats on one server that may work on all of them at once."""
        servers = self.start(False, CROWD[-1])
        speeds = {server.name: [] for server in servers}
        try:
            for count in CROWD:
                self.turn([server for server in servers if server.follows(count)], lambda server: self.many(server, count, speeds))
            for server in servers:
                self.note("crowd: least total speed of 16 chats and more, of the greatest", "share", server, min(speeds[server.name][1:]) / max(speeds[server.name]))
        finally:
            for server in servers:
                server.stop()

    def many(self, server, count: int, speeds: dict) -> None:
        measured, label = self.chats(server, count, "crowd, ")
        speeds[server.name].append(measured["tok_s"])
        self.note(f"{label}: p99 of the gaps between tokens", "s", server, measured["gap_p99_s"])
        self.note(f"{label}: peak memory until then", "MB", server, peak_memory(str(server.process.pid)) / 1e6)

    def gaps(self, server) -> None:
        measured = server.load.gaps()
        self.note("15 chats while a prompt of 4,000 tokens arrives: p99 of the gaps between tokens", "s", server, measured["gap_p99_s"])
        self.note("the same: first token of the long prompt", "s", server, measured["long_first_token_s"])

    def note(self, label: str, unit: str, server, value: float) -> None:
        print(f"{label}, {server.name}: {value:.4g} {unit}", file=sys.stderr, flush=True)
        row = next((row for row in self.results["tests"] if row["label"] == label), None)
        if row is None:
            row = {"label": label, "unit": unit, "servers": {}}
            self.results["tests"].append(row)
        row["servers"].setdefault(server.name, []).append(value)

    def write(self) -> None:
        out = Path(self.arguments.out)
        out.mkdir(parents=True, exist_ok=True)
        (out / "server.json").write_text(json.dumps(self.results, indent=1, ensure_ascii=False) + "\n")
        (out / "server.md").write_text(server_report.page(self.results))
        if self.arguments.readme:
            report.replace_between(Path(self.arguments.readme), "bench-server", server_report.summary(self.results))


def versions(arguments: argparse.Namespace) -> dict:
    found = {}
    for name, program in (("zhenjin", arguments.zhenjin), ("llama-server", arguments.llama_server)):
        if name in arguments.servers:
            said = subprocess.run([program, "--version"], capture_output=True, text=True)
            found[name] = " ".join((said.stdout or said.stderr).split())[:160]
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--zhenjin", default=str(ROOT / "target/release/zhenjin"))
    parser.add_argument("--zhenjin-arguments", default="", help="more options of zhenjin serve")
    parser.add_argument("--llama-server", required=True)
    parser.add_argument("--servers", type=lambda text: text.split(","), default=["zhenjin", "llama-server"])
    parser.add_argument("--parts", type=lambda text: text.split(","), default=["load", "crowd", "chats", "long"])
    parser.add_argument("--out", default=str(ROOT / "docs/bench"))
    parser.add_argument("--readme", help="put the table between this file's marks")
    arguments = parser.parse_args()
    contest = Contest(arguments)
    for number in range(1, arguments.rounds + 1):
        contest.round(number)
        contest.results["rounds"] = number
        contest.write()
    print(server_report.table(contest.results))


if __name__ == "__main__":
    main()
