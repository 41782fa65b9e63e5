"""Dashboard and alerts ask for what the service says: held against its scrape, promtool and a real Prometheus."""

import json
import math
import re
import shutil
import socket
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import httpx2
import promql_parser as promql
import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from tests.pictures import encode, picture
from tests.serving import metrics, serving

ROOT = Path(__file__).parents[2]
ARTIFACT = ROOT / "exports/cifar10/1"
PROMETHEUS = ROOT / "deploy/prometheus"
GRAFANA = ROOT / "deploy/grafana"
CONFIG = yaml.safe_load((PROMETHEUS / "prometheus.yml").read_text())
ALERTS = {rule["alert"]: rule for rule in yaml.safe_load((PROMETHEUS / "alerts.yml").read_text())["groups"][0]["rules"]}
CASES = [
    case
    for test in yaml.safe_load((PROMETHEUS / "alerts_test.yml").read_text())["tests"]
    for case in test["alert_rule_test"]
]
DASHBOARD = json.loads((GRAFANA / "dashboards/sightglass.json").read_text())
PANELS = {panel["title"]: panel for panel in DASHBOARD["panels"] if panel["type"] != "row"}
JOB = CONFIG["scrape_configs"][0]["job_name"]
DEADLINE_MS = 1000  # a stalled upload takes this long to become a 504; a picture on a busy machine must not
TARGET_LABELS = {"job", "instance"}  # Prometheus adds them to what it scrapes

promtool = pytest.mark.skipif(not shutil.which("promtool"), reason="promtool is not on PATH (Debian: prometheus)")
prometheus = pytest.mark.skipif(not shutil.which("prometheus"), reason="prometheus is not on PATH (Debian: prometheus)")


class Query(NamedTuple):
    """`legend` is what the labels of the answer are put into."""

    where: str
    expr: str
    instant: bool = False
    legend: str = ""


def queries(rate_interval: str, interval: str) -> list[Query]:
    """All of the dashboard's, with its variables as Grafana would fill them in."""
    found = [
        Query(panel["title"], target["expr"], target.get("instant", False), target.get("legendFormat", ""))
        for panel in PANELS.values()
        for target in panel["targets"]
    ]
    found += [Query(n["name"], n["target"]["expr"], legend=n["titleFormat"]) for n in DASHBOARD["annotations"]["list"]]
    values = {"$__rate_interval": rate_interval, "$__interval": interval, "$job": JOB, "$instance": ".+"}
    return [query._replace(expr=_filled(query.expr, values)) for query in found]


def _filled(expr: str, values: dict[str, str]) -> str:
    filled = re.sub(r"\$\w+", lambda variable: values[variable[0]], expr)
    assert "$" not in filled, expr
    return filled


class Asked(NamedTuple):
    """`labels`: those that it groups by, and those that a legend or an annotation names."""

    expr: promql.Expr
    labels: set[str]


def everything_asked() -> list[Asked]:
    written = [(query.expr, query.legend) for query in queries("1m", "15s")]
    written += [(rule["expr"], json.dumps(rule["annotations"])) for rule in ALERTS.values()]
    parsed = [(promql.parse(expr), set(re.findall(r"\$labels\.(\w+)|\{\{(\w+)\}\}", text))) for expr, text in written]
    return [Asked(expr, grouping_labels(expr).union(*found) - {""}) for expr, found in parsed]


# --- what an expression uses, and whether a scrape has it


def nodes(expr: promql.Expr) -> list[promql.Expr]:
    found: list[promql.Expr] = []
    promql.walk(expr, pre_visit=lambda node: found.append(node))
    return found


def selectors(expr: promql.Expr) -> list[promql.VectorSelector]:
    return [node for node in nodes(expr) if isinstance(node, promql.VectorSelector)]


def grouping_labels(expr: promql.Expr) -> set[str]:
    """The labels of by, without, on, ignoring and group_left."""
    found: set[str] = set()
    for node in nodes(expr):
        if isinstance(node, promql.AggregateExpr) and node.modifier:
            found.update(node.modifier.labels)
        if isinstance(node, promql.BinaryExpr) and node.modifier:
            found.update(node.modifier.matching.labels if node.modifier.matching else [])
            found.update(node.modifier.group_labels or [])
    return found


Series = dict[str, list[dict[str, str]]]  # name -> the labels of each of its series


def series_of(text: str) -> Series:
    found: Series = {"up": [{}]}  # Prometheus's own
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            found.setdefault(sample.name, []).append(sample.labels)
    return found


def lacking(asked: Asked, scraped: Series) -> set[str]:
    """What is asked for and the scrape has not: names; if none, labels; if none, series with such values."""
    named = [(str(selector.name), selector) for selector in selectors(asked.expr)]
    if missing := {name for name, _ in named} - scraped.keys():
        return missing
    known = {name: TARGET_LABELS.union(*scraped[name]) for name, _ in named}
    missing = {f"{name}{{{m.name}}}" for name, s in named for m in s.matchers.matchers if m.name not in known[name]}
    missing |= {f"{{{label}}}" for label in asked.labels - set().union(*known.values())}
    return missing or {s.prettify() for name, s in named if not any(_is(s, labels) for labels in scraped[name])}


def _is(selector: promql.VectorSelector, labels: dict[str, str]) -> bool:
    return all(_matches(m, labels) for m in selector.matchers.matchers if m.name not in TARGET_LABELS)


def _matches(matcher: promql.Matcher, labels: dict[str, str]) -> bool:
    value = labels.get(matcher.name, "")
    match matcher.op:
        case promql.MatchOp.Equal:
            return bool(value == matcher.value)
        case promql.MatchOp.NotEqual:
            return bool(value != matcher.value)
        case promql.MatchOp.Re:
            return bool(re.fullmatch(matcher.value, value))
        case _:
            return not re.fullmatch(matcher.value, value)


def all_lacking(text: str) -> set[str]:
    scraped = series_of(text)
    return set().union(*(lacking(asked, scraped) for asked in everything_asked()))


def some_traffic(url: str) -> None:
    """A picture, no picture, no such path, and an upload that stalls until its deadline: a 504, which is also a 5xx."""
    assert httpx2.post(f"{url}/predict", content=encode(picture())).status_code == 200
    assert httpx2.post(f"{url}/predict", content=b"no picture").status_code == 415
    assert httpx2.get(f"{url}/nothing").status_code == 404
    host, port = url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=10) as stalled:
        stalled.sendall(b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n")
        assert b" 504 " in stalled.recv(64)


@pytest.fixture(scope="module", params=[1, 2], ids=["one worker", "two workers"])
def scrape(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> str:
    """/metrics after some traffic, once every worker is in it."""
    with serving(ARTIFACT, tmp_path_factory.mktemp("server"), WORKERS=request.param, DEADLINE_MS=DEADLINE_MS) as server:
        some_traffic(server.url)
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            text = metrics(server.url)
            workers = {labels["worker"] for labels in series_of(text)["sightglass_worker_start_timestamp_seconds"]}
            if len(workers) == request.param:
                return text
            time.sleep(0.1)
    raise AssertionError(f"workers {workers} of {request.param}")


def test_every_metric_label_and_value_that_is_asked_for_is_in_the_scrape(scrape: str) -> None:
    assert all_lacking(scrape) == set()


def test_a_metric_that_is_taken_away_is_reported_and_nothing_else(scrape: str) -> None:
    used = {str(selector.name) for asked in everything_asked() for selector in selectors(asked.expr)}
    families = re.split(r"^(?=# HELP )", scrape, flags=re.MULTILINE)
    reported = set()
    for family in families:
        asked = used & (series_of(family).keys() - {"up"})
        assert all_lacking("".join(other for other in families if other is not family)) == asked
        reported |= asked
    assert reported == used - {"up"}


def test_a_label_that_is_taken_away_is_reported(scrape: str) -> None:
    matched = {m.name for asked in everything_asked() for s in selectors(asked.expr) for m in s.matchers.matchers}
    used = matched.union(*(asked.labels for asked in everything_asked())) - TARGET_LABELS
    assert used >= {"route", "status", "code", "le", "class", "worker", "variant"}
    for label in used:
        reported = all_lacking(re.sub(rf'\b{label}="', 'renamed="', scrape))
        assert reported
        assert {complaint for complaint in reported if f"{{{label}}}" not in complaint} == set(), label


def test_a_value_that_no_series_has_is_reported() -> None:
    def lacks(expr: str) -> set[str]:
        return lacking(Asked(promql.parse(expr), set()), series_of('a{le="0.5",code="x"} 1\n'))

    assert lacks('a{le="0.5", code!="y", code=~"x|z", code!~"y.*"}') == set()
    for expr in ('a{le="0.6"}', 'a{code!="x"}', 'a{code=~"y"}', 'a{code!~"x|z"}'):
        assert lacks(expr) == {expr}


# --- units


def dimension(expr: promql.Expr) -> Counter[str]:
    """E.g. {"seconds": 1}, {"http_requests": 1, "seconds": -1}, {} for a share: what units follow from."""
    match expr:
        case promql.ParenExpr():
            return dimension(expr.expr)
        case promql.MatrixSelector():
            return dimension(expr.vector_selector)
        case promql.VectorSelector():
            return _metric_dimension(str(expr.name))
        case promql.AggregateExpr():
            return Counter(["series"]) if str(expr.op) == "count" else dimension(expr.expr)
        case promql.Call() if expr.func.name == "rate":
            return _minus(dimension(expr.args[0]), Counter(seconds=1))
        case promql.Call() if expr.func.name == "histogram_quantile":
            [buckets] = selectors(expr.args[1])
            return _metric_dimension(str(buckets.name).removesuffix("_bucket"))
        case promql.Call():
            return dimension(expr.args[0])
        case promql.BinaryExpr() if str(expr.op) == "/":
            return _minus(dimension(expr.lhs), dimension(expr.rhs))
        case promql.BinaryExpr():
            return dimension(expr.lhs)
    raise AssertionError(f"what is the dimension of {expr}?")


def _metric_dimension(name: str) -> Counter[str]:
    """From the naming rules: base units, _total; a _sum is the unit times the observations."""
    stem = name.removeprefix("sightglass_").removesuffix("_total")
    if stem.endswith(("_bucket", "_count")):
        return Counter([f"{stem.rpartition('_')[0]} observations"])
    if stem.endswith("_sum"):
        family = stem.removesuffix("_sum")
        return _metric_dimension(family) + Counter([f"{family} observations"])
    unit = stem.rpartition("_")[2]
    return Counter([] if unit == "ratio" else [unit] if unit in ("seconds", "bytes", "images") else [stem])


def _minus(left: Counter[str], right: Counter[str]) -> Counter[str]:
    left = left.copy()
    left.subtract(right)
    return Counter({unit: power for unit, power in left.items() if power})


def suits(unit: str, dimension: Counter[str]) -> bool:
    match dict(dimension):
        case {"seconds": 1, **rest} if not rest:
            return unit == "s"
        case {"bytes": 1, **rest} if not rest:
            return unit == "bytes"
        case {"http_requests": 1, "seconds": -1}:
            return unit == "reqps"
        case {"seconds": -1}:
            return unit.startswith("suffix: ") and unit.endswith("/s")
        case powers if powers in ({}, {"series": -1}):  # a share, or its mean over the series
            return unit == "percentunit"
    return unit == "none" or unit.startswith(("suffix: ", "si:"))


@pytest.mark.parametrize("title", PANELS)
def test_a_panel_has_the_unit_of_what_it_asks_for_and_says_what_it_shows(title: str) -> None:
    panel = PANELS[title]
    assert re.fullmatch(r"\S.{20,120}\.", panel["description"])
    heat = panel["type"] == "heatmap"
    unit = panel["options"]["yAxis"]["unit"] if heat else panel["fieldConfig"]["defaults"]["unit"]
    for query in queries("1m", "15s"):
        if query.where == title:
            [*_, last] = selectors(promql.parse(query.expr))
            buckets = _metric_dimension(str(last.name).removesuffix("_bucket"))
            assert suits(unit, buckets if heat else dimension(promql.parse(query.expr))), (unit, query.expr)


@pytest.mark.parametrize(
    ("expr", "unit"),
    [
        ("sum(rate(a_seconds_sum[1m])) / sum(rate(a_seconds_count[1m]))", "s"),
        ("histogram_quantile(0.9, sum by (le) (rate(a_seconds_bucket[1m])))", "s"),
        ("rate(a_cpu_seconds_total[1m])", "percentunit"),
        ("rate(sightglass_http_requests_total[1m])", "reqps"),
        ("rate(b_bytes_sum[1m]) / rate(b_bytes_count[1m])", "bytes"),
        ("max(b_bytes)", "bytes"),
        ("sum(rate(x_total{a='b'}[1m]) or vector(0)) / sum(rate(x_total[1m]))", "percentunit"),
        ("histogram_quantile(0.9, rate(c_ratio_bucket[1m]))", "percentunit"),
        ("sum(d_bytes) / sum(e_bytes)", "percentunit"),
    ],
)
def test_no_other_unit_would_do(expr: str, unit: str) -> None:
    of_it = dimension(promql.parse(expr))
    candidates = ("s", "ms", "bytes", "percentunit", "percent", "reqps", "none", "short")
    assert [candidate for candidate in candidates if suits(candidate, of_it)] == [unit]


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


def limit(alert: str) -> float:
    """The number that the alert's first comparison is with."""
    [first, *_] = [n for n in nodes(promql.parse(ALERTS[alert]["expr"])) if str(getattr(n, "op", "")) == ">"]
    return float(first.rhs.val)


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


def test_the_slo_is_a_bound_of_the_histogram(scrape: str) -> None:
    bounds = {labels["le"] for labels in series_of(scrape)["sightglass_http_request_duration_seconds_bucket"]}
    assert str(limit("SightglassSlow")) in bounds
    assert f'le="{limit("SightglassSlow")}"' in ALERTS["SightglassSlow"]["expr"]


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
        serving(ARTIFACT, tmp_path / "server", DEADLINE_MS=DEADLINE_MS) as server,
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
