"""What progress says, on a terminal and in a log."""

from __future__ import annotations

import io
import itertools
import re
import sys

import pytest

from nflae_bridge.cli import terminal
from nflae_bridge.studies.reproduction.work_plan import WorkLeft


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time in its one element, s."""
    now = [1000.0]
    monkeypatch.setattr("nflae_bridge.cli.terminal.time.monotonic", lambda: now[0])
    return now


def test_a_log_gets_a_line_every_ten_seconds(clock: list[float], capsys: pytest.CaptureFixture[str]) -> None:
    with terminal.progress("precode", 9000, "drops") as advance:
        for second in range(26):
            clock[0] = 1000.0 + second
            advance(200 * second, "31.50 bps/Hz")
    assert capsys.readouterr().err.splitlines() == [
        "precode: 2000 of 9000 drops, 200 drops/s, 0:00:35 left, 31.50 bps/Hz",
        "precode: 4000 of 9000 drops, 200 drops/s, 0:00:25 left, 31.50 bps/Hz",
    ]


def test_what_an_earlier_run_did_does_not_count_as_pace(clock: list[float], capsys: pytest.CaptureFixture[str]) -> None:
    with terminal.progress("train", 8000, "steps", already=4000) as advance:
        clock[0] += 10
        advance(4000, "")
        clock[0] += 40
        advance(4125, "")
    assert capsys.readouterr().err.splitlines() == [
        "train: 4000 of 8000 steps",
        "train: 4125 of 8000 steps, 2.5 steps/s, 0:25:50 left",
    ]


def test_units_of_different_work_show_the_time_left_by_the_work(
    clock: list[float], capsys: pytest.CaptureFixture[str]
) -> None:
    with terminal.progress("robust", 8, "units") as advance:
        for at, left in ((10, WorkLeft(0.26)), (40, WorkLeft(0.35, 260.0)), (100, WorkLeft(0.75, 50.2, 3720.0))):
            clock[0] = 1000.0 + at
            advance(2, "0 dB: WMMSE", left)
    assert capsys.readouterr().err.splitlines() == [
        "robust: 2 of 8 units, 0 dB: WMMSE",
        "robust: 2 of 8 units, 0:04:20 left, 0 dB: WMMSE",
        "robust: 2 of 8 units, 0:00:50 left, 1:02:00 for all, 0 dB: WMMSE",
    ]


def test_a_long_run_gets_a_line_every_minute(clock: list[float], capsys: pytest.CaptureFixture[str]) -> None:
    with terminal.progress("train", 7200, "steps") as advance:
        for second in range(0, 7200, 5):
            clock[0] = 1000.0 + second
            advance(second, "")
    times = [int(line.split()[1]) for line in capsys.readouterr().err.splitlines()]
    gaps = [after - before for before, after in itertools.pairwise(times)]
    assert gaps[:5] == [10] * 5
    assert set(gaps[-60:]) == {60}


def test_a_terminal_without_rich_gets_lines(
    clock: list[float], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "rich", None)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    with terminal.progress("precode", 9000, "drops") as advance:
        clock[0] += 20
        advance(3000, "")
    assert capsys.readouterr().err == "precode: 3000 of 9000 drops, 150 drops/s, 0:00:40 left\n"


def test_a_table_shows_text_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    table = terminal.Table(("scheme", "sum rate"), title="[bold].mat")
    table.add_row("[rzf]", "30.1")
    table.show()
    shown = capsys.readouterr().out
    assert "[bold].mat" in shown
    assert "[rzf]" in shown


def test_a_table_in_plain_text(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setitem(sys.modules, "rich", None)
    table = terminal.Table(("scheme", "sum rate\nbps/Hz"))
    table.add_row("rzf", "30.1")
    table.add_section()
    table.add_row("capacity", "32.25")
    table.show()
    assert capsys.readouterr().out.splitlines() == [
        "          sum rate",
        "scheme      bps/Hz",
        "------------------",
        "rzf           30.1",
        "------------------",
        "capacity     32.25",
    ]


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def put_in_place_of_stderr(monkeypatch: pytest.MonkeyPatch, columns: int) -> Terminal:
    """Return the terminal that then gets what is written on stderr."""
    screen = Terminal()
    monkeypatch.setattr(sys, "stderr", screen)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", str(columns))
    return screen


def test_a_terminal_sees_pace_and_time_left(clock: list[float], monkeypatch: pytest.MonkeyPatch) -> None:
    screen = put_in_place_of_stderr(monkeypatch, 150)
    with terminal.progress("precode", 9000, "drops") as advance:
        clock[0] += 20
        advance(3000, "31.50 bps/Hz")
    shown = screen.getvalue()
    assert "3000/9000" in shown
    assert "150 drops/s, 0:00:40 left" in shown
    assert "31.50 bps/Hz" in shown


def test_a_narrow_terminal_shortens_the_note_and_keeps_the_time_left(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = put_in_place_of_stderr(monkeypatch, 80)
    with terminal.progress("csi-feedback (1 of 2)", 1, "units") as advance:
        advance(0, "feedback: [learned] at step 301 of 600, loss -3.21", WorkLeft(0.5, 27.0, 30.0))
    lines = [
        line
        for line in re.split(r"[\r\n]+", re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", screen.getvalue()))
        if "left" in line
    ]
    assert lines
    assert all(line.startswith("csi-feedback (1 of 2) ") for line in lines)
    assert all("0/1 units 0:00:27 left, 0:00:30 for all feedback" in line for line in lines)
    assert "step 301" not in screen.getvalue()
