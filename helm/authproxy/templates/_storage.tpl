{{/* What a pod may take of memory and disk, from `workers` and `maxBufferedBytes`. */}}

{{/* What is in force for a setting that has a number: what is given, its default, or else the one here. */}}
{{- define "authproxy.number" -}}
{{- $variable := index . 1 }}
{{- $number := index . 2 }}
{{- range ((index . 0).Files.Get "files/values.json" | fromJson).settings }}
{{- if and (eq .variable $variable) .default }}
{{- $number = .default }}
{{- end }}
{{- end }}
{{- $given := get (include "authproxy.given" (index . 0) | fromJson) $variable }}
{{- regexMatch "^[0-9]+$" ($given | toString) | ternary $given $number }}
{{- end }}

{{/*
Bytes that bodies and waiting responses may take in all workers together. Where it is not said, each keeps one
body and 192 MiB.
*/}}
{{- define "authproxy.bufferedBytes" -}}
{{- $body := include "authproxy.number" (list . "MAX_REQUEST_BODY_BYTES" "") | int64 }}
{{- $each := include "authproxy.number" (list . "MAX_BUFFERED_BYTES" (add $body 201326592 | toString)) | int64 }}
{{- mul (include "authproxy.number" (list . "WORKERS" "1") | int64) $each }}
{{- end }}

{{/* A quantity such as 512Mi in bytes; empty where it is none. */}}
{{- define "authproxy.bytes" -}}
{{- $text := include "authproxy.text" . }}
{{- $number := regexFind "^[0-9]+([.][0-9]+)?([eE][0-9]+)?" $text }}
{{- $units := dict "" 1 "m" 0.001 "k" 1e3 "M" 1e6 "G" 1e9 "T" 1e12 "P" 1e15 "E" 1e18 "Ki" 1024 "Mi" 1048576 "Gi" 1073741824 "Ti" 1099511627776 "Pi" 1125899906842624 }}
{{- $unit := trimPrefix $number $text }}
{{- if and $number (hasKey $units $unit) }}
{{- mulf ($number | float64) (get $units $unit) | ceil | int64 }}
{{- end }}
{{- end }}

{{/* Bytes as a quantity: whole Mi, rounded up. */}}
{{- define "authproxy.mebibytes" -}}
{{- printf "%dMi" (divf (. | float64) 1048576 | ceil | int64) }}
{{- end }}

{{/* The size limit of /tmp. */}}
{{- define "authproxy.tmpSize" -}}
{{- $given := include "authproxy.text" .Values.tmp.sizeLimit }}
{{- $given | default (include "authproxy.mebibytes" (mulf (include "authproxy.bufferedBytes" . | float64) 1.25)) }}
{{- end }}

{{/*
The container's resources, as JSON: those of the values, and ephemeral-storage where they say nothing of it.
Set aside is what may be buffered; the limit is /tmp and 128Mi for the log that the kubelet keeps, since the
limits of the containers bound the volumes of the pod too.
*/}}
{{- define "authproxy.resources" -}}
{{- $resources := deepCopy (.Values.resources | default dict) }}
{{- $limit := add (include "authproxy.bytes" (include "authproxy.tmpSize" .) | int64) 134217728 }}
{{- range $section, $bytes := dict "requests" (include "authproxy.bufferedBytes" . | int64) "limits" $limit }}
{{- with get $resources $section }}
{{- if not (hasKey . "ephemeral-storage") }}
{{- $_ := set . "ephemeral-storage" (include "authproxy.mebibytes" $bytes) }}
{{- end }}
{{- end }}
{{- end }}
{{- toJson $resources }}
{{- end }}

{{- define "authproxy.faults.storage" -}}
{{- $workers := include "authproxy.number" (list . "WORKERS" "1") | int64 }}
{{- $buffered := include "authproxy.bufferedBytes" . | int64 }}
{{- $ours := include "authproxy.mebibytes" $buffered }}
{{- $whose := eq $workers 1 | ternary "1 worker" (printf "%d workers" $workers) }}
{{- range $value, $quantity := dict "tmp.sizeLimit" (include "authproxy.tmpSize" .) "resources.limits.ephemeral-storage" (dig "limits" "ephemeral-storage" "" (.Values.resources | default dict)) "resources.limits.memory" (dig "limits" "memory" "" (.Values.resources | default dict)) }}
{{- $text := include "authproxy.text" $quantity }}
{{- $bytes := include "authproxy.bytes" $quantity }}
{{- if not $text }}
{{- else if not $bytes }}
{{ $value }}={{ quote $text }}: it is no quantity. Give one such as 512Mi.
{{- else if eq $value "resources.limits.memory" }}
{{- /* What one takes while it idles, what each further one adds, and the bodies that each keeps in memory. */}}
{{- $memory := add 50 (mul 45 $workers) }}
{{- if lt ($bytes | int64) (mul $memory 1048576) }}
{{ $value }}={{ quote $text }}: {{ $whose }} would be killed for want of memory. Set it to {{ $memory }}Mi or more, or lower workers.
{{- end }}
{{- else if lt ($bytes | int64) $buffered }}
{{ $value }}={{ quote $text }}: the pod would be evicted: bodies and responses that {{ $whose }} may buffer (maxBufferedBytes for each) take up to {{ $ours }}. Set it to {{ $ours }} or more, or lower maxBufferedBytes or workers.
{{- end }}
{{- end }}
{{- end }}
