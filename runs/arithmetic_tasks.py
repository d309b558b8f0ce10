"""Arithmetic problems as chats: sums and differences whose longer number has a certain number of digits.

    arithmetic_tasks.py PROBLEMS.jsonl OUT.jsonl COUNT solved|asked DIGITS[,DIGITS]...

PROBLEMS are those of `zhenjin generate arithmetic`. `solved` writes the worked steps and the answer as the assistant's message, `asked`
a question with the answer in a field of its own. COUNT of each number of digits are taken, each question once.
"""

import json
import sys

SYSTEM = "Calculate digit by digit, a line for each step, and end with the result alone."


def digits(question: str) -> int:
    numbers = question.rstrip("=").replace("-", "+").split("+")
    return max(len(number) for number in numbers)


def main(problems: str, out: str, count: str, kind: str, wanted: str) -> None:
    left = {int(number): int(count) for number in wanted.split(",")}
    seen = set()
    with open(problems) as file, open(out, "w") as written:
        for line in file:
            problem = json.loads(line)
            question = problem["question"]
            if "*" in question or question in seen or not left.get(digits(question)):
                continue
            seen.add(question)
            left[digits(question)] -= 1
            messages = [{"role": "system", "content": SYSTEM}, {"role": "user", "content": question}]
            if kind == "solved":
                text = "\n".join([*problem["steps"], problem["answer"]])
                record = {"messages": [*messages, {"role": "assistant", "content": text}]}
            else:
                record = {"prompt": messages, "answer": problem["answer"], "digits": digits(question)}
            written.write(json.dumps(record) + "\n")
    if any(left.values()):
        sys.exit(f"{problems}: there are too few problems: {left} are missing")


main(*sys.argv[1:])
