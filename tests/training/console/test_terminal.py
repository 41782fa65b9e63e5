"""Text for a terminal: what steers it is escaped, and columns are as wide as they look."""

import fcntl
import os
import pty
import struct
import termios
from collections import Counter
from pathlib import Path

import pytest
from rich.cells import cell_len

from training.console import terminal


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[2Jred", r"\x1b[2Jred"),
        ("a\nb\rc\td", r"a\nb\rc\td"),
        ("\x7f\x9b31m", r"\x7f\x9b31m"),
        ("abc\u202edef\u2028", r"abc\u202edef\u2028"),
        ("caf\udce9.png", r"caf\udce9.png"),
        ("C:\\new", "C:\\new"),
        (
            "sea lion \u3000é 犬 \u0646\u0627\u0645\u0647\u200c\u0647\u0627 👨\u200d👩\u200d👧",
            "sea lion \u3000é 犬 \u0646\u0627\u0645\u0647\u200c\u0647\u0627 👨\u200d👩\u200d👧",
        ),
        ("L\udcc3\udcb6we", "Löwe"),
        ("caf\udce9 \ud800", r"caf\udce9 \ud800"),
    ],
)
def test_what_steers_a_terminal_is_escaped_and_all_else_stays(text: str, shown: str) -> None:
    assert terminal.escaped(text) == shown
    assert terminal.escaped(shown) == shown, "twice is once"


NAMES = [
    "犬" * 80,
    "cat",
    "e\u0301" * 200,
    "x" * 200,
    "\x1b[31m" * 30,
    "한국어",
    "a犬" * 30 + "z",
    "👨\u200d👩\u200d👧" * 40,
]


@pytest.mark.parametrize("width", [4, 5, 20, 41, 100])
@pytest.mark.parametrize("name", NAMES)
def test_a_name_fits_its_columns_and_keeps_both_ends(name: str, width: int) -> None:
    short = terminal.shortened(name, width)
    assert cell_len(short) <= width
    if cell_len(terminal.escaped(name)) > width:
        assert "..." in short
        if width > 20:
            assert short.startswith(terminal.escaped(name)[:2])
            assert short.endswith(terminal.escaped(name)[-1:])


def test_the_numbers_of_a_table_stand_below_each_other_whatever_the_names() -> None:
    lines = terminal.table([["class", "n", "most often called"], *([name, "1,234", name] for name in NAMES)], "<><")
    assert all(cell_len(line) <= 100 for line in lines)
    assert len({cell_len(line.partition("1,234")[0]) for line in lines[1:]}) == 1
    assert len(lines) == 1 + len(NAMES)


def test_only_names_give_way_and_headers_do_not() -> None:
    rows = [["name", "number"], ["n" * 30, "1" * 60]]
    assert terminal.table(rows, "<>", width=80) == [
        f"{'name':<18}  {'number':>60}",
        f"{'n' * 8}...{'n' * 7}  {'1' * 60}",
    ]
    assert terminal.table(rows, "<>", width=40)[1].startswith("n...  1"), "a number is never cut"


def test_a_sentence_is_broken_between_words_but_never_within_a_command_or_a_quotation() -> None:
    sentence = 'there is "one fine day.jpg", try --out exports/NAME/VERSION or: sightglass train images --out runs/x'
    assert terminal.wrapped("hint: ", sentence, 30) == [
        "hint: there is",
        '      "one fine day.jpg", try',
        "      --out exports/NAME/VERSION",
        "      or:",
        "      sightglass train images --out runs/x",
    ]
    assert terminal.wrapped("hint: ", sentence, 200) == ["hint: " + sentence]
    assert all(cell_len(line) <= 20 for line in terminal.wrapped("", "犬と猫 " * 30, 20))


def test_the_columns_of_a_terminal_count_and_of_a_wide_one_a_hundred() -> None:
    one, other = pty.openpty()
    with os.fdopen(one), os.fdopen(other, "w") as screen:
        found = []
        for columns in (80, 0, 300):
            fcntl.ioctl(screen, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
            found.append(terminal.columns(screen))
    assert found == [80, 100, 100]
    with Path(os.devnull).open() as file:
        assert terminal.columns(file) == 100


def test_one_is_singular() -> None:
    assert [terminal.count(n, "class", "classes") for n in (0, 1, 2000)] == ["0 classes", "1 class", "2,000 classes"]
    assert terminal.count(1, "epoch") == "1 epoch"


CARS = [
    "Chevrolet Silverado 1500 Extended Cab 2012",
    "Chevrolet Silverado 1500 Regular Cab 2012",
    "Chevrolet Silverado 1500 Hybrid Crew Cab 2012",
    "Chevrolet Silverado 2500HD Regular Cab 2012",
]


@pytest.mark.parametrize("width", [8, 12, 16, 19, 24, 32, 40])
@pytest.mark.parametrize(
    "names",
    [
        CARS,
        [f"{'long ' * 20}{number}" for number in range(1200)],
        [f"{number} {'long ' * 20}" for number in range(1200)],
        [f"{'long ' * 20}{number:04}{' long' * 20}" for number in range(300)],
        [f"{'the same ' * 9}{one}{' and more' * 9}{two}{' to the end' * 9}" for one in "abc" for two in "xyz"],
        [f"{'犬と猫' * 20}{number}{'鳥と花' * 20}" for number in range(30)],
        ["a\x1b" + "b" * 50, r"a\x1b" + "b" * 50, "a\x1b", r"a\x1b"],
        ["a" * 60, "a" * 61, "a" * 62, f"{'a' * 8}...{'a' * 8}", "a" * 60 + "~1"],
        ["\u200f" * 40 + "x", "\u200f" * 40 + "y"],
    ],
)
def test_names_that_differ_still_do_when_they_are_cut(names: list[str], width: int) -> None:
    shown = terminal.distinct(names, width)
    assert set(shown) == set(names)
    assert len(set(shown.values())) == len(set(names))
    assert all(cell_len(cut) <= width for cut in shown.values())
    whole = Counter(map(terminal.escaped, names))
    assert all(shown[name] == terminal.escaped(name) for name in names if _fits(name, width, whole))


def _fits(name: str, width: int, whole: Counter[str]) -> bool:
    return cell_len(terminal.escaped(name)) <= width and whole[terminal.escaped(name)] == 1


def test_what_tells_names_apart_is_shown_where_there_is_room() -> None:
    assert list(terminal.distinct(CARS, 19).values()) == [
        "Che...1500 Ex...012",
        "Che...1500 Re...012",
        "Che...1500 Hy...012",
        "Che...2500HD ...012",
    ]
    assert terminal.distinct(["n" * 50, "m" * 50], 11) == {"n" * 50: "nnnn...nnnn", "m" * 50: "mmmm...mmmm"}


def test_the_rows_of_a_table_keep_different_names() -> None:
    lines = terminal.table([["block", "n"], *([name, "1"] for name in CARS)], "<>", width=24)
    assert len(set(lines)) == 5
    assert all(cell_len(line) <= 24 for line in lines)
