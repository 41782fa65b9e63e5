"""What a command says while it works."""

import pytest

from training.progress import Talk


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
    monkeypatch.setattr("training.progress.time.monotonic", lambda: seconds)
    with Talk().step("reading train", 6000) as progress:
        for done in range(500, 6500, 500):
            seconds += 20
            progress(done)
    said = [f"reading train: {count} of 6,000" for count in ("1,500", "3,000", "4,500", "6,000")]
    assert capsys.readouterr().err.splitlines() == said


def test_without_a_terminal_there_is_no_bar() -> None:
    assert not Talk().bars
