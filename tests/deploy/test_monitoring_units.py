"""Each panel has the unit that follows from what it asks for."""

import re
from collections import Counter

import promql_parser as promql
import pytest

from tests.deploy.monitoring import PANELS, queries, selectors


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
