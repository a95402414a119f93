"""The script that somebody would write with Polars: one process, columns instead of rows, as fast as its libraries allow.

Polars reads the object by ranges, validates it and makes JSON, all outside of the interpreter's lock. A few batches are in work at
a time: each is sent to the ML API in requests of 100 rows, eight at the same time, and then stored by one of two connections
with binary COPY, in one database transaction. While all ids are new, COPY writes into the tables themselves; after the first
one that is not, into temporary tables, from which only the new ones are taken over.

Prints one line of JSON: the rows by outcome.
"""

import asyncio
import json
import logging
import sys
from datetime import UTC, datetime, timedelta
from io import BytesIO

import polars as pl
import polars_hash  # noqa: F401 (registers the namespace uuidhash)
import psycopg
import uvloop
from pgpq import ArrowToPostgresBinaryEncoder
from psycopg.errors import UniqueViolation
from pyreqwest.client import Client, ClientBuilder
from pyreqwest.exceptions import PyreqwestError

import settings

BATCH_ROWS = 10_000
BATCHES_IN_WORK = 4
REQUESTS = 8
CONNECTIONS = 2

log = logging.getLogger("polars_script")

# --- reading ----------------------------------------------------------------------------------------------------

# At most 16 digits before the mark and four after it: NUMERIC(20,4).
AMOUNT = r"^[+-]?\d{1,16}([.,]\d{1,4})?$"
UUID = r"^[0-9A-Fa-f]{8}(-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}$"


def text(name: str) -> pl.Expr:
    return pl.col(name).str.strip_chars()


def is_filled(name: str) -> pl.Expr:
    return text(name).fill_null("") != ""


def read() -> pl.LazyFrame:
    """Every row with its columns typed, `reason` if it is invalid, and the transaction as the ML API wants it in `json`."""
    options = {
        "aws_endpoint_url": settings.ENDPOINT_URL,
        "aws_access_key_id": settings.KEY,
        "aws_secret_access_key": settings.SECRET,
        "aws_region": settings.REGION,
        "aws_allow_http": "true",
    }
    rows = pl.scan_csv(settings.SOURCE, separator=settings.DELIMITER, infer_schema=False, storage_options=options)
    own_id = text("id")
    typed = rows.select(
        id=pl.when(own_id.str.contains(UUID))
        .then(own_id.str.to_lowercase())
        .otherwise(own_id.uuidhash.uuid5(str(settings.NAMESPACE))),
        description="description",
        amount=pl.when(text("amount").str.contains(AMOUNT)).then(
            text("amount").str.replace(",", ".", literal=True).cast(pl.Decimal(20, 4), strict=False)
        ),
        timestamp=text("timestamp").str.to_datetime("%Y-%m-%d %H:%M:%S", time_unit="us", strict=False),
        merchant=pl.when(is_filled("merchant")).then("merchant"),
        operation_type="operation_type",
        side="side",
        reason=pl.when(~is_filled("id"))
        .then(pl.lit("id"))
        .when(~(is_filled("description") & is_filled("operation_type") & is_filled("side")))
        .then(pl.lit("empty")),
    ).with_columns(
        reason=pl.coalesce(
            "reason",
            pl.when(pl.col("amount").is_null()).then(pl.lit("amount")),
            pl.when(pl.col("timestamp").is_null()).then(pl.lit("timestamp")),
        )
    )
    sent = pl.struct(
        "id",
        "description",
        pl.col("amount").cast(pl.Float64),
        pl.col("timestamp").dt.strftime("%Y-%m-%dT%H:%M:%SZ"),
        "merchant",
        "operation_type",
        "side",
    )
    return typed.with_columns(json=sent.struct.json_encode())


def bodies(batch: pl.DataFrame) -> list[bytes]:
    rows = batch["json"].to_list()
    step = settings.API_BATCH_SIZE
    return [b"[" + ",".join(rows[at : at + step]).encode() + b"]" for at in range(0, len(rows), step)]


# --- scoring ----------------------------------------------------------------------------------------------------

ANSWER = {"transaction_id": pl.String, "prediction": pl.String, "fraud_score": pl.Float64, "model_version": pl.String}


async def ask(client: Client, slots: asyncio.Semaphore, body: bytes) -> bytes:
    """Returns the answer, or an empty one if the ML API still fails at the last attempt."""
    for attempt in range(settings.API_ATTEMPTS):
        if attempt:
            await asyncio.sleep(0.5 * 2**attempt)
        async with slots:
            try:
                response = await client.post(settings.PREDICT_URL).body_bytes(body).build().send()
                content = bytes(await response.bytes())
                if response.status == 200:
                    return content
                problem = f"status {response.status}"
            except PyreqwestError as error:
                problem = repr(error)
        log.warning("the ML API fails: %s", problem)
    return b"[]"


async def ask_all(client: Client, slots: asyncio.Semaphore, sent: list[bytes]) -> list[bytes]:
    """Returns the answers in the order of the requests. A few coroutines that take the next request are cheaper than one each."""
    answers = [b"[]"] * len(sent)
    rest = iter(range(len(sent)))

    async def take() -> None:
        for index in rest:
            answers[index] = await ask(client, slots, sent[index])

    await asyncio.gather(*(take() for _ in range(REQUESTS)))
    return answers


def predictions_of(answers: list[bytes]) -> pl.DataFrame:
    """Reads all answers as one array."""
    arrays = (answer.strip()[1:-1] for answer in answers)
    joined = b",".join(array for array in arrays if array)
    return pl.read_json(BytesIO(b"[%b]" % joined), schema=ANSWER) if joined else pl.DataFrame(schema=ANSWER)


# --- storing ----------------------------------------------------------------------------------------------------

STAGING = """
CREATE TEMP TABLE new_transactions (LIKE transactions INCLUDING DEFAULTS) ON COMMIT DELETE ROWS;
CREATE TEMP TABLE new_predictions (LIKE predictions) ON COMMIT DELETE ROWS;
"""


class Store:
    """A connection, and whether it has met an id that was stored before."""

    def __init__(self) -> None:
        self.connection = psycopg.connect(settings.DATABASE_URL, autocommit=True)
        self.staged = False

    def write(self, transactions: pl.DataFrame, predictions: pl.DataFrame) -> None:
        """Stores both in one database transaction. Sorted by id, so that two connections cannot deadlock."""
        tables = {"transactions": transactions, "predictions": predictions}
        if not self.staged:
            try:
                with self.connection.transaction():
                    for name, rows in tables.items():
                        self.copy(name, rows)
                return
            except UniqueViolation:
                self.staged = True
                self.connection.execute(STAGING)
        with self.connection.transaction():
            for name, rows in tables.items():
                self.copy(f"new_{name}", rows)
                columns = ", ".join(f'"{column}"' for column in rows.columns)
                self.connection.execute(
                    f"INSERT INTO {name} ({columns}) SELECT {columns} FROM new_{name} ON CONFLICT DO NOTHING"
                )

    def copy(self, table: str, rows: pl.DataFrame) -> None:
        columns = ", ".join(f'"{column}"' for column in rows.columns)
        arrow = rows.to_arrow()
        encoder = ArrowToPostgresBinaryEncoder(arrow.schema)
        with (
            self.connection.cursor() as cursor,
            cursor.copy(f"COPY {table} ({columns}) FROM STDIN (FORMAT binary)") as copy,
        ):
            copy.write(encoder.write_header())
            for piece in arrow.to_batches():
                copy.write(encoder.write_batch(piece))
            copy.write(encoder.finish())


def paired(batch: pl.DataFrame, predictions: pl.DataFrame) -> pl.DataFrame:
    """The transactions that have a prediction, with it. Answers usually come in the order of the request."""
    if len(batch) == len(predictions) and (batch["id"] == predictions["transaction_id"]).all():
        return pl.concat([batch.drop("json", "reason"), predictions.drop("transaction_id")], how="horizontal")
    answered = predictions.unique("transaction_id")
    return batch.drop("json", "reason").join(answered, left_on="id", right_on="transaction_id")


def store(connection: Store, batch: pl.DataFrame, answers: list[bytes], at: datetime) -> int:
    """Stores what was scored, and returns how many rows that are."""
    scored = paired(batch, predictions_of(answers)).with_columns(
        pl.col("id").str.replace_all("-", "", literal=True).str.decode("hex"),
        pl.col("timestamp").dt.replace_time_zone("UTC"),
        predicted_at=pl.lit(at, pl.Datetime("us", "UTC")),
    )
    scored = scored.sort("id")
    connection.write(
        scored.select(settings.COLUMNS),
        scored.select(
            pl.col("id").alias("transaction_id"), "prediction", "fraud_score", "model_version", "predicted_at"
        ),
    )
    return len(scored)


# --- all of it --------------------------------------------------------------------------------------------------


async def run() -> dict[str, int]:
    counts = {"rows": 0, "predicted": 0, "invalid": 0, "failed": 0}
    requests = asyncio.Semaphore(REQUESTS)
    in_work = asyncio.Semaphore(BATCHES_IN_WORK)
    connections: asyncio.Queue[Store] = asyncio.Queue()
    for _ in range(CONNECTIONS):
        connections.put_nowait(Store())

    async def process(client: Client, batch: pl.DataFrame) -> None:
        try:
            sent = await asyncio.to_thread(bodies, batch)
            answers = await ask_all(client, requests, sent)
            connection = await connections.get()
            stored = await asyncio.to_thread(store, connection, batch, answers, datetime.now(UTC))
            connections.put_nowait(connection)
            counts["predicted"] += stored
            counts["failed"] += len(batch) - stored
        finally:
            in_work.release()

    timeout = timedelta(seconds=settings.API_TIMEOUT_SECONDS)
    builder = ClientBuilder().default_headers({"Content-Type": "application/json"}).timeout(timeout).no_proxy()
    async with builder.build() as client, asyncio.TaskGroup() as tasks:
        batches = await asyncio.to_thread(lambda: read().collect_batches(chunk_size=BATCH_ROWS))
        while (batch := await asyncio.to_thread(next, batches, None)) is not None:
            valid = batch.filter(pl.col("reason").is_null()) if batch["reason"].null_count() < len(batch) else batch
            counts["rows"] += len(batch)
            counts["invalid"] += len(batch) - len(valid)
            await in_work.acquire()
            tasks.create_task(process(client, valid))
    return counts


def main() -> None:
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s - %(levelname)s - %(message)s")
    print("BEGIN", file=sys.stderr, flush=True)
    print(json.dumps(uvloop.run(run())), flush=True)


if __name__ == "__main__":
    main()
