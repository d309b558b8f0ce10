#!/usr/bin/env python3
"""Measures what guessing tokens by prompt lookup gives: `zhenjin serve --speculation ngram` beside `--speculation off`.

    python3 scripts/bench_speculation.py target/release/zhenjin MODEL.gguf [--repeat 5] [--tokens 192] [--sequences 8,16]

Both servers run at once and answer in turn, so that other work on the machine hits both. Every answer is compared: they
must be equal. Printed are ratios of tokens per second (with / without; min / median / max over prompts, each by the median
of its repeats) for single requests of each kind, then for many requests at once. Needs nothing but Python.
"""

import argparse
import concurrent.futures
import json
import pathlib
import re
import statistics
import subprocess
import tempfile
import time
import urllib.request

TEXT = (
    "The harbour of Port Ellis was built in 1874 by the engineer Maria Kowalski. It has two stone piers, each 310 metres "
    "long, and a lighthouse that was electrified in 1921. Every year about 4,200 fishing boats and 160 ferries call at the "
    "harbour. In 1953 a storm destroyed the northern pier, and it took the town six years to rebuild it. Today the harbour "
    "employs 730 people, most of them in the fish market, which opens at four o'clock in the morning. The town council "
    "plans to deepen the channel by two metres in 2027 so that larger ferries can enter at low tide."
)
CHINESE_TEXT = (
    "港口于1874年由工程师玛丽亚·科瓦尔斯基建造。它有两座石砌码头,每座长310米,还有一座1921年通电的灯塔。"
    "每年约有4200艘渔船和160艘渡轮停靠。1953年的一场风暴摧毁了北码头,小镇花了六年时间重建。"
)
CODE = '''```python
def read_settings(path):
    settings = {}
    with open(path) as file:
        for line in file:
            line = line.strip()
            if not line or line.startswith("#"):
                continue
            name, value = line.split("=", 1)
            settings[name.strip()] = value.strip()
    return settings


def write_settings(path, settings):
    with open(path, "w") as file:
        for name, value in sorted(settings.items()):
            file.write(f"{name} = {value}\\n")
```'''
PROMPTS = {
    "quoting and editing": [
        "Summarise this text in three sentences, with its numbers:\n\n" + TEXT,
        "Copy the following text and correct its spelling:\n\n" + TEXT.replace("harbour", "harbur"),
        "Quote the sentences about the storm and the plans of the town council:\n\n" + TEXT,
        "Rename the function read_settings to load_settings and return the whole program:\n\n" + CODE,
        "Add a docstring to each function of this program and return the whole program:\n\n" + CODE,
        "请原样重复下面这段文字:\n\n" + CHINESE_TEXT,
    ],
    "chat, English": [
        "Why do cats purr?",
        "Tell me a short story about a lost umbrella.",
        "I cannot sleep at night. What can I do?",
        "Explain how a bicycle stays upright.",
        "Which instrument should I learn first, and why?",
        "Write a birthday message for my aunt.",
    ],
    "chat, Chinese": [
        "请介绍一下你自己。",
        "讲一个关于月亮的小故事。",
        "怎样泡一杯好茶?",
        "北京有哪些值得去的地方?",
        "我晚上睡不着,怎么办?",
        "给我的姑姑写一句生日祝福。",
    ],
}
WAYS = ("off", "ngram")


class Server:
    def __init__(self, program: str, model: str, home: str, way: str):
        command = [program, "--home", home, "--log", "error", "serve", model, "--addr", "127.0.0.1:0"]
        self.process = subprocess.Popen(command + ["--speculation", way], stdout=subprocess.PIPE, text=True)
        self.address = re.search(r"http://\S+", self.process.stdout.readline())[0]
        with urllib.request.urlopen(self.address + "/v1/models") as answer:
            self.model = json.load(answer)["data"][0]["id"]

    def answer(self, prompt: str, temperature: float, tokens: int) -> tuple[str, int, float]:
        """The answer, its tokens, and the seconds from its first piece to its end."""
        body = {
            "model": self.model,
            "messages": [{"role": "user", "content": prompt}],
            "max_tokens": tokens,
            "temperature": temperature,
            "top_p": 0.95,
            "seed": 5,
            "stream": True,
            "stream_options": {"include_usage": True},
        }
        request = urllib.request.Request(
            self.address + "/v1/chat/completions", json.dumps(body).encode(), {"Content-Type": "application/json"}
        )
        text, count, first = "", 0, None
        with urllib.request.urlopen(request, timeout=600) as events:
            for line in events:
                if not line.startswith(b"data: {"):
                    continue
                event = json.loads(line[6:])
                if event.get("usage"):
                    count = event["usage"]["completion_tokens"]
                for choice in event["choices"]:
                    piece = choice["delta"].get("content") or ""
                    if piece and first is None:
                        first = time.perf_counter()
                    text += piece
        return text, count, time.perf_counter() - (first or time.perf_counter())

    def drafts(self) -> dict[str, int]:
        with urllib.request.urlopen(self.address + "/metrics") as answer:
            found = re.findall(r'^zhenjin_draft_tokens_total\{.*end="(\w+)"\} (\d+)', answer.read().decode(), re.M)
        return {end: int(count) for end, count in found}

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait()


def alone(servers: dict[str, Server], prompts: list[str], temperature: float, options) -> list[float]:
    """For each prompt: how many times as fast the answer comes with drafts."""
    ratios = []
    for prompt in prompts:
        seconds = {way: [] for way in WAYS}
        texts = set()
        for _ in range(options.repeat):
            for way in WAYS:
                text, count, spent = servers[way].answer(prompt, temperature, options.tokens)
                texts.add((text, count))
                seconds[way].append(spent)
        assert len(texts) == 1, f"the answers to {prompt!r} differ"
        if count >= 16:
            ratios.append(statistics.median(seconds["off"]) / statistics.median(seconds["ngram"]))
    return ratios


def together(servers: dict[str, Server], sequences: int, options) -> list[float]:
    """For each repeat: how many times as fast so many chats at once are with drafts."""
    every = [prompt for prompts in PROMPTS.values() for prompt in prompts]
    prompts = [every[number % len(every)] for number in range(sequences)]
    ratios = []
    with concurrent.futures.ThreadPoolExecutor(sequences) as pool:
        for _ in range(options.repeat):
            seconds, answers = {}, {}
            for way in WAYS:
                started = time.perf_counter()
                jobs = [pool.submit(servers[way].answer, prompt, 0.7, options.tokens) for prompt in prompts]
                answers[way] = [job.result()[:2] for job in jobs]
                seconds[way] = time.perf_counter() - started
            assert answers["off"] == answers["ngram"], f"answers of {sequences} chats at once differ"
            ratios.append(seconds["off"] / seconds["ngram"])
    return ratios


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("program")
    parser.add_argument("model", type=pathlib.Path)
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--tokens", type=int, default=192, help="longest answer")
    parser.add_argument("--kinds", default=",".join(str(number) for number in range(len(PROMPTS))), help="which prompts")
    parser.add_argument("--sequences", default="4,8,16", help="requests at once, after the single ones")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as home:
        servers = {
            way: Server(options.program, str(options.model), str(pathlib.Path(home, way)), way) for way in WAYS
        }
        try:
            measure(servers, options)
        finally:
            for server in servers.values():
                server.stop()


def measure(servers: dict[str, Server], options) -> None:
    for server in servers.values():
        server.answer("Hello", 0.0, 32)
    print("| requests | temperature | times as fast, min / median / max | drafts right |\n|---|---:|---:|---:|")
    before = servers["ngram"].drafts()

    def row(name: str, temperature: float, ratios: list[float]) -> None:
        nonlocal before
        now = servers["ngram"].drafts()
        right, wrong = (now.get(end, 0) - before.get(end, 0) for end in ("accepted", "rejected"))
        before = now
        share = f"{right} of {right + wrong}"
        low, middle, high = min(ratios), statistics.median(ratios), max(ratios)
        print(f"| {name} | {temperature} | {low:.2f} / {middle:.2f} / {high:.2f} | {share} |", flush=True)

    kinds = list(PROMPTS)
    for number in (int(number) for number in options.kinds.split(",") if number):
        for temperature in (0.0, 0.7):
            name = kinds[number]
            row(f"{name}, 1 at once", temperature, alone(servers, PROMPTS[name], temperature, options))
    for sequences in (int(number) for number in options.sequences.split(",") if number):
        row(f"all kinds, {sequences} at once", 0.7, together(servers, sequences, options))


if __name__ == "__main__":
    main()
