"""One running server for all tests: the program at ZHENJIN_BIN with the model ZHENJIN_TEST_MODEL, on a free port, with a store of its own."""

import os
import re
import signal
import subprocess
import tempfile
import time
from pathlib import Path

import pytest
from openai import OpenAI


class Server:
    """A running program and where it listens."""

    def __init__(self, *options: str):
        self.home = tempfile.TemporaryDirectory(prefix="zhenjin-clients-")
        model = os.environ["ZHENJIN_TEST_MODEL"]
        home = self.home.name
        # A home of its own: made-up requests may delete whatever models it holds.
        self.log = open(Path(home) / "log.txt", "w+", encoding="utf-8")
        command = [os.environ["ZHENJIN_BIN"], "serve", model, "--home", home, "--addr", "127.0.0.1:0", *options]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=self.log, text=True)
        self.url = self._wait()

    def _wait(self) -> str:
        for line in self.process.stdout:
            if found := re.search(r"listening on (http://\S+)", line):
                return found.group(1)
        self.log.seek(0)
        raise RuntimeError(f"the server did not start:\n{self.log.read()}")

    def stop(self) -> int:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(timeout=60)
        self.log.close()
        self.home.cleanup()
        return code

    def metric(self, name: str) -> float:
        """The sum of a metric over its labels."""
        import urllib.request

        with urllib.request.urlopen(f"{self.url}/metrics") as response:
            lines = response.read().decode().splitlines()
        return sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.split("{")[0].split(" ")[0] == name)

    def wait_for(self, condition, seconds: float = 30) -> None:
        end = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < end, "it did not happen in time"
            time.sleep(0.05)


@pytest.fixture(scope="session")
def server():
    running = Server("--context", "1024", "--queue", "16")
    yield running
    assert running.stop() == 0, "the server must end cleanly"


@pytest.fixture(scope="session")
def client(server):
    return OpenAI(base_url=f"{server.url}/v1", api_key="not-needed", max_retries=0, timeout=240)


@pytest.fixture(scope="session")
def model(client):
    return client.models.list().data[0].id
