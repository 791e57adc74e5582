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
{{- with .Values.clientSecret }}
{{- if .existingSecret }}
{{- $_ := set $paths "AAD_CLIENT_SECRET_FILE" (printf "/etc/authproxy/client-secret/%s" .key) }}
{{- end }}
{{- end }}
{{- with .Values.clientCertificate }}
{{- if .existingSecret }}
{{- $_ := set $paths "AAD_CLIENT_CERTIFICATE_PATH" (printf "/etc/authproxy/client-certificate/%s" .key) }}
{{- if .passwordKey }}
{{- $_ := set $paths "AAD_CLIENT_CERTIFICATE_PASSWORD_FILE" (printf "/etc/authproxy/client-certificate/%s" .passwordKey) }}
{{- end }}
{{- end }}
{{- end }}
{{- with .Values.inboundTokens }}
{{- if .existingSecret }}
{{- $_ := set $paths "INBOUND_TOKEN_FILE" (printf "/etc/authproxy/inbound-tokens/%s" .key) }}
{{- end }}
{{- end }}
{{- with .Values.keyVault }}
{{- if and .enabled .certificate }}
{{- $_ := set $paths "AAD_CLIENT_CERTIFICATE_PATH" (printf "/etc/authproxy/key-vault/%s" .certificate) }}
{{- end }}
{{- end }}
{{- toJson $paths }}
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
    sizeLimit: {{ .Values.tmp.sizeLimit }}
{{- with .Values.clientSecret }}
{{- if .existingSecret }}
{{ include "authproxy.secretVolume" (list "client-secret" .existingSecret (list .key)) }}
{{- end }}
{{- end }}
{{- with .Values.clientCertificate }}
{{- if .existingSecret }}
{{ include "authproxy.secretVolume" (list "client-certificate" .existingSecret (compact (list .key .passwordKey))) }}
{{- end }}
{{- end }}
{{- with .Values.inboundTokens }}
{{- if .existingSecret }}
{{ include "authproxy.secretVolume" (list "inbound-tokens" .existingSecret (list .key)) }}
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

{{- define "authproxy.secretVolume" -}}
- name: {{ index . 0 }}
  secret:
    secretName: {{ index . 1 }}
    # For the group alone, which is fsGroup.
    defaultMode: 0440
    items:
      {{- range index . 2 }}
      - key: {{ . }}
        path: {{ . }}
      {{- end }}
{{- end }}

{{/* Whole directories, so that what is replaced in a Secret reaches the process. */}}
{{- define "authproxy.volumeMounts" -}}
- name: tmp
  mountPath: /tmp
{{- range $name, $there := dict "client-secret" .Values.clientSecret.existingSecret "client-certificate" .Values.clientCertificate.existingSecret "inbound-tokens" .Values.inboundTokens.existingSecret "key-vault" .Values.keyVault.enabled }}
{{- if $there }}
- name: {{ $name }}
  mountPath: /etc/authproxy/{{ $name }}
  readOnly: true
{{- end }}
{{- end }}
{{- with .Values.extraVolumeMounts }}
{{ toYaml . }}
{{- end }}
{{- end }}
