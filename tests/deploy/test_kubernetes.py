"""The numbers of the Kubernetes manifests are in step with the code that they run."""

import re
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest
import yaml

from app.engines.variants import VARIANTS
from app.http import upload
from app.limits.memory import Memory
from app.settings import DEFAULT_MODEL, PREFIX, Settings, SettingsError
from tests.deploy.manifests import (
    NEEDS_KUBECTL,
    OVERLAYS,
    Document,
    chosen,
    container,
    derived,
    ingress_paths,
    limit,
    load,
    merged,
    one,
    overlay,
    pod,
    probes,
)
from tests.serving import Server, serving

pytestmark = NEEDS_KUBECTL


# what torch with CUDA holds before the first image: an estimate, for want of a GPU here
TORCH_CUDA_BYTES = 2_500_000_000
DECODING_BYTES_PER_PIXEL = 14  # a PNG with transparency; app.artifact.decoder.decode


# ---- what the tests look at


@pytest.fixture
def values(documents: list[Document], monkeypatch: pytest.MonkeyPatch) -> Settings:
    """What the service makes of the overlay's settings."""
    return load(chosen(documents), monkeypatch)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The default artifact with the cpu overlay's settings, but a free port and no drain."""
    wanted = {name.removeprefix(PREFIX): value for name, value in chosen(overlay("cpu")).items()}
    folder = tmp_path_factory.mktemp("serve")
    with serving(DEFAULT_MODEL, folder, **wanted | {"PORT": 0, "DRAIN_MS": 0, "THREADS": 2}) as running:
        yield running


# ---- settings


def test_every_setting_is_known_and_its_value_loads(documents: list[Document], values: Settings) -> None:
    for name, text in chosen(documents).items():
        assert str(getattr(values, name.removeprefix(PREFIX).lower())) == text


def test_a_misspelt_setting_or_value_does_not_load(documents: list[Document], monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SettingsError, match="did you mean SIGHTGLASS_DRAIN_MS"):
        load(chosen(documents) | {"SIGHTGLASS_DRAINMS": "1"}, monkeypatch)
    monkeypatch.delenv("SIGHTGLASS_DRAINMS")
    with pytest.raises(SettingsError, match="SIGHTGLASS_DEADLINE_MS=30s"):
        load(chosen(documents) | {"SIGHTGLASS_DEADLINE_MS": "30s"}, monkeypatch)


def test_a_changed_setting_rolls_the_pods(documents: list[Document], tmp_path: Path) -> None:
    changed = derived(tmp_path, configMapGenerator=[merged("SIGHTGLASS_MAX_BATCH=8")])
    names = set()
    for rendered in (overlay("cpu"), changed):
        (source,) = container(rendered)["envFrom"]
        assert source["configMapRef"]["name"] == one(rendered, "ConfigMap")["metadata"]["name"]
        names.add(source["configMapRef"]["name"])
    assert len(names) == 2
    assert chosen(changed)["SIGHTGLASS_MAX_BATCH"] == "8"


# ---- one port, the right routes


def test_everybody_means_the_port_that_the_service_listens_on(documents: list[Document], values: Settings) -> None:
    (port,) = container(documents)["ports"]
    assert port["containerPort"] == values.port
    (service_port,) = one(documents, "Service")["spec"]["ports"]
    assert service_port["targetPort"] == port["name"]
    for name, probe in probes(documents).items():
        assert probe["httpGet"]["port"] == port["name"], name
    for path in ingress_paths(documents):
        backend = path["backend"]["service"]
        assert backend["name"] == one(documents, "Service")["metadata"]["name"]
        assert backend["port"] == {"name": service_port["name"]}
    annotations = one(documents, "Deployment")["spec"]["template"]["metadata"]["annotations"]
    assert annotations["prometheus.io/port"] == str(values.port)


def test_the_network_is_closed_but_for_that_port(documents: list[Document], values: Settings) -> None:
    policy = one(documents, "NetworkPolicy")["spec"]
    assert sorted(policy["policyTypes"]) == ["Egress", "Ingress"]
    assert policy["ingress"] == [{"ports": [{"protocol": "TCP", "port": values.port}]}]
    assert policy["egress"] == []


def test_the_probes_ask_routes_that_a_running_service_answers(documents: list[Document], server: Server) -> None:
    asked = {name: probe["httpGet"]["path"] for name, probe in probes(documents).items()}
    assert asked["readiness"] == "/health/ready"
    assert asked["liveness"] == "/health/live"  # /health/ready would have a draining or overloaded pod killed
    with httpx2.Client(base_url=server.url) as client:
        for path in asked.values():
            assert client.get(path).status_code == 200, path


def test_prometheus_finds_metrics_where_the_annotations_say(documents: list[Document], server: Server) -> None:
    annotations = one(documents, "Deployment")["spec"]["template"]["metadata"]["annotations"]
    assert annotations["prometheus.io/scrape"] == "true"
    answer = httpx2.get(server.url + annotations["prometheus.io/path"])
    assert "# TYPE sightglass_" in answer.text


def test_the_ingress_lets_through_every_route_but_metrics(documents: list[Document], server: Server) -> None:
    with httpx2.Client(base_url=server.url) as client:
        pages = "".join(client.get(page).text for page in ("/docs", "/docs/errors"))
        own = client.get("/", headers={"Accept": "text/html"}).text
        routes = {"/", "/docs", "/docs/errors", "/openapi.json"} | set(client.get("/openapi.json").json()["paths"])
    routes |= set(re.findall(r'(?:href|src)="(/[^"]+)"', pages))
    routes |= {f"/{path}" for path in re.findall(r'(?:href|src)="(page/[^"?]+)', own)} | {"/page/samples/0"}
    assert "/metrics" in routes
    assert {route for route in routes if not let_through(documents, route)} == {"/metrics"}


def let_through(documents: list[Document], route: str) -> bool:
    return any(
        route == path["path"] or (path["pathType"] == "Prefix" and route.startswith(path["path"].rstrip("/") + "/"))
        for path in ingress_paths(documents)
    )


# ---- limits that contain each other


def test_a_pod_has_time_to_finish_what_it_accepted(documents: list[Document], values: Settings) -> None:
    pause = container(documents)["lifecycle"]["preStop"]["sleep"]["seconds"]
    needed = pause + values.drain_ms / 1000 + values.deadline_ms / 1000
    assert values.drain_ms > 0
    assert pod(documents)["terminationGracePeriodSeconds"] >= needed + 10


def test_the_proxy_waits_longer_than_the_service(documents: list[Document], values: Settings) -> None:
    annotations = one(documents, "Ingress")["metadata"]["annotations"]
    timeouts = {name: value for name, value in annotations.items() if name.endswith("-timeout")}
    assert len(timeouts) == 4
    for name, value in timeouts.items():
        assert int(value.removesuffix("s")) >= values.deadline_ms / 1000 + 5, name
        # ingress-nginx wants a number of seconds, F5's controller a time with its unit
        assert value.endswith("s") == name.startswith("nginx.org/"), name


def test_the_proxy_takes_what_the_service_takes_and_not_much_more(documents: list[Document], values: Settings) -> None:
    annotations = one(documents, "Ingress")["metadata"]["annotations"]
    largest = values.max_upload_bytes + upload._FORM_OVERHEAD_BYTES
    for name in ("nginx.ingress.kubernetes.io/proxy-body-size", "nginx.org/client-max-body-size"):
        assert largest <= int(annotations[name].removesuffix("m")) * 2**20 < 2 * largest, name


def test_memory_is_enough_to_decode_the_largest_image(
    documents: list[Document], values: Settings, server: Server
) -> None:
    at_rest = TORCH_CUDA_BYTES if values.device == "cuda" else server.resident_bytes()
    memory = Memory(int(limit(documents, "memory") - at_rest))
    assert memory.decoding_bytes >= values.max_pixels * DECODING_BYTES_PER_PIXEL
    assert 1.5 * at_rest <= limit(documents, "memory", "requests") <= limit(documents, "memory")


def test_threads_are_whole_cores(documents: list[Document], values: Settings) -> None:
    assert limit(documents, "cpu") % 1 == 0
    assert limit(documents, "cpu", "requests") <= limit(documents, "cpu")
    assert values.threads is None
    assert values.workers == 1  # pods are what is multiplied


# ---- how many pods


def test_one_hand_decides_how_many_pods_there_are(documents: list[Document]) -> None:
    scaled = [document["spec"] for document in documents if document["kind"] == "HorizontalPodAutoscaler"]
    fixed = one(documents, "Deployment")["spec"].get("replicas")
    assert bool(scaled) == (fixed is None)  # else each `kubectl apply` would undo what the autoscaler did
    fewest = scaled[0]["minReplicas"] if scaled else fixed
    assert fewest >= 2
    assert one(documents, "PodDisruptionBudget")["spec"]["maxUnavailable"] < fewest


def test_a_rollout_on_cpu_never_has_fewer_pods() -> None:
    strategy = one(overlay("cpu"), "Deployment")["spec"]["strategy"]
    assert strategy == {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}}


def test_the_gpu_overlay_gets_a_gpu_and_uses_it(monkeypatch: pytest.MonkeyPatch) -> None:
    gpu, values = overlay("gpu"), load(chosen(overlay("gpu")), monkeypatch)
    assert limit(gpu, "nvidia.com/gpu") == 1
    assert {"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"} in pod(gpu)["tolerations"]
    assert (values.variant, values.device) == ("torchscript", "cuda")
    assert values.variant in VARIANTS
    assert container(gpu)["image"].endswith("-torch")  # the other image has no torch
    # a surge would wait for a spare GPU
    assert one(gpu, "Deployment")["spec"]["strategy"]["rollingUpdate"] == {"maxUnavailable": 1, "maxSurge": 0}
    assert "nvidia" not in yaml.safe_dump_all(overlay("cpu"))


def test_a_start_has_many_times_the_time_it_needs() -> None:
    allowed = {name: probes(overlay(name))["startup"] for name in OVERLAYS}
    seconds = {name: probe["periodSeconds"] * probe["failureThreshold"] for name, probe in allowed.items()}
    assert seconds["cpu"] >= 30
    assert seconds["gpu"] >= 120
