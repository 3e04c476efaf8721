"""The Docker files can't be started here: these tests hold them against the code that they configure."""

from __future__ import annotations

import json
import re
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
import yaml

from askonce.settings import load
from dedup_service.settings import Settings as DedupSettings
from gateway.settings import Settings as GatewaySettings
from inference_service.registry import build
from inference_service.settings import Settings as InferenceSettings

COMPOSE = Path(__file__).parents[2] / "compose"
KINDS: dict[str, type[Any]] = {"gateway": GatewaySettings, "dedup": DedupSettings, "inference": InferenceSettings}
OVERLAYS = ("compose.yaml", "gpu.yaml", "vllm.yaml", "monitoring.yaml")


def read(name: str) -> dict[str, Any]:
    """One YAML file."""
    loaded: dict[str, Any] = yaml.safe_load((COMPOSE / name).read_text(encoding="utf-8"))
    return loaded


def resolved(value: str) -> str:
    """A value as Compose fills it in: the default of a variable, or a stand-in for one that is required."""
    value = re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", value)
    return re.sub(r"\$\{\w+:\?[^}]*\}", "a secret of some length", value)


@pytest.mark.parametrize("name", OVERLAYS)
def test_every_variable_is_a_setting_of_its_service(name: str) -> None:
    """A variable that a service would refuse, or a value that it can't read, is found here, not at the first start."""
    for service, kind in KINDS.items():
        environment = read(name)["services"].get(service, {}).get("environment", {})
        load(kind, service, {key: resolved(str(value)) for key, value in environment.items()})


def test_example_environment_lists_every_variable_with_its_default() -> None:
    """A copy of the example changes nothing but the secrets, which it leaves empty, and hides no variable."""
    used: dict[str, str] = {}
    for path in COMPOSE.glob("*.yaml"):
        for name, kind, rest in re.findall(r"\$\{(\w+):([-?])([^}]*)\}", path.read_text(encoding="utf-8")):
            default = rest if kind == "-" else ""
            assert used.setdefault(name, default) == default, name
    lines = (COMPOSE / ".env.example").read_text(encoding="utf-8").splitlines()
    listed = dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))
    assert listed == used


def test_qdrant_is_of_a_version_that_the_client_supports() -> None:
    """Client and server may differ by one minor version at most, which is what the client itself warns about."""
    server = read("compose.yaml")["services"]["qdrant"]["image"].rpartition(":v")[2].split(".")
    client = version("qdrant-client").split(".")
    assert server[0] == client[0]
    assert abs(int(server[1]) - int(client[1])) <= 1


def test_services_listen_where_others_look_for_them() -> None:
    """The gateway dials, the health check asks and Prometheus scrapes the ports that the services open."""
    services = read("compose.yaml")["services"]
    gateway = services["gateway"]["environment"]
    for peer in ("dedup", "inference"):
        port = services[peer]["environment"][f"ASKONCE_{peer.upper()}_SERVING_LISTEN"].rpartition(":")[2]
        assert gateway[f"ASKONCE_GATEWAY_{peer.upper()}_TARGET"] == f"dns:///{peer}:{port}"
    dockerfile = (COMPOSE / "Dockerfile").read_text(encoding="utf-8")
    scraped = read("monitoring/prometheus.yaml")["scrape_configs"][0]["dns_sd_configs"][0]
    assert sorted(scraped["names"]) == sorted(KINDS)
    for name in KINDS:
        environment = services[name]["environment"]
        assert environment[f"ASKONCE_{name.upper()}_SERVING_LISTEN"] == "0.0.0.0:50051"
        assert "127.0.0.1:50051" in dockerfile
        assert environment[f"ASKONCE_{name.upper()}_TELEMETRY_METRICS_LISTEN"].endswith(f":{scraped['port']}")


def test_images_name_roles_and_extras_that_exist() -> None:
    """Build arguments name a console script and extras of the distribution."""
    project = (COMPOSE.parent / "pyproject.toml").read_text(encoding="utf-8")
    scripts = (COMPOSE / "services" / "pyproject.toml").read_text(encoding="utf-8")
    for name in OVERLAYS[:2]:
        for service, description in read(name)["services"].items():
            arguments = description.get("build", {}).get("args", {})
            if "ROLE" in arguments:
                assert arguments["ROLE"] == service
                assert f"askonce-{service} = " in scripts
            for extra in filter(None, arguments.get("EXTRA", "").split(",")):
                assert re.search(rf"^{extra} = \[", project, re.MULTILINE)


def test_files_and_volumes_that_are_mounted_exist() -> None:
    """A mount of a file that is not there would become an empty folder."""
    for name in OVERLAYS:
        loaded = read(name)
        for description in loaded["services"].values():
            for mount in description.get("volumes", []):
                source = mount.split(":")[0]
                if source.startswith("."):
                    assert (COMPOSE / source).is_file()
                else:
                    assert source in loaded["volumes"]


@pytest.mark.slow
def test_gpu_overlay_names_an_engine_that_can_be_built() -> None:
    """The overlay's engine is one of those that the registry knows."""
    pytest.importorskip("transformers")
    pytest.importorskip("inference_service.glm.engine")
    spec = resolved(read("gpu.yaml")["services"]["inference"]["environment"]["ASKONCE_INFERENCE_ENGINE"])
    assert build(spec, {}).info().model == "zai-org/GLM-4.6V-Flash"


def rules() -> list[dict[str, Any]]:
    """The alerting and recording rules."""
    found: list[dict[str, Any]] = read("monitoring/alerts.yaml")["groups"][0]["rules"]
    return found


def dashboard() -> list[dict[str, Any]]:
    """The panels of the dashboard."""
    panels: list[dict[str, Any]] = json.loads((COMPOSE / "monitoring/askonce.json").read_text(encoding="utf-8"))[
        "panels"
    ]
    return panels


def test_dashboard_and_alerts_use_rules_that_are_recorded() -> None:
    """A query names no recorded series that no rule records; `tests/system/test_telemetry.py` scrapes the others."""
    recorded = {rule["record"] for rule in rules() if "record" in rule}
    queries = [rule["expr"] for rule in rules()]
    queries += [target["expr"] for panel in dashboard() for target in panel["targets"]]
    assert {name for query in queries for name in re.findall(r"askonce:[a-z_:0-9]*", query)} == recorded


def test_rules_select_labels_that_the_gateway_writes() -> None:
    """The hit rate counts the source under the name that the gateway gives it."""
    source = (COMPOSE.parent / "gateway" / "answering.py").read_text(encoding="utf-8")
    selected = {value for rule in rules() for value in re.findall(r'source="(\w+)"', rule["expr"])}
    assert selected == {"cache"}
    assert re.search(r'source = "cache" if', source)


def test_targets_are_the_ones_that_were_asked_for() -> None:
    """Alerts and dashboard carry the targets: hit rate 65 %, GPU 80 %, 95th percentile 1.8 s."""
    expressions = {rule["alert"]: rule["expr"] for rule in rules() if "alert" in rule}
    assert "askonce:hit_rate:15m < 0.65" in expressions["HitRateLow"]
    assert expressions["AnswersSlow"].endswith("> 1.8")
    assert expressions["GpuBusy"].endswith("> 80")
    limits = [panel["fieldConfig"]["defaults"]["thresholds"]["steps"][1]["value"] for panel in dashboard()[:3]]
    assert limits == [0.65, 1.8, 0.8]


def test_the_gpu_overlay_fits_the_card_that_it_names() -> None:
    """Weights in eight bits, KV cache, both caches and two GB to work with stay within 24 GB."""
    environment = read("gpu.yaml")["services"]["inference"]["environment"]
    values = {
        name.removeprefix("ASKONCE_TRANSFORMERS_").lower(): resolved(str(value)) for name, value in environment.items()
    }
    assert values["quantisation"] in ("int8", "fp8")
    kv = int(values["max_batch_tokens"]) * 40 * 1024
    caches = int(values["prefix_cache_bytes"]) + int(values["feature_cache_bytes"])
    assert 12.4e9 + kv + caches + 2e9 < 23e9
