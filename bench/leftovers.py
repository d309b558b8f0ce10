"""Ends child processes whatever way the driver ends: a stopped process would not notice that its driver is gone."""

import atexit
import os
import signal
import sys

_groups: set[int] = set()


def watch(group: int) -> None:
    """`group` leads a process group of its own."""
    if not _groups:
        atexit.register(end_all)
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    _groups.add(group)


def forget(group: int) -> None:
    _groups.discard(group)


def end(group: int, number: int = signal.SIGKILL) -> None:
    forget(group)
    try:
        os.killpg(group, number)
    except ProcessLookupError:
        pass


def end_all() -> None:
    for group in list(_groups):
        end(group)
