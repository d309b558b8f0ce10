#!/usr/bin/env python3
"""Measures what guessing tokens gives, by prompt lookup and by a draft model: `zhenjin serve --speculation ngram`, and the same with
`--draft SMALL`, beside `--speculation off`.

    python3 scripts/bench_speculation.py target/release/zhenjin MODEL.gguf [--draft SMALL] [--repeat 5] [--tokens 192] [--sequences 8,16]

All servers run at once and answer in turn, so that other work on the machine hits all. Every answer is compared: they
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


class Server:
    def __init__(self, program: str, model: str, home: str, way: list[str]):
        command = [program, "--home", home, "--log", "error", "serve", model, "--addr", "127.0.0.1:0"]
        self.process = subprocess.Popen(command + way, stdout=subprocess.PIPE, text=True)
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

    def drafts(self) -> dict[tuple[str, str], int]:
        """Tokens drafted by whom, with which end."""
        pattern = r'^zhenjin_draft_tokens_total\{.*by="(\w+)",end="(\w+)"\} (\d+)'
        with urllib.request.urlopen(self.address + "/metrics") as answer:
            found = re.findall(pattern, answer.read().decode(), re.M)
        return {(by, end): int(count) for by, end, count in found}

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait()


def alone(servers: dict[str, Server], prompts: list[str], temperature: float, options) -> dict[str, list[float]]:
    """For each way but the first, and each prompt: how many times as fast the answer comes as in the first way."""
    first, *others = servers
    ratios = {way: [] for way in others}
    for prompt in prompts:
        seconds = {way: [] for way in servers}
        texts = set()
        for _ in range(options.repeat):
            for way, server in servers.items():
                text, count, spent = server.answer(prompt, temperature, options.tokens)
                texts.add((text, count))
                seconds[way].append(spent)
        assert len(texts) == 1, f"the answers to {prompt!r} differ"
        if count >= 16:
            for way in others:
                ratios[way].append(statistics.median(seconds[first]) / statistics.median(seconds[way]))
    return ratios


def together(servers: dict[str, Server], sequences: int, options) -> dict[str, list[float]]:
    """For each way but the first, and each repeat: how many times as fast so many chats at once are."""
    first, *others = servers
    every = [prompt for prompts in PROMPTS.values() for prompt in prompts]
    prompts = [every[number % len(every)] for number in range(sequences)]
    ratios = {way: [] for way in others}
    with concurrent.futures.ThreadPoolExecutor(sequences) as pool:
        for _ in range(options.repeat):
            seconds, answers = {}, {}
            for way, server in servers.items():
                started = time.perf_counter()
                jobs = [pool.submit(server.answer, prompt, 0.7, options.tokens) for prompt in prompts]
                answers[way] = [job.result()[:2] for job in jobs]
                seconds[way] = time.perf_counter() - started
            for way in others:
                assert answers[first] == answers[way], f"answers of {sequences} chats at once differ"
                ratios[way].append(seconds[first] / seconds[way])
    return ratios


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("program")
    parser.add_argument("model", type=pathlib.Path)
    parser.add_argument("--draft", type=pathlib.Path, help="a small model that guesses")
    parser.add_argument("--prompts", type=int, default=6, help="so many of each kind")
    parser.add_argument("--temperatures", default="0,0.7", help="of single requests")
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--tokens", type=int, default=192, help="longest answer")
    parser.add_argument("--kinds", default=",".join(str(number) for number in range(len(PROMPTS))), help="which prompts")
    parser.add_argument("--sequences", default="4,8,16", help="requests at once, after the single ones")
    options = parser.parse_args()
    ways = {"off": ["--speculation", "off"], "lookup": ["--speculation", "ngram"]}
    if options.draft:
        ways["lookup and draft model"] = ["--draft", str(options.draft)]
    with tempfile.TemporaryDirectory() as home:
        servers = {
            way: Server(options.program, str(options.model), str(pathlib.Path(home, str(number))), arguments)
            for number, (way, arguments) in enumerate(ways.items())
        }
        try:
            measure(servers, options)
        finally:
            for server in servers.values():
                server.stop()


def measure(servers: dict[str, Server], options) -> None:
    for server in servers.values():
        server.answer("Hello", 0.0, 32)
    print(
        "| requests | temperature | drafts | times as fast, min / median / max | lookups right | guesses right |\n"
        "|---|---:|---|---:|---:|---:|"
    )
    before = {way: server.drafts() for way, server in servers.items()}

    def row(name: str, temperature: float, ratios: dict[str, list[float]]) -> None:
        for way, found in ratios.items():
            now = servers[way].drafts()
            shares = []
            for by in ("lookup", "model"):
                right, wrong = (
                    now.get((by, end), 0) - before[way].get((by, end), 0) for end in ("accepted", "rejected")
                )
                shares.append(f"{right} of {right + wrong}")
            before[way] = now
            low, middle, high = min(found), statistics.median(found), max(found)
            speed = f"{low:.2f} / {middle:.2f} / {high:.2f}"
            print(f"| {name} | {temperature} | {way} | {speed} | {' | '.join(shares)} |", flush=True)

    kinds = list(PROMPTS)
    temperatures = [float(temperature) for temperature in options.temperatures.split(",") if temperature]
    for number in (int(number) for number in options.kinds.split(",") if number):
        for temperature in temperatures:
            name = kinds[number]
            ratios = alone(servers, PROMPTS[name][: options.prompts], temperature, options)
            row(f"{name}, 1 at once", temperature, ratios)
    for sequences in (int(number) for number in options.sequences.split(",") if number):
        row(f"all kinds, {sequences} at once", 0.7, together(servers, sequences, options))


if __name__ == "__main__":
    main()
