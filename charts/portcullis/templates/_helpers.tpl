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
{{- $flag := toString (default "" (index .Values.controller.extraArgs "watch-namespace")) -}}
{{- if $flag -}}
{{- $flag -}}
{{- else if .Values.controller.scope.enabled -}}
{{- default (include "portcullis.namespace" .) .Values.controller.scope.namespace -}}
{{- end -}}
{{- end -}}

{{- define "portcullis.namespaceSelector" -}}
{{- default .Values.controller.scope.namespaceSelector (index .Values.controller.extraArgs "watch-namespace-selector") -}}
{{- end -}}

{{- define "portcullis.electionID" -}}
{{- $own := default (printf "%s-leader" (include "portcullis.fullname" .)) .Values.controller.electionID -}}
{{- default $own (index .Values.controller.extraArgs "election-id") -}}
{{- end -}}

{{/* The Service whose addresses are published; empty: none. */}}
{{- define "portcullis.publishedService" -}}
{{- $flag := index .Values.controller.extraArgs "publish-service" -}}
{{- if $flag -}}
{{- $flag -}}
{{- else if .Values.controller.publishService.enabled -}}
{{- required "controller.publishService.pathOverride: the Service to publish, as namespace/name" .Values.controller.publishService.pathOverride -}}
{{- end -}}
{{- end -}}

{{/* The ConfigMaps that flags name, as namespace/name. */}}
{{- define "portcullis.configMap" -}}
{{- $own := printf "%s/%s" (include "portcullis.namespace" .) (include "portcullis.fullname" .) -}}
{{- default $own (index .Values.controller.extraArgs "configmap") -}}
{{- end -}}

{{- define "portcullis.streamNamespace" -}}
{{- $own := dig .protocol "configMapNamespace" "" .root.Values.controller -}}
{{- default (include "portcullis.namespace" .root) $own -}}
{{- end -}}

{{- define "portcullis.streamConfigMap" -}}
{{- $flag := index .root.Values.controller.extraArgs (printf "%s-services-configmap" .protocol) -}}
{{- if $flag -}}
{{- $flag -}}
{{- else if index .root.Values .protocol -}}
{{- printf "%s/%s-%s" (include "portcullis.streamNamespace" .) (include "portcullis.fullname" .root) .protocol -}}
{{- end -}}
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
{{- $extra := .Values.controller.extraArgs -}}
- --controller-class={{ default .Values.controller.ingressClassResource.controllerValue (index $extra "controller-class") }}
{{- if and .Values.controller.ingressClassByName (not (hasKey $extra "ingress-class-by-name")) }}
- --ingress-class-by-name
{{- end }}
- --ingress-class={{ default .Values.controller.ingressClass (index $extra "ingress-class") }}
- --configmap={{ include "portcullis.configMap" . }}
{{- range $protocol := list "tcp" "udp" }}
{{- with include "portcullis.streamConfigMap" (dict "root" $ "protocol" $protocol) }}
- --{{ $protocol }}-services-configmap={{ . }}
{{- end }}
{{- end }}
{{- if and .Values.controller.watchIngressWithoutClass (not (hasKey $extra "watch-ingress-without-class")) }}
- --watch-ingress-without-class
{{- end }}
{{- with include "portcullis.watchNamespace" . }}
- --watch-namespace={{ . }}
{{- end }}
{{- with include "portcullis.namespaceSelector" . }}
- {{ printf "--watch-namespace-selector=%s" . | quote }}
{{- end }}
{{- end -}}

{{- define "portcullis.sourceArgs" -}}
{{- include "portcullis.ruleArgs" . }}
- --http-port={{ default .Values.controller.containerPort.http (index .Values.controller.extraArgs "http-port") }}
- --https-port={{ default .Values.controller.containerPort.https (index .Values.controller.extraArgs "https-port") }}
- --proxy-pods=app.kubernetes.io/name={{ include "portcullis.name" . }},app.kubernetes.io/instance={{ .Release.Name }},app.kubernetes.io/component=data-plane
{{- end -}}

{{/* controller.extraArgs, each to the role that knows it. Those under `chart` take the place of a value. */}}
{{- define "portcullis.knownArgs" -}}
chart: [configmap, controller-class, election-id, http-port, https-port, ingress-class, publish-service, tcp-services-configmap, udp-services-configmap, watch-namespace, watch-namespace-selector]
source: [annotations-prefix, cluster-key-secret, default-backend-service, default-ssl-certificate, disable-catch-all, disable-svc-external-name, enable-ssl-passthrough, ingress-class-by-name, sync-period, watch-ingress-without-class]
controller: [publish-address-pool, publish-status-address, report-node-internal-ip-address, update-status]
proxy: [metrics-per-host, report-status-classes, shutdown-grace-period]
admin: [enable-metrics]
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
