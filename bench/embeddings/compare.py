#!/usr/bin/env python3
"""Times embeddings of Zhenjin beside sentence-transformers: the same encoders in f32, the same texts, from text to vector.

The processes of a model live at the same time and take turns, round by round; those that do not compute are stopped. A turn of a program
counts with the fastest of its repeats. Vectors must agree. Writes docs/bench/embeddings.md and embeddings.json. `make bench-embeddings`
prepares everything and calls this.
"""

import argparse
import json
import os
import statistics
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT / "bench"))

import machine
from embeddings.texts import WORK, texts_of
from program import Program

TITLES = {"zhenjin": "Zhenjin", "torch": "sentence-transformers", "onnx": "the same by ONNX Runtime"}
TOLERANCE = 1e-4


def with_long_texts(folder: Path, place: Path) -> Path:
    """The model in a folder whose settings allow texts of 512 tokens, as its positions do."""
    copy = place / folder.resolve().name
    copy.mkdir()
    for entry in folder.resolve().iterdir():
        (copy / entry.name).symlink_to(entry)
    settings = copy / "sentence_bert_config.json"
    told = json.loads(settings.read_text()) if settings.exists() else {}
    settings.unlink(missing_ok=True)
    settings.write_text(json.dumps({**told, "max_seq_length": 512}))
    return copy


def command(name: str, folder: Path, arguments: argparse.Namespace) -> list[str]:
    if name == "zhenjin":
        return [arguments.zhenjin, str(folder), str(arguments.threads)]
    return [arguments.python, str(ROOT / "bench" / "embeddings" / "peer.py"), name, str(folder), str(arguments.threads)]


def measure(folder: Path, works: list, arguments: argparse.Namespace) -> list[dict]:
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    length = lambda text: len(tokenizer.encode(text).ids)
    logs = Path(arguments.logs)
    logs.mkdir(parents=True, exist_ok=True)
    running, rows = [], []
    try:
        for name in arguments.programs:
            running.append(Program(name, command(name, folder, arguments), logs / f"{name}.log"))
        for work in works:
            texts = texts_of(work, length)
            request = json.dumps({"texts": texts, "together": work.together})
            seconds = {program.name: [] for program in running}
            answers = {}
            for _ in range(arguments.rounds):
                for program in running:
                    turn = [program.ask(request) for _ in range(arguments.repeats)]
                    answers[program.name] = turn[-1]
                    seconds[program.name].append(min(answer["seconds"] for answer in turn))
            for program in running[1:]:
                differences = [abs(a - b) for a, b in zip(answers[running[0].name]["last"], answers[program.name]["last"], strict=True)]
                if max(differences) > TOLERANCE:
                    raise SystemExit(f"{work.title}: the vectors of {running[0].name} and {program.name} differ by {max(differences):.1e}")
            rows.append({
                "model": folder.name,
                "work": work.title,
                "texts": len(texts),
                "tokens": sum(length(text) for text in texts),
                "seconds": seconds,
                "peak_bytes": {name: answer["peak_bytes"] for name, answer in answers.items()},
                "versions": {program.name: program.first["version"] for program in running},
            })
            print(table(rows[-1:]), flush=True)
    finally:
        for program in running:
            program.close()
    return rows


def table(rows: list) -> str:
    lines = ["| model, texts | | texts/s, least / median / greatest | tokens/s | Zhenjin to it |", "| --- | --- | ---: | ---: | ---: |"]
    for row in rows:
        label = f"{row['model']}, {row['work']}"
        ours = row["seconds"].get("zhenjin")
        for name, seconds in row["seconds"].items():
            speeds = sorted(row["texts"] / value for value in seconds)
            middle = statistics.median(speeds)
            ratio = ""
            if ours and name != "zhenjin":
                pairs = sorted(theirs / mine for theirs, mine in zip(seconds, ours, strict=True))
                ratio = f"× {pairs[0]:.2f} / {statistics.median(pairs):.2f} / {pairs[-1]:.2f}"
            tokens = middle * row["tokens"] / row["texts"]
            spread = " / ".join(f"{value:,.1f}" for value in (speeds[0], middle, speeds[-1]))
            lines.append(f"| {label} | {TITLES[name]} | {spread} | {tokens:,.0f} | {ratio} |")
            label = ""
    return "\n".join(lines)


def page(results: dict) -> str:
    about, rows = results["machine"], results["rows"]
    versions = dict(sorted(item for row in rows for item in row["versions"].items() if item[0] != "zhenjin"))
    return f"""# Speed of embeddings beside sentence-transformers

{about['cpu']}, {about['cores']} cores ({', '.join(about['instructions'])}), {results['threads']} threads, f32, from text to vector.
{results['rounds']} rounds in which the programs took turns; a turn counts with the fastest of its {results['repeats']} repeats. {'; '.join(versions.values())}:
batches of 32 texts, which the library sorts by length. Half of the texts are English, half Chinese. Vectors agree within {TOLERANCE:g}.
`make bench-embeddings` writes this page.

{table(rows)}
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("models", nargs="+", type=Path, help="folders of sentence-transformers")
    parser.add_argument("--zhenjin", required=True, help="the program that makes our vectors: the example embed_speed")
    parser.add_argument("--python", default=sys.executable, help="a Python that has sentence-transformers")
    parser.add_argument("--programs", nargs="+", default=list(TITLES), choices=list(TITLES))
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--works", default="", help="a part of a work's title; all without it")
    parser.add_argument("--keep", action="store_true", help="keep the rows of other models and works that embeddings.json has")
    parser.add_argument("--logs", default=str(Path("/tmp") / f"zhenjin-bench-embeddings-{os.getuid()}"))
    parser.add_argument("--out", default=str(ROOT / "docs" / "bench"), help="where embeddings.md and embeddings.json go")
    arguments = parser.parse_args()
    works = [work for work in WORK if arguments.works in work.title]
    out = Path(arguments.out)
    out.mkdir(parents=True, exist_ok=True)
    results = {"machine": machine.describe(), "threads": arguments.threads, "rounds": arguments.rounds, "repeats": arguments.repeats, "rows": []}
    earlier = out / "embeddings.json"
    if arguments.keep and earlier.is_file():
        results["rows"] = json.loads(earlier.read_text())["rows"]
    with tempfile.TemporaryDirectory() as place:
        for model in arguments.models:
            for row in measure(with_long_texts(model, Path(place)), works, arguments):
                same = [index for index, old in enumerate(results["rows"]) if (old["model"], old["work"]) == (row["model"], row["work"])]
                if same:
                    results["rows"][same[0]] = row
                else:
                    results["rows"].append(row)
            earlier.write_text(json.dumps(results, indent=1) + "\n")
            (out / "embeddings.md").write_text(page(results))


if __name__ == "__main__":
    main()
