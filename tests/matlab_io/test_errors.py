"""Error messages: one printable line, whatever the names in a file."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from matlab_io import MatFileError, open_channels
from matlab_io.errors import NflaeError, printable


def test_control_characters_and_line_ends_become_escapes_and_letters_of_any_language_stay() -> None:
    assert str(NflaeError("a\nb\x1b[2J\x00 \u2028 \udc80: größe 用户")) == r"a\nb\x1b[2J\x00 \u2028 \udc80: größe 用户"
    assert NflaeError("H", 3).args == ("H", 3)
    assert printable(r"C:\new") == r"C:\new"


def test_names_of_a_damaged_file_are_shown_escaped_and_cut(tmp_path: Path) -> None:
    path = tmp_path / "damaged.mat"
    names = [b"\x1b[2J\n\r", b"\x01" * 255]
    path.write_bytes(
        b"".join(struct.pack("<5i", 0, 1, 1, 0, len(name) + 1) + name + b"\0" + bytes(8) for name in names)
    )
    with pytest.raises(MatFileError) as refusal:
        open_channels(path)
    said = str(refusal.value)
    assert said.isprintable()
    assert said.startswith(f"{path}: ")
    assert r"it holds \x1b[2J\n\r (1 x 1 double), \x01\x01" in said
    assert len(said) < len(str(path)) + 350
