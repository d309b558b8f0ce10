"""The two servers: how each is started, and what it is told so that it is at its best."""

import os
import signal
import socket
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import leftovers

SEATS = 16
# Chats that llama-server follows: with more its KV cache, one part of the context for each, takes gigabytes.
FOLLOWED_SEATS = 64
# Room for one chat, as `zhenjin serve` plans it; and for all of them in the test with a long prompt.
SEAT_TOKENS = 1024
LONG_TOKENS = 4096 + SEATS * 1024


@dataclass(frozen=True)
class Setup:
    """`is_long`: one conversation may be far longer than the others. `seats`: chats that are worked on at once; `None`: the default."""

    model: str
    threads: int
    is_long: bool
    seats: int | None = None


class Server:
    """A running server, stopped whenever it is not measured."""

    name = ""

    def __init__(self, program: str, setup: Setup, extra: list[str]):
        self.home = tempfile.TemporaryDirectory(prefix="zhenjin-bench-")
        self.port = free_port()
        self.log = open(Path(self.home.name) / "log.txt", "w+")
        command = [program, *self.options(setup), *extra]
        self.command = " ".join([self.name, *self.options(setup), *extra]).replace(setup.model, "MODEL")
        self.process = subprocess.Popen(command, stdout=self.log, stderr=self.log, start_new_session=True)
        leftovers.watch(self.process.pid)

    def wait(self, seconds: float = 120) -> None:
        """Until it answers that it is ready."""
        end = time.monotonic() + seconds
        while not self.is_ready():
            if self.process.poll() is not None or time.monotonic() > end:
                self.log.seek(0)
                raise RuntimeError(f"{self.name} does not start: {self.log.read()[-500:]}")
            time.sleep(0.005)

    def is_ready(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self.port), 1) as connection:
                connection.sendall(f"GET {self.ready} HTTP/1.0\r\nHost: 127.0.0.1:{self.port}\r\n\r\n".encode())
                return b" 200 " in connection.recv(64)
        except OSError:
            return False

    def follows(self, chats: int) -> bool:
        """Whether so many chats at once are asked of it."""
        return True

    def pause(self) -> None:
        os.killpg(self.process.pid, signal.SIGSTOP)

    def go_on(self) -> None:
        os.killpg(self.process.pid, signal.SIGCONT)

    def stop(self) -> None:
        if self.process.poll() is None:
            self.go_on()
            self.process.terminate()
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                os.killpg(self.process.pid, signal.SIGKILL)
                self.process.wait()
        leftovers.forget(self.process.pid)
        self.log.close()
        self.home.cleanup()


class ZhenjinServer(Server):
    name, ready = "zhenjin", "/healthz"

    def options(self, setup: Setup) -> list[str]:
        address = f"127.0.0.1:{self.port}"
        seats = ["--max-batch", str(setup.seats)] if setup.seats else []
        return ["serve", setup.model, "--home", self.home.name, "--addr", address, "--threads", str(setup.threads), *seats]


class LlamaServer(Server):
    name, ready = "llama-server", "/health"

    def follows(self, chats: int) -> bool:
        return chats <= FOLLOWED_SEATS

    def options(self, setup: Setup) -> list[str]:
        threads = str(setup.threads)
        # Separate streams are faster, but cut the context into equal parts.
        seats = min(setup.seats or SEATS, FOLLOWED_SEATS)
        context = ["-c", str(LONG_TOKENS), "--kv-unified"] if setup.is_long else ["-c", str(seats * SEAT_TOKENS)]
        return [
            *("-m", setup.model, "--host", "127.0.0.1", "--port", str(self.port), "-np", str(seats), *context),
            *("-t", threads, "-tb", threads, "-fa", "on", "--cont-batching", "--no-cache-prompt", "--cache-ram", "0"),
            *("--no-ui", "-fit", "off"),
        ]


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]
