"""The Kubernetes manifests as kubectl renders them: valid, closed, and in step with the code that they run."""

import copy
import functools
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import httpx2
import kubernetes_validate
import pytest
import yaml

from app import settings
from app.engines import ENGINES
from app.memory import Memory
from app.routes import upload
from app.settings import PREFIX, Settings, SettingsError
from tests.serving import Server, serving

REPO = Path(__file__).resolve().parents[2]
MANIFESTS = REPO / "deploy/kubernetes"
OVERLAYS = sorted(folder.name for folder in (MANIFESTS / "overlays").iterdir())
KUBECTL = shutil.which("kubectl")
CHECKOV = os.environ.get("CHECKOV") or shutil.which("checkov")

# (name, kustomization.yaml) of each overlay that the guide shows
WRITTEN = re.findall(
    r"^```yaml\n# deploy/kubernetes/overlays/(\w+)/kustomization.yaml\n(.+?)^```",
    "".join(page.read_text() for page in sorted((REPO / "docs").glob("deploy*.md"))),
    re.MULTILINE | re.DOTALL,
)

# the first that knows `preStop.sleep` without a feature gate, one in between, the newest there is a schema for
VERSIONS = ["1.30", "1.34", kubernetes_validate.latest_version()]
# what torch with CUDA holds before the first picture: an estimate, for want of a GPU here
TORCH_CUDA_BYTES = 2_500_000_000
DECODING_BYTES_PER_PIXEL = 14  # a PNG with transparency; app.artifact.image

pytestmark = pytest.mark.skipif(not KUBECTL, reason="kubectl, which renders the overlays, is not on PATH")

Document = dict[str, Any]


# ---- what the tests look at


def kustomize(folder: Path) -> list[Document]:
    assert KUBECTL
    result = subprocess.run([KUBECTL, "kustomize", str(folder)], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    return list(yaml.safe_load_all(result.stdout))


@functools.cache
def overlay(name: str) -> list[Document]:
    """Do not change what is in it."""
    return kustomize(MANIFESTS / "overlays" / name)


def one(documents: list[Document], kind: str) -> Document:
    (found,) = (document for document in documents if document["kind"] == kind)
    return found


def pod(documents: list[Document]) -> Document:
    spec: Document = one(documents, "Deployment")["spec"]["template"]["spec"]
    return spec


def container(documents: list[Document]) -> Document:
    (found,) = pod(documents)["containers"]
    return dict(found)


def probes(documents: list[Document]) -> dict[str, Document]:
    return {name: container(documents)[f"{name}Probe"] for name in ("startup", "readiness", "liveness")}


def limit(documents: list[Document], resource: str, of: str = "limits") -> float:
    """Cores, bytes or pieces."""
    return quantity(container(documents)["resources"][of][resource])


def quantity(text: str) -> float:
    number, unit = re.fullmatch(r"(\d+)(m|Mi|Gi)?", text).groups()  # type: ignore[union-attr]
    return int(number) * {None: 1, "m": 0.001, "Mi": 2**20, "Gi": 2**30}[unit]


def chosen(documents: list[Document]) -> dict[str, str]:
    """The pod's own environment. It has no other source than the ConfigMap."""
    assert "env" not in container(documents)
    return dict(one(documents, "ConfigMap")["data"])


def load(environment: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Settings:
    for name in list(os.environ):
        if name.startswith(PREFIX):
            monkeypatch.delenv(name)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    return settings.load()


@pytest.fixture(params=OVERLAYS)
def documents(request: pytest.FixtureRequest) -> list[Document]:
    return overlay(request.param)


@pytest.fixture
def values(documents: list[Document], monkeypatch: pytest.MonkeyPatch) -> Settings:
    """What the service makes of the overlay's settings."""
    return load(chosen(documents), monkeypatch)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The default artifact with the cpu overlay's settings, but a free port and no drain."""
    wanted = {name.removeprefix(PREFIX): value for name, value in chosen(overlay("cpu")).items()}
    folder = tmp_path_factory.mktemp("serve")
    with serving(REPO / "exports/cifar10/1", folder, **wanted | {"PORT": 0, "DRAIN_MS": 0, "THREADS": 2}) as running:
        yield running


# ---- valid


@pytest.mark.parametrize("against", VERSIONS)
def test_every_field_is_one_that_kubernetes_knows(documents: list[Document], against: str) -> None:
    assert len(documents) >= 7
    for document in documents:
        kubernetes_validate.validate(document, against, strict=True)


@pytest.mark.parametrize(
    ("kind", "path", "misspelt"),
    [
        ("Deployment", "spec", "Spec"),
        ("Deployment", "spec.strategy.rollingUpdate.maxSurge", "maxsurge"),
        ("Deployment", "spec.template.spec.enableServiceLinks", "enableServicesLinks"),
        ("Deployment", "spec.template.spec.securityContext.seccompProfile.type", "kind"),
        ("Deployment", "spec.template.spec.containers.0.envFrom.0.configMapRef", "configmapRef"),
        ("Deployment", "spec.template.spec.containers.0.lifecycle.preStop.sleep.seconds", "second"),
        ("Deployment", "spec.template.spec.containers.0.readinessProbe.httpGet.path", "url"),
        ("Deployment", "spec.template.spec.containers.0.resources.limits", "limit"),
        (
            "Deployment",
            "spec.template.spec.containers.0.securityContext.readOnlyRootFilesystem",
            "readOnlyRootFileSystem",
        ),
        ("Deployment", "spec.template.spec.topologySpreadConstraints.0.whenUnsatisfiable", "whenUnsatisfied"),
        ("Service", "spec.ports.0.targetPort", "targetport"),
        ("Ingress", "spec.rules.0.http.paths.0.backend.service.port.name", "nam"),
        ("NetworkPolicy", "spec.policyTypes", "policyType"),
        ("PodDisruptionBudget", "spec.maxUnavailable", "maxUnavailible"),
        ("HorizontalPodAutoscaler", "spec.behavior.scaleDown.policies.0.periodSeconds", "period"),
        ("HorizontalPodAutoscaler", "spec.metrics.0.resource.target.averageUtilization", "averageUtilisation"),
        ("ServiceAccount", "automountServiceAccountToken", "automountServiceAccountTokens"),
    ],
)
@pytest.mark.parametrize("against", VERSIONS)
def test_a_misspelt_field_does_not_pass(kind: str, path: str, misspelt: str, against: str) -> None:
    document = copy.deepcopy(one(overlay("cpu"), kind))
    parts: list[Any] = [int(part) if part.isdecimal() else part for part in path.split(".")]
    *parents, last = parts
    owner = functools.reduce(lambda found, part: found[part], parents, document)
    owner[misspelt] = owner.pop(last)
    with pytest.raises(kubernetes_validate.ValidationError, match=re.escape(str(misspelt)) + "|required"):
        kubernetes_validate.validate(document, against, strict=True)


@pytest.mark.skipif(not CHECKOV, reason="checkov is not on PATH, and CHECKOV does not name it")
def test_checkov_finds_nothing(documents: list[Document], tmp_path: Path) -> None:
    rendered = tmp_path / "rendered.yaml"
    rendered.write_text(yaml.safe_dump_all(documents))
    command = [str(CHECKOV), "--config-file", str(MANIFESTS / ".checkov.yaml"), "--file", str(rendered)]
    clean = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    result = subprocess.run(command, capture_output=True, text=True, env=clean, check=False)
    assert result.returncode == 0, result.stdout + result.stderr


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


def merged(*literals: str) -> Document:
    return {"name": "sightglass", "behavior": "merge", "literals": list(literals)}


def derived(folder: Path, **fields: object) -> list[Document]:
    """A team's own overlay over the one for CPU."""
    base = os.path.relpath((MANIFESTS / "overlays/cpu").resolve(), folder.resolve())
    (folder / "kustomization.yaml").write_text(yaml.safe_dump({"resources": [base], **fields}))
    return kustomize(folder)


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
        routes = {"/", "/docs", "/docs/errors", "/openapi.json"} | set(client.get("/openapi.json").json()["paths"])
    routes |= set(re.findall(r'(?:href|src)="(/[^"]+)"', pages))
    assert "/metrics" in routes
    assert {route for route in routes if not let_through(documents, route)} == {"/metrics"}


def ingress_paths(documents: list[Document]) -> list[Document]:
    (rule,) = one(documents, "Ingress")["spec"]["rules"]
    paths: list[Document] = rule["http"]["paths"]
    return paths


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


def test_memory_is_enough_to_decode_the_largest_picture(
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


# ---- rights


def test_the_pod_meets_the_restricted_standard(documents: list[Document]) -> None:
    of_pod, of_container = pod(documents)["securityContext"], container(documents)["securityContext"]
    assert of_pod["runAsNonRoot"] is True
    assert of_pod["seccompProfile"] == {"type": "RuntimeDefault"}
    assert of_container == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert not {"hostNetwork", "hostPID", "hostIPC", "initContainers"} & set(pod(documents))
    assert "volumes" not in pod(documents)  # nothing to write to


def test_it_runs_as_the_user_of_the_image(documents: list[Document]) -> None:
    users = set(re.findall(r"^USER (.+)$", (REPO / "Dockerfile").read_text(), re.MULTILINE))
    context = pod(documents)["securityContext"]
    assert users == {f"{context['runAsUser']}:{context['runAsGroup']}"} == {"10001:10001"}


def test_it_holds_no_token_and_hears_of_no_other_service(documents: list[Document]) -> None:
    account = one(documents, "ServiceAccount")
    assert account["automountServiceAccountToken"] is pod(documents)["automountServiceAccountToken"] is False
    assert pod(documents)["serviceAccountName"] == account["metadata"]["name"]
    assert pod(documents)["enableServiceLinks"] is False


# ---- what belongs together


def selectors(documents: list[Document]) -> dict[str, dict[str, str]]:
    spread = pod(documents)["topologySpreadConstraints"]
    return {
        "Service": one(documents, "Service")["spec"]["selector"],
        "Deployment": one(documents, "Deployment")["spec"]["selector"]["matchLabels"],
        "PodDisruptionBudget": one(documents, "PodDisruptionBudget")["spec"]["selector"]["matchLabels"],
        "NetworkPolicy": one(documents, "NetworkPolicy")["spec"]["podSelector"]["matchLabels"],
    } | {each["topologyKey"]: each["labelSelector"]["matchLabels"] for each in spread}


def selected(selector: dict[str, str], documents: list[Document]) -> bool:
    labels: dict[str, str] = one(documents, "Deployment")["spec"]["template"]["metadata"]["labels"]
    return selector.items() <= labels.items()


def test_every_selector_finds_the_pods(documents: list[Document]) -> None:
    assert len(selectors(documents)) == 6
    for owner, selector in selectors(documents).items():
        assert set(selector) == {"app.kubernetes.io/name", "app.kubernetes.io/instance"}, owner
        assert selected(selector, documents), owner


def test_two_models_in_one_namespace_keep_their_pods_apart(tmp_path: Path) -> None:
    sightglass, flowers = (
        overlay("cpu"),
        derived(
            tmp_path,
            namePrefix="flowers-",
            labels=[{"pairs": {"app.kubernetes.io/instance": "flowers"}, "includeSelectors": True}],
            images=[{"name": "sightglass", "newName": "flowers", "newTag": "1"}],
        ),
    )
    assert container(flowers)["image"] == "flowers:1"
    for ours, theirs in ((sightglass, flowers), (flowers, sightglass)):
        for owner, selector in selectors(ours).items():
            assert selected(selector, ours), owner
            assert not selected(selector, theirs), owner
    names = [{(document["kind"], document["metadata"]["name"]) for document in each} for each in (sightglass, flowers)]
    assert not names[0] & names[1]
    references_hold(flowers)


def test_every_reference_is_to_something_that_is_there(documents: list[Document]) -> None:
    references_hold(documents)


def test_the_guide_shows_two_overlays() -> None:
    assert [name for name, _text in WRITTEN] == ["flowers", "mounted"]


@pytest.mark.parametrize("written", WRITTEN, ids=lambda written: written[0])
def test_the_overlays_that_the_guide_shows_are_valid(written: tuple[str, str], tmp_path: Path) -> None:
    name, text = written
    shutil.copytree(MANIFESTS, tmp_path / "kubernetes")
    folder = tmp_path / "kubernetes/overlays" / name
    folder.mkdir()
    (folder / "kustomization.yaml").write_text(text)
    rendered = kustomize(folder)
    for document in rendered:
        kubernetes_validate.validate(document, kubernetes_validate.latest_version(), strict=True)
    references_hold(rendered)
    assert yaml.safe_dump_all(rendered) != yaml.safe_dump_all(overlay("cpu"))


def references_hold(documents: list[Document]) -> None:
    names = {(document["kind"], document["metadata"]["name"]) for document in documents}
    assert len(names) == len(documents)
    wanted = {("Service", path["backend"]["service"]["name"]) for path in ingress_paths(documents)}
    wanted |= {("ServiceAccount", pod(documents)["serviceAccountName"])}
    wanted |= {("ConfigMap", source["configMapRef"]["name"]) for source in container(documents)["envFrom"]}
    for scaler in documents:
        if scaler["kind"] == "HorizontalPodAutoscaler":
            target = scaler["spec"]["scaleTargetRef"]
            assert target["apiVersion"] == one(documents, "Deployment")["apiVersion"]
            wanted |= {(target["kind"], target["name"])}
    assert wanted <= names


def test_labels_and_images_are_of_this_version(documents: list[Document]) -> None:
    for document in documents:
        labels = document["metadata"]["labels"]
        assert labels["app.kubernetes.io/name"] == "sightglass", document["kind"]
        assert labels["app.kubernetes.io/version"] == version("sightglass"), document["kind"]
        assert document["metadata"]["namespace"] == "sightglass", document["kind"]
    tag = container(documents)["image"].partition(":")[2]
    assert tag.partition("-")[0] == version("sightglass")


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
    assert values.variant in ENGINES
    assert container(gpu)["image"].endswith("-torch")  # the other image has no torch
    # a surge would wait for a spare GPU
    assert one(gpu, "Deployment")["spec"]["strategy"]["rollingUpdate"] == {"maxUnavailable": 1, "maxSurge": 0}
    assert "nvidia" not in yaml.safe_dump_all(overlay("cpu"))


def test_a_start_has_many_times_the_time_it_needs() -> None:
    allowed = {name: probes(overlay(name))["startup"] for name in OVERLAYS}
    seconds = {name: probe["periodSeconds"] * probe["failureThreshold"] for name, probe in allowed.items()}
    assert seconds["cpu"] >= 30
    assert seconds["gpu"] >= 120
