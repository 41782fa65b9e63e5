"""Every port, path, limit, user and variable in Dockerfile, compose file and proxy is one that the service has."""

import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from app import settings
from app.settings import PREFIX, Settings

ROOT = Path(__file__).parents[2]
DOCKERFILE = (ROOT / "Dockerfile").read_text()
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
HAPROXY = (ROOT / "deploy/haproxy/haproxy.cfg").read_text()
BIN = Path(sys.executable).parent
DEFAULT = settings.Settings.model_fields


def seconds(text: str) -> float:
    """Of `45s`, `500ms`."""
    number, unit = re.fullmatch(r"(\d+)(ms|s)", text).groups()  # type: ignore[union-attr]  # a failure says enough
    return int(number) / (1000 if unit == "ms" else 1)


def environment(service: str) -> dict[str, str]:
    """A service's variables as a shell with none of its own would fill them in."""
    given = COMPOSE[service].get("environment", {})
    return {name: re.sub(r"\$\{\w+:-(.*?)\}", r"\1", str(value)) for name, value in given.items()}


@pytest.mark.parametrize("path", ["Dockerfile", "deploy/haproxy/Dockerfile"])
def test_hadolint_finds_nothing(path: str) -> None:
    subprocess.run([BIN / "hadolint", path], cwd=ROOT, check=True)


def test_the_workflow_is_one_and_zizmor_finds_nothing_in_it() -> None:
    workflow = ".github/workflows/ci.yml"
    subprocess.run(
        [BIN / "check-jsonschema", "--builtin-schema", "vendor.github-workflows", workflow], cwd=ROOT, check=True
    )
    subprocess.run([BIN / "zizmor", "--offline", "--quiet", workflow], cwd=ROOT, check=True)


def test_the_image_sets_settings_that_exist_and_opens_their_port(monkeypatch: pytest.MonkeyPatch) -> None:
    given = dict(re.findall(rf"({PREFIX}\w+)=(\S+)", DOCKERFILE.partition("AS service")[2]))
    assert set(given) == {"SIGHTGLASS_MODEL", "SIGHTGLASS_HOST"}
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    chosen = settings.load()
    assert re.findall(r"^EXPOSE (\d+)", DOCKERFILE, re.MULTILINE) == [str(chosen.port)]
    assert set(re.findall(r"^COPY .* (/\S+)$", DOCKERFILE, re.MULTILINE)) == {"/opt/venv", str(chosen.model)}


def test_the_image_has_the_version_of_the_package_and_the_default_artifact() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert re.findall(r"^ARG VERSION=(.*)$", DOCKERFILE, re.MULTILINE) == [project["version"]]
    baked = set(re.findall(r"^ARG ARTIFACT=(.*)$", DOCKERFILE, re.MULTILINE))
    assert baked == {str(settings.DEFAULT_MODEL.relative_to(ROOT))}


def test_one_user_everywhere() -> None:
    users = re.findall(r"^USER (\d+):(\d+)", DOCKERFILE, re.MULTILINE)
    assert users == [("10001", "10001")]
    pod = yaml.safe_load((ROOT / "deploy/kubernetes/base/deployment.yaml").read_text())["spec"]["template"]["spec"]
    assert (pod["securityContext"]["runAsUser"], pod["securityContext"]["runAsGroup"]) == (10001, 10001)


@pytest.mark.parametrize("service", [name for name, about in COMPOSE.items() if "environment" in about])
def test_compose_sets_settings_that_exist(service: str, monkeypatch: pytest.MonkeyPatch) -> None:
    given = {name: value for name, value in environment(service).items() if name.startswith(PREFIX)}
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    settings.load()
    assert given or service == "grafana"


@pytest.mark.parametrize("service", ["sightglass", "sightglass-gpu", "replica-1", "replica-2"])
def test_compose_grants_what_the_service_needs(service: str) -> None:
    about, given = COMPOSE[service], environment(service)
    for published in about.get("ports", []):
        assert published.endswith(f":{DEFAULT['port'].default}")
    drain_ms = int(given.get("SIGHTGLASS_DRAIN_MS", DEFAULT["drain_ms"].default))
    assert seconds(about["stop_grace_period"]) * 1000 > drain_ms + DEFAULT["deadline_ms"].default + 1000
    assert about["read_only"]
    assert about["cap_drop"] == ["ALL"]
    assert about["security_opt"] == ["no-new-privileges:true"]
    assert given["SIGHTGLASS_MODEL"] == "/model"
    workdir = re.findall(r"^WORKDIR (/d.*)$", DOCKERFILE, re.MULTILINE)
    assert about["volumes"] == [f"./exports:{workdir[-1]}/exports:ro"]


def test_what_compose_mounts_is_there() -> None:
    for service, about in COMPOSE.items():
        for volume in about.get("volumes", []):
            source, target = volume.split(":")[:2]
            assert not source.startswith("./") or (ROOT / source).exists(), f"{service}: {source}"
            if target == "/etc/grafana/dashboards":
                provider = yaml.safe_load((ROOT / "deploy/grafana/provisioning/dashboards/sightglass.yml").read_text())
                assert provider["providers"][0]["options"]["path"] == target


def test_compose_builds_stages_that_exist() -> None:
    stages = set(re.findall(r"^FROM \S+ AS (\S+)", DOCKERFILE, re.MULTILINE))
    targets = {about["build"]["target"] for about in COMPOSE.values() if "target" in about.get("build", {})}
    assert targets == {"serve", "serve-torch", "train"}
    assert targets <= stages
    assert re.findall(r"^FROM \S+ AS (\S+)", DOCKERFILE, re.MULTILINE)[-1] == "serve"  # what a plain build makes


def test_the_proxy_asks_a_route_that_exists_for_health_and_waits_longer_than_the_deadline() -> None:
    schema = json.loads(
        subprocess.run(
            [sys.executable, "-c", _OPENAPI], cwd=ROOT, capture_output=True, text=True, check=True
        ).stdout.splitlines()[-1]
    )
    asked = re.search(r"option httpchk GET (\S+)", HAPROXY)
    assert asked
    assert asked[1] in schema["paths"]
    assert re.findall(r"server (\S+) \1:(\d+)", HAPROXY) == [
        (name, str(DEFAULT["port"].default)) for name in COMPOSE if name.startswith("replica-")
    ]
    wait = re.search(r"timeout server (\S+)", HAPROXY)
    assert wait
    assert seconds(wait[1]) * 1000 > DEFAULT["deadline_ms"].default


def test_a_replica_drains_longer_than_the_proxy_takes_to_notice() -> None:
    every = re.search(r"check inter (\S+) fall (\d+)", HAPROXY)
    assert every
    notices = seconds(every[1]) * int(every[2])
    for replica in ("replica-1", "replica-2"):
        assert int(environment(replica)["SIGHTGLASS_DRAIN_MS"]) / 1000 > 2 * notices


def test_the_settings_page_names_every_setting_with_its_default() -> None:
    page = (ROOT / "docs/settings.md").read_text()
    rows = dict(re.findall(rf"^\| `{PREFIX}(\w+)` \| (.*?) \|", page, re.MULTILINE))
    assert set(rows) == {name.upper() for name in Settings.model_fields}
    for name, shown in rows.items():
        default = DEFAULT[name.lower()].default
        if isinstance(default, int):
            assert shown == f"`{default}`", name


_OPENAPI = """
import json
from app import settings
from app.inference import loading
from app.main import create_app
print(json.dumps(create_app(settings.load(), loading.start(settings.DEFAULT_MODEL)).api.openapi()))
"""
