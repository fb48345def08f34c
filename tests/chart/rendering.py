"""The chart as Helm renders it."""

from __future__ import annotations

import base64
import json
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

REPOSITORY = Path(__file__).parents[2]
CHART = REPOSITORY / "charts" / "airflow-knative"
# Knative's annotations and RBAC need none, but the chart says which versions it is for.
KUBERNETES = "1.36.0"

Object = dict[str, Any]

WORKFLOWS: list[Object] = [
    {
        "name": "airflow-worker-etl-load",
        "dagId": "Etl",
        "taskId": "load",
        "file": "sub/etl.py",
        "containerConcurrency": 2,
        "minScale": 1,
        "maxScale": 3,
        "windowSeconds": 30,
        "timeoutSeconds": 300,
        "resources": {"requests": {"memory": "1Gi"}},
        "image": "registry.example/team/etl:1.2",
        "env": [{"name": "BUCKET", "value": "b"}],
        "secrets": ["s3"],
        "nodeSelector": {"disk": "ssd"},
    },
    {"name": "airflow-worker-avg", "dagId": "avg", "file": "avg.py"},
]

# What the chart has besides its defaults.
EVERYTHING: Object = {
    "workflows": WORKFLOWS,
    "statsd": {"enabled": True},
    "images": {"statsd": {"tag": "v1"}},
    "imagePullSecrets": [{"name": "pull"}],
    "labels": {"team": "data"},
    "nodeSelector": {"disk": "ssd"},
    "tolerations": [{"key": "airflow", "operator": "Exists"}],
    "topologySpreadConstraints": [
        {"maxSkew": 1, "topologyKey": "kubernetes.io/hostname", "whenUnsatisfiable": "ScheduleAnyway"}
    ],
    "env": [{"name": "AIRFLOW__CORE__DEFAULT_TIMEZONE", "value": "utc"}],
    "secret": [{"envName": "AIRFLOW_CONN_DB", "secretName": "conn", "secretKey": "url"}],
    "extraEnvFrom": "- secretRef:\n    name: '{{ .Release.Name }}-connections'\n",
    "volumes": [{"name": "authority", "configMap": {"name": "authority"}}],
    "volumeMounts": [{"name": "authority", "mountPath": "/etc/authority", "readOnly": True}],
    "extraObjects": [
        {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {
                "name": "{{ .Release.Name }}-more",
                "labels": {"team": "data", "app.kubernetes.io/instance": "{{ .Release.Name }}"},
            },
        }
    ],
    "ingress": {
        "apiServer": {
            "enabled": True,
            "ingressClassName": "nginx",
            "annotations": {"note": "x"},
            "hosts": [
                {"name": "airflow.example", "tls": {"enabled": True, "secretName": "airflow-tls"}},
                {"name": "airflow.internal"},
            ],
        }
    },
    "migrateDatabaseJob": {"priorityClassName": "high", "env": [{"name": "A", "value": "1"}]},
    "apiServer": {
        "hpa": {"enabled": True, "minReplicaCount": 2},
        "podAnnotations": {"note": "x"},
        "priorityClassName": "high",
        "networkPolicy": {"ingress": {"from": [{"namespaceSelector": {}}]}},
    },
    "scheduler": {
        "replicas": 2,
        "extraVolumes": [{"name": "extra", "emptyDir": {}}],
        "extraVolumeMounts": [{"name": "extra", "mountPath": "/extra"}],
        "extraContainers": [{"name": "more", "image": "registry.example/more:1"}],
        "extraInitContainers": [{"name": "first", "image": "registry.example/first:1"}],
        "env": [{"name": "A", "value": "1"}],
    },
    "gateway": {
        "clusterLocal": True,
        "airflowPatienceSeconds": 45,
        "env": [{"name": "AIRFLOW_KNATIVE_GATEWAY_UNPAUSE", "value": "false"}],
    },
    "postgresql": {"args": ["-c", "max_connections=200"]},
}

EXTERNAL_DATABASE: Object = {
    "postgresql": {"enabled": False},
    "data": {
        "metadataConnection": {
            "user": "air@flow",
            "pass": "p w/%",
            "host": "db.example",
            "db": "airflow",
            "sslmode": "require",
        }
    },
}

EXISTING_SECRETS: Object = {
    "fernetKeySecretName": "own-fernet",
    "jwtSecretName": "own-jwt",
    "apiSecretKeySecretName": "own-api",
    "signingKey": {"existingSecret": "own-signing", "publicKey": "-----BEGIN PUBLIC KEY-----\n..."},
    "data": {"metadataSecretName": "own-metadata"},
    "postgresql": {"auth": {"existingSecret": "own-postgresql"}},
    "createUserJob": {"defaultUser": {"passwordSecretName": "own-user"}},
}

LEAST: Object = {
    "triggerer": {"enabled": False},
    "gateway": {"enabled": False},
    "networkPolicies": {"enabled": False},
    "createUserJob": {"defaultUser": {"enabled": False}},
    "migrateDatabaseJob": {"enabled": False},
    "scheduler": {
        "logGroomerSidecar": {"enabled": False},
        "persistence": {"enabled": False},
        "waitForMigrations": {"enabled": False},
    },
    "postgresql": {"persistence": {"enabled": False}},
}

# Two executors, and what pods of the other one have besides their defaults.
TASK_PODS: Object = {
    "config": {"core": {"executor": "airflow_knative.executor.KnativeExecutor,KubernetesExecutor"}},
    "imagePullSecrets": [{"name": "pull"}],
    "labels": {"team": "data"},
    "nodeSelector": {"disk": "ssd"},
    "tolerations": [{"key": "airflow", "operator": "Exists"}],
    "env": [{"name": "AIRFLOW__CORE__DEFAULT_TIMEZONE", "value": "utc"}],
    "secret": [{"envName": "AIRFLOW_CONN_DB", "secretName": "conn", "secretKey": "url"}],
    "extraEnvFrom": "- secretRef:\n    name: connections\n",
    "apiServer": {"networkPolicy": {"ingress": {"from": [{"namespaceSelector": {}}]}}},
    "workers": {
        "kubernetes": {
            "podAnnotations": {"note": "x"},
            "labels": {"kind": "task"},
            "nodeSelector": {"disk": "large"},
            "priorityClassName": "low",
            "env": [{"name": "BUCKET", "value": "b"}],
            "extraVolumes": [{"name": "extra", "emptyDir": {}}],
            "extraVolumeMounts": [{"name": "extra", "mountPath": "/extra"}],
        }
    },
}

VALUES = {
    "defaults": {},
    "everything": EVERYTHING,
    "external-database": EXTERNAL_DATABASE,
    "existing-secrets": EXISTING_SECRETS,
    "least": LEAST,
    "task-pods": TASK_PODS,
}


@dataclass
class Chart:
    helm: Path
    _rendered: dict[str, list[Object]] = field(default_factory=dict)

    def template(self, values: Object) -> subprocess.CompletedProcess[str]:
        command = [
            *(str(self.helm), "template", "airflow", str(CHART), "--namespace", "flows"),
            *("--kube-version", KUBERNETES, "--values", "-"),
        ]
        return subprocess.run(command, input=json.dumps(values), capture_output=True, text=True, check=False)

    def render(self, values: Object) -> list[Object]:
        """Every object that the chart makes of these values; twice the same is the same rendering."""
        key = json.dumps(values, sort_keys=True)
        if key not in self._rendered:
            done = self.template(values)
            assert done.returncode == 0, done.stderr
            self._rendered[key] = [found for found in yaml.safe_load_all(done.stdout) if found]
        return self._rendered[key]

    def one(self, values: Object, kind: str, name: str) -> Object:
        (found,) = (it for it in self.render(values) if it["kind"] == kind and it["metadata"]["name"].startswith(name))
        return found

    def error(self, values: Object) -> str:
        done = self.template(values)
        assert done.returncode != 0, "was rendered"
        return done.stderr


def pods(objects: list[Object]) -> dict[str, Object]:
    """The pods, and the pod templates of all controllers, Knative Services and executors, by the object's name."""
    return {
        it["metadata"]["name"]: it if it["kind"] == "Pod" else it["spec"]["template"]
        for it in [*objects, *templates_of_executors(objects)]
        if it["kind"] == "Pod" or "template" in it.get("spec", {})
    }


def templates_of_executors(objects: list[Object]) -> list[Object]:
    """The pods that KubernetesExecutor makes its own from, which stand in a ConfigMap."""
    texts = [it["data"].get("pod_template_file.yaml") for it in objects if it["kind"] == "ConfigMap" and "data" in it]
    return [yaml.safe_load(text) for text in texts if text]


def containers(pod: Object) -> list[Object]:
    return [*pod["spec"].get("initContainers", []), *pod["spec"]["containers"]]


def ours(pod: Object) -> list[Object]:
    """The containers that the chart makes, without the extra ones of values."""
    return [it for it in containers(pod) if it["name"] not in {"more", "first"}]


def environment(container: Object) -> Object:
    return {it["name"]: it.get("value", it.get("valueFrom")) for it in container.get("env", [])}


def secret(found: Object, key: str) -> str:
    return base64.b64decode(found["data"][key]).decode()
