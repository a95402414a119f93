"""Cuts an object into tasks of TASK_ROWS rows, hands each to a queue, and waits until all of them are recorded as done."""

import csv
import io
import json
import sys
import time
import uuid
from collections.abc import Callable
from itertools import islice

import boto3
import psycopg
from botocore.config import Config

import settings

# Between two looks at the table of tasks.
POLL_SECONDS = 0.05
DONE = """
SELECT count(*), coalesce(sum(rows), 0), coalesce(sum(predicted), 0), coalesce(sum(invalid), 0) FROM tasks WHERE job = %s
"""


def produce(send: Callable[[str, int, list[list[str]]], object]) -> None:
    """Prints one line of JSON: the rows by outcome."""
    job = str(uuid.uuid4())
    database = psycopg.connect(settings.DATABASE_URL, autocommit=True)
    client = boto3.client(
        "s3",
        endpoint_url=settings.ENDPOINT_URL,
        aws_access_key_id=settings.KEY,
        aws_secret_access_key=settings.SECRET,
        region_name=settings.REGION,
        config=Config(s3={"addressing_style": "path"}),
    )
    print("BEGIN", file=sys.stderr, flush=True)
    body = client.get_object(Bucket=settings.BUCKET, Key=settings.OBJECT)["Body"]
    lines = io.TextIOWrapper(io.BufferedReader(body, 1 << 20), encoding="utf-8-sig", newline="")
    rows = csv.reader(lines, delimiter=settings.DELIMITER)
    if next(rows) != settings.COLUMNS:
        sys.exit(f"the header is not {settings.DELIMITER.join(settings.COLUMNS)}")
    sent = 0
    while task := list(islice(rows, settings.TASK_ROWS)):
        send(job, sent, task)
        sent += 1
    while True:
        done, read, predicted, invalid = map(int, database.execute(DONE, (job,)).fetchone())
        if done == sent:
            break
        time.sleep(POLL_SECONDS)
    failed = read - predicted - invalid
    print(json.dumps({"rows": read, "predicted": predicted, "invalid": invalid, "failed": failed}), flush=True)
