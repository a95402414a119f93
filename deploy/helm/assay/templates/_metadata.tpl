{{/* Labels that select the pods of a part. Argument: its name. */}}
{{- define "assay.selector" -}}
app.kubernetes.io/name: assay
app.kubernetes.io/component: {{ . }}
{{- end }}

{{/* Labels of every object. */}}
{{- define "assay.part" -}}
app.kubernetes.io/part-of: assay
{{- end }}

{{/* Its service account. Argument: the name of a part. */}}
{{- define "assay.serviceAccount" -}}
apiVersion: v1
kind: ServiceAccount
metadata:
  name: assay-{{ . }}
  labels:
    {{- include "assay.part" . | nindent 4 }}
automountServiceAccountToken: false
{{- end }}

{{/* Its disruption budget. Arguments: component, maxUnavailable. */}}
{{- define "assay.disruptionBudget" -}}
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata:
  name: assay-{{ .component }}
  labels:
    {{- include "assay.part" . | nindent 4 }}
spec:
  maxUnavailable: {{ .maxUnavailable }}
  selector:
    matchLabels:
      {{- include "assay.selector" .component | nindent 6 }}
{{- end }}
