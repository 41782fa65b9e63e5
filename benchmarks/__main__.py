"""Ceilings, HTTP floor, service and naive service, interleaved, as a table.

As it stands it takes 18 minutes on 2 cores: 3 rounds of 43 closed loops, 8 ceilings and 3 open loops. All servers run
from beginning to end, and one at a time is loaded. The load comes from wrk, and in the open loop from h2load (Debian:
nghttp2-client).
"""

import argparse
import json
import os
import platform
import sys
import tempfile
from contextlib import ExitStack
from importlib.metadata import version
from pathlib import Path
from typing import Any

from app import DISTRIBUTION, machine
from app.settings import DEFAULT_MODEL, Settings
from benchmarks import plan, table
from benchmarks.session import Session


def main() -> None:
    """Measure what the command line asks for."""
    wanted = _arguments()
    described = _machine(wanted)
    table.warn_of(described["load_before"])
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        folder = Path(name)
        os.environ["TORCHINDUCTOR_CACHE_DIR"] = str(folder / "compiled")  # for all rounds, and gone at the end
        session = Session(wanted, plan.start(stack, wanted.artifact, wanted.deadline_ms, folder), folder)
        for _round in range(wanted.rounds):
            session.measure()
        print(file=sys.stderr)
    result = {"machine": described, "rows": table.with_shares(session.rows()), "not_run": session.not_run}
    if wanted.json:
        wanted.json.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(described))
    print("\n".join(table.lines(result)))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    deadline: int = Settings.model_fields["deadline_ms"].default
    parser.add_argument("--artifact", type=Path, default=DEFAULT_MODEL)
    parser.add_argument("--rounds", type=int, default=3, help="3; the table has their medians")
    parser.add_argument("--seconds", type=int, default=3, help="3, of each closed loop; a ceiling takes a third of it")
    parser.add_argument("--warm-seconds", type=int, default=1, help="1, before each closed loop; or 0")
    parser.add_argument("--open-seconds", type=int, default=15, help="15, of each open loop; better 60, or 0 for none")
    parser.add_argument("--connections", type=int, nargs="+", default=plan.CONNECTIONS, help="1 8 32 64")
    parser.add_argument("--batches", type=int, nargs="+", default=(1, 4, 8, 16), help="1 4 8 16, of the ceilings")
    parser.add_argument("--images", nargs="+", choices=plan.IMAGES, default=list(plan.IMAGES))
    parser.add_argument("--deadline-ms", type=int, default=deadline, help=f"{deadline}; a later 200 is no goodput")
    parser.add_argument("--json", type=Path, help="write the results here as well")
    return parser.parse_args()


def _machine(wanted: argparse.Namespace) -> dict[str, Any]:
    packages = (DISTRIBUTION, "onnxruntime", "pillow", "fastapi", "starlette", "uvicorn", "uvloop", "torch")
    return {
        "cpu": machine.cpu_model(),
        "instruction_set": machine.instruction_set(),
        "cores": machine.cores().usable,
        "load_before": os.getloadavg()[0],
        "python": platform.python_version(),
        "versions": {name: version(name) for name in packages},
        "rounds": wanted.rounds,
        "seconds": wanted.seconds,
        "open_seconds": wanted.open_seconds,
        "deadline_ms": wanted.deadline_ms,
    }


if __name__ == "__main__":
    main()
