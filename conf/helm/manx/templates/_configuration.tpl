{{- define "manx.configuration" -}}
{{- if .Values.configuration -}}
{{- toPrettyJson .Values.configuration -}}
{{- else -}}
{{- $text := .Files.Get (printf "files/%s.json" .Values.mode) -}}
{{- if not $text }}{{ fail (printf "mode %q is none of direct, ipip and vxlan" .Values.mode) }}{{ end -}}
{{- $text -}}
{{- end -}}
{{- end -}}

{{- /* Another configuration has another name, and replaces the pods. */ -}}
{{- define "manx.configmap" -}}
manx-agent-{{ include "manx.configuration" . | sha256sum | trunc 10 }}
{{- end -}}

{{- define "manx.image" -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end -}}
