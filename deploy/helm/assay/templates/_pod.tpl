{{/*
The pod of a part, as `template:` of its workload has it. Arguments:
  root           the chart
  component      name of the part, and of its container
  part           its values; its `env` takes the place of what has the same name
  command        of the container
  uses           services that it connects to: broker, database, s3, ml-api
  secrets        setting → key of the part's Secret
  plain          further environment variables: name → value
  ports          name → port
  probed         path of its probes, by the name of their port; none for jobs
  grace          seconds from SIGTERM to SIGKILL
*/}}
{{- define "assay.pod" -}}
{{- $given := dict -}}
{{- range .part.env }}{{ $_ := set $given .name true }}{{ end -}}
metadata:
  labels:
    {{- include "assay.selector" .component | nindent 4 }}
    {{- include "assay.part" .root | nindent 4 }}
    {{- range .uses }}
    assay/uses-{{ . }}: "true"
    {{- end }}
  annotations:
    checksum/config: {{ .root.Values.config | toYaml | sha256sum }}
spec:
  serviceAccountName: assay-{{ .component }}
  automountServiceAccountToken: false
  enableServiceLinks: false
  {{- if not .probed }}
  restartPolicy: Never
  {{- end }}
  terminationGracePeriodSeconds: {{ .grace }}
  {{- with .root.Values.image.pullSecrets }}
  imagePullSecrets:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  securityContext:
    runAsNonRoot: true
    runAsUser: 65532
    runAsGroup: 65532
    fsGroup: 65532
    seccompProfile:
      type: RuntimeDefault
  {{- if .probed }}
  topologySpreadConstraints:
    {{- range tuple "topology.kubernetes.io/zone" "kubernetes.io/hostname" }}
    - maxSkew: 1
      topologyKey: {{ . }}
      whenUnsatisfiable: ScheduleAnyway
      labelSelector:
        matchLabels:
          {{- include "assay.selector" $.component | nindent 10 }}
    {{- end }}
  {{- end }}
  containers:
    - name: {{ .component }}
      image: {{ printf "%s:%s" .root.Values.image.repository (.root.Values.image.tag | default .root.Chart.AppVersion) | quote }}
      command: {{ toJson .command }}
      envFrom:
        - configMapRef: {name: assay}
      env:
        {{- range $setting, $key := .secrets }}
        {{- if not (hasKey $given $setting) }}
        - {name: {{ $setting }}, value: /run/secrets/assay/{{ $key }}}
        {{- end }}
        {{- end }}
        {{- range $name, $value := .plain }}
        {{- if not (hasKey $given $name) }}
        - {name: {{ $name }}, value: {{ $value | quote }}}
        {{- end }}
        {{- end }}
        {{- with .part.env }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
      {{- with .ports }}
      ports:
        {{- range $name, $port := . }}
        - {name: {{ $name }}, containerPort: {{ $port }}}
        {{- end }}
      {{- end }}
      {{- with .probed }}
      # The program exits by itself if a dependency is unreachable at the start (STARTUP_TIMEOUT, 30 s).
      startupProbe:
        httpGet: {path: {{ .live }}, port: {{ .port }}}
        periodSeconds: 2
        failureThreshold: 30
      livenessProbe:
        httpGet: {path: {{ .live }}, port: {{ .port }}}
        periodSeconds: 10
        failureThreshold: 6
      readinessProbe:
        httpGet: {path: {{ .ready }}, port: {{ .port }}}
        periodSeconds: 5
        failureThreshold: 2
      {{- end }}
      resources:
        {{- toYaml .part.resources | nindent 8 }}
      securityContext:
        allowPrivilegeEscalation: false
        readOnlyRootFilesystem: true
        capabilities:
          drop: [ALL]
      {{- if .secrets }}
      volumeMounts:
        - {name: secrets, mountPath: /run/secrets/assay, readOnly: true}
      {{- end }}
  {{- if .secrets }}
  volumes:
    - name: secrets
      secret:
        secretName: {{ .part.secret }}
        defaultMode: 0440
  {{- end }}
{{- end }}
