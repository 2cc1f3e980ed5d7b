"""What progress says, on a terminal and in a log."""

from __future__ import annotations

import io
import sys

import pytest

from nflae_bridge.cli import terminal


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


def test_a_terminal_sees_pace_and_time_left(clock: list[float], monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    screen = Terminal()
    monkeypatch.setattr(sys, "stderr", screen)
    monkeypatch.setenv("COLUMNS", "150")
    monkeypatch.setenv("TERM", "xterm")
    with terminal.progress("precode", 9000, "drops") as advance:
        clock[0] += 20
        advance(3000, "31.50 bps/Hz")
    shown = screen.getvalue()
    assert "3000/9000" in shown
    assert "150 drops/s, 0:00:40 left" in shown
    assert "31.50 bps/Hz" in shown
