"""The dashboard and the alerts as files, held against each other, promtool and a real Prometheus."""

import json
import math
import re
import shutil
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
import promql_parser as promql
import pytest
import yaml

from app.settings import DEFAULT_MODEL
from tests.deploy.monitoring import (
    ALERTS,
    CONFIG,
    DASHBOARD,
    DEADLINE_MS,
    GRAFANA,
    JOB,
    PANELS,
    PROMETHEUS,
    ROOT,
    Query,
    limit,
    queries,
    selectors,
    some_traffic,
)
from tests.serving import serving

CASES = [
    case
    for test in yaml.safe_load((PROMETHEUS / "alerts_test.yml").read_text())["tests"]
    for case in test["alert_rule_test"]
]
promtool = pytest.mark.skipif(not shutil.which("promtool"), reason="promtool is not on PATH (Debian: prometheus)")
prometheus = pytest.mark.skipif(not shutil.which("prometheus"), reason="prometheus is not on PATH (Debian: prometheus)")


# --- the dashboard and the alerts as files


def test_no_data_source_is_named_but_the_variable() -> None:
    asking = [*PANELS.values(), *DASHBOARD["annotations"]["list"], *DASHBOARD["templating"]["list"][1:]]
    for item in asking:
        assert item["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
    assert json.dumps(DASHBOARD).count('"datasource":') == len(asking)
    assert [variable["name"] for variable in DASHBOARD["templating"]["list"]] == ["datasource", "job", "instance"]


def test_panels_have_ids_and_titles_of_their_own_and_places_that_do_not_overlap() -> None:
    every = DASHBOARD["panels"]
    assert len({panel["id"] for panel in every}) == len({panel["title"] for panel in every}) == len(every)
    cells = Counter(
        (x, y)
        for place in (panel["gridPos"] for panel in every)
        for x in range(place["x"], place["x"] + place["w"])
        for y in range(place["y"], place["y"] + place["h"])
    )
    assert set(cells.values()) == {1}
    assert {x for x, _ in cells} == set(range(24))


def test_the_dashboard_turns_red_where_the_alerts_begin() -> None:
    def red(title: str) -> float:
        [value] = [
            step["value"]
            for step in PANELS[title]["fieldConfig"]["defaults"]["thresholds"]["steps"]
            if step["color"] == "red"
        ]
        return float(value)

    assert red("Server errors") == limit("SightglassServerErrors") == 0.01
    assert red("Turned away") == limit("SightglassOverloaded") == 0.05
    assert red("Latency quantiles") == red("p95 latency") == limit("SightglassSlow") == 0.5
    for panel in PANELS.values():
        assert "thresholds" in panel["fieldConfig"]["defaults"] if panel["type"] == "stat" else True


@pytest.mark.parametrize("alert", ALERTS)
def test_an_alert_says_how_bad_it_is_with_values_and_where_to_read_on(alert: str) -> None:
    rule = ALERTS[alert]
    assert rule["labels"]["severity"] in ("critical", "warning")
    assert "{{" in rule["annotations"]["summary"]
    assert "{{" in rule["annotations"]["description"]
    path, _, anchor = rule["annotations"]["runbook_url"].partition("#")
    headings = re.findall(r"^## (\w+)$", (ROOT / path).read_text(), re.MULTILINE)
    assert anchor == alert.lower()
    assert alert in headings


@pytest.mark.parametrize("alert", ALERTS)
def test_alerts_test_shows_an_alert_firing_and_not_firing(alert: str) -> None:
    assert {bool(case.get("exp_alerts")) for case in CASES if case["alertname"] == alert} == {True, False}


def test_alerts_name_the_job_that_the_configuration_scrapes() -> None:
    jobs = {
        matcher.value
        for rule in ALERTS.values()
        for selector in selectors(promql.parse(rule["expr"]))
        for matcher in selector.matchers.matchers
        if matcher.name == "job"
    }
    assert jobs == {JOB}


def test_grafana_is_told_the_scrape_interval_and_where_the_dashboard_is() -> None:
    [source] = yaml.safe_load((GRAFANA / "provisioning/datasources/prometheus.yml").read_text())["datasources"]
    assert source["jsonData"]["timeInterval"] == CONFIG["global"]["scrape_interval"]
    assert "uid" not in source
    [provider] = yaml.safe_load((GRAFANA / "provisioning/dashboards/sightglass.yml").read_text())["providers"]
    assert provider["options"]["path"] == "/etc/grafana/dashboards"


@promtool
@pytest.mark.parametrize(
    "command", ["check config prometheus.yml", "check rules alerts.yml", "test rules alerts_test.yml"]
)
def test_promtool_finds_nothing_wrong(command: str) -> None:
    done = subprocess.run(
        ["promtool", *command.split()], cwd=PROMETHEUS, capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stdout + done.stderr


# --- a real Prometheus


@contextmanager
def scraping(target: str, folder: Path) -> Iterator[str]:
    """A Prometheus with our configuration, but for the target's address and a scrape every second; its URL."""
    config = yaml.safe_load((PROMETHEUS / "prometheus.yml").read_text())
    config["global"] = dict.fromkeys(config["global"], "1s")
    [job] = config["scrape_configs"]
    assert job.pop("dns_sd_configs")[0]["port"] == 8000
    job["static_configs"] = [{"targets": [target]}]
    (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
    shutil.copy(PROMETHEUS / "alerts.yml", folder)
    log = folder / "prometheus.log"
    command = ["prometheus", "--config.file=prometheus.yml", "--storage.tsdb.path=data"]
    with log.open("wb") as stderr:
        process = subprocess.Popen(
            [*command, "--web.listen-address=127.0.0.1:0"], cwd=folder, stdout=stderr, stderr=stderr
        )
    try:
        deadline = time.monotonic() + 30
        while not (found := re.search(r'msg="Listening on" address=(\S+)', log.read_text())):
            assert process.poll() is None and time.monotonic() < deadline, log.read_text()
            time.sleep(0.05)
        yield f"http://{found[1]}"
    finally:
        process.terminate()
        try:
            process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def answers(url: str, query: Query) -> list[dict[str, Any]]:
    """The series with at least one finite value, of the last half minute or of now."""
    now = time.time()
    if query.instant:
        reply = httpx2.get(f"{url}/api/v1/query", params={"query": query.expr})
    else:
        window = {"start": now - 30, "end": now, "step": 1}
        reply = httpx2.get(f"{url}/api/v1/query_range", params={"query": query.expr, **window})
    body = reply.json()
    assert body["status"] == "success", (query, body)
    found: list[dict[str, Any]] = body["data"]["result"]
    return [s for s in found if any(math.isfinite(float(v)) for _, v in s.get("values", [s.get("value")]))]


@prometheus
def test_every_panel_and_annotation_shows_data_and_every_rule_is_healthy(tmp_path: Path) -> None:
    waiting = {f"{query.where} {number}": query for number, query in enumerate(queries("4s", "1s"))}
    with (
        serving(DEFAULT_MODEL, tmp_path / "server", DEADLINE_MS=DEADLINE_MS) as server,
        scraping(server.url.removeprefix("http://"), tmp_path) as url,
    ):
        deadline = time.monotonic() + 40
        while waiting and time.monotonic() < deadline:
            some_traffic(server.url)
            for name, query in list(waiting.items()):
                if found := answers(url, query):
                    labels = set(re.findall(r"\{\{(\w+)\}\}", query.legend))
                    assert all(labels <= series["metric"].keys() for series in found), (query, found)
                    del waiting[name]
        assert not waiting
        while (rules := _rules(url)) and any(rule["health"] == "unknown" for rule in rules):
            assert time.monotonic() < deadline, rules
            time.sleep(0.2)
        assert {rule["name"]: rule["health"] for rule in rules} == dict.fromkeys(ALERTS, "ok")
        assert {rule["name"] for rule in rules if rule["state"] == "firing"} == set()


def _rules(url: str) -> list[dict[str, Any]]:
    groups = httpx2.get(f"{url}/api/v1/rules").json()["data"]["groups"]
    return [rule for group in groups for rule in group["rules"]]
