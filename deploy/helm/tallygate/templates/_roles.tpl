{{/* Names and labels. Each takes a dict: root (the chart's context), role (gateway, console or ledger), values (of the role). */}}
{{- define "tallygate.name" -}}
{{ .root.Release.Name }}-{{ .role }}
{{- end }}

{{- define "tallygate.selector" -}}
app.kubernetes.io/name: tallygate
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .role }}
{{- end }}

{{- define "tallygate.labels" -}}
{{ include "tallygate.selector" . }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ .root.Chart.Name }}-{{ .root.Chart.Version }}
{{- end }}

{{/* The files of the Secret that a role reads: setting by key. */}}
{{- define "tallygate.secrets" -}}
redis_url: REDIS_URL
database_url: DATABASE_URL
metrics_token: METRICS_TOKEN
{{- if eq .role "console" }}
admin_token: ADMIN_TOKEN
{{- if .values.readReplica }}
database_read_url: DATABASE_READ_URL
{{- end }}
{{- end }}
{{- if and (eq .role "gateway") .values.upstreamUrl }}
upstream_api_key: UPSTREAM_API_KEY
{{- end }}
{{- end }}

{{/* The pod of a role: what it runs as, its settings and secrets, its probes. */}}
{{- define "tallygate.pod" -}}
{{- $root := .root }}
{{- $values := .values }}
{{- $secrets := include "tallygate.secrets" . | fromYaml }}
metadata:
  labels: {{- include "tallygate.labels" . | nindent 4 }}
  {{- with $values.annotations }}
  annotations: {{- toYaml . | nindent 4 }}
  {{- end }}
spec:
  automountServiceAccountToken: false
  {{- with $root.Values.imagePullSecrets }}
  imagePullSecrets: {{- toYaml . | nindent 4 }}
  {{- end }}
  securityContext:
    runAsNonRoot: true
    runAsUser: 10001
    runAsGroup: 10001
    fsGroup: 10001
    seccompProfile: {type: RuntimeDefault}
  terminationGracePeriodSeconds: {{ $values.terminationGracePeriodSeconds | default 30 }}
  {{- with $values.nodeSelector }}
  nodeSelector: {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with $values.tolerations }}
  tolerations: {{- toYaml . | nindent 4 }}
  {{- end }}
  topologySpreadConstraints:
    - maxSkew: 1
      topologyKey: kubernetes.io/hostname
      whenUnsatisfiable: ScheduleAnyway
      labelSelector:
        matchLabels: {{- include "tallygate.selector" . | nindent 10 }}
  containers:
    - name: {{ .role }}
      image: "{{ $root.Values.image.repository }}:{{ $root.Values.image.tag | default $root.Chart.AppVersion }}"
      imagePullPolicy: {{ $root.Values.image.pullPolicy }}
      args: [{{ .role }}]
      env:
        {{- range $key, $setting := $secrets }}
        - {name: TALLYGATE_{{ $setting }}_FILE, value: /secrets/{{ $key }}}
        {{- end }}
        {{- if $root.Values.config }}
        - {name: TALLYGATE_CONFIG_DIR, value: /config}
        {{- end }}
        {{- if and (eq .role "gateway") $values.upstreamUrl }}
        - {name: TALLYGATE_UPSTREAM_URL, value: {{ $values.upstreamUrl | quote }}}
        {{- end }}
        {{- if and (has .role (list "console" "ledger")) $root.Values.console.url }}
        - {name: TALLYGATE_CONSOLE_URL, value: {{ $root.Values.console.url | quote }}}
        {{- end }}
        {{- range $name, $value := merge (dict) ($values.settings | default dict) ($root.Values.settings | default dict) }}
        - {name: TALLYGATE_{{ $name }}, value: {{ $value | toString | quote }}}
        {{- end }}
      {{- with $values.envFrom }}
      envFrom: {{- toYaml . | nindent 8 }}
      {{- end }}
      ports:
        {{- if eq .role "gateway" }}
        - {name: http, containerPort: 8080}
        {{- end }}
        - {name: status, containerPort: 9090}
      # A start waits for the store and the database, and a new ledger for its migrations.
      startupProbe: {httpGet: {path: /healthz, port: status}, periodSeconds: 2, failureThreshold: 150}
      livenessProbe: {httpGet: {path: /healthz, port: status}, periodSeconds: 10, timeoutSeconds: 5, failureThreshold: 3}
      readinessProbe: {httpGet: {path: /readyz, port: status}, periodSeconds: 2, timeoutSeconds: 5, failureThreshold: 2}
      resources: {{- toYaml $values.resources | nindent 8 }}
      securityContext:
        allowPrivilegeEscalation: false
        readOnlyRootFilesystem: true
        capabilities: {drop: [ALL]}
      volumeMounts:
        - {name: data, mountPath: /data}
        - {name: tmp, mountPath: /tmp}
        - {name: secrets, mountPath: /secrets, readOnly: true}
        {{- if $root.Values.config }}
        - {name: config, mountPath: /config, readOnly: true}
        {{- end }}
  volumes:
    {{- if ne .role "gateway" }}
    - {name: data, emptyDir: {}}
    {{- end }}
    - {name: tmp, emptyDir: {medium: Memory, sizeLimit: 64Mi}}
    - name: secrets
      secret:
        secretName: {{ $root.Values.secretName }}
        defaultMode: 0440
        items:
          {{- range $key, $_ := $secrets }}
          - {key: {{ $key }}, path: {{ $key }}}
          {{- end }}
    {{- if $root.Values.config }}
    - name: config
      configMap: {name: {{ $root.Release.Name }}-config}
    {{- end }}
{{- end }}
