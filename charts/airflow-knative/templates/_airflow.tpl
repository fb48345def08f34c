{{- /* Variables of Airflow's own parts. */}}
{{- define "airflow-knative.airflowEnv" -}}
- name: AIRFLOW_HOME
  value: {{ .Values.airflowHome | quote }}
- name: AIRFLOW_CONFIG
  value: /etc/airflow-knative/config/airflow.cfg
- name: AIRFLOW__DATABASE__SQL_ALCHEMY_CONN
  valueFrom:
    secretKeyRef:
      name: {{ include "airflow-knative.secretName.metadata" . }}
      key: connection
- name: AIRFLOW__DATABASE__SQL_ALCHEMY_CONN_ASYNC
  valueFrom:
    secretKeyRef:
      name: {{ include "airflow-knative.secretName.metadata" . }}
      key: connection-async
      optional: true
- name: AIRFLOW__CORE__FERNET_KEY
  valueFrom:
    secretKeyRef:
      name: {{ include "airflow-knative.secretName.fernet" . }}
      key: fernet-key
- name: AIRFLOW__API_AUTH__JWT_SECRET
  valueFrom:
    secretKeyRef:
      name: {{ include "airflow-knative.secretName.jwt" . }}
      key: jwt-secret
- name: AIRFLOW__API__SECRET_KEY
  valueFrom:
    secretKeyRef:
      name: {{ include "airflow-knative.secretName.api" . }}
      key: api-secret-key
{{- range .Values.secret }}
- name: {{ .envName }}
  valueFrom:
    secretKeyRef:
      name: {{ .secretName }}
      key: {{ .secretKey }}
{{- end }}
{{- with .Values.env }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- /* Of what pods read when they start: another one makes new pods. */}}
{{- define "airflow-knative.checksums" -}}
checksum/config: {{ include "airflow-knative.airflowConfig" . | sha256sum }}
{{- with include "airflow-knative.givenSecrets" . }}
checksum/secrets: {{ . }}
{{- end }}
{{- end }}

{{- define "airflow-knative.airflowMounts" -}}
- name: config
  mountPath: /etc/airflow-knative/config
  readOnly: true
- name: logs
  mountPath: {{ .Values.airflowHome }}/logs
- name: tmp
  mountPath: /tmp
{{- with .Values.volumeMounts }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- define "airflow-knative.airflowEnvFrom" -}}
{{- with .Values.extraEnvFrom }}
envFrom:
  {{- tpl . $ | trim | nindent 2 }}
{{- end }}
{{- end }}

{{- /* The init container that holds a pod back until the database is migrated. Takes (list root component-values). */}}
{{- define "airflow-knative.waitForMigrations" -}}
{{- $root := index . 0 }}
{{- $values := index . 1 -}}
- name: wait-for-airflow-migrations
  image: {{ include "airflow-knative.image" (list $root "airflow") }}
  imagePullPolicy: {{ $root.Values.images.airflow.pullPolicy }}
  args: [python, -m, airflow_knative.migrations]
  {{- include "airflow-knative.airflowEnvFrom" $root | nindent 2 }}
  env:
    {{- include "airflow-knative.airflowEnv" $root | nindent 4 }}
  securityContext:
    {{- include "airflow-knative.containerSecurity" (list $root $values) | nindent 4 }}
  resources:
    {{- toYaml $values.resources | nindent 4 }}
  volumeMounts:
    {{- include "airflow-knative.airflowMounts" $root | nindent 4 }}
{{- end }}

{{- /*
The pod of one of Airflow's parts. Takes a dict: root, component (name), values, ports, probes (each a handler or nothing),
persistence (the logs volume is a claim), dispatches (the dispatcher's files are mounted), sidecar (a whole container).
*/}}
{{- define "airflow-knative.airflowPod" -}}
{{- $root := .root }}
{{- $values := .values -}}
metadata:
  labels:
    {{- include "airflow-knative.labels" (list $root .component) | nindent 4 }}
    {{- with $values.labels }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  annotations:
    {{- include "airflow-knative.checksums" $root | nindent 4 }}
    {{- if .dispatches }}
    {{- include "airflow-knative.publicKeyChecksum" $root | nindent 4 }}
    {{- end }}
    {{- with $values.podAnnotations }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
spec:
  serviceAccountName: {{ include "airflow-knative.serviceAccountName" (list $root .component $values) }}
  automountServiceAccountToken: false
  enableServiceLinks: false
  terminationGracePeriodSeconds: {{ int $values.terminationGracePeriodSeconds }}
  {{- include "airflow-knative.placement" (list $root .component $values) | nindent 2 }}
  securityContext:
    {{- $identity := dict "runAsUser" $root.Values.uid "runAsGroup" $root.Values.gid "fsGroup" $root.Values.gid "fsGroupChangePolicy" "OnRootMismatch" }}
    {{- toYaml (mergeOverwrite $identity (deepCopy $root.Values.securityContexts.pod) (deepCopy $values.securityContexts.pod)) | nindent 4 }}
  {{- with $root.Values.imagePullSecrets }}
  imagePullSecrets:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- if or $values.waitForMigrations.enabled $values.extraInitContainers }}
  initContainers:
    {{- if $values.waitForMigrations.enabled }}
    {{- include "airflow-knative.waitForMigrations" (list $root $values) | nindent 4 }}
    {{- end }}
    {{- with $values.extraInitContainers }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  {{- end }}
  containers:
    - name: {{ .component }}
      image: {{ include "airflow-knative.image" (list $root "airflow") }}
      imagePullPolicy: {{ $root.Values.images.airflow.pullPolicy }}
      {{- /* It looks again whenever the container starts anew, which the pod's init containers do not. */}}
      {{- $after := $values.waitForMigrations.enabled | ternary (list "python" "-m" "airflow_knative.after_database") list }}
      {{- include "airflow-knative.program" (list $values (append $after "airflow")) | nindent 6 }}
      {{- include "airflow-knative.airflowEnvFrom" $root | nindent 6 }}
      env:
        {{- include "airflow-knative.airflowEnv" $root | nindent 8 }}
        {{- with $values.env }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
      {{- with .ports }}
      ports:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      {{- range $probe, $handler := .probes }}
      {{ $probe }}:
        {{- toYaml (merge (deepCopy $handler) (index $values $probe)) | nindent 8 }}
      {{- end }}
      securityContext:
        {{- include "airflow-knative.containerSecurity" (list $root $values) | nindent 8 }}
      resources:
        {{- toYaml $values.resources | nindent 8 }}
      volumeMounts:
        {{- include "airflow-knative.airflowMounts" $root | nindent 8 }}
        {{- if .dispatches }}
        - name: signing-key
          mountPath: /etc/airflow-knative/signing-key
          readOnly: true
        # Here and not in the sidecars, which have no business with it.
        - name: kubernetes-token
          mountPath: /var/run/secrets/kubernetes.io/serviceaccount
          readOnly: true
        {{- if eq (include "airflow-knative.hasTaskPods" $root) "true" }}
        - name: pod-template
          mountPath: /etc/airflow-knative/pod-template
          readOnly: true
        {{- end }}
        {{- end }}
        {{- with $values.extraVolumeMounts }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
    {{- with .sidecar }}
    {{- . | nindent 4 }}
    {{- end }}
    {{- with $values.extraContainers }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  volumes:
    - name: config
      configMap:
        name: {{ include "airflow-knative.fullname" $root }}-config
    {{- if not .persistence }}
    - name: logs
      emptyDir: {}
    {{- end }}
    - name: tmp
      emptyDir: {}
    {{- with $root.Values.volumes }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
    {{- if .dispatches }}
    - name: signing-key
      secret:
        secretName: {{ include "airflow-knative.secretName.signing" $root }}
        # Read by the group alone, which is the pod's fsGroup.
        defaultMode: 0440
        items:
          - key: private.pem
            path: private.pem
    - name: kubernetes-token
      projected:
        defaultMode: 0440
        sources:
          - serviceAccountToken:
              path: token
              expirationSeconds: 3600
          - configMap:
              name: kube-root-ca.crt
              items:
                - key: ca.crt
                  path: ca.crt
          - downwardAPI:
              items:
                - path: namespace
                  fieldRef:
                    fieldPath: metadata.namespace
    {{- if eq (include "airflow-knative.hasTaskPods" $root) "true" }}
    - name: pod-template
      configMap:
        name: {{ include "airflow-knative.fullname" $root }}-pod-template
    {{- end }}
    {{- end }}
    {{- with $values.extraVolumes }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
{{- end }}

{{- /* Where pods run. Takes (list root component its-values). */}}
{{- define "airflow-knative.placement" -}}
{{- $root := index . 0 }}
{{- $values := index . 2 }}
{{- $affinity := $values.affinity | default $root.Values.affinity -}}
affinity:
  {{- if $affinity }}
  {{- toYaml $affinity | nindent 2 }}
  {{- else }}
  podAntiAffinity:
    preferredDuringSchedulingIgnoredDuringExecution:
      - weight: 100
        podAffinityTerm:
          topologyKey: kubernetes.io/hostname
          labelSelector:
            matchLabels:
              {{- include "airflow-knative.selector" . | nindent 14 }}
  {{- end }}
{{- with $values.nodeSelector | default $root.Values.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $values.tolerations | default $root.Values.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $values.topologySpreadConstraints | default $root.Values.topologySpreadConstraints }}
topologySpreadConstraints:
  {{- /* One that says nothing else is about the component's own pods. */}}
  {{- $own := dict "matchLabels" (include "airflow-knative.selector" $ | fromYaml) }}
  {{- range . }}
  - {{- toYaml (merge (deepCopy .) (dict "labelSelector" $own)) | nindent 4 }}
  {{- end }}
{{- end }}
{{- with $values.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- end }}

{{- /* airflow.cfg. A percent sign would be the start of an interpolation. */}}
{{- define "airflow-knative.airflowConfig" -}}
{{- $root := . -}}
{{- range $section, $options := .Values.config }}
{{- if or (ne $section "kubernetes_executor") (eq (include "airflow-knative.hasTaskPods" $root) "true") }}
[{{ $section }}]
{{- range $option, $value := $options }}
{{- /* Helm reads whole numbers as floating ones, which would be written with an exponent. */}}
{{- $text := kindIs "float64" $value | ternary (toJson $value) (toString $value) }}
{{ $option }} = {{ tpl $text $root | replace "%" "%%" | replace "\n" "\n  " }}
{{- end }}
{{ end }}
{{- end }}
{{- end }}

{{- /* A sidecar that deletes old logs. Takes (list root component its-values). */}}
{{- define "airflow-knative.logGroomer" -}}
{{- $root := index . 0 }}
{{- $values := index . 2 -}}
- name: {{ index . 1 }}-log-groomer
  image: {{ include "airflow-knative.image" (list $root "airflow") }}
  imagePullPolicy: {{ $root.Values.images.airflow.pullPolicy }}
  command: [sh, -c]
  args:
    - |
      trap 'exit 0' TERM INT
      while :; do
        find "$LOGS" -type f -mtime "+$RETENTION_DAYS" -delete
        find "$LOGS" -mindepth 1 -type d -empty -mmin +60 -delete
        sleep "$((FREQUENCY_MINUTES * 60))" &
        wait "$!"
      done
  env:
    - name: LOGS
      value: {{ $root.Values.airflowHome }}/logs
    - name: RETENTION_DAYS
      value: {{ $values.logGroomerSidecar.retentionDays | quote }}
    - name: FREQUENCY_MINUTES
      value: {{ $values.logGroomerSidecar.frequencyMinutes | quote }}
  securityContext:
    {{- include "airflow-knative.containerSecurity" (list $root $values) | nindent 4 }}
  resources:
    {{- toYaml $values.logGroomerSidecar.resources | nindent 4 }}
  volumeMounts:
    - name: logs
      mountPath: {{ $root.Values.airflowHome }}/logs
{{- end }}

{{- /* The volume that keeps logs, of a StatefulSet. Takes (list root persistence). */}}
{{- define "airflow-knative.logsClaim" -}}
{{- $persistence := index . 1 -}}
persistentVolumeClaimRetentionPolicy:
  whenDeleted: Delete
  whenScaled: Retain
volumeClaimTemplates:
  - apiVersion: v1
    kind: PersistentVolumeClaim
    metadata:
      name: logs
    spec:
      accessModes: [ReadWriteOnce]
      {{- with $persistence.storageClassName }}
      storageClassName: {{ . }}
      {{- end }}
      resources:
        requests:
          storage: {{ $persistence.size }}
{{- end }}
