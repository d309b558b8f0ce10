"""What the measurements ran on."""

import ctypes
import mmap
import os
import platform
import re
from pathlib import Path

INSTRUCTIONS = ["avx2", "avx512f", "avx512_vnni", "avx_vnni", "avx512_bf16", "amx_int8"]


def describe() -> dict:
    cpu = Path("/proc/cpuinfo").read_text()
    name = re.search(r"^model name\s*: (.*)$", cpu, re.MULTILINE)
    flags = re.search(r"^flags\s*: (.*)$", cpu, re.MULTILINE)
    present = set(flags[1].split()) if flags else set()
    memory = re.search(r"MemTotal:\s*(\d+)", Path("/proc/meminfo").read_text())
    return {
        "cpu": name[1] if name else platform.machine(),
        "cores": os.cpu_count(),
        "instructions": [flag for flag in INSTRUCTIONS if flag in present],
        "memory_bytes": int(memory[1]) * 1024 if memory else None,
        "system": f"{platform.system()} {platform.release()}",
    }


def evict(path: str) -> float:
    """Drops a file from the page cache; the share of it that stayed (because some process still maps it)."""
    with open(path, "rb") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    return resident(path)


def settle(path: str) -> None:
    """Reads the file from the disk once: a virtual machine's host may cache it from then on, so the first one to read it would pay for all."""
    evict(path)
    warm(path)


def warm(path: str) -> None:
    with open(path, "rb") as file:
        while file.read(1 << 24):
            pass


def resident(path: str) -> float:
    with open(path, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        # A private mapping may be written to, which is what ctypes asks for; nothing is written.
        mapping = mmap.mmap(file.fileno(), size, mmap.MAP_PRIVATE, mmap.PROT_READ | mmap.PROT_WRITE)
    pages = -(-size // mmap.PAGESIZE)
    present = (ctypes.c_ubyte * pages)()
    view = ctypes.c_char.from_buffer(mapping)
    failed = ctypes.CDLL(None, use_errno=True).mincore(
        ctypes.c_void_p(ctypes.addressof(view)), ctypes.c_size_t(size), present
    )
    del view
    mapping.close()
    return 0.0 if failed else sum(page & 1 for page in present) / pages
