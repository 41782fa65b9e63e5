"""What tests share: coverage where it counts, small runs and their artifacts, the command, and where CIFAR-10 is."""

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import ExitStack, nullcontext
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

# One test process per core, each with one thread; torch reads this when it is first imported. Several multithreaded
# torch processes on few cores wait for each other at every operation: measured, 50 times slower.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.pop("MLFLOW_TRACKING_URI", None)  # the developer's own store is none of the tests' business

import httpcore2
import pytest

from sightglass.cli import main
from tests.sharing import SharedFolders, SharedServers, unmeasured
from tests.training import colours

if TYPE_CHECKING:  # the rest where it is used: it imports torch, 3 s before the first test of the service begins
    from tests.commands import Sightglass

APP = Path(__file__).parent / "app"
CARD = Path(__file__).parents[1] / "exports/cifar10/card/card.toml"

# Every client asks for it, and to read 140 certificates takes 28 ms of CPU: more than most tests of the service.
httpcore2.default_ssl_context = cache(httpcore2.default_ssl_context)

# What a shell starts in the background ignores these, and so would all that tests start and interrupt.
for _number, _default in ((signal.SIGINT, signal.default_int_handler), (signal.SIGHUP, signal.SIG_DFL)):
    if signal.getsignal(_number) is signal.SIG_IGN:
        signal.signal(_number, _default)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    """Coverage is of `app`, by the tests of `app`; to measure the others costs time and says nothing."""
    measured = APP in item.path.parents and not item.get_closest_marker("unmeasured")
    with nullcontext() if measured else unmeasured():
        return (yield)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A test of this folder itself can take a minute: first, so that nobody is left with one when all else is done."""
    items.sort(key=lambda item: item.path.parent != APP.parent)


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory) -> SharedFolders:
    mine = tmp_path_factory.getbasetemp()
    return SharedFolders((mine.parent if "PYTEST_XDIST_WORKER" in os.environ else mine) / "shared")


@pytest.fixture(scope="module", autouse=True)
def nobody_writes_into_what_all_read(shared: SharedFolders) -> Iterator[None]:
    yield
    shared.require_untouched()


@pytest.fixture(scope="session")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SharedServers]:
    with ExitStack() as stack:
        yield SharedServers(tmp_path_factory.mktemp("servers"), stack)


@pytest.fixture(scope="session")
def digits_run(shared: SharedFolders) -> Path:
    """A run of the digits recipe, half as long as the recipe's own. Do not write into it; copy it."""
    from tests.commands import QUIET
    from training.learning import plan
    from training.train import train

    return shared.make(
        "runs/digits",
        lambda out: train(plan.make("digits", out, "digits", ["epochs=6"], resume=False, force=False), QUIET),
    )


@pytest.fixture(scope="session")
def digits_artifact(digits_run: Path, shared: SharedFolders) -> Path:
    """The artifact of `digits_run`. Do not write into it; copy it."""
    from tests.commands import QUIET
    from training.export import export
    from training.runs.checkpoint import Run

    return shared.make("exports/digits", lambda out: export(Run.open(digits_run), out / "1", None, QUIET)) / "1"


@pytest.fixture(scope="session")
def colours_data(shared: SharedFolders) -> Path:
    """A plain folder of 3 classes of 60 images. Do not write into it; copy it."""
    return shared.make("data/colours", lambda folder: colours.write(folder, each=60))


@pytest.fixture(scope="session")
def colours_run(colours_data: Path, shared: SharedFolders) -> Path:
    """A run on `colours_data`. Do not write into it; copy it."""
    from tests.commands import QUIET
    from training.learning import plan
    from training.train import train

    return shared.make(
        "runs/colours",
        lambda out: train(
            plan.make(str(colours_data), out, "digits", colours.SETTINGS, resume=False, force=False), QUIET
        ),
    )


@pytest.fixture(scope="session")
def colours_artifact(colours_run: Path, shared: SharedFolders) -> Path:
    """The artifact of `colours_run`, without TorchScript to save time. Do not write into it; copy it."""
    from tests.commands import QUIET, hurried
    from training.export import export
    from training.runs.checkpoint import Run
    from training.variants.writers import WRITERS

    def write(out: Path) -> None:
        with hurried():
            export(
                Run.open(colours_run),
                out / "1",
                None,
                QUIET,
                {file: WRITERS[file] for file in ("model.onnx", "model.int8.onnx")},
            )

    return shared.make("exports/colours", write) / "1"


@pytest.fixture(scope="session")
def imagenet_artifact(shared: SharedFolders) -> Path:
    """EfficientNet-Lite0 for ImageNet's classes; to save time as ONNX alone, and judged by fewer images. Do not write
    into it; copy it."""

    def write(out: Path) -> None:
        from tests.commands import QUIET, hurried
        from training.data import photographs
        from training.export import export_published
        from training.variants.writers import WRITERS

        with hurried(), pytest.MonkeyPatch.context() as patch:
            patch.setattr(photographs, "JUDGING", 60)
            writers = {"model.onnx": WRITERS["model.onnx"]}
            export_published("timm/tf_efficientnet_lite0", out / "1", None, QUIET, writers, card=CARD)

    return shared.make("exports/imagenet", write) / "1"


@pytest.fixture
def sightglass(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> "Sightglass":
    """The `sightglass` command, run in this process."""
    from tests.commands import Said

    def run(*words: object) -> Said:
        monkeypatch.setattr(sys, "argv", ["sightglass", *map(str, words)])
        code = 0
        try:
            main.main()
        except SystemExit as stop:
            code = int(stop.code or 0)
        return Said(code, *capsys.readouterr())

    return run


@pytest.fixture(scope="session")
def cifar10() -> Path:
    """The CIFAR-10 folder with train/ and test/ that CIFAR10_DIR names."""
    folder = os.environ.get("CIFAR10_DIR")
    if not folder:
        pytest.skip("CIFAR10_DIR names no folder with CIFAR-10 images")
    return Path(folder)
