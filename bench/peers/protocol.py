"""How the driver talks to a program: one JSON object a line, over standard input and output of a child process.

    {"do": "describe"}                                        -> {"version", "settings"}
    {"do": "load", "model", "vocabulary", "threads", "tests"} -> {"seconds"} or {"refused"}
    {"do": "run", "test"}                                     -> {"seconds"} or {"refused"}
    {"do": "repeat", "test", "seconds"}                       -> {"seconds": [of each run]} or {"refused"}
    {"do": "memory"}                                          -> {"peak_bytes", "before_load_bytes"}

Each program is a class with the methods `describe`, `load`, `run`, and possibly `peak_bytes` and `repeat`.
"""

import json
import os
import re
import sys
import traceback

from workload import Test


def peak_memory(pid: str = "self") -> int:
    with open(f"/proc/{pid}/status") as status:
        line = next(line for line in status if line.startswith("VmHWM:"))
    return int(line.split()[1]) * 1024


def serve(peer) -> None:
    # Libraries print to standard output; what they say must not get between the answers.
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    before_load = peak_memory()
    for line in sys.stdin:
        request = json.loads(line)
        try:
            answer = handle(peer, request, before_load)
        except Exception as error:
            traceback.print_exc()
            # Paths of the machine that built a library say nothing.
            reason = re.sub(r"/\S*/", "", " ".join(str(error).split())) or type(error).__name__
            answer = {"refused": reason[:300]}
        answers.write(json.dumps(answer) + "\n")


def repeat(peer, test: Test, least: float) -> list[float]:
    """How long each of as many runs took as come to `least` seconds, after one that is not measured."""
    own = getattr(peer, "repeat", None)
    if own:
        return own(test, least)
    peer.run(test)
    taken = []
    while sum(taken) < least:
        taken.append(peer.run(test))
    return taken


def handle(peer, request: dict, before_load: int) -> dict:
    match request["do"]:
        case "describe":
            return peer.describe()
        case "load":
            tests = [Test(**test) for test in request["tests"]]
            return {"seconds": peer.load(request["model"], request["vocabulary"], request["threads"], tests)}
        case "run":
            return {"seconds": peer.run(Test(**request["test"]))}
        case "repeat":
            return {"seconds": repeat(peer, Test(**request["test"]), request["seconds"])}
        case "memory":
            own = getattr(peer, "peak_bytes", None)
            return {"peak_bytes": own() if own else peak_memory(), "before_load_bytes": 0 if own else before_load}
    raise ValueError(f"unknown request {request['do']!r}")
