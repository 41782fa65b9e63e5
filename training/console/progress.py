"""What a command says while it works: on stderr, a bar only where someone watches a terminal."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from training.console.terminal import columns, escaped, wrapped

Report = Callable[[int], None]
"""Told how much of a long step is done."""


class Talk:
    """`quiet` says nothing; without `bars` (or a terminal) a long step says one line a minute."""

    def __init__(self, quiet: bool = False, bars: bool = True) -> None:
        self.quiet = quiet
        self.console = Console(stderr=True, highlight=False, soft_wrap=True, emoji=False)
        # not the console's own guess: FORCE_COLOR would draw bars into a log, and a dumb terminal cannot redraw a line
        self.watched = sys.stderr.isatty() and not self.console.is_dumb_terminal
        self.bars = bars and not quiet and self.watched

    def line(self, text: str) -> None:
        """One line of talk."""
        if not self.quiet:
            self.console.print(escaped(text), markup=False)
            sys.stderr.flush()

    def fact(self, name: str, text: str) -> None:
        """A named line, e.g. `data     photos: 3,670 images`; on a terminal a long one has several, indented."""
        named = f"{name:<9}"
        for line in wrapped(named, text, columns(sys.stderr)) if self.watched else [named + text]:
            self.line(line)

    def command(self, name: str, text: str) -> None:
        """A named line to paste from, never broken."""
        self.line(f"{name:<9}{text}")

    @contextmanager
    def step(self, what: str, total: int) -> Iterator[Report]:
        """Report how far a long step is: call the yielded function with the count done so far."""
        if self.bars:
            columns = (
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TimeRemainingColumn(),
            )
            with Progress(*columns, console=self.console, transient=True) as bar:
                task = bar.add_task(what, total=total)
                yield lambda done: bar.update(task, completed=done)
            return
        said = time.monotonic()

        def once_a_minute(done: int) -> None:
            nonlocal said
            if time.monotonic() - said >= 60:
                said = time.monotonic()
                self.line(f"{what}: {done:,} of {total:,}")

        yield once_a_minute
