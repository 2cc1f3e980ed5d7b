"""The log of the live programs: one line per event, and the limit on warnings."""

from __future__ import annotations

import logging
import re
from types import SimpleNamespace

import pytest

from nflae_bridge.live import log as module
from nflae_bridge.live.log import EventLog


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """A clock that stands until the test moves it."""
    now = SimpleNamespace(seconds=1000.0)
    monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: now.seconds))
    return now


def lines(capsys: pytest.CaptureFixture[str]) -> list[str]:
    for handler in logging.getLogger("nflae.live").handlers:
        handler.flush()  # a thread writes
    return capsys.readouterr().err.splitlines()


def test_a_flood_of_warnings_is_limited_to_ten_lines_of_a_kind(
    clock: SimpleNamespace, capsys: pytest.CaptureFixture[str]
) -> None:
    log = EventLog()
    for number in range(25):
        log.warning("refused", number=number)
    log.warning("undelivered")
    log.info("listening")
    written = lines(capsys)
    assert [line.split("event=")[1] for line in written] == [
        *(f"refused number={number}" for number in range(10)),
        "undelivered",
        "listening",
    ]

    clock.seconds += 9.99
    log.warning("refused")
    assert not lines(capsys)

    clock.seconds += 0.01
    for number in range(11):
        log.warning("refused", number=number)
    written = lines(capsys)
    assert len(written) == 10
    assert written[0].endswith("event=refused number=0 not_logged_before=16")
    assert not any("not_logged_before" in line for line in written[1:])


def test_nothing_is_said_to_be_left_out_where_nothing_was(
    clock: SimpleNamespace, capsys: pytest.CaptureFixture[str]
) -> None:
    log = EventLog()
    for _ in range(3):
        for _ in range(10):
            log.warning("refused")
        clock.seconds += 10
    written = lines(capsys)
    assert len(written) == 30
    assert not any("not_logged_before" in line for line in written)


def test_information_is_never_limited(capsys: pytest.CaptureFixture[str]) -> None:
    log = EventLog()
    for _ in range(30):
        log.info("status")
    assert len(lines(capsys)) == 30


@pytest.mark.parametrize(("level", "events"), [("debug", 3), ("info", 2), ("warning", 1), ("error", 0)])
def test_lines_below_the_level_are_left_out(level: str, events: int, capsys: pytest.CaptureFixture[str]) -> None:
    log = EventLog(level)
    log.debug("answered")
    log.info("listening")
    log.warning("refused")
    assert len(lines(capsys)) == events


def test_values_are_quoted_where_they_need_it(capsys: pytest.CaptureFixture[str]) -> None:
    log = EventLog()
    log.info("event", plain="tcp://127.0.0.1:5555", text='two words, "quoted"\nand a line', empty="", number=0.1234567)
    try:
        raise ValueError("a fault")
    except ValueError:
        log.exception("failed", jobs=2)
    first, second = lines(capsys)
    assert first.endswith(
        r'event=event plain=tcp://127.0.0.1:5555 text="two words, \"quoted\"\nand a line" empty="" number=0.123457'
    )
    assert re.match(r"time=\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z level=info ", first)
    assert " level=error event=failed jobs=2 traceback=" in second
    assert "ValueError: a fault" in second
