"""How many threads torch has when training begins: what was asked for, whatever ran in this process before."""

from collections.abc import Iterator

import pytest
import torch

from app import machine
from training import threads


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize(
    ("asked", "expected"), [("1", 1), ("3", 3), ("2,1", 2), ("", None), ("many", None), ("0", None)]
)
def test_an_engine_that_set_its_own_number_changes_nothing(
    asked: str, expected: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", asked)
    torch.set_num_threads(5)  # as a TorchScript engine of this process does
    assert threads.use_cores() == torch.get_num_threads() == (expected or machine.cores().usable)


def test_whoever_compares_engines_has_one_and_gives_the_others_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    with pytest.raises(RuntimeError), threads.only_one():
        assert torch.get_num_threads() == 1
        raise RuntimeError
    assert torch.get_num_threads() == 3
