#!/usr/bin/env python3
"""A shaped link between two network namespaces: relay.py NAMESPACE1 NAMESPACE2 BYTES-PER-SECOND LATENCY-SECONDS

Kernels without `sch_netem` cannot delay packets, so this process does it: it owns a TUN device in each namespace (10.77.0.1 and 10.77.0.2), reads packets
from one and writes them to the other when a link of that speed and latency would have delivered them. Both directions have the full speed. It prints
`ready` when the link is up, and ends with the namespaces or by a signal. Needs root.
"""

import collections
import fcntl
import os
import select
import struct
import subprocess
import sys
import time

TUNSETIFF = 0x400454CA
IFF_TUN, IFF_NO_PI = 0x0001, 0x1000
# Large packets: what is measured is the link, not the cost of relaying in Python.
MTU = 65000
# What a router would hold before it drops packets.
QUEUE_BYTES = 64 << 20


def open_device(name, namespace, address):
    device = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(device, TUNSETIFF, struct.pack("16sH", name.encode(), IFF_TUN | IFF_NO_PI))
    run = lambda *words: subprocess.run(["ip", *words], check=True)
    run("link", "set", name, "netns", namespace)
    run("-n", namespace, "address", "add", f"{address}/24", "dev", name)
    run("-n", namespace, "link", "set", "lo", "up")
    run("-n", namespace, "link", "set", name, "mtu", str(MTU), "txqueuelen", "1000", "up")
    return device


class Direction:
    """Packets from one device to the other."""

    def __init__(self, source, target, speed, latency):
        self.source, self.target, self.speed, self.latency = source, target, speed, latency
        self.waiting = collections.deque()
        self.bytes, self.free_at, self.dropped = 0, 0.0, 0

    def take(self):
        """Takes all packets that are there."""
        while True:
            try:
                packet = os.read(self.source, MTU + 100)
            except BlockingIOError:
                return
            if self.bytes + len(packet) > QUEUE_BYTES:
                self.dropped += 1
                continue
            self.free_at = max(time.monotonic(), self.free_at) + len(packet) / self.speed
            self.waiting.append((self.free_at + self.latency, packet))
            self.bytes += len(packet)

    def deliver(self):
        """Delivers what is due; seconds until the next is."""
        while self.waiting:
            left = self.waiting[0][0] - time.monotonic()
            if left > 0:
                return left
            _, packet = self.waiting.popleft()
            self.bytes -= len(packet)
            try:
                os.write(self.target, packet)
            except OSError:
                # The other end takes no packets any more, or its queue is full: TCP sends it again.
                self.dropped += 1
        return 1.0


def main():
    first, second, speed, latency = sys.argv[1], sys.argv[2], float(sys.argv[3]), float(sys.argv[4])
    devices = [
        open_device(f"zjl{os.getpid() % 10000}a", first, "10.77.0.1"),
        open_device(f"zjl{os.getpid() % 10000}b", second, "10.77.0.2"),
    ]
    directions = [Direction(a, b, speed, latency) for a, b in (devices, devices[::-1])]
    print("ready", flush=True)
    while True:
        wait = min(direction.deliver() for direction in directions)
        select.select(devices, [], [], wait)
        for direction in directions:
            direction.take()


if __name__ == "__main__":
    main()
