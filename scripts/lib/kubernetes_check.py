"""Checks rendered Kubernetes documents; see scripts/kubernetes-check.

    kubernetes_check.py NAME RENDERED.yaml GUIDE.md VERSION…
"""

import re
import sys

import kubernetes_validate
import yaml

WORKLOADS = {"Deployment", "Job", "CronJob"}
# Fields of custom resources, as KEDA 2.17 and the Prometheus Operator document them; required ones end with `!`. A dictionary
# describes an object, a list the form of each element; None allows anything.
KEDA_TRIGGER = {
    "type!": "rabbitmq",
    "metadata!": {
        "protocol": {"http", "amqp", "auto"}, "mode!": {"QueueLength", "MessageRate"},
        "queueName!": str, "value!": re.compile(r"^\d+$"), "activationValue": re.compile(r"^\d+$"), "vhostName": str,
        "useRegex": {"true", "false"}, "operation": {"sum", "max", "avg"}, "excludeUnacknowledged": {"true", "false"},
        "unsafeSsl": {"true", "false"}, "timeout": str, "hostFromEnv": str,
    },
    "authenticationRef": {"name!": str, "kind": str}, "name": str, "metricType": str, "useCachedMetrics": bool,
}
CUSTOM = {
    "keda.sh/v1alpha1/ScaledObject": {
        "scaleTargetRef!": {"name!": str, "apiVersion": str, "kind": str, "envSourceContainerName": str},
        "pollingInterval": int, "cooldownPeriod": int, "initialCooldownPeriod": int, "idleReplicaCount": int,
        "minReplicaCount": int, "maxReplicaCount": int,
        "fallback": {"failureThreshold!": int, "replicas!": int,
                     "behavior": {"static", "currentReplicas", "currentReplicasIfHigher", "currentReplicasIfLower"}},
        "advanced": {"restoreToOriginalReplicaCount": bool, "horizontalPodAutoscalerConfig": {"name": str, "behavior": None},
                     "scalingModifiers": None},
        "triggers!": [KEDA_TRIGGER],
    },
    "keda.sh/v1alpha1/TriggerAuthentication": {
        "secretTargetRef": [{"parameter!": {"host", "username", "password", "vhostName", "tls", "ca", "cert", "key"},
                             "name!": str, "key!": str}],
        "env": None, "podIdentity": None,
    },
    "monitoring.coreos.com/v1/PrometheusRule": {
        "groups!": [{"name!": str, "rules!": [{"alert!": str, "expr!": str, "for": str, "labels!": {"severity!": {"page", "ticket"}},
                                               "annotations!": {"summary!": str, "runbook_url!": str}}]}],
    },
    "monitoring.coreos.com/v1/PodMonitor": {
        "selector!": {"matchLabels": None, "matchExpressions": None}, "namespaceSelector": None, "jobLabel": str,
        "podMetricsEndpoints!": [{"port": str, "path": str, "interval": str, "scheme": str, "scrapeTimeout": str, "relabelings": None}],
    },
}


class Findings:
    """Errors, and the number of checks."""

    def __init__(self, name):
        self.name, self.wrong, self.seen = name, [], 0

    def need(self, condition, document, message):
        self.seen += 1
        if not condition:
            self.wrong.append(f"{title(document)}: {message}")


def title(document):
    return f"{document['kind']} {document['metadata']['name']}"


def fits(form, value, path):
    """Lists why a value does not have a form."""
    if form is None:
        return []
    if isinstance(form, list):
        if not isinstance(value, list) or not value:
            return [f"{path} is not a non-empty list"]
        return [why for number, item in enumerate(value) for why in fits(form[0], item, f"{path}[{number}]")]
    if isinstance(form, dict):
        if not isinstance(value, dict):
            return [f"{path} is not an object"]
        known = {name.rstrip("!"): inner for name, inner in form.items()}
        why = [f"{path}.{name} is unknown" for name in value if name not in known]
        why += [f"{path}.{name[:-1]} is missing" for name in form if name.endswith("!") and name[:-1] not in value]
        return why + [w for name, inner in known.items() if name in value for w in fits(inner, value[name], f"{path}.{name}")]
    if isinstance(form, set):
        return [] if value in form else [f"{path} is {value!r}, not one of {sorted(form)}"]
    if isinstance(form, re.Pattern):
        return [] if isinstance(value, str) and form.match(value) else [f"{path} is {value!r}, which does not match {form.pattern}"]
    if isinstance(form, str):
        return [] if value == form else [f"{path} is {value!r}, not {form!r}"]
    return [] if type(value) is form else [f"{path} is {value!r}, not of type {form.__name__}"]


def schemas(documents, versions, findings):
    newest = kubernetes_validate.latest_version()
    for document in documents:
        kind = f"{document['apiVersion']}/{document['kind']}"
        if kind in CUSTOM:
            unknown = fits(CUSTOM[kind], document["spec"], "spec")
            findings.need(not unknown, document, "; ".join(unknown))
            behavior = document["spec"].get("advanced", {}).get("horizontalPodAutoscalerConfig", {}).get("behavior")
            if behavior:  # Passed to an autoscaler unchanged, so it must fit its schema.
                autoscaler = {"apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler", "metadata": {"name": "x"},
                              "spec": {"scaleTargetRef": {"kind": "Deployment", "name": "x"}, "maxReplicas": 1, "behavior": behavior}}
                validate(autoscaler, newest, document, findings)
            continue
        for version in versions:
            validate(document, newest if version == "newest" else version, document, findings)


def validate(resource, version, document, findings):
    try:
        kubernetes_validate.validate(resource, version, strict=True)
        findings.need(True, document, "")
    except Exception as error:  # Any exception means that this version rejects the document.
        findings.need(False, document, f"for {version}: {error}".splitlines()[0])


def template(document):
    """Returns the pod template of a workload."""
    spec = document["spec"]
    return spec["jobTemplate"]["spec"]["template"] if document["kind"] == "CronJob" else spec["template"]


def selects(selector, labels):
    return all(labels.get(name) == value for name, value in selector.get("matchLabels", {}).items())


def seconds(duration):
    number, unit = re.fullmatch(r"(\d+)(ms|s|m|h)", duration).groups()
    return int(number) * {"ms": 0.001, "s": 1, "m": 60, "h": 3600}[unit]


def references(documents, guide, findings):
    """Checks that every reference exists, and that the guide names every secret."""
    names = {}
    for document in documents:
        names.setdefault(document["kind"], {})[document["metadata"]["name"]] = document
    workloads = [document for document in documents if document["kind"] in WORKLOADS]
    pods = [template(document)["metadata"]["labels"] for document in workloads]
    for document in workloads:
        pod = template(document)
        spec, labels = pod["spec"], pod["metadata"]["labels"]
        findings.need(spec["serviceAccountName"] in names["ServiceAccount"], document, "its service account is missing")
        if document["kind"] == "Deployment":
            findings.need(selects(document["spec"]["selector"], labels), document, "its selector does not select its own pods")
            budget = [b for b in names.get("PodDisruptionBudget", {}).values() if selects(b["spec"]["selector"], labels)]
            findings.need(len(budget) == 1, document, f"{len(budget)} disruption budgets select its pods, not one")
            for constraint in spec["topologySpreadConstraints"]:
                findings.need(selects(constraint["labelSelector"], labels), document, "its spread constraint does not select its own pods")
        for rule in document["spec"].get("jobTemplate", document)["spec"].get("podFailurePolicy", {}).get("rules", []):
            container = rule.get("onExitCodes", {}).get("containerName", spec["containers"][0]["name"])
            findings.need(container in [c["name"] for c in spec["containers"]], document, f"it has no container {container}")
        volumes = {volume["name"]: volume for volume in spec.get("volumes", [])}
        for volume in volumes.values():
            secret = volume["secret"]["secretName"]
            findings.need(f"`{secret.removeprefix('fraud-')}`" in guide, document, f"the guide does not name the secret {secret}")
        for container in spec["containers"]:
            ports = {port["name"] for port in container.get("ports", [])}
            for mount in container.get("volumeMounts", []):
                findings.need(mount["name"] in volumes, document, f"volume {mount['name']} is missing")
            for source in container.get("envFrom", []):
                findings.need(source["configMapRef"]["name"] in names["ConfigMap"], document, "its ConfigMap is missing")
            for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
                if document["kind"] == "Deployment":
                    findings.need(container.get(probe, {}).get("httpGet", {}).get("port") in ports, document, f"no port for its {probe}")
            for variable in container.get("env", []):
                findings.need("value" in variable or "valueFrom" in variable, document, f"{variable['name']} has no value")
                if variable["name"].endswith("_FILE"):
                    key = variable["value"].rsplit("/", 1)[1]
                    mounted = [m["mountPath"] for m in container["volumeMounts"]]
                    findings.need(variable["value"].rsplit("/", 1)[0] in mounted, document, f"{variable['name']} is not mounted")
                    findings.need(f"`{key}`" in guide, document, f"the guide does not name the key {key}")
    for document in documents:
        spec = document.get("spec", {})
        if document["kind"] in ("Service", "NetworkPolicy", "PodDisruptionBudget", "PodMonitor"):
            selector = {"Service": lambda: {"matchLabels": spec["selector"]}, "NetworkPolicy": lambda: spec["podSelector"]}.get(
                document["kind"], lambda: spec["selector"])()
            findings.need(any(selects(selector, labels) for labels in pods), document, "it selects no pod")
        if document["kind"] == "Service":
            ports = {p["name"] for d in workloads if selects({"matchLabels": spec["selector"]}, template(d)["metadata"]["labels"])
                     for c in template(d)["spec"]["containers"] for p in c["ports"]}
            findings.need(all(port["targetPort"] in ports for port in spec["ports"]), document, "its pods have no such port")
        if document["kind"] == "ScaledObject":
            target = names["Deployment"].get(spec["scaleTargetRef"]["name"])
            findings.need(target is not None, document, "its deployment is missing")
            findings.need("replicas" not in target["spec"], document, "its deployment sets replicas, which each apply would reset")
            findings.need(spec["minReplicaCount"] <= spec["maxReplicaCount"], document, "minReplicaCount exceeds maxReplicaCount")
            for trigger in spec["triggers"]:
                findings.need(trigger["authenticationRef"]["name"] in names["TriggerAuthentication"], document, "its authentication is missing")
                metadata = trigger["metadata"]
                findings.need(metadata["protocol"] == "http" and metadata.get("excludeUnacknowledged") != "true", document,
                              "it does not count unacknowledged messages")
                findings.need(re.fullmatch(r"(transactions|predictions)\.(batch|realtime)", metadata["queueName"]), document, "no such queue")
        if document["kind"] == "TriggerAuthentication":
            for reference in spec["secretTargetRef"]:
                findings.need(f"`{reference['name']}`" in guide and f"`{reference['key']}`" in guide, document, "the guide does not name its secret")


def restrictions(documents, findings):
    """Checks the pod security standard `restricted`, and the time to drain."""
    settings = next(document["data"] for document in documents if document["kind"] == "ConfigMap")
    drain = seconds(settings["DRAIN_TIMEOUT"])
    for document in documents:
        findings.need(document["kind"] != "Secret", document, "secrets must not be committed")
        if document["kind"] == "ServiceAccount":
            findings.need(document.get("automountServiceAccountToken") is False, document, "its token is mounted")
        if document["kind"] not in WORKLOADS:
            continue
        spec = template(document)["spec"]
        pod = spec["securityContext"]
        findings.need(spec.get("automountServiceAccountToken") is False, document, "its pods mount a token")
        findings.need(pod["runAsNonRoot"] is True and pod["runAsUser"] > 0, document, "it may run as root")
        findings.need(pod["seccompProfile"]["type"] == "RuntimeDefault", document, "no seccomp profile")
        findings.need(not {"hostNetwork", "hostPID", "hostIPC"} & set(spec), document, "it uses the host's namespaces")
        if document["kind"] != "Job":
            grace = spec["terminationGracePeriodSeconds"]
            findings.need(grace >= drain + 10, document, f"the grace period is {grace} s, and DRAIN_TIMEOUT is {drain} s")
        for container in spec["containers"]:
            context = container["securityContext"]
            findings.need(context["allowPrivilegeEscalation"] is False, document, "it may gain privileges")
            findings.need(context["readOnlyRootFilesystem"] is True, document, "its root file system is writable")
            findings.need(context["capabilities"] == {"drop": ["ALL"]}, document, "it has capabilities")
            resources = container["resources"]
            findings.need("memory" in resources["limits"] and {"cpu", "memory"} <= set(resources["requests"]), document, "requests or limits are missing")
    denied = [document for document in documents if document["kind"] == "NetworkPolicy" and
              set(document["spec"]["policyTypes"]) == {"Ingress", "Egress"} and not {"ingress", "egress"} & set(document["spec"])]
    for document in documents:
        if document["kind"] in WORKLOADS:
            labels = template(document)["metadata"]["labels"]
            findings.need(any(selects(policy["spec"]["podSelector"], labels) for policy in denied), document, "no policy denies traffic by default")


def main():
    name, rendered, guide, *versions = sys.argv[1:]
    with open(rendered, encoding="utf-8") as file:
        documents = [document for document in yaml.safe_load_all(file) if document]
    with open(guide, encoding="utf-8") as file:
        guide = file.read()
    findings = Findings(name)
    schemas(documents, versions, findings)
    references(documents, guide, findings)
    restrictions(documents, findings)
    for wrong in findings.wrong:
        print(f"{name}: {wrong}", file=sys.stderr)
    kinds = len({document["kind"] for document in documents})
    print(f"{name}: {len(documents)} documents of {kinds} kinds, {findings.seen} checks, {len(findings.wrong)} failed")
    sys.exit(1 if findings.wrong else 0)


main()
