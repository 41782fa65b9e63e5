"""The dashboard, the alerts and their queries as files say them, and traffic for them to show."""

import json
import re
import socket
from pathlib import Path
from typing import NamedTuple

import httpx2
import promql_parser as promql
import yaml

from tests.images import drawing, encode

ROOT = Path(__file__).parents[2]
PROMETHEUS = ROOT / "deploy/prometheus"
GRAFANA = ROOT / "deploy/grafana"
CONFIG = yaml.safe_load((PROMETHEUS / "prometheus.yml").read_text())
ALERTS = {rule["alert"]: rule for rule in yaml.safe_load((PROMETHEUS / "alerts.yml").read_text())["groups"][0]["rules"]}
DASHBOARD = json.loads((GRAFANA / "dashboards/sightglass.json").read_text())
PANELS = {panel["title"]: panel for panel in DASHBOARD["panels"] if panel["type"] != "row"}
JOB = CONFIG["scrape_configs"][0]["job_name"]
DEADLINE_MS = 1000  # a stalled upload takes this long to become a 504; an image on a busy machine must not


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


def nodes(expr: promql.Expr) -> list[promql.Expr]:
    found: list[promql.Expr] = []
    promql.walk(expr, pre_visit=lambda node: found.append(node))
    return found


def selectors(expr: promql.Expr) -> list[promql.VectorSelector]:
    return [node for node in nodes(expr) if isinstance(node, promql.VectorSelector)]


def some_traffic(url: str) -> None:
    """An image, no image, no such path, and an upload that stalls until its deadline: a 504, which is also a 5xx."""
    assert httpx2.post(f"{url}/predict", content=encode(drawing())).status_code == 200
    assert httpx2.post(f"{url}/predict", content=b"no image").status_code == 415
    assert httpx2.get(f"{url}/nothing").status_code == 404
    host, port = url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=10) as stalled:
        stalled.sendall(b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n")
        assert b" 504 " in stalled.recv(64)


def limit(alert: str) -> float:
    """The number that the alert's first comparison is with."""
    [first, *_] = [n for n in nodes(promql.parse(ALERTS[alert]["expr"])) if str(getattr(n, "op", "")) == ">"]
    return float(first.rhs.val)
