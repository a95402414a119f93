"""Compares what Kustomize and Helm render, as documents and not as text; see scripts/helm-check.

    helm_compare.py KUSTOMIZE.yaml HELM.yaml

Not compared, since each tool has its own way: how a change of settings rolls out pods (a suffix of the ConfigMap's name there, a checksum
in an annotation here), the suffix of the Job's name, the namespace (an option of Helm), and the tag of an image that has none.
"""

import re
import sys

import yaml

# Lists whose order has no meaning, by the name of their elements' key.
UNORDERED = {"env": "name", "ports": "name"}


def documents(path):
    """The documents of a file by kind and name."""
    with open(path, encoding="utf-8") as file:
        found = [document for document in yaml.safe_load_all(file) if document and document["kind"] != "Namespace"]
    for document in found:
        document["metadata"].pop("namespace", None)
        document["metadata"]["name"] = plain_name(document["kind"], document["metadata"]["name"])
    named = {f"{document['kind']} {document['metadata']['name']}": normal(document) for document in found}
    assert len(named) == len(found), f"{path} has two documents of the same kind and name"
    return named


def plain_name(kind, name):
    """A name without the suffix that stands for a content."""
    prefix = {"ConfigMap": "assay", "Job": "assay-migrate"}.get(kind)
    return prefix if prefix and re.fullmatch(f"{prefix}-[0-9a-z]{{8,10}}", name) else name


def normal(value, key=None):
    if isinstance(value, dict):
        if key == "annotations":
            value = {name: inner for name, inner in value.items() if name != "checksum/config"}
        if key == "configMapRef":
            value = {"name": plain_name("ConfigMap", value["name"])}
        inner = {name: normal(child, name) for name, child in value.items()}
        return {name: child for name, child in inner.items() if name != "annotations" or child}
    if isinstance(value, list):
        items = [normal(item) for item in value]
        by = UNORDERED.get(key)
        return sorted(items, key=lambda item: item[by]) if by and all(by in item for item in items) else items
    if key == "image":
        return re.sub(r"^assay:.*", "assay", value)
    return value


def differences(one, other, path):
    """Where two values differ, a line each."""
    if isinstance(one, dict) and isinstance(other, dict):
        for name in sorted({*one, *other}):
            if name not in one or name not in other:
                yield f"{path}.{name}: only {'Helm' if name in other else 'Kustomize'} has it"
            else:
                yield from differences(one[name], other[name], f"{path}.{name}")
    elif isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        for number, pair in enumerate(zip(one, other)):
            yield from differences(*pair, f"{path}[{number}]")
    elif one != other or type(one) is not type(other):
        yield f"{path}: {one!r} with Kustomize, {other!r} with Helm"


def main():
    kustomize, helm = documents(sys.argv[1]), documents(sys.argv[2])
    found = [line for name in sorted({*kustomize, *helm}) for line in (
        differences(kustomize[name], helm[name], name) if name in kustomize and name in helm
        else [f"{name}: only {'Helm' if name in helm else 'Kustomize'} has it"])]
    for line in found:
        print(line, file=sys.stderr)
    print(f"helm and kustomize: {len(helm)} documents, {len(found)} differences")
    return 1 if found else 0


sys.exit(main())
