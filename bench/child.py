"""A program under measurement, as a child process that is stopped whenever it is not asked something."""

import json
import os
import re
import signal
import subprocess
from pathlib import Path

import leftovers

HERE = Path(__file__).parent


class Gone(Exception):
    """The child ended without an answer."""


class Child:
    def __init__(self, name: str, python: str, log: Path):
        self.name, self.log = name, log
        self.process = subprocess.Popen(
            [python, "-m", f"peers.{name}"],
            cwd=HERE,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=open(log, "a"),
            text=True,
            # A group to be stopped as a whole, in the same session as the others: see load.py.
            process_group=0,
        )
        leftovers.watch(self.process.pid)

    def ask(self, request: dict) -> dict:
        self.signal(signal.SIGCONT)
        try:
            self.process.stdin.write(json.dumps(request) + "\n")
            self.process.stdin.flush()
            line = self.process.stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            code = self.process.wait()
            raise Gone(f"ended by {signal.Signals(-code).name if code < 0 else code}{self.last_words()}")
        self.signal(signal.SIGSTOP)
        return json.loads(line)

    def last_words(self) -> str:
        lines = self.log.read_text(errors="replace").splitlines()
        telling = [line for line in lines if "ASSERT" in line or "Error" in line]
        return f": {re.sub(r'/[^ ]*/', '', telling[-1]).strip()[:160]}" if telling else ""

    def signal(self, number: int) -> None:
        if self.process.poll() is None:
            os.killpg(self.process.pid, number)

    def close(self) -> None:
        self.signal(signal.SIGCONT)
        self.process.stdin.close()
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.signal(signal.SIGKILL)
            self.process.wait()
        leftovers.forget(self.process.pid)
        self.process.stdout.close()
