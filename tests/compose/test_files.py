"""The Docker files can't be started here: these tests hold them against the code that they configure."""

from __future__ import annotations

import copy
import json
import re
import shutil
import subprocess
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import podman_compose
import pytest
import yaml

from askonce.settings import load
from compose.dotenv import assignments, filled
from dedup_service.settings import Settings as DedupSettings
from gateway.settings import Settings as GatewaySettings
from inference_service.glm.settings import GlmSettings
from inference_service.openai.settings import OpenAISettings
from inference_service.reader.engine import ReaderSettings
from inference_service.registry import build
from inference_service.settings import Settings as InferenceSettings

COMPOSE = Path(__file__).parents[2] / "compose"
KINDS: dict[str, type[Any]] = {"gateway": GatewaySettings, "dedup": DedupSettings, "inference": InferenceSettings}
ENGINES: dict[str, type[Any]] = {"transformers": GlmSettings, "openai": OpenAISettings, "reader": ReaderSettings}
OVERLAYS = ("compose.yaml", "gpu.yaml", "vllm.yaml", "fleet.yaml", "monitoring.yaml")
TOGETHER = [
    ["compose.yaml"],
    ["compose.yaml", "gpu.yaml"],
    ["compose.yaml", "vllm.yaml"],
    ["compose.yaml", "fleet.yaml"],
    ["compose.yaml", "monitoring.yaml"],
    ["compose.yaml", "vllm.yaml", "fleet.yaml", "monitoring.yaml"],
]
EXAMPLE = (COMPOSE / ".env.example").read_text(encoding="utf-8")


def read(name: str) -> dict[str, Any]:
    """One YAML file, as it is written."""
    return copy.deepcopy(parsed(name))


@lru_cache
def parsed(name: str) -> dict[str, Any]:
    """The same, read once."""
    loaded: dict[str, Any] = yaml.safe_load((COMPOSE / name).read_text(encoding="utf-8"))
    return loaded


def merged(names: list[str]) -> dict[str, Any]:
    """Files put over one another, with the variables of a file that `compose.dotenv` made, by podman-compose."""
    whole: dict[str, Any] = {}
    for name in names:
        podman_compose.rec_merge(whole, copy.deepcopy(once(name)))
    return whole


@lru_cache
def made() -> dict[str, str]:
    """The variables of a file that `compose.dotenv` made."""
    return assignments(filled(EXAMPLE, ""))


@lru_cache
def once(name: str) -> dict[str, Any]:
    """One file with those variables."""
    return with_values(name, made())


def with_values(name: str, variables: dict[str, str]) -> dict[str, Any]:
    """One file with these variables."""
    found: dict[str, Any] = podman_compose.normalize(podman_compose.rec_subs(read(name), variables))
    return found


def environment(service: dict[str, Any]) -> dict[str, str]:
    """The variables of a service."""
    given = service.get("environment", {})
    return {name: str(value) for name, value in podman_compose.norm_as_dict(given).items()}


@pytest.mark.parametrize("names", TOGETHER, ids="+".join)
def test_every_variable_is_a_setting_of_its_service(names: list[str]) -> None:
    """A variable that a service would refuse or never read, or a value that it can't read, is found here, not at the
    first start. Nothing but the variables of the example is needed."""
    services = merged(names)["services"]
    for service, kind in KINDS.items():
        given = environment(services[service])
        load(kind, service, given)
        engine = given.get("ASKONCE_INFERENCE_ENGINE", "").partition(":")[0]
        for section, settings in ENGINES.items():
            own = {name: value for name, value in given.items() if name.startswith(f"ASKONCE_{section.upper()}_")}
            assert not own or section == engine, service
            load(settings, section, own)
        sections = tuple(f"ASKONCE_{section.upper()}_" for section in (service, *ENGINES))
        assert [name for name in given if name.startswith("ASKONCE_") and not name.startswith(sections)] == []


def test_a_start_without_secrets_says_what_to_run() -> None:
    """Compose itself refuses the example as it is, and names the command that makes the secrets."""
    for name in ("compose.yaml", "fleet.yaml", "monitoring.yaml"):
        for secret in set(re.findall(r"\{(\w+):\?", (COMPOSE / name).read_text(encoding="utf-8"))):
            with pytest.raises(ValueError, match=r"python3 -m compose\.dotenv"):
                with_values(name, {**made(), secret: ""})


def test_example_environment_lists_every_variable_with_its_default() -> None:
    """A copy of the example changes nothing but the secrets, which it leaves empty, and hides no variable."""
    used: dict[str, str] = {}
    for path in COMPOSE.glob("*.yaml"):
        for name, kind, rest in re.findall(r"\$\{(\w+)(:?[-?]?)([^}]*)\}", path.read_text(encoding="utf-8")):
            default = rest if kind == ":-" else ""
            assert used.setdefault(name, default) == default, name
    assert assignments(EXAMPLE) == used


@pytest.mark.parametrize("names", TOGETHER, ids="+".join)
def test_every_container_has_limits_and_a_pinned_image(names: list[str]) -> None:
    """One service that runs wild leaves the others their share; an image is one version, never the latest."""
    for name, service in merged(names)["services"].items():
        assert service["deploy"]["resources"]["limits"].keys() == {"cpus", "memory", "pids"}, name
        if "build" not in service:
            assert re.search(r":v?\d+\.\d+", service["image"]), name


@pytest.mark.parametrize("names", TOGETHER, ids="+".join)
def test_ports_are_published_on_this_machine_alone(names: list[str]) -> None:
    """Whoever wants the world to reach them says so; each address is published once."""
    published = [port for service in merged(names)["services"].values() for port in service.get("ports") or []]
    assert all(port.startswith("127.0.0.1:") for port in published)
    assert len(published) == len(set(published))
    assert {port.rpartition(":")[2] for port in published} >= {"50051", "8080"}


def test_replicas_of_a_fleet_share_every_store() -> None:
    """More than one of a service needs a ledger, a hot tier and leases that all of them see, and someone in front."""
    services = merged(["compose.yaml", "fleet.yaml"])["services"]
    assert {name: services[name]["deploy"].get("replicas", 1) for name in KINDS} == {
        "gateway": 2, "dedup": 3, "inference": 1,
    }  # fmt: skip
    dedup, gateway = environment(services["dedup"]), environment(services["gateway"])
    assert dedup["ASKONCE_DEDUP_LEDGER"].startswith("postgresql://")
    assert dedup["ASKONCE_DEDUP_REDIS"].startswith("redis://valkey:")
    assert gateway["ASKONCE_GATEWAY_REDIS"].startswith("redis://valkey:")
    assert not services["gateway"].get("ports")
    for store in ("qdrant", "postgres", "valkey"):
        assert podman_compose.norm_as_list(services[store]["networks"]) == ["stores"]
    assert merged(["compose.yaml"])["networks"]["stores"]["internal"] is True


def test_the_balancer_reaches_what_the_gateway_opens() -> None:
    """HAProxy's own check passes, where it is installed, and its ports are the gateway's."""
    text = (COMPOSE / "haproxy.cfg").read_text(encoding="utf-8")
    given = environment(read("compose.yaml")["services"]["gateway"])
    opened = {given["ASKONCE_GATEWAY_SERVING_LISTEN"], given["ASKONCE_GATEWAY_EDGE_LISTEN"]}
    assert {f"0.0.0.0:{port}" for port in re.findall(r"gateway:(\d+)", text)} == opened
    assert {f"0.0.0.0:{port}" for port in re.findall(r"bind :(\d+)", text)} == opened
    assert re.search(r"http-check send .*uri /healthz .*hdr Host localhost", text), "other hosts are refused"
    if shutil.which("haproxy") is not None:
        checked = subprocess.run(
            ["haproxy", "-c", "-f", str(COMPOSE / "haproxy.cfg")], capture_output=True, check=False
        )
        assert checked.returncode == 0, checked.stderr


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
        given = services[name]["environment"]
        assert given[f"ASKONCE_{name.upper()}_SERVING_LISTEN"] == "0.0.0.0:50051"
        assert "127.0.0.1:50051" in dockerfile
        assert given[f"ASKONCE_{name.upper()}_TELEMETRY_METRICS_LISTEN"].endswith(f":{scraped['port']}")


def test_images_name_roles_and_extras_that_exist() -> None:
    """Build arguments name a console script and extras of the distribution."""
    project = (COMPOSE.parent / "pyproject.toml").read_text(encoding="utf-8")
    scripts = (COMPOSE / "services" / "pyproject.toml").read_text(encoding="utf-8")
    for name in OVERLAYS:
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
                if source.startswith("./"):
                    assert (COMPOSE / source).is_file()
                else:
                    assert source in loaded["volumes"]


@pytest.mark.slow
def test_gpu_overlay_names_an_engine_that_can_be_built() -> None:
    """The overlay's engine is one of those that the registry knows."""
    pytest.importorskip("transformers")
    pytest.importorskip("inference_service.glm.engine")
    spec = environment(merged(["compose.yaml", "gpu.yaml"])["services"]["inference"])["ASKONCE_INFERENCE_ENGINE"]
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
    given = environment(merged(["compose.yaml", "gpu.yaml"])["services"]["inference"])
    values = {name.removeprefix("ASKONCE_TRANSFORMERS_").lower(): value for name, value in given.items()}
    assert values["quantisation"] in ("int8", "fp8")
    kv = int(values["max_batch_tokens"]) * 40 * 1024
    caches = int(values["prefix_cache_bytes"]) + int(values["feature_cache_bytes"])
    assert 12.4e9 + kv + caches + 2e9 < 23e9


def test_the_vllm_overlay_serves_what_the_engine_relies_on() -> None:
    """A pinned vLLM that knows the model, thinking told apart, prefixes kept, as many images as the engine sends, a
    health check, metrics that are scraped, and answers kept under the weights' format."""
    services = merged(["compose.yaml", "vllm.yaml"])["services"]
    vllm, given = services["vllm"], environment(services["inference"])
    pinned = re.fullmatch(r"vllm/vllm-openai:v(\d+)\.(\d+)\.\d+", vllm["image"])
    assert pinned is not None
    assert (int(pinned[1]), int(pinned[2])) >= (0, 14)  # thinking stays out of the content from there on
    flags = dict(flag.removeprefix("--").partition("=")[::2] for flag in vllm["command"] if flag.startswith("--"))
    assert flags["reasoning-parser"] == "glm45"
    assert "enable-prefix-caching" in flags
    assert json.loads(flags["limit-mm-per-prompt"])["image"] >= OpenAISettings().max_images
    assert given["ASKONCE_OPENAI_MODEL"] == flags["served-model-name"]
    assert given["ASKONCE_OPENAI_REVISION"].endswith(f"@{flags['revision']}+--dtype={flags['dtype']}")
    assert "/health" in " ".join(vllm["healthcheck"]["test"])
    scraped = [name for job in read("monitoring/prometheus.yaml")["scrape_configs"] for name in
               (job.get("dns_sd_configs") or [{}])[0].get("names", [])]  # fmt: skip
    assert "vllm" in scraped
