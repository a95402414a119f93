"""Trains a small fraud model and saves it for each server.

    train.py FOLDER

Into FOLDER go `mlflow` (a model of MLflow whose predictions are probabilities), `mlserver` (a model repository of MLServer), and
`model.joblib` (for native.py). The same model each time: the data are made up from a fixed seed.
"""

import json
import pathlib
import sys

import joblib
import mlflow
import numpy
import pandas
from sklearn.ensemble import GradientBoostingClassifier

folder = pathlib.Path(sys.argv[1])
random = numpy.random.default_rng(18)
rows = 4_000
data = pandas.DataFrame(
    {
        "amount": numpy.round(random.lognormal(4, 1.5, rows), 2),
        "hour": random.integers(0, 24, rows).astype("int64"),
        "is_debit": random.integers(0, 2, rows).astype("int64"),
        "card_age": numpy.round(random.uniform(0, 3_000, rows), 1),
    }
)
odds = 0.01 * data["amount"] + 2 * (data["hour"] < 6) + data["is_debit"] - 0.001 * data["card_age"] - 2
is_fraud = (random.uniform(size=rows) < 1 / (1 + numpy.exp(-odds))).astype(int)
# Trees, whose results do not depend on how a server lays out its numbers in memory.
model = GradientBoostingClassifier(n_estimators=30, random_state=18).fit(data, is_fraud)

joblib.dump(model, folder / "model.joblib")
mlflow.sklearn.save_model(
    model,
    folder / "mlflow",
    pyfunc_predict_fn="predict_proba",
    serialization_format="cloudpickle",
    signature=mlflow.models.infer_signature(data, model.predict_proba(data)),
)

repository = folder / "mlserver"
repository.mkdir()
joblib.dump(model, repository / "model.joblib")
settings = {
    "name": "fraud",
    "implementation": "mlserver_sklearn.SKLearnModel",
    "parameters": {"uri": "./model.joblib", "version": "7"},
    "inputs": [
        {"name": "amount", "datatype": "FP64", "shape": [-1, 1]},
        {"name": "hour", "datatype": "INT64", "shape": [-1, 1]},
        {"name": "is_debit", "datatype": "INT64", "shape": [-1, 1]},
        {"name": "card_age", "datatype": "FP64", "shape": [-1, 1]},
    ],
    "outputs": [
        {"name": "predict", "datatype": "INT64", "shape": [-1, 1]},
        {"name": "predict_proba", "datatype": "FP64", "shape": [-1, 2]},
    ],
}
(repository / "model-settings.json").write_text(json.dumps(settings, indent=2))
