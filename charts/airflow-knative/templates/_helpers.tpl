{{- define "airflow-knative.fullname" -}}
{{- .Values.fullnameOverride | default .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- end }}

{{- /* Labels that select a component's pods. Takes (list root component). */}}
{{- define "airflow-knative.selector" -}}
{{- $root := index . 0 -}}
app.kubernetes.io/name: airflow-knative
app.kubernetes.io/instance: {{ $root.Release.Name }}
app.kubernetes.io/component: {{ index . 1 }}
{{- end }}

{{- define "airflow-knative.labels" -}}
{{- $root := index . 0 -}}
{{ include "airflow-knative.selector" . }}
app.kubernetes.io/part-of: airflow
app.kubernetes.io/managed-by: {{ $root.Release.Service }}
{{- with $root.Values.labels }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- /* Name of a component's service account. Takes (list root component its-values). */}}
{{- define "airflow-knative.serviceAccountName" -}}
{{- $account := (index . 2).serviceAccount -}}
{{- if $account.create -}}
{{- $account.name | default (printf "%s-%s" (include "airflow-knative.fullname" (index . 0)) (index . 1)) -}}
{{- else -}}
{{- $account.name | default "default" -}}
{{- end -}}
{{- end }}

{{- /* Reference of an image. Takes (list root name-in-values). */}}
{{- define "airflow-knative.image" -}}
{{- $image := index (index . 0).Values.images (index . 1) -}}
{{- if $image.digest -}}
{{ $image.repository }}@{{ $image.digest }}
{{- else -}}
{{ $image.repository }}:{{ $image.tag | default (index . 0).Chart.AppVersion }}
{{- end -}}
{{- end }}

{{- /* Behind a path of `config.api.base_url`, Airflow serves the API, the Execution API and logging in below that path alone. */}}
{{- define "airflow-knative.apiUrl" -}}
{{- $path := regexReplaceAll "^(?:[^:/]+://[^/]*(/.*)?|.*)$" (tpl (dig "api" "base_url" "" .Values.config | toString) .) "${1}" | trimSuffix "/" -}}
http://{{ include "airflow-knative.fullname" . }}-api-server.{{ .Release.Namespace }}.svc.{{ .Values.clusterDomain }}:{{ .Values.apiServer.service.port }}{{ $path }}
{{- end }}

{{- /*
Changes when a secret that is given in values does: pods have secrets as variables, which change in no pod that runs. By a slow function
(scrypt), because whoever reads it may try out passwords. Empty where all secrets are generated, or are in Secrets that exist.
*/}}
{{- define "airflow-knative.givenSecrets" -}}
{{- $given := dict -}}
{{- if not (or .Values.data.metadataSecretName .Values.postgresql.enabled) -}}
{{- $_ := set $given "database" .Values.data.metadataConnection -}}
{{- end -}}
{{- if and .Values.jwtSecret (not .Values.jwtSecretName) -}}
{{- $_ := set $given "jwt" .Values.jwtSecret -}}
{{- end -}}
{{- if and .Values.apiSecretKey (not .Values.apiSecretKeySecretName) -}}
{{- $_ := set $given "api" .Values.apiSecretKey -}}
{{- end -}}
{{- if $given -}}
{{- derivePassword 1 "maximum" (toJson $given) .Release.Name .Release.Namespace | sha256sum -}}
{{- end -}}
{{- end }}

{{- /* Whether tasks may go to KubernetesExecutor, which makes a pod for each. */}}
{{- define "airflow-knative.hasTaskPods" -}}
{{- tpl (toString .Values.config.core.executor) . | regexMatch "(^|[^A-Za-z])KubernetesExecutor($|[^A-Za-z])" -}}
{{- end }}

{{- /* Whether there is a workflow for `helm test` to run. */}}
{{- define "airflow-knative.isTested" -}}
{{- and .Values.test.enabled .Values.gateway.enabled (or .Values.test.dagId .Values.workflows) | empty | not -}}
{{- end }}

{{- define "airflow-knative.secretName.fernet" -}}
{{- .Values.fernetKeySecretName | default (printf "%s-fernet-key" (include "airflow-knative.fullname" .)) -}}
{{- end }}
{{- define "airflow-knative.secretName.jwt" -}}
{{- .Values.jwtSecretName | default (printf "%s-jwt-secret" (include "airflow-knative.fullname" .)) -}}
{{- end }}
{{- define "airflow-knative.secretName.api" -}}
{{- .Values.apiSecretKeySecretName | default (printf "%s-api-secret-key" (include "airflow-knative.fullname" .)) -}}
{{- end }}
{{- define "airflow-knative.secretName.signing" -}}
{{- .Values.signingKey.existingSecret | default (printf "%s-signing-key" (include "airflow-knative.fullname" .)) -}}
{{- end }}
{{- define "airflow-knative.secretName.metadata" -}}
{{- .Values.data.metadataSecretName | default (printf "%s-metadata" (include "airflow-knative.fullname" .)) -}}
{{- end }}
{{- define "airflow-knative.secretName.postgresql" -}}
{{- .Values.postgresql.auth.existingSecret | default (printf "%s-postgresql" (include "airflow-knative.fullname" .)) -}}
{{- end }}
{{- define "airflow-knative.secretName.user" -}}
{{- .Values.createUserJob.defaultUser.passwordSecretName | default (printf "%s-default-user" (include "airflow-knative.fullname" .)) -}}
{{- end }}

{{- /* One key of a Secret as the cluster has it, or nothing. Takes (list root secret key). */}}
{{- define "airflow-knative.kept" -}}
{{- $secret := lookup "v1" "Secret" (index . 0).Release.Namespace (index . 1) | default dict -}}
{{- index ($secret.data | default dict) (index . 2) | default "" | b64dec -}}
{{- end }}

{{- /*
The public half of an Ed25519 private key, both PEM. Sprig makes no public keys, but certificates, and the
SubjectPublicKeyInfo of Ed25519 in a certificate has a fixed head (RFC 8410): the 44 bytes are cut out as hexadecimal
digits, and written as base64 here because Sprig has no way from hexadecimal digits to bytes.
*/}}
{{- define "airflow-knative.publicKey" -}}
{{- $certificate := (genSelfSignedCertWithKey "airflow-knative" nil nil 1 .).Cert -}}
{{- $digits := printf "%x" (regexReplaceAll "-----[A-Z ]+-----|\\s" $certificate "" | b64dec) -}}
{{- $key := regexFind "302a300506032b6570032100[0-9a-f]{64}" $digits -}}
{{- if not $key -}}
{{- fail "The signing key is no Ed25519 private key in PEM (PKCS #8). `airflow-knative keys generate` makes a pair." -}}
{{- end -}}
{{- $alphabet := "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/" -}}
{{- $text := "" -}}
{{- range $start := untilStep 0 88 6 -}}
{{- $bytes := substr $start (int (min 88 (add $start 6))) $key -}}
{{- $number := int64 (printf "0x%s" (printf "%s0000" $bytes | trunc 6)) -}}
{{- $signs := eq (len $bytes) 6 | ternary 4 3 -}}
{{- range $place := until $signs -}}
{{- $index := mod (div $number (index (list 262144 4096 64 1) $place)) 64 | int -}}
{{- $text = printf "%s%s" $text (substr $index (int (add $index 1)) $alphabet) -}}
{{- end -}}
{{- if eq $signs 3 -}}{{- $text = printf "%s=" $text -}}{{- end -}}
{{- end -}}
-----BEGIN PUBLIC KEY-----
{{ $text }}
-----END PUBLIC KEY-----
{{ end }}

{{- /*
Of a public key that is given: whoever signs and whoever checks start anew with another one. A generated pair stays.
*/}}
{{- define "airflow-knative.publicKeyChecksum" -}}
{{- with .Values.signingKey.publicKey }}
checksum/public-key: {{ trim . | sha256sum }}
{{- end }}
{{- end }}

{{- /* Security context of a container of our images. Takes (list root component-values). */}}
{{- define "airflow-knative.containerSecurity" -}}
{{- $root := index . 0 -}}
{{- $own := dict "runAsUser" $root.Values.uid "runAsGroup" $root.Values.gid -}}
{{- toYaml (mergeOverwrite $own (deepCopy $root.Values.securityContexts.container) (deepCopy (index . 1).securityContexts.container)) -}}
{{- end }}

{{- /*
What a container of our images runs. Without a command of the component's own that is left to the image's entry point, which is an init.
Takes (list component-values program), the program a list that goes before the component's args.
*/}}
{{- define "airflow-knative.program" -}}
{{- $values := index . 0 -}}
{{- with $values.command }}
command: {{ . | toJson }}
{{- end }}
{{- with concat (empty $values.command | ternary (index . 1) list) $values.args }}
args: {{ . | toJson }}
{{- end }}
{{- end }}
