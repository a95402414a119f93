"""A typical Python ML API: FastAPI, Pydantic and uvicorn, in one process. Its model is a hash.

    python fastapi_api.py [--host 127.0.0.1] [--port 8000]

POST /predict takes a list of transactions and returns a list of predictions; GET /health is the health check.
"""

import argparse
from datetime import datetime
from typing import Literal
from zlib import crc32

import uvicorn
from fastapi import FastAPI
from pydantic import BaseModel, ConfigDict

MODEL_VERSION = "baseline-1"
FRAUD_THRESHOLD = 0.98

app = FastAPI(title="ML API of the baseline")


class Transaction(BaseModel):
    """A transaction; further fields are ignored."""

    id: str
    description: str
    amount: float
    timestamp: datetime
    merchant: str | None = None
    operation_type: str
    side: str


class Prediction(BaseModel):
    """The prediction for a transaction."""

    model_config = ConfigDict(protected_namespaces=())

    transaction_id: str
    prediction: Literal["fraud", "legitimate"]
    fraud_score: float
    model_version: str


def fraud_score(transaction: Transaction) -> float:
    """Returns a number from 0 to 1 that depends on the transaction only. It stands in for a model, and predicts nothing."""
    features = f"{transaction.amount:.2f}{transaction.timestamp.hour}{transaction.operation_type}{transaction.side}"
    return round(crc32(features.encode()) / 0xFFFFFFFF, 6)


# Async, so that the event loop scores: handing the work to a thread would cost more than the work.
@app.post("/predict")
async def predict(transactions: list[Transaction]) -> list[Prediction]:
    predictions = []
    for transaction in transactions:
        score = fraud_score(transaction)
        predictions.append(
            Prediction(
                transaction_id=transaction.id,
                prediction="fraud" if score >= FRAUD_THRESHOLD else "legitimate",
                fraud_score=score,
                model_version=MODEL_VERSION,
            )
        )
    return predictions


@app.get("/health")
async def health() -> dict[str, str]:
    return {"status": "ok", "model_version": MODEL_VERSION}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8000)
    arguments = parser.parse_args()
    uvicorn.run(app, host=arguments.host, port=arguments.port, log_level="warning", access_log=False)
