{{- define "askonce.name" -}}
{{- if contains "askonce" .Release.Name }}{{ .Release.Name | trunc 50 | trimSuffix "-" }}{{ else }}{{ printf "%s-askonce" .Release.Name | trunc 50 | trimSuffix "-" }}{{ end }}
{{- end }}

{{- define "askonce.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
{{ include "askonce.selector" . }}
{{- end }}

{{- define "askonce.selector" -}}
app.kubernetes.io/name: askonce
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .role }}
{{- end }}

{{- define "askonce.secret" -}}
{{ .Values.secrets.existing | default (include "askonce.name" .) }}
{{- end }}

{{- define "askonce.account" -}}
{{- if .Values.serviceAccount.create }}{{ .Values.serviceAccount.name | default (include "askonce.name" .) }}{{ else }}{{ .Values.serviceAccount.name | default "default" }}{{ end }}
{{- end }}

{{/* What must hold among the values, beyond their schema. */}}
{{- define "askonce.check" -}}
{{- if and (eq .Values.dedup.store "qdrant") (not .Values.secrets.existing) }}
{{- range $name := list "qdrant" "ledger" "redis" }}
{{- if not (index $.Values.stores $name) }}{{ fail (printf "dedup.store is qdrant: set stores.%s, or name a Secret in secrets.existing that has the key %s" $name $name) }}{{ end }}
{{- end }}
{{- end }}
{{- if and (not .Values.secrets.existing) .Values.dedup.operators }}{{ fail "dedup.operators needs a Secret of yours in secrets.existing, with the key operators.toml" }}{{ end }}
{{- if and (hasPrefix "transformers:" .Values.inference.engine) (not .Values.inference.models.existingClaim) (ne .Values.inference.models.accessMode "ReadWriteMany") (or .Values.inference.autoscaling.enabled (gt (int .Values.inference.replicas) 1)) }}{{ fail "several inference replicas can't share a volume that is ReadWriteOnce: set inference.models.accessMode or inference.models.existingClaim" }}{{ end }}
{{- end }}

{{- define "askonce.settings" -}}
{{- range $name, $value := .settings }}
- name: {{ printf "ASKONCE_%s_%s" $.section $name }}
  value: {{ $value | quote }}
{{- end }}
{{- end }}

{{- define "askonce.fromSecret" -}}
- name: {{ .name }}
  valueFrom: {secretKeyRef: {name: {{ include "askonce.secret" .root }}, key: {{ .key }}}}
{{- end }}

{{/* The pod of a service: root, role, grpc (the service whose health counts), values, env, mounts, volumes. */}}
{{- define "askonce.pod" -}}
metadata:
  labels:
    {{- include "askonce.labels" . | nindent 4 }}
  annotations:
    prometheus.io/scrape: "true"
    prometheus.io/port: "9100"
    {{- with .values.podAnnotations }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
spec:
  serviceAccountName: {{ include "askonce.account" .root }}
  automountServiceAccountToken: false
  enableServiceLinks: false
  terminationGracePeriodSeconds: 45
  {{- with .root.Values.image.pullSecrets }}
  imagePullSecrets:
    {{- range . }}
    - name: {{ . }}
    {{- end }}
  {{- end }}
  securityContext:
    runAsNonRoot: true
    runAsUser: 10001
    runAsGroup: 10001
    fsGroup: 10001
    fsGroupChangePolicy: OnRootMismatch
    seccompProfile: {type: RuntimeDefault}
  topologySpreadConstraints:
    - maxSkew: 1
      topologyKey: kubernetes.io/hostname
      whenUnsatisfiable: ScheduleAnyway
      labelSelector:
        matchLabels:
          {{- include "askonce.selector" . | nindent 10 }}
  {{- with .values.nodeSelector }}
  nodeSelector:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .values.tolerations }}
  tolerations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  containers:
    - name: {{ .role }}
      image: "{{ with .root.Values.image.registry }}{{ . }}/{{ end }}askonce-{{ .role }}:{{ .root.Values.image.tag | default .root.Chart.AppVersion }}"
      imagePullPolicy: {{ .root.Values.image.pullPolicy }}
      securityContext:
        allowPrivilegeEscalation: false
        readOnlyRootFilesystem: true
        capabilities: {drop: [ALL]}
      env:
        - name: ASKONCE_{{ upper .role }}_SERVING_LISTEN
          value: "0.0.0.0:50051"
        - name: ASKONCE_{{ upper .role }}_SERVING_DRAIN_DELAY
          value: "5"
        - name: ASKONCE_{{ upper .role }}_TELEMETRY_METRICS_LISTEN
          value: "0.0.0.0:9100"
        {{- with .root.Values.tracesEndpoint }}
        - name: ASKONCE_{{ upper $.role }}_TELEMETRY_TRACES_ENDPOINT
          value: {{ . | quote }}
        {{- end }}
        {{- .env | trim | nindent 8 }}
        {{- include "askonce.settings" (dict "section" (upper .role) "settings" .values.settings) | nindent 8 }}
      ports:
        - {name: grpc, containerPort: 50051}
        - {name: metrics, containerPort: 9100}
        {{- if eq .role "gateway" }}
        - {name: http, containerPort: 8080}
        {{- end }}
      startupProbe:
        grpc: {port: 50051, service: {{ .grpc }}}
        periodSeconds: 5
        timeoutSeconds: 2
        failureThreshold: {{ div (.start | default 300 | int) 5 }}
      readinessProbe:
        grpc: {port: 50051, service: {{ .grpc }}}
        periodSeconds: 5
        timeoutSeconds: 2
        failureThreshold: 2
      livenessProbe:
        grpc: {port: 50051}
        periodSeconds: 10
        timeoutSeconds: 5
        failureThreshold: 6
      resources:
        {{- toYaml .resources | nindent 8 }}
      volumeMounts:
        - {name: tmp, mountPath: /tmp}
        - {name: secrets, mountPath: /run/askonce, readOnly: true}
        {{- with .mounts }}
        {{- . | trim | nindent 8 }}
        {{- end }}
  volumes:
    - name: tmp
      emptyDir: {sizeLimit: 1Gi}
    - name: secrets
      secret: {secretName: {{ include "askonce.secret" .root }}, defaultMode: 0440}
    {{- with .volumes }}
    {{- . | trim | nindent 4 }}
    {{- end }}
{{- end }}

{{- define "askonce.autoscaler" -}}
{{- $name := printf "%s-%s" (include "askonce.name" .root) .role }}
apiVersion: autoscaling/v2
kind: HorizontalPodAutoscaler
metadata:
  name: {{ $name }}
  labels:
    {{- include "askonce.labels" . | nindent 4 }}
spec:
  scaleTargetRef: {apiVersion: apps/v1, kind: Deployment, name: {{ $name }}}
  minReplicas: {{ .values.autoscaling.minReplicas }}
  maxReplicas: {{ .values.autoscaling.maxReplicas }}
  metrics:
    - type: Resource
      resource: {name: cpu, target: {type: Utilization, averageUtilization: {{ .values.autoscaling.cpuPercent }}}}
{{- end }}

{{- define "askonce.budget" -}}
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata:
  name: {{ include "askonce.name" .root }}-{{ .role }}
  labels:
    {{- include "askonce.labels" . | nindent 4 }}
spec:
  maxUnavailable: 1
  selector:
    matchLabels:
      {{- include "askonce.selector" . | nindent 6 }}
{{- end }}

{{- define "askonce.headless" -}}
apiVersion: v1
kind: Service
metadata:
  name: {{ include "askonce.name" .root }}-{{ .role }}
  labels:
    {{- include "askonce.labels" . | nindent 4 }}
spec:
  # Callers see every replica, and choose.
  clusterIP: None
  selector:
    {{- include "askonce.selector" . | nindent 4 }}
  ports:
    - {name: grpc, port: 50051, targetPort: grpc, appProtocol: kubernetes.io/h2c}
    - {name: metrics, port: 9100, targetPort: metrics}
{{- end }}
