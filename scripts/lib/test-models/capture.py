"""Keeps what MLflow and MLServer answer, for the tests of the readers: `capture.py FOLDER MLFLOW_URL MLSERVER_URL`."""

import json
import pathlib
import sys
import urllib.request

folder, mlflow, mlserver = pathlib.Path(sys.argv[1]), sys.argv[2], sys.argv[3]
names = ["amount", "hour", "is_debit", "card_age"]
rows = [[-952.4, 6, 1, 12.5], [2500.1, 3, 1, 10.0], [12.0, 12, 0, 2000.0]]
types = ["FP64", "INT64", "INT64", "FP64"]
inputs = [
    {"name": name, "shape": [len(rows), 1], "datatype": type, "data": [row[at] for row in rows]}
    for at, (name, type) in enumerate(zip(names, types))
]
oip = {
    "parameters": {"content_type": "pd"},
    "inputs": inputs,
    "outputs": [{"name": "predict"}, {"name": "predict_proba"}],
}
requests = {
    "mlflow.json": (f"{mlflow}/invocations", {"dataframe_split": {"columns": names, "data": rows}}),
    "mlflow-instances.json": (f"{mlflow}/invocations", {"instances": [dict(zip(names, row)) for row in rows]}),
    "oip-metadata.json": (f"{mlserver}/v2/models/fraud", None),
    "oip.json": (f"{mlserver}/v2/models/fraud/infer", oip),
}
for name, (url, body) in requests.items():
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"Content-Type": "application/json"})
    (folder / name).write_bytes(urllib.request.urlopen(request).read())
