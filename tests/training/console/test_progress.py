"""What a command says while it works."""

import fcntl
import os
import pty
import struct
import termios
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from training.console.progress import Talk


def test_talk_goes_to_stderr_and_never_to_stdout(capsys: pytest.CaptureFixture[str]) -> None:
    Talk().fact("data", "photos: 3,670 images")
    said = capsys.readouterr()
    assert (said.out, said.err) == ("", "data     photos: 3,670 images\n")


def test_quiet_says_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    talk = Talk(quiet=True)
    talk.line("anything")
    with talk.step("reading", 2) as progress:
        progress(2)
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("text", ["[bold]a[/bold] [x/y]", "photos:dog:cat", "/very/long" * 40])
def test_a_line_is_said_as_it_is(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    Talk().line(text)
    assert capsys.readouterr().err == text + "\n"


def test_without_a_terminal_a_long_step_says_one_line_a_minute(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    seconds = 0.0
    monkeypatch.setattr("training.console.progress.time.monotonic", lambda: seconds)
    with Talk().step("reading train", 6000) as progress:
        for done in range(500, 6500, 500):
            seconds += 20
            progress(done)
    said = [f"reading train: {count} of 6,000" for count in ("1,500", "3,000", "4,500", "6,000")]
    assert capsys.readouterr().err.splitlines() == said


def test_without_a_terminal_there_is_no_bar() -> None:
    assert not Talk().bars


@contextmanager
def terminal() -> Iterator[Callable[[], str]]:
    """stderr is a terminal of 60 columns; answers what it got. In the test itself: pytest sets stderr before it."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 60, 0, 0))
    os.set_blocking(ours, False)
    with (
        os.fdopen(ours, "rb", buffering=0) as read,
        os.fdopen(theirs, "w", buffering=1) as stream,
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.setattr("sys.stderr", stream)
        yield lambda: b"".join(iter(lambda: read.read(10_000), None)).decode().replace("\r\n", "\n")


def test_on_a_terminal_a_long_fact_has_lines_and_a_command_is_whole() -> None:
    with terminal() as got:
        talk = Talk()
        talk.fact("data", "photos: 3,670 images, 5 classes -> train 2,936 / val 367 / test 367")
        talk.command("next", "sightglass export " + "very/" * 20)
        said = got()
    assert said.splitlines() == [
        "data     photos: 3,670 images, 5 classes -> train 2,936 /",
        "         val 367 / test 367",
        "next     sightglass export " + "very/" * 20,
    ]


@pytest.mark.parametrize(
    ("variables", "bars", "colours"),
    [({}, True, True), ({"NO_COLOR": "1"}, True, False), ({"TERM": "dumb"}, False, False)],
)
def test_a_terminal_gets_bars_in_colour_unless_it_does_not_want_them(
    variables: dict[str, str], bars: bool, colours: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in ({"TERM": "xterm"} | variables).items():
        monkeypatch.setenv(name, value)
    with terminal() as got:
        talk = Talk()
        with talk.step("reading train", 10) as progress:
            progress(5)
        talk.line("done")
        said = got()
        assert not Talk(bars=False).bars
    assert said.endswith("done\n")
    assert ("reading train" in said, "\x1b[9" in said or "\x1b[3" in said) == (bars, colours)


def test_forced_colours_draw_no_bars_into_a_log(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert not Talk().bars
