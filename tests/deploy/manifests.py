"""The Kubernetes manifests as kubectl renders them, and what is looked up in them."""

import functools
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from app import settings
from app.settings import PREFIX, Settings

REPO = Path(__file__).resolve().parents[2]
MANIFESTS = REPO / "deploy/kubernetes"
OVERLAYS = sorted(folder.name for folder in (MANIFESTS / "overlays").iterdir())
KUBECTL = shutil.which("kubectl")
NEEDS_KUBECTL = pytest.mark.skipif(not KUBECTL, reason="kubectl, which renders the overlays, is not on PATH")
Document = dict[str, Any]


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


def ingress_paths(documents: list[Document]) -> list[Document]:
    (rule,) = one(documents, "Ingress")["spec"]["rules"]
    paths: list[Document] = rule["http"]["paths"]
    return paths


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


def merged(*literals: str) -> Document:
    return {"name": "sightglass", "behavior": "merge", "literals": list(literals)}


def derived(folder: Path, **fields: object) -> list[Document]:
    """A team's own overlay over the one for CPU."""
    base = os.path.relpath((MANIFESTS / "overlays/cpu").resolve(), folder.resolve())
    (folder / "kustomization.yaml").write_text(yaml.safe_dump({"resources": [base], **fields}))
    return kustomize(folder)
