{{/* One mesh per cluster: names do not depend on the release's. */}}
{{- define "tidegate.name" -}}tidegate-control-plane{{- end }}

{{- define "tidegate.selector" -}}
app.kubernetes.io/name: tidegate
app.kubernetes.io/component: control-plane
{{- end }}

{{- define "tidegate.labels" -}}
{{ include "tidegate.selector" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name (.Chart.Version | replace "+" "_") }}
{{- end }}

{{/* (list $ "proxy") -> registry, repository and tag. */}}
{{- define "tidegate.image" -}}
{{- $ := index . 0 }}{{ $images := $.Values.images -}}
{{ $images.registry }}{{ index $images (index . 1) }}:{{ $images.tag | default $.Chart.AppVersion }}
{{- end }}

{{- define "tidegate.xds" -}}
https://{{ include "tidegate.name" . }}.{{ .Release.Namespace }}.svc:15010
{{- end }}

{{- define "tidegate.restricted" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
runAsNonRoot: true
capabilities:
  drop: [ALL]
{{- end }}

{{- define "tidegate.hasGatewayAPI" -}}
{{- if .Capabilities.APIVersions.Has "gateway.networking.k8s.io/v1" }}yes{{ end }}
{{- end }}
