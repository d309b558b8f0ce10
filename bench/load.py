"""Other work on the machine, while a program is measured: processes that compute without end, and a compiler.

Knows no program that is measured. The processes are in the driver's session, as the measured ones are: some systems share
processor time out by session first.
"""

import signal
import subprocess
import sys
from dataclasses import dataclass

import leftovers

SPIN = "while True: pass"
# One short process after the other, each some tenths of a second of parsing and allocating: what `make` does.
COMPILE = """
import random, subprocess, sys
lengths = random.Random(int(sys.argv[1]))
source = "def f(a, b):\\n    return [a * i + b for i in range(9)] + [str(a)]\\n" * 100
work = "source = %r\\nfor _ in range(%d): compile(source, 'f', 'exec')"
while True:
    subprocess.run([sys.executable, "-S", "-c", work % (source, lengths.randrange(5, 60))])
"""


@dataclass(frozen=True)
class Load:
    """Processes that want a processor all the time: `spinning` of one kind, `compiling` of the other."""

    spinning: int
    compiling: int = 0

    def label(self) -> str:
        parts = [f"{self.spinning} spinning"] if self.spinning else []
        parts += [f"{self.compiling} compiling"] if self.compiling else []
        return ", ".join(parts) or "idle machine"

    def fair_share(self, threads: int, cores: int) -> float:
        """The share of an idle machine's speed that a fair scheduler leaves to as many threads."""
        alone = min(threads, cores)
        return threads * min(1, cores / (threads + self.spinning + self.compiling)) / alone


LOADS = [Load(0), Load(2), Load(4), Load(6), Load(2, 2)]


class Running:
    """A load, from entering to leaving the context."""

    def __init__(self, load: Load):
        self.load = load

    def __enter__(self):
        commands = [["-S", "-c", SPIN]] * self.load.spinning
        commands += [["-S", "-c", COMPILE, str(index)] for index in range(self.load.compiling)]
        self.processes = [subprocess.Popen([sys.executable, *command], process_group=0) for command in commands]
        for process in self.processes:
            leftovers.watch(process.pid)
        return self

    def __exit__(self, *_):
        for process in self.processes:
            leftovers.end(process.pid, signal.SIGKILL)
            process.wait()
