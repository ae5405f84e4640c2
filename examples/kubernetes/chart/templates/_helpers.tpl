{{- define "tollgate.selector" -}}
app.kubernetes.io/name: tollgate
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "tollgate.metadata" -}}
name: {{ .Release.Name }}
labels:
  {{- include "tollgate.selector" . | nindent 2 }}
  app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
{{- end }}

{{- define "tollgate.envoy" -}}
{{ .Values.envoyYaml | default (.Files.Get "files/envoy.yaml") }}
{{- end }}
