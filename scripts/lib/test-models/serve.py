"""Serves the model of train.py in the forms that neither MLflow nor MLServer has: `serve.py MODEL PORT`.

`/predict` is Assay's own protocol, `/v1/models/fraud:predict` that of TensorFlow Serving and KServe v1, `/endpoints/fraud/invocations` that of
SageMaker's containers, and `/columns/predict` one that only a template describes.
"""

import io
import sys
from datetime import datetime

import fastapi
import joblib
import pandas
import uvicorn

model = joblib.load(sys.argv[1])
app = fastapi.FastAPI()


def label(score):
    return "fraud" if score >= 0.5 else "legitimate"


@app.get("/health")
@app.get("/columns/health")
@app.get("/v1/models/fraud")
def health():
    return {"status": "ok"}


@app.post("/predict")
def predict(transactions: list[dict]):
    data = pandas.DataFrame(
        {
            "amount": [float(row["amount"]) for row in transactions],
            "hour": [datetime.fromisoformat(row["timestamp"]).hour for row in transactions],
            "is_debit": [int(row["side"] == "debit") for row in transactions],
            "card_age": [float(row["attributes"]["card_age"]) for row in transactions],
        }
    )
    scores = model.predict_proba(data)[:, 1].tolist() if transactions else []
    return [
        {"transaction_id": row["id"], "prediction": label(score), "fraud_score": score}
        for row, score in zip(transactions, scores)
    ]


@app.post("/v1/models/fraud:predict")
def instances(request: dict):
    return {"predictions": model.predict_proba(pandas.DataFrame(request["instances"])).tolist()}


@app.post("/columns/predict")
def columns(request: dict):
    scores = model.predict_proba(pandas.DataFrame(request["columns"]))[:, 1].tolist()
    return {"answer": {"labels": [label(score) for score in scores], "scores": scores}}


@app.post("/endpoints/fraud/invocations")
async def lines(request: fastapi.Request):
    data = pandas.read_csv(io.BytesIO(await request.body()), names=["amount", "hour", "is_debit", "card_age"])
    scores = model.predict_proba(data)[:, 1].tolist()
    return fastapi.Response("".join(f"{score}\n" for score in scores), media_type="text/csv")


uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[2]), log_level="warning")
