"""The settings of all peers, from the environment."""

import os
from urllib.parse import urlsplit
from uuid import NAMESPACE_URL, uuid5

SOURCE = os.environ["SOURCE"]  # s3://bucket/key
ENDPOINT_URL = os.environ["ENDPOINT_URL"]
KEY = os.environ["KEY"]
SECRET = os.environ["SECRET"]
REGION = os.environ.get("AWS_REGION", "us-east-1")
DATABASE_URL = os.environ["DATABASE_URL"]
AMQP_URL = os.environ.get("AMQP_URL", "")
# Queues of peers that run one after the other must not mix.
QUEUE = os.environ.get("QUEUE", "score")
PREDICT_URL = os.environ["ML_API_URL"].rstrip("/") + "/predict"

BUCKET = urlsplit(SOURCE).netloc
OBJECT = urlsplit(SOURCE).path.lstrip("/")
# The same row of the same object always gets the same id, so that a second run stores nothing twice.
NAMESPACE = uuid5(NAMESPACE_URL, f"{BUCKET}/{OBJECT}")

COLUMNS = ["id", "description", "amount", "timestamp", "merchant", "operation_type", "side"]
DELIMITER = ";"

API_BATCH_SIZE = 100
API_TIMEOUT_SECONDS = 30
API_ATTEMPTS = 4
# Rows in a task of the task queues.
TASK_ROWS = int(os.environ.get("TASK_ROWS", "1000"))
