{{/* Several targets: from the value `routes` to the file that AUTHPROXY_CONFIG names. */}}

{{/* What a route sets, as a JSON object by variable. Empty texts too: they take away what is set outside. */}}
{{- define "authproxy.routeSettings" -}}
{{- $root := index . 0 }}
{{- $number := index . 1 }}
{{- $route := index . 2 }}
{{- $given := dict }}
{{- range ($root.Files.Get "files/values.json" | fromJson).settings }}
{{- if and .perRoute (hasKey $route .value) }}
{{- $_ := set $given .variable (include "authproxy.text" (get $route .value)) }}
{{- end }}
{{- end }}
{{- range (include "authproxy.secretFiles" (list $root $route (printf "routes/%d/" $number)) | fromJson).every }}
{{- range $variable, $path := .settings }}
{{- $_ := set $given $variable (get $given $variable | default $path) }}
{{- end }}
{{- end }}
{{- toJson $given }}
{{- end }}

{{- define "authproxy.routesFile" -}}
{{- $routes := list }}
{{- range $number, $route := .Values.routes }}
{{- $entry := dict }}
{{- range $value, $key := ($.Files.Get "files/values.json" | fromJson).routeKeys }}
{{- with include "authproxy.text" (get $route $value) }}
{{- $_ := set $entry $key . }}
{{- end }}
{{- end }}
{{- range $variable, $text := include "authproxy.routeSettings" (list $ $number $route) | fromJson }}
{{- $_ := set $entry (lower $variable) $text }}
{{- end }}
{{- $routes = append $routes $entry }}
{{- end }}
{{- toYaml (dict "routes" $routes) }}
{{- end }}

{{/* Secret where header fields are in it, else ConfigMap. */}}
{{- define "authproxy.routesKind" -}}
{{- $kind := "ConfigMap" }}
{{- range .Values.routes }}
{{- if not (has (include "authproxy.text" .overrideRequestHeaders) (list "" "{}")) }}
{{- $kind = "Secret" }}
{{- end }}
{{- end }}
{{- $kind }}
{{- end }}

{{/*
Where requests go, as JSON: one way without routes, else one for each. `given` has what is in
force there, by variable, `own` what the route says itself; `prefix` is for the names of its values.
*/}}
{{- define "authproxy.ways" -}}
{{- $known := .Files.Get "files/values.json" | fromJson }}
{{- $given := include "authproxy.given" . | fromJson }}
{{- $ways := list }}
{{- range $number, $route := .Values.routes }}
{{- $own := include "authproxy.routeSettings" (list $ $number $route) | fromJson }}
{{- $inForce := deepCopy $given }}
{{- range $known.settings }}
{{- if .notInherited }}
{{- $_ := unset $inForce .variable }}
{{- end }}
{{- end }}
{{- range $known.exclusive }}
{{- $others := . }}
{{- range . }}
{{- if get $own . }}
{{- range $others }}
{{- $_ := unset $inForce . }}
{{- end }}
{{- end }}
{{- end }}
{{- end }}
{{- range $variable, $text := $own }}
{{- $_ := set $inForce $variable $text }}
{{- end }}
{{- $host := include "authproxy.text" $route.host }}
{{- $path := include "authproxy.text" $route.path | trimSuffix "/" }}
{{- $label := include "authproxy.text" $route.name | default (printf "%s%s" $host $path) | default "/" }}
{{- $way := dict "prefix" (printf "routes[%d]." $number) "label" $label "host" $host "path" $path "own" $own }}
{{- $ways = append $ways (set $way "given" $inForce) }}
{{- end }}
{{- if not $ways }}
{{- $ways = list (dict "prefix" "" "label" "" "host" "" "path" "" "own" dict "given" $given) }}
{{- end }}
{{- range $ways }}
{{- $_ := set . "identity" (.given.IDENTITY_TYPE | default "default" | lower) }}
{{- end }}
{{- toJson (dict "every" $ways) }}
{{- end }}

{{/* "true" where any way has one of these identity types. */}}
{{- define "authproxy.hasIdentity" -}}
{{- $kinds := index . 1 }}
{{- range (include "authproxy.ways" (index . 0) | fromJson).every }}
{{- if has .identity $kinds }}true{{ end }}
{{- end }}
{{- end }}

{{/* Where a way leads, in small letters. */}}
{{- define "authproxy.targetOf" -}}
{{- .given.TARGET_HOST | default .given.INGESTION_URL | default "" | lower }}
{{- end }}

{{/* "true" where a way leads to an ingestion endpoint, else empty. */}}
{{- define "authproxy.ingests" -}}
{{- if or .given.INGESTION_URL (contains ".metrics.ingest.monitor.azure." (include "authproxy.targetOf" .)) }}true{{ end }}
{{- end }}

{{- define "authproxy.faults.routes" -}}
{{- $known := .Files.Get "files/values.json" | fromJson }}
{{- $settings := list }}
{{- range $known.settings }}
{{- if and .perRoute (not .hint) }}
{{- $settings = append $settings .value }}
{{- end }}
{{- end }}
{{- $names := concat $known.routeValues $settings }}
{{- range $number, $route := .Values.routes }}
{{- range $name, $_ := $route }}
{{- if has $name $names }}
{{- else if has $name $known.values }}
routes[{{ $number }}].{{ $name }}: it is a value of the whole release. Move it out of the route.
{{- else }}
routes[{{ $number }}].{{ $name }}: there is no such value. {{ include "authproxy.hint" (list $ $name $names) }}
{{- end }}
{{- end }}
{{- $strip := include "authproxy.text" $route.stripPath }}
{{- if not (has $strip (list "" "true" "false")) }}
routes[{{ $number }}].stripPath={{ quote $strip }}: it is neither true nor false. Give true or false.
{{- end }}
{{- $path := include "authproxy.text" $route.path }}
{{- if and $path (not (hasPrefix "/" $path)) }}
routes[{{ $number }}].path={{ quote $path }}: it does not begin with a slash. Give a prefix as it is in requests, such as /query.
{{- end }}
{{- end }}
{{- $requests := dict }}
{{- $labels := dict }}
{{- range (include "authproxy.ways" . | fromJson).every }}
{{- $which := printf "%s %s" (lower .host) .path }}
{{- if hasKey $requests $which }}
{{ .prefix }}path={{ quote .path }}: the requests of this route are those of route {{ get $requests $which }} already. Give each a host or path of its own.
{{- else if hasKey $labels .label }}
{{ .prefix }}name={{ quote .label }}: two routes have this name. Give each a name of its own.
{{- end }}
{{- $_ := set $requests $which .label }}
{{- $_ := set $labels .label true }}
{{- end }}
{{- end }}
