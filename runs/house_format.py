"""Order notes and the house's records of them: examples to learn from, and how many answers of a served model keep the format.

    house_format.py make TRAINING.jsonl COUNT HELD_OUT.jsonl COUNT SCHEMA.json
    house_format.py measure ADDRESS HELD_OUT.jsonl SCHEMA.json RESULTS.json NAME=MODEL [NAME=MODEL]...
"""

import concurrent.futures
import json
import random
import sys
import urllib.request

SYSTEM = (
    'Turn order notes into house records: one line of JSON with "customer", "lines" (a list of "item" and "count") '
    'and "urgent", and nothing else.'
)
SCHEMA = {
    "type": "object",
    "properties": {
        "customer": {"type": "string"},
        "lines": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {"item": {"type": "string"}, "count": {"type": "integer"}},
                "required": ["item", "count"],
                "additionalProperties": False,
            },
        },
        "urgent": {"type": "boolean"},
    },
    "required": ["customer", "lines", "urgent"],
    "additionalProperties": False,
}
FIRST = "Anna Boris Clara David Elena Felix Greta Hugo Irina Jonas Karla Liam Mira Noah Olga Peter".split()
LAST = "Adler Berg Conti Dumont Eriksen Fischer Garcia Hansen Ito Jansen Keller Lopez Moreau Novak".split()
# Customers of the notes that are held out: nobody of that name is in the training.
OTHER_FIRST = "Quentin Rosa Stefan Tara Ulrich Vera Walter Yara".split()
OTHER_LAST = "Olsen Petrov Quist Rossi Schmidt Tanaka Urban Vogel".split()
ITEMS = "pen folder stapler lamp chair desk notebook envelope marker printer cable monitor keyboard mug clock".split()
NOTES = [
    "{customer} needs {lines}{urgency}.",
    "Please send {lines} to {customer}{urgency}.",
    "{lines} for {customer}{urgency}.",
    "An order from {customer}: {lines}{urgency}.",
    "Could we get {lines} to {customer}{urgency}?",
]
URGENT = [", as soon as possible", ", it is urgent", " today, please"]
CALM = ["", ", no hurry", " some time next week"]


def note(numbers: random.Random, first: list[str], last: list[str]) -> dict:
    customer = f"{numbers.choice(first)} {numbers.choice(last)}"
    lines = [{"item": item, "count": numbers.randint(1, 20)} for item in numbers.sample(ITEMS, numbers.randint(1, 3))]
    texts = [f"{line['count']} {line['item']}{'' if line['count'] == 1 else 's'}" for line in lines]
    listed = texts[0] if len(texts) == 1 else f"{', '.join(texts[:-1])} and {texts[-1]}"
    urgent = numbers.random() < 0.4
    text = numbers.choice(NOTES).format(
        customer=customer, lines=listed, urgency=numbers.choice(URGENT if urgent else CALM)
    )
    record = {"customer": customer, "lines": lines, "urgent": urgent}
    messages = [
        {"role": "system", "content": SYSTEM},
        {"role": "user", "content": text},
        {"role": "assistant", "content": json.dumps(record, separators=(",", ":"))},
    ]
    return {"messages": messages}


def make(training: str, count: str, held_out: str, held_out_count: str, schema: str) -> None:
    for path, number, seed, names in [
        (training, int(count), 1, (FIRST, LAST)),
        (held_out, int(held_out_count), 2, (OTHER_FIRST, OTHER_LAST)),
    ]:
        numbers = random.Random(seed)
        with open(path, "w") as file:
            for _ in range(number):
                file.write(json.dumps(note(numbers, *names)) + "\n")
    with open(schema, "w") as file:
        json.dump(SCHEMA, file)


def is_valid(record: object) -> bool:
    """Whether a value is what the schema says."""

    def is_line(line: object) -> bool:
        return (
            isinstance(line, dict)
            and set(line) == {"item", "count"}
            and isinstance(line["item"], str)
            and isinstance(line["count"], int)
            and not isinstance(line["count"], bool)
        )

    return (
        isinstance(record, dict)
        and set(record) == {"customer", "lines", "urgent"}
        and isinstance(record["customer"], str)
        and isinstance(record["urgent"], bool)
        and isinstance(record["lines"], list)
        and all(is_line(line) for line in record["lines"])
    )


def ask(address: str, model: str, messages: list[dict], schema: dict | None) -> str:
    body = {"model": model, "messages": messages, "temperature": 0, "max_tokens": 160}
    if schema is not None:
        body["response_format"] = {"type": "json_schema", "json_schema": {"name": "record", "schema": schema}}
    request = urllib.request.Request(
        f"http://{address}/v1/chat/completions", json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=600) as answer:
        return json.load(answer)["choices"][0]["message"]["content"]


def interval(count: int, of: int) -> tuple[float, float]:
    """Wilson's 95 % interval of a share."""
    z, share = 1.959964, count / of
    middle = (share + z * z / (2 * of)) / (1 + z * z / of)
    half = z / (1 + z * z / of) * (share * (1 - share) / of + z * z / (4 * of * of)) ** 0.5
    return max(0.0, middle - half), min(1.0, middle + half)


def measure(address: str, held_out: str, schema_path: str, results: str, *models: str) -> None:
    with open(schema_path) as file:
        schema = json.load(file)
    with open(held_out) as file:
        examples = [json.loads(line)["messages"] for line in file]
    found = []
    for named in models:
        name, _, model = named.partition("=")
        for constrained in [None, schema]:
            with concurrent.futures.ThreadPoolExecutor(16) as pool:
                answers = list(pool.map(lambda messages: ask(address, model, messages[:2], constrained), examples))
            valid = right = 0
            for messages, answer in zip(examples, answers):
                try:
                    record = json.loads(answer)
                except ValueError:
                    continue
                valid += is_valid(record)
                right += record == json.loads(messages[2]["content"])
            found.append(
                {
                    "model": name,
                    "constrained": constrained is not None,
                    "notes": len(examples),
                    "valid": valid,
                    "right": right,
                    "note": examples[0][1]["content"],
                    "first_answer": answers[0],
                }
            )
    with open(results, "w") as file:
        json.dump(found, file, indent=2)
    print("| answers of | decoding | in the house format | every value right |\n|---|---|---:|---:|")
    for row in found:
        shares = []
        for key in ("valid", "right"):
            low, high = interval(row[key], row["notes"])
            shares.append(f"{100 * row[key] / row['notes']:.1f} % ({100 * low:.1f}–{100 * high:.1f})")
        decoding = "constrained by the schema" if row["constrained"] else "free"
        print(f"| {row['model']} | {decoding} | {shares[0]} | {shares[1]} |")
    print(f"\n{found[0]['notes']} notes of customers that were not in the training, greedy; in brackets 95 % intervals (Wilson).")
    print(f"\nThe first note: {found[0]['note']}")
    for row in found:
        print(f"  {row['model']}, {'constrained' if row['constrained'] else 'free'}: {row['first_answer'].strip()}")


if __name__ == "__main__":
    commands = {"make": make, "measure": measure}
    commands[sys.argv[1]](*sys.argv[2:])
