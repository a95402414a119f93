"""The kind of job that Assay replaces: one Python process that scores a file of transactions and stores the result.

It works batch by batch: it reads and validates ROW_BATCH_SIZE rows; API_MAX_WORKERS threads send them to the ML API,
API_BATCH_SIZE per request; it writes both tables, DB_ROW_BATCH_SIZE rows per statement, and commits. It lacks what Assay
is for: it cannot resume after a crash, it counts failed rows but does not keep them, and a duplicate row counts as
predicted twice, though it is stored once.

    SOURCE=transactions.csv DATABASE_URL=postgresql://… ML_API_URL=http://localhost:8000 python pipeline.py

SOURCE is a path, or s3://bucket/key, for which ENDPOINT_URL, KEY and SECRET are read. WRITER is `sqlalchemy` (bulk
upserts through a session, as in the replaced job) or `execute_values` of psycopg2, the fastest statement without COPY. The log goes to stderr. Prints
one line of JSON on stdout: the counts, the seconds from opening the source to the last commit (without the start
of Python and its imports), and peak resident memory in MB (10^6 bytes).
"""

import csv
import io
import json
import logging
import os
import resource
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from itertools import islice
from pathlib import PurePath
from typing import Annotated, TextIO
from urllib.parse import urlsplit
from uuid import NAMESPACE_URL, UUID, uuid5

import psycopg2
import requests
import sqlalchemy as sa
from psycopg2.extras import execute_values
from pydantic import BaseModel, ConfigDict, Field, PlainSerializer, StringConstraints, TypeAdapter, ValidationError
from requests.adapters import HTTPAdapter
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session
from urllib3.util import Retry

ROW_BATCH_SIZE = int(os.environ.get("ROW_BATCH_SIZE", "5000"))
API_BATCH_SIZE = int(os.environ.get("API_BATCH_SIZE", "100"))
API_MAX_WORKERS = int(os.environ.get("API_MAX_WORKERS", "5"))
DB_ROW_BATCH_SIZE = int(os.environ.get("DB_ROW_BATCH_SIZE", "1000"))
WRITER = os.environ.get("WRITER", "sqlalchemy")
API_TIMEOUT_SECONDS = 30

log = logging.getLogger("batch_pipeline")

# --- models of rows and predictions -----------------------------------------------------------------------------

# PostgreSQL's text cannot contain NUL.
Text = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, pattern=r"^[^\x00]*$")]
OptionalText = Annotated[str, StringConstraints(pattern=r"^[^\x00]*$")] | None
# Exact in the database, and a JSON number for the model.
Amount = Annotated[
    Decimal,
    Field(max_digits=20, decimal_places=4, allow_inf_nan=False),
    PlainSerializer(float, return_type=float, when_used="json"),
]


class Transaction(BaseModel):
    """A valid row of the source."""

    id: UUID
    external_id: OptionalText = Field(exclude=True)
    row_number: int = Field(exclude=True)
    excess: None = Field(default=None, exclude=True, description="fields beyond those of the header")
    description: Text
    amount: Amount
    timestamp: datetime
    merchant: OptionalText = None
    operation_type: Text
    side: Text


class Prediction(BaseModel):
    """A prediction of the ML API."""

    model_config = ConfigDict(protected_namespaces=())

    transaction_id: UUID
    prediction: str
    fraud_score: Annotated[float, Field(ge=0, le=1)] | None = None
    model_version: str | None = None


TRANSACTIONS = TypeAdapter(list[Transaction])
PREDICTIONS = TypeAdapter(list[Prediction])


@dataclass
class Counts:
    """Counts of rows by outcome."""

    rows: int = 0
    predicted: int = 0
    invalid: int = 0
    failed: int = 0


# --- reading ----------------------------------------------------------------------------------------------------


def open_source(source: str) -> TextIO:
    """Opens a path or an S3 object as text; the object streams. Text that is not UTF-8 is left for the model to reject."""
    if not source.startswith("s3://"):
        return open(source, encoding="utf-8-sig", errors="surrogateescape", newline="")
    import boto3  # Takes half a second, which a local file need not wait for.

    url = urlsplit(source)
    client = boto3.client(
        "s3",
        endpoint_url=os.environ.get("ENDPOINT_URL"),
        aws_access_key_id=os.environ.get("KEY"),
        aws_secret_access_key=os.environ.get("SECRET"),
        region_name=os.environ.get("AWS_REGION", "us-east-1"),
    )
    body = client.get_object(Bucket=url.netloc, Key=url.path.lstrip("/"))["Body"]
    return io.TextIOWrapper(
        io.BufferedReader(body, 1 << 20), encoding="utf-8-sig", errors="surrogateescape", newline=""
    )


def identity(namespace: UUID, text: str | None) -> tuple[UUID | None, str | None]:
    """Returns the id to store, and the source's own if that is not a UUID: the same ids that Assay stores."""
    if not text or text.isspace():
        return None, None
    if len(text) == 36:
        try:
            return UUID(text), None
        except ValueError:
            pass
    return uuid5(namespace, text), text


def read_batches(source: str) -> Iterator[list[dict]]:
    """Yields ROW_BATCH_SIZE rows at a time, as the model's input."""
    name = source.removeprefix("s3://") if source.startswith("s3://") else PurePath(source).name
    namespace = uuid5(NAMESPACE_URL, name)
    with open_source(source) as file:
        header = file.readline()
        delimiter = max(";,\t|", key=header.count)
        names = next(csv.reader([header], delimiter=delimiter))
        rows = enumerate(csv.DictReader(file, fieldnames=names, restkey="excess", delimiter=delimiter), start=1)
        while batch := list(islice(rows, ROW_BATCH_SIZE)):
            for number, row in batch:
                row["row_number"] = number
                row["id"], row["external_id"] = identity(namespace, row["id"])
                # None if the row is too short.
                row["amount"] = (row["amount"] or "").replace(",", ".")
                row["merchant"] = row.get("merchant") or None
            yield [row for _, row in batch]


def validate(rows: list[dict], counts: Counts) -> list[Transaction]:
    """Returns the valid rows, and counts the others."""
    valid = []
    for row in rows:
        try:
            valid.append(Transaction.model_validate(row))
        except ValidationError as error:
            counts.invalid += 1
            log.debug("row %s: %s", row["row_number"], error)
    counts.rows += len(rows)
    return valid


# --- scoring ----------------------------------------------------------------------------------------------------


class MlApi:
    """A client of the ML API with several threads, each with its own connections."""

    def __init__(self, url: str) -> None:
        self._url = url.rstrip("/") + "/predict"
        self._local = threading.local()

    def _session(self) -> requests.Session:
        if not hasattr(self._local, "session"):
            session = requests.Session()
            retry = Retry(total=3, backoff_factor=0.5, status_forcelist=(429, 500, 502, 503, 504), allowed_methods=None)
            session.mount("http://", HTTPAdapter(max_retries=retry))
            session.mount("https://", HTTPAdapter(max_retries=retry))
            session.headers["Content-Type"] = "application/json"
            # Otherwise it is looked up in the environment and ~/.netrc for each request.
            session.trust_env = False
            self._local.session = session
        return self._local.session

    def predict(self, transactions: list[Transaction]) -> list[tuple[Transaction, Prediction]]:
        """Returns the scored rows: none if the request failed."""
        try:
            body = TRANSACTIONS.dump_json(transactions)
            response = self._session().post(self._url, data=body, timeout=API_TIMEOUT_SECONDS)
            response.raise_for_status()
            answers = {answer.transaction_id: answer for answer in PREDICTIONS.validate_json(response.content)}
        except (requests.RequestException, ValidationError) as error:
            log.error("Failed to get predictions: %s", error)
            return []
        return [(row, answers[row.id]) for row in transactions if row.id in answers]


# --- writing ----------------------------------------------------------------------------------------------------

# The columns, types, keys and indexes of Assay's tables (migrations/postgres).
TABLES = """
CREATE SCHEMA IF NOT EXISTS baseline;
CREATE TABLE IF NOT EXISTS baseline.transactions (
    id              uuid          PRIMARY KEY,
    external_id     text,
    description     text          NOT NULL,
    amount          numeric(20,4) NOT NULL,
    "timestamp"     timestamptz   NOT NULL,
    merchant        text,
    operation_type  text          NOT NULL,
    side            text          NOT NULL,
    attributes      jsonb,
    run_id          text          NOT NULL,
    row_number      bigint        NOT NULL,
    processing_type text          NOT NULL CHECK (processing_type IN ('batch', 'streaming')),
    created_at      timestamptz   NOT NULL DEFAULT now()
);
CREATE INDEX IF NOT EXISTS transactions_rows ON baseline.transactions (run_id, row_number);
CREATE TABLE IF NOT EXISTS baseline.predictions (
    transaction_id uuid             PRIMARY KEY,
    prediction     text             NOT NULL,
    fraud_score    double precision CHECK (fraud_score BETWEEN 0 AND 1),
    model_version  text,
    run_id         text             NOT NULL,
    predicted_at   timestamptz      NOT NULL
);
"""

INSERT_TRANSACTIONS = """
INSERT INTO baseline.transactions (id, external_id, description, amount, "timestamp", merchant, operation_type, side,
    run_id, row_number, processing_type)
VALUES %s ON CONFLICT (id) DO NOTHING
"""

INSERT_PREDICTIONS = """
INSERT INTO baseline.predictions (transaction_id, prediction, fraud_score, model_version, run_id, predicted_at)
VALUES %s ON CONFLICT (transaction_id) DO NOTHING
"""


def connect(url: str) -> psycopg2.extensions.connection:
    """Connects, and creates the tables. Timestamps without a time zone are UTC."""
    connection = psycopg2.connect(url, options="-c timezone=UTC", application_name="baseline")
    with connection, connection.cursor() as cursor:
        cursor.execute(TABLES)
    return connection


def rows_of(run_id: str, scored: list[tuple[Transaction, Prediction]]) -> tuple[list[dict], list[dict]]:
    """Returns the rows of both tables."""
    now = datetime.now(UTC)
    transactions = [
        {
            "id": row.id,
            "external_id": row.external_id,
            "description": row.description,
            "amount": row.amount,
            "timestamp": row.timestamp,
            "merchant": row.merchant,
            "operation_type": row.operation_type,
            "side": row.side,
            "run_id": run_id,
            "row_number": row.row_number,
            "processing_type": "batch",
        }
        for row, _ in scored
    ]
    predictions = [
        {
            "transaction_id": row.id,
            "prediction": answer.prediction,
            "fraud_score": answer.fraud_score,
            "model_version": answer.model_version,
            "run_id": run_id,
            "predicted_at": now,
        }
        for row, answer in scored
    ]
    return transactions, predictions


class SqlAlchemy:
    """Bulk upserts through a session."""

    def __init__(self, url: str) -> None:
        # SQLAlchemy does not know `postgres://`.
        url = "postgresql+psycopg2" + url[url.index(":") :]
        # Without this mode, each row would be a statement and a round trip.
        self._engine = sa.create_engine(
            url,
            executemany_mode="values_plus_batch",
            connect_args={"application_name": "baseline", "options": "-c timezone=UTC"},
        )
        # As in the database.
        self._tables = [
            sa.Table(name, sa.MetaData(), schema="baseline", autoload_with=self._engine)
            for name in ("transactions", "predictions")
        ]

    def write(self, run_id: str, scored: list[tuple[Transaction, Prediction]]) -> None:
        """Stores a batch in one database transaction."""
        transactions, predictions = rows_of(run_id, scored)
        with Session(self._engine) as session:
            for table, rows in zip(self._tables, (transactions, predictions), strict=True):
                for at in range(0, len(rows), DB_ROW_BATCH_SIZE):
                    session.execute(insert(table).on_conflict_do_nothing(), rows[at : at + DB_ROW_BATCH_SIZE])
            session.commit()


class ExecuteValues:
    """Multi-row statements, expanded by the driver."""

    def __init__(self, url: str) -> None:
        self._connection = connect(url)

    def write(self, run_id: str, scored: list[tuple[Transaction, Prediction]]) -> None:
        """Stores a batch in one database transaction."""
        transactions, predictions = rows_of(run_id, scored)
        with self._connection, self._connection.cursor() as cursor:
            for statement, rows in ((INSERT_TRANSACTIONS, transactions), (INSERT_PREDICTIONS, predictions)):
                values = [
                    tuple(str(value) if isinstance(value, UUID) else value for value in row.values()) for row in rows
                ]
                execute_values(cursor, statement, values, page_size=DB_ROW_BATCH_SIZE)


WRITERS = {"sqlalchemy": SqlAlchemy, "execute_values": ExecuteValues}


# --- the job ----------------------------------------------------------------------------------------------------


def slices(rows: list[Transaction]) -> list[list[Transaction]]:
    return [rows[at : at + API_BATCH_SIZE] for at in range(0, len(rows), API_BATCH_SIZE)]


def main() -> None:
    logging.basicConfig(level=logging.INFO, format="%(asctime)s - %(levelname)s - %(message)s")
    counts = Counts()
    source = os.environ["SOURCE"]
    run_id = datetime.now(UTC).strftime("batch_%Y%m%d_%H%M%S")
    log.info("Starting batch pipeline")
    log.info("Pipeline Run ID: %s", run_id)
    api = MlApi(os.environ["ML_API_URL"])
    connect(os.environ["DATABASE_URL"]).close()
    writer = WRITERS[WRITER](os.environ["DATABASE_URL"])

    began = time.perf_counter()
    with ThreadPoolExecutor(API_MAX_WORKERS) as workers:
        for number, rows in enumerate(read_batches(source)):
            valid = validate(rows, counts)
            scored = [pair for pairs in workers.map(api.predict, slices(valid)) for pair in pairs]
            writer.write(run_id, scored)
            counts.predicted += len(scored)
            counts.failed += len(valid) - len(scored)
            log.info("Batch %d: processed %d transactions", number, len(scored))
    seconds = time.perf_counter() - began
    log.info("Pipeline complete: %d processed, %d failed, %d invalid", counts.predicted, counts.failed, counts.invalid)

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    figures = {
        "rows": counts.rows,
        "predicted": counts.predicted,
        "invalid": counts.invalid,
        "failed": counts.failed,
        "seconds": round(seconds, 3),
        "rows_per_second": round(counts.rows / seconds),
        "peak_mb": round(peak / 1e6, 1),
    }
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
