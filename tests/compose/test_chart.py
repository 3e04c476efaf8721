"""The chart, rendered by Helm's own library, held against Kubernetes' schemas and the code that it configures."""

from __future__ import annotations

import hashlib
import json
import re
import tomllib
from functools import lru_cache
from pathlib import Path
from typing import Any

import helm_python
import jsonschema
import kubernetes_validate
import pytest
import yaml

from askonce.access import parse_keys
from askonce.settings import load
from dedup_service.settings import Settings as DedupSettings
from gateway.service import NAME as GATEWAY
from gateway.settings import Settings as GatewaySettings
from inference_service.glm.settings import GlmSettings
from inference_service.openai.settings import OpenAISettings
from inference_service.reader.engine import ReaderSettings
from inference_service.service import NAME as INFERENCE
from inference_service.settings import Settings as InferenceSettings

ROOT = Path(__file__).parents[2]
CHART = ROOT / "compose" / "chart"
KINDS: dict[str, type[Any]] = {"gateway": GatewaySettings, "dedup": DedupSettings, "inference": InferenceSettings}
ENGINES: dict[str, type[Any]] = {"transformers": GlmSettings, "openai": OpenAISettings, "reader": ReaderSettings}
HEALTH = {"gateway": GATEWAY, "dedup": "askonce.v1.DedupService", "inference": INFERENCE}
STORES = {
    "qdrant": "https://:key@qdrant:6334",
    "ledger": "postgresql://u:p@postgres/askonce",
    "redis": "redis://redis:6379/0",
}
VALUES: dict[str, dict[str, Any]] = {
    "default": {},
    "fleet": {
        "stores": STORES,
        "dedup": {"store": "qdrant", "settings": {"METRICS_TENANTS": "acme,globex"}},
        "gateway": {"allowedHosts": ["ask.example.com", ".example.org"], "service": {"type": "LoadBalancer"}},
        "tracesEndpoint": "http://otel-collector:4318",
    },
    "yours": {
        "secrets": {"existing": "mine"},
        "serviceAccount": {"create": False},
        "image": {"registry": "registry.example.com/team", "tag": "1.2", "pullSecrets": ["pull"]},
        "dedup": {"store": "qdrant", "operators": True, "replicas": 3, "autoscaling": {"enabled": False}},
        "gateway": {"open": True, "replicas": 1, "autoscaling": {"enabled": False}, "nodeSelector": {"disk": "fast"}},
        "networkPolicy": {
            "clients": [{"namespaceSelector": {"matchLabels": {"team": "a"}}}],
            "operators": [{"podSelector": {"matchLabels": {"role": "admin"}}}],
            "monitoring": [{"namespaceSelector": {"matchLabels": {"name": "monitoring"}}}],
            "egress": {"gateway": [{"ports": [{"port": 443}]}]},
        },
    },
    "gpu": {
        "inference": {
            "engine": "transformers:zai-org/GLM-4.6V-Flash",
            "gpus": 1,
            "engineSettings": {"QUANTISATION": "int8"},
            "settings": {"QUEUE_LIMIT": "32"},
            "tolerations": [{"key": "nvidia.com/gpu", "operator": "Exists"}],
            "models": {"storageClass": "fast"},
        },
        "networkPolicy": {"enabled": False},
    },
    "vllm": {
        "inference": {
            "engine": "openai:http://vllm:8000/v1",
            "replicas": 2,
            "autoscaling": {"enabled": True},
            "engineSettings": {"MODEL": "glm-4.6v-flash"},
        }
    },
}
EVERY = pytest.mark.parametrize("name", VALUES)
Manifest = dict[str, Any]


@lru_cache
def chart() -> helm_python.Chart:
    """The chart, read once."""
    return helm_python.Chart.load(str(CHART))


@lru_cache
def rendered(name: str) -> tuple[Manifest, ...]:
    """What these values make of it."""
    return render(VALUES[name])


def render(values: dict[str, Any]) -> tuple[Manifest, ...]:
    texts = chart().render(values, name="demo", namespace="ask")
    found = [each for path, text in texts.items() if path.endswith(".yaml") for each in yaml.safe_load_all(text)]
    return tuple(each for each in found if each)


def of_kind(name: str, *kinds: str) -> dict[str, Manifest]:
    """The manifests of these kinds, by name."""
    return {each["metadata"]["name"]: each for each in rendered(name) if each["kind"] in kinds}


def workloads(name: str) -> dict[str, Manifest]:
    """What runs the services, by service."""
    found = of_kind(name, "Deployment", "StatefulSet").values()
    return {each["metadata"]["labels"]["app.kubernetes.io/component"]: each for each in found}


def pod(workload: Manifest) -> Manifest:
    """The pod of a workload."""
    template: Manifest = workload["spec"]["template"]
    return template


def environment(name: str, service: str) -> dict[str, str]:
    """The variables of a service; a reference to a secret stands for the store's address."""
    given = {}
    for each in pod(workloads(name)[service])["spec"]["containers"][0]["env"]:
        reference = each.get("valueFrom", {}).get("secretKeyRef")
        given[each["name"]] = STORES[reference["key"]] if reference else each["value"]
    return given


@EVERY
@pytest.mark.parametrize("version", ["1.27", kubernetes_validate.latest_version().rpartition(".")[0]])
def test_every_manifest_is_of_kubernetes_schema(name: str, version: str) -> None:
    """Each is what the oldest and the newest supported Kubernetes take, without a field that they don't know."""
    assert {each["kind"] for each in rendered(name)} >= {"Deployment", "Service"}
    for manifest in rendered(name):
        kubernetes_validate.validate(manifest, version, strict=True)


def test_the_schemas_refuse_what_is_wrong() -> None:
    """An unknown field and a value of the wrong kind are found: the check above can fail."""
    (service, *_) = of_kind("default", "Service").values()
    for wrong in ({**service, "speck": {}}, {**service, "spec": {**service["spec"], "ports": "50051"}}):
        with pytest.raises(kubernetes_validate.ValidationError):
            kubernetes_validate.validate(wrong, "1.37", strict=True)


def test_helm_finds_nothing_to_warn_of() -> None:
    """`helm lint --strict` passes; the chart's version is the project's."""
    found = helm_python.lint(str(CHART), VALUES["fleet"], strict=True)
    assert [each for each in found["messages"] if each["severity"] > 1] == found["errors"] == []
    version = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
    described = yaml.safe_load((CHART / "Chart.yaml").read_text(encoding="utf-8"))
    assert described["appVersion"] == described["version"] == version


@EVERY
def test_every_variable_is_a_setting(name: str) -> None:
    """What a service would refuse or never read is found here, not at the first start."""
    for service, kind in KINDS.items():
        given = environment(name, service)
        load(kind, service, given)
        engine = given.get("ASKONCE_INFERENCE_ENGINE", "").partition(":")[0]
        own = {key: value for key, value in given.items() if not key.startswith(f"ASKONCE_{service.upper()}_")}
        assert all(key.startswith(f"ASKONCE_{engine.upper()}_") for key in own), own
        if engine:
            load(ENGINES[engine], engine, own)


@EVERY
def test_containers_may_do_little_and_use_little(name: str) -> None:
    """No root, no writable root file system, no capabilities, no token of the cluster; requests and limits."""
    for workload in workloads(name).values():
        spec = pod(workload)["spec"]
        assert spec["securityContext"]["runAsNonRoot"] is True
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert spec["automountServiceAccountToken"] is False
        for container in spec["containers"]:
            allowed = container["securityContext"]
            assert allowed["readOnlyRootFilesystem"] is True
            assert allowed["allowPrivilegeEscalation"] is False
            assert allowed["capabilities"] == {"drop": ["ALL"]}
            for kind in ("requests", "limits"):
                assert container["resources"][kind].keys() >= {"cpu", "memory"}
    dockerfile = (ROOT / "compose" / "Dockerfile").read_text(encoding="utf-8")
    assert f"--uid {spec['securityContext']['runAsUser']}" in dockerfile


@EVERY
def test_probes_ask_the_health_that_the_service_has(name: str) -> None:
    """Start and readiness ask for the service by name, life for the process; the port is the one that it opens."""
    for service, workload in workloads(name).items():
        container = pod(workload)["spec"]["containers"][0]
        port = int(environment(name, service)[f"ASKONCE_{service.upper()}_SERVING_LISTEN"].rpartition(":")[2])
        for probe in ("startupProbe", "readinessProbe"):
            assert container[probe]["grpc"] == {"port": port, "service": HEALTH[service]}
        assert container["livenessProbe"]["grpc"] == {"port": port}
        drain = float(environment(name, service)[f"ASKONCE_{service.upper()}_SERVING_DRAIN_DELAY"])
        grace = load(KINDS[service], service, environment(name, service)).serving.grace
        assert pod(workload)["spec"]["terminationGracePeriodSeconds"] > drain + 2 * grace


@EVERY
def test_names_lead_somewhere(name: str) -> None:
    """Selectors match pods, targets exist, ports are a container's, volumes are mounted, secrets hold what is asked."""
    pods = {service: pod(workload) for service, workload in workloads(name).items()}
    labels = [each["metadata"]["labels"] for each in pods.values()]
    claims = of_kind(name, "PersistentVolumeClaim")
    secrets = of_kind(name, "Secret")
    for manifest in of_kind(name, "Service", "PodDisruptionBudget", "NetworkPolicy").values():
        spec = manifest["spec"]
        selector = spec.get("podSelector", spec.get("selector"))
        selector = selector.get("matchLabels", selector)
        assert sum(selector.items() <= each.items() for each in labels) == 1, manifest["metadata"]["name"]
    for scaler in of_kind(name, "HorizontalPodAutoscaler").values():
        target = of_kind(name, "Deployment")[scaler["spec"]["scaleTargetRef"]["name"]]
        assert "replicas" not in target["spec"], "the two would fight"
    for service, each in pods.items():
        spec, container = each["spec"], each["spec"]["containers"][0]
        ports = {port["name"]: port["containerPort"] for port in container["ports"]}
        for port in of_kind(name, "Service")[f"demo-askonce-{service}"]["spec"]["ports"]:
            assert ports[port["targetPort"]] == port["port"]
        templates = workloads(name)[service]["spec"].get("volumeClaimTemplates", [])
        volumes = {volume["name"] for volume in [*spec["volumes"], *(claim["metadata"] for claim in templates)]}
        assert {mount["name"] for mount in container["volumeMounts"]} == volumes
        for volume in spec["volumes"]:
            if "persistentVolumeClaim" in volume:
                assert volume["persistentVolumeClaim"]["claimName"] in claims
        if secrets:
            held = secrets["demo-askonce"]["stringData"]
            files = {value.removeprefix("/run/askonce/") for value in environment(name, service).values()
                     if value.startswith("/run/askonce/")}  # fmt: skip
            keys = {each["valueFrom"]["secretKeyRef"]["key"] for each in container["env"] if "valueFrom" in each}
            assert files | keys <= held.keys()


@EVERY
def test_what_serves_alone_is_not_doubled(name: str) -> None:
    """Dedup on its own volume is one replica and never scaled; where there may be several, one at a time may go."""
    dedup = workloads(name)["dedup"]
    scaled = {each["spec"]["scaleTargetRef"]["name"] for each in of_kind(name, "HorizontalPodAutoscaler").values()}
    if environment(name, "dedup").get("ASKONCE_DEDUP_STORE") is None:
        assert (dedup["kind"], dedup["spec"]["replicas"]) == ("StatefulSet", 1)
        assert "demo-askonce-dedup" not in scaled
    else:
        assert {"ASKONCE_DEDUP_LEDGER", "ASKONCE_DEDUP_REDIS"} <= environment(name, "dedup").keys()
        assert "ASKONCE_GATEWAY_REDIS" in environment(name, "gateway")
    for service, workload in workloads(name).items():
        several = workload["spec"].get("replicas", 2) > 1
        assert (f"demo-askonce-{service}" in of_kind(name, "PodDisruptionBudget")) == several


def test_only_the_gateway_reaches_dedup_and_inference() -> None:
    """By the network policies: calls come from the gateway, and for dedup from operators that were named."""
    for name in ("default", "yours"):
        for service in ("dedup", "inference"):
            (rule,) = [
                each
                for each in of_kind(name, "NetworkPolicy")[f"demo-askonce-{service}"]["spec"]["ingress"]
                if {"port": "grpc"} in each["ports"]
            ]
            first, *others = rule["from"]
            assert first["podSelector"]["matchLabels"]["app.kubernetes.io/component"] == "gateway"
            assert len(others) == (service == "dedup" and name == "yours")
    assert {each["metadata"]["name"] for each in rendered("gpu") if each["kind"] == "NetworkPolicy"} == set()


def test_the_first_key_is_one_that_the_gateway_knows() -> None:
    """Without a Secret of yours there is a key for one tenant from the first moment, and nobody else gets in."""
    held = of_kind("default", "Secret")["demo-askonce"]["stringData"]
    keys = parse_keys(held["keys.toml"])
    assert keys[hashlib.sha256(held["first-key"].encode()).hexdigest()].tenant == "default"
    assert len({held[name] for name in ("service.key", "ticket.key", "first-key")}) == 3
    assert min(len(held[name]) for name in ("service.key", "ticket.key", "first-key")) >= 40
    assert "ASKONCE_GATEWAY_AUTH_OPEN" not in environment("default", "gateway")


@pytest.mark.parametrize(("values", "said"), [
    ({"dedup": {"store": "qdrant"}}, "stores.qdrant"),
    ({"dedup": {"store": "qdrant"}, "stores": {**STORES, "redis": ""}}, "stores.redis"),
    ({"dedup": {"operators": True}}, "secrets.existing"),
    ({"inference": {"engine": "transformers:m", "replicas": 2}}, "ReadWriteOnce"),
    ({"inference": {"engine": "vllm"}}, "engine"),
    ({"gateway": {"replicaCount": 2}}, "replicaCount"),
    ({"gateway": {"settings": {"JUDGE": False}}}, "JUDGE"),
])  # fmt: skip
def test_what_can_not_run_is_refused_when_it_is_rendered(values: dict[str, Any], said: str) -> None:
    """A misspelt value, one of the wrong kind, or a combination that can't work: said before anything is installed."""
    with pytest.raises(helm_python.HelmError, match=re.escape(said)):
        chart().render(values, name="demo")


def test_every_value_is_described_and_used() -> None:
    """The schema knows the defaults and nothing beyond them; each value changes something in a template."""
    schema = json.loads((CHART / "values.schema.json").read_text(encoding="utf-8"))
    defaults = yaml.safe_load((CHART / "values.yaml").read_text(encoding="utf-8"))
    jsonschema.validate(defaults, schema)
    templates = "".join(path.read_text(encoding="utf-8") for path in (CHART / "templates").iterdir())

    def compare(described: Manifest, values: Any, path: str) -> None:
        for key, inner in described.get("properties", {}).items():
            if path + key == "global":  # Helm's own
                continue
            assert key in values, f"{path}{key} is not in values.yaml"
            assert re.search(rf"\b{key}\b", templates), f"{path}{key} is in no template"
            compare(inner, values[key], f"{path}{key}.")

    compare(schema, defaults, "")
