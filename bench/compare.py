#!/usr/bin/env python3
"""Compares Zhenjin with other engines on the same model files: the programs take turns, round by round.

The order of the measurements is here: which child runs what, and when. How a program is measured is in peers/, what is done with the
numbers in statistics.py and report.py. `make bench` prepares everything and calls this.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import machine
import perplexity
import plot
import report
import workload
from child import Child, Gone
from load import LOADS, Running
from statistics_of import windows

PROGRAMS = ["zhenjin", "zhenjin_f32", "llama_cpp", "ik_llama_cpp", "openvino"]
ROOT = Path(__file__).parent.parent


def main() -> None:
    arguments = parse()
    os.environ["ZHENJIN_BIN"] = str(Path(arguments.zhenjin).resolve())
    os.environ["ZHENJIN_BENCH_ARGUMENTS"] = arguments.zhenjin_arguments
    comparison = Comparison(arguments)
    comparison.describe()
    for index, path in enumerate(arguments.models):
        comparison.model(path, index == 0)
        comparison.write()
    comparison.perplexity()
    comparison.write()
    print(report.table(comparison.results))


class Comparison:
    def __init__(self, arguments: argparse.Namespace):
        self.arguments = arguments
        self.pythons = dict(pair.split("=", 1) for pair in arguments.python)
        self.first: dict | None = None
        self.logs = Path(tempfile.mkdtemp(prefix="zhenjin-bench-"))
        self.results = {
            "machine": machine.describe(),
            "threads": arguments.threads,
            "rounds": arguments.rounds,
            "programs": {},
            "tests": [],
            "busy": [],
        }

    def describe(self) -> None:
        missing = dict(pair.split("=", 1) for pair in self.arguments.missing)
        for name in self.arguments.programs:
            if name in missing:
                self.results["programs"][name] = {"missing": missing[name]}
                continue
            child = self.start(name)
            try:
                self.results["programs"][name] = child.ask({"do": "describe"})
            except Gone as gone:
                self.results["programs"][name] = {"missing": f"does not start: {gone}"}
            child.close()

    def start(self, name: str) -> Child:
        python = self.pythons.get(name, self.pythons.get("default", sys.executable))
        return Child(name, python, self.logs / f"{name}.log")

    def present(self) -> list[str]:
        programs = self.results["programs"]
        return [name for name in self.arguments.programs if "missing" not in programs[name]]

    def model(self, path: str, is_first: bool) -> None:
        inspection = json.loads(
            subprocess.run(
                [self.arguments.zhenjin, "inspect", path, "--json"], check=True, capture_output=True, text=True
            ).stdout
        )
        path, file_type = inspection["path"], type_of(inspection)
        # Other types of the first model, or another model, which is named.
        self.first = self.first or inspection
        is_another = sizes_of(inspection) != sizes_of(self.first)
        weights = f"{name_of(inspection)}, {file_type}" if is_another else file_type
        load = {
            "do": "load",
            "model": path,
            "vocabulary": inspection["tokenizer"]["vocabulary_size"],
            "threads": self.arguments.threads,
        }
        wanted = [
            test
            for test in workload.tests_for(file_type, is_first, is_another)
            if re.search(self.arguments.tests, f"{weights} {test.label()}")
        ]
        if is_first and re.search(self.arguments.tests, "load"):
            self.loading(path, file_type, load)
        rows = {test: self.row(weights, test.label(), "tok/s") for test in wanted}
        children = {}
        for name in self.present():
            if not is_first and name == report.OURS_F32:
                continue
            child, answer = self.loaded(name, load, wanted)
            if child is None:
                for row in rows.values():
                    row["programs"][name]["refused"] = answer
            else:
                children[name] = child
        for test, row in rows.items():
            self.alternate(test, row, children, load, wanted)
        if is_first:
            self.busy(file_type, children)
        for child in children.values():
            child.close()

    def busy(self, file_type: str, children: dict) -> None:
        """Zhenjin and llama.cpp while other processes want the processors too."""
        for test in workload.BUSY_TESTS:
            for load in LOADS:
                label = f"{test.label()}, {load.label()}"
                if not re.search(self.arguments.tests, f"busy {file_type} {label}"):
                    continue
                row = {
                    "type": file_type,
                    "test": test.label(),
                    "load": load.label(),
                    "fair_share": load.fair_share(self.arguments.threads, machine.describe()["cores"]),
                    "programs": {},
                }
                self.results["busy"].append(row)
                for name in [name for name in report.BUSY_PROGRAMS if name in children]:
                    request = {"do": "repeat", "test": test.as_dict(), "seconds": workload.BUSY}
                    try:
                        with Running(load):
                            answer = children[name].ask(request)
                    except Gone as gone:
                        answer = {"refused": str(gone)}
                        children.pop(name).close()
                    if "refused" in answer:
                        row["programs"][name] = {"refused": answer["refused"]}
                    else:
                        speeds = windows(answer["seconds"], test.counted_tokens(), workload.WINDOW)
                        row["programs"][name] = {"values": speeds}
                say(f"busy {file_type} {label}: " + ", ".join(last_of(row)))

    def row(self, file_type: str, label: str, unit: str) -> dict:
        row = {
            "type": file_type,
            "label": label,
            "unit": unit,
            "programs": {name: {"values": []} for name in self.present()},
        }
        self.results["tests"].append(row)
        return row

    def loaded(self, name: str, load: dict, wanted: list) -> tuple[Child | None, str]:
        child = self.start(name)
        try:
            answer = child.ask({**load, "tests": [test.as_dict() for test in wanted]})
        except Gone as gone:
            answer = {"refused": str(gone)}
        if "refused" in answer:
            child.close()
            say(f"{name}: {answer['refused']}")
            return None, answer["refused"]
        return child, ""

    def alternate(self, test, row: dict, children: dict, load: dict, wanted: list) -> None:
        """A round without the clock, so that nothing is measured that happens only once, then the rounds."""
        for turn in range(self.arguments.rounds + 1):
            for name in list(children):
                cell = row["programs"][name]
                if "refused" in cell or (turn == 0 and name.startswith("zhenjin")):
                    continue
                try:
                    answer = children[name].ask({"do": "run", "test": test.as_dict()})
                except Gone as gone:
                    answer = {"refused": str(gone)}
                    children.pop(name).close()
                    again, _ = self.loaded(name, load, wanted)
                    if again:
                        children[name] = again
                if "refused" in answer:
                    cell["refused"] = answer["refused"]
                    say(f"{row['type']} {row['label']}: {name}: {answer['refused']}")
                elif turn > 0:
                    cell["values"].append(test.counted_tokens() / answer["seconds"])
            say(f"{row['type']} {row['label']}: " + ", ".join(last_of(row)))

    def loading(self, path: str, file_type: str, load: dict) -> None:
        """From the call that loads to the first token of a prompt of one; then what 16 answers take in memory."""
        cold = self.row(file_type, "load, file not in memory, to the first token", "s")
        warm = self.row(file_type, "load, file in memory, to the first token", "s")
        memory = self.row(file_type, f"peak memory, load and {workload.ANSWERS[0].label()}", "MB")
        machine.settle(path)
        present = self.present()
        for turn in range(self.arguments.rounds):
            # Whoever comes first in a round loads after the longest pause.
            first = turn % len(present)
            for name in present[first:] + present[:first]:
                stayed = machine.evict(path)
                if stayed > 0.02:
                    say(f"{stayed:.0%} of the model's file stayed in memory")
                self.load_once(name, load, cold, None)
                machine.warm(path)
                self.load_once(name, load, warm, memory)
            for row in (cold, warm, memory):
                say(f"{row['type']} {row['label']}: " + ", ".join(last_of(row)))

    def load_once(self, name: str, load: dict, row: dict, memory: dict | None) -> None:
        if "refused" in row["programs"][name]:
            return
        child = self.start(name)
        try:
            answers = [
                child.ask({**load, "tests": [workload.FIRST_TOKEN.as_dict()]}),
                child.ask({"do": "run", "test": workload.FIRST_TOKEN.as_dict()}),
            ]
            refused = next((answer["refused"] for answer in answers if "refused" in answer), None)
            if refused is None:
                row["programs"][name]["values"].append(sum(answer["seconds"] for answer in answers))
            else:
                row["programs"][name]["refused"] = refused
            if memory is not None and refused is None:
                child.ask({"do": "run", "test": workload.ANSWERS[0].as_dict()})
                used = child.ask({"do": "memory"})
                memory["programs"][name]["values"].append(used["peak_bytes"] / 1e6)
                memory["programs"][name]["before_load"] = used["before_load_bytes"] / 1e6
        except Gone as gone:
            row["programs"][name]["refused"] = str(gone)
        child.close()

    def perplexity(self) -> None:
        """The first and the second model on every text, with the KV cache that is served by default and with f32."""
        arguments = self.arguments
        models = [arguments.models[0], *filter(None, [arguments.second_model])]
        texts = arguments.text or [str(self.own_text())]
        missing = [] if arguments.second_model else ["A second model was not given (`ZHENJIN_BENCH_MODEL_2`)"]
        if not arguments.text:
            missing.append("No texts were given (`ZHENJIN_BENCH_TEXTS`): this project's documents were taken")
        self.results["perplexity"] = {"rows": [], "missing": missing}
        for model in models:
            for text in texts:
                row = perplexity.served_beside_f32(arguments.zhenjin, model, text)
                self.results["perplexity"]["rows"].append(row)
                say(f"perplexity of {row['model']} on {row['text']}: f32 {row['f32']:.4f}, served {row['served']:.4f}")

    def own_text(self) -> Path:
        """A text that is always there."""
        text = self.logs / "documents.txt"
        documents = [ROOT / "CONTRIBUTING.md", ROOT / "ARCHITECTURE.md", *sorted((ROOT / "docs").glob("*.md"))]
        text.write_text("\n".join(document.read_text(encoding="utf-8") for document in documents), encoding="utf-8")
        return text

    def write(self) -> None:
        out = Path(self.arguments.out)
        out.mkdir(parents=True, exist_ok=True)
        (out / "results.json").write_text(json.dumps(self.results, indent=1, ensure_ascii=False) + "\n")
        (out / "README.md").write_text(report.page(self.results))
        plot.draw(self.results, out / "speed.svg")
        if self.arguments.readme:
            report.replace_between(Path(self.arguments.readme), "bench", report.summary(self.results))


def type_of(inspection: dict) -> str:
    """The type of the file, by its name, or by the type that most bytes have."""
    named = re.findall(r"\b(I?Q\d\w*|BF16|F16|F32)\b", Path(inspection["path"]).stem.upper())
    if named:
        return named[-1]
    return max(inspection["types"].items(), key=lambda item: item[1]["bytes"])[0]


def sizes_of(inspection: dict) -> tuple:
    """What all types of one model have in common."""
    return inspection["architecture"], inspection["config"]["layers"], inspection["config"]["hidden size"]


def name_of(inspection: dict) -> str:
    """The file's name, without its type and ending."""
    return re.sub(r"[-_.]?\b(I?Q\d\w*|BF16|F16|F32)$", "", Path(inspection["path"]).stem, flags=re.IGNORECASE)


def last_of(row: dict) -> list[str]:
    return [
        f"{name} {cell['values'][-1]:.4g}"
        for name, cell in row["programs"].items()
        if cell["values"] and "refused" not in cell
    ]


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("models", nargs="+", help="model files; the first is measured in every way")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--zhenjin", default=str(ROOT / "target/release/zhenjin"))
    parser.add_argument("--zhenjin-arguments", default="", help="more options of zhenjin bench")
    parser.add_argument("--programs", type=lambda text: text.split(","), default=PROGRAMS)
    parser.add_argument("--tests", default="", help="only tests whose type and label match this expression")
    parser.add_argument("--python", action="append", default=[], metavar="PROGRAM=PATH", help="`default` names the rest")
    parser.add_argument("--missing", action="append", default=[], metavar="PROGRAM=REASON")
    parser.add_argument("--second-model", help="another model whose perplexity is measured, a name or a file")
    parser.add_argument("--text", action="append", default=[], help="a UTF-8 text for perplexity; may be given again")
    parser.add_argument("--out", help="folder of the page and its figures [docs/bench; of a part, out/bench]")
    parser.add_argument("--readme", help="put the table between this file's marks")
    arguments = parser.parse_args()
    if arguments.rounds < 1:
        parser.error("--rounds must be at least 1")
    is_part = bool(arguments.tests) or arguments.programs != PROGRAMS
    if is_part:
        # A part in the place of the whole would take the other rows away.
        arguments.readme = None
    if arguments.out is None:
        arguments.out = str(ROOT / ("out/bench" if is_part else "docs/bench"))
    return arguments


if __name__ == "__main__":
    main()
