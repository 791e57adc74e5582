{{/* Names, labels, and what several manifests need to know. */}}

{{- define "authproxy.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" }}
{{- end }}

{{- define "authproxy.fullname" -}}
{{- $name := include "authproxy.name" . }}
{{- $full := ternary .Release.Name (printf "%s-%s" .Release.Name $name) (contains $name .Release.Name) }}
{{- default $full .Values.fullnameOverride | trunc 63 | trimSuffix "-" }}
{{- end }}

{{/* The full name with a suffix, still short enough for a name. */}}
{{- define "authproxy.named" -}}
{{- $suffix := index . 1 }}
{{- printf "%s-%s" (include "authproxy.fullname" (index . 0) | trunc (sub 62 (len $suffix) | int) | trimSuffix "-") $suffix }}
{{- end }}

{{/* A Deployment's selector cannot change: these are the labels of the retired chart, too. */}}
{{- define "authproxy.selectorLabels" -}}
app.kubernetes.io/name: {{ include "authproxy.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "authproxy.chart" -}}
{{- printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
{{- end }}

{{- define "authproxy.labels" -}}
helm.sh/chart: {{ include "authproxy.chart" . }}
{{ include "authproxy.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end }}

{{/* What is no part of the service: the pod of `helm test`, the metrics service. */}}
{{- define "authproxy.sideSelector" -}}
{{- $root := index . 0 }}
app.kubernetes.io/name: {{ include "authproxy.name" $root | trunc 55 }}-{{ index . 1 }}
app.kubernetes.io/instance: {{ $root.Release.Name }}
{{- end }}

{{- define "authproxy.sideLabels" -}}
{{- $root := index . 0 }}
helm.sh/chart: {{ include "authproxy.chart" $root }}
{{ include "authproxy.sideSelector" . | trim }}
app.kubernetes.io/managed-by: {{ $root.Release.Service }}
{{- end }}

{{- define "authproxy.image" -}}
{{- with .Values.image }}
{{- if .digest }}
{{- printf "%s@%s" .repository .digest }}
{{- else }}
{{- printf "%s:%s" .repository (default $.Chart.AppVersion .tag) }}
{{- end }}
{{- end }}
{{- end }}

{{- define "authproxy.serviceAccountName" -}}
{{- if .Values.serviceAccount.create }}
{{- default (include "authproxy.fullname" .) .Values.serviceAccount.name }}
{{- else }}
{{- default "default" .Values.serviceAccount.name }}
{{- end }}
{{- end }}

{{/* "true" where the pods bear the label of workload identity, else empty. */}}
{{- define "authproxy.usesWorkloadIdentity" -}}
{{- $asked := .Values.addWorkloadIdentityLabel | toString | lower }}
{{- if or (has $asked (list "true" "azure")) (and (ne $asked "false") (include "authproxy.hasIdentity" (list . (list "workloadidentity")))) -}}
true
{{- end }}
{{- end }}

{{/* "true" where it listens on a port, else empty. */}}
{{- define "authproxy.hasPort" -}}
{{- if not .Values.listeningSocket }}true{{ end }}
{{- end }}

{{/* "HTTPS" where clients are shown a certificate, else "HTTP". */}}
{{- define "authproxy.scheme" -}}
{{- if hasKey (include "authproxy.settings" . | fromJson) "LISTENING_TLS_CERTIFICATE_FILE" }}HTTPS{{ else }}HTTP{{ end }}
{{- end }}

{{/* A probe: what the values say, and a request for the path unless they have a handler. */}}
{{- define "authproxy.probe" -}}
{{- $root := index . 0 }}
{{- $probe := index . 1 }}
{{- $path := index . 2 }}
{{- if not (or $probe.httpGet $probe.exec $probe.tcpSocket $probe.grpc) }}
{{- if include "authproxy.hasPort" $root }}
{{- $handler := dict "path" $path "port" "http" }}
{{- if eq (include "authproxy.scheme" $root) "HTTPS" }}
{{- $_ := set $handler "scheme" "HTTPS" }}
{{- end }}
{{- $probe = merge (dict "httpGet" $handler) $probe }}
{{- else }}
{{- $probe = merge (dict "exec" (dict "command" (list "healthcheck" $path))) $probe }}
{{- end }}
{{- end }}
{{- toYaml $probe }}
{{- end }}

{{/* The label of pods in the release's namespace that may connect. */}}
{{- define "authproxy.clientLabel" -}}
{{- include "authproxy.named" (list . "client") }}
{{- end }}

{{/* Seconds that a pod may take to end: all that it does then, and five more. */}}
{{- define "authproxy.secondsToEnd" -}}
{{- $settings := include "authproxy.settings" . | fromJson }}
{{- $seconds := .Values.preStopSeconds | toString | float64 }}
{{- range (.Files.Get "files/values.json" | fromJson).settings }}
{{- if has .variable (list "SHUTDOWN_DELAY_SECONDS" "SHUTDOWN_GRACE_SECONDS") }}
{{- $seconds = addf $seconds (get $settings .variable | default .default | float64) }}
{{- end }}
{{- end }}
{{- ceil $seconds | int }}
{{- end }}

{{/* Over zones and nodes as far as possible; each rollout is spread by itself. */}}
{{- define "authproxy.topologySpread" -}}
{{- $selector := dict "matchLabels" (include "authproxy.selectorLabels" . | fromYaml) }}
{{- $constraints := .Values.topologySpread.constraints }}
{{- if not $constraints }}
{{- range list "topology.kubernetes.io/zone" "kubernetes.io/hostname" }}
{{- $constraint := dict "topologyKey" . "maxSkew" 1 "whenUnsatisfiable" "ScheduleAnyway" }}
{{- $_ := set $constraint "matchLabelKeys" (list "pod-template-hash") }}
{{- $constraints = append $constraints $constraint }}
{{- end }}
{{- end }}
{{- range $constraints }}
- {{ toYaml (merge (dict) . (dict "labelSelector" $selector)) | nindent 2 | trim }}
{{- end }}
{{- end }}
