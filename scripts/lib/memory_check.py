"""Measures the peak memory of each program of Assay with demanding inputs. Run by scripts/memory-check."""

import base64
import gzip
import json
import os
import pathlib
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request

BOUND_MB = 256
HEADER = b"id,description,amount,timestamp,operation_type,side"
REST = b",1.50,2026-01-11 10:00:00,payment,debit\n"
RANDOM = random.Random(7)


def noise(size):
    return base64.b64encode(RANDOM.randbytes(size * 3 // 4 + 3))[:size]


def rows(count, text, first=0):
    for number in range(first, first + count):
        yield b"%d," % number + text(number) + REST


def usual(count=10_000):
    yield HEADER + b"\n"
    yield from rows(count, lambda number: b"Coffee and a croissant %d" % number)


def wide(count=1_000):
    yield HEADER + b"\n"
    yield from rows(count, lambda _: b"a" * 250_000)


def noisy(count=400):
    yield HEADER + b"\n"
    yield from rows(count, lambda _: noise(250_000))


def control(count=200):
    yield HEADER + b"\n"
    yield from rows(count, lambda _: b'"' + bytes(RANDOM.choices(range(1, 9), k=250_000)) + b'"')


def columns(count=400, width=20_000):
    names = b",".join(b"c%d" % number for number in range(width))
    yield HEADER + b"," + names + b"\n"
    values = b",".join(b"x" for _ in range(width))
    for row in rows(count, lambda _: b"x"):
        yield row[:-1] + b"," + values + b"\n"


def invalid(count=400):
    yield HEADER + b"\n"
    for row in rows(count, lambda _: noise(250_000)):
        yield row.replace(b"1.50", b"much")


def mixed():
    yield HEADER + b"\n"
    yield from rows(10_000, lambda number: b"Coffee %d" % number)
    yield from rows(400, lambda _: noise(250_000), 10_000)


# Input, settings.
CASES = {
    "usual rows": (usual, {}),
    "rows of 250 kB": (wide, {}),
    "noise of 250 kB": (noisy, {}),
    "control characters": (control, {}),
    "20,000 columns": (columns, {}),
    "small rows, then large": (mixed, {}),
    "large invalid rows": (invalid, {}),
    "chunks of 10 rows": (usual, {"CHUNK_ROWS": "10"}),
    "many workers": (noisy, {"API_MAX_WORKERS": "32", "DB_MAX_WORKERS": "16"}),
    "live messages of 1 MB": (None, {}),
}


class Programs:
    """Started programs, and the peak memory of each."""

    def __init__(self, directory, folder, settings):
        self.directory, self.folder = directory, folder
        self.environment = os.environ | settings
        self.running, self.peaks = {}, {}
        self.watching = threading.Thread(target=self.watch, daemon=True)
        self.watching.start()

    def start(self, name, *command):
        log = open(self.folder / f"{name}.log", "wb")
        command = [self.directory / command[0], *command[1:]]
        process = subprocess.Popen(command, env=self.environment, stdout=log, stderr=log, cwd=self.folder)
        self.running[name] = process
        return process

    def run(self, name, *command, expect=(0,)):
        code = self.start(name, *command).wait()
        self.running.pop(name)
        if code not in expect:
            raise RuntimeError(f"{name} ended with {code}: " + self.log(name))

    def log(self, name):
        return (self.folder / f"{name}.log").read_text(errors="replace")[-2_000:]

    def output(self, *command):
        command = [self.directory / command[0], *command[1:]]
        return subprocess.run(command, env=self.environment, capture_output=True, text=True, check=True).stdout

    def watch(self):
        while True:
            for name, process in list(self.running.items()):
                try:
                    status = pathlib.Path(f"/proc/{process.pid}/status").read_text()
                except OSError:
                    continue
                if found := re.search(r"VmHWM:\s+(\d+) kB", status):
                    self.peaks[name] = max(self.peaks.get(name, 0), int(found[1]) / 1000)
            time.sleep(0.02)

    def check_running(self):
        for name, process in self.running.items():
            if process.poll() is not None:
                raise RuntimeError(f"{name} ended with {process.returncode}: " + self.log(name))

    def stop(self):
        for process in self.running.values():
            process.terminate()
        for process in self.running.values():
            process.wait()
        self.running.clear()


def until(programs, what, condition, seconds=900):
    deadline = time.monotonic() + seconds
    while not condition():
        programs.check_running()
        if time.monotonic() > deadline:
            raise RuntimeError(f"{what} takes too long")
        time.sleep(0.5)


def status(programs, run="memory"):
    return json.loads(programs.output("assay", "status", run, "--json"))


def messages(programs, queue, run="memory"):
    """Returns the waiting messages; None if RabbitMQ does not respond in time."""
    queues = status(programs, run)["queues"]
    return None if "error" in queues else next(it["waiting"] for it in queues if it["queue"] == queue)


def fleet(programs, file):
    programs.run("migrate", "assay", "migrate")
    programs.start("ml-api", "ml-api")
    programs.run("loader", "loader", str(file))
    for name in ("predictor 1", "predictor 2"):
        programs.start(name, "predictor")
    scored = lambda: messages(programs, "transactions.batch") == 0 and until_still(programs)
    until(programs, "scoring", scored)
    programs.start("writer", "writer")
    until(programs, "writing", lambda: status(programs)["state"] in ("complete", "failed"))


def until_still(programs):
    """Whether the writer's queue has stopped growing: the predictors have no more work."""
    before = messages(programs, "predictions.batch")
    time.sleep(3)
    return before is not None and messages(programs, "predictions.batch") == before


def live(programs, count=300):
    programs.run("migrate", "assay", "migrate")
    programs.start("ml-api", "ml-api")
    programs.start("streamer", "streamer", "serve")
    address = f"http://{programs.environment['STREAMER_ADDR']}/transactions"

    def send(number):
        transaction = {
            "id": f"live-{number}",
            "description": noise(200_000).decode(),
            "amount": 1.5,
            "timestamp": "2026-01-11T10:00:00Z",
            "operation_type": "payment",
            "side": "debit",
        }
        body = json.dumps([transaction | {"id": f"live-{number}-{part}"} for part in range(4)]).encode()
        urllib.request.urlopen(urllib.request.Request(address, data=body, method="POST"), timeout=60).read()

    def is_up():
        try:
            send(0)
            return True
        except OSError:
            return False

    until(programs, "the streamer", is_up, 60)
    threads = [threading.Thread(target=lambda at=at: [send(number) for number in range(at, count, 8)]) for at in range(1, 9)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    run = "live_streamer_" + time.strftime("%Y%m%d", time.gmtime())
    programs.start("predictor 1", "predictor")
    until(programs, "scoring", lambda: messages(programs, "transactions.realtime", run) == 0)
    time.sleep(3)
    programs.start("writer", "writer")
    until(programs, "writing", lambda: messages(programs, "predictions.realtime", run) == 0)
    time.sleep(3)


def measure(directory, name, number):
    make, settings = CASES[name]
    folder = pathlib.Path(tempfile.mkdtemp(prefix="assay-memory."))
    port = 23100 + 10 * number
    settings = settings | {
        "QUEUE_PREFIX": f"memory{number}.",
        "QUEUE_MAX_LENGTH": "1000000",
        "DATABASE_SCHEMA": f"memory{number}",
        "BATCH_RUN_ID": "memory",
        "ML_API_PORT": str(port),
        "ML_API_URL": f"http://127.0.0.1:{port}",
        "STREAMER_ADDR": f"127.0.0.1:{port + 1}",
    }
    programs = Programs(directory, folder, settings)
    try:
        if make is None:
            live(programs)
        else:
            file = folder / "in.csv.gz"
            with gzip.open(file, "wb", 1) as packed:
                for line in make():
                    packed.write(line)
            fleet(programs, file)
            programs.stop()
            for setting in ("AMQP_URL", "DATABASE_URL", "ML_API_URL", "DATABASE_SCHEMA"):
                programs.environment.pop(setting)
            programs.run("assay run", "assay", "run", str(file), expect=(0, 1))
    finally:
        programs.stop()
        shutil.rmtree(folder, ignore_errors=True)
    return {what: peak for what, peak in programs.peaks.items() if what != "migrate"}


def main():
    if sys.argv[1].startswith("--"):
        print("\n".join([*CASES]) if sys.argv[1] == "--list" else __doc__)
        return 0
    # Lets `finally` stop the started programs.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    directory = pathlib.Path(sys.argv[1]).resolve()
    names = sys.argv[2:] or list(CASES)
    too_large = False
    for name in names:
        peaks = measure(directory, name, list(CASES).index(name))
        shown = ", ".join(f"{what} {peak:.0f}" for what, peak in sorted(peaks.items()))
        print(f"{name}: {shown} (MB)", flush=True)
        for what, peak in peaks.items():
            if peak > BOUND_MB:
                too_large = True
                print(f"  {what} uses {peak:.0f} MB, more than {BOUND_MB}", flush=True)
    return int(too_large)


sys.exit(main())
