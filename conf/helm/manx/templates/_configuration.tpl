{{- define "manx.configuration" -}}
{{- $text := .Files.Get (printf "files/%s.json" .Values.mode) -}}
{{- if .Values.configuration }}{{ $text = toPrettyJson .Values.configuration }}{{ end -}}
{{- if not $text }}{{ fail (printf "mode %q is none of direct, ipip, vxlan and calico" .Values.mode) }}{{ end -}}
{{- if and (or .Values.calico.ipam .Values.calico.annotate) (ne .Values.mode "calico") }}{{ fail "calico.ipam and calico.annotate are for mode calico" }}{{ end -}}
{{- with .Values.clusterCIDRs -}}
{{- $text = toPrettyJson (merge (dict "clusterCIDRs" .) (fromJson $text)) -}}
{{- end -}}
{{- $text -}}
{{- end -}}

{{- /* Another configuration has another name, and replaces the pods. */ -}}
{{- define "manx.configmap" -}}
manx-agent-{{ include "manx.configuration" . | sha256sum | trunc 10 }}
{{- end -}}

{{- define "manx.image" -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end -}}
