"""Print tables and facts on stdout, notes and progress on stderr; in plain text where rich is not installed."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from importlib.util import find_spec
from typing import TYPE_CHECKING, Protocol

import click

if TYPE_CHECKING:
    from matlab_io import ChannelFile
    from nflae_bridge.files.budget.choice import BudgetChoice
    from nflae_bridge.studies.reproduction.work_plan import WorkLeft

_LOG_EVERY_SECONDS, _LOG_AT_MOST_EVERY, _LOG_SHARE = 10.0, 60.0, 0.1


class Advance(Protocol):
    """Show the units done so far, a few words, and the work left where units differ."""

    def __call__(self, done: int, note: str, left: WorkLeft | None = None, /) -> None:
        """Show them."""


def fact(label: str, text: str) -> None:
    """Print one line of a report on stdout.

    Parameters
    ----------
    label : str
        Subject of the line, set in a column of 18 characters.
    text : str
        Content of the line.
    """
    click.echo(f"{label:<18} {text}")


def announce(file: ChannelFile, choice: BudgetChoice, yes: bool) -> None:
    """Print the reading of the channels, the link budget and the SNR, before the work starts.

    Parameters
    ----------
    file : ChannelFile
        Channel file, open; its notes state the variable, the layout and the convention.
    choice : BudgetChoice
        Link budget with the origin of each quantity.
    yes : bool
        Go on with a default noise power at an implausible SNR.

    Raises
    ------
    NflaeError
        If the noise power is the default and the SNR of the median user is implausible, unless `yes`.
    """
    for note in file.notes:
        fact("channels", note)
    for line in choice.lines():
        fact("link budget", line)
    fact("SNR", choice.snr_line(file.drops))
    if not yes:
        choice.check_snr(f"{file.path}: {file.variable}")


def warn(text: str) -> None:
    """Print one line on stderr about an event that did not stop the work.

    Parameters
    ----------
    text : str
        Content of the line.
    """
    click.echo(f"nflae: note: {text}", err=True)


def duration(seconds: float) -> str:
    """Format a duration below a second with its unit.

    Parameters
    ----------
    seconds : float
        Duration, s.

    Returns
    -------
    str
        Milliseconds from 1 ms on, else microseconds.
    """
    return f"{1e3 * seconds:.3f} ms" if seconds >= 1e-3 else f"{1e6 * seconds:.1f} us"


@dataclass
class Table:
    """A table of text: the first columns left-aligned, the others right-aligned.

    Attributes
    ----------
    columns : tuple of str
        Headings; a line break starts a second line.
    title : str, optional
        Line above the table.
    left : int
        Number of left-aligned columns.
    sections : list of list of tuple of str
        Rows, in groups with a rule between them.
    """

    columns: tuple[str, ...]
    title: str | None = None
    left: int = 1
    sections: list[list[tuple[str, ...]]] = field(default_factory=lambda: [[]])

    def add_row(self, *cells: str) -> None:
        """Append a row to the last section.

        Parameters
        ----------
        *cells : str
            One cell per column.
        """
        self.sections[-1].append(cells)

    def add_section(self) -> None:
        """Start a new section."""
        self.sections.append([])

    def show(self) -> None:
        """Print the table on stdout: fitted to a terminal's width, at most 120 characters wide in a file."""
        if find_spec("rich") is None:
            click.echo("\n".join(self._plain_lines()))
            return
        from rich import box
        from rich.console import Console
        from rich.table import Table as RichTable
        from rich.text import Text

        title = None if self.title is None else Text(self.title)
        table = RichTable(box=box.SIMPLE_HEAD, title=title, title_justify="left", title_style="bold", pad_edge=False)
        for index, column in enumerate(self.columns):
            table.add_column(Text(column), justify="left" if index < self.left else "right", overflow="fold")
        for section in self.sections:
            for cells in section:
                table.add_row(*map(Text, cells))
            table.add_section()
        Console(width=None if sys.stdout.isatty() else 120, highlight=False).print(table)

    def _plain_lines(self) -> list[str]:
        headings = [column.split("\n") for column in self.columns]
        height = max(map(len, headings))
        padded = [[""] * (height - len(heading)) + heading for heading in headings]
        head = [tuple(heading[line] for heading in padded) for line in range(height)]
        rows = [*head, *(cells for section in self.sections for cells in section)]
        widths = [max(len(row[column]) for row in rows) for column in range(len(self.columns))]

        def aligned(cells: tuple[str, ...]) -> str:
            pairs = enumerate(zip(cells, widths, strict=True))
            return "  ".join(
                cell.ljust(width) if at < self.left else cell.rjust(width) for at, (cell, width) in pairs
            ).rstrip()

        rule = "-" * (sum(widths) + 2 * (len(widths) - 1))
        lines = [self.title] if self.title else []
        lines += map(aligned, head)
        for section in filter(None, self.sections):
            lines += [rule, *map(aligned, section)]
        return lines


@contextmanager
def progress(what: str, total: int, unit: str, already: int = 0) -> Iterator[Advance]:
    """Show the progress on stderr with the pace and the time left.

    A terminal gets a bar; a log file, and any stderr where rich is not installed, gets one line every ten seconds, of a
    long run every minute.

    Parameters
    ----------
    what : str
        Name of the work.
    total : int
        Number of units of the whole work.
    unit : str
        Name of the units, in the plural.
    already : int
        Units of ``total`` done by an earlier run.

    Yields
    ------
    Advance
        ``advance(done, note, left)``: the units done so far, a few words beside the bar, and, where units differ in
        their work, the work left in place of the pace.
    """
    pace = _Pace(total, unit, already, time.monotonic())
    if not sys.stderr.isatty() or find_spec("rich") is None:
        yield _progress_lines(what, pace)
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn
    from rich.table import Column
    from rich.text import Text

    class Note(ProgressColumn):  # the column may narrow before those of count and pace, and its line does not wrap
        def render(self, task: Task) -> Text:
            return Text(task.fields["note"], overflow="ellipsis", no_wrap=True)

    texts = [TextColumn(f"{{task.fields[{name}]}}") for name in ("count", "pace")]
    columns = (TextColumn("{task.description}"), BarColumn(), *texts, Note(Column()))
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        count = f"{already}/{total} {unit}"
        task = bar.add_task(what, total=total, completed=already, count=count, pace="", note="")

        def advance(done: int, note: str, left: WorkLeft | None = None, /) -> None:
            part, count = done if left is None else left.fraction * total, f"{done}/{total} {unit}"
            bar.update(task, completed=part, count=count, pace=pace.describe(done, left), note=note)

        yield advance


@dataclass
class _Pace:
    """Mean pace of a run and the time left; ``already`` units were done at ``began`` (s, `time.monotonic`)."""

    total: int
    unit: str
    already: int
    began: float

    def describe(self, done: int, left: WorkLeft | None = None) -> str:
        """Format the mean pace so far, e.g. ``5733 drops/s, 0:00:12 left``; empty before the first unit.

        Where the work left is given, only its times.
        """
        if left is not None:
            times = [(left.seconds, "left"), (left.all_seconds, "for all")]
            return ", ".join(f"{timedelta(seconds=round(each))} {of}" for each, of in times if each is not None)
        seconds = time.monotonic() - self.began
        if done <= self.already or seconds <= 0:
            return ""
        rate = (done - self.already) / seconds
        figure = f"{rate:.0f}" if rate >= 100 else f"{rate:.3g}"
        return f"{figure} {self.unit}/s, {timedelta(seconds=round((self.total - done) / rate))} left"


def _progress_lines(what: str, pace: _Pace) -> Advance:
    last = pace.began

    def advance(done: int, note: str, left: WorkLeft | None = None, /) -> None:
        nonlocal last
        now, times = time.monotonic(), pace.describe(done, left)
        if now - last >= max(_LOG_EVERY_SECONDS, min(_LOG_AT_MOST_EVERY, _LOG_SHARE * (now - pace.began))):
            last = now
            parts = (f"{done} of {pace.total} {pace.unit}", times, note)
            click.echo(f"{what}: {', '.join(part for part in parts if part)}", err=True)

    return advance
