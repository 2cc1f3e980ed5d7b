"""What goes to the terminal: tables and facts on stdout, progress on stderr."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from matlab_io import ChannelFile
    from nflae_bridge.files.budget import BudgetChoice

Advance = Callable[[int, str], None]

_LOG_EVERY_SECONDS = 10.0


def fact(label: str, text: str) -> None:
    """One line of a report: a label, then what there is to say."""
    click.echo(f"{label:<18} {text}")


def announce(file: ChannelFile, choice: BudgetChoice) -> None:
    """How the channels are read and what may be spent on them, before the work starts."""
    for note in file.notes:
        fact("channels", note)
    for line in choice.lines():
        fact("link budget", line)


def warn(text: str) -> None:
    """One line on stderr about something that did not stop the work."""
    click.echo(f"nflae: note: {text}", err=True)


def table(*columns: str, title: str | None = None) -> Table:
    """An empty table; the first column is text, the others are numbers."""
    from rich import box
    from rich.table import Table

    made = Table(box=box.SIMPLE_HEAD, title=title, title_justify="left", title_style="bold", pad_edge=False)
    for index, column in enumerate(columns):
        made.add_column(column, justify="left" if index == 0 else "right", overflow="fold")
    return made


def show(content: Table) -> None:
    """Print a table on stdout; as wide as it needs to be where stdout is a file."""
    _console(sys.stdout.isatty()).print(content)


def _console(is_terminal: bool) -> Console:
    from rich.console import Console

    return Console(width=None if is_terminal else 120, highlight=False)


@contextmanager
def progress(what: str, total: int, unit: str, already: int = 0) -> Iterator[Advance]:
    """A progress bar on stderr with the pace and the time left; where that is no terminal, a line every ten seconds.

    already: how many of ``total`` were done before, by an earlier run.
    Yields ``advance(done, note)``: how many are done by now, and a few words beside the bar.
    """
    pace = _Pace(total, unit, already, time.monotonic())
    if not sys.stderr.isatty():
        yield _progress_lines(what, pace)
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    texts = [TextColumn(f"{{task.fields[{name}]}}") for name in ("pace", "note")]
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn(unit), *texts)
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(what, total=total, completed=already, pace="", note="")
        yield lambda done, note: bar.update(task, completed=done, pace=pace.describe(done), note=note)


@dataclass(frozen=True)
class _Pace:
    """How quickly it goes, and how long it will take. already: done at ``began``, s, `time.monotonic`."""

    total: int
    unit: str
    already: int
    began: float

    def describe(self, done: int) -> str:
        """``5733 drops/s, 0:00:12 left``, at the mean pace so far; nothing while there is none."""
        seconds = time.monotonic() - self.began
        if done <= self.already or seconds <= 0:
            return ""
        rate = (done - self.already) / seconds
        figure = f"{rate:.0f}" if rate >= 100 else f"{rate:.3g}"
        left = timedelta(seconds=round((self.total - done) / rate))
        return f"{figure} {self.unit}/s, {left} left"


def _progress_lines(what: str, pace: _Pace) -> Advance:
    last = pace.began

    def advance(done: int, note: str) -> None:
        nonlocal last
        if time.monotonic() - last >= _LOG_EVERY_SECONDS:
            last = time.monotonic()
            parts = (f"{done} of {pace.total} {pace.unit}", pace.describe(done), note)
            click.echo(f"{what}: {', '.join(part for part in parts if part)}", err=True)

    return advance
