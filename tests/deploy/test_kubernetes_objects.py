"""The Kubernetes manifests as objects: valid, without rights that they do not need, and referring to each other."""

import copy
import functools
import os
import re
import shutil
import subprocess
from importlib.metadata import version
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from app import DISTRIBUTION
from tests.deploy.manifests import (
    MANIFESTS,
    NEEDS_KUBECTL,
    OVERLAYS,
    REPO,
    Document,
    container,
    derived,
    ingress_paths,
    kustomize,
    one,
    overlay,
    pod,
)
from tests.environments import python_with

pytestmark = NEEDS_KUBECTL


CHECKOV = "checkov==3.3.30"
# (name, kustomization.yaml) of each overlay that the guide shows
WRITTEN = re.findall(
    r"^```yaml\n# deploy/kubernetes/overlays/(\w+)/kustomization.yaml\n(.+?)^```",
    "".join(page.read_text() for page in sorted((REPO / "docs").glob("deploy*.md"))),
    re.MULTILINE | re.DOTALL,
)
# the first that knows `preStop.sleep` without a feature gate, one in between, the newest there is a schema for
VERSIONS = ["1.30", "1.34", kubernetes_validate.latest_version()]


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


def test_checkov_finds_nothing(tmp_path: Path) -> None:
    for name in OVERLAYS:
        (tmp_path / f"{name}.yaml").write_text(yaml.safe_dump_all(overlay(name)))
    command = [str(python_with(CHECKOV)), "-m", "checkov.main", "--config-file", str(MANIFESTS / ".checkov.yaml")]
    clean = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    result = subprocess.run(
        [*command, "--directory", str(tmp_path)], capture_output=True, text=True, env=clean, check=False
    )
    assert result.returncode == 0, result.stdout + result.stderr


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


def test_the_guide_shows_three_overlays() -> None:
    assert [name for name, _text in WRITTEN] == ["flowers", "mounted", "guarded"]


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
        assert labels["app.kubernetes.io/version"] == version(DISTRIBUTION), document["kind"]
        assert document["metadata"]["namespace"] == "sightglass", document["kind"]
    tag = container(documents)["image"].partition(":")[2]
    assert tag.partition("-")[0] == version(DISTRIBUTION)
