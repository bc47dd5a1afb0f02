{{- define "portcullis.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 50 | trimSuffix "-" -}}
{{- end -}}

{{- define "portcullis.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 50 | trimSuffix "-" -}}
{{- else if contains (include "portcullis.name" .) .Release.Name -}}
{{- .Release.Name | trunc 50 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name (include "portcullis.name" .) | trunc 50 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "portcullis.namespace" -}}
{{- default .Release.Namespace .Values.namespaceOverride -}}
{{- end -}}

{{- define "portcullis.selector" -}}
app.kubernetes.io/name: {{ include "portcullis.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "portcullis.labels" -}}
{{ include "portcullis.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/part-of: {{ include "portcullis.name" . }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "portcullis.agentAccount" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "portcullis.fullname" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- required "serviceAccount.name: needed when serviceAccount.create is false" .Values.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{- define "portcullis.controllerAccount" -}}
{{- with .Values.clusterController.serviceAccount -}}
{{- if .create -}}
{{- default (printf "%s-controller" (include "portcullis.fullname" $)) .name -}}
{{- else -}}
{{- required "clusterController.serviceAccount.name: needed when clusterController.serviceAccount.create is false" .name -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "portcullis.image" -}}
{{- $image := .Values.controller.image -}}
{{- $registry := default $image.registry .Values.global.imageRegistry -}}
{{- if $registry -}}{{ $registry }}/{{- end -}}
{{- $image.image -}}
{{- if $image.digest -}}@{{ $image.digest }}{{- else -}}:{{ default .Chart.AppVersion $image.tag }}{{- end -}}
{{- end -}}

{{- define "portcullis.watchNamespace" -}}
{{- if .Values.controller.scope.enabled -}}
{{- default (include "portcullis.namespace" .) .Values.controller.scope.namespace -}}
{{- end -}}
{{- end -}}

{{- define "portcullis.electionID" -}}
{{- default (printf "%s-leader" (include "portcullis.fullname" .)) .Values.controller.electionID -}}
{{- end -}}

{{/* Where the controller keeps copies for the agents; empty: there is no controller, and agents read the originals. */}}
{{- define "portcullis.syncNamespace" -}}
{{- if .Values.clusterController.enabled -}}
{{- default (printf "%s-synced" (include "portcullis.fullname" .)) .Values.dataplane.syncNamespace.name -}}
{{- end -}}
{{- end -}}

{{/* Without the controller, nobody but cert-manager could make the webhook's certificate. */}}
{{- define "portcullis.hasWebhook" -}}
{{- $w := .Values.controller.admissionWebhooks -}}
{{- if and $w.enabled (or .Values.clusterController.enabled $w.certManager.enabled) -}}true{{- end -}}
{{- end -}}

{{- define "portcullis.keepsWebhookCertificate" -}}
{{- if and (include "portcullis.hasWebhook" .) (not .Values.controller.admissionWebhooks.certManager.enabled) -}}true{{- end -}}
{{- end -}}

{{- define "portcullis.webhookName" -}}
{{- printf "%s-webhook" (include "portcullis.fullname" .) -}}
{{- end -}}

{{- define "portcullis.webhookAccount" -}}
{{- include "portcullis.webhookName" . -}}
{{- end -}}

{{- define "portcullis.webhookSecret" -}}
{{- default (printf "%s-certificate" (include "portcullis.webhookName" .)) .Values.controller.admissionWebhooks.secretName -}}
{{- end -}}

{{/* Flags about what is watched: the same for agent and controller, else they would disagree about whose an Ingress is. */}}
{{- define "portcullis.ruleArgs" -}}
- --controller-class={{ .Values.controller.ingressClassResource.controllerValue }}
{{- if .Values.controller.ingressClassByName }}
- --ingress-class-by-name
{{- end }}
- --ingress-class={{ .Values.controller.ingressClass }}
- --configmap={{ include "portcullis.namespace" . }}/{{ include "portcullis.fullname" . }}
{{- if .Values.controller.watchIngressWithoutClass }}
- --watch-ingress-without-class
{{- end }}
{{- with include "portcullis.watchNamespace" . }}
- --watch-namespace={{ . }}
{{- end }}
{{- with .Values.controller.scope.namespaceSelector }}
- {{ printf "--watch-namespace-selector=%s" . | quote }}
{{- end }}
{{- end -}}

{{- define "portcullis.sourceArgs" -}}
{{- include "portcullis.ruleArgs" . }}
- --http-port={{ .Values.controller.containerPort.http }}
- --https-port={{ .Values.controller.containerPort.https }}
{{- end -}}

{{/* controller.extraArgs, each to the role that knows it. */}}
{{- define "portcullis.knownArgs" -}}
source: [default-ssl-certificate, default-backend-service, annotations-prefix, disable-catch-all, sync-period]
controller: [publish-status-address, update-status]
proxy: [shutdown-grace-period]
{{- end -}}

{{- define "portcullis.extraArgs" -}}
{{- $known := fromYaml (include "portcullis.knownArgs" .root) -}}
{{- range $name, $value := .root.Values.controller.extraArgs }}
{{- range $role := $.roles }}
{{- if has $name (index $known $role) }}
- {{ printf "--%s=%v" $name $value | quote }}
{{- end }}
{{- end }}
{{- end }}
{{- end -}}

{{- define "portcullis.restricted" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
capabilities:
  drop: [ALL]
seccompProfile:
  type: RuntimeDefault
{{- end -}}
