{{/*
A stage that runs until it is stopped: service account, deployment and disruption budget. Arguments: those of "assay.pod", and
  strategy        of the deployment; the default of Kubernetes, if it is empty
  maxUnavailable  pods that may be evicted at the same time
*/}}
{{- define "assay.stage" -}}
{{- $metrics := dict "port" "metrics" "live" "/health/live" "ready" "/health/ready" -}}
{{ include "assay.serviceAccount" .component }}
---
apiVersion: apps/v1
kind: Deployment
metadata:
  name: assay-{{ .component }}
  labels:
    {{- include "assay.selector" .component | nindent 4 }}
    {{- include "assay.part" . | nindent 4 }}
spec:
  {{- if not (kindIs "invalid" .part.replicas) }}
  replicas: {{ .part.replicas }}
  {{- end }}
  revisionHistoryLimit: 5
  selector:
    matchLabels:
      {{- include "assay.selector" .component | nindent 6 }}
  {{- with .strategy }}
  strategy:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  template:
    {{- include "assay.pod" (merge (dict "probed" (.probed | default $metrics) "grace" .root.Values.terminationGracePeriodSeconds) .) | nindent 4 }}
---
{{ include "assay.disruptionBudget" . }}
{{- end }}
