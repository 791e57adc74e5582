{{/* What is wrong with the values: all of it at once, each with its hint, as the program does. */}}

{{- define "authproxy.refuseFaults" -}}
{{- $faults := list }}
{{- range list "unknown" "routes" "setting" "target" "identity" "credential" "listening" "secrets" "keyVault" "monitoring" "availability" "storage" "network" "extraEnv" }}
{{- range include (printf "authproxy.faults.%s" .) $ | splitList "\n" }}
{{- $faults = append $faults (trim .) }}
{{- end }}
{{- end }}
{{- with compact $faults }}
{{- printf "\n\n%d fault%s in the values of the chart:\n  %s\n\n`helm show readme` of the chart explains each value.\n" (len .) (ternary "" "s" (eq (len .) 1)) (join "\n  " .) | fail }}
{{- end }}
{{- end }}

{{/* The variables that are given, as settings or in extraEnv, as a JSON object with their texts. */}}
{{- define "authproxy.given" -}}
{{- $given := include "authproxy.settings" . | fromJson }}
{{- range .Values.extraEnv }}
{{- $_ := set $given .name (.value | default "from elsewhere") }}
{{- end }}
{{- $known := .Files.Get "files/values.json" | fromJson }}
{{- range $known.settings }}
{{- $setting := . }}
{{- $taken := hasKey $given .variable }}
{{- range $known.exclusive }}
{{- if has $setting.variable . }}
{{- range . }}
{{- $taken = or $taken (hasKey $given .) }}
{{- end }}
{{- end }}
{{- end }}
{{- range .also }}
{{- if and (hasKey $given .) (not (or $taken (hasKey $given $setting.variable))) }}
{{- $_ := set $given $setting.variable (get $given .) }}
{{- end }}
{{- end }}
{{- end }}
{{- toJson $given }}
{{- end }}

{{- define "authproxy.faults.unknown" -}}
{{- $known := .Files.Get "files/values.json" | fromJson }}
{{- range $name, $_ := .Values }}
{{- if not (has $name (append $known.values "global")) }}
{{ $name }}: there is no such value. {{ include "authproxy.hint" (list $ $name $known.values) }}
{{- end }}
{{- end }}
{{- end }}

{{/* What to do about a name that is none of the known ones. */}}
{{- define "authproxy.hint" -}}
{{- $root := index . 0 }}
{{- $plain := regexReplaceAll "[^a-z0-9]" (lower (index . 1)) "" }}
{{- $hint := "Remove it, or correct its name." }}
{{- /* Dice's coefficient: pairs of letters in common. Templates can compute no edit distance. */}}
{{- $most := 0.5 }}
{{- range index . 2 }}
{{- $near := lower . }}
{{- $common := 0 }}
{{- range until (len $plain | int) }}
{{- $pair := substr . (int (add . 2)) $plain }}
{{- if and (eq (len $pair) 2) (contains $pair $near) }}
{{- $common = add $common 1 }}
{{- end }}
{{- end }}
{{- $alike := divf (mul 2 $common) (max 1 (add (len $plain) (len $near) -2)) }}
{{- if gt $alike $most }}
{{- $most = $alike }}
{{- $hint = printf "Did you mean %s?" . }}
{{- end }}
{{- end }}
{{- range ($root.Files.Get "files/values.json" | fromJson).settings }}
{{- if and .secret (eq $plain (lower .value)) }}
{{- $hint = .hint }}
{{- end }}
{{- end }}
{{- $hint }}
{{- end }}

{{- define "authproxy.faults.setting" -}}
{{- include "authproxy.faults.settingsOf" (list $ .Values "") }}
{{- range $number, $route := .Values.routes }}
{{- include "authproxy.faults.settingsOf" (list $ $route (printf "routes[%d]." $number)) }}
{{- end }}
{{- end }}

{{/* Of the values, or a route; the prefix goes before their names. */}}
{{- define "authproxy.faults.settingsOf" -}}
{{- $values := index . 1 }}
{{- $prefix := index . 2 }}
{{- range ((index . 0).Files.Get "files/values.json" | fromJson).settings }}
{{- $text := include "authproxy.text" (get $values .value) }}
{{- $problem := "" }}
{{- if or (not $text) .secret .presence (and $prefix (not .perRoute)) }}
{{- else if eq .kind "words" }}
{{- if not (has (lower $text) .words) }}
{{- $problem = "it is none of the known values" }}
{{- end }}
{{- else if eq .kind "flag" }}
{{- if not (has (lower $text) (list "true" "false" "1" "0" "yes" "no" "on" "off" "y" "n" "t" "f")) }}
{{- $problem = "it is neither true nor false" }}
{{- end }}
{{- else if has .kind (list "integer" "number") }}
{{- if not (regexMatch (eq .kind "integer" | ternary "^[0-9]{1,15}$" "^[0-9]{1,15}([.][0-9]+)?$") $text) }}
{{- $problem = eq .kind "integer" | ternary "it is not a whole number" "it is not a number" }}
{{- else if or (lt (float64 $text) (float64 (.least | default 0))) (gt (float64 $text) (float64 .most)) (and (hasKey . "above") (le (float64 $text) (float64 .above))) }}
{{- $problem = "it is out of range" }}
{{- end }}
{{- end }}
{{- if $problem }}
{{ $prefix }}{{ .value }}={{ $text | quote }}: {{ $problem }}. Give {{ .takes }}.
{{- end }}
{{- end }}
{{- end }}

{{/* A settings file of one's own, or variables from elsewhere, may say more than the values do. */}}
{{- define "authproxy.saidElsewhere" -}}
{{- if or .Values.extraEnvFrom (and (not .Values.routes) (include "authproxy.given" . | fromJson).AUTHPROXY_CONFIG) }}true{{ end }}
{{- end }}

{{- define "authproxy.faults.target" -}}
{{- $given := include "authproxy.given" . | fromJson }}
{{- $image := "Build docker/Dockerfile, push it to a registry that the cluster reads, and name it here. In an Azure Container Registry, `az acr run --registry NAME --file docker/acr-task.yaml .` does both (docs/container.md)." }}
{{- if not .Values.image.repository }}
image.repository: it is required: there is no image in a public place. {{ $image }}
{{- else if regexMatch "^mcr[.]microsoft[.]com/azuremonitor/(auth-proxy|prometheus)(/|$)" (lower .Values.image.repository) }}
image.repository={{ quote .Values.image.repository }}: it is the image of a retired proxy, as --reuse-values carries it over. {{ $image }}
{{- end }}
{{- if .Values.routes }}
{{- range $variable, $value := dict "TARGET_HOST" "targetHost" "INGESTION_URL" "ingestionUrl" }}
{{- with get $given $variable }}
{{ $value }}={{ quote . }}: it is set besides routes, of which each has its own. Move it into a route; one with `path: /` takes what is left.
{{- end }}
{{- end }}
{{- end }}
{{- range (include "authproxy.ways" . | fromJson).every }}
{{- if and .given.TARGET_HOST .given.INGESTION_URL }}
{{ .prefix }}ingestionUrl={{ quote .given.INGESTION_URL }}: it is set besides targetHost. Keep ingestionUrl for remote write alone, targetHost for everything else.
{{- else if not (or .given.TARGET_HOST .given.INGESTION_URL (and (not .prefix) (include "authproxy.saidElsewhere" $))) }}
{{ .prefix }}targetHost: it is required: nothing says where requests go. Set targetHost to a host or URL, or ingestionUrl to a whole ingestion endpoint.
{{- end }}
{{- end }}
{{- end }}

{{- define "authproxy.faults.identity" -}}
{{- $annotated := hasKey .Values.serviceAccount.annotations "azure.workload.identity/client-id" }}
{{- if not (include "authproxy.saidElsewhere" .) }}
{{- range (include "authproxy.ways" . | fromJson).every }}
{{- $others := and (eq .identity "userassigned") (or .given.AAD_RESOURCE_ID .given.AAD_OBJECT_ID) }}
{{- if and (has .identity (list "userassigned" "aadapplication")) (not (or .given.AAD_CLIENT_ID $others)) }}
{{ .prefix }}aadClientId: it is required with identityType={{ .identity }}. Set it to the client id of the identity{{ if eq .identity "userassigned" }}, or set aadResourceId or aadObjectId{{ end }}.
{{- end }}
{{- if and $others .given.AAD_CLIENT_ID }}
{{ .prefix }}aadClientId={{ quote .given.AAD_CLIENT_ID }}: it is set besides aadResourceId or aadObjectId. Keep one of them.
{{- end }}
{{- if and $others .given.AAD_RESOURCE_ID .given.AAD_OBJECT_ID }}
{{ .prefix }}aadObjectId={{ quote .given.AAD_OBJECT_ID }}: it is set besides aadResourceId. Keep one of them.
{{- end }}
{{- if and (eq .identity "aadapplication") (not .given.AAD_TENANT_ID) }}
{{ .prefix }}aadTenantId: it is required with identityType={{ .identity }}. Set it to the tenant id of the application.
{{- end }}
{{- if and (eq .identity "workloadidentity") $.Values.serviceAccount.create (not (or .given.AAD_CLIENT_ID $annotated)) }}
{{ .prefix }}aadClientId: it is required with identityType={{ .identity }}. Set it to the client id of the identity, or name a service account that has the annotation already in serviceAccount.name, with serviceAccount.create=false.
{{- end }}
{{- end }}
{{- end }}
{{- end }}

{{- define "authproxy.faults.credential" -}}
{{- $mounted := include "authproxy.mountedSettings" . | fromJson }}
{{- include "authproxy.faults.twice" (list $ .Values "" $mounted) }}
{{- range $number, $route := .Values.routes }}
{{- range (include "authproxy.secretFiles" (list $ $route (printf "routes/%d/" $number)) | fromJson).every }}
{{- include "authproxy.faults.twice" (list $ $route (printf "routes[%d]." $number) .settings) }}
{{- end }}
{{- end }}
{{- if and .Values.clientCertificate.existingSecret .Values.keyVault.enabled .Values.keyVault.certificate }}
keyVault.certificate={{ quote .Values.keyVault.certificate }}: it is set besides clientCertificate.existingSecret. Keep one of them.
{{- end }}
{{- range (include "authproxy.ways" . | fromJson).every }}
{{- if eq .identity "aadapplication" }}
{{- $secret := or .given.AAD_CLIENT_SECRET .given.AAD_CLIENT_SECRET_FILE }}
{{- if and $secret .given.AAD_CLIENT_CERTIFICATE_PATH }}
{{- $named := empty .prefix | ternary (quote $.Values.clientSecret.existingSecret | printf "=%s") "" }}
{{ .prefix }}clientSecret.existingSecret{{ $named }}: there is a client secret besides a certificate. Keep one of them; a certificate is the safer one.
{{- else if not (or $secret .given.AAD_CLIENT_CERTIFICATE_PATH .given.AAD_FEDERATED_IDENTITY (include "authproxy.saidElsewhere" $)) }}
{{ .prefix }}clientCertificate.existingSecret: identityType=aadapplication needs a certificate or a secret. Name a Secret that holds one here or in clientSecret.existingSecret, or set keyVault or aadClientCertificatePath, or aadFederatedIdentity.
{{- end }}
{{- if and .given.AAD_FEDERATED_IDENTITY (or $secret .given.AAD_CLIENT_CERTIFICATE_PATH) }}
{{ .prefix }}aadFederatedIdentity={{ quote .given.AAD_FEDERATED_IDENTITY }}: it is set besides a certificate or a secret. Keep one of them.
{{- end }}
{{- end }}
{{- end }}
{{- end }}

{{/* A path as a value besides a mounted file. */}}
{{- define "authproxy.faults.twice" -}}
{{- $values := index . 1 }}
{{- $prefix := index . 2 }}
{{- $mounted := index . 3 }}
{{- range ((index . 0).Files.Get "files/values.json" | fromJson).settings }}
{{- if and (get $mounted .variable) (get $values .value) }}
{{ $prefix }}{{ .value }}={{ get $values .value | quote }}: it is set besides what is mounted at {{ get $mounted .variable }}. Keep one of them.
{{- end }}
{{- end }}
{{- end }}

{{- define "authproxy.faults.listening" -}}
{{- $port := include "authproxy.text" .Values.listeningPort }}
{{- if .Values.listeningSocket }}
{{- if and $port (ne $port "8081") }}
listeningSocket={{ quote .Values.listeningSocket }}: it is set besides listeningPort. Keep one of them.
{{- end }}
{{- else if not $port }}
listeningPort: it is required: nothing says where to listen. Set it to a port, such as 8081.
{{- end }}
{{- if or (hasPrefix "127." .Values.listeningHost) (has .Values.listeningHost (list "localhost" "::1" "[::1]")) }}
listeningHost={{ quote .Values.listeningHost }}: neither the service nor the kubelet's probes reach it there. Leave it empty; networkPolicy says who may connect.
{{- end }}
{{- end }}

{{- define "authproxy.faults.secrets" -}}
{{- if and (include "authproxy.headers" .) .Values.overrideRequestHeadersSecret.name }}
overrideRequestHeaders="***": it is set besides overrideRequestHeadersSecret.name. Keep one of them; the Secret is the safer one.
{{- end }}
{{- include "authproxy.faults.headers" (list .Values "") }}
{{- range $number, $route := .Values.routes }}
{{- include "authproxy.faults.headers" (list $route (printf "routes[%d]." $number)) }}
{{- end }}
{{- end }}

{{- define "authproxy.faults.headers" -}}
{{- with include "authproxy.text" (get (index . 0) "overrideRequestHeaders") }}
{{- $parsed := fromJson . }}
{{- if or (and (hasKey $parsed "Error") (not (contains "\"Error\"" .))) (not (hasPrefix "{" .)) }}
{{ index $ 1 }}overrideRequestHeaders="***": it is no JSON object. Give one of strings, such as {"X-Scope-OrgID": "team"}, or a mapping.
{{- end }}
{{- end }}
{{- end }}

{{- define "authproxy.faults.keyVault" -}}
{{- with .Values.keyVault }}
{{- if and .enabled (not .secretProviderClass) }}
{{- range $name, $given := dict "vaultName" .vaultName "certificate" .certificate "tenantId" (.tenantId | default $.Values.aadTenantId) }}
{{- if not $given }}
keyVault.{{ $name }}: it is required to make a SecretProviderClass. Set it, or name a class that there is in keyVault.secretProviderClass.
{{- end }}
{{- end }}
{{- end }}
{{- end }}
{{- end }}

{{- define "authproxy.faults.monitoring" -}}
{{- $metrics := include "authproxy.text" .Values.metricsPort }}
{{- if and $metrics (eq $metrics (include "authproxy.text" .Values.listeningPort)) }}
metricsPort={{ quote $metrics }}: it is listeningPort. Choose another port.
{{- end }}
{{- range list "podMonitor" "serviceMonitor" }}
{{- if and (get $.Values .).enabled (not $metrics) }}
metricsPort: it is required with {{ . }}.enabled=true. Set it to a port, such as 9090.
{{- end }}
{{- end }}
{{- if and .Values.podMonitor.enabled .Values.serviceMonitor.enabled }}
serviceMonitor.enabled=true: podMonitor.enabled is true as well, so that every pod would be scraped twice. Keep one of them.
{{- end }}
{{- end }}

{{- define "authproxy.faults.availability" -}}
{{- $least := int .Values.replicaCount }}
{{- with .Values.autoscaling }}
{{- if .enabled }}
{{- $least = int .minReplicas }}
{{- if gt (int .minReplicas) (int .maxReplicas) }}
autoscaling.minReplicas={{ .minReplicas }}: it is above autoscaling.maxReplicas ({{ .maxReplicas }}). Raise that, or lower this.
{{- end }}
{{- if not (or .targetCPUUtilizationPercentage .targetMemoryUtilizationPercentage) }}
autoscaling.targetCPUUtilizationPercentage: nothing says what to scale by. Set it, or autoscaling.targetMemoryUtilizationPercentage.
{{- end }}
{{- range $resource, $share := dict "cpu" .targetCPUUtilizationPercentage "memory" .targetMemoryUtilizationPercentage }}
{{- if and $share (not (dig "requests" $resource "" $.Values.resources)) }}
resources.requests.{{ $resource }}: it is required to scale by {{ $resource }}: a share of nothing is unknown. Set it, or do not scale by {{ $resource }}.
{{- end }}
{{- end }}
{{- end }}
{{- end }}
{{- with .Values.podDisruptionBudget }}
{{- $stay := .minAvailable | toString }}
{{- if and .enabled (or (eq $stay "100%") (and (regexMatch "^[0-9]+$" $stay) (ge (int $stay) $least) (gt (int $stay) 0))) }}
podDisruptionBudget.minAvailable={{ quote $stay }}: no pod could be evicted, and draining a node would never end. Set it below the number of pods ({{ $least }}), or use podDisruptionBudget.maxUnavailable.
{{- else if and .enabled (kindIs "invalid" .minAvailable) (has (toString .maxUnavailable) (list "0" "0%")) }}
podDisruptionBudget.maxUnavailable={{ toString .maxUnavailable | quote }}: no pod could be evicted, and draining a node would never end. Set it to 1 or more.
{{- end }}
{{- end }}
{{- with .Values.terminationGracePeriodSeconds }}
{{- $needed := include "authproxy.secondsToEnd" $ | int }}
{{- if lt (int .) $needed }}
terminationGracePeriodSeconds={{ . }}: the pod would be killed while it drains: preStopSeconds, shutdownDelaySeconds and shutdownGraceSeconds are {{ $needed }} together. Set it to {{ add $needed 5 }}, or leave it out.
{{- end }}
{{- end }}
{{- end }}

{{- define "authproxy.faults.extraEnv" -}}
{{- $settings := include "authproxy.settings" . | fromJson }}
{{- $secret := list }}
{{- range (.Files.Get "files/values.json" | fromJson).settings }}
{{- if or .secret (eq .kind "fields") }}
{{- $secret = append $secret .variable }}
{{- end }}
{{- end }}
{{- range .Values.extraEnv }}
{{- if hasKey $settings .name }}
extraEnv.{{ .name }}: the chart sets it already, from another value. Remove it here, or there.
{{- end }}
{{- if and $.Values.routes (eq .name "AUTHPROXY_CONFIG") }}
extraEnv.AUTHPROXY_CONFIG: the chart sets it already, to a file with the routes. Remove it here, or routes.
{{- end }}
{{- if and .value (or (has .name $secret) (regexMatch "_(SECRET|PASSWORD)$" .name)) }}
extraEnv.{{ .name }}="***": it is a secret, and would be in clear for all who may see pods. Take it from a Secret, with valueFrom.secretKeyRef.
{{- end }}
{{- end }}
{{- end }}

{{/*
An upgrade that would shut out who may connect so far, without a word about it: from a release without
a NetworkPolicy, such as the retired chart's, or from one that let in the whole namespace.
*/}}
{{- define "authproxy.faults.network" -}}
{{- with .Values.networkPolicy }}
{{- if and $.Release.IsUpgrade .enabled (kindIs "invalid" .allowSameNamespace) (include "authproxy.hasPort" $) }}
{{- $name := include "authproxy.fullname" $ }}
{{- $policy := lookup "networking.k8s.io/v1" "NetworkPolicy" $.Release.Namespace $name }}
{{- $who := "" }}
{{- if and (not $policy) (not .allowFrom) (lookup "apps/v1" "Deployment" $.Release.Namespace $name) }}
{{- $who = "everybody may connect" }}
{{- end }}
{{- range dig "spec" "ingress" list $policy }}
{{- if has (dict "podSelector" dict) (.from | default list) }}
{{- $who = "all pods of the namespace may connect" }}
{{- end }}
{{- end }}
{{- if $who }}
networkPolicy.allowSameNamespace: so far {{ $who }}, and this upgrade would shut out all but the pods of the namespace with the label {{ include "authproxy.clientLabel" $ }}: "true"{{ if .allowFrom }} and networkPolicy.allowFrom{{ end }}. Set this to true (all pods of the namespace) or false (those with the label), and name clients elsewhere in networkPolicy.allowFrom; networkPolicy.enabled=false lets in everybody.
{{- end }}
{{- end }}
{{- end }}
{{- end }}
