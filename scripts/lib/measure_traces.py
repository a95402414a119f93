"""Measures what traces cost: `assay run` of 200,000 rows with the in-process broker and SQLite, traced and without the feature, in turn.

scripts/test-traces --measure calls it. Prints the times of the clock and of the CPU, and the ratios of their medians; an OTLP receiver in
this process counts requests. The CPU's are the ones to compare on a machine that is busy with other work.
"""

import http.server
import os
import pathlib
import resource
import statistics
import subprocess
import tempfile
import threading
import time

ROWS = 200_000
ROUNDS = 5
TARGET = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", "target"))


class Receiver(http.server.BaseHTTPRequestHandler):
    """Takes spans, and forgets them."""

    protocol_version = "HTTP/1.1"
    received = [0, 0]

    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"]))
        Receiver.received[0] += 1
        Receiver.received[1] += len(body)
        self.send_response(200)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass


def build(features, to):
    subprocess.run(["cargo", "build", "--release", "--bin", "assay", *features], check=True)
    to.write_bytes((TARGET / "release" / "assay").read_bytes())
    to.chmod(0o755)


def cpu_seconds():
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def seconds(program, file, environment):
    """By the clock, and of the CPU."""
    with tempfile.TemporaryDirectory() as folder:
        began, used = time.monotonic(), cpu_seconds()
        subprocess.run(
            [program, "run", file],
            cwd=folder,
            check=True,
            capture_output=True,
            env={"PATH": os.environ["PATH"], "HOME": folder} | environment,
        )
        return time.monotonic() - began, cpu_seconds() - used


def main():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Receiver)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    traced_to = {"OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{server.server_port}"}
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        with_traces, without = folder / "assay-otlp", folder / "assay"
        build(["--features", "otlp"], with_traces)
        build([], without)
        file = folder / "rows.csv"
        subprocess.run([without, "generate", "--rows", str(ROWS), "--output", file], check=True, capture_output=True)
        seconds(without, file, {})
        times = {"without the feature": [], "with it, off": [], "traced": []}
        for _ in range(ROUNDS):
            times["without the feature"].append(seconds(without, file, {}))
            times["with it, off"].append(seconds(with_traces, file, {}))
            times["traced"].append(seconds(with_traces, file, traced_to))
    for of, index in {"clock": 0, "CPU": 1}.items():
        taken = {name: [one[index] for one in measured] for name, measured in times.items()}
        base = statistics.median(taken["without the feature"])
        for name, measured in taken.items():
            ratio = statistics.median(measured) / base
            print(f"{of}, {name}: {' '.join(f'{one:.2f}' for one in measured)} s, ratio of the medians {ratio:.3f}")
    requests, size = Receiver.received
    print(f"{requests} requests with {size} bytes in {ROUNDS} traced runs of {ROWS} rows")


main()
