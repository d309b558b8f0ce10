"""Preference pairs of ShareGPT's form, divided: some to learn from, some held out.

    pairs_parts.py OUT TRAINING HELD_OUT LONGEST FILE...

By a hash of the question, so that one question is never on both sides; each question once. At most LONGEST characters in the dialogue with
its longer answer: up to TRAINING pairs are learnt from, up to HELD_OUT
and a third of them are held out. Writes OUT/train.jsonl and OUT/held-out.jsonl.
"""

import hashlib
import json
import sys


def records(path: str) -> list[dict]:
    with open(path) as file:
        text = file.read()
    return json.loads(text) if text.lstrip().startswith("[") else [json.loads(line) for line in text.splitlines()]


def text(answer: dict | str) -> str:
    return answer["value"] if isinstance(answer, dict) else answer


def main(out: str, training: str, held_out: str, longest: str, *files: str) -> None:
    pairs, seen = [], set()
    repeated = same = too_long = 0
    for record in [record for path in files for record in records(path)]:
        question = "\n".join(turn["value"] for turn in record["conversations"]).strip()
        key = hashlib.sha256(question.encode()).hexdigest()
        chosen, rejected = text(record["chosen"]), text(record["rejected"])
        if key in seen:
            repeated += 1
        elif chosen.strip() == rejected.strip() or not chosen.strip() or not rejected.strip():
            same += 1
        elif len(question) + max(len(chosen), len(rejected)) > int(longest):
            too_long += 1
        else:
            pairs.append((key, record))
        seen.add(key)
    pairs.sort(key=lambda pair: pair[0])
    apart = min(int(held_out), len(pairs) // 3)
    parts = {"held-out": pairs[:apart], "train": pairs[apart : apart + int(training)]}
    for name, part in parts.items():
        with open(f"{out}/{name}.jsonl", "w") as file:
            for _, record in part:
                file.write(json.dumps(record, ensure_ascii=False) + "\n")
    print(
        f"{len(parts['train'])} pairs to learn from, {len(parts['held-out'])} held out, of {len(pairs)}; left out: {repeated} whose question "
        f"stood before, {same} without two different answers, {too_long} too long"
    )


main(*sys.argv[1:])
