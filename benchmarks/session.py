"""One run of the harness: every row once a round, one server under load at a time."""

import argparse
import shutil
import statistics
import sys
from collections import defaultdict
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

from app import machine
from app.artifact import manifest
from app.engines.variants import VARIANTS
from benchmarks import plan
from benchmarks.baselines import ceiling
from benchmarks.baselines.compiled import CannotCompile
from benchmarks.load import closed_loop, multipart
from benchmarks.openloop import CONNECTIONS, open_loop
from benchmarks.plan import SERVICE, SMALL, Closed
from benchmarks.servers import Server


class Key(NamedTuple):
    """What makes a row; `variant` of the service and the ceilings, 0 connections for the latter."""

    image: str
    server: str
    variant: str
    form: str
    connections: int


class Session:
    """What was asked for, the servers, and what has been measured so far; `not_run`: what -> why."""

    def __init__(self, wanted: argparse.Namespace, servers: dict[str, Server], folder: Path) -> None:
        """`wanted`: see __main__; `folder` is for what the generators read and write."""
        self.not_run: dict[str, str] = {}
        self._wanted = wanted
        self._servers = servers
        self._folder = folder
        self._measured: dict[Key, list[dict[str, float]]] = defaultdict(list)

    def measure(self) -> None:
        """One round."""
        for kind in self._wanted.images:
            image = plan.image(kind)
            self._ceilings(kind, image)
            for loop in plan.closed_loops(kind, self._wanted.connections):
                self._closed(kind, image, loop)
            if kind == SMALL and self._wanted.open_seconds:
                self._open(image)

    def rows(self) -> list[dict[str, Any]]:
        """The median of each row's `n` rounds, number by number."""
        return [
            {
                **key._asdict(),
                "n": len(each),
                **{name: statistics.median(one[name] for one in each) for name in each[0]},
            }
            for key, each in self._measured.items()
        ]

    def _add(self, key: Key, measured: dict[str, float]) -> None:
        self._measured[key].append(measured)
        print(".", end="", file=sys.stderr, flush=True)

    def _ceilings(self, kind: str, image: bytes) -> None:
        wanted, cores = self._wanted, machine.cores().usable
        variants = [*manifest.load(wanted.artifact).variants, ceiling.COMPILED]
        # torch's are there to compare the engines, and decoding is the same for all of them
        others = [each for each in variants if each in VARIANTS and VARIANTS[each].library != "torch"]
        for variant in variants if kind == SMALL else others:
            seconds = wanted.seconds / 3  # a plain loop hardly varies
            try:
                measured = ceiling.measure(wanted.artifact, variant, image, wanted.batches, seconds, cores)
            except CannotCompile as error:
                self.not_run[f"ceiling {variant}"] = str(error)
                continue
            for batch, each in measured.items():
                self._add(Key(kind, "ceiling", variant, f"batch {batch}", 0), asdict(each))

    def _closed(self, kind: str, image: bytes, loop: Closed) -> None:
        server = self._servers[loop.server]
        body, content = multipart(image) if loop.form == "multipart" else (image, "image/jpeg")
        if self._wanted.warm_seconds:
            closed_loop(server.url, body, content, loop.connections, self._wanted.warm_seconds, self._folder)
        server.settle()
        before = server.cpu_seconds()
        load = closed_loop(server.url, body, content, loop.connections, self._wanted.seconds, self._folder)
        cpu = server.cpu_seconds() - before
        server.settle()
        requests = max(1, load.requests)
        row = {
            "per_second": load.per_second,
            "p50_ms": load.p50_ms,
            "p95_ms": load.p95_ms,
            "p99_ms": load.p99_ms,
            "errors": load.errors + load.not_2xx,
            "cpu_ms": cpu / requests * 1e3,
            "generator_cpu_ms": load.generator_cpu_s / requests * 1e3,
            "peak_mb": server.peak_bytes() / 1e6,
        }
        self._add(Key(kind, loop.server, plan.variant_of(loop.server), loop.form, loop.connections), row)

    def _open(self, image: bytes) -> None:
        """At shares of what this round's closed loop has just shown to be the capacity."""
        if not shutil.which("h2load"):
            self.not_run["open loop"] = "h2load is not on PATH; Debian has it in nghttp2-client"
            return
        wanted, server, variant = self._wanted, self._servers[SERVICE], plan.variant_of(SERVICE)
        body, content = multipart(image)
        closed = Key(SMALL, SERVICE, variant, "multipart", plan.few_of(wanted.connections)[-1])
        capacity = self._measured[closed][-1]["per_second"]
        for percent in plan.OPEN_PERCENT:
            rate = max(1.0, capacity * percent / 100)
            seen = open_loop(server.url, body, content, rate, wanted.open_seconds, wanted.deadline_ms, self._folder)
            server.settle()
            key = Key(SMALL, SERVICE, variant, f"open {percent}%", CONNECTIONS)
            self._add(key, {"wanted": rate, **asdict(seen)})
