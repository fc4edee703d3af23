{{/* One mesh per cluster: names do not depend on the release's. */}}
{{- define "tidegate.name" -}}tidegate-control-plane{{- end }}

{{/* "cni" -> what finds the pods of that component. */}}
{{- define "tidegate.selectorOf" -}}
app.kubernetes.io/name: tidegate
app.kubernetes.io/component: {{ . }}
{{- end }}

{{- define "tidegate.labelsOf" -}}
{{- $ := index . 0 -}}
{{ include "tidegate.selectorOf" (index . 1) }}
app.kubernetes.io/instance: {{ $.Release.Name }}
app.kubernetes.io/version: {{ $.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ $.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" $.Chart.Name ($.Chart.Version | replace "+" "_") }}
{{- end }}

{{- define "tidegate.selector" -}}{{ include "tidegate.selectorOf" "control-plane" }}{{- end }}

{{- define "tidegate.labels" -}}{{ include "tidegate.labelsOf" (list . "control-plane") }}{{- end }}

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
