"""A program that is measured: a process that works when it is asked to, and is stopped otherwise."""

import json
import os
import signal
import subprocess
import time
from pathlib import Path


class Program:
    """Its command answers with a line of JSON when it is ready, and then with one for each line of standard input."""

    def __init__(self, name: str, command: list[str], log: Path):
        self.name, self.log = name, log
        started = time.perf_counter()
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=open(log, "w"), text=True, process_group=0
        )
        self.first = self.read()
        # From the start of the process to its first answer.
        self.ready_seconds = time.perf_counter() - started
        self.signal(signal.SIGSTOP)

    def read(self) -> dict:
        line = self.process.stdout.readline()
        if not line:
            code = self.process.wait()
            raise RuntimeError(f"{self.name} ended with {code}; see {self.log}")
        return json.loads(line)

    def ask(self, request: str) -> dict:
        self.signal(signal.SIGCONT)
        self.process.stdin.write(f"{request}\n")
        self.process.stdin.flush()
        answer = self.read()
        self.signal(signal.SIGSTOP)
        return answer

    def signal(self, number: int) -> None:
        os.killpg(self.process.pid, number)

    def close(self) -> None:
        self.signal(signal.SIGCONT)
        self.process.stdin.close()
        self.process.wait()
