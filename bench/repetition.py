"""How often a served model's answers to ordinary requests go round in a circle, and whether short answers stay right.

    zhenjin serve MODEL --addr 127.0.0.1:8600
    python bench/repetition.py --port 8600 --prompts bench/prompts/en.txt --max-tokens 1024 '{"repetition_penalty": 1.1}'

Every line of the file is one request with its own fixed seed; the settings after the options replace the model's own.
An answer counts as a loop if its last 200 characters or more repeat one pattern, at least four times.
"""

import argparse
import json
import re
import urllib.request
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

QUESTIONS = [
    ("What is the capital of France?", "Paris"),
    ("What is the capital of Japan?", "Tokyo"),
    ("How many days does a week have?", "7|seven"),
    ("Which planet is closest to the Sun?", "Mercury"),
    ("What colour do you get when you mix blue and yellow?", "green"),
    ("What is the opposite of hot?", "cold"),
    ("Who wrote Romeo and Juliet?", "Shakespeare"),
    ("What is the chemical formula of water?", "H2O|H₂O"),
    ("What is 7 plus 5?", "12"),
    ("In which continent is Egypt?", "Africa"),
    ("What do bees make?", "honey"),
    ("How many legs does a spider have?", "8|eight"),
    ("What is the largest ocean?", "Pacific"),
    ("Repeat the word 'banana' exactly three times.", r"(?i)banana\W+banana\W+banana"),
    ("Write a Python function that adds two numbers.", r"def \w+\(\w+, ?\w+\)(.|\n)*return \w+ ?\+ ?\w+"),
    ("Print the letters from a to e, one per line.", r"(?i)a\W+b\W+c\W+d\W+e"),
    ("Which language is spoken in Brazil?", "Portuguese"),
    ("What is the freezing point of water in degrees Celsius?", r"\b0\b|zero"),
    ("Translate 'thank you' into French.", "(?i)merci"),
    ("Count from 1 to 10.", r"1\W+2\W+3\W+4\W+5\W+6\W+7\W+8\W+9\W+10"),
]


def loop_of(text: str) -> str | None:
    """The pattern that the text's end repeats."""
    text = text.rstrip()
    for period in range(1, len(text) // 4 + 1):
        needed = max(200, 4 * period)
        tail = text[-needed:]
        if len(tail) == needed and tail[period:] == tail[:-period]:
            return tail[-period:]
    return None


def repeated_share(text: str) -> float:
    """The share of runs of eight words (or characters of Chinese) that stood in the text before."""
    words = re.findall(r"[\u4e00-\u9fff]|[\w']+", text.lower())
    runs = [tuple(words[i : i + 8]) for i in range(len(words) - 7)]
    return 1 - len(set(runs)) / len(runs) if runs else 0.0


def ask(port: int, model: str, prompt: str, seed: int, max_tokens: int, settings: dict) -> tuple[str, str, int]:
    body = {"model": model, "messages": [{"role": "user", "content": prompt}], "seed": seed, "max_tokens": max_tokens}
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/v1/chat/completions",
        json.dumps(body | settings).encode(),
        {"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=3000) as response:
        answer = json.load(response)
    choice = answer["choices"][0]
    reason = choice.get("stop_reason") or choice["finish_reason"]
    return choice["message"]["content"] or "", reason, answer["usage"]["completion_tokens"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--port", type=int, default=8080)
    parser.add_argument("--prompts", action="append", required=True)
    parser.add_argument("--first", type=int, default=100, help="lines of each file")
    parser.add_argument("--max-tokens", type=int, default=1024)
    parser.add_argument("--at-once", type=int, default=8)
    parser.add_argument("--no-questions", action="store_true", help="only the prompts")
    parser.add_argument("--save", help="a file for the answers")
    parser.add_argument("settings", nargs="*", default=["{}"])
    arguments = parser.parse_args()
    prompts = []
    for path in arguments.prompts:
        with open(path, encoding="utf-8") as file:
            prompts += file.read().splitlines()[: arguments.first]
    with urllib.request.urlopen(f"http://127.0.0.1:{arguments.port}/v1/models") as response:
        model = json.load(response)["data"][0]["id"]
    for text in arguments.settings or ["{}"]:
        settings = json.loads(text)
        with ThreadPoolExecutor(arguments.at_once) as pool:
            jobs = [
                pool.submit(ask, arguments.port, model, prompt, seed, arguments.max_tokens, settings)
                for seed, prompt in enumerate(prompts)
            ]
            facts = [
                pool.submit(ask, arguments.port, model, question, seed, 200, settings)
                for seed in range(3)
                for question, _ in QUESTIONS
                if not arguments.no_questions
            ]
            answers = [job.result() for job in jobs]
            right = sum(
                bool(re.search(QUESTIONS[index % len(QUESTIONS)][1], fact.result()[0]))
                for index, fact in enumerate(facts)
            )
        loops = [loop_of(answer) for answer, _, _ in answers]
        tokens = sorted(count for _, _, count in answers)
        report = {
            "model": model,
            "settings": settings,
            "answers": len(answers),
            "loops": sum(loop is not None for loop in loops),
            "reasons": dict(Counter(reason for _, reason, _ in answers)),
            "median_tokens": tokens[len(tokens) // 2],
            "repeated_runs": round(sum(repeated_share(answer) for answer, _, _ in answers) / len(answers), 4),
            "right": f"{right}/{len(facts)}",
        }
        print(json.dumps(report, ensure_ascii=False), flush=True)
        if arguments.save:
            with open(arguments.save, "a", encoding="utf-8") as file:
                for prompt, (answer, reason, _), loop in zip(prompts, answers, loops):
                    line = {"settings": settings, "prompt": prompt, "reason": reason, "loop": loop, "answer": answer}
                    file.write(json.dumps(line, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
