"""No file costs more than it claims, however its rows, parts and metadata are laid out."""

import json
import subprocess
import sys

import pytest

from tests.app.artifact.decoder.costs import Cost
from tests.app.artifact.decoder.hostile import KINDS

# What took a container of 2 GB, or seconds of it, when Pillow got every file as it came
FOUND = ["tall_png", "tiff_strips", "bmp_lines", "png_profiles", "png_texts", "jpeg_fill", "gif_comment"]
FOUND += ["endless_profile", "webp_groups"]


def costs(*arguments: object) -> list[Cost]:
    command = [sys.executable, "-m", "tests.app.artifact.decoder.costs", *map(str, arguments)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return [Cost(*json.loads(line)) for line in done.stdout.splitlines()]


@pytest.mark.unmeasured
@pytest.mark.parametrize(
    ("seeds", "most"), [(3, 300_000), pytest.param(400, 300_000, marks=pytest.mark.slow)], ids=["some", "10,000"]
)
def test_nothing_takes_more_memory_or_time_than_it_claims(seeds: int, most: int) -> None:
    measured = costs(seeds, most)
    assert len(measured) == seeds * len(KINDS)
    assert [cost for cost in measured if cost.excess] == []


@pytest.mark.slow
@pytest.mark.unmeasured
def test_without_protection_the_same_measure_finds_what_costs_too_much() -> None:
    measured = costs(1, 1_000_000, "unprotected", *FOUND)
    assert {cost.name for cost in measured if cost.excess} == set(FOUND)
