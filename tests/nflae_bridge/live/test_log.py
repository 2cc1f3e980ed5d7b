"""The log of the live programs: one line per event, and the limit on warnings."""

from __future__ import annotations

import logging
import re
import subprocess
import sys
import threading
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


def test_tracebacks_are_limited_and_cut(clock: SimpleNamespace, capsys: pytest.CaptureFixture[str]) -> None:
    log = EventLog()
    for _ in range(25):
        try:
            raise ValueError("x" * 100_000)
        except ValueError:
            log.exception("failed")
    written = lines(capsys)
    assert len(written) == 10
    assert max(map(len, written)) < 20_000


def test_a_log_that_is_not_read_delays_no_one() -> None:
    """The pipe is full after 64 KB; the lines that do not fit are counted once it is read again."""
    code = """
import sys, time
from nflae_bridge.live.log import EventLog
log = EventLog()
began = time.monotonic()
for number in range(20_000):
    log.info("event", number=number, text="x" * 100)
print(time.monotonic() - began, flush=True)
sys.stdin.readline()
log.info("last")
for _ in range(60):
    log.flush()  # waits for a second at most
log.info("end")
"""
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        assert float(process.stdout.readline()) < 30
        read: list[str] = []
        reader = threading.Thread(target=lambda: read.extend(process.stderr))  # type: ignore[arg-type]
        reader.start()
        process.stdin.write("\n")
        process.stdin.flush()
        assert process.wait(60) == 0
        reader.join(60)
    left_out = sum(int(number) for number in re.findall(r"event=log_lines_left_out number=(\d+)", "".join(read)))
    written = sum("event=event" in line for line in read)
    assert left_out > 0
    assert written + left_out + sum("event=last" in line or "event=end" in line for line in read) == 20_002
    assert "event=end" in "".join(read[-2:])


def test_a_program_ends_although_its_log_is_not_read() -> None:
    code = (
        "from nflae_bridge.live.log import EventLog as Log; l = Log(); [l.info('x', t='y' * 100) for _ in range(5000)]"
    )
    with subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE) as process:
        assert process.wait(60) == 0
