"""Dashboard and alerts ask for what the service says: every name, label and value is in its scrape."""

import json
import re
import time
from typing import NamedTuple

import promql_parser as promql
import pytest
from prometheus_client.parser import text_string_to_metric_families

from app.settings import DEFAULT_MODEL
from tests.deploy.monitoring import ALERTS, DEADLINE_MS, limit, nodes, queries, selectors, some_traffic
from tests.serving import metrics, serving

TARGET_LABELS = {"job", "instance"}  # Prometheus adds them to what it scrapes


class Asked(NamedTuple):
    """`labels`: those that it groups by, and those that a legend or an annotation names."""

    expr: promql.Expr
    labels: set[str]


def everything_asked() -> list[Asked]:
    written = [(query.expr, query.legend) for query in queries("1m", "15s")]
    written += [(rule["expr"], json.dumps(rule["annotations"])) for rule in ALERTS.values()]
    parsed = [(promql.parse(expr), set(re.findall(r"\$labels\.(\w+)|\{\{(\w+)\}\}", text))) for expr, text in written]
    return [Asked(expr, grouping_labels(expr).union(*found) - {""}) for expr, found in parsed]


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


@pytest.fixture(scope="module", params=[1, 2], ids=["one worker", "two workers"])
def scrape(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> str:
    """/metrics after some traffic, once every worker is in it."""
    with serving(
        DEFAULT_MODEL, tmp_path_factory.mktemp("server"), WORKERS=request.param, DEADLINE_MS=DEADLINE_MS
    ) as server:
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


def test_the_slo_is_a_bound_of_the_histogram(scrape: str) -> None:
    bounds = {labels["le"] for labels in series_of(scrape)["sightglass_http_request_duration_seconds_bucket"]}
    assert str(limit("SightglassSlow")) in bounds
    assert f'le="{limit("SightglassSlow")}"' in ALERTS["SightglassSlow"]["expr"]
