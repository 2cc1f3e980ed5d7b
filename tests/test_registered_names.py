"""Lists of schemes and sources in documentation, MATLAB help and commands: complete, as the registries have them."""

from __future__ import annotations

import re
from pathlib import Path

from simulator.channels.sources import source_names
from simulator.schemes import scheme_names

ROOT = Path(__file__).parents[1]
TEXTS = [*ROOT.glob("docs/**/*.md"), *ROOT.glob("matlab_io/matlab/**/*.m"), *ROOT.glob("nflae_bridge/**/*.py")]


def lists_of_schemes(text: str) -> list[set[str]]:
    """Return the lists of at least six schemes in a text, whatever quotes and separates them."""
    name = rf"(?:{'|'.join(['nflae', *scheme_names()])})"
    runs = re.finditer(rf"(?:\b{name}\b[`'\"]*(?: \([^)]*\))?[\s,`'\"%|]*(?:and |or )?[`'\"]*){{6,}}", text)
    return [set(re.findall(rf"\b{name}\b", run.group())) for run in runs]


def test_lists_of_schemes_in_documentation_and_help_are_complete() -> None:
    found = {path.name: lists_of_schemes(path.read_text()) for path in TEXTS}
    incomplete = {name: lists for name, lists in found.items() if any(set(scheme_names()) - each for each in lists)}
    assert not incomplete
    assert {"protocol.md", "command_line.md", "network.md", "matlab_live.md", "Client.m"} <= {*filter(found.get, found)}


def test_help_and_page_of_sources_describe_every_source() -> None:
    described = re.findall(
        r"^      ([\w, :.]+?)  ", (ROOT / "nflae_bridge/cli/commands/channels/simulate.py").read_text(), re.MULTILINE
    )
    names = {name.split(":")[0] for line in described for name in line.split(", ")}
    assert set(source_names()) <= names
    page = (ROOT / "docs/how_to/sources.md").read_text()
    assert not [name for name in source_names() if f"`{name}" not in page]
