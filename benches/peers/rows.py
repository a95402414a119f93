"""A task's rows, for both task queues: validated by Pydantic, sent to the ML API in requests of 100, and stored with the record of the task in
one database transaction. Every task is idempotent, so one that is delivered twice stores nothing twice."""

import threading
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from decimal import Decimal
from functools import cache
from typing import Annotated
from uuid import UUID, uuid5

import psycopg
from psycopg.errors import UniqueViolation
from pydantic import Field, PlainSerializer, StringConstraints, TypeAdapter, ValidationError
from pyreqwest.client import SyncClient, SyncClientBuilder
from pyreqwest.exceptions import PyreqwestError
from typing_extensions import TypedDict  # Pydantic needs that one before Python 3.12

import settings

REQUESTS = 4

# --- validating -------------------------------------------------------------------------------------------------

# PostgreSQL's text cannot contain NUL.
Text = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, pattern=r"^[^\x00]*$")]
Amount = Annotated[
    Decimal,
    Field(max_digits=20, decimal_places=4, allow_inf_nan=False),
    PlainSerializer(float, return_type=float, when_used="json"),
]


class Transaction(TypedDict):
    """A valid row. Not a model: dictionaries are validated in half the time."""

    id: Annotated[str, StringConstraints(min_length=1)]
    description: Text
    amount: Amount
    timestamp: datetime
    merchant: str | None
    operation_type: Text
    side: Text


class Prediction(TypedDict):
    """What the ML API answers for a row."""

    transaction_id: str
    prediction: str
    fraud_score: float | None
    model_version: str | None


TRANSACTIONS = TypeAdapter(list[Transaction])
TRANSACTION = TypeAdapter(Transaction)
PREDICTIONS = TypeAdapter(list[Prediction])


def identity(text: str) -> str:
    """Returns the id as a UUID, or nothing where there is none."""
    text = text.strip()
    if len(text) == 36:
        try:
            return str(UUID(text))
        except ValueError:
            pass
    return str(uuid5(settings.NAMESPACE, text)) if text else ""


def candidate(row: list[str]) -> dict[str, str | None]:
    """Returns a row as Pydantic expects it: decimal points, and times in UTC."""
    own_id, description, amount, timestamp, merchant, operation_type, side = row
    return {
        "id": identity(own_id),
        "description": description,
        "amount": amount.replace(",", "."),
        "timestamp": timestamp + "Z",
        "merchant": merchant or None,
        "operation_type": operation_type,
        "side": side,
    }


def validate(rows: Iterable[list[str]]) -> list[Transaction]:
    """Returns the valid rows: one by one only if not all of them are."""
    candidates = [candidate(row) for row in rows if len(row) == len(settings.COLUMNS)]
    try:
        return TRANSACTIONS.validate_python(candidates)
    except ValidationError:
        return [valid for one in candidates if (valid := validate_one(one)) is not None]


def validate_one(row: dict[str, str | None]) -> Transaction | None:
    try:
        return TRANSACTION.validate_python(row)
    except ValidationError:
        return None


# --- scoring ----------------------------------------------------------------------------------------------------


class Connections(threading.local):
    """What each thread of this process keeps open."""

    def __init__(self) -> None:
        self.database = psycopg.connect(settings.DATABASE_URL, autocommit=True)
        self.staged = False


class Api:
    """The client of the ML API of this process."""

    def __init__(self) -> None:
        builder = SyncClientBuilder().default_headers({"Content-Type": "application/json"}).no_proxy()
        self.client: SyncClient = builder.build()
        self.threads = ThreadPoolExecutor(REQUESTS)

    def ask(self, transactions: list[Transaction]) -> list[Prediction]:
        body = TRANSACTIONS.dump_json(transactions)
        response = self.client.post(settings.PREDICT_URL).body_bytes(body).build().send()
        if response.status != 200:
            raise ApiError(f"the ML API answers {response.status}")
        return PREDICTIONS.validate_json(bytes(response.bytes()))

    def score(self, transactions: list[Transaction]) -> dict[str, Prediction]:
        step = settings.API_BATCH_SIZE
        parts = [transactions[at : at + step] for at in range(0, len(transactions), step)]
        return {answer["transaction_id"]: answer for answers in self.threads.map(self.ask, parts) for answer in answers}


class ApiError(Exception):
    """The ML API did not score a request; the task is tried again."""


# What makes a queue try a task again.
TEMPORARY = (ApiError, PyreqwestError, psycopg.OperationalError)

# Made at their first use: a worker forks before that.
api = cache(Api)
connections = cache(Connections)


def process_rows(job: str, task: int, rows: list[list[str]]) -> None:
    """Does all that a task is about."""
    transactions = validate(rows)
    predictions = api().score(transactions)
    scored = [(row, predictions[row["id"]]) for row in transactions if row["id"] in predictions]
    scored.sort(key=lambda pair: pair[0]["id"])
    write(scored, (job, task, len(rows), len(scored), len(rows) - len(transactions)))


# --- storing ----------------------------------------------------------------------------------------------------

STAGING = """
CREATE TEMP TABLE new_transactions (LIKE transactions INCLUDING DEFAULTS) ON COMMIT DELETE ROWS;
CREATE TEMP TABLE new_predictions (LIKE predictions) ON COMMIT DELETE ROWS;
"""
TABLES = {
    "transactions": 'id, description, amount, "timestamp", merchant, operation_type, side',
    "predictions": "transaction_id, prediction, fraud_score, model_version, predicted_at",
}
RECORD = "INSERT INTO tasks (job, task, rows, predicted, invalid) VALUES (%s, %s, %s, %s, %s) ON CONFLICT DO NOTHING"


def write(scored: list[tuple[Transaction, Prediction]], record: tuple) -> None:
    """Stores both tables and the record, as if all ids were new; from the first known one on, by temporary tables."""
    own = connections()
    if not own.staged:
        try:
            with own.database.transaction():
                copy(own.database, scored, "")
                own.database.execute(RECORD, record)
            return
        except UniqueViolation:
            own.staged = True
            own.database.execute(STAGING)
    with own.database.transaction():
        copy(own.database, scored, "new_")
        for table, columns in TABLES.items():
            own.database.execute(
                f"INSERT INTO {table} ({columns}) SELECT {columns} FROM new_{table} ON CONFLICT DO NOTHING"
            )
        own.database.execute(RECORD, record)


def copy(database: psycopg.Connection, scored: list[tuple[Transaction, Prediction]], prefix: str) -> None:
    now = datetime.now(UTC).isoformat()
    statements = [f"COPY {prefix}{table} ({columns}) FROM STDIN" for table, columns in TABLES.items()]
    with database.cursor() as cursor:
        with cursor.copy(statements[0]) as rows:
            for row, _ in scored:
                values = (row["id"], row["description"], str(row["amount"]), row["timestamp"].isoformat())
                rows.write_row((*values, row["merchant"], row["operation_type"], row["side"]))
        with cursor.copy(statements[1]) as rows:
            for row, answer in scored:
                rows.write_row((row["id"], answer["prediction"], answer["fraud_score"], answer["model_version"], now))
