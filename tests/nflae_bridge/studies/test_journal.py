"""The journal under long runs: what it keeps, what a kill may leave in it, and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from matlab_io.errors import NflaeError
from nflae_bridge.studies.journal import Journal

IDENTITY = {"budget": "quick", "seed": "1"}


def open_ledger(path: Path, **identity: str) -> Journal[int]:
    def parse(content: dict[str, Any]) -> int:
        return int(content["value"])

    return Journal(path, IDENTITY | identity, parse, "start anew")


def write(path: Path, *values: int) -> list[int]:
    """Add values to the journal; those it held before."""
    journal = open_ledger(path)
    held = list(journal.entries)
    for value in values:
        journal.add({"value": value})
    journal.close()
    return held


def test_entries_come_back_in_order_and_more_can_follow(tmp_path: Path) -> None:
    path = tmp_path / "new" / "folder" / "rows.jsonl"
    assert write(path, 5, 3) == []
    assert write(path, 9) == [5, 3]
    assert write(path) == [5, 3, 9]
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert lines == [{"identity": IDENTITY}, {"value": 5}, {"value": 3}, {"value": 9}]
    again = open_ledger(path)
    assert again.count == 3
    again.add({"value": 4})
    assert again.count == 4
    again.close()


def test_a_file_cut_anywhere_keeps_its_whole_lines_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    write(path, 5, 3)
    whole = path.read_bytes()
    for cut in range(len(whole) + 1):
        path.write_bytes(whole[:cut])
        kept = [5, 3][: max(0, whole[:cut].count(b"\n") - 1)]
        assert write(path, 7) == kept
        assert write(path) == [*kept, 7]


@pytest.mark.parametrize(
    "damage", [b"\n", b"{\n", b"7\n", b"[]\n", b"{}\n", b'{"value": null}\n', b'{"value": "x"}\n', b"\xff\xfe\n"]
)
def test_a_damaged_line_is_named_and_left_as_it_is(tmp_path: Path, damage: bytes) -> None:
    path = tmp_path / "rows.jsonl"
    write(path, 5, 3)
    lines = path.read_bytes().splitlines(keepends=True)
    content = b"".join([*lines[:2], damage, lines[2]])
    path.write_bytes(content)
    with pytest.raises(NflaeError, match=r"rows\.jsonl: line 3 is damaged; remove the file"):
        open_ledger(path)
    assert path.read_bytes() == content
    path.write_bytes(damage)
    with pytest.raises(NflaeError, match=r"line 1 is damaged"):
        open_ledger(path)


@pytest.mark.parametrize(
    ("identity", "told"),
    [
        ({"seed": "2"}, "seed is 1 there, 2 here"),
        ({"budget": "full"}, "budget is quick there, full here"),
        ({"backbone": "gpt2"}, "backbone is None there, gpt2 here"),
    ],
)
def test_another_identity_is_refused_with_the_remedy(tmp_path: Path, identity: dict[str, str], told: str) -> None:
    path = tmp_path / "rows.jsonl"
    write(path, 5)
    before = path.read_bytes()
    with pytest.raises(NflaeError, match=f"{told}; name another folder, or start anew"):
        open_ledger(path, **identity)
    assert path.read_bytes() == before


def test_what_the_file_has_more_of_is_another_identity_too(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    open_ledger(path, backbone="gpt2").close()
    with pytest.raises(NflaeError, match="backbone is gpt2 there, None here"):
        open_ledger(path)


def test_a_folder_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "results").write_text("mine")
    with pytest.raises(NflaeError, match="results: is a file; name a folder"):
        open_ledger(tmp_path / "results" / "rows.jsonl")
