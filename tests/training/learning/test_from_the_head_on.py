"""Fine-tuning that begins with an instant head: what follows what, which of the two is kept, and the time it takes."""

import itertools
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tests.commands import QUIET, Sightglass
from tests.training import colours
from tests.training.quick_runs import differences, metrics, weights
from tests.training.runs.stores import Hooked
from training.console.progress import Talk
from training.learning import budget, plan
from training.learning.learner import Learner
from training.learning.plan import Plan
from training.recipes import recipe
from training.recipes.spans import spans
from training.runs.checkpoint import Run
from training.runs.history import rank
from training.train import train
from training.weights import pretrained

RECIPE = "head-then-fine-tuning"
SETTINGS = ["batch_size=16", "val_fraction=0.3", "resized_crop=0.0"]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return colours.write(tmp_path_factory.mktemp("few") / "data", each=20, seed=1)


@pytest.fixture
def learnt(colours_run: Path) -> str:
    """What the network has learnt before: a run of the small network on other images of the kind."""
    return str(colours_run)


def planned(data: Path, out: Path, learnt: str, *settings: str, minutes: float | None = None) -> Plan:
    return plan.make(str(data), out, RECIPE, [*SETTINGS, *settings], weights=learnt, device="cpu", minutes=minutes)


@pytest.fixture(scope="module")
def whole(data: Path, colours_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of a head and four epochs, never stopped."""
    out = tmp_path_factory.mktemp("whole") / "run"
    train(planned(data, out, str(colours_run), "epochs=5"), QUIET)
    return out


def test_the_head_is_the_first_epoch_and_the_phases_share_the_rest() -> None:
    def of(*settings: str) -> list[tuple[int, int, int | None]]:
        found = spans(recipe.load(RECIPE, settings))
        return [(span.first, span.last, span.phase.unfrozen_stages) for span in found]

    assert of("epochs=1") == [(1, 1, 0)]
    assert of("epochs=5") == [(1, 1, 0), (2, 5, None)]
    two = "phases=[{share=1, lr=1e-3, unfrozen_stages=1}, {share=3, lr=1e-4}]"
    assert of("epochs=9", two) == [(1, 1, 0), (2, 3, 1), (4, 9, None)]
    assert of("epochs=1", two) == [(1, 1, 0)], "where there is time for the head alone"


def test_killed_while_everything_learns_it_resumes_to_bit_identical_weights(
    data: Path, learnt: str, whole: Path, tmp_path: Path
) -> None:
    class Killed(Exception):
        pass

    def kill() -> None:
        raise Killed

    with pytest.raises(Killed):
        train(planned(data, tmp_path / "run", learnt, "epochs=5"), Hooked({3: kill}))
    assert len(metrics(tmp_path / "run")) == 3
    train(plan.make(str(data), tmp_path / "run", resume=True, device="cpu"), QUIET)
    assert differences(tmp_path / "run", whole, "last.pt") == []
    assert differences(tmp_path / "run", whole, "weights.pt") == []
    assert metrics(tmp_path / "run") == metrics(whole)
    assert Run.open(tmp_path / "run").meta.kept == Run.open(whole).meta.kept


def test_what_is_saved_lies_half_way_between_the_head_alone_and_what_was_learnt(whole: Path) -> None:
    learner = weights(whole, "last.pt")["learner"]
    head, network, averaged = learner["head"], learner["network"], learner["averaged"]
    assert not torch.equal(head["head.weight"], network["head.weight"])
    for name, tensor in averaged.items():
        if tensor.is_floating_point():
            assert torch.allclose(tensor, (head[name] + network[name]) / 2, atol=1e-6), name


def test_the_last_epoch_that_val_does_not_find_worse_is_kept(whole: Path) -> None:
    expected = max(row["epoch"] for row in metrics(whole) if row["val_gain"] >= -row["val_gain_error"])
    assert Run.open(whole).best()["epoch"] == weights(whole)["epoch"] == expected
    kept = Run.open(whole).meta.kept
    assert kept is not None
    which = "the head alone" if expected == 1 else f"the fine-tuned network of epoch {expected}"
    assert kept.startswith(f"{which}: loss on val ")


def test_what_fine_tuning_spoils_leaves_the_head(
    data: Path, learnt: str, tmp_path: Path, sightglass: Sightglass
) -> None:
    out = tmp_path / "run"
    words = [word for each in [*SETTINGS, "epochs=4", "lr=3.0", "head_share=0.0"] for word in ("--set", each)]
    said = sightglass("train", data, "--out", out, "--recipe", RECIPE, "--from", learnt, *words)
    assert said.code == 0, said.err
    rows = metrics(out)
    assert rows[-1]["val_gain"] < -rows[-1]["val_gain_error"]
    assert rows[-1]["val_gain"] == pytest.approx(rows[0]["val_loss"] - rows[-1]["val_loss"], abs=1e-4)
    assert Run.open(out).best()["epoch"] == weights(out)["epoch"] == 1
    kept = Run.open(out).meta.kept
    assert kept is not None
    assert kept.startswith(f"the head alone: loss on val {rows[0]['val_loss']:.3f}, ")
    assert f"kept     {kept}" in said.err.splitlines()


def test_a_loss_that_is_higher_beyond_its_error_speaks_for_the_head_any_other_for_fine_tuning() -> None:
    key = rank(recipe.load(RECIPE))

    def row(epoch: int, gain: float) -> dict[str, float]:
        return {"epoch": epoch, "val_loss": 0.5 - gain, "val_gain": gain, "val_gain_error": 0.1 * (epoch > 1)}

    def best(*gains: float) -> float:
        return max((row(epoch, gain) for epoch, gain in enumerate(gains, 1)), key=key)["epoch"]

    assert best(0.0, 0.2, 0.1) == 3, "the last, whose rate is the lowest, not the luckiest"
    assert best(0.0, 0.2, -0.05) == 3
    assert best(0.0, 0.2, -0.15) == 2
    assert best(0.0, -0.2, -0.3) == 1


@pytest.mark.parametrize(("minutes", "epochs"), [(100.0, 7), (2.9, 5), (1.5, 1)])
def test_so_many_epochs_are_planned_as_fit_into_the_minutes(
    minutes: float, epochs: int, data: Path, learnt: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """36 images learn and 18 are validated in an epoch, of which 1.4 images a second are two in a minute; fewer than
    four would not end where the head began."""
    monkeypatch.setattr(Learner, "images_per_second", lambda *_: 1.4)
    train(planned(data, tmp_path / "run", learnt, "epochs=7", minutes=minutes), QUIET)
    assert len(metrics(tmp_path / "run")) == Run.open(tmp_path / "run").recipe.epochs == epochs
    state = weights(tmp_path / "run", "last.pt")["learner"]
    rates = [group["lr"] for group in state["optimizer"]["param_groups"]]
    assert max(rates) < 1e-5 or epochs == 1, "the schedule ends at its floor"
    assert Run.open(tmp_path / "run").asked.epochs == 7, "what was asked for is another thing"


def test_when_the_minutes_are_over_the_run_ends_after_the_batch_and_may_go_on(
    data: Path, learnt: str, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of two batches an epoch, the fifth after the head is the first of epoch 4."""
    lines: list[str] = []

    class Said(Talk):
        def line(self, text: str) -> None:
            lines.append(text)

    batches = itertools.count(1)
    with monkeypatch.context() as patch:
        patch.setattr(budget, "over", lambda *_: lambda: next(batches) == 5)
        result = train(planned(data, tmp_path / "run", learnt, "epochs=5"), Said(bars=False))
    assert len(metrics(tmp_path / "run")) == 3
    assert "stop     the minutes are over, in epoch 4 of 5; --resume goes on" in lines
    assert result.epoch == weights(tmp_path / "run")["epoch"] == Run.open(tmp_path / "run").best()["epoch"]
    train(plan.make(str(data), tmp_path / "run", resume=True, device="cpu"), QUIET)
    assert differences(tmp_path / "run", whole, "weights.pt") == []


def test_the_minutes_count_from_the_beginning(data: Path, learnt: str, tmp_path: Path) -> None:
    made, now = planned(data, tmp_path / "run", learnt, minutes=2.0), time.monotonic()
    assert budget.over(made, now - 121)()
    assert not budget.over(made, now)()
    assert not budget.over(replace(made, minutes=None), now - 1e6)()


def test_small_images_are_seen_whole_larger_ones_as_the_weights_learnt_to() -> None:
    fractions = [pretrained.resolve(recipe.load(name), None)[0].crop_fraction for name in (RECIPE, f"{RECIPE}-small")]
    assert fractions == [0.875, 1.0]
