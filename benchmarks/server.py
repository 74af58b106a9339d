#!/usr/bin/env python3
"""The page's server under load: how fast it answers beside slow clients, and how much it delivers.

    python benchmarks/server.py [--seconds 5]

First the page alone is requested, one request after the other, while slow clients hold connections
on which a byte arrives every second; they reopen what the server closes. Then 1, 4 and 16 clients
download a file of 1 MB at once, again and again. Everything stays on 127.0.0.1.
"""

from __future__ import annotations

import argparse
import http.client
import multiprocessing
import resource
import socket
import statistics
import threading
import time
from multiprocessing.connection import Connection
from pathlib import Path

from gancompress.demo import DemoServer

CONTENTS = {"index.html": bytes(20_000), "models/a.onnx": bytes(1 << 20)}


def serve(pipe: Connection) -> None:
    """Run in a process of its own; say the port."""
    with DemoServer(CONTENTS, "127.0.0.1", 0) as server:
        pipe.send(server.server_port)
        server.serve_forever()


def ask(port: int, target: str) -> float:
    """Seconds until the whole answer is there, over a new connection."""
    start = time.perf_counter()
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    connection.request("GET", target)
    with connection.getresponse() as response:
        if response.status != 200 or not response.read():
            raise RuntimeError(f"{target}: {response.status}")
    connection.close()
    return time.perf_counter() - start


def drip(port: int, count: int, stop: threading.Event) -> None:
    """Hold so many connections that get a byte a second each; reopen what the server closes."""
    held: list[socket.socket] = []
    while not stop.is_set():
        while len(held) < count:
            held.append(socket.create_connection(("127.0.0.1", port)))
        for connection in list(held):
            try:
                connection.send(b"G")
            except OSError:
                held.remove(connection)
        stop.wait(1)
    for connection in held:
        connection.close()


def beside(port: int, process: int, slow: int, seconds: float) -> str:
    """One row: milliseconds of the page's answers while slow clients are there."""
    stop = threading.Event()
    crowd = [threading.Thread(target=drip, args=(port, 20, stop)) for _ in range(slow // 20)]
    for thread in crowd:
        thread.start()
    time.sleep(2 if crowd else 0)  # all of them are there when the clock starts
    times, end = [], time.perf_counter() + seconds
    while time.perf_counter() < end:
        times.append(1000 * ask(port, "/"))
        time.sleep(0.01)
    threads = len(list(Path(f"/proc/{process}/task").iterdir()))
    stop.set()
    for thread in crowd:
        thread.join()
    times.sort()
    middle, late = statistics.median(times), times[int(0.99 * len(times))]
    return f"| {slow} | {middle:.1f} | {late:.1f} | {times[-1]:.1f} | {threads} |"


def goodput(port: int, clients: int, seconds: float) -> str:
    """One row: whole files a second and the longest wait, with so many clients at once."""
    times: list[float] = []
    end = time.perf_counter() + seconds

    def client() -> None:
        while time.perf_counter() < end:
            times.append(ask(port, "/models/a.onnx"))

    threads = [threading.Thread(target=client) for _ in range(clients)]
    start = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    rate = len(times) / (time.perf_counter() - start)
    middle = 1000 * statistics.median(times)
    return f"| {clients} | {rate:.0f} | {middle:.1f} | {1000 * max(times):.1f} |"


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=5)
    args = parser.parse_args()
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
    ours, theirs = multiprocessing.Pipe()
    server = multiprocessing.get_context("spawn").Process(target=serve, args=(theirs,), daemon=True)
    server.start()
    port = ours.recv()
    print("| slow clients | median ms | 99 % | longest | threads |\n|---|---|---|---|---|")
    for slow in (0, 200, 1_100):
        print(beside(port, server.pid or 0, slow, args.seconds), flush=True)
    print("\n| clients | files of 1 MB a second | median ms | longest ms |\n|---|---|---|---|")
    for clients in (1, 4, 16):
        print(goodput(port, clients, args.seconds), flush=True)
    server.terminate()


if __name__ == "__main__":
    main()
