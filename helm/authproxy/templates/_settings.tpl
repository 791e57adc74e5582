{{/* From values to the environment. files/values.json has the settings as they are declared. */}}

{{/* A value as text, whether it came from YAML or from --set. */}}
{{- define "authproxy.text" -}}
{{- if kindIs "invalid" . }}
{{- else if kindIs "slice" . }}
{{- join "," . }}
{{- else if kindIs "map" . }}
{{- if . }}{{ toJson . }}{{ end }}
{{- else if and (kindIs "float64" .) (eq . (floor .)) }}
{{- printf "%.0f" . }}
{{- else }}
{{- toString . | trim }}
{{- end }}
{{- end }}

{{/* The settings that are given, as a JSON object by variable. Secrets are not among them. */}}
{{- define "authproxy.settings" -}}
{{- $given := dict }}
{{- range (.Files.Get "files/values.json" | fromJson).settings }}
{{- $text := include "authproxy.text" (get $.Values .value) }}
{{- if and .presence (has (lower $text) (list "false" "0" "no" "off" "f" "n")) }}
{{- $text = "" }}
{{- end }}
{{- if and $text (not .secret) }}
{{- $_ := set $given .variable $text }}
{{- end }}
{{- end }}
{{- if .Values.listeningSocket }}
{{- $given = omit $given "LISTENING_PORT" }}
{{- end }}
{{- toJson (merge $given (include "authproxy.mountedSettings" . | fromJson)) }}
{{- end }}

{{/* The settings that name a mounted file, as a JSON object by variable. */}}
{{- define "authproxy.mountedSettings" -}}
{{- $paths := dict }}
{{- range (include "authproxy.secretFiles" (list . .Values "") | fromJson).every }}
{{- if .secret }}
{{- $paths = merge $paths .settings }}
{{- end }}
{{- end }}
{{- with .Values.keyVault }}
{{- if and .enabled .certificate }}
{{- $_ := set $paths "AAD_CLIENT_CERTIFICATE_PATH" (printf "/etc/authproxy/key-vault/%s" .certificate) }}
{{- end }}
{{- end }}
{{- toJson $paths }}
{{- end }}

{{/*
The Secrets with files that the values, or a route, name: each with its place below /etc/authproxy,
its keys, and the settings with the files' paths, which are empty where no Secret is named.
*/}}
{{- define "authproxy.secretFiles" -}}
{{- $values := index . 1 }}
{{- $place := index . 2 }}
{{- $found := list }}
{{- range ((index . 0).Files.Get "files/values.json" | fromJson).mounts }}
{{- if hasKey $values .value }}
{{- $source := get $values .value | default dict }}
{{- $folder := printf "%s%s" $place .folder }}
{{- $settings := dict }}
{{- $files := list }}
{{- range .files }}
{{- $key := get $source .key | default .default }}
{{- if not $source.existingSecret }}
{{- $_ := set $settings .variable "" }}
{{- else if $key }}
{{- $_ := set $settings .variable (printf "/etc/authproxy/%s/%s" $folder $key) }}
{{- $files = append $files $key }}
{{- else if $place }}
{{- /* A certificate of the route's own has no password of another one. */}}
{{- $_ := set $settings .variable "" }}
{{- end }}
{{- end }}
{{- $found = append $found (dict "folder" $folder "secret" $source.existingSecret "keys" $files "settings" $settings) }}
{{- end }}
{{- end }}
{{- toJson (dict "every" $found) }}
{{- end }}

{{/* All of them that are to be mounted, those of the routes too. */}}
{{- define "authproxy.mountedSecrets" -}}
{{- $every := (include "authproxy.secretFiles" (list . .Values "") | fromJson).every }}
{{- range $number, $route := .Values.routes }}
{{- $every = concat $every (include "authproxy.secretFiles" (list $ $route (printf "routes/%d/" $number)) | fromJson).every }}
{{- end }}
{{- $mounted := list }}
{{- range $every }}
{{- if .secret }}
{{- $mounted = append $mounted . }}
{{- end }}
{{- end }}
{{- toJson (dict "every" $mounted) }}
{{- end }}

{{/* OVERRIDE_REQUEST_HEADERS where the values have it: the content of a Secret. */}}
{{- define "authproxy.headers" -}}
{{- $text := include "authproxy.text" .Values.overrideRequestHeaders }}
{{- if not (has $text (list "" "{}")) }}{{ $text }}{{ end }}
{{- end }}

{{/* The container's env: what else is asked for first, so that settings can refer to it. */}}
{{- define "authproxy.env" -}}
{{- with .Values.extraEnv }}
{{- toYaml . }}
{{- end }}
{{- range $variable, $text := include "authproxy.settings" . | fromJson }}
- name: {{ $variable }}
  value: {{ quote $text }}
{{- end }}
{{- if .Values.routes }}
- name: AUTHPROXY_CONFIG
  value: /etc/authproxy/settings/authproxy.yaml
{{- end }}
{{- with .Values.overrideRequestHeadersSecret }}
{{- if or .name (include "authproxy.headers" $) }}
- name: OVERRIDE_REQUEST_HEADERS
  valueFrom:
    secretKeyRef:
      name: {{ .name | default (include "authproxy.fullname" $) }}
      key: {{ .key }}
{{- end }}
{{- end }}
{{- end }}

{{- define "authproxy.volumes" -}}
- name: tmp
  emptyDir:
    sizeLimit: {{ include "authproxy.tmpSize" . }}
{{- range (include "authproxy.mountedSecrets" . | fromJson).every }}
- name: {{ .folder | replace "/" "-" }}
  secret:
    secretName: {{ .secret }}
    # For the group alone, which is fsGroup.
    defaultMode: 0440
    items:
      {{- range .keys }}
      - key: {{ . }}
        path: {{ . }}
      {{- end }}
{{- end }}
{{- if .Values.routes }}
- name: routes
  {{- if eq (include "authproxy.routesKind" .) "Secret" }}
  secret:
    secretName: {{ include "authproxy.named" (list . "routes") }}
    defaultMode: 0440
    items:
      - key: authproxy.yaml
        path: authproxy.yaml
  {{- else }}
  configMap:
    name: {{ include "authproxy.named" (list . "routes") }}
  {{- end }}
{{- end }}
{{- with .Values.keyVault }}
{{- if .enabled }}
- name: key-vault
  csi:
    driver: secrets-store.csi.k8s.io
    readOnly: true
    volumeAttributes:
      secretProviderClass: {{ .secretProviderClass | default (include "authproxy.fullname" $) }}
{{- end }}
{{- end }}
{{- with .Values.extraVolumes }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{/* Whole directories, so that what is replaced in a Secret reaches the process. */}}
{{- define "authproxy.volumeMounts" -}}
- name: tmp
  mountPath: /tmp
{{- range (include "authproxy.mountedSecrets" . | fromJson).every }}
- name: {{ .folder | replace "/" "-" }}
  mountPath: /etc/authproxy/{{ .folder }}
  readOnly: true
{{- end }}
{{- if .Values.keyVault.enabled }}
- name: key-vault
  mountPath: /etc/authproxy/key-vault
  readOnly: true
{{- end }}
{{- if .Values.routes }}
- name: routes
  mountPath: /etc/authproxy/settings
  readOnly: true
{{- end }}
{{- with .Values.extraVolumeMounts }}
{{ toYaml . }}
{{- end }}
{{- end }}
