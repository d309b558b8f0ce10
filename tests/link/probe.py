#!/usr/bin/env python3
"""Measures a link with one TCP connection: `probe.py serve ADDRESS` on one side, `probe.py ADDRESS` on the other. Prints the round trip and the speed."""

import socket
import sys
import time

PORT, MEGABYTES = 7707, 25


def serve(address):
    with socket.create_server((address, PORT)) as server:
        connection, _ = server.accept()
        with connection:
            while word := connection.recv(1):
                left = MEGABYTES * 1_000_000 if word == b"s" else 0
                while left > 0:
                    left -= len(connection.recv(1 << 20))
                connection.sendall(word)


def measure(address):
    with socket.create_connection((address, PORT)) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        trips, speeds = [], []
        for _ in range(5):
            begun = time.monotonic()
            connection.sendall(b"p")
            connection.recv(1)
            trips.append(time.monotonic() - begun)
        for _ in range(4):
            begun = time.monotonic()
            connection.sendall(b"s" + bytes(MEGABYTES * 1_000_000))
            connection.recv(1)
            speeds.append(MEGABYTES / (time.monotonic() - begun - min(trips)))
    # The first transfers find the connection's window still small.
    print(f"{1000 * min(trips):.1f} ms there and back, {speeds[-1]:.0f} MB/s")


if __name__ == "__main__":
    serve(sys.argv[2]) if sys.argv[1] == "serve" else measure(sys.argv[1])
