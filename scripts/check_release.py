#!/usr/bin/env python3
"""Runs a released program where there is nothing else, and says how large it is and how fast it is there.

    scripts/check_release.py target/dist/zhenjin-….tar.gz [--rounds N] [--with "qemu-aarch64 -cpu max"]

An empty folder gets the program and `/proc`, and becomes its whole file system (`chroot`, which needs root). There it has to serve the carried poet: the page, and
an answer. With `--with`, which names what runs programs of another processor, it runs beside the other files, with an empty environment.
Prints, in each round, seconds from the start to `listening on` and from there to the end of the first answer. Exits with 1 where something is missing.
"""

import argparse
import http.client
import json
import shlex
import socket
import subprocess
import sys
import tarfile
import tempfile
import time
from pathlib import Path

ASKED = {"model": "poet", "messages": [{"role": "user", "content": "春夜"}], "seed": 1, "max_tokens": 32}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def request(port: int, method: str, path: str, body: dict | None = None) -> str:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
    headers = {"Content-Type": "application/json"} if body else {}
    connection.request(method, path, json.dumps(body) if body else None, headers)
    answer = connection.getresponse()
    text = answer.read().decode()
    if answer.status != 200:
        sys.exit(f"check_release: {method} {path}: {answer.status} {text}")
    return text


def run_once(root: Path, runner: list[str]) -> tuple[float, float, str]:
    """Seconds to `listening on`, seconds from there to the first answer, and the answer."""
    port = free_port()
    arguments = ["serve", "poet", "--addr", f"127.0.0.1:{port}", "--memory", "512MiB"]
    if runner:
        command = [*runner, str(root / "zhenjin"), *arguments, "--home", str(root / "home")]
    else:
        mounted = f"mount -t proc proc {shlex.quote(str(root / 'proc'))} && exec chroot {shlex.quote(str(root))} /zhenjin \"$@\""
        command = ["unshare", "--mount", "sh", "-c", mounted, "sh", *arguments, "--home", "/home"]
    begun = time.monotonic()
    path = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}
    with subprocess.Popen(command, env=path, stdout=subprocess.PIPE, text=True) as server:
        try:
            for line in server.stdout:
                if line.startswith("listening on"):
                    break
            else:
                sys.exit(f"check_release: the program ended with {server.wait()} before it listened")
            listening = time.monotonic()
            message = json.loads(request(port, "POST", "/v1/chat/completions", ASKED))["choices"][0]["message"]
            answered = time.monotonic()
            if "<script" not in request(port, "GET", "/") or not message["content"].strip():
                sys.exit("check_release: there is no page, or no answer")
            return listening - begun, answered - listening, message["content"]
        finally:
            server.terminate()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("archive", type=Path)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--with", dest="runner", default="", type=shlex.split)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, tarfile.open(arguments.archive) as archive:
        members = {Path(member.name).name: member for member in archive if member.isfile()}
        for name in ("zhenjin", "LICENSE", "THIRD-PARTY-LICENCES.txt"):
            if name not in members:
                sys.exit(f"check_release: the archive has no {name}")
        root = Path(folder)
        program = root / "zhenjin"
        program.write_bytes(archive.extractfile(members["zhenjin"]).read())
        program.chmod(0o755)
        (root / "proc").mkdir()
        print(f"{arguments.archive.name}: {arguments.archive.stat().st_size:,} bytes, the program {program.stat().st_size:,}")
        answers = set()
        for number in range(1, arguments.rounds + 1):
            listening, answering, answer = run_once(root, arguments.runner)
            answers.add(answer)
            print(f"round {number}: listening after {listening:.3f} s, the first answer {answering:.3f} s later")
        if len(answers) != 1:
            sys.exit(f"check_release: different answers to the same request: {answers}")
        print(f"answer: {answer}")


if __name__ == "__main__":
    main()
