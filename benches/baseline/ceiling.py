"""Measures the most transactions per second that an ML API can score, with nothing else to do.

    python ceiling.py [URL] [--seconds 10] [--connections 5] [--transactions 100] [--server-pid PID]

Each connection is a process with an open raw socket: it sends ready-made requests, reads each response to
its last byte, and sends the next, so the API always has requests waiting. Nothing is encoded or decoded while the
clock runs, except the first response of each connection, to check that it has a prediction for every transaction.

Prints one line of JSON: `rows_per_second`; `requests`, answered in the time; `client_cores`, processor time
of all clients per second; and, if --server-pid is the API's process (on Linux), `server_cores`, the
same for the API. The figure is the API's own ceiling if `client_cores` is far below the cores that the API leaves
free. A single-process API then has `server_cores` near 1; less means that other programs use the machine.
"""

import argparse
import json
import multiprocessing
import os
import random
import socket
import sys
import time
import uuid
from datetime import UTC, datetime, timedelta
from multiprocessing.synchronize import Barrier
from pathlib import Path
from threading import BrokenBarrierError
from urllib.parse import SplitResult, urlsplit

BODIES = 50
WARM_UP_SECONDS = 1.0
TIMEOUT_SECONDS = 30
READY_SECONDS = 60


def transaction(random_numbers: random.Random) -> dict:
    """Returns a transaction as the predictor sends it."""
    happened = datetime(2023, 1, 1, tzinfo=UTC) + timedelta(seconds=random_numbers.randrange(94_608_000))
    merchant = random_numbers.choice(["Booking.com", "Carrefour", "Crédit Agricole", "Décathlon", "Uber", None])
    return {
        "id": str(uuid.UUID(int=random_numbers.getrandbits(128), version=4)),
        "description": f"Purchase at {merchant}" if merchant else "Outgoing transfer",
        "amount": random_numbers.randrange(-100_000, 100_000) / 100,
        "timestamp": happened.isoformat().replace("+00:00", "Z"),
        "merchant": merchant,
        "operation_type": random_numbers.choice(["payment", "card_payment", "transfer", "withdrawal"]),
        "side": random_numbers.choice(["debit", "credit"]),
    }


def ready_requests(url: SplitResult, transactions: int, seed: int) -> list[bytes]:
    """Returns whole requests, head and body."""
    random_numbers = random.Random(seed)
    requests = []
    for _ in range(BODIES):
        rows = [transaction(random_numbers) for _ in range(transactions)]
        body = json.dumps(rows, ensure_ascii=False, separators=(",", ":")).encode()
        head = (
            f"POST {url.path.rstrip('/')}/predict HTTP/1.1\r\nHost: {url.netloc}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        requests.append(head.encode() + body)
    return requests


class Connection:
    """A persistent connection with one request at a time."""

    def __init__(self, url: SplitResult) -> None:
        self._socket = socket.create_connection((url.hostname, url.port or 80), timeout=TIMEOUT_SECONDS)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def ask(self, request: bytes) -> bytes:
        """Returns the body of the response."""
        self._socket.sendall(request)
        answer = b""
        while (end := answer.find(b"\r\n\r\n")) < 0:
            answer += self._receive()
        head = answer[:end].lower()
        if not head.startswith(b"http/1.1 200 "):
            sys.exit(f"the ML API answers: {answer[:500].decode(errors='replace')}")
        _, name, length = head.partition(b"\r\ncontent-length:")
        if not name:
            sys.exit("the ML API sends no Content-Length: this client reads no chunked answers")
        rest = end + 4 + int(length.split(b"\r\n")[0]) - len(answer)
        parts = [answer[end + 4 :]]
        while rest > 0:
            parts.append(self._receive())
            rest -= len(parts[-1])
        return b"".join(parts)

    def _receive(self) -> bytes:
        received = self._socket.recv(1 << 18)
        if not received:
            sys.exit("the ML API closed the connection")
        return received


def client(
    url: SplitResult,
    transactions: int,
    seed: int,
    seconds: float,
    ready: Barrier,
    results: multiprocessing.SimpleQueue,
) -> None:
    """Sends requests on one connection, and reports the number of responses and the processor time."""
    try:
        requests = ready_requests(url, transactions, seed)
        connection = Connection(url)
        predictions = json.loads(connection.ask(requests[0]))
        if len(predictions) != transactions:
            sys.exit(f"the ML API answers {transactions} transactions with {len(predictions)} predictions")
    except OSError as error:
        ready.abort()
        sys.exit(f"cannot ask the ML API at {url.netloc}: {error}")
    except BaseException:
        ready.abort()
        raise
    try:
        ready.wait()
    except BrokenBarrierError:
        sys.exit(1)  # Another client has reported the cause.

    def ask_until(end: float) -> int:
        answered = 0
        while time.monotonic() < end:
            connection.ask(requests[answered % BODIES])
            answered += 1
        return answered

    began = time.monotonic() + WARM_UP_SECONDS
    ask_until(began)
    processor_began = time.process_time()
    answered = ask_until(began + seconds)
    results.put((answered, time.monotonic() - began, time.process_time() - processor_began))


def processor_seconds(pid: int) -> float:
    """Returns the processor time of a process since its start, all threads together."""
    # The program's name in parentheses may contain anything.
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("url", nargs="?", default="http://127.0.0.1:8000")
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--connections", type=int, default=5)
    parser.add_argument("--transactions", type=int, default=100, help="transactions per request")
    parser.add_argument("--server-pid", type=int, help="process id of the API, to report its processor time")
    arguments = parser.parse_args()
    url = urlsplit(arguments.url)

    # The clients and this process.
    ready = multiprocessing.Barrier(arguments.connections + 1)
    results = multiprocessing.SimpleQueue()
    clients = [
        multiprocessing.Process(
            target=client, args=(url, arguments.transactions, seed, arguments.seconds, ready, results)
        )
        for seed in range(arguments.connections)
    ]
    for process in clients:
        process.start()
    try:
        ready.wait(READY_SECONDS)
    except BrokenBarrierError:
        sys.exit("a client failed: the ceiling was not measured")
    server_cores = {}
    if arguments.server_pid:
        time.sleep(WARM_UP_SECONDS)
        began, used = time.monotonic(), processor_seconds(arguments.server_pid)
        # Read before the clients end.
        time.sleep(arguments.seconds * 0.9)
        used = processor_seconds(arguments.server_pid) - used
        server_cores = {"server_cores": round(used / (time.monotonic() - began), 3)}
    for process in clients:
        process.join()
    if any(process.exitcode for process in clients):
        sys.exit("a client failed: the ceiling was not measured")
    reports = [results.get() for _ in clients]
    figures = {
        "rows_per_second": round(sum(answered * arguments.transactions / took for answered, took, _ in reports)),
        "requests": sum(answered for answered, _, _ in reports),
        "client_cores": round(sum(processor / took for _, took, processor in reports), 3),
        **server_cores,
    }
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
