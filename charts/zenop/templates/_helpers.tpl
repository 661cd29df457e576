{{/* What the objects are named. At most 52 characters, so that a suffix still fits a label. */}}
{{- define "zenop.fullname" -}}
{{- $name := default .Chart.Name .Values.nameOverride -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 52 | trimSuffix "-" -}}
{{- else if contains $name .Release.Name -}}
{{- .Release.Name | trunc 52 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | trunc 52 | trimSuffix "-" -}}
{{- end -}}
{{- end }}

{{- define "zenop.serviceAccountName" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "zenop.fullname" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- default "default" .Values.serviceAccount.name -}}
{{- end -}}
{{- end }}

{{- define "zenop.image" -}}
{{- if .Values.image.digest -}}
{{- printf "%s@%s" .Values.image.repository .Values.image.digest -}}
{{- else -}}
{{- printf "%s:%s" .Values.image.repository (default .Chart.AppVersion .Values.image.tag) -}}
{{- end -}}
{{- end }}

{{/* Selects the operator's pods. Never changes: a Deployment's selector cannot. */}}
{{- define "zenop.selectorLabels" -}}
app.kubernetes.io/name: {{ default .Chart.Name .Values.nameOverride | quote }}
app.kubernetes.io/instance: {{ .Release.Name | quote }}
app.kubernetes.io/component: operator
{{- end }}

{{/* The labels of every object, and more: (list . more). Ours win. */}}
{{- define "zenop.labels" -}}
{{- $more := index . 1 -}}
{{- with index . 0 -}}
{{- $ours := fromYaml (include "zenop.selectorLabels" .) -}}
{{- $_ := set $ours "app.kubernetes.io/part-of" "zenop" -}}
{{- $_ := set $ours "app.kubernetes.io/version" .Chart.AppVersion -}}
{{- $_ := set $ours "app.kubernetes.io/managed-by" .Release.Service -}}
{{- $chart := printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" -}}
{{- $_ := set $ours "helm.sh/chart" $chart -}}
{{- toYaml (merge $ours $more .Values.commonLabels) -}}
{{- end -}}
{{- end }}

{{/*
The metadata of an object: (dict "root" . "suffix" "-lease" "namespace" … "labels" (dict …) "annotations" (dict …)),
all but root optional; "name" instead of suffix is the whole name.
As YAML of a value, so that names such as "123" and "on" stay text.
*/}}
{{- define "zenop.metadata" -}}
{{- $name := printf "%s%s" (include "zenop.fullname" .root) (default "" .suffix) -}}
{{- $labels := fromYaml (include "zenop.labels" (list .root (default dict .labels))) -}}
{{- $metadata := dict "name" (default $name .name) "labels" $labels -}}
{{- with .namespace -}}
{{- $_ := set $metadata "namespace" . -}}
{{- end -}}
{{- with .annotations -}}
{{- $_ := set $metadata "annotations" . -}}
{{- end -}}
{{- toYaml $metadata -}}
{{- end }}

{{- define "zenop.subjects" -}}
- kind: ServiceAccount
  name: {{ include "zenop.serviceAccountName" . | quote }}
  namespace: {{ .Release.Namespace | quote }}
{{- end }}

{{/*
What the operator may do: in every namespace by a ClusterRole, or in one by a Role. tests/cluster/golden has the
list that a test holds it to.

It may read and write Secrets: it makes those with keys. Its watch asks for metadata, and only of Secrets with the
label app.kubernetes.io/managed-by=zenop, and the content is read of a server's and a key's own Secret by name alone;
but Kubernetes has no right for "metadata" or "of this label", so list and watch stand here in full. Who runs as this
ServiceAccount can read every Secret where it works: set watchNamespace where that is too much.

A part of this is here to be handed on: who makes a Role must hold what it grants, and a server's pods get to read
their namespace's custom resources and their own two Secrets, and to note when an account was last used. That is why
neither "escalate" nor "bind" is needed.

No spec of a custom resource is ever written (a patch of a ZenSecret sets a finalizer), and only Secrets are ever deleted: all else goes with its owner.
*/}}
{{- define "zenop.operatorRules" -}}
- apiGroups: [zenop.dev]
  resources: [zenservers, zenserviceaccounts, zenapikeys, zendevices, zenusers, zensecrets]
  verbs: [get, list, watch]
- apiGroups: [zenop.dev]
  resources: [zencomponents]
  verbs: [list, watch]
# What it passes on to the servers, which make accounts, keys, devices and secrets for ZenML's API.
- apiGroups: [zenop.dev]
  resources: [zenserviceaccounts, zenapikeys, zendevices, zenusers, zensecrets]
  verbs: [create, patch, delete]
- apiGroups: [zenop.dev]
  resources:
    [zenservers/status, zenserviceaccounts/status, zenapikeys/status, zendevices/status, zenusers/status, zensecrets/status,
     zencomponents/status]
  verbs: [patch]
- apiGroups: [""]
  resources: [secrets]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [""]
  resources: [services, serviceaccounts, configmaps]
  verbs: [get, list, watch, create, patch]
- apiGroups: [apps]
  resources: [deployments]
  verbs: [get, list, watch, create, patch]
# Volumes of databases, which are never deleted.
- apiGroups: [""]
  resources: [persistentvolumeclaims]
  verbs: [get, create, patch]
# Migrations of databases, and what they said at their end.
- apiGroups: [batch]
  resources: [jobs]
  verbs: [get, list, watch, create, delete]
- apiGroups: [""]
  resources: [pods]
  verbs: [list]
# Consumers of keys, which are restarted after a rotation.
- apiGroups: [apps]
  resources: [statefulsets, daemonsets]
  verbs: [get, list, patch]
- apiGroups: [rbac.authorization.k8s.io]
  resources: [roles, rolebindings]
  verbs: [get, list, watch, create, patch]
- apiGroups: [policy]
  resources: [poddisruptionbudgets]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [networking.k8s.io]
  resources: [networkpolicies, ingresses]
  verbs: [get, list, watch, create, patch, delete]
# Where the cluster has them.
- apiGroups: [gateway.networking.k8s.io]
  resources: [httproutes]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [cert-manager.io]
  resources: [certificates]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [events.k8s.io]
  resources: [events]
  verbs: [get, create, patch]
{{- if not .Values.watchNamespace }}
# Where the API server listens behind its Service, in namespace default: servers may reach it there.
- apiGroups: [discovery.k8s.io]
  resources: [endpointslices]
  resourceNames: [kubernetes]
  verbs: [get]
{{- end }}
{{- end }}
