"""Preference pairs of ShareGPT's form, divided: some to learn from, some held out.

    pairs_parts.py OUT TRAINING LONGEST HELD_OUT LONGEST_HELD_OUT FILE...

By a hash of the question, so that one question is never on both sides; each question once. Up to HELD_OUT and a third of the pairs with at
most LONGEST_HELD_OUT characters in the dialogue with its longer answer are held out; of the others, up to TRAINING with at most LONGEST
characters are learnt from: a pair costs far more to learn from than to measure. Writes OUT/train.jsonl and OUT/held-out.jsonl.
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


def main(out: str, training: str, longest: str, held_out: str, longest_held_out: str, *files: str) -> None:
    most = max(int(longest), int(longest_held_out))
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
        elif (length := len(question) + max(len(chosen), len(rejected))) > most:
            too_long += 1
        else:
            pairs.append((key, length, record))
        seen.add(key)
    pairs.sort(key=lambda pair: pair[0])
    measurable = [pair for pair in pairs if pair[1] <= int(longest_held_out)]
    apart = measurable[: min(int(held_out), len(measurable) // 3)]
    keys = {key for key, _, _ in apart}
    learnt = [pair for pair in pairs if pair[0] not in keys and pair[1] <= int(longest)]
    parts = {"held-out": apart, "train": learnt[: int(training)]}
    for name, part in parts.items():
        with open(f"{out}/{name}.jsonl", "w") as file:
            for _, _, record in part:
                file.write(json.dumps(record, ensure_ascii=False) + "\n")
    print(
        f"{len(parts['train'])} pairs to learn from, {len(parts['held-out'])} held out, of {len(pairs)}; left out: {repeated} whose question "
        f"stood before, {same} without two different answers, {too_long} too long"
    )


main(*sys.argv[1:])
